package reconciler

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// byPolicy asks the operator's rules on tags about one that everything else
// admits, and gives the approvals that they ask for and what else they have to
// say. A denial wraps release.ErrRefused.
func (r *Reconciler) byPolicy(ctx context.Context, c candidate, seen Inspection, rel release.Release, d *config.Deployment) ([]release.Requirement, []string, error) {
	if r.JudgeTag == nil {
		return nil, nil, nil
	}
	facts := release.TagFacts{Repository: rel.Repository, Tag: rel.Tag, Target: rel.Target, Version: rel.Version,
		ObjectID: rel.ObjectID, Commit: rel.Commit, Annotated: c.ref.Annotated, Reachable: seen.Reachable,
		Tagger: rel.Tagger, TaggedAt: rel.TaggedAt, Message: rel.Message, Signed: rel.Signature != "", SignedBy: rel.SignedBy,
		Account: d.Account, Now: r.Now()}
	if err := r.earlier(ctx, &facts); err != nil {
		return nil, nil, err
	}
	verdict, err := r.JudgeTag(ctx, facts)
	if err != nil {
		return nil, nil, err
	}
	return verdict.Requirements, remarks(verdict), HeedTag(verdict)
}

// earlier fills in what the record knows of the target.
func (r *Reconciler) earlier(ctx context.Context, facts *release.TagFacts) error {
	status, err := r.Store.Target(ctx, facts.Target)
	if err != nil && !errors.Is(err, release.ErrNotFound) {
		return err
	}
	if run := status.Deployed; run != nil {
		facts.Deployed = &release.TagVersion{Version: run.Version, Tag: run.Tag, Commit: run.Commit, RunID: run.ID, At: run.FinishedAt}
	}
	seen, _, err := r.Store.Releases(ctx, store.ReleaseFilter{Target: &facts.Target, Limit: 50})
	for _, rel := range seen {
		facts.Earlier = append(facts.Earlier, release.TagVersion{Version: rel.Version, Tag: rel.Tag, Commit: rel.Commit,
			Decision: rel.Decision, At: rel.SeenAt})
	}
	return err
}

// HeedTag refuses a tag that policies deny.
func HeedTag(verdict release.PolicyVerdict) error {
	failing := release.Failing(verdict.Findings, release.SeverityError)
	if len(failing) == 0 {
		return nil
	}
	more := ""
	if n := len(failing) - 1; n > 0 {
		more = fmt.Sprintf(", and %d more", n)
	}
	return refuse("policy says no: %s (%s)%s", failing[0].Message, failing[0].Rule, more)
}

// remarks are what policies say of a tag beside denials.
func remarks(verdict release.PolicyVerdict) []string {
	var out []string
	for _, f := range verdict.Findings {
		if f.Severity != release.SeverityError {
			out = append(out, strings.TrimSpace(fmt.Sprintf("%s: %s (%s)", f.Severity, f.Message, f.Rule)))
		}
	}
	return out
}
