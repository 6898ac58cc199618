package reconciler

import (
	"context"
	"errors"
	"fmt"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// errStopping: this instance takes up nothing more; another does.
var errStopping = fmt.Errorf("%w: this instance is stopping or draining", release.ErrUnavailable)

// stops reports whether this instance hands back what it has not begun to
// apply. An instance that is alone has nobody to hand to: its next start goes on.
func (r *Reconciler) stops() bool {
	if !r.Store.Shared() {
		return false
	}
	select {
	case <-r.stopping:
		return true
	default:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.isDraining
}

func (d *drive) isLost() bool {
	select {
	case <-d.lost:
		return true
	default:
		return false
	}
}

// awaitEnd ends a runner whose run is no longer in this instance's hand, or is
// to be handed back, until ctx ends. It is asked to stop as by a cancel: the
// engine saves what it knows and frees its lock, and nothing further is changed.
func (r *Reconciler) awaitEnd(ctx context.Context, d *drive, rec store.Record) {
	r.mu.Lock()
	drain := r.drain
	r.mu.Unlock()
	stopping := r.stopping
	if rec.Applying || !r.Store.Shared() {
		drain, stopping = nil, nil // an apply goes on to its end
	}
	select {
	case <-ctx.Done():
		return
	case <-d.lost:
	case <-drain:
	case <-stopping:
	}
	if err := r.Runners.Interrupt(r.path(rec.RunnerDir)); err != nil {
		r.log.Warn("the runner cannot be ended", "run", rec.ID, "error", err)
	}
}

// InterruptAll asks every runner that this process follows to stop gracefully:
// its engine finishes what it is at, saves the state and frees its lock.
func (r *Reconciler) InterruptAll() {
	r.mu.Lock()
	var dirs []string
	for _, d := range r.driving {
		if dir, ok := d.following.Load().(string); ok && dir != "" {
			dirs = append(dirs, dir)
		}
	}
	r.mu.Unlock()
	for _, dir := range dirs {
		if err := r.Runners.Interrupt(dir); err != nil {
			r.log.Warn("a runner cannot be interrupted", "dir", dir, "error", err)
		}
	}
}

// stoppedBefore is why a run is handed back when its worker stops.
const stoppedBefore = "its worker stopped before the apply"

// handBack gives a run that has not begun to apply to another worker, or to this
// one when it can again.
func (r *Reconciler) handBack(ctx context.Context, rec store.Record, why string) error {
	r.freeOwn(ctx, rec, "", why)
	err := r.persist(ctx, "hand back", func() error {
		return r.Store.HandBack(ctx, rec.ID, r.Instance.ID, rec.Epoch, why)
	})
	if err == nil {
		r.log.Info("a run was handed back before its apply", "run", rec.ID, "why", why)
		r.removeWork(rec.ID, rec.Attempt)
	}
	return err
}

// takeOver goes on with a run whose worker was declared dead: before its apply
// it starts over, in its apply nobody here knows what came of it.
func (r *Reconciler) takeOver(ctx context.Context, d *drive, rec store.Record, from string) error {
	r.log.Warn("a run was taken over from an instance without a sign of life", "run", rec.ID, "from", from, "applying", rec.Applying)
	r.metrics.taken.Inc()
	switch {
	case pushes(rec):
		return r.notPushed(ctx, rec, fmt.Sprintf("the instance %s that pushed it shows no sign of life, and its end was not seen", from), release.Result{})
	case rec.Applying:
		return r.finish(ctx, rec, release.Unknown, fmt.Sprintf("the instance %s that applied it shows no sign of life, and its end was not seen. If it comes back, what its runner came to is told here. ", from)+whatNow(rec), release.Result{})
	case rec.Stage(release.StageApproval).State == release.StagePassed:
		return r.apply(ctx, d, rec)
	default:
		rec.HandedBack++ // the fault was the worker's
		return r.startOver(ctx, rec)
	}
}

// remember makes testify look at once.
func (r *Reconciler) remember() {
	select {
	case r.recall <- struct{}{}:
	default:
	}
}

// testify attends to every run whose end is unknown.
func (r *Reconciler) testify(ctx context.Context) {
	var instances []store.Instance
	if r.Store.Shared() {
		var err error
		if instances, err = r.Store.Instances(ctx); err != nil {
			return // the database is away; there is a next time
		}
	}
	mine := map[int64]bool{}
	cursor := ""
	for {
		runs, next, err := r.Store.Runs(ctx, store.RunFilter{State: release.Unknown, Limit: 500, Cursor: cursor})
		if err != nil {
			return
		}
		for _, run := range runs {
			rec, err := r.Store.Record(ctx, run.ID)
			mine[run.ID] = err == nil && rec.RanOn == r.Instance.ID
			if err == nil && rec.State == release.Unknown {
				err = r.attend(ctx, rec, instances)
			}
			if err != nil && ctx.Err() == nil && !errors.Is(err, release.ErrConflict) {
				r.log.Warn("an unknown run cannot be attended to", "run", run.ID, "error", err)
			}
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	r.freeSettled(ctx, mine)
}

// freeSettled releases the locks of runs that were unknown at the last look and
// whose end was settled since, maybe by another instance: only here can their
// engine be known dead.
func (r *Reconciler) freeSettled(ctx context.Context, unknown map[int64]bool) {
	for id, mine := range r.unsettled {
		if _, still := unknown[id]; still || !mine {
			continue
		}
		if rec, err := r.Store.Record(ctx, id); err == nil {
			r.freeOwn(ctx, rec, "", "the run's end was settled")
		}
	}
	r.unsettled = unknown
}

// testifyTo tells what this instance knows of an unknown run whose runner it had
// started: it was silent for a while, and comes back. A runner that is still at
// work is asked to stop, because the run is no longer in this instance's hand.
func (r *Reconciler) testifyTo(ctx context.Context, rec store.Record) (settled bool, err error) {
	if !r.hasFolder(rec) {
		return false, nil
	}
	dir := r.path(rec.RunnerDir)
	found, err := r.Runners.Find(dir)
	switch {
	case err != nil:
		return false, err
	case found == FoundAlive:
		defer r.remember()
		return true, r.Runners.Interrupt(dir)
	case found != FoundDone:
		return false, nil // nobody knows
	}
	res, err := r.Runners.Follow(ctx, dir, func(release.Event) {})
	if err != nil || res.Outcome == release.OutcomeUnknown || res.Phase == release.PhasePush && res.Outcome != release.OutcomePassed {
		return false, err
	}
	still := func(now *store.Record) error {
		if now.State != release.Unknown || now.Attempt != rec.Attempt || now.RanOn != r.Instance.ID || now.RunnerDir != rec.RunnerDir {
			return fmt.Errorf("%w: run %d is %s now", release.ErrConflict, now.ID, now.State)
		}
		return nil
	}
	var change store.Update
	switch res.Phase {
	case release.PhasePush:
		change = acceptPush(rec, res, still)
	case release.PhaseApply:
		change = r.cameBack(res, still)
	default:
		return false, nil
	}
	ended, err := r.Store.Update(ctx, rec.ID, change)
	if errors.Is(err, release.ErrConflict) {
		return true, nil // somebody settled it
	}
	if err == nil {
		r.log.Info("an unknown run's end is known now", "run", rec.ID, "state", ended.State, "reason", ended.Reason)
		r.removeWork(rec.ID, rec.Attempt)
	}
	return err == nil, err
}

// cameBack settles an unknown run by the result of its apply.
func (r *Reconciler) cameBack(res release.Result, still func(*store.Record) error) store.Update {
	end, why := release.Succeeded, "its worker came back: the apply had passed"
	if res.Outcome != release.OutcomePassed {
		end, why = endOf(res.Outcome), "its worker came back: "+res.Reason
	}
	return store.Update{
		Entry: audit.Entry{Action: "run.resolved", Reason: why, Details: map[string]any{"as": "evidence", "worker": r.Instance.ID, "applied": res.Applied}},
		Change: func(now *store.Record) error {
			if err := still(now); err != nil {
				return err
			}
			takeResult(now, *now, res)
			now.State, now.Reason, now.PlanKey, now.Applying = end, why, "", false
			if end == release.Succeeded {
				now.Reason = ""
			}
			return nil
		}}
}
