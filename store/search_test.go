package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// fitsFilter is what a search means, without an index.
func fitsFilter(f store.EntryFilter, e audit.Entry) bool {
	action := f.Action == "" || e.Action == f.Action
	if begin, ok := strings.CutSuffix(f.Action, "*"); ok {
		action = strings.HasPrefix(e.Action, begin)
	}
	holds := func(text, part string) bool { return strings.Contains(strings.ToLower(text), strings.ToLower(part)) }
	return action && (f.Target == "" || e.Target == f.Target) && (f.Run == 0 || e.RunID == f.Run) &&
		holds(e.Actor, f.Actor) && holds(string(e.Leaf), f.Text) && e.Index < f.Before
}

// TestSearchFindsWhatALookAtEveryEntryFinds turns every page of many searches.
func TestSearchFindsWhatALookAtEveryEntryFinds(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, url string) {
		actors := []string{"waymark", "ann@example.org", `Bob "the \ rock" <b@example.org>`, "Ängström", `"action":"run.fake"`, "anna@example.org"}
		for i := range 24 {
			actors = append(actors, fmt.Sprintf("person-%d", i))
		}
		names := []string{"run.queued", "run.started", "run.failed", "freeze.set", "freeze.lifted", "token.created"}
		targets := []string{"", "dev_us-east-1/risk", "dev_global/risk", "prod_us-east-1/research"}
		for i := range 300 {
			e := audit.Entry{Actor: actors[i*i%len(actors)], Action: names[i*7%len(names)], Target: targets[i*i*i%len(targets)], RunID: int64(i % 40),
				Reason: fmt.Sprintf("Reason %d", i), Details: map[string]any{"action": "run.nested", "actor": "somebody else"}}
			if err := s.Log(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		all := entries(t, s)
		slices.Reverse(all)
		for _, f := range []store.EntryFilter{{}, {Target: "dev_us-east-1/risk"}, {Target: "nowhere"}, {Run: 7}, {Run: 7, Action: "run.*"}, {Run: 4000},
			{Action: "run.failed"}, {Action: "run.*"}, {Action: "*"}, {Action: "freeze.*", Target: "dev_global/risk"}, {Action: "run.nested"}, {Action: "run.fake"},
			{Action: "freeze"}, {Actor: "ANN"}, {Actor: `"the \ rock"`}, {Actor: "ÄNG"}, {Actor: "person"}, {Actor: "person-2", Action: "run.*"}, {Actor: "nobody"},
			{Actor: `"action":"run.fake"`, Action: "run.started"}, {Actor: "waymark", Target: "dev_us-east-1/risk"}, {Actor: "somebody else"},
			{Text: "REASON 29"}, {Text: "nowhere"}, {Text: "reason 1", Action: "run.queued", Actor: "person"}, {Text: "reason 1", Target: "prod_us-east-1/research"}} {
			f.Before = int64(len(all)) - 3
			var want []int64
			for _, e := range all {
				if fitsFilter(f, e) {
					want = append(want, e.Index)
				}
			}
			name := fmt.Sprintf("%+v", f)
			var got []int64
			for f.Limit = 7; f.Before > 0; {
				found, from, err := s.Search(t.Context(), f)
				if err != nil || from >= f.Before || len(found) > f.Limit {
					t.Fatalf("%s: %d entries, down to %d, %v", name, len(found), from, err)
				}
				for _, e := range found {
					got = append(got, e.Index)
				}
				f.Before = from
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: found %v, want %v", name, got, want)
			}
		}
	})
}

// TestAChangedLeafIsNoObstacle: an index of what leaves say must take what somebody
// has written over one, and a search must go on.
func TestAChangedLeafIsNoObstacle(t *testing.T) {
	onEmpty(t, func(t *testing.T, url string) {
		s := again(t, url)
		for range 3 {
			if err := s.Log(t.Context(), audit.Entry{Action: "test.noted", Actor: "ann", Target: "dev_us-east-1/risk"}); err != nil {
				t.Fatal(err)
			}
		}
		for i, leaf := range []string{"no JSON", `{"actor":["a"],"action":`} {
			do(t, raw(t, url), "UPDATE audit_entries SET leaf = $1 WHERE idx = $2", leaf, i)
		}
		for _, f := range []store.EntryFilter{{Target: "dev_us-east-1/risk"}, {Action: "*"}, {Action: "test.noted"}, {Actor: "a"}, {}} {
			f.Before = 3
			found, from, err := s.Search(t.Context(), f)
			if err != nil || from != 0 || len(found) == 0 || found[0].Action != "test.noted" {
				t.Errorf("%+v: %+v, down to %d, %v", f, found, from, err)
			}
		}
	})
}

// TestWhatIsRareIsFoundAsSuch asks first, and often, for what is less rare. Postgres
// would plan the statement for any state by then, and read all runs to find those in a
// rare one.
func TestWhatIsRareIsFoundAsSuch(t *testing.T) {
	const all, rare, times = 20_000, 4, 50
	url := testkit.Postgres(t)
	s, err := store.Open(t.Context(), store.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	db := raw(t, url)
	do(t, db, `INSERT INTO runs (kind, repository, release_id, tag, version, object_id, commit_id, env, scope, team, account, state, stages,
		changes, findings, reason, attempt, step, runner_dir, applying, plan_digest, plan_key, approvals_required, approvals, outputs,
		cancelled_by, created_by, created_at, started_at, finished_at) SELECT 'deploy', 'infra', 1, '', '', '', '', 'dev', 'us-east-1', 'research',
		'a', CASE WHEN i % ($1 / $2) = 7 THEN 'rejected' WHEN i % 50 = 3 THEN 'denied' ELSE (ARRAY['succeeded', 'failed', 'cancelled'])[1 + i % 3] END,
		'null', '{}', '{}', repeat('why ', 200), 1, 1, '', 0, '', '', 0, 'null', 'null', '', 'ann', 1, 0, 0 FROM generate_series(1, $1) i`, all, rare)
	do(t, db, "VACUUM ANALYZE runs")
	looked := func() (scans, read int) {
		const of = " FROM pg_stat_user_indexes WHERE relname = 'runs'"
		return number(t, db, "SELECT sum(idx_scan)"+of), number(t, db, "SELECT sum(idx_tup_read)"+of)
	}
	scansBefore, readBefore := looked()
	most := 0
	for _, look := range []struct {
		state release.State
		want  int
	}{{release.Denied, 50}, {release.Rejected, rare}} {
		for range times {
			if found, _, err := s.Runs(t.Context(), store.RunFilter{State: look.state}); err != nil || len(found) != look.want {
				t.Fatalf("%d runs that are %s, %v", len(found), look.state, err)
			}
			most += look.want + 1
		}
	}
	if err := s.Close(); err != nil { // what its connections did is counted at their end
		t.Fatal(err)
	}
	scans, read := looked()
	for began := time.Now(); scans-scansBefore < 2*times; scans, read = looked() {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("%d of %d searches by an index are counted", scans-scansBefore, 2*times)
		}
	}
	if read -= readBefore; read > most {
		t.Errorf("what needs %d runs at most read %d", most, read)
	}
}
