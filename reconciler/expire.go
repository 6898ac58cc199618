package reconciler

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// expireEvery is how often plans are looked for whose time is over.
const expireEvery = 5 * time.Second

// expireAll ends the runs whose plan may no longer be approved and applied, until
// ctx ends.
func (r *Reconciler) expireAll(ctx context.Context) {
	tick := time.NewTicker(expireEvery)
	defer tick.Stop()
	for {
		ids, err := r.Store.Expired(ctx)
		for _, id := range ids {
			err = errors.Join(err, r.expire(ctx, id))
		}
		if err != nil && ctx.Err() == nil {
			r.log.Error("looking for plans that nobody approved in time", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// expire ends a run that waits with a plan whose time is over, by the database's
// clock. Of several that do so at once, one does.
func (r *Reconciler) expire(ctx context.Context, id int64) error {
	now, err := r.Store.Clock(ctx)
	if err != nil {
		return err
	}
	seen, err := r.Store.Record(ctx, id)
	if err != nil {
		return err
	}
	why := expired(&seen)
	entry := audit.Entry{Action: "run.approval_expired", Reason: why, Details: map[string]any{"plan_digest": seen.PlanDigest,
		"approve_by": seen.ApproveBy.Format(time.RFC3339), "missing": texts(seen.Open()), "requested_by": seen.CreatedBy}}
	rec, err := r.Store.Update(ctx, id, store.Update{Entry: entry, Change: func(run *store.Record) error {
		if run.State != release.AwaitingApproval || !isLate(run, now) || run.PlanDigest != seen.PlanDigest || len(run.Approvals) != len(seen.Approvals) {
			return fmt.Errorf("%w: run %d has changed", release.ErrConflict, id)
		}
		r.closeStages(run, release.Rejected)
		run.State, run.Reason, run.PlanKey = release.Rejected, why, ""
		return nil
	}})
	if errors.Is(err, release.ErrConflict) {
		return nil // somebody was quicker; whoever looks next sees what is left
	}
	if err == nil {
		r.log.Info("a plan expired", "run", id, "tag", rec.Tag, "reason", rec.Reason)
	}
	_, err = r.ended(rec, err)
	return err
}

// expired says why the time of a run's plan is over.
func expired(run *store.Record) string {
	within := short(run.ApproveBy.Sub(run.Stage(release.StageApproval).StartedAt))
	open := run.Open()
	switch {
	case len(open) == 0 && len(run.Approvals) == 0:
		return fmt.Sprintf("the plan waited for longer than %s, within which it may be applied", within)
	case len(open) == 0:
		return fmt.Sprintf("the approved plan waited for longer than %s, within which it may be applied", within)
	case len(run.Approvals) == 0:
		return "nobody approved within " + within
	}
	return fmt.Sprintf("not all approved within %s: the plan still needed %s", within, listOf(open))
}

// short prints a duration without its zeros: 72h, not 72h0m0s.
func short(d time.Duration) string {
	s := d.Round(time.Second).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// putBackLate ends an approved run whose plan's time was over before its apply
// began, and reports whether it did.
func (r *Reconciler) putBackLate(ctx context.Context, rec store.Record) (late bool, err error) {
	if rec.ApproveBy.IsZero() || rec.Applying {
		return false, nil
	}
	now, err := r.Store.Clock(ctx)
	if err != nil || !isLate(&rec, now) {
		return false, err
	}
	err = r.persist(ctx, "expiry", func() error {
		_, err := r.Store.Update(ctx, rec.ID, store.Update{Change: func(run *store.Record) error {
			if err := same(rec, *run); err != nil {
				return err
			}
			run.State = release.AwaitingApproval
			return nil
		}})
		return err
	})
	if err != nil {
		return false, err
	}
	return true, r.expire(ctx, rec.ID)
}
