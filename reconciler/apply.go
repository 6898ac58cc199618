package reconciler

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// apply goes on with a run whose plan is approved.
func (r *Reconciler) apply(ctx context.Context, d *drive, rec store.Record) error {
	return r.applyPlan(ctx, d, rec, nil, nil)
}

// applyPlan records that the apply begins, with the digest of the plan, and
// then starts its runner: the entry is there before the effect. res is the
// planning runner's result where it is not recorded yet.
func (r *Reconciler) applyPlan(ctx context.Context, d *drive, rec store.Record, res *release.Result, keys map[string]string) error {
	if r.cancelled(ctx, d, rec.ID) {
		return r.finish(ctx, rec, release.Cancelled, "cancelled before the apply", orNone(res))
	}
	if late, err := r.putBackLate(ctx, rec); err != nil || late {
		return err
	}
	w := r.watches[rec.Repository]
	if w == nil {
		return r.finish(ctx, rec, release.Denied, fmt.Sprintf("repository %q is no longer configured", rec.Repository), orNone(res))
	}
	deployment, err := r.deploymentOf(ctx, rec) // another worker may have fetched the commit
	if err != nil && ctx.Err() != nil {
		return err
	}
	if err != nil {
		return r.finish(ctx, rec, release.Failed, "the configuration no longer fits the approved plan: "+reason(err), orNone(res))
	}
	if err := r.fetchPlan(ctx, d, w, rec); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return r.finish(ctx, rec, release.Failed, reason(err)+"; nothing was changed. Retry the run to plan again", orNone(res))
	}
	folder := r.nextApply(rec)
	spec := r.spec(rec, deployment, release.PhaseApply, folder)
	session, err := r.openSession(ctx, d, &spec, deployment)
	if err != nil && ctx.Err() == nil {
		return r.finish(ctx, rec, release.Failed, "nothing was changed: "+reason(err), orNone(res))
	}
	if err != nil {
		return err
	}
	details := map[string]any{}
	if session != "" {
		details["session"] = session
	}
	before := r.stateBefore(ctx, d, deployment, rec.ID)
	if may, err := r.mayApplyNow(ctx, d, rec, res, keys); err != nil || !may {
		return err
	}
	var now store.Record
	err = r.persist(ctx, "apply", func() (err error) {
		now, err = r.Store.Update(ctx, rec.ID, r.withResult(store.Update{
			Entry: audit.Entry{Action: "run.apply_started", Details: details},
			Change: func(now *store.Record) error {
				if err := same(rec, *now); err != nil {
					return err
				}
				if res != nil {
					takeResult(now, rec, *res)
				}
				now.Applying, now.RunnerDir = true, filepath.Join(attemptDir(rec.ID, rec.Attempt), folder)
				now.LockOwner, now.RanOn, now.StateBefore = r.LockOwner, r.Instance.ID, before
				tellApply(details, *now)
				return nil
			}}, res, keys))
		return err
	})
	if err != nil {
		return err
	}
	if err := r.mayBegin(); err != nil {
		return err
	}
	spec.BeginBefore = r.beginBefore()
	spec.PlanIdentity, spec.PlanDigest = now.PlanKey, now.PlanDigest
	startErr := r.Runners.Start(ctx, spec)
	if startErr != nil && ctx.Err() == nil {
		found, err := r.Runners.Find(r.path(now.RunnerDir))
		if err != nil {
			return err
		}
		if found == FoundNever {
			return r.finish(ctx, now, release.Failed, fmt.Sprintf("the apply could not be started, nothing was changed: %v", startErr), release.Result{})
		}
	}
	return r.resumeApply(ctx, d, now)
}

func orNone(res *release.Result) release.Result {
	if res == nil {
		return release.Result{}
	}
	return *res
}

// nextApply names the folder of an apply's runner. A folder is used once: where
// its runner provably never began, the next one gets the next number, also after
// the run was put aside.
func (r *Reconciler) nextApply(rec store.Record) string {
	last := filepath.Base(rec.RunnerDir)
	n, err := strconv.Atoi(strings.TrimPrefix(last, "apply-"))
	if !rec.Applying || err != nil {
		n = 0
	}
	return fmt.Sprintf("apply-%d", max(n, r.lastFolder(rec, "apply-"))+1)
}

// resumeApply follows the runner of an apply that was recorded as begun. A
// runner that is gone without a result leaves the run unknown: what it did is
// not known, so it is never done again by itself.
func (r *Reconciler) resumeApply(ctx context.Context, d *drive, rec store.Record) error {
	if _, err := os.Stat(r.path(attemptDir(rec.ID, rec.Attempt))); errors.Is(err, fs.ErrNotExist) {
		return r.lost(ctx, rec) // nothing is left to tell whether a runner began
	}
	found, err := r.Runners.Find(r.path(rec.RunnerDir))
	if err != nil {
		return err
	}
	switch found {
	case FoundNever:
		return r.applyPlan(ctx, d, rec, nil, nil)
	case FoundGone:
		return r.lost(ctx, rec)
	}
	res, err := r.follow(ctx, d, &rec)
	if d.isLost() {
		r.remember() // what its runner came to is told as evidence
		return fmt.Errorf("%w: run %d was taken over by another instance", release.ErrConflict, rec.ID)
	}
	if err == nil {
		rec.StateAfter = r.stateAfter(ctx, d, rec)
	}
	switch {
	case errors.Is(err, ErrRunnerGone):
		return r.lost(ctx, rec)
	case err != nil:
		return err
	case res.Outcome == release.OutcomePassed:
		return r.finish(ctx, rec, release.Succeeded, "", res)
	case res.Outcome == release.OutcomeUnknown:
		return r.finish(ctx, rec, release.Unknown, res.Reason+". "+whatNow(rec), res)
	default:
		return r.finish(ctx, rec, endOf(res.Outcome), res.Reason, res)
	}
}

// lost ends a run as unknown. It holds its target until it is resolved.
func (r *Reconciler) lost(ctx context.Context, rec store.Record) error {
	return r.finish(ctx, rec, release.Unknown, "the apply's runner is gone and its end was not seen. "+whatNow(rec), release.Result{})
}

// lookInto gathers the evidence of a run that has just become unknown, and does
// what its environment says of such runs.
func (r *Reconciler) lookInto(ctx context.Context, rec store.Record) {
	rec, err := r.keepEvidence(ctx, rec, "")
	if err == nil {
		err = r.replanByRule(ctx, rec, nil)
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, release.ErrConflict) {
		r.log.Warn("an unknown run cannot be looked into", "run", rec.ID, "error", err)
	}
}

// whatNow says what a person does about a run whose end is unknown.
func whatNow(rec store.Record) string {
	how := "--replan, --accept or --abandon"
	if pushes(rec) {
		how = "--push-state, " + how
	}
	return fmt.Sprintf("Look at its evidence (waymark runs show %d), the log and at what is there, then waymark runs resolve %[1]d %s; until then nothing else runs for %s",
		rec.ID, how, rec.Target)
}
