package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/backends"
	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/gitrepo"
	"github.com/waymark-cd/waymark/reconciler"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/runner"
	"github.com/waymark-cd/waymark/tagparse"
)

// stepState is what a rule of the service would make of a tag.
type stepState string

// The outcomes of a step.
const (
	stepPasses  stepState = "passes"
	stepRefused stepState = "refused"
	stepWaits   stepState = "waits"   // its run would wait
	stepNeeds   stepState = "needs"   // its run would need people
	stepUnknown stepState = "unknown" // what decides it is not known here
)

// explainedStep is one rule, and what the service would say by it.
type explainedStep struct {
	Name       string    `json:"name"`
	Repository string    `json:"repository,omitempty"` // where there are several
	State      stepState `json:"state"`
	Says       string    `json:"says"`
}

// explainer goes through what the service asks of a tag, in its order.
type explainer struct {
	cfg     *config.Config
	dir     string      // of the clone; empty: the current folder, where it is one
	service *api.Client // nil where none was named
	keys    signers
	judge   func(context.Context, release.TagFacts) (release.PolicyVerdict, error) // policies on tags; nil where there are none
	record  *record                                                                // what the service knows; nil without one

	e          *explanation
	tag        tagparse.Tag
	target     release.Target
	repository string // named in steps; empty where there is one alone
}

func (x *explainer) add(name string, state stepState, format string, args ...any) {
	x.e.Steps = append(x.e.Steps, explainedStep{Name: name, Repository: x.repository, State: state, Says: fmt.Sprintf(format, args...)})
}

// judged adds what a rule said. A refusal is no error.
func (x *explainer) judged(name string, err error, passes string) error {
	var bad *tagparse.Error
	switch {
	case err == nil:
		x.add(name, stepPasses, "%s", passes)
		return nil
	case !errors.Is(err, release.ErrRefused) && !errors.Is(err, release.ErrInvalid) && !errors.As(err, &bad):
		return err
	}
	x.refuse(name, reconciler.Reason(err))
	return nil
}

func (x *explainer) refuse(name, says string) {
	x.add(name, stepRefused, "%s", says)
	if x.e.Valid {
		x.e.Valid, x.e.Reason = false, says
	}
}

// inRepository asks what one repository's configuration and a clone can answer.
func (x *explainer) inRepository(ctx context.Context, r config.Repository) error {
	before := len(x.e.Steps)
	if err := x.judged("target", x.cfg.Admit(r.Name, x.tag), "environment, scope and team are configured"); err != nil {
		return err
	}
	if x.e.Steps[before].State == stepRefused {
		x.e.Nearest = x.cfg.Nearest(x.e.Tag)
		return nil
	}
	c, err := x.openClone(r)
	if err != nil {
		return err
	}
	if c != nil {
		defer c.Close()
	}
	seen, err := x.object(ctx, r, c)
	if err != nil {
		return err
	}
	if err := x.branch(ctx, r, c, &seen); err != nil {
		return err
	}
	if err := x.signature(ctx, c, seen); err != nil {
		return err
	}
	d, err := x.files(r, c, seen)
	if err == nil {
		err = x.byRecord(ctx, seen)
	}
	if err != nil || d == nil {
		return err
	}
	asks, err := x.policy(ctx, r, seen, d)
	if err != nil {
		return err
	}
	return x.code(ctx, c, seen, d, asks)
}

// inClone is what a clone has of the tag.
type inClone struct {
	ref    gitrepo.Ref
	there  bool   // the tag is in the clone
	bad    bool   // it is refused for what it is
	commit string // the tag's, or that of HEAD; empty without either
	info   gitrepo.TagInfo
	onIt   bool // the commit is on the branch
}

// openClone opens the clone that somebody named or stands in; nil where nobody
// did and there is none.
func (x *explainer) openClone(r config.Repository) (*gitrepo.Clone, error) {
	dir := x.dir
	if dir == "" {
		dir = "."
	}
	c, err := gitrepo.OpenClone(dir, gitrepo.Config{Name: r.Name, Branch: r.Branch})
	switch {
	case errors.Is(err, gitrepo.ErrNoClone) && x.dir == "":
		return nil, nil
	case errors.Is(err, gitrepo.ErrNoClone):
		return nil, usageErrorf("--repo: %w", err)
	case err == nil && x.dir == "" && !c.Resembles(r.URL):
		return nil, c.Close() // somebody stands in another repository
	}
	return c, err
}

// object judges the tag's object where the clone has it.
func (x *explainer) object(ctx context.Context, r config.Repository, c *gitrepo.Clone) (seen inClone, err error) {
	const name = "tag"
	if c == nil {
		x.add(name, stepUnknown, "not known without a clone of the repository: name one with --repo")
		return seen, nil
	}
	if seen.ref, seen.there, err = c.Ref(x.e.Tag); err != nil {
		return seen, err
	}
	if !seen.there {
		if seen.commit = c.Head(); seen.commit == "" && x.dir != "" {
			return seen, usageErrorf("--repo %s has no commit yet", x.dir)
		}
		x.add(name, stepUnknown, "the clone has no tag of this name yet; its HEAD is judged: make it with git tag -a -m MESSAGE %s", x.e.Tag)
		return seen, nil
	}
	info, err := c.Tag(ctx, seen.ref)
	if err != nil && !errors.Is(err, release.ErrRefused) {
		return seen, err
	}
	seen.commit, seen.info = info.Commit, info
	err = reconciler.JudgeObject(r, seen.ref.Annotated, err)
	seen.bad = err != nil
	return seen, x.judged(name, err, "by "+info.Tagger)
}

// branch judges whether the commit is on the repository's branch.
func (x *explainer) branch(ctx context.Context, r config.Repository, c *gitrepo.Clone, seen *inClone) error {
	const name = "branch"
	if c == nil || seen.commit == "" {
		x.add(name, stepUnknown, "no commit is known")
		return nil
	}
	reachable, pushed, err := c.Reachable(ctx, seen.commit)
	if errors.Is(err, release.ErrUnavailable) || errors.Is(err, release.ErrInvalid) {
		x.add(name, stepUnknown, "%v", err)
		return nil
	}
	if err != nil {
		return err
	}
	seen.onIt = reachable
	passes := fmt.Sprintf("commit %s is on branch %q", shortCommit(seen.commit), r.Branch)
	if !pushed {
		passes += " of this clone alone: push the branch before the tag"
	}
	return x.judged(name, reconciler.JudgeReachable(r, seen.commit, reachable), passes)
}

// signature holds the tag's signature against the configured keys.
func (x *explainer) signature(ctx context.Context, c *gitrepo.Clone, seen inClone) error {
	const name = "signature"
	e, err := x.explainSignature(ctx, c, seen)
	x.e.Signature = e
	if err == nil && e != nil && e.Required && e.Signer == "" {
		x.add(name, stepUnknown, "%s", e.text())
		return nil
	}
	return x.judged(name, err, e.text())
}

// files evaluates the configuration with the commit's files; nil where that is
// refused.
func (x *explainer) files(r config.Repository, c *gitrepo.Clone, seen inClone) (*config.Deployment, error) {
	if seen.there && seen.commit == "" {
		x.add("files", stepUnknown, "no commit is known")
		return nil, nil
	}
	in := config.ResolveInput{Repository: r.Name, Tag: x.tag, Commit: seen.commit}
	if c != nil && seen.commit != "" {
		in.Files = c.Files(seen.commit)
	}
	d, err := x.cfg.Resolve(in)
	if errors.Is(err, release.ErrUnavailable) {
		return nil, usageErrorf("%w: run it in a clone of the repository, or name one with --repo", err)
	}
	if err := x.judged("files", err, "account, state, variables and module are settled"); err != nil || d == nil {
		return nil, err
	}
	x.e.Targets = append(x.e.Targets, explainTarget(r.Name, seen.commit, d))
	x.e.Gates = explainGates(d, time.Now())
	return d, nil
}

// code does with the commit what a run does before anything of it is executed.
func (x *explainer) code(ctx context.Context, c *gitrepo.Clone, seen inClone, d *config.Deployment, asks []release.Requirement) error {
	const name = "code"
	if c == nil || seen.commit == "" {
		x.add(name, stepUnknown, "not known without a clone of the repository: name one with --repo")
		x.needs(asks)
		return nil
	}
	dir, err := os.MkdirTemp("", "waymark-explain-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	own, tree := filepath.Join(dir, "own"), filepath.Join(dir, "tree")
	if err := os.Mkdir(own, 0o700); err != nil {
		return err
	}
	if err := reconciler.WriteOut(ctx, c.Export, seen.commit, tree); err != nil {
		return x.judged(name, err, "")
	}
	res, err := runner.Static(ctx, release.Spec{Format: release.ProtocolFormat, Kind: release.Deploy, Phase: release.PhasePlan, Tag: x.e.Tag,
		Target: x.target, Dir: own, WorkDir: tree, Engine: release.EngineSpec{Kind: x.cfg.Engine.Kind}, Backend: d.Backend, Stack: d.Stack,
		Policy: x.cfg.PolicyFor(x.target, d.Account, release.Deploy)}, runner.Config{PrepareBackend: backends.Fit})
	if err != nil {
		return err
	}
	if res.Outcome != release.OutcomePassed {
		x.refuse(name, res.Reason)
		return nil
	}
	x.add(name, stepPasses, "%s", res.Stages[0].Summary)
	x.needs(append(asks, res.Requirements...))
	return nil
}

// byRecord asks what only a service can answer.
func (x *explainer) byRecord(ctx context.Context, seen inClone) error {
	if x.service != nil && x.record == nil {
		var err error
		if x.record, err = readRecord(ctx, x.service, x.target); err != nil {
			return err
		}
	}
	if x.record == nil {
		x.add("record", stepUnknown, noService)
	} else {
		x.onRecord()
	}
	if err := x.order(); err != nil {
		return err
	}
	now := time.Now()
	proven, err := x.promotion(ctx, seen.commit, now)
	if err != nil {
		return err
	}
	return x.window(proven, now)
}

const noService = "not known without a service: name one with --server"

// needs says whose approval the plan would need, as far as that is known before it.
func (x *explainer) needs(asks []release.Requirement) {
	env, _ := x.cfg.Environment(x.tag.Env)
	const more = "a plan may need more, by policies, and one without changes needs none"
	all := append(env.Requirements(), asks...)
	if len(all) == 0 {
		x.add("approvals", stepPasses, "none; %s", more)
		return
	}
	x.add("approvals", stepNeeds, "%s; %s", reconciler.ListOf(all), more)
}
