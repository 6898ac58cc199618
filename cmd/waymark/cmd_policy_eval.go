package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	tfjson "github.com/hashicorp/terraform-json"
	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/gitrepo"
	"github.com/waymark-cd/waymark/policies"
	"github.com/waymark-cd/waymark/reconciler"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/tagparse"
)

// evaluated is what policies say of a tag, as far as was asked.
type evaluated struct {
	Tag    string           `json:"tag"`
	Denied bool             `json:"denied"`
	Points []evaluatedPoint `json:"points"`
}

type evaluatedPoint struct {
	Point        string                `json:"point"`
	Denied       bool                  `json:"denied"`
	Findings     []release.Finding     `json:"findings"`
	Requirements []release.Requirement `json:"requirements"`
	Weakened     string                `json:"weakened,omitempty"`
	Error        string                `json:"error,omitempty"` // why nothing could be judged, which denies
	Fired        []policies.Fired      `json:"fired"`
	Input        any                   `json:"input"`
}

// policyTrial tries policies on one tag.
type policyTrial struct {
	g      *globals
	cfg    *config.Config
	tag    tagparse.Tag
	target release.Target
	clone  *gitrepo.Clone // nil: there is none
	ref    gitrepo.Ref
	found  bool   // the clone has the tag
	commit string // the tag's, or the clone's HEAD
	d      *config.Deployment
	repo   config.Repository
}

func newPolicyEvalCommand(g *globals) *cobra.Command {
	var file, dir, planFile, point, kind string
	cmd := &cobra.Command{
		Use:   "eval TAG",
		Short: "Show what policies say of a tag, of its code and of a plan: the input, the result and which rules fired",
		Long: `Evaluates the bundled policies and your own for a tag, without a service: on the
tag and on the code of a clone at the tag, or at HEAD where the clone has no such
tag, and with --plan on a plan as "tofu show -json PLANFILE" prints it. What a
service knows, such as the deployed version, is left out of the tag's input.
Exit code 4 where they deny.`,
		Args: exactArgs("TAG"),
	}
	cmd.Flags().StringVar(&file, "config", "waymark.hcl", "the configuration file")
	cmd.Flags().StringVar(&dir, "repo", ".", "a clone of the infrastructure repository")
	cmd.Flags().StringVar(&planFile, "plan", "", "a plan as JSON")
	cmd.Flags().StringVar(&point, "point", "", "ask at this decision point alone: tag, config or plan")
	cmd.Flags().StringVar(&kind, "kind", string(release.Deploy), "what the run would be for: deploy, rollback or destroy")
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t, err := newPolicyTrial(g, file, dir, args[0])
		if err != nil {
			return withExitCode(err)
		}
		if t.clone != nil {
			defer t.clone.Close()
		}
		result, err := t.evaluate(cmd.Context(), point, planFile, release.Kind(kind))
		if err != nil {
			return withExitCode(err)
		}
		if out.json() {
			err = printJSON(g.stdout, result, "  ")
		} else {
			err = g.renderTrial(result)
		}
		if err == nil && result.Denied {
			return &exitError{exitRefused, errors.New("")}
		}
		return err
	}
	return cmd
}

// newPolicyTrial reads the configuration and the clone.
func newPolicyTrial(g *globals, file, dir, name string) (*policyTrial, error) {
	cfg, err := loadConfig(file)
	if err != nil {
		return nil, err
	}
	t := &policyTrial{g: g, cfg: cfg, repo: cfg.Repositories[0]}
	if t.tag, err = tagparse.Parse(name); err != nil {
		return nil, fmt.Errorf("%w: %w", release.ErrRefused, err)
	}
	t.target = release.Target{Env: t.tag.Env, Scope: t.tag.Scope, Team: t.tag.Team}
	if err := t.openClone(dir); err != nil {
		return nil, err
	}
	if err := cfg.Admit(t.repo.Name, t.tag); err != nil {
		return nil, err
	}
	in := config.ResolveInput{Repository: t.repo.Name, Tag: t.tag, Commit: t.commit}
	if t.commit != "" {
		in.Files = t.clone.Files(t.commit)
	}
	t.d, err = cfg.Resolve(in)
	if errors.Is(err, release.ErrUnavailable) {
		return nil, usageErrorf("%w: run it in a clone of the repository, or name one with --repo", err)
	}
	return t, err
}

// openClone opens the clone, and takes the configured repository that it is of.
func (t *policyTrial) openClone(dir string) error {
	c, err := gitrepo.OpenClone(dir, gitrepo.Config{Name: t.repo.Name, Branch: t.repo.Branch})
	if errors.Is(err, gitrepo.ErrNoClone) && dir == "." {
		return nil
	}
	if err != nil {
		return usageErrorf("--repo: %w", err)
	}
	if i := slices.IndexFunc(t.cfg.Repositories, func(r config.Repository) bool { return c.Resembles(r.URL) }); i > 0 {
		t.repo = t.cfg.Repositories[i]
	}
	t.clone = c
	if t.ref, t.found, err = c.Ref(t.tag.String()); err != nil {
		return err
	}
	if t.commit = t.ref.Commit; !t.found {
		t.commit = c.Head()
		t.note("the clone has no tag %s: its HEAD is judged", t.tag)
	}
	return nil
}

// note says on standard error what the result does not cover.
func (t *policyTrial) note(format string, args ...any) {
	fmt.Fprintf(t.g.stderr, "note: "+format+"\n", args...)
}

// evaluate asks at one decision point, or at all for which there is an input.
func (t *policyTrial) evaluate(ctx context.Context, only, planFile string, kind release.Kind) (evaluated, error) {
	result := evaluated{Tag: t.tag.String(), Points: []evaluatedPoint{}}
	if only != "" && !slices.Contains(release.PolicyPoints(), only) {
		return result, usageErrorf("there is no decision point %q: %s", clean(only), config.Choose(only, release.PolicyPoints()))
	}
	if !slices.Contains([]release.Kind{release.Deploy, release.Rollback, release.Destroy}, kind) {
		return result, usageErrorf("there is no kind %q of runs that change anything: write deploy, rollback or destroy", clean(string(kind)))
	}
	if err := checkPolicies(ctx, t.cfg); err != nil {
		return result, err
	}
	engine, err := policies.New(ctx, t.cfg.PolicyFor(t.target, t.d.Account, kind))
	if err != nil {
		return result, err
	}
	asks := map[string]func(context.Context, *policies.Engine) (policies.Answer, error){
		release.PointTag: t.askTag, release.PointConfig: t.askConfig,
		release.PointPlan: func(ctx context.Context, e *policies.Engine) (policies.Answer, error) {
			return askPlan(ctx, e, planFile)
		}}
	for _, point := range release.PolicyPoints() {
		switch {
		case only != "" && only != point:
			continue
		case point == release.PointPlan && planFile == "" && only == "":
			continue
		case point == release.PointPlan && planFile == "":
			return result, usageErrorf("there is no plan: name one with --plan, as `show -json` prints it")
		case point != release.PointPlan && t.commit == "":
			if only != "" {
				return result, usageErrorf("there is no commit to judge: run it in a clone of the repository, or name one with --repo")
			}
			t.note("no clone, so that the %s is not judged: name one with --repo", map[string]string{release.PointTag: "tag", release.PointConfig: "code"}[point])
			continue
		}
		answer, err := asks[point](ctx, engine)
		if err != nil && !errors.Is(err, release.ErrRefused) && !errors.Is(err, release.ErrInvalid) {
			return result, err
		}
		result.add(point, answer, err, engine.Weakened(point))
	}
	return result, nil
}

// add adds what was said at one point.
func (e *evaluated) add(point string, a policies.Answer, err error, weakened string) {
	p := evaluatedPoint{Point: point, Weakened: weakened, Findings: a.Verdict.Findings, Requirements: a.Verdict.Requirements, Fired: a.Fired, Input: a.Input}
	if err != nil {
		p.Error = reconciler.Reason(err)
	}
	p.Denied = err != nil || len(release.Failing(p.Findings, release.SeverityError)) > 0
	if p.Findings == nil {
		p.Findings = []release.Finding{}
	}
	if p.Requirements == nil {
		p.Requirements = []release.Requirement{}
	}
	if p.Fired == nil {
		p.Fired = []policies.Fired{}
	}
	e.Denied = e.Denied || p.Denied
	e.Points = append(e.Points, p)
}

// askTag asks about the tag as the clone has it.
func (t *policyTrial) askTag(ctx context.Context, e *policies.Engine) (policies.Answer, error) {
	facts := release.TagFacts{Commit: t.commit, Now: time.Now()}
	var err error
	if t.found {
		if facts, err = cloneFacts(ctx, t.clone, t.ref); err != nil {
			return policies.Answer{}, err
		}
		if facts.SignedBy, err = t.signedBy(ctx); err != nil {
			return policies.Answer{}, err
		}
	}
	facts.Repository, facts.Tag, facts.Target, facts.Version, facts.Account = t.repo.Name, t.tag.String(), t.target, t.tag.Version.String(), t.d.Account
	if facts.Reachable, _, err = t.clone.Reachable(ctx, t.commit); err != nil {
		t.note("whether the commit is on branch %q is not known: %v", t.repo.Branch, err)
	}
	t.note("what is deployed, and which tags were seen before, is not known without a service: the tag's input says that there are none")
	return e.ExplainTag(ctx, facts)
}

// cloneFacts are what a clone tells of a tag to policies on tags.
func cloneFacts(ctx context.Context, c *gitrepo.Clone, ref gitrepo.Ref) (release.TagFacts, error) {
	info, err := c.Tag(ctx, ref)
	if err != nil {
		return release.TagFacts{}, err
	}
	return release.TagFacts{ObjectID: ref.ObjectID, Commit: info.Commit, Annotated: info.Annotated, Tagger: info.Tagger, TaggedAt: info.TaggedAt,
		Message: info.Message, Signed: info.Signature != "", Now: time.Now()}, nil
}

// signedBy is who signed the tag; nobody where the service would not say.
func (t *policyTrial) signedBy(ctx context.Context) (release.Signer, error) {
	keys, err := loadSigners(t.cfg)
	if err != nil {
		return release.Signer{}, err
	}
	verdict, err := reconciler.JudgeSignature(t.cfg, t.target, func(name string) (release.Signer, error) {
		tag, err := t.clone.SignedTag(ctx, t.ref)
		if err != nil {
			return release.Signer{}, err
		}
		return keys[name].Verify(tag, time.Now())
	})
	var bad *release.SignatureError
	if errors.As(err, &bad) {
		t.note("the signature is refused before policies are asked: %s", clean(bad.Reason))
		return release.Signer{}, nil
	}
	return verdict.By, err
}

// askConfig asks about the code at the commit.
func (t *policyTrial) askConfig(ctx context.Context, e *policies.Engine) (policies.Answer, error) {
	dir, err := os.MkdirTemp("", "waymark-policy-")
	if err != nil {
		return policies.Answer{}, err
	}
	defer os.RemoveAll(dir)
	if _, err := t.clone.Export(ctx, t.commit, dir); err != nil {
		return policies.Answer{}, err
	}
	input, err := policies.ReadConfig(dir, t.d.Stack.Path)
	if err != nil {
		return policies.Answer{}, err
	}
	return e.ExplainConfig(ctx, input)
}

// askPlan asks about a plan in a file.
func askPlan(ctx context.Context, e *policies.Engine, file string) (policies.Answer, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return policies.Answer{}, usageErrorf("--plan: %w", err)
	}
	plan := new(tfjson.Plan)
	plan.UseJSONNumber(true)
	if err := json.Unmarshal(text, plan); err != nil {
		return policies.Answer{}, usageErrorf("--plan %s is no plan as `show -json` prints it: %w", file, err)
	}
	return e.ExplainPlan(ctx, plan)
}

// shownInput is the most lines of an input that are printed for people.
const shownInput = 100

// renderTrial prints it for people.
func (g *globals) renderTrial(e evaluated) error {
	for _, p := range e.Points {
		says := "has no objection"
		if p.Denied {
			says = "denies"
		} else if len(p.Requirements) > 0 {
			says = "asks for approval"
		}
		fmt.Fprintf(g.stdout, "%s\n", bold.on("policy on the "+p.Point+" "+says, g.colour))
		if p.Error != "" {
			fmt.Fprintf(g.stdout, "  error: %s\n", clean(p.Error))
		}
		for _, f := range p.Findings {
			fmt.Fprintf(g.stdout, "  %s: %s\n", f.Severity, strings.Join(nonEmpty(placeOf(f), clean(f.Message), "("+clean(f.Rule)+")", clean(f.Link)), " "))
		}
		for _, q := range p.Requirements {
			fmt.Fprintf(g.stdout, "  needs: %s\n", clean(q.String()))
		}
		if p.Weakened != "" {
			fmt.Fprintf(g.stdout, "  by configuration: %s\n", p.Weakened)
		}
		for _, f := range p.Fired {
			fmt.Fprintf(g.stdout, "  fired: %s  %s:%d\n", clean(f.Rule), clean(f.File), f.Line)
		}
		if p.Input == nil {
			continue
		}
		text, err := json.MarshalIndent(p.Input, "  ", "  ")
		if err != nil {
			return err
		}
		lines := strings.Split(string(text), "\n")
		more := len(lines) - shownInput
		for _, line := range lines[:min(len(lines), shownInput)] {
			fmt.Fprintln(g.stdout, "  "+strings.TrimPrefix(strings.Map(printable, line), "  "))
		}
		if more > 0 {
			fmt.Fprintf(g.stdout, "  ... and %d more lines of input: -o json shows all\n", more)
		}
	}
	return nil
}

// printable replaces what a terminal might act on.
func printable(r rune) rune {
	if unsafeRune(r) {
		return '\uFFFD'
	}
	return r
}

// placeOf is where a finding is, with a colon after it.
func placeOf(f release.Finding) string {
	at := f.File
	if f.Line > 0 {
		at += fmt.Sprintf(":%d", f.Line)
	}
	if at == "" {
		at = f.Resource
	}
	if at == "" {
		return ""
	}
	return clean(at) + ":"
}
