package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivertype"

	"github.com/waymark-cd/waymark/release"
)

// RunArgs is a wake-up call for one run. Step tells calls apart: each reason to
// wake raises the run's step, so that a new call is never taken for an old one
// that is just ending, and a repeated one is.
type RunArgs struct {
	RunID int64 `json:"run_id"`
	Step  int64 `json:"step"`
}

// Kind names the job to the job engine.
func (RunArgs) Kind() string { return "run" }

// InsertOpts makes a wake-up call unique while it is waiting or being answered.
func (RunArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: []rivertype.JobState{
		rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRunning,
		rivertype.JobStateRetryable, rivertype.JobStateScheduled}}}
}

// Worker says how this process answers wake-up calls.
type Worker struct {
	// ID is the instance's, as it has joined: that of this installation, the same
	// after a restart, and of no other that uses the database.
	ID    string
	Pools []string // whose runs to serve
	Slots int      // calls answered side by side, per pool
	// Handle drives one run as far as it can go. It must look at the run's state
	// first: calls may come twice, late or for nothing. On an error the call is
	// repeated after a while.
	Handle func(ctx context.Context, runID int64) error
	Grace  time.Duration // how long Handle may go on once ctx is cancelled
	// Drain, when it is closed, ends Work once every Handle has returned; no new
	// calls are answered from then on. Nil: never.
	Drain <-chan struct{}
}

// Work answers wake-up calls until ctx is cancelled, and returns once every
// Handle has returned: after Grace, their contexts are cancelled too.
// Calls that an earlier process of the same ID left behind are given up first,
// and Sweep makes them anew. Any number of processes work on one Postgres; which
// of them has a run in hand is decided by Start and Take.
func (s *Store) Work(ctx context.Context, w Worker) error {
	if err := s.forgetOrphans(ctx, w.ID); err != nil {
		return err
	}
	if err := s.Sweep(ctx, 0); err != nil {
		return err
	}
	switch db := s.db.(type) {
	case *sqliteDB:
		return work(ctx, s, sqliteDriver{riversqlite.New(db.db), db.announcer}, w)
	case *postgresDB:
		return work(ctx, s, riverpgxv5.New(db.pool), w)
	default:
		return fmt.Errorf("no job engine for %T", s.db)
	}
}

func work[TTx any](ctx context.Context, s *Store, driver riverdriver.Driver[TTx], w Worker) error {
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, job *river.Job[RunArgs]) error {
		return w.Handle(ctx, job.Args.RunID)
	}))
	queues := map[string]river.QueueConfig{}
	for _, pool := range w.Pools {
		queues[pool] = river.QueueConfig{MaxWorkers: w.Slots}
	}
	behind, err := s.behind(ctx)
	if err != nil {
		return err
	}
	client, err := river.NewClient(driver, &river.Config{
		ID: w.ID, Logger: quiet(s.log), Workers: workers, Queues: queues,
		JobTimeout:                  -1, // an apply takes as long as it takes
		FetchCooldown:               2 * time.Millisecond,
		FetchPollInterval:           time.Second, // calls are announced; this is for a lost announcement
		CompletedJobRetentionPeriod: time.Hour,
		RetryPolicy:                 steadyRetry{func() time.Time { return s.now().Add(behind) }},
		SoftStopTimeout:             max(w.Grace, time.Millisecond),
	})
	if err != nil {
		return fmt.Errorf("starting the job engine: %w", err)
	}
	// The engine is stopped through Stop, not by its context, so that a Handle
	// that is at work keeps its own until the grace period is over.
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("starting the job engine: %w", err)
	}
	select {
	case <-ctx.Done():
	case <-w.Drain:
		if err := client.Stop(ctx); err == nil {
			return nil
		}
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.Grace+30*time.Second)
	defer cancel()
	if err := client.Stop(stop); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("stopping the job engine: %w", err)
	}
	return nil
}

// steadyRetry repeats a failed call after as many seconds as it has failed, a minute at most.
type steadyRetry struct{ now func() time.Time }

func (r steadyRetry) NextRetry(job *rivertype.JobRow) time.Time {
	return r.now().Add(min(time.Duration(len(job.Errors)+1)*time.Second, time.Minute))
}

// forgetOrphans deletes calls that a process of ours was answering when it died.
func (s *Store) forgetOrphans(ctx context.Context, id string) error {
	query, args := "DELETE FROM river_job WHERE state = 'running'", []any{}
	if _, ok := s.db.(*postgresDB); ok {
		query, args = query+" AND attempted_by[array_upper(attempted_by, 1)] = $1", []any{id}
	}
	if _, err := s.db.exec(ctx, query, args...); err != nil {
		return fmt.Errorf("clearing the calls of an earlier process: %w", err)
	}
	return nil
}

// behind is how far this process's clock is behind the database's, by which
// calls are held back: one that is minutes ahead would hold them back for minutes.
func (s *Store) behind(ctx context.Context) (time.Duration, error) {
	now, err := s.Clock(ctx)
	return now.Sub(s.now()), err
}

// Sweep makes a wake-up call for every run that could go on: those that run, and
// the first in line of every target that nobody holds, but for those that wait for
// a window, a freeze or a soak that is not over. A call that is there
// already is not made twice. It mends whatever a crash left without a call.
//
// Calls that were being answered by instances without a beat for dead are given
// up, so that what Abandoned lists is woken too, and instances that are long gone
// are forgotten. A dead of 0 takes nobody for dead, for those that never join.
func (s *Store) Sweep(ctx context.Context, dead time.Duration) error {
	return s.db.inTx(ctx, func(t tx) error {
		if dead > 0 {
			if err := giveUpDead(ctx, t, dead); err != nil {
				return err
			}
		}
		rs, err := t.query(ctx, `SELECT id, step, pool FROM runs r WHERE state = 'running' OR (state = 'queued' AND wait_until <= `+t.clock()+`
			AND (NOT (`+changing+`) OR NOT EXISTS (SELECT 1 FROM runs o WHERE o.env = r.env AND o.scope = r.scope AND o.team = r.team AND o.`+changing+`
				AND o.state IN ('queued', 'running', 'awaiting_approval', 'unknown') AND (o.state IN ('running', 'awaiting_approval', 'unknown') OR (o.state = 'queued' AND o.id < r.id)))))
			ORDER BY id`)
		if err != nil {
			return fmt.Errorf("looking for runs to wake: %w", err)
		}
		type call struct {
			args RunArgs
			pool string
		}
		calls, err := collect(rs, func(r rows) (c call, err error) {
			return c, r.Scan(&c.args.RunID, &c.args.Step, &c.pool)
		})
		if err != nil {
			return fmt.Errorf("looking for runs to wake: %w", err)
		}
		there, err := callsOf(ctx, t)
		if err != nil {
			return fmt.Errorf("looking for runs to wake: %w", err)
		}
		for _, c := range calls {
			if there[c.args] {
				continue
			}
			if err := t.insertJob(ctx, c.args, c.pool); err != nil {
				return fmt.Errorf("waking run %d: %w", c.args.RunID, err)
			}
		}
		return nil
	})
}

// callsOf gives the calls that wait or are being answered. The engine makes none of
// them twice, but it writes a row and holds it for finding out.
func callsOf(ctx context.Context, t tx) (map[RunArgs]bool, error) {
	rs, err := t.query(ctx, `SELECT CAST(args ->> 'run_id' AS bigint), CAST(args ->> 'step' AS bigint) FROM river_job
		WHERE kind = 'run' AND state IN ('available', 'pending', 'running', 'retryable', 'scheduled')`)
	if err != nil {
		return nil, err
	}
	all, err := collect(rs, func(r rows) (a RunArgs, err error) { return a, r.Scan(&a.RunID, &a.Step) })
	out := make(map[RunArgs]bool, len(all))
	for _, a := range all {
		out[a] = true
	}
	return out, err
}

// wake makes a fresh call for one run.
func wake(ctx context.Context, t tx, id int64, pool string) error {
	var step int64
	if err := t.row(ctx, "UPDATE runs SET step = step + 1 WHERE id = $1 RETURNING step", id).Scan(&step); err != nil {
		return fmt.Errorf("waking run %d: %w", id, err)
	}
	if err := t.insertJob(ctx, RunArgs{RunID: id, Step: step}, pool); err != nil {
		return fmt.Errorf("waking run %d: %w", id, err)
	}
	return nil
}

// wakeNext makes a call for the first in line of target, unless someone holds it.
func wakeNext(ctx context.Context, t tx, target release.Target) error {
	var id int64
	var pool string
	err := t.row(ctx, `SELECT id, pool FROM runs r WHERE env = $1 AND scope = $2 AND team = $3 AND state = 'queued' AND `+changing+`
		AND NOT EXISTS (SELECT 1 FROM runs o WHERE o.env = $1 AND o.scope = $2 AND o.team = $3 AND o.`+changing+`
			AND o.state IN ('running', 'awaiting_approval', 'unknown'))
		ORDER BY id LIMIT 1`, target.Env, target.Scope, target.Team).Scan(&id, &pool)
	if noRows(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for the next run of %s: %w", target, err)
	}
	return wake(ctx, t, id, pool)
}

// wakeAfter wakes what may have waited for target: its own line and, where it
// is global, the lines of its environment's and team's Regions.
func wakeAfter(ctx context.Context, t tx, target release.Target) error {
	if err := wakeNext(ctx, t, target); err != nil || !target.IsGlobal() {
		return err
	}
	rs, err := t.query(ctx, `SELECT scope FROM targets t WHERE env = $1 AND team = $2 AND scope <> $3 AND EXISTS (SELECT 1 FROM runs r
		WHERE r.env = t.env AND r.scope = t.scope AND r.team = t.team AND r.state = 'queued' AND r.`+changing+")",
		target.Env, target.Team, release.Global)
	if err != nil {
		return fmt.Errorf("looking for runs that wait for %s: %w", target, err)
	}
	scopes, err := collect(rs, func(r rows) (s string, err error) { return s, r.Scan(&s) })
	if err != nil {
		return err
	}
	slices.Sort(scopes)
	for _, scope := range scopes {
		if err := wakeNext(ctx, t, release.Target{Env: target.Env, Scope: scope, Team: target.Team}); err != nil {
			return err
		}
	}
	return nil
}

// collect reads all rows and closes them.
func collect[T any](rs rows, scan func(rows) (T, error)) ([]T, error) {
	defer rs.Close()
	var out []T
	for rs.Next() {
		v, err := scan(rs)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rs.Err()
}
