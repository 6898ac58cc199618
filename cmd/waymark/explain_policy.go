package main

import (
	"context"
	"errors"
	"time"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/reconciler"
	"github.com/waymark-cd/waymark/release"
)

// policy asks the operator's rules on tags, as the service does once everything
// else admits the tag, and gives the approvals that they ask for. Where there are
// none, nothing is said.
func (x *explainer) policy(ctx context.Context, r config.Repository, seen inClone, d *config.Deployment) ([]release.Requirement, error) {
	const name = "policy"
	switch {
	case x.judge == nil:
		return nil, nil
	case !seen.there:
		x.add(name, stepUnknown, "there are rules on tags, and the tag is not known: make it in a clone, and name that with --repo")
		return nil, nil
	}
	facts := release.TagFacts{Repository: r.Name, Tag: x.e.Tag, Target: x.target, Version: x.tag.Version.String(), Account: d.Account,
		ObjectID: seen.ref.ObjectID, Commit: seen.commit, Annotated: seen.ref.Annotated, Reachable: seen.onIt, Tagger: seen.info.Tagger,
		TaggedAt: seen.info.TaggedAt, Message: seen.info.Message, Signed: seen.info.Signature != "", Now: time.Now()}
	if s := x.e.Signature; s != nil {
		facts.SignedBy = release.Signer{Name: s.Signer, Key: s.Key, Kind: s.Kind}
	}
	if x.record != nil {
		x.record.tell(&facts)
	}
	verdict, err := x.judge(ctx, facts)
	if err == nil {
		err = reconciler.HeedTag(verdict)
	}
	if err != nil && x.record == nil && errors.Is(err, release.ErrRefused) {
		x.add(name, stepUnknown, "by what is known without a service: %s", reconciler.Reason(err))
		return nil, nil
	}
	if err == nil && len(verdict.Requirements) > 0 {
		x.add(name, stepNeeds, "%s", reconciler.ListOf(verdict.Requirements))
		return verdict.Requirements, nil
	}
	return nil, x.judged(name, err, "the operator's rules on tags have no objection")
}
