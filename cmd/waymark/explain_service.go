package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/reconciler"
	"github.com/waymark-cd/waymark/release"
)

// record is what a service has on record of a tag's target.
type record struct {
	client   *api.Client
	target   api.Target               // zero where nothing was ever admitted for it
	releases []api.Release            // of the target, the newest first
	freezes  []release.Freeze         // in force, of all targets
	history  map[string][]release.Run // what was deployed, by target
}

// readRecord asks a service for what it knows of a target.
func readRecord(ctx context.Context, c *api.Client, t release.Target) (*record, error) {
	r := &record{client: c, history: map[string][]release.Run{}}
	var err error
	if r.target, err = c.Target(ctx, t.Env, t.Scope, t.Team); err != nil && !isNotFound(err) {
		return nil, err
	}
	q := api.ReleaseQuery{Target: t.String(), Limit: 500}
	for {
		page, err := c.Releases(ctx, q)
		if err != nil {
			return nil, err
		}
		r.releases = append(r.releases, page.Releases...)
		if q.Cursor = page.Next; q.Cursor == "" {
			break
		}
	}
	list, err := c.Freezes(ctx, false)
	if err != nil && !isNotFound(err) { // an older service has none
		return nil, err
	}
	for _, f := range list.Freezes {
		where, err := release.ParsePlace(f.Where)
		if err != nil {
			return nil, err
		}
		r.freezes = append(r.freezes, release.Freeze{ID: runNumber(f.ID), Where: where, Until: f.Until, Reason: f.Reason, CreatedBy: f.CreatedBy})
	}
	return r, nil
}

// isNotFound reports that the service does not have what it was asked for.
func isNotFound(err error) bool {
	var p *api.Problem
	return errors.As(err, &p) && p.Code == api.CodeNotFound
}

// runNumber reads an id that a service gave.
func runNumber(id string) int64 {
	n, _ := strconv.ParseInt(id, 10, 64) // 0 for what is no id, which is nobody's
	return n
}

// standing is what the order of versions is judged by.
func (r *record) standing() (is reconciler.Standing) {
	if d := r.target.Deployed; d != nil {
		is.Deployed = &release.Run{ID: runNumber(d.RunID), Version: d.Version}
	}
	if l := r.target.LatestRun; l != nil {
		is.Latest = &release.Run{ID: runNumber(l.ID), Version: l.Version, Kind: release.Kind(l.Kind), State: release.State(l.State)}
	}
	return is
}

// Deployments is reconciler.Ledger's.
func (r *record) Deployments(ctx context.Context, t release.Target, commit string) ([]release.Run, error) {
	all, known := r.history[t.String()]
	for q := (api.RunQuery{Target: t.String(), State: api.StateSucceeded, Limit: 500}); !known; {
		page, err := r.client.Runs(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, run := range page.Runs {
			if kind := release.Kind(run.Kind); kind == release.Deploy || kind == release.Rollback || kind == release.Destroy {
				all = append(all, release.Run{ID: runNumber(run.ID), Kind: kind, Tag: run.Tag, Version: run.Version, Commit: run.Commit, Target: t,
					State: release.Succeeded, FinishedAt: run.FinishedAt})
			}
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			slices.Reverse(all) // the oldest first
			known, r.history[t.String()] = true, all
		}
	}
	first := slices.IndexFunc(all, func(r release.Run) bool { return r.Kind != release.Destroy && r.Commit == commit })
	if first < 0 {
		return nil, nil
	}
	return all[first:], nil
}

// mostEarlier is how many earlier tags of a target policies are told of.
const mostEarlier = 50

// tell fills in what policies on tags are told of the record.
func (r *record) tell(facts *release.TagFacts) {
	if d := r.target.Deployed; d != nil {
		facts.Deployed = &release.TagVersion{Version: d.Version, Tag: d.Tag, Commit: d.Commit, RunID: runNumber(d.RunID), At: d.At}
	}
	for _, seen := range r.releases[:min(len(r.releases), mostEarlier)] {
		if seen.Tag == facts.Tag {
			continue // what the service saw before this one
		}
		facts.Earlier = append(facts.Earlier, release.TagVersion{Version: seen.Version, Tag: seen.Tag, Commit: seen.Commit,
			Decision: release.Decision(seen.Decision), At: seen.SeenAt})
	}
}

// onRecord says whether the service has seen the tag: it decides on each name once.
func (x *explainer) onRecord() {
	const name = "record"
	for _, r := range x.record.releases {
		if r.Tag == x.e.Tag {
			x.add(name, stepUnknown, "the service has seen this tag at %s, at object %s, and %s it; it decides on a name once, and another object would be refused",
				r.SeenAt.UTC().Format(time.RFC3339), shortCommit(r.ObjectID), r.Decision)
			return
		}
	}
	x.add(name, stepPasses, "the service has not seen this tag")
}

// order judges the version against what is deployed, or on its way.
func (x *explainer) order() error {
	const name = "order"
	env, _ := x.cfg.Environment(x.target.Env)
	if env.Downgrade == "allow" {
		x.add(name, stepPasses, "an older version may be deployed")
		return nil
	}
	if x.record == nil {
		x.add(name, stepUnknown, noService)
		return nil
	}
	is, passes := x.record.standing(), "nothing is deployed yet"
	if is.Deployed != nil {
		passes = fmt.Sprintf("version %s is deployed (run %d)", is.Deployed.Version, is.Deployed.ID)
	}
	return x.judged(name, reconciler.JudgeOrder(x.cfg, x.target, x.tag.Version, is, true), passes)
}

// promotion judges whether the commit has succeeded where the environment promotes
// from.
func (x *explainer) promotion(ctx context.Context, commit string, now time.Time) (reconciler.Promotion, error) {
	const name = "promotion"
	env, _ := x.cfg.Environment(x.target.Env)
	switch {
	case env.PromotesFrom == "":
		x.add(name, stepPasses, "%s promotes from no environment", env.Name)
		return reconciler.Promotion{}, nil
	case x.record == nil:
		x.add(name, stepUnknown, noService)
		return reconciler.Promotion{}, nil
	case commit == "":
		x.add(name, stepUnknown, "no commit is known")
		return reconciler.Promotion{}, nil
	}
	proven, err := reconciler.JudgePromotion(ctx, x.cfg, x.record, x.target, commit, now)
	if err != nil {
		return reconciler.Promotion{}, x.judged(name, err, "")
	}
	x.add(name, stepPasses, "%s", proven)
	return proven, nil
}

// window judges whether a run could begin now: by windows, freezes and the
// commit's soak.
func (x *explainer) window(proven reconciler.Promotion, now time.Time) error {
	const name = "window"
	var set []release.Freeze
	unseen := "; freezes that people have set are not known without a service"
	if x.record != nil {
		set, unseen = x.record.freezes, ""
	}
	until, why := reconciler.JudgeOpening(x.cfg, x.target, now, now, set)
	until, why, err := reconciler.JudgeTime(x.cfg, x.target, proven, until, why)
	if err == nil && !until.IsZero() {
		x.add(name, stepWaits, "%s", reconciler.SayWaits(until, why))
		return nil
	}
	at, passes := x.cfg.Opening(x.target, now, set), "nothing restricts when changes may happen"
	switch {
	case at.Which != "":
		passes = "changes may happen now, in " + at.Which
	case !at.Until.IsZero():
		passes = "changes may happen now"
	}
	if !at.Until.IsZero() {
		passes += ", until " + at.Until.UTC().Format(time.RFC3339)
	}
	return x.judged(name, err, passes+unseen)
}
