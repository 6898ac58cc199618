package runner

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	tfjson "github.com/hashicorp/terraform-json"
	"golang.org/x/sync/errgroup"

	"github.com/waymark-cd/waymark/policies"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/terraform"
)

// runPlan is the plan phase: config, then lint and scan beside init and plan,
// then policy. What fails first stops the rest, for nothing here does harm and
// people wait for the answer.
func (p *phase) runPlan(ctx context.Context) error {
	var initArgs []string
	var rules *policies.Engine
	err := p.stage(ctx, release.StageConfig, func() (summary string, err error) {
		initArgs, rules, summary, err = p.judgeConfig(ctx)
		return summary, err
	})
	if err != nil {
		return err
	}
	var raw *tfjson.Plan
	group, tracks := errgroup.WithContext(ctx)
	lint, scan := p.splitGates()
	group.Go(func() error { return p.gateStage(tracks, release.StageLint, lint) })
	group.Go(func() error { return p.gateStage(tracks, release.StageScan, scan) })
	group.Go(func() (err error) {
		raw, err = p.initAndPlan(tracks, initArgs)
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	return p.stage(ctx, release.StagePolicy, func() (string, error) { return p.judgePlan(ctx, rules, raw) })
}

// judgeConfig reads the code without executing anything of it.
func (p *phase) judgeConfig(ctx context.Context) (initArgs []string, rules *policies.Engine, summary string, err error) {
	var input policies.Input
	var group errgroup.Group // each takes some 10 ms
	group.Go(guarded(func() (err error) {
		rules, err = policies.New(ctx, p.spec.Policy)
		return err
	}))
	group.Go(guarded(func() (err error) {
		input, err = policies.ReadConfig(p.spec.WorkDir, orDot(p.spec.Stack.Path))
		return err
	}))
	if err := group.Wait(); err != nil {
		return nil, nil, "", err
	}
	p.sharesPlugins = len(input.Encryption) == 0
	verdict, err := rules.Config(ctx, input)
	if err != nil {
		return nil, nil, "", err
	}
	summary, err = p.heed(release.StageConfig, verdict, rules.Weakened(release.PointConfig))
	if err != nil {
		return nil, nil, "", err
	}
	initArgs, err = p.prepare(p.root(), p.spec.Engine, p.spec.Backend)
	return initArgs, rules, summary, err
}

// heed takes what policies say of a stage: findings, of which errors deny, and
// approvals that they ask for. Rules that the operator has weakened are never
// passed over in silence.
func (p *phase) heed(stage release.StageName, verdict release.PolicyVerdict, weakened string) (summary string, err error) {
	p.mu.Lock()
	p.requirements = append(p.requirements, verdict.Requirements...)
	p.mu.Unlock()
	summary = findingSummary(verdict.Findings)
	for _, q := range verdict.Requirements {
		summary += "; needs " + q.String()
	}
	if weakened != "" {
		p.log.log(stage, "policy: by the service's configuration "+weakened)
		summary += "; " + weakened
	}
	return summary, p.found(stage, verdict.Findings, release.SeverityError)
}

// initAndPlan gives the raw plan; the saved one is then in the runner's own folder.
func (p *phase) initAndPlan(ctx context.Context, initArgs []string) (*tfjson.Plan, error) {
	var e *engine
	err := p.stage(ctx, release.StageInit, func() (_ string, err error) {
		if e, err = p.newEngine(); err != nil {
			return "", err
		}
		return "", p.init(ctx, e, release.StageInit, initArgs)
	})
	if err != nil {
		return nil, err
	}
	p.copyForTests()
	var raw *tfjson.Plan
	err = p.stage(ctx, release.StagePlan, func() (summary string, err error) {
		raw, summary, err = p.savePlan(ctx, e)
		return summary, err
	})
	return raw, err
}

// savePlan plans, takes the saved plan out of the tools' reach, and reads it.
func (p *phase) savePlan(ctx context.Context, e *engine) (raw *tfjson.Plan, summary string, err error) {
	stack := p.spec.Stack
	opts := terraform.PlanOptions{Out: filepath.Join(p.tools("plan"), "saved"), Variables: stack.Variables, Target: stack.Module,
		Destroy: p.spec.Kind == release.Destroy, RefreshOnly: p.spec.Kind == release.Drift, NoLock: !p.spec.Kind.ChangesTarget()}
	for _, f := range stack.VarFiles {
		opts.VarFiles = append(opts.VarFiles, filepath.Join(p.spec.WorkDir, f))
	}
	defer func() { err = errors.Join(err, removeFile(opts.Out)) }()
	if err := e.step(release.StagePlan, func() error { return e.Plan(ctx, opts) }); err != nil {
		e.settle(ctx)
		return nil, "", p.whyNoPlan(ctx, e, p.redact(err))
	}
	// From here on no tool can change the plan: what is shown to the policies
	// is what is encrypted and applied.
	plan := p.own(plainPlan)
	if err := moveFile(opts.Out, plan); err != nil {
		return nil, "", fmt.Errorf("keeping the plan: %w", err)
	}
	err = e.step(release.StagePlan, func() (err error) {
		raw, err = e.Show(ctx, plan)
		return err
	})
	if err != nil {
		e.release()
		return nil, "", err
	}
	e.learnPlan(raw)
	sum := terraform.SummarizeMasked(raw, p.log.mask.Known)
	if sum.Digest, err = terraform.Digest(plan); err != nil {
		return nil, "", err
	}
	words := []string{"to add", "to change", "to destroy"}
	if p.spec.Kind == release.Drift { // it changes nothing: what counts is what was changed
		sum.Changes, words = terraform.DriftChanges(raw), []string{"added outside", "changed outside", "gone"}
	}
	p.mu.Lock()
	p.plan = &sum
	p.mu.Unlock()
	return raw, changeSummary(sum.Changes, words[0], words[1], words[2]), nil
}

// whyNoPlan asks validate whether the code itself is at fault. It runs only
// here, after a plan that failed: a plan validates as well, so before one it
// would cost a process and tell nothing new.
func (p *phase) whyNoPlan(ctx context.Context, e *engine, planErr error) error {
	if ctx.Err() != nil {
		return planErr
	}
	err := e.step(release.StagePlan, func() error { return e.Validate(ctx) })
	var invalid *terraform.Error
	if errors.As(err, &invalid) && len(invalid.Diagnostics) > 0 && ctx.Err() == nil {
		return fmt.Errorf("the code is not valid: %w", err)
	}
	return planErr
}

// judgePlan asks the policies about the raw plan and keeps it for the apply. It
// is encrypted meanwhile, and removed again where they say no.
func (p *phase) judgePlan(ctx context.Context, rules *policies.Engine, raw *tfjson.Plan) (summary string, err error) {
	var saving errgroup.Group
	if p.spec.PlanRecipient != "" {
		saving.Go(guarded(func() error { return encryptPlan(p.own(plainPlan), p.spec.PlanFile, p.spec.PlanRecipient) }))
		saving.Go(guarded(func() error { return p.keepSecrets(raw) }))
	}
	verdict, err := rules.Plan(ctx, raw)
	if err == nil {
		summary, err = p.heed(release.StagePolicy, verdict, rules.Weakened(release.PointPlan))
	}
	if err = errors.Join(err, saving.Wait()); err != nil && p.spec.PlanRecipient != "" {
		err = errors.Join(err, removeFile(p.spec.PlanFile), removeFile(p.spec.PlanFile+release.SecretsSuffix))
	}
	return summary, err
}

// findingSummary counts findings for people.
func findingSummary(findings []release.Finding) string {
	c := release.CountFindings(findings)
	var parts []string
	for _, n := range []struct {
		count int
		one   string
	}{{c.Error, "error"}, {c.Warning, "warning"}, {c.Notice, "notice"}} {
		if n.count == 1 {
			parts = append(parts, "1 "+n.one)
		} else if n.count > 1 {
			parts = append(parts, fmt.Sprintf("%d %ss", n.count, n.one))
		}
	}
	if len(parts) == 0 {
		return "no findings"
	}
	return strings.Join(parts, ", ")
}

// changeSummary counts changes for people.
func changeSummary(c release.Changes, add, change, destroy string) string {
	if !c.Any() {
		return "no changes"
	}
	return fmt.Sprintf("%d %s, %d %s, %d %s", c.Add, add, c.Change, change, c.Destroy, destroy)
}
