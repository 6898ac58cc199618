package reconciler

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// askApproval leaves the run waiting on its row, with what its plan needs.
func (r *Reconciler) askApproval(ctx context.Context, d *drive, rec store.Record, res release.Result, keys map[string]string) error {
	if err := r.keepPlan(ctx, d, rec); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return r.finish(ctx, rec, release.Failed, "the plan cannot be kept for approval, nothing was changed: "+reason(err), res)
	}
	within, err := r.planLasts(ctx, rec)
	if err != nil {
		return err
	}
	return r.persist(ctx, "approval", func() error {
		now, err := r.Store.Clock(ctx) // until when people may approve is told by the clock that all share
		if err != nil {
			return err
		}
		until := time.Time{}
		if within > 0 {
			until = now.Add(within)
		}
		_, err = r.Store.Update(ctx, rec.ID, r.withResult(store.Update{
			Entry: audit.Entry{Action: "run.approval_requested", Details: requested(rec, *res.Plan, until)},
			Change: func(run *store.Record) error {
				if err := same(rec, *run); err != nil {
					return err
				}
				takeResult(run, rec, res)
				run.State, run.RunnerDir, run.Approvals = release.AwaitingApproval, "", nil
				run.Requirements, run.ApprovalsRequired, run.ApproveBy = rec.Requirements, rec.ApprovalsRequired, until
				summary := "needs " + listOf(run.Open())
				run.Reason = "the plan " + summary + ": waymark runs approve " + release.FormatID(run.ID)
				run.SetStage(release.Stage{Name: release.StageApproval, State: release.StageRunning, Summary: summary, StartedAt: now})
				return nil
			}}, &res, keys))
		return err
	})
}

// requested is what the audit log keeps of a plan that needs approvals.
func requested(rec store.Record, plan release.PlanSummary, until time.Time) map[string]any {
	details := map[string]any{"plan_digest": plan.Digest, "changes": plan.Changes,
		"approvals_required": rec.ApprovalsRequired, "requirements": texts(rec.Requirements)}
	if !until.IsZero() {
		details["approve_by"] = until.Format(time.RFC3339)
	}
	return details
}

// requireOf puts into a run what its plan needs: what it was queued with, and what
// the policies ask for of this code and this plan.
func requireOf(rec *store.Record, planned []release.Requirement) {
	all := release.Unplanned(rec.Requirements)
	if len(all) == 0 && rec.ApprovalsRequired > 0 && len(rec.Requirements) == 0 { // queued before there were requirements
		all = []release.Requirement{{Count: rec.ApprovalsRequired, Why: "environment " + rec.Target.Env, Of: release.OfEnvironment}}
	}
	for _, q := range planned {
		q.Count, q.Of = max(1, q.Count), release.OfPlan
		all = append(all, q)
	}
	rec.Requirements, rec.ApprovalsRequired = all, release.MostRequired(0, all)
}

func texts(all []release.Requirement) []string {
	out := make([]string, len(all))
	for i, q := range all {
		out[i] = q.String()
	}
	return out
}

// listOf prints requirements as one part of a sentence.
func listOf(all []release.Requirement) string { return strings.Join(texts(all), " and ") }

// approve adds a person's yes to a plan. With the last that was missing the run
// goes on. Of several who approve at once each counts, one after the other.
func (r *Reconciler) approve(ctx context.Context, id int64, v release.Verdict) (release.Run, error) {
	rec, err := r.Store.Record(ctx, id)
	if err == nil {
		err = must(&rec, release.AwaitingApproval, "approved")
	}
	if err == nil {
		err = r.outsider(ctx, rec, v)
	}
	if err != nil {
		return rec.Run, err
	}
	now, err := r.Store.Clock(ctx)
	if err != nil {
		return rec.Run, err
	}
	entry := audit.Entry{Actor: v.Actor, Action: "run.approved", Reason: v.Reason, Details: map[string]any{}}
	complete := false
	change := func(run *store.Record) error {
		if err := mayApprove(run, v, now); err != nil {
			return err
		}
		was := accepting(run.Open(), v)
		run.Approvals = append(run.Approvals, release.Approval{Actor: v.Actor, Emails: v.Emails, Groups: v.Groups, PlanDigest: run.PlanDigest, At: now})
		open := run.Open()
		entry.Details["plan_digest"], entry.Details["groups"], entry.Details["requested_by"] = run.PlanDigest, v.Groups, run.CreatedBy
		entry.Details["requirements"], entry.Details["missing"] = texts(was), texts(open)
		stage := run.Stage(release.StageApproval)
		if complete = len(open) == 0; complete {
			run.State, run.Reason = release.Running, ""
			stage.State, stage.FinishedAt, stage.Summary = release.StagePassed, now, "approved by "+approvers(run.Approvals)
		} else {
			stage.Summary = "approved by " + approvers(run.Approvals) + "; needs " + listOf(open)
			run.Reason = "the plan still needs " + listOf(open) + ": waymark runs approve " + release.FormatID(id)
		}
		run.SetStage(stage)
		return nil
	}
	// Whether this approval is the last one is known inside the transaction
	// alone; a call that wakes a waiting run does nothing.
	rec, err = r.Store.Update(ctx, id, store.Update{Entry: entry, Change: change, Wake: true})
	if err == nil && complete {
		r.noteApproval(rec)
		r.log.Info("a plan is approved", "run", id, "by", v.Actor)
	}
	return rec.Run, err
}

// mayApprove refuses an approval that the run's own record speaks against.
func mayApprove(run *store.Record, v release.Verdict, now time.Time) error {
	if err := must(run, release.AwaitingApproval, "approved"); err != nil {
		return err
	}
	if err := seen(run, v); err != nil {
		return err
	}
	open := run.Open()
	switch {
	case isLate(run, now):
		return fmt.Errorf("%w: the plan of run %d could be approved until %s: it ends as rejected; retry it then, to plan again",
			release.ErrConflict, run.ID, run.ApproveBy.Format(time.RFC3339))
	case hasGoneBack(run, now):
		return fmt.Errorf("%w: by the database's clock it is %s, before the plan of run %d was made, so nothing tells until when it counts: set the clock right, then approve",
			release.ErrConflict, now.Format(time.RFC3339), run.ID)
	case len(open) == 0:
		return fmt.Errorf("%w: run %d has all the approvals that it needs", release.ErrConflict, run.ID)
	}
	for _, a := range run.Approvals {
		if a.PlanDigest == run.PlanDigest && isSame(a, v) {
			return fmt.Errorf("%w: %s has approved run %d already; another person must", release.ErrConflict, a.Actor, run.ID)
		}
	}
	if len(accepting(open, v)) == 0 {
		return fmt.Errorf("%w: an approval by %s does not count for run %d, which needs %s", release.ErrRefused, v.Actor, run.ID, listOf(open))
	}
	return nil
}

// seen refuses a verdict on a plan that is no longer the run's.
func seen(run *store.Record, v release.Verdict) error {
	if v.PlanDigest == "" || v.PlanDigest == run.PlanDigest {
		return nil
	}
	return fmt.Errorf("%w: the plan of run %d was replaced: look at it again (waymark runs show %d)", release.ErrConflict, run.ID, run.ID)
}

// isLate reports whether a plan may be neither approved nor applied any more.
func isLate(run *store.Record, now time.Time) bool {
	return !run.ApproveBy.IsZero() && !now.Before(run.ApproveBy)
}

// clocksDiffer is by how much the clocks of one database's servers may differ.
const clocksDiffer = time.Minute

// hasGoneBack reports whether the clock by which a plan expires was set back
// behind the plan's making.
func hasGoneBack(run *store.Record, now time.Time) bool {
	return !run.ApproveBy.IsZero() && now.Add(clocksDiffer).Before(run.Stage(release.StageApproval).StartedAt)
}

// accepting lists the requirements for which an approval by this person counts.
func accepting(all []release.Requirement, v release.Verdict) []release.Requirement {
	var out []release.Requirement
	for _, q := range all {
		if q.Accepts(v.Actor, v.Groups) {
			out = append(out, q)
		}
	}
	return out
}

func approvers(all []release.Approval) string {
	names := make([]string, len(all))
	for i, a := range all {
		names[i] = a.Actor
	}
	return strings.Join(names, ", ")
}

func (r *Reconciler) reject(ctx context.Context, id int64, v release.Verdict) (release.Run, error) {
	if v.Reason == "" {
		return release.Run{}, fmt.Errorf("%w verdict: a rejection needs a reason", release.ErrInvalid)
	}
	entry := audit.Entry{Actor: v.Actor, Action: "run.rejected", Reason: v.Reason, Details: map[string]any{}}
	rec, err := r.Store.Update(ctx, id, store.Update{Entry: entry,
		Change: func(run *store.Record) error {
			if err := must(run, release.AwaitingApproval, "rejected"); err != nil {
				return err
			}
			if err := seen(run, v); err != nil {
				return err
			}
			entry.Details["plan_digest"], entry.Details["groups"], entry.Details["requested_by"] = run.PlanDigest, v.Groups, run.CreatedBy
			entry.Details["missing"] = texts(run.Open())
			r.closeStages(run, release.Rejected)
			run.State, run.Reason, run.PlanKey = release.Rejected, fmt.Sprintf("rejected by %s: %s", v.Actor, v.Reason), ""
			return nil
		}})
	return r.ended(rec, err)
}
