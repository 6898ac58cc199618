package reconciler

import (
	"context"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// tellApply puts into an entry's details what an apply rests on: the plan, by
// whose word, and on which state.
func tellApply(details map[string]any, rec store.Record) {
	details["plan_digest"] = rec.PlanDigest
	if by := approvedBy(rec.Run); len(by) > 0 {
		details["approved_by"] = by
	}
	if before := rec.StateBefore; before != nil {
		details["serial_before"], details["lineage"] = before.Serial, before.Lineage
	}
}

// tellEnd adds what became of the state, where that is known.
func tellEnd(details map[string]any, rec store.Record, after *release.StateMark) {
	tellApply(details, rec)
	if after != nil {
		details["serial_after"], details["lineage"] = after.Serial, after.Lineage
	}
}

// approvedBy is who has approved the plan that the run has now.
func approvedBy(run release.Run) []string {
	var out []string
	for _, a := range run.Approvals {
		if a.PlanDigest == run.PlanDigest {
			out = append(out, a.Actor)
		}
	}
	return out
}

// stateAfter reads the state just after an apply ended; nil where it cannot be
// read in time, or could not be before.
func (r *Reconciler) stateAfter(ctx context.Context, d *drive, rec store.Record) *release.StateMark {
	if rec.StateBefore == nil {
		return nil
	}
	of, err := r.deploymentOf(ctx, rec)
	if err != nil {
		r.log.Debug("the state after an apply cannot be read", "run", rec.ID, "error", err)
		return nil
	}
	return r.stateBefore(ctx, d, of, rec.ID)
}
