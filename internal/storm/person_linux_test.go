package storm

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/waymark-cd/waymark/api"
)

// person does what people and forges do meanwhile: approves plans, resolves runs
// whose end is unknown by what the ledger says, and sends webhooks.
type person struct {
	ledger   string
	dir      string
	replicas []*replica // their clients and addresses alone: these never change

	mu       sync.Mutex
	approved int
	resolved map[string]string // run id to accept or abandon
	unlocked int
	webhooks int
}

func newPerson(s *storm) *person {
	return &person{ledger: s.ledger, dir: s.dir, replicas: s.replicas, resolved: map[string]string{}}
}

// start lets the person work until stop is called, which returns when the last
// request has ended.
func (p *person) start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var joined sync.WaitGroup
	for _, work := range []struct {
		every time.Duration
		do    func(context.Context, *replica)
	}{{300 * time.Millisecond, p.decide}, {time.Second, p.unlock}, {100 * time.Millisecond, p.hammer}} {
		joined.Go(func() {
			tick := time.NewTicker(work.every)
			defer tick.Stop()
			for n := 0; ; n++ {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				brief, done := context.WithTimeout(ctx, 2*time.Second)
				work.do(brief, p.replicas[n%len(p.replicas)])
				done()
			}
		})
	}
	return func() { cancel(); joined.Wait() }
}

// decide approves what waits for a yes and resolves what can be resolved, over
// one replica. One that does not answer is left for the next look.
func (p *person) decide(ctx context.Context, r *replica) {
	waiting, err := r.client.Runs(ctx, api.RunQuery{State: api.StateAwaitingApproval})
	if err != nil {
		return
	}
	for _, run := range waiting.Runs {
		if _, err := r.client.Decide(ctx, run.ID, "approve", api.Decision{}); err == nil {
			p.mu.Lock()
			p.approved++
			p.mu.Unlock()
		}
	}
	unknown, err := r.client.Runs(ctx, api.RunQuery{State: api.StateUnknown})
	if err != nil {
		return
	}
	for _, run := range unknown.Runs {
		as := p.look(run)
		if as == "" {
			continue
		}
		if _, err := r.client.Decide(ctx, run.ID, "resolve", api.Decision{As: as, Reason: "the ledger says so"}); err == nil {
			p.mu.Lock()
			p.resolved[run.ID] = as
			p.mu.Unlock()
		}
	}
}

// look says how a run whose end is unknown is to be resolved: by the ledger, and
// only when nothing of the run is at work any more. Empty: wait.
func (p *person) look(run api.Run) string {
	if worksFor(processes(p.dir), run.ID) {
		return ""
	}
	all, err := readLedger(p.ledger) // after the processes: what they wrote is there
	if err != nil {
		return ""
	}
	if byTag(all)[run.Tag].end == ended {
		return "accept"
	}
	return "abandon"
}

// unlock releases what is left locked, as the service tells people to. Only the
// replica whose runner held the lock can tell that it is dead, so each is asked
// in turn. A lock that the service takes for a stranger's, as it does where
// clocks differ, is released by force when nothing of the target is at work.
func (p *person) unlock(ctx context.Context, r *replica) {
	for _, target := range targets() {
		if !strings.HasSuffix(target, "/"+realCode) {
			continue // the stand-in locks nothing
		}
		held, err := r.client.Locks(ctx, target)
		if err != nil {
			return
		}
		for _, l := range held.Locks {
			u := api.Unlock{ID: l.ID, Reason: "nothing of it is at work any more"}
			if u.Force = l.RunID == ""; l.Alive || l.ID == "" || p.atWork(ctx, r, target) {
				continue
			}
			if freed, err := r.client.Unlock(ctx, l.Target, u); err == nil {
				p.mu.Lock()
				p.unlocked += len(freed.Locks)
				p.mu.Unlock()
			}
		}
	}
}

// atWork reports whether a run of the target goes on, or something of an ended
// one is still at work; also where that cannot be told.
func (p *person) atWork(ctx context.Context, r *replica, target string) bool {
	list, err := r.client.Runs(ctx, api.RunQuery{Target: target})
	if err != nil {
		return true
	}
	all := processes(p.dir)
	return slices.ContainsFunc(list.Runs, func(run api.Run) bool {
		return run.State == api.StateRunning || run.State == api.StateUnknown || worksFor(all, run.ID)
	})
}

// worksFor reports whether one of the processes works in a folder of the run.
func worksFor(all []process, run string) bool {
	return slices.ContainsFunc(all, func(proc process) bool { return strings.Contains(proc.cwd+"/", "/runs/"+run+"/") })
}

// hammer sends one webhook.
func (p *person) hammer(ctx context.Context, r *replica) {
	body := []byte(`{"ref":"refs/tags/x"}`)
	mac := hmac.New(sha256.New, []byte("storm"))
	mac.Write(body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+r.address+"/webhooks/infra", bytes.NewReader(body))
	if err != nil {
		return
	}
	req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return
	}
	res.Body.Close()
	if res.StatusCode == http.StatusAccepted {
		p.mu.Lock()
		p.webhooks++
		p.mu.Unlock()
	}
}

// death is a replica's end with runs in its hand that had not begun to apply.
type death struct {
	at     time.Time
	worker string
	epochs map[int64]int64 // by run
}

// noteDeath remembers what a replica that is about to be killed has in hand.
func (s *storm) noteDeath(r *replica) {
	d := &death{at: time.Now(), worker: s.workerOf(r), epochs: map[int64]int64{}}
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
	defer cancel()
	rows, err := s.record.Query(ctx, "SELECT id, epoch FROM runs WHERE worker = $1 AND state = 'running' AND applying = 0", d.worker)
	if err != nil {
		return
	}
	defer rows.Close()
	for rows.Next() {
		var id, epoch int64
		if rows.Scan(&id, &epoch) == nil {
			d.epochs[id] = epoch
		}
	}
	if len(d.epochs) > 0 {
		s.deaths = append(s.deaths, d)
	}
}

// workerOf is how the record calls a replica.
func (s *storm) workerOf(r *replica) string {
	id, err := os.ReadFile(filepath.Join(r.data, "instance-id"))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(id))
}

// watchDeaths looks which runs of the dead have begun again elsewhere. A run
// that its own worker took up again, or that ended, tells nothing.
func (s *storm) watchDeaths() {
	for _, d := range s.deaths {
		for id, epoch := range d.epochs {
			var worker, state string
			var now int64
			if !s.ask("SELECT worker, state, epoch FROM runs WHERE id = $1", []any{id}, &worker, &state, &now) {
				return
			}
			elsewhere := now != epoch && worker != "" && worker != d.worker && state == "running"
			if elsewhere {
				s.recovery = max(s.recovery, time.Since(d.at))
			}
			if elsewhere || worker == d.worker && now != epoch || state != "running" && state != "queued" {
				delete(d.epochs, id)
			}
		}
	}
	for len(s.deaths) > 0 && len(s.deaths[0].epochs) == 0 {
		s.deaths = s.deaths[1:]
	}
}

// recoveryMost is how long the work of a dead replica may lie, where nothing
// else is wrong, beyond the time after which it is declared dead.
const recoveryMost = 2 * time.Second

// deathInCalm kills one replica in the middle of a plan while all others are
// well, and measures until the run begins again elsewhere.
func (s *storm) deathInCalm() {
	tag := s.push(targets()[0], slowPlan)
	var id, attempt int64
	var worker string
	var victim *replica
	if !soon(time.Minute, func() bool {
		if !s.ask("SELECT id, worker, attempt FROM runs WHERE tag = $1 AND state = 'running' AND runner_dir <> ''", []any{tag}, &id, &worker, &attempt) {
			return false
		}
		for _, r := range s.replicas {
			if s.workerOf(r) == worker && len(r.runners()) > 0 {
				victim = r
			}
		}
		return victim != nil
	}) {
		s.t.Fatalf("%s was never planned", tag)
	}
	victim.kill()
	died := time.Now()
	again := func() bool {
		var by string
		var n int64
		return s.ask("SELECT worker, attempt FROM runs WHERE id = $1 AND state = 'running'", []any{id}, &by, &n) && by != worker && by != "" && n > attempt
	}
	if !soon(time.Minute, again) {
		s.t.Fatalf("nobody took over run %d of %s, which was killed in the middle of its plan", id, victim.name)
	}
	s.calmRecovery = time.Since(died)
	if most := s.heartbeat + recoveryMost; s.calmRecovery > most {
		s.broken("a run of a dead replica began again after %s, which must not be more than %s", s.calmRecovery, most)
	}
	s.must(victim.start())
	if !soon(time.Minute, func() bool { return s.answers(victim) }) {
		s.t.Fatalf("%s did not come back", victim.name)
	}
}

// broken notes that an invariant does not hold.
func (s *storm) broken(format string, args ...any) {
	s.t.Helper()
	s.t.Errorf("BROKEN: "+format, args...)
	s.breaks = append(s.breaks, fmt.Sprintf(format, args...))
}
