package reconciler

import (
	"context"
	"fmt"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// Decide carries out what a person says of a run and returns the run after it,
// for a retry or a replan the new one. Each verdict is an audit entry with its
// actor. A run in another state is release.ErrConflict.
func (r *Reconciler) Decide(ctx context.Context, id int64, v release.Verdict) (release.Run, error) {
	if v.Actor == "" {
		return release.Run{}, fmt.Errorf("%w verdict: it has no actor", release.ErrInvalid)
	}
	switch v.Action {
	case release.Approve:
		return r.approve(ctx, id, v)
	case release.Reject:
		return r.reject(ctx, id, v)
	case release.Cancel:
		return r.cancel(ctx, id, v)
	case release.Retry:
		return r.retry(ctx, id, audit.Entry{Actor: v.Actor, Action: "run.retried", Reason: v.Reason})
	case release.Resolve:
		return r.settle(ctx, id, v)
	case release.Override:
		return r.override(ctx, id, v)
	default:
		return release.Run{}, fmt.Errorf("%w verdict %q", release.ErrInvalid, v.Action)
	}
}

// must refuses a verdict on a run in another state than it is meant for.
func must(run *store.Record, state release.State, verb string) error {
	if run.State != state {
		return fmt.Errorf("%w: run %d is %s; only a run that is %s can be %s", release.ErrConflict, run.ID, run.State, state, verb)
	}
	return nil
}

// ended cleans up after a run that a verdict ended.
func (r *Reconciler) ended(rec store.Record, err error) (release.Run, error) {
	if err == nil && rec.State.Ended() {
		r.removeWork(rec.ID, rec.Attempt)
		r.noteEnd(rec)
	}
	return rec.Run, err
}

// cancel ends a run that waits at once, and asks the runner of one that runs to
// stop gracefully; what an interrupted apply has done stays in the state.
func (r *Reconciler) cancel(ctx context.Context, id int64, v release.Verdict) (release.Run, error) {
	now, err := r.Store.Run(ctx, id)
	if err != nil {
		return now, err
	}
	action := "run.cancelled"
	if now.State == release.Running {
		action = "run.cancel_requested"
	}
	rec, err := r.Store.Update(ctx, id, store.Update{
		Entry: audit.Entry{Actor: v.Actor, Action: action, Reason: v.Reason},
		Change: func(run *store.Record) error {
			if run.State != now.State {
				return fmt.Errorf("%w: run %d has just become %s; look at it and cancel again", release.ErrConflict, id, run.State)
			}
			switch run.State {
			case release.Queued, release.AwaitingApproval:
				r.closeStages(run, release.Cancelled)
				run.State, run.Reason, run.PlanKey = release.Cancelled, because("cancelled by "+v.Actor, v.Reason), ""
			case release.Running:
				run.CancelledBy, run.Reason = v.Actor, because("stopping: cancelled by "+v.Actor, v.Reason)
			default:
				return fmt.Errorf("%w: run %d is %s already", release.ErrConflict, id, run.State)
			}
			return nil
		}})
	if err == nil && rec.State == release.Running {
		r.mu.Lock()
		if d := r.driving[id]; d != nil {
			d.once.Do(func() { close(d.cancel) })
		}
		r.mu.Unlock()
	}
	return r.ended(rec, err)
}

func because(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
}

// retry queues a new run for the release of one that ended without success.
func (r *Reconciler) retry(ctx context.Context, id int64, entry audit.Entry) (release.Run, error) {
	run, err := r.Store.Run(ctx, id)
	if err != nil {
		return run, err
	}
	if err := mayRetry(run); err != nil {
		return run, err
	}
	terms, err := r.terms(ctx, run)
	if err != nil {
		return run, err
	}
	return r.Store.Requeue(ctx, id, entry, terms)
}

// terms are those on which another run for the release of a run is queued.
func (r *Reconciler) terms(ctx context.Context, run release.Run) (store.Admission, error) {
	env, ok := r.Config.Config.Environment(run.Target.Env)
	if !ok {
		return store.Admission{}, fmt.Errorf("%w: environment %q is no longer configured", release.ErrRefused, run.Target.Env)
	}
	status, err := r.Store.Target(ctx, run.Target)
	needs := env.RequirementsFor(run.Kind)
	return store.Admission{Info: status.TargetInfo, Approvals: release.MostRequired(0, needs), Requirements: needs,
		Pool: r.Config.Config.PoolOf(status.Target), ConfigDigest: r.Config.Config.Digest}, err
}

// settle ends an unknown run as a person, or its environment's rule, says.
func (r *Reconciler) settle(ctx context.Context, id int64, v release.Verdict) (release.Run, error) {
	end, why := release.Failed, ""
	switch v.As {
	case release.Accept:
		end, why = release.Succeeded, "resolved by "+v.Actor+": the change is there"
	case release.Abandon:
		why = "resolved by " + v.Actor + ": the change is not there"
	case release.Replan:
		why = "resolved by " + v.Actor + ": planned again by a new run"
	case release.PushState:
		return r.requestPush(ctx, id, v)
	default:
		return release.Run{}, fmt.Errorf("%w resolution %q: write replan, accept, abandon or push_state", release.ErrInvalid, v.As)
	}
	rec, err := r.Store.Record(ctx, id)
	if err == nil {
		err = must(&rec, release.Unknown, "resolved")
	}
	if err != nil {
		return rec.Run, err
	}
	r.freeOwn(ctx, rec, v.Actor, "the run's end is being settled") // first: whoever is next in line begins at once
	change := store.Update{
		Entry: audit.Entry{Actor: v.Actor, Action: "run.resolved", Reason: v.Reason, Details: map[string]any{"as": string(v.As)}},
		Change: func(run *store.Record) error {
			if err := must(run, release.Unknown, "resolved"); err != nil {
				return err
			}
			run.State, run.Reason, run.PlanKey, run.Applying = end, because(why, v.Reason), "", false
			return nil
		}}
	if v.As != release.Replan {
		return r.ended(r.Store.Update(ctx, id, change))
	}
	terms, err := r.terms(ctx, rec.Run)
	if err != nil {
		return rec.Run, err
	}
	rec, next, err := r.Store.Replan(ctx, id, change, audit.Entry{Actor: v.Actor, Action: "run.retried", Reason: "replan of an unknown run"}, terms)
	_, err = r.ended(rec, err)
	return next, err
}
