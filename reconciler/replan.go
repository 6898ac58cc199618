package reconciler

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

const (
	// replanActor is who settles a run where its environment says so.
	replanActor = "waymark"
	// maxReplans is how often in a row that is done for one release: an apply that
	// is lost every time is no accident.
	maxReplans = 3
	// buriedAfter is how many heartbeats without a sign of life make an instance
	// certainly dead: one until it is declared dead, and two more.
	buriedAfter = 3
)

// attend does for an unknown run what can be done without a person: what its
// runner's instance knows of it is told, evidence is gathered where none is, and
// where the environment says so it is planned again.
func (r *Reconciler) attend(ctx context.Context, rec store.Record, instances []store.Instance) error {
	mine := rec.RanOn == r.Instance.ID
	if mine && rec.RunnerDir != "" {
		settled, err := r.testifyTo(ctx, rec)
		if err != nil || settled {
			return err
		}
	}
	if !mine && !r.buried(rec.RanOn, instances) {
		return nil // that instance attends to it
	}
	if e := rec.Evidence; e == nil || mine && (e.Runner == release.RunnerElsewhere || e.Runner == release.RunnerAlive) {
		var err error
		if rec, err = r.keepEvidence(ctx, rec, ""); err != nil {
			return err
		}
	}
	return r.replanByRule(ctx, rec, instances)
}

// replanByRule plans an unknown run again where its environment says so, nothing
// of it can be at work any more, and nothing that it made is known to be missing
// from the state.
func (r *Reconciler) replanByRule(ctx context.Context, rec store.Record, instances []store.Instance) error {
	env, ok := r.Config.Config.Environment(rec.Target.Env)
	if !ok || env.Unknown != "replan" || rec.State != release.Unknown || !r.certain(rec, instances) {
		return nil
	}
	if n, err := r.replans(ctx, rec); err != nil || n >= maxReplans {
		return err
	}
	_, err := r.settle(ctx, rec.ID, release.Verdict{Action: release.Resolve, As: release.Replan, Actor: replanActor,
		Reason: "unknown = \"replan\" in environment " + env.Name})
	if err == nil {
		r.log.Info("a run whose end is unknown is planned again", "run", rec.ID, "tag", rec.Tag)
	}
	return err
}

// certain reports whether nothing of a run is at work any more, and no state of
// it waits to be pushed.
func (r *Reconciler) certain(rec store.Record, instances []store.Instance) bool {
	e := rec.Evidence
	if e == nil || e.ErroredState || slices.ContainsFunc(e.Unread, func(s string) bool { return strings.HasPrefix(s, erroredState) }) {
		return false
	}
	return e.Runner.Dead() || rec.RanOn != r.Instance.ID && r.buried(rec.RanOn, instances)
}

// buried reports whether an instance has been declared dead for at least twice
// the heartbeat.
func (r *Reconciler) buried(id string, instances []store.Instance) bool {
	if id == "" || !r.Store.Shared() || instances == nil {
		return false
	}
	i := slices.IndexFunc(instances, func(i store.Instance) bool { return i.ID == id })
	return i < 0 || instances[i].Age >= buriedAfter*r.Heartbeat
}

// replans counts how often in a row the release of a run was planned again by rule.
func (r *Reconciler) replans(ctx context.Context, rec store.Record) (int, error) {
	runs, _, err := r.Store.Runs(ctx, store.RunFilter{Target: &rec.Target, Limit: 10})
	n := 0
	for _, run := range runs {
		if run.ReleaseID == rec.ReleaseID && run.ID <= rec.ID {
			if run.CreatedBy != replanActor {
				break
			}
			n++
		}
	}
	return n, err
}

// attendEvery is how often unknown runs and what ended runs left are looked at.
func (r *Reconciler) attendEvery() time.Duration { return min(sweepEvery, r.Heartbeat) }
