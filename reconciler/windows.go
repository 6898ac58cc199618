package reconciler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
	"github.com/waymark-cd/waymark/tagparse"
)

// clock is the time by which windows, freezes and soaks are judged: the database's
// where replicas share one.
func (r *Reconciler) clock(ctx context.Context) (time.Time, error) {
	if r.Store.Shared() {
		return r.Store.Clock(ctx)
	}
	return r.Now(), nil
}

// lookAgain is when a run is judged anew for which no opening is in sight.
const lookAgain = 24 * time.Hour

// JudgeOpening says until when a change to a target has to wait for windows and
// freezes, and for which; zero where it need not. latest is the latest time that
// the clock has shown: where that was set back since, both have to be open, so that
// a clock never opens what was shut.
func JudgeOpening(cfg *config.Config, t release.Target, now, latest time.Time, set []release.Freeze) (until time.Time, why string) {
	at := cfg.Opening(t, now, set)
	if at.Open && latest.After(now) {
		if at = cfg.Opening(t, latest, set); !at.Open {
			at.Which += fmt.Sprintf("; the clock was set back from %s", stamp(latest))
		}
	}
	switch {
	case at.Open:
		return time.Time{}, ""
	case at.Until.IsZero():
		return now.Add(lookAgain), at.Which + "; no opening is in sight"
	}
	return at.Until, at.Which
}

// opening is JudgeOpening by the record.
func (r *Reconciler) opening(ctx context.Context, t release.Target) (until time.Time, why string, err error) {
	now, err := r.clock(ctx)
	if err != nil {
		return time.Time{}, "", err
	}
	set, err := r.Store.FreezesOf(ctx, t, now)
	if err != nil {
		return time.Time{}, "", err
	}
	r.mu.Lock()
	latest := r.latest
	if now.After(latest) {
		r.latest = now
	}
	r.mu.Unlock()
	until, why = JudgeOpening(r.Config.Config, t, now, latest, set)
	return until, why, nil
}

// promotion is JudgePromotion by the record.
func (r *Reconciler) promotion(ctx context.Context, t release.Target, commit string) (Promotion, error) {
	now, err := r.clock(ctx)
	if err != nil {
		return Promotion{}, err
	}
	return JudgePromotion(ctx, r.Config.Config, r.Store, t, commit, now)
}

// pause is for what, and until when, a run has to wait.
type pause struct {
	until time.Time
	why   string
}

func (p pause) String() string { return "waits until " + stamp(p.until) + ": " + p.why }

// timely judges whether a change to a target may begin now: nil where it may. A
// change whose environment refuses to wait, or that lacks a proof, is an error that
// wraps release.ErrRefused. An override lets it go on in spite of windows and
// freezes, and of nothing else.
func (r *Reconciler) timely(ctx context.Context, t release.Target, kind release.Kind, commit string, overridden bool) (*pause, Promotion, error) {
	var proven Promotion
	if !kind.ChangesTarget() {
		return nil, proven, nil
	}
	var p pause
	var err error
	if kind == release.Deploy || kind == release.Rollback {
		if proven, err = r.promotion(ctx, t, commit); err != nil {
			return nil, proven, err
		}
	}
	if !overridden {
		if p.until, p.why, err = r.opening(ctx, t); err != nil {
			return nil, proven, err
		}
	}
	if p.until, p.why, err = JudgeTime(r.Config.Config, t, proven, p.until, p.why); err != nil || p.until.IsZero() {
		return nil, proven, err
	}
	return &p, proven, nil
}

// heldBack keeps a queued run waiting that may not begin now, and reports whether
// it did. What is refused is for begin to end.
func (r *Reconciler) heldBack(ctx context.Context, rec store.Record) (bool, error) {
	p, _, err := r.timely(ctx, rec.Target, rec.Kind, rec.Commit, rec.OverriddenBy != "")
	if errors.Is(err, release.ErrRefused) {
		return false, nil
	}
	if err != nil || p == nil {
		return false, err
	}
	return true, r.keepWaiting(ctx, rec, *p)
}

// inOrder judges a run that begins by what may have changed since it was queued.
// That it begins at its time is known already.
func (r *Reconciler) inOrder(ctx context.Context, rec store.Record) error {
	if _, _, err := r.timely(ctx, rec.Target, rec.Kind, rec.Commit, rec.OverriddenBy != ""); err != nil {
		return err
	}
	switch rec.Kind {
	case release.Deploy:
	case release.Destroy:
		return r.mayDestroy(rec.Target)
	default:
		return nil
	}
	version, err := tagparse.ParseVersion(rec.Version)
	if err != nil {
		return err
	}
	return r.notOlder(ctx, rec.Target, version, false)
}

// keepWaiting writes down for what a run waits, and logs it where that is new.
func (r *Reconciler) keepWaiting(ctx context.Context, rec store.Record, p pause) error {
	if rec.WaitUntil.Equal(p.until.Truncate(time.Millisecond)) && rec.Reason == p.String() {
		return nil
	}
	return r.persist(ctx, "wait", func() error {
		_, err := r.Store.Update(ctx, rec.ID, store.Update{Entry: waitingEntry(p), Change: func(now *store.Record) error {
			if now.State != rec.State || now.OverriddenBy != rec.OverriddenBy {
				return fmt.Errorf("%w: run %d has changed; it is judged anew", release.ErrConflict, rec.ID)
			}
			now.WaitUntil, now.Reason = p.until, p.String()
			return nil
		}})
		return err
	})
}

func waitingEntry(p pause) audit.Entry {
	return audit.Entry{Action: "run.waiting", Reason: p.why, Details: map[string]any{"until": stamp(p.until)}}
}

// mayApplyNow asks once more, just before an apply, whether the run may change its
// target now. Where it has to wait it is put aside with its plan and its approvals,
// and where it is refused it ends: then it reports that it must not go on. res and
// keys are the planning runner's where they are not recorded yet.
func (r *Reconciler) mayApplyNow(ctx context.Context, d *drive, rec store.Record, res *release.Result, keys map[string]string) (may bool, err error) {
	now, err := r.Store.Record(ctx, rec.ID) // somebody may have overridden, or taken that back
	if err != nil {
		return false, err
	}
	p, _, err := r.timely(ctx, rec.Target, rec.Kind, rec.Commit, now.OverriddenBy != "")
	switch {
	case errors.Is(err, release.ErrRefused):
		return false, r.finish(ctx, rec, release.Denied, reason(err), orNone(res))
	case err != nil || p == nil:
		return err == nil, err
	}
	if res != nil {
		if err := r.keepPlan(ctx, d, rec); err != nil {
			if ctx.Err() != nil {
				return false, err
			}
			return false, r.finish(ctx, rec, release.Failed, "the plan cannot be kept until the run may go on, nothing was changed: "+reason(err), *res)
		}
	}
	within, err := r.planLasts(ctx, rec)
	if err != nil {
		return false, err
	}
	return false, r.persist(ctx, "wait", func() error {
		clock, err := r.Store.Clock(ctx)
		if err != nil {
			return err
		}
		_, err = r.Store.Update(ctx, rec.ID, r.withResult(store.Update{Entry: waitingEntry(*p), Change: func(run *store.Record) error {
			if err := same(rec, *run); err != nil {
				return err
			}
			if res != nil {
				takeResult(run, rec, *res)
				run.Requirements, run.ApprovalsRequired = rec.Requirements, rec.ApprovalsRequired
				if within > 0 { // a plan that nobody has to approve expires as others do
					run.ApproveBy = clock.Add(within)
					run.SetStage(release.Stage{Name: release.StageApproval, State: release.StageRunning, Summary: "waits for its time", StartedAt: clock})
				}
			}
			run.State, run.RunnerDir, run.Applying = release.AwaitingApproval, "", false
			run.WaitUntil, run.Reason = p.until, p.String()
			return nil
		}}, res, keys))
		return err
	})
}

// planLasts is for how long a plan of the run can be approved and applied; 0: for ever.
func (r *Reconciler) planLasts(ctx context.Context, rec store.Record) (time.Duration, error) {
	cfg, err := r.configOf(ctx, rec)
	if err != nil {
		return 0, err
	}
	env, _ := cfg.Environment(rec.Target.Env)
	return env.ApprovalExpiry, nil
}

// resumeWaiting takes a run up again whose plan waits for its time alone.
func (r *Reconciler) resumeWaiting(ctx context.Context, rec store.Record) error {
	if len(rec.Open()) > 0 {
		return nil // it waits for people
	}
	p, _, err := r.timely(ctx, rec.Target, rec.Kind, rec.Commit, rec.OverriddenBy != "")
	if p != nil {
		return r.keepWaiting(ctx, rec, *p)
	}
	if err != nil && !errors.Is(err, release.ErrRefused) { // that ends before the apply
		return err
	}
	return r.persist(ctx, "resume", func() error {
		now, err := r.Store.Clock(ctx)
		if err != nil {
			return err
		}
		_, err = r.Store.Update(ctx, rec.ID, store.Update{Wake: true, Change: func(run *store.Record) error {
			if run.State != release.AwaitingApproval || run.OverriddenBy != rec.OverriddenBy || len(run.Open()) > 0 {
				return fmt.Errorf("%w: run %d has changed; it is judged anew", release.ErrConflict, rec.ID)
			}
			run.State, run.WaitUntil, run.Reason = release.Running, time.Time{}, ""
			stage := run.Stage(release.StageApproval)
			stage.State = release.StagePassed // what is recorded there goes on with the apply
			if !stage.StartedAt.IsZero() && stage.FinishedAt.IsZero() {
				stage.FinishedAt = now
			}
			run.SetStage(stage)
			return nil
		}})
		return err
	})
}

// override lets a run go on in spite of windows and freezes.
func (r *Reconciler) override(ctx context.Context, id int64, v release.Verdict) (release.Run, error) {
	if v.Reason == "" {
		return release.Run{}, fmt.Errorf("%w verdict: an override needs a reason", release.ErrInvalid)
	}
	seen, err := r.Store.Record(ctx, id)
	if err != nil {
		return release.Run{}, err
	}
	if proven, err := r.promotion(ctx, seen.Target, seen.Commit); err == nil && (seen.Kind == release.Deploy || seen.Kind == release.Rollback) {
		if until, why := proven.Waits(); !until.IsZero() {
			return seen.Run, refuse("run %d waits until %s, because %s: that is a proof, which nobody can override", id, stamp(until), why)
		}
	}
	entry := audit.Entry{Actor: v.Actor, Action: "run.overridden", Reason: v.Reason, Details: map[string]any{}}
	rec, err := r.Store.Update(ctx, id, store.Update{Entry: entry, Wake: true, Change: func(run *store.Record) error {
		if run.WaitUntil.IsZero() || run.State != release.Queued && run.State != release.AwaitingApproval {
			return fmt.Errorf("%w: run %d is %s and waits for no window and no freeze", release.ErrConflict, id, run.State)
		}
		entry.Details["waited_until"], entry.Details["waited_for"] = stamp(run.WaitUntil), run.Reason
		run.OverriddenBy, run.WaitUntil, run.Reason = v.Actor, time.Time{}, because("goes on outside of its time: "+v.Actor+" lets it", v.Reason)
		return nil
	}})
	return rec.Run, err
}

// wakeEvery is how often runs are looked for whose time of waiting is over.
const wakeEvery = time.Second

// wakeAll wakes runs when they need wait no longer, until ctx ends.
func (r *Reconciler) wakeAll(ctx context.Context) {
	tick := time.NewTicker(wakeEvery)
	defer tick.Stop()
	for {
		now, err := r.clock(ctx)
		if err == nil {
			err = r.Store.WakeDue(ctx, now)
		}
		if err != nil && ctx.Err() == nil {
			r.log.Error("looking for runs that have waited long enough", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// judgeAnew has every run that waits judged by the configuration that this instance
// begins with.
func (r *Reconciler) judgeAnew(ctx context.Context) {
	err := r.persist(ctx, "waiting runs", func() error { return r.Store.WakeWaiting(ctx) })
	if err != nil && ctx.Err() == nil {
		r.log.Error("runs that wait cannot be woken", "error", err)
	}
}
