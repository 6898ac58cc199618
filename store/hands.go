package store

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
)

// A run that goes on is in the hand of one instance, its Worker. It changes
// hands in a transaction that holds the run's row, and each change raises its
// Epoch: of two that reach for a run at once one gets it, and whoever had it
// before writes nothing of it any more.

// giveTo puts a run into worker's hand.
func (r *Record) giveTo(worker string) { r.Worker, r.Epoch = worker, r.Epoch+1 }

// letGo takes a run out of its worker's hand.
func (r *Record) letGo() { r.giveTo("") }

// withDetail adds one detail to a copy of an entry's.
func withDetail(details map[string]any, name string, value any) map[string]any {
	out := maps.Clone(details)
	if out == nil {
		out = map[string]any{}
	}
	out[name] = value
	return out
}

// noWorker refuses a run to nobody.
func noWorker(id int64, worker string) error {
	if worker == "" {
		return fmt.Errorf("%w worker: run %d needs an instance to be in the hand of", release.ErrInvalid, id)
	}
	return nil
}

// Start lets a queued run begin in worker's hand where it is its turn: nobody
// holds its target, no earlier run of the target is queued, and no global run of
// its environment and team is queued or active. A run that changes nothing waits
// for nobody, and nobody for it. It returns the run and whether
// it began; where it has to wait, its reason says for what. Of several that
// start a run at once, it begins for one.
func (s *Store) Start(ctx context.Context, id int64, worker string) (r Record, began bool, err error) {
	if err := noWorker(id, worker); err != nil {
		return Record{}, false, err
	}
	err = s.db.inTx(ctx, func(t tx) error {
		began = false
		if r, err = lockRun(ctx, t, id); err != nil {
			return err
		}
		if r.State != release.Queued {
			return nil
		}
		waits, err := waitsFor(ctx, t, r)
		if err != nil {
			return err
		}
		if waits != "" {
			r.Reason, r.WaitUntil = waits, time.Time{}
			return s.writeRun(ctx, t, &r, release.Queued)
		}
		began = true
		r.giveTo(worker)
		r.State, r.Reason, r.WaitUntil = release.Running, "", time.Time{}
		r.Attempt++
		r.Stages, r.RunnerDir = nil, ""
		r.ForgetPlan()
		if r.StartedAt.IsZero() {
			r.StartedAt = s.now().UTC().Truncate(time.Millisecond)
		}
		if err := s.writeRun(ctx, t, &r, release.Queued); err != nil {
			return err
		}
		return s.appendEntries(ctx, t, aboutRun(audit.Entry{Action: "run.started",
			Details: map[string]any{"attempt": r.Attempt, "worker": worker, "epoch": r.Epoch}}, r))
	})
	return r, began, err
}

// changing selects the runs that may change their target, as Kind.ChangesTarget
// does.
const changing = "kind NOT IN ('plan', 'drift')"

// waitsFor says for what a run has to wait before it is its turn, or "".
func waitsFor(ctx context.Context, t tx, r Record) (string, error) {
	if !r.Kind.ChangesTarget() {
		return "", nil
	}
	target, id := r.Target, r.ID
	var other int64
	var tag, state string
	err := t.row(ctx, `SELECT id, tag, state FROM runs WHERE env = $1 AND team = $2 AND scope IN ($3, $5) AND id <> $4 AND `+changing+`
		AND state IN ('queued', 'running', 'awaiting_approval', 'unknown') AND (
			(scope = $3 AND (state IN ('running', 'awaiting_approval', 'unknown') OR (state = 'queued' AND id < $4)))
			OR (scope = $5 AND $3 <> $5 AND state IN ('queued', 'running', 'awaiting_approval', 'unknown')))
		ORDER BY id LIMIT 1`, target.Env, target.Team, target.Scope, id, release.Global).Scan(&other, &tag, &state)
	if noRows(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("looking at what holds %s: %w", target, err)
	}
	switch release.State(state) {
	case release.Unknown:
		return fmt.Sprintf("waits for run %d (%s), whose end is unknown: resolve it first", other, tag), nil
	case release.AwaitingApproval:
		return fmt.Sprintf("waits for run %d (%s), which awaits approval", other, tag), nil
	}
	return fmt.Sprintf("waits for run %d (%s)", other, tag), nil
}

// Take puts a running run into worker's hand, where it is in nobody's, in
// worker's already (its Epoch stays), or in that of an instance that has left,
// is not on record or has been without a beat for dead. Taken from another, it
// is an audit entry. It returns the run and whether worker has it now; a run
// that does not run is nobody's to take.
func (s *Store) Take(ctx context.Context, id int64, worker string, dead time.Duration) (r Record, taken bool, err error) {
	if err := noWorker(id, worker); err != nil {
		return Record{}, false, err
	}
	if err := noDeath(dead); err != nil {
		return Record{}, false, err
	}
	err = s.db.inTx(ctx, func(t tx) error {
		taken = false
		if r, err = lockRun(ctx, t, id); err != nil || r.State != release.Running {
			return err
		}
		from := r.Worker
		if from == worker {
			taken = true
			return nil
		}
		if held, err := isAlive(ctx, t, from, dead); err != nil || held {
			return err
		}
		taken = true
		r.giveTo(worker)
		if err := s.writeRun(ctx, t, &r, r.State); err != nil || from == "" {
			return err
		}
		return s.appendEntries(ctx, t, aboutRun(audit.Entry{Action: "run.taken_over",
			Reason:  "the instance that had it in hand has stopped or shows no sign of life",
			Details: map[string]any{"from": from, "worker": worker, "epoch": r.Epoch, "applying": r.Applying}}, r))
	})
	return r, taken, err
}

// noDeath refuses a time after which every instance would be dead.
func noDeath(dead time.Duration) error {
	if dead < time.Millisecond {
		return fmt.Errorf("%w time %s to declare an instance dead after: it must be longer than its beats are apart", release.ErrInvalid, dead)
	}
	return nil
}

func isAlive(ctx context.Context, q querier, id string, dead time.Duration) (bool, error) {
	var one int
	err := q.row(ctx, "SELECT 1 FROM instances i WHERE i.id = $1 AND "+alive(q, "$2"), id, dead.Milliseconds()).Scan(&one)
	if noRows(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking for a sign of life of instance %q: %w", id, err)
	}
	return true, nil
}

// Abandoned lists the running runs, by id, in the hand of an instance that has
// left, is not on record or has been without a beat for dead. Sweep, with the
// same dead, wakes them for their pool.
func (s *Store) Abandoned(ctx context.Context, dead time.Duration) ([]int64, error) {
	if err := noDeath(dead); err != nil {
		return nil, err
	}
	rs, err := s.db.query(ctx, `SELECT id FROM runs r WHERE state = 'running' AND worker <> ''
		AND NOT EXISTS (SELECT 1 FROM instances i WHERE i.id = r.worker AND `+alive(s.db, "$1")+`) ORDER BY id`, dead.Milliseconds())
	if err != nil {
		return nil, fmt.Errorf("looking for abandoned runs: %w", err)
	}
	return collect(rs, func(r rows) (id int64, err error) { return id, r.Scan(&id) })
}

// HandBack lets go of a run before its apply, for another worker of its pool:
// it is queued again, the attempt does not count as lost, and why is on record. A
// run whose plan people have approved goes on running, so that their word and the
// saved plan stay. A run that worker has lost since epoch, or that applies, is
// release.ErrConflict.
func (s *Store) HandBack(ctx context.Context, id int64, worker string, epoch int64, why string) error {
	return s.db.inTx(ctx, func(t tx) error {
		r, err := lockRun(ctx, t, id)
		if err != nil {
			return err
		}
		if r.State != release.Running || r.Worker != worker || r.Epoch != epoch {
			return fmt.Errorf("%w: run %d is %s in the hand of %q, epoch %d, now; %q with epoch %d has nothing to give back",
				release.ErrConflict, id, r.State, r.Worker, r.Epoch, worker, epoch)
		}
		if r.Applying {
			return fmt.Errorf("%w: run %d applies; it can only go on to its end", release.ErrConflict, id)
		}
		before := r
		reason := why + "; nothing was changed"
		if r.Stage(release.StageApproval).State == release.StagePassed {
			r.letGo()
		} else {
			r.HandedBack++
			r.State, r.Reason, r.PlanKey, r.RunnerDir = release.Queued, "starts over: "+reason, "", ""
		}
		if err := s.writeRun(ctx, t, &r, before.State); err != nil {
			return err
		}
		if err := afterChange(ctx, t, before, r); err != nil {
			return err
		}
		if r.State == release.Running {
			if err := wake(ctx, t, id, r.Pool); err != nil {
				return err
			}
		}
		return s.appendEntries(ctx, t, aboutRun(audit.Entry{Action: "run.handed_back", Reason: reason,
			Details: map[string]any{"worker": worker, "attempt": r.Attempt, "epoch": r.Epoch}}, r))
	})
}
