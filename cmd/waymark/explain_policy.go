package main

import (
	"context"
	"errors"
	"time"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/gitrepo"
	"github.com/waymark-cd/waymark/reconciler"
	"github.com/waymark-cd/waymark/release"
)

// cloneFacts are what a clone tells of a tag to policies on tags.
func cloneFacts(ctx context.Context, c *gitrepo.Clone, ref gitrepo.Ref) (release.TagFacts, error) {
	info, err := c.Tag(ctx, ref)
	if err != nil {
		return release.TagFacts{}, err
	}
	return release.TagFacts{ObjectID: ref.ObjectID, Commit: info.Commit, Annotated: info.Annotated, Tagger: info.Tagger, TaggedAt: info.TaggedAt,
		Message: info.Message, Signed: info.Signature != "", Now: time.Now()}, nil
}

// policy asks the operator's rules on tags, as the service does once everything
// else admits the tag. Where there are none, nothing is said.
func (x *explainer) policy(ctx context.Context, r config.Repository, c *gitrepo.Clone, seen inClone, d *config.Deployment) error {
	const name = "policy"
	judge, err := tagPolicies(ctx, x.cfg)
	if err != nil || judge == nil {
		return err
	}
	if c == nil || !seen.there {
		x.add(name, stepUnknown, "there are rules on tags, and the tag is not known: make it in a clone, and name that with --repo")
		return nil
	}
	facts, err := cloneFacts(ctx, c, seen.ref)
	if errors.Is(err, release.ErrRefused) {
		return nil // the tag itself is refused already
	}
	if err != nil {
		return err
	}
	facts.Repository, facts.Tag, facts.Target, facts.Version, facts.Account = r.Name, x.e.Tag, x.target, x.tag.Version.String(), d.Account
	if s := x.e.Signature; s != nil {
		facts.SignedBy = release.Signer{Name: s.Signer, Key: s.Key, Kind: s.Kind}
	}
	if facts.Reachable, _, err = c.Reachable(ctx, seen.commit); err != nil && !errors.Is(err, release.ErrUnavailable) {
		return err
	}
	if x.service != nil {
		if err := x.earlier(ctx, &facts); err != nil {
			return err
		}
	}
	verdict, err := judge(ctx, facts)
	if err == nil {
		err = reconciler.HeedTag(verdict)
	}
	if err != nil && x.service == nil && errors.Is(err, release.ErrRefused) {
		x.add(name, stepUnknown, "by what is known without a service: %s", reconciler.Reason(err))
		return nil
	}
	if err == nil && len(verdict.Requirements) > 0 {
		x.add(name, stepNeeds, "%s", reconciler.ListOf(verdict.Requirements))
		return nil
	}
	return x.judged(name, err, "the operator's rules on tags have no objection")
}

// earlier fills in what the service has on record of the target.
func (x *explainer) earlier(ctx context.Context, facts *release.TagFacts) error {
	t, err := x.service.Target(ctx, x.target.Env, x.target.Scope, x.target.Team)
	if err != nil && !isNotFound(err) {
		return err
	}
	if on := t.Deployed; on != nil {
		facts.Deployed = &release.TagVersion{Version: on.Version, Tag: on.Tag, Commit: on.Commit, RunID: runNumber(on.RunID), At: on.At}
	}
	page, err := x.service.Releases(ctx, api.ReleaseQuery{Target: x.target.String(), Limit: 50})
	for _, rel := range page.Releases {
		if rel.Tag != x.e.Tag { // what the service saw before this one
			facts.Earlier = append(facts.Earlier, release.TagVersion{Version: rel.Version, Tag: rel.Tag, Commit: rel.Commit, Decision: release.Decision(rel.Decision), At: rel.SeenAt})
		}
	}
	return err
}
