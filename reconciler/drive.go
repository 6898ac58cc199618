package reconciler

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// maxAttempts is how often a run is started from its beginning before it fails:
// a runner that is lost every time is no accident. maxStarts counts also those
// starts that ended with their worker, which the run may have brought down.
const (
	maxAttempts = 3
	maxStarts   = 10
)

// drive is one run that a goroutine of ours has in hand.
type drive struct {
	turn   chan struct{} // holds one token: whoever has it drives
	users  int           // guarded by the reconciler's mutex
	cancel chan struct{} // closed when someone asked that the run stop
	once   sync.Once
	// opened: this process opened the session of the phase; refreshAt is when its
	// files need new ones, zero for never. They belong to whoever holds the turn.
	opened    bool
	refreshAt time.Time
	readState func(context.Context) (release.StateMark, error) // as that session; nil where it cannot
	// epoch is that of the run while it is in hand, for whoever looks whether it
	// still is; lost is closed when it is not.
	epoch     atomic.Int64
	following atomic.Value // folder of the runner that is followed, a string
	lost      chan struct{}
	loseOnce  sync.Once
}

// take waits until no other goroutine drives the run, and returns what lets go.
func (r *Reconciler) take(ctx context.Context, id int64) (*drive, func(), error) {
	r.mu.Lock()
	d := r.driving[id]
	if d == nil {
		d = &drive{turn: make(chan struct{}, 1), cancel: make(chan struct{}), lost: make(chan struct{})}
		r.driving[id] = d
	}
	d.users++
	r.mu.Unlock()
	leave := func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if d.users--; d.users == 0 {
			delete(r.driving, id)
		}
	}
	select {
	case d.turn <- struct{}{}:
		r.mu.Lock() // whoever had the turn before may have lost the run; this one has not
		d.epoch.Store(0)
		d.lost, d.loseOnce = make(chan struct{}), sync.Once{}
		r.mu.Unlock()
		return d, func() { <-d.turn; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, nil, ctx.Err()
	}
}

// handle answers one wake-up call: it looks at the run and takes it as far as
// it can go. Calls may come twice, late or for nothing.
func (r *Reconciler) handle(call context.Context, id int64) error {
	ctx := r.hard
	d, leave, err := r.take(ctx, id)
	if err != nil {
		return err
	}
	defer leave()
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-call.Done():
		return call.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
	r.metrics.driving.Inc()
	defer r.metrics.driving.Dec()
	err = r.advance(ctx, d, id)
	if err != nil && ctx.Err() != nil {
		// The service is stopping. Runners go on; the next start takes them up.
		return ctx.Err()
	}
	if err != nil && !errors.Is(err, errNoRoom) { // which is said once for all runs
		r.log.Error("a run cannot go on just now, trying again", "run", id, "error", err)
	}
	if r.Store.Shared() {
		return nil // the leader's sweep calls again: calls held back go by clocks that may differ
	}
	return err
}

// advance does the next thing for a run, by its state.
func (r *Reconciler) advance(ctx context.Context, d *drive, id int64) error {
	rec, err := r.Store.Record(ctx, id)
	if err != nil {
		return err
	}
	if rec.State != release.Queued && rec.State != release.Running && rec.State != release.AwaitingApproval {
		return nil
	}
	if err := r.mayBegin(); err != nil {
		return err
	}
	if begins(rec) {
		if err := r.hasRoom(); err != nil {
			return err
		}
	}
	if rec.State == release.AwaitingApproval {
		return r.resumeWaiting(ctx, rec)
	}
	if rec.State == release.Queued {
		if r.stops() {
			return errStopping
		}
		if waits, err := r.heldBack(ctx, rec); err != nil || waits {
			return err
		}
		rec, began, err := r.Store.Start(ctx, id, r.Instance.ID)
		if err != nil || !began {
			return err
		}
		d.epoch.Store(rec.Epoch)
		r.noteStart(rec)
		return r.begin(ctx, d, rec)
	}
	before := rec
	if before.Worker != "" && before.Worker != r.Instance.ID && !r.mayJudge() {
		return nil // the sweep asks again
	}
	rec, taken, err := r.Store.Take(ctx, id, r.Instance.ID, r.Heartbeat)
	if err != nil || !taken {
		return err // another instance has it, and lives
	}
	d.epoch.Store(rec.Epoch)
	switch {
	case before.Worker != r.Instance.ID && before.Worker != "":
		return r.takeOver(ctx, d, rec, before.Worker)
	case pushes(rec):
		return r.resumePush(ctx, d, rec)
	case rec.Applying:
		return r.resumeApply(ctx, d, rec)
	case rec.Stage(release.StageApproval).State == release.StagePassed:
		return r.apply(ctx, d, rec)
	default:
		return r.resumePlan(ctx, d, rec)
	}
}

// begin starts a run from its beginning.
func (r *Reconciler) begin(ctx context.Context, d *drive, rec store.Record) error {
	if err := r.inOrder(ctx, rec); errors.Is(err, release.ErrRefused) {
		return r.finish(ctx, rec, release.Denied, reason(err), release.Result{})
	} else if err != nil {
		return err
	}
	spec, keys, err := r.prepare(ctx, d, &rec)
	if err != nil && ctx.Err() != nil {
		return err
	}
	r.noteCheckout(rec, err)
	if filledUp(err) && rec.Attempt < maxStarts && !r.cancelled(ctx, d, rec.ID) {
		return r.handBack(ctx, rec, "the disk of its worker is full: "+reason(err))
	}
	if err != nil {
		state := release.Failed
		if errors.Is(err, release.ErrRefused) {
			state = release.Denied
		}
		return r.finish(ctx, rec, state, reason(err), release.Result{})
	}
	if rec.CancelledBy != "" {
		return r.finish(ctx, rec, release.Cancelled, "cancelled before anything was planned", release.Result{})
	}
	if r.stops() {
		return r.handBack(ctx, rec, stoppedBefore)
	}
	if err := r.Runners.Start(ctx, spec); err != nil && ctx.Err() == nil {
		r.log.Error("a runner could not be started", "run", rec.ID, "error", err)
	}
	return r.followPlan(ctx, d, rec, keys)
}

// resumePlan takes up a run whose planning an earlier process began.
func (r *Reconciler) resumePlan(ctx context.Context, d *drive, rec store.Record) error {
	return r.followPlan(ctx, d, rec, nil)
}

// followPlan follows the planning runner to its end, or starts the run over
// where there is none any more: until the apply nothing has been changed.
func (r *Reconciler) followPlan(ctx context.Context, d *drive, rec store.Record, keys map[string]string) error {
	found := FoundNever
	if rec.RunnerDir != "" {
		var err error
		if found, err = r.Runners.Find(r.path(rec.RunnerDir)); err != nil {
			return err
		}
	}
	if found == FoundGone || found == FoundNever {
		return r.startOver(ctx, rec)
	}
	res, err := r.follow(ctx, d, &rec)
	if d.isLost() {
		return fmt.Errorf("%w: run %d was taken over by another instance", release.ErrConflict, rec.ID)
	}
	if errors.Is(err, ErrRunnerGone) {
		return r.startOver(ctx, rec)
	}
	if err != nil {
		return err
	}
	if r.stops() && rec.CancelledBy == "" && !r.cancelled(ctx, d, rec.ID) {
		return r.handBack(ctx, rec, stoppedBefore)
	}
	if res.Outcome == release.OutcomeCancelled && !r.cancelled(ctx, d, rec.ID) {
		return r.startOver(ctx, rec) // nobody cancelled it: its instance was told to stop
	}
	if res.Outcome != release.OutcomePassed {
		return r.finish(ctx, rec, endOf(res.Outcome), res.Reason, res)
	}
	return r.planned(ctx, d, rec, res, keys)
}

// endOf maps how a phase ended, other than well, to how the run ends.
func endOf(o release.Outcome) release.State {
	switch o {
	case release.OutcomeDenied:
		return release.Denied
	case release.OutcomeCancelled:
		return release.Cancelled
	default:
		return release.Failed
	}
}

// startOver queues a run again whose runner was lost before its apply.
func (r *Reconciler) startOver(ctx context.Context, rec store.Record) error {
	if rec.CancelledBy != "" {
		return r.finish(ctx, rec, release.Cancelled, "cancelled by "+rec.CancelledBy, release.Result{})
	}
	if rec.Attempt-rec.HandedBack >= maxAttempts || rec.Attempt >= maxStarts {
		return r.finish(ctx, rec, release.Failed, fmt.Sprintf(
			"the runner was lost %d times before it could apply; nothing was changed. Its own words are in %s on the service's machine",
			rec.Attempt, filepath.Join(r.path(rec.RunnerDir), "stderr")), release.Result{})
	}
	r.log.Warn("a runner was lost before its apply, the run starts over", "run", rec.ID, "attempt", rec.Attempt)
	r.freeOwn(ctx, rec, "", "its runner was lost before the apply")
	err := r.persist(ctx, "start over", func() error {
		_, err := r.Store.Update(ctx, rec.ID, store.Update{Wake: true,
			Entry: audit.Entry{Action: "run.restarted", Reason: "the runner was lost before the apply; nothing was changed"},
			Change: func(now *store.Record) error {
				if err := same(rec, *now); err != nil {
					return err
				}
				now.State, now.Reason, now.PlanKey, now.RunnerDir = release.Queued, "starts over: its runner was lost before the apply", "", ""
				now.HandedBack = rec.HandedBack
				return nil
			}})
		return err
	})
	if err == nil {
		r.removeWork(rec.ID, rec.Attempt)
	}
	return err
}

// same refuses a write by a driver that the run has left behind: it must still
// be running, in the attempt and in the hand that this driver knows.
func same(mine, now store.Record) error {
	if now.State != release.Running || now.Attempt != mine.Attempt || now.Epoch != mine.Epoch {
		return fmt.Errorf("%w: run %d is %s in attempt %d, epoch %d now", release.ErrConflict, now.ID, now.State, now.Attempt, now.Epoch)
	}
	return nil
}

// planned records a plan that passed every gate, and goes on to approval, to
// the apply, or to the end where there is nothing to do.
func (r *Reconciler) planned(ctx context.Context, d *drive, rec store.Record, res release.Result, keys map[string]string) error {
	if res.Plan == nil {
		return r.finish(ctx, rec, release.Failed, "the runner passed without a plan; this is a fault of Waymark", res)
	}
	if !rec.Kind.ChangesTarget() {
		return r.finish(ctx, rec, release.Succeeded, planOnlySays(rec.Kind, res.Plan), res)
	}
	if nothingToDo(res.Plan) {
		rec.SetStage(release.Stage{Name: release.StageApply, State: release.StageSkipped, Summary: "no changes"})
		return r.finish(ctx, rec, release.Succeeded, "", res)
	}
	requireOf(&rec, res.Requirements)
	if rec.ApprovalsRequired > 0 {
		return r.askApproval(ctx, d, rec, res, keys)
	}
	rec.SetStage(release.Stage{Name: release.StageApproval, State: release.StageSkipped, Summary: "not required"})
	return r.applyPlan(ctx, d, rec, &res, keys)
}

func nothingToDo(p *release.PlanSummary) bool {
	return !p.Changes.Any() && len(p.Resources) == 0 && len(p.Outputs) == 0 && len(p.Drift) == 0
}

// withResult adds what is kept of a planning runner's result.
func (r *Reconciler) withResult(u store.Update, res *release.Result, keys map[string]string) store.Update {
	if res == nil {
		return u
	}
	u.Plan, u.Findings, u.Content = res.Plan, res.Findings, res.Content
	if len(res.SoftGates) > 0 && u.Entry.Details != nil {
		u.Entry.Details["soft_gates"] = res.SoftGates
	}
	u.Gates, u.Reports = map[string]release.GateResult{}, nil
	for _, g := range res.Gates {
		if g.Report != nil {
			if u.Reports == nil {
				u.Reports = map[string]release.Report{}
			}
			u.Reports[g.Gate] = *g.Report
		}
		if key := keys[g.Gate]; key != "" {
			u.Gates[key] = g
		}
	}
	return u
}

// takeResult copies into the run what a result says of it.
func takeResult(now *store.Record, mine store.Record, res release.Result) {
	now.Stages = mine.Stages
	for _, s := range res.Stages {
		now.SetStage(s)
	}
	if res.Findings != nil {
		now.Findings = release.CountFindings(res.Findings)
	}
	if res.Plan != nil {
		now.Changes, now.PlanDigest = res.Plan.Changes, res.Plan.Digest
	}
	if res.Outputs != nil {
		now.Outputs = res.Outputs
	}
	if res.Phase == release.PhasePlan {
		now.SoftGates = res.SoftGates
	}
}

// finish ends a run, and removes what it needed to go on.
func (r *Reconciler) finish(ctx context.Context, rec store.Record, state release.State, why string, res release.Result) error {
	var ended store.Record
	err := r.persist(ctx, "end", func() (err error) {
		details := map[string]any{"changes": rec.Changes}
		ended, err = r.Store.Update(ctx, rec.ID, r.withResult(store.Update{
			Entry: audit.Entry{Action: "run." + string(state), Reason: why, Details: details},
			Change: func(now *store.Record) error {
				if err := same(rec, *now); err != nil {
					return err
				}
				takeResult(now, rec, res)
				r.closeStages(now, state)
				now.State, now.Reason = state, why
				if state == release.Cancelled && now.CancelledBy != "" {
					now.Reason = "cancelled by " + now.CancelledBy
				}
				now.CancelledBy, now.Applying = "", false
				if state != release.Unknown { // then it opens the state that the apply may have left
					now.PlanKey = ""
				}
				if len(now.SoftGates) > 0 {
					details["soft_gates"] = now.SoftGates
				}
				details["changes"], details["applied"] = now.Changes, res.Applied
				tellEnd(details, *now, rec.StateAfter)
				return nil
			}}, &res, nil))
		return err
	})
	if err != nil {
		return err
	}
	r.noteEnd(ended)
	r.log.Info("a run ended", "run", ended.ID, "tag", ended.Tag, "state", ended.State, "reason", ended.Reason)
	if state == release.Unknown {
		r.removePlain(ended.ID, ended.Attempt) // the rest is evidence
		r.lookInto(ctx, ended)
	} else {
		r.removeWork(ended.ID, ended.Attempt)
	}
	return nil
}

// closeStages ends what was under way, and says what did not come to pass.
func (r *Reconciler) closeStages(run *store.Record, state release.State) {
	for _, name := range release.StageNames() {
		s := run.Stage(name)
		switch s.State {
		case release.StageRunning:
			s.State, s.FinishedAt = release.StageFailed, r.Now().UTC()
			if state == release.Unknown {
				s.Summary = "its end was not seen"
			}
		case release.StagePending:
			if name == release.StagePush {
				continue // most runs have none
			}
			s.State = release.StageSkipped
		default:
			continue
		}
		run.SetStage(s)
	}
}

// path turns a folder of the record into an absolute one.
func (r *Reconciler) path(rel string) string { return filepath.Join(r.runsDir(), rel) }

// attemptDir is the folder of one attempt of a run, relative to runsDir.
func attemptDir(id int64, attempt int) string {
	return filepath.Join(release.FormatID(id), fmt.Sprint(attempt))
}

// What lies in the attempt's folder, beside the runners' own folders.
const (
	planName = "tfplan.age" // the encrypted plan
	treeName = "tree"       // the commit's tree, the working copy of the run
)

// follow passes a runner's stages on to the record until it ends, and asks it
// to stop when someone cancels the run.
func (r *Reconciler) follow(ctx context.Context, d *drive, rec *store.Record) (release.Result, error) {
	dir := r.path(rec.RunnerDir)
	progress := newProgress(*rec)
	watched, stop := context.WithCancel(ctx)
	var wait sync.WaitGroup
	started := *rec // Follow's events change the other
	wait.Go(func() { r.awaitEnd(watched, d, started) })
	shipped := r.shipLog(watched, &wait, started)
	wait.Go(func() { r.writeProgress(watched, progress) })
	wait.Go(func() { r.keepSession(watched, d, started) })
	wait.Go(func() {
		if r.awaitCancel(watched, d, rec.ID) {
			if err := r.Runners.Interrupt(dir); err != nil {
				r.log.Warn("the runner cannot be interrupted", "run", rec.ID, "error", err)
			}
		}
	})
	d.following.Store(dir)
	res, err := r.Runners.Follow(ctx, dir, progress.event)
	d.following.Store("")
	stop()
	wait.Wait()
	shipped(ctx)
	rec.Stages = progress.stages()
	if err == nil || errors.Is(err, ErrRunnerGone) { // otherwise the next start follows it, and tells
		r.notePhase(*rec, progress.ended, res)
	}
	return res, err
}

// cancelPoll is how often the record is asked whether another process was told
// to cancel a run that this one drives.
const cancelPoll = 2 * time.Second

// awaitCancel waits for a request to stop the run; false when ctx ended first.
func (r *Reconciler) awaitCancel(ctx context.Context, d *drive, id int64) bool {
	tick := time.NewTicker(cancelPoll)
	defer tick.Stop()
	for !r.cancelled(ctx, d, id) {
		select {
		case <-ctx.Done():
			return false
		case <-d.cancel:
			return true
		case <-tick.C:
		}
	}
	return true
}

// cancelled reports whether someone asked that the run stop.
func (r *Reconciler) cancelled(ctx context.Context, d *drive, id int64) bool {
	select {
	case <-d.cancel:
		return true
	default:
	}
	rec, err := r.Store.Record(ctx, id)
	return err == nil && rec.CancelledBy != ""
}
