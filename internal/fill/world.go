package fill

import (
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
)

const (
	// Repository is that of all tags. No service that is measured watches it: it
	// would find that the remote has none of them.
	Repository = "fleet"
	// Pool is that of the runs that have not ended, so that no worker takes them up.
	Pool = "elsewhere"
	// Gate is the one that has written a report of some deploys.
	Gate = "checkov"

	seed         = 20240229
	leastEntries = 8    // for each run
	openRuns     = 400  // of the last runs, that have not ended
	historyYears = 2    // that the rows tell of
	refusedEvery = 12   // a tag that deploys comes with one that is refused
	farYears     = 20   // until what is in force ends
	people       = 150  // who push tags, approve and log in
	commits      = 4000 // of the repository
)

// Targets lists every target there is: the first are the busiest.
func Targets() []release.Target {
	var out []release.Target
	for _, team := range teams() {
		for _, env := range []string{"dev", "staging", "prod"} {
			for _, scope := range []string{release.Global, "us-east-1", "eu-central-1", "ap-southeast-1"} {
				out = append(out, release.Target{Env: env, Scope: scope, Team: team})
			}
		}
	}
	return out
}

func teams() []string {
	return []string{"research", "risk", "payments", "ledger", "search", "checkout", "identity", "mobile", "web", "data-lake", "streaming", "billing",
		"catalog", "pricing", "fraud", "support", "logistics", "maps", "messaging", "media", "ml-platform", "network", "observability", "storage", "partners"}
}

// cell is a target and how far it has come.
type cell struct {
	release.Target
	account  string
	deploys  int
	tag      string // deployed last
	version  string
	commit   string
	release  int64
	deployed int64 // run; 0 for none
	last     int64 // run that may have changed it
	held     bool  // by a run that has not ended
}

// world makes rows in the order in which they would have come.
type world struct {
	size    Size
	random  *rand.Rand
	began   time.Time
	now     time.Time
	step    time.Duration // from one run to the next
	cells   []*cell
	commits []string
	log     log
	runs    int
	tags    int64 // releases
}

func newWorld(size Size, now time.Time) *world {
	w := &world{size: size, random: rand.New(rand.NewPCG(seed, uint64(size.Runs))), now: now.UTC().Truncate(time.Millisecond)}
	w.began = w.now.AddDate(-historyYears, 0, 0)
	w.step = w.now.Add(-time.Hour).Sub(w.began) / time.Duration(size.Runs)
	for i, t := range Targets() {
		w.cells = append(w.cells, &cell{Target: t, account: fmt.Sprintf("%012d", 100000000000+i/4)})
	}
	for i := range commits {
		w.commits = append(w.commits, digest("commit", i))
	}
	return w
}

// digest is a name of 40 digits, as git gives them.
func digest(kind string, n int) string {
	sum := sha1.Sum(fmt.Appendf(nil, "%s %d", kind, n))
	return hex.EncodeToString(sum[:])
}

// one in n times it is true.
func (w *world) oneIn(n int) bool { return w.random.IntN(n) == 0 }

func (w *world) person() string {
	return fmt.Sprintf("person-%03d@example.org", w.random.IntN(w.random.IntN(people)+1)) // some do more than others
}

// pick gives a target: the first are the busiest, and none is idle.
func (w *world) pick() *cell {
	n := len(w.cells)
	return w.cells[min(w.random.IntN(n), w.random.IntN(n))]
}

// next makes the next batch of runs, or nil after the last.
func (w *world) next() (*batch, error) {
	if w.runs == w.size.Runs {
		return nil, nil
	}
	b := &batch{}
	for len := min(batchRuns, w.size.Runs-w.runs); len > 0; len-- {
		if err := w.addRun(b); err != nil {
			return nil, err
		}
	}
	b.runs = w.runs
	return b, nil
}

// addRun makes one run with all that belongs to it, and as many entries of the
// audit log as there are to be by then.
func (w *world) addRun(b *batch) error {
	w.runs++
	r := w.newRun()
	if r.kind == release.Deploy {
		w.addTag(b, r)
		if w.tags%refusedEvery == 0 {
			if err := w.addRefused(b, r); err != nil {
				return err
			}
		}
	}
	w.settle(r)
	r.insert(b)
	if r.kind != release.Drift && w.oneIn(2) || w.oneIn(20) {
		r.insertDetails(b, w)
	}
	for _, e := range r.entries(w) {
		if err := w.log.append(b, e); err != nil {
			return err
		}
	}
	for due := int64(w.size.Entries) * int64(w.runs) / int64(w.size.Runs); w.log.size < due; {
		if err := w.log.append(b, w.aside(r)); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) addTag(b *batch, r *run) {
	w.tags++
	r.release = w.tags
	w.insertTag(b, w.tags, r, "admitted", "")
}

// addRefused makes a tag that does not deploy.
func (w *world) addRefused(b *batch, r *run) error {
	w.tags++
	refused := *r
	refused.version = fmt.Sprintf("0.%d", w.tags)
	refused.tag = r.cell.String() + "/" + refused.version
	reason := fmt.Sprintf("version %s is older than %s, which is deployed: push a newer one, or roll back with waymark rollback", refused.version, r.version)
	w.insertTag(b, w.tags, &refused, "refused", reason)
	return w.log.append(b, audit.Entry{At: r.created, Actor: "waymark", Action: "tag.refused", Repository: Repository, Target: r.cell.String(), Tag: refused.tag,
		ObjectID: r.object, Commit: r.commit, Reason: reason, Details: map[string]any{"decision": "refused", "tagger": r.by}})
}

func (w *world) insertTag(b *batch, id int64, r *run, decision, reason string) {
	b.add("releases", "id, repository, tag, env, scope, team, version, object_id, commit_id, tagger, tagged_at, message, signature, seen_at, decision, reason, signer, signer_key, signer_kind, author, committer",
		id, Repository, r.tag, r.cell.Env, r.cell.Scope, r.cell.Team, r.version, r.object, r.commit, r.by, millis(r.created), "Release "+r.version+"\n\nAs agreed in the review.", "",
		millis(r.created), decision, reason, "", "", "", r.by, r.by)
	b.add("tag_refs", "repository, name, pinned_id, seen_id", Repository, r.tag, r.object, r.object)
}

// aside is an entry that is about something else than the run's steps.
func (w *world) aside(r *run) audit.Entry {
	e := audit.Entry{At: r.ended, Actor: w.person()}
	about := func(action, reason string, details map[string]any) audit.Entry {
		e = r.about(e)
		e.Action, e.Reason, e.Details = action, reason, details
		return e
	}
	switch n := w.random.IntN(100); {
	case n < 45:
		e.Action, e.Details = "session.started", map[string]any{"by": "oidc", "issuer": "https://login.example.org", "groups": []string{"engineers", r.cell.Team}, "from": "192.0.2.17"}
	case n < 65:
		e.Actor = "waymark"
		return about("run.waiting", "waits for a window of environment "+r.cell.Env, map[string]any{"until": r.ended.Add(time.Hour).Format(time.RFC3339), "for": "window weekdays"})
	case n < 80:
		e.Actor = "waymark"
		return about("run.handed_back", "its worker stopped before the apply; nothing was changed", map[string]any{"worker": worker(w.runs), "attempt": 1, "epoch": 2})
	case n < 90:
		e.Actor = "waymark"
		return about("run.taken_over", "the instance that had it in hand has stopped or shows no sign of life",
			map[string]any{"from": worker(w.runs), "worker": worker(w.runs + 1), "epoch": 3, "applying": false})
	case n < 96:
		return about("run.evidence", "", map[string]any{"runner": "gone", "lock": map[string]any{"held": false}})
	case n < 97:
		e.Action, e.Target, e.Reason, e.Details = "freeze.set", r.cell.Env, "release week", map[string]any{"freeze": "7", "until": r.ended.Add(24 * time.Hour).Format(time.RFC3339)}
	case n < 98:
		e.Action, e.Target, e.Reason, e.Details = "freeze.lifted", r.cell.Env, "it is over", map[string]any{"freeze": "7", "until": r.ended.Add(24 * time.Hour).Format(time.RFC3339)}
	case n < 99:
		e.Action, e.Details = "token.created", map[string]any{"token": w.runs, "name": "pipeline", "actor": e.Actor, "grants": []any{map[string]any{"role": "operator"}}}
	default:
		e.Action, e.Target, e.Details = "state.unlocked", r.cell.String(), map[string]any{"id": digest("lock", w.runs), "who": "waymark@worker", "force": true}
	}
	return e
}

func worker(n int) string { return fmt.Sprintf("worker-%d-0123456789abcdef", n%6) }

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// text is a value as the store keeps it.
func text(v any) string {
	out, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encoding %T: %v", v, err)) // values of ours always encode
	}
	return string(out)
}
