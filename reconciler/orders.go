package reconciler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
	"github.com/waymark-cd/waymark/tagparse"
)

// Order queues a run that a person asks for, and returns it. What a rule forbids is
// release.ErrRefused, what the target's state does not allow release.ErrConflict.
func (r *Reconciler) Order(ctx context.Context, o release.Order) (release.Run, error) {
	if o.Actor == "" {
		return release.Run{}, fmt.Errorf("%w order: it has no actor", release.ErrInvalid)
	}
	if _, ok := r.Config.Config.Environment(o.Target.Env); !ok {
		return release.Run{}, refuse("environment %q is not configured", o.Target.Env)
	}
	switch o.Kind {
	case release.Rollback:
		return r.rollBack(ctx, o)
	case release.Destroy:
		return r.destroy(ctx, o)
	case release.Drift:
		return r.lookForDrift(ctx, o)
	case release.PlanOnly:
		return r.speculate(ctx, o)
	default:
		return release.Run{}, fmt.Errorf("%w order: a run of kind %q cannot be asked for", release.ErrInvalid, o.Kind)
	}
}

// needsReason refuses an order that changes a target without saying why.
func needsReason(o release.Order) error {
	if o.Reason == "" {
		return fmt.Errorf("%w order: a %s needs a reason", release.ErrInvalid, o.Kind)
	}
	return nil
}

// rollBack queues a run for an earlier release. It is judged as a tag's run is, but
// for the order of versions.
func (r *Reconciler) rollBack(ctx context.Context, o release.Order) (release.Run, error) {
	if err := needsReason(o); err != nil {
		return release.Run{}, err
	}
	history, err := r.Store.Deployments(ctx, o.Target, "")
	if err != nil {
		return release.Run{}, err
	}
	to, err := earlier(history, o)
	if err != nil {
		return release.Run{}, err
	}
	rec, err := r.Store.Record(ctx, to.ID)
	if err != nil {
		return release.Run{}, err
	}
	if err := r.mayReturn(ctx, rec); err != nil {
		return release.Run{}, err
	}
	_, proven, err := r.timely(ctx, o.Target, release.Rollback, rec.Commit, false)
	if err != nil {
		return release.Run{}, err
	}
	details := map[string]any{"of": release.FormatID(to.ID), "version": rec.Version, "from": history[len(history)-1].Version}
	for name, value := range proven.details() {
		details[name] = value
	}
	return r.place(ctx, rec, o, audit.Entry{Action: "run.rollback_requested", Details: details})
}

// mayReturn judges the release of a rollback by what may have changed since it was
// deployed: the configuration may no longer know it, or ask for a signature that it
// does not have. That its tag is still there is for the store to see.
func (r *Reconciler) mayReturn(ctx context.Context, rec store.Record) error {
	tag, err := tagparse.Parse(rec.Tag)
	if err == nil {
		err = r.Config.Config.Admit(rec.Repository, tag)
	}
	if err != nil {
		return err
	}
	rel, err := r.Store.Release(ctx, rec.ReleaseID)
	if err != nil {
		return err
	}
	if env, _ := r.Config.Config.Environment(rec.Target.Env); env.RequireSignature && rel.SignedBy == (release.Signer{}) {
		return refuse("tag %s was deployed without a signature, and %s requires one now: push a signed tag with a new version", rec.Tag, env.Name)
	}
	return nil
}

// earlier finds the run whose release a rollback goes back to.
func earlier(history []release.Run, o release.Order) (release.Run, error) {
	stack := deployedNow(history)
	if len(stack) == 0 {
		return release.Run{}, fmt.Errorf("%w: nothing is deployed to %s", release.ErrConflict, o.Target)
	}
	now := stack[len(stack)-1]
	if o.Version == "" {
		if len(stack) < 2 {
			return release.Run{}, fmt.Errorf("%w: before version %s nothing was deployed to %s", release.ErrConflict, now.Version, o.Target)
		}
		return stack[len(stack)-2], nil
	}
	if isVersion(now, o.Version) {
		return release.Run{}, fmt.Errorf("%w: version %s is what is deployed to %s", release.ErrConflict, now.Version, o.Target)
	}
	var known []string
	for _, run := range slices.Backward(history) {
		if run.Kind != release.Destroy && isVersion(run, o.Version) {
			return run, nil
		}
		if run.Kind != release.Destroy && !slices.Contains(known, run.Version) && len(known) < 8 {
			known = append(known, run.Version)
		}
	}
	return release.Run{}, fmt.Errorf("version %.64q: %w: it never succeeded for %s; these did: %s", o.Version, release.ErrNotFound, o.Target, strings.Join(known, ", "))
}

func isVersion(run release.Run, version string) bool {
	a, err1 := tagparse.ParseVersion(run.Version)
	b, err2 := tagparse.ParseVersion(version)
	return err1 == nil && err2 == nil && tagparse.Compare(a, b) == 0
}

// deployedNow is what lies on each other in a target: a deploy is laid on top, a
// rollback takes off what lies on its release, and a destroy everything.
func deployedNow(history []release.Run) []release.Run {
	var stack []release.Run
	for _, run := range history {
		under := slices.IndexFunc(stack, func(s release.Run) bool { return s.Commit == run.Commit && s.Version == run.Version })
		switch {
		case run.Kind == release.Destroy:
			stack = nil
			continue
		case under >= 0:
			stack = stack[:under]
		}
		stack = append(stack, run)
	}
	return stack
}

// destroy queues the removal of what is deployed.
func (r *Reconciler) destroy(ctx context.Context, o release.Order) (release.Run, error) {
	if err := needsReason(o); err != nil {
		return release.Run{}, err
	}
	if o.Confirm != o.Target.String() {
		return release.Run{}, fmt.Errorf("%w order: a destroy is confirmed by the target itself, %s", release.ErrInvalid, o.Target)
	}
	if err := r.mayDestroy(o.Target); err != nil {
		return release.Run{}, err
	}
	if _, _, err := r.timely(ctx, o.Target, release.Destroy, "", false); err != nil {
		return release.Run{}, err
	}
	rec, err := r.lastOf(ctx, o.Target)
	if err != nil {
		return release.Run{}, err
	}
	return r.place(ctx, rec, o, audit.Entry{Action: "run.destroy_requested", Details: map[string]any{"of": release.FormatID(rec.ID), "version": rec.Version}})
}

func (r *Reconciler) mayDestroy(t release.Target) error {
	if env, _ := r.Config.Config.Environment(t.Env); env.Destroy != "allow" {
		return refuse("%s does not let targets be destroyed: set destroy = \"allow\" for it", t.Env)
	}
	return nil
}

// lastOf is the run whose code knows what is there: the deployed one, or where none
// ever succeeded the last that planned to.
func (r *Reconciler) lastOf(ctx context.Context, t release.Target) (store.Record, error) {
	status, err := r.Store.Target(ctx, t)
	if err != nil {
		return store.Record{}, err
	}
	if status.Destroyed != nil {
		return store.Record{}, fmt.Errorf("%w: %s is destroyed already (run %d)", release.ErrConflict, t, status.Destroyed.ID)
	}
	last := status.Deployed
	if last == nil {
		last = status.Latest
	}
	if last == nil || last.StartedAt.IsZero() {
		return store.Record{}, fmt.Errorf("%w: nothing is deployed to %s", release.ErrConflict, t)
	}
	return r.Store.Record(ctx, last.ID)
}

// lookForDrift queues a plan of what changed outside, by the code that is deployed.
func (r *Reconciler) lookForDrift(ctx context.Context, o release.Order) (release.Run, error) {
	if o.Of != 0 {
		return r.refreshEvidence(ctx, o)
	}
	status, err := r.Store.Target(ctx, o.Target)
	if err != nil {
		return release.Run{}, err
	}
	if status.Deployed == nil {
		return release.Run{}, fmt.Errorf("%w: nothing is deployed to %s", release.ErrConflict, o.Target)
	}
	rec, err := r.Store.Record(ctx, status.Deployed.ID)
	if err != nil {
		return release.Run{}, err
	}
	return r.drifts(ctx, rec, o)
}

func (r *Reconciler) drifts(ctx context.Context, rec store.Record, o release.Order) (release.Run, error) {
	return r.place(ctx, rec, o, audit.Entry{Action: "run.drift_requested", Details: map[string]any{"of": release.FormatID(rec.ID), "version": rec.Version}})
}

// refreshEvidence queues a look for drift by the code of a run whose end is unknown,
// as part of its evidence: it shows what the apply made of what the state knows.
func (r *Reconciler) refreshEvidence(ctx context.Context, o release.Order) (release.Run, error) {
	unknown, err := r.Store.Record(ctx, o.Of)
	if err == nil {
		err = must(&unknown, release.Unknown, "looked into")
	}
	if err != nil {
		return release.Run{}, err
	}
	run, err := r.drifts(ctx, unknown, o)
	if err != nil {
		return run, err
	}
	_, err = r.Store.Update(ctx, o.Of, store.Update{Entry: audit.Entry{Actor: o.Actor, Action: "run.evidence", Reason: "a look at what is there was asked for",
		Details: map[string]any{"refresh": release.FormatID(run.ID)}}, Change: func(now *store.Record) error {
		if err := must(now, release.Unknown, "looked into"); err != nil {
			return err
		}
		if now.Evidence == nil {
			now.Evidence = &release.Evidence{GatheredAt: r.Now().UTC(), Instance: r.Instance.ID, Runner: release.RunnerUntold, RunnerOn: now.RanOn}
		}
		now.Evidence.Refresh = run.ID
		return nil
	}})
	return run, err
}

// speculate queues a plan that is never applied.
func (r *Reconciler) speculate(ctx context.Context, o release.Order) (release.Run, error) {
	var rec store.Record
	var err error
	switch {
	case (o.Tag == "") == (o.Ref == ""):
		return release.Run{}, fmt.Errorf("%w order: a plan is of a tag or of a ref, one of the two", release.ErrInvalid)
	case o.Tag != "":
		rec, err = r.taggedCode(ctx, o)
	default:
		rec, err = r.untaggedCode(ctx, o)
	}
	if err != nil {
		return release.Run{}, err
	}
	return r.place(ctx, rec, o, audit.Entry{Action: "run.plan_requested", Details: map[string]any{"ref": o.Ref, "version": rec.Version}})
}

// taggedCode finds the tag that is to be planned, which need not have been admitted.
func (r *Reconciler) taggedCode(ctx context.Context, o release.Order) (rec store.Record, err error) {
	tag, err := tagparse.Parse(o.Tag)
	if err != nil {
		return rec, fmt.Errorf("%w: %w", release.ErrInvalid, err)
	}
	if targetOf(tag) != o.Target {
		return rec, fmt.Errorf("%w order: tag %s is not of %s", release.ErrInvalid, o.Tag, o.Target)
	}
	var found []*watch
	var ref Ref
	for _, repo := range r.Config.Config.Repositories {
		if o.Repository != "" && repo.Name != o.Repository {
			continue
		}
		listing, err := r.watches[repo.Name].list(ctx)
		if err != nil {
			return rec, err
		}
		if i, ok := slices.BinarySearchFunc(listing.Tags, o.Tag, func(a Ref, name string) int { return strings.Compare(a.Name, name) }); ok {
			found, ref = append(found, r.watches[repo.Name]), listing.Tags[i]
		}
	}
	switch {
	case len(found) == 0:
		return rec, fmt.Errorf("tag %s: %w: no repository shows it; push it, or plan a commit with --ref", o.Tag, release.ErrNotFound)
	case len(found) > 1:
		return rec, fmt.Errorf("%w: several repositories have tag %s: name one with --repository", release.ErrConflict, o.Tag)
	}
	w := found[0]
	if err := r.Config.Config.Admit(w.repo.Name, tag); err != nil {
		return rec, err
	}
	seen, err := w.inspect(ctx, []Ref{ref})
	if err != nil {
		return rec, err
	}
	if err := JudgeObject(w.repo, true, seen[0].Refusal); err != nil {
		return rec, err
	}
	if env, _ := r.Config.Config.Environment(o.Target.Env); env.Speculative != "any" {
		if err := JudgeReachable(w.repo, seen[0].Commit, seen[0].Reachable); err != nil {
			return rec, err
		}
	}
	return store.Record{ObjectID: ref.ObjectID, Run: release.Run{Repository: w.repo.Name, Tag: o.Tag, Version: tag.Version.String(),
		Commit: seen[0].Commit, Target: o.Target}}, nil
}

// untaggedCode finds the branch or commit that is to be planned. Where the code
// wants to know its version, it is told the one that is deployed, so that the plan
// shows what the code changes.
func (r *Reconciler) untaggedCode(ctx context.Context, o release.Order) (rec store.Record, err error) {
	env, _ := r.Config.Config.Environment(o.Target.Env)
	if env.Speculative == "off" {
		return rec, refuse("%s lets tags alone be planned: set speculative = \"branch\" for it", env.Name)
	}
	repo, err := r.repositoryFor(ctx, o)
	if err != nil {
		return rec, err
	}
	version := "0"
	if status, err := r.Store.Target(ctx, o.Target); err == nil && status.Deployed != nil {
		version = status.Deployed.Version
	} else if err != nil && !errors.Is(err, release.ErrNotFound) {
		return rec, err
	}
	tag, err := untagged(o.Target, version)
	if err == nil {
		err = r.Config.Config.Admit(repo, tag)
	}
	if err != nil {
		return rec, err
	}
	if r.Rev == nil {
		return rec, fmt.Errorf("%w: this service finds no commits without a tag", release.ErrUnavailable)
	}
	commit, err := r.Rev(ctx, repo, o.Ref, env.Speculative == "any")
	return store.Record{ObjectID: commit, Run: release.Run{Repository: repo, Version: version, Commit: commit, Target: o.Target, Ref: o.Ref}}, err
}

// untagged stands for the tag of code that has none.
func untagged(t release.Target, version string) (tagparse.Tag, error) {
	tag, err := tagparse.Parse(t.String() + "/" + version)
	if err != nil {
		return tag, fmt.Errorf("%w: %w", release.ErrInvalid, err)
	}
	return tag, nil
}

// repositoryFor names the repository of an order: the one that it names, the only
// one that there is, or that which the target was last deployed from.
func (r *Reconciler) repositoryFor(ctx context.Context, o release.Order) (string, error) {
	all := r.Config.Config.Repositories
	if o.Repository != "" || len(all) == 1 {
		name := o.Repository
		if name == "" {
			name = all[0].Name
		}
		if r.watches[name] == nil {
			return "", fmt.Errorf("repository %.64q: %w", name, release.ErrNotFound)
		}
		return name, nil
	}
	status, err := r.Store.Target(ctx, o.Target)
	if err == nil && status.Latest != nil && r.watches[status.Latest.Repository] != nil {
		return status.Latest.Repository, nil
	}
	if err != nil && !errors.Is(err, release.ErrNotFound) {
		return "", err
	}
	return "", fmt.Errorf("%w order: there are several repositories: name one with --repository", release.ErrInvalid)
}

// place queues the run of an order for the code of rec.
func (r *Reconciler) place(ctx context.Context, rec store.Record, o release.Order, entry audit.Entry) (release.Run, error) {
	run := release.Run{Kind: o.Kind, Repository: rec.Repository, ReleaseID: rec.ReleaseID, Tag: rec.Tag, Version: rec.Version,
		Commit: rec.Commit, Target: rec.Target, Account: rec.Account, Ref: rec.Ref, CreatedBy: o.Actor}
	var info store.TargetInfo
	if o.Kind.ChangesTarget() {
		terms, err := r.terms(ctx, run)
		if err != nil {
			return run, err
		}
		run.Requirements, info = release.Again(rec.Requirements, terms.Requirements), terms.Info
	}
	entry.Actor, entry.Reason = o.Actor, o.Reason
	placed, err := r.Store.Order(ctx, store.Record{Run: run, ObjectID: rec.ObjectID, Pool: r.Config.Config.PoolOf(o.Target),
		ConfigDigest: r.Config.Config.Digest}, info, entry)
	if err == nil {
		r.log.Info("a run was asked for", "run", placed.ID, "kind", placed.Kind, "target", placed.Target, "by", o.Actor)
	}
	return placed, err
}

// planOnlySays is what comes of a run that changes nothing.
func planOnlySays(kind release.Kind, plan *release.PlanSummary) string {
	switch {
	case kind != release.Drift:
		return "planned only; nothing was applied"
	case len(plan.Drift) == 0:
		return "nothing has changed outside"
	case len(plan.Drift) == 1:
		return "1 resource has changed outside: " + plan.Drift[0].Address
	}
	return fmt.Sprintf("%d resources have changed outside, such as %s", len(plan.Drift), plan.Drift[0].Address)
}

// mayRetry refuses to run again what somebody has to ask for again.
func mayRetry(run release.Run) error {
	switch run.Kind {
	case release.Destroy:
		return fmt.Errorf("%w: a destroy is confirmed each time: waymark destroy %s", release.ErrConflict, run.Target)
	case release.PlanOnly, release.Drift:
		return fmt.Errorf("%w: run %d changes nothing; ask for a new one with waymark plan or waymark drift", release.ErrConflict, run.ID)
	}
	return nil
}
