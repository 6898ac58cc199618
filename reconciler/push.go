package reconciler

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// The push of a state that an apply could not write is a phase of its own: the
// run goes on, in the hand of the instance that has the state, until its runner
// has ended. Then the run is accepted, or unknown again.

const (
	pushTree  = "push-tree" // a working copy of its own, in the attempt's folder
	keptState = "errored.tfstate.age"
)

// isPush reports whether a runner's folder is that of a push.
func isPush(runnerDir string) bool { return strings.HasPrefix(filepath.Base(runnerDir), "push-") }

// pushes reports whether a running run is one whose kept state is being pushed.
func pushes(rec store.Record) bool { return rec.Applying && rec.PushedBy != "" }

// requestPush carries out the verdict: it looks at what is kept and at the state
// that is there now, and lets the run go on where the one may replace the other.
func (r *Reconciler) requestPush(ctx context.Context, id int64, v release.Verdict) (release.Run, error) {
	rec, err := r.Store.Record(ctx, id)
	if err == nil {
		err = must(&rec, release.Unknown, "resolved")
	}
	if err == nil && rec.RanOn != r.Instance.ID {
		err = fmt.Errorf("%w: what the apply of run %d left is on instance %s: ask that one (--server)", release.ErrConflict, id, r.nameOf(ctx, rec.RanOn))
	}
	if err != nil {
		return rec.Run, err
	}
	e := r.gather(ctx, rec)
	if err := mayPush(id, e); err != nil {
		return rec.Run, err
	}
	r.freeOwn(ctx, rec, v.Actor, "the state that the run kept is to be pushed")
	entry := audit.Entry{Actor: v.Actor, Action: "run.push_requested", Reason: v.Reason}
	entry = withEvidence(entry, e)
	entry.Details["kept"] = e.Kept
	rec, err = r.Store.Update(ctx, id, store.Update{Entry: entry, Wake: true, Change: func(now *store.Record) error {
		if err := must(now, release.Unknown, "resolved"); err != nil {
			return err
		}
		if now.RunnerDir != rec.RunnerDir || now.RanOn != rec.RanOn {
			return fmt.Errorf("%w: run %d has changed just now; look at it again", release.ErrConflict, id)
		}
		now.State, now.Reason, now.Evidence = release.Running, because("pushing the kept state: asked by "+v.Actor, v.Reason), e
		now.Applying, now.PushedBy, now.FinishedAt = true, v.Actor, time.Time{}
		now.RunnerDir = r.applyDir(rec) // no runner of this push has begun
		now.Worker, now.Epoch = r.Instance.ID, now.Epoch+1
		return nil
	}})
	return rec.Run, err
}

// mayPush decides on evidence whether a kept state may be pushed.
func mayPush(id int64, e *release.Evidence) error {
	switch {
	case e.Runner == release.RunnerAlive:
		return fmt.Errorf("%w: the runner of run %d is still at work; wait until it has ended", release.ErrConflict, id)
	case e.Kept == nil:
		why := ""
		for _, u := range e.Unread {
			if strings.HasPrefix(u, erroredState) || strings.HasPrefix(u, "runner") {
				why = " (" + u + ")"
			}
		}
		return fmt.Errorf("%w: run %d has left no state to push%s: resolve it with --replan, --accept or --abandon", release.ErrConflict, id, why)
	case e.State.Now != nil:
		return e.Kept.MayReplace(*e.State.Now)
	}
	return nil // the engine looks at it by itself
}

// nameOf is how people call an instance.
func (r *Reconciler) nameOf(ctx context.Context, id string) string {
	if id == "" {
		return "of an earlier version"
	}
	all, err := r.Store.Instances(ctx)
	for _, i := range all {
		if err == nil && i.ID == id {
			return fmt.Sprintf("%s on %s (%s)", i.Name, i.Host, id)
		}
	}
	return id
}

// resumePush goes on with a push that was asked for: it starts a runner, or
// follows the one that was started.
func (r *Reconciler) resumePush(ctx context.Context, d *drive, rec store.Record) error {
	if !isPush(rec.RunnerDir) {
		return r.startPush(ctx, d, rec)
	}
	found, err := r.Runners.Find(r.path(rec.RunnerDir))
	switch {
	case err != nil:
		return err
	case found == FoundNever:
		return r.startPush(ctx, d, rec)
	case found == FoundGone:
		return r.notPushed(ctx, rec, pushUnseen, release.Result{})
	}
	res, err := r.follow(ctx, d, &rec)
	switch {
	case d.isLost():
		r.remember()
		return fmt.Errorf("%w: run %d was taken over by another instance", release.ErrConflict, rec.ID)
	case errors.Is(err, ErrRunnerGone):
		return r.notPushed(ctx, rec, pushUnseen, release.Result{})
	case err != nil:
		return err
	case res.Outcome == release.OutcomePassed:
		return r.pushed(ctx, rec, res)
	default:
		return r.notPushed(ctx, rec, res.Reason, res)
	}
}

const pushUnseen = "its runner is gone and its end was not seen; where the state's serial is above the kept one's now, it had passed: accept the run then"

// startPush makes a working copy, opens a session and starts the runner.
func (r *Reconciler) startPush(ctx context.Context, d *drive, rec store.Record) error {
	refuse := func(err error) error {
		if ctx.Err() != nil {
			return err
		}
		return r.notPushed(ctx, rec, reason(err), release.Result{})
	}
	if r.cancelled(ctx, d, rec.ID) {
		return refuse(errors.New("cancelled"))
	}
	of, err := r.deploymentOf(ctx, rec)
	if err != nil {
		return refuse(err)
	}
	attempt := attemptDir(rec.ID, rec.Attempt)
	tree := r.path(filepath.Join(attempt, pushTree))
	if err := os.RemoveAll(tree); err != nil {
		return refuse(err)
	}
	if err := r.writeTree(ctx, r.watches[rec.Repository], rec, tree); err != nil {
		return refuse(err)
	}
	folder := fmt.Sprintf("push-%d", r.lastFolder(rec, "push-")+1) // one is used once
	spec := r.spec(rec, of, release.PhasePush, folder)
	spec.WorkDir, spec.PlanFile = tree, ""
	spec.StateFile, spec.PlanIdentity = r.path(filepath.Join(r.applyDir(rec), keptState)), rec.PlanKey
	session, err := r.openSession(ctx, d, &spec, of)
	if err != nil {
		return refuse(err)
	}
	now, err := r.Store.Update(ctx, rec.ID, store.Update{
		Entry: audit.Entry{Action: "run.push_started", Details: map[string]any{"session": session}},
		Change: func(now *store.Record) error {
			if err := same(rec, *now); err != nil {
				return err
			}
			now.RunnerDir, now.LockOwner, now.RanOn = filepath.Join(attempt, folder), r.LockOwner, r.Instance.ID
			return nil
		}})
	if err != nil {
		return err
	}
	if err := r.mayBegin(); err != nil {
		return err
	}
	spec.BeginBefore = r.beginBefore()
	startErr := r.Runners.Start(ctx, spec)
	if startErr != nil && ctx.Err() == nil {
		found, err := r.Runners.Find(r.path(now.RunnerDir))
		if err != nil {
			return err
		}
		if found == FoundNever {
			rec = now
			return refuse(startErr)
		}
	}
	return r.resumePush(ctx, d, now)
}

// notPushed leaves a run unknown whose kept state is not, or perhaps not, in its place.
func (r *Reconciler) notPushed(ctx context.Context, rec store.Record, why string, res release.Result) error {
	return r.finish(ctx, rec, release.Unknown, "the kept state was not pushed: "+why+". "+whatNow(rec), res)
}

// pushed ends a run whose kept state is in its place as accepted.
func (r *Reconciler) pushed(ctx context.Context, rec store.Record, res release.Result) error {
	return r.persist(ctx, "end", func() error {
		ended, err := r.Store.Update(ctx, rec.ID, acceptPush(rec, res, func(now *store.Record) error { return same(rec, *now) }))
		if err == nil {
			r.log.Info("the state that an apply could not write was pushed", "run", ended.ID, "by", ended.PushedBy)
			_, err = r.ended(ended, nil)
		}
		return err
	})
}

// acceptPush is the change by which a push that passed settles its run.
func acceptPush(rec store.Record, res release.Result, check func(*store.Record) error) store.Update {
	why := "resolved by " + rec.PushedBy + ": the state that the apply could not write was pushed"
	details := map[string]any{"as": string(release.PushState)}
	if rec.Evidence != nil {
		details["kept"] = rec.Evidence.Kept
	}
	return store.Update{
		Entry: audit.Entry{Actor: rec.PushedBy, Action: "run.resolved", Reason: why, Details: details},
		Change: func(now *store.Record) error {
			if err := check(now); err != nil {
				return err
			}
			takeResult(now, rec, res)
			now.State, now.Reason, now.PlanKey, now.CancelledBy, now.Applying = release.Succeeded, why, "", "", false
			return nil
		}}
}
