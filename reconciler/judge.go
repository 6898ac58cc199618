package reconciler

import (
	"context"
	"errors"
	"fmt"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
	"github.com/waymark-cd/waymark/tagparse"
)

// judge decides on one fetched tag. An error means that it could not be judged
// now; a refusal is no error.
func (r *Reconciler) judge(ctx context.Context, w *watch, c candidate, seen Inspection) (store.Admission, error) {
	a := store.Admission{Release: release.Release{Repository: w.repo.Name, Tag: c.ref.Name, Target: targetOf(c.tag),
		Version: c.tag.Version.String(), ObjectID: c.ref.ObjectID, Commit: seen.Commit, Tagger: seen.Tagger,
		TaggedAt: seen.TaggedAt, Message: seen.Message, Signature: seen.Signature, Author: seen.Author, Committer: seen.Committer, Decision: release.Refused}}
	d, err := r.admissible(ctx, w, c, seen, &a.Release)
	var proven Promotion
	if err == nil {
		_, proven, err = r.timely(ctx, a.Release.Target, release.Deploy, seen.Commit, false)
	}
	if err == nil {
		a.Requirements, a.Remarks, err = r.byPolicy(ctx, c, seen, a.Release, d)
	}
	switch {
	case errors.Is(err, release.ErrRefused), errors.Is(err, release.ErrInvalid):
		a.Release.Reason = reason(err)
		return a, nil
	case err != nil:
		return a, err
	}
	a.Details = proven.details()
	env, _ := r.Config.Config.Environment(c.tag.Env)
	a.Release.Decision = release.Admitted
	a.Info, a.Approvals, a.Supersede = infoOf(d), d.Approvals, env.Queue == "supersede"
	a.Requirements = append(env.Requirements(), a.Requirements...)
	a.Pool, a.ConfigDigest = r.Config.Config.PoolOf(targetOf(c.tag)), r.Config.Config.Digest
	return a, nil
}

// admissible holds a fetched tag against every rule that the service has for
// tags, and tells rel who signed it. Refusals wrap release.ErrRefused or
// release.ErrInvalid.
func (r *Reconciler) admissible(ctx context.Context, w *watch, c candidate, seen Inspection, rel *release.Release) (*config.Deployment, error) {
	if err := JudgeObject(w.repo, c.ref.Annotated, seen.Refusal); err != nil {
		return nil, err
	}
	if err := JudgeReachable(w.repo, seen.Commit, seen.Reachable); err != nil {
		return nil, err
	}
	signed, err := r.signedBy(ctx, w, c)
	if err != nil {
		return nil, err
	}
	rel.SignedBy = signed.By
	d, err := r.Config.Config.Resolve(config.ResolveInput{Repository: w.repo.Name, Tag: c.tag, Commit: seen.Commit,
		Files: w.remote.Files(seen.Commit)})
	if err != nil {
		return nil, err
	}
	if err := r.notOlder(ctx, targetOf(c.tag), c.tag.Version, true); err != nil {
		return nil, err
	}
	return d, nil
}

// nextVersion stands for a tag of a new version in messages.
const nextVersion = "<env>_<scope>/<team>/<new version>"

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{release.ErrRefused}, args...)...)
}

// notOlder is JudgeOrder by the record.
func (r *Reconciler) notOlder(ctx context.Context, t release.Target, version tagparse.Version, waiting bool) error {
	status, err := r.Store.Target(ctx, t)
	if errors.Is(err, release.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return JudgeOrder(r.Config.Config, t, version, Standing{status.Deployed, status.Latest}, waiting)
}

// reason is a refusal as people read it, without the sentinel's own word.
func reason(err error) string {
	text := err.Error()
	for _, prefix := range []string{release.ErrRefused.Error() + ": ", release.ErrInvalid.Error() + ": "} {
		for len(text) > len(prefix) && text[:len(prefix)] == prefix {
			text = text[len(prefix):]
		}
	}
	return text
}

func infoOf(d *config.Deployment) store.TargetInfo {
	return store.TargetInfo{Account: d.Account, Region: d.Region, Backend: store.BackendInfo{
		Kind: d.BackendLocation.Kind, Bucket: d.BackendLocation.Bucket, Key: d.BackendLocation.Key, Lock: d.BackendLocation.Lock}}
}
