package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/reconciler"
	"github.com/waymark-cd/waymark/release"
)

// askService goes on with what the service has on record.
func (x *explainer) askService(ctx context.Context, now time.Time) error {
	for _, ask := range []func(context.Context) error{x.onRecord, x.order} {
		if err := ask(ctx); err != nil {
			return err
		}
	}
	return nil
}

// isNotFound reports that the service does not have what it was asked for.
func isNotFound(err error) bool {
	var p *api.Problem
	return errors.As(err, &p) && p.Code == api.CodeNotFound
}

// onRecord says whether the service has seen the tag: it decides on each name once.
func (x *explainer) onRecord(ctx context.Context) error {
	const name = "record"
	q := api.ReleaseQuery{Target: x.target.String(), Limit: 500}
	for {
		page, err := x.service.Releases(ctx, q)
		if err != nil {
			return err
		}
		for _, r := range page.Releases {
			if r.Tag == x.e.Tag {
				x.add(name, stepUnknown, "the service has seen this tag at %s, at object %s, and %s it; it decides on a name once, and another object would be refused",
					r.SeenAt.UTC().Format(time.RFC3339), shortCommit(r.ObjectID), r.Decision)
				return nil
			}
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			x.add(name, stepPasses, "the service has not seen this tag")
			return nil
		}
	}
}

// order judges the version against what is deployed, or on its way.
func (x *explainer) order(ctx context.Context) error {
	t, err := x.service.Target(ctx, x.target.Env, x.target.Scope, x.target.Team)
	if err != nil && !isNotFound(err) {
		return err
	}
	var is reconciler.Standing
	if t.Deployed != nil {
		is.Deployed = &release.Run{ID: runNumber(t.Deployed.RunID), Version: t.Deployed.Version}
	}
	if r := t.LatestRun; r != nil {
		is.Latest = &release.Run{ID: runNumber(r.ID), Version: r.Version, Kind: release.Kind(r.Kind), State: release.State(r.State)}
	}
	passes := "nothing is deployed yet"
	if is.Deployed != nil {
		passes = fmt.Sprintf("version %s is deployed (run %d)", is.Deployed.Version, is.Deployed.ID)
	}
	return x.judged("order", reconciler.JudgeOrder(x.cfg, x.target, x.tag.Version, is, true), passes)
}

// runNumber reads an id that a service gave.
func runNumber(id string) int64 {
	n, _ := strconv.ParseInt(id, 10, 64) // 0 for what is no id, which is nobody's
	return n
}
