package runner

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/waymark-cd/waymark/gates"
	"github.com/waymark-cd/waymark/release"
)

// waiverNotice is how long before its end the log speaks of a waiver.
const waiverNotice = 14 * 24 * time.Hour

// splitGates tells linters from scanners.
func (p *phase) splitGates() (lint, scan []release.GateSpec) {
	for _, g := range p.spec.Gates {
		if g.Stage == release.StageLint || g.Stage == "" && g.Name == "tflint" {
			lint = append(lint, g)
		} else {
			scan = append(scan, g)
		}
	}
	return lint, scan
}

// gateStage runs gates side by side as one stage.
func (p *phase) gateStage(ctx context.Context, name release.StageName, specs []release.GateSpec) error {
	if len(specs) == 0 {
		p.end(name, release.StageSkipped, "no gate is configured")
		return nil
	}
	return p.stage(ctx, name, func() (string, error) {
		summaries := make([]string, len(specs))
		group, ctx := errgroup.WithContext(ctx)
		for i, spec := range specs {
			group.Go(guarded(func() (err error) {
				summaries[i], err = p.gate(ctx, name, spec)
				return err
			}))
		}
		err := group.Wait()
		return strings.Join(summaries, "; "), err
	})
}

// gate takes one gate's kept result, or runs it, and judges the findings. A gate
// in soft mode never fails: what it would have failed for is said instead, also
// where it could not judge.
func (p *phase) gate(ctx context.Context, stage release.StageName, spec release.GateSpec) (summary string, err error) {
	result, kept, err := p.gateResult(ctx, stage, spec)
	switch {
	case err == nil:
		findings, waived := p.waive(stage, spec, result.Findings)
		summary = spec.Name + ": " + result.Summary + waived + kept
		floor := spec.FailOn
		if floor == "" {
			floor = release.SeverityError
		}
		err = p.found(stage, findings, floor)
	case spec.Soft:
		summary = spec.Name + ": did not judge: " + firstLine(err)
	}
	if err == nil || !spec.Soft || ctx.Err() != nil {
		return summary, err
	}
	p.mu.Lock()
	p.softGates = append(p.softGates, spec.Name)
	p.mu.Unlock()
	p.log.log(stage, "soft mode: "+spec.Name+" would have failed this run: "+firstLine(err))
	return summary + ", would have failed (soft mode)", nil
}

// gateResult gives one gate's result before any waiver, and where it comes from.
func (p *phase) gateResult(ctx context.Context, stage release.StageName, spec release.GateSpec) (result release.GateResult, kept string, err error) {
	if spec.Cached != nil {
		return *spec.Cached, " (kept from an earlier run)", nil
	}
	began := time.Now()
	defer func() { p.ran(stage, spec.Name, began, err) }()
	if spec.Name == testGate {
		result, err = p.runTests(ctx, stage, spec)
	} else {
		result, err = p.runGate(ctx, stage, spec)
	}
	if err == nil {
		p.mu.Lock()
		p.gates = append(p.gates, result)
		p.mu.Unlock()
	}
	return result, "", err
}

// waive marks the findings that waivers cover, and says what waivers have come to
// their end, or soon will. The summary's part about them is empty where nothing
// is waived.
func (p *phase) waive(stage release.StageName, spec release.GateSpec, findings []release.Finding) ([]release.Finding, string) {
	findings = slices.Clone(findings)
	waived, now := 0, time.Now()
	for _, w := range spec.Waivers {
		left := w.Ends().Sub(now)
		covered := 0
		for i := range findings {
			if f := &findings[i]; f.Counts() && w.Covers(*f) {
				if covered++; left > 0 {
					f.Waived = w.Waived()
				}
			}
		}
		switch {
		case left <= 0:
			p.log.log(stage, fmt.Sprintf("waiver %s of %s expired on %s and no longer counts; findings of %s that it would cover: %d", w.Name, w.Owner, w.Expires, spec.Name, covered))
		case left <= waiverNotice:
			p.log.log(stage, fmt.Sprintf("waiver %s of %s ends on %s; findings of %s that it covers: %d", w.Name, w.Owner, w.Expires, spec.Name, covered))
		}
		if left > 0 {
			waived += covered
		}
	}
	if waived == 0 {
		return findings, ""
	}
	return findings, fmt.Sprintf(", %d waived", waived)
}

// runGate runs one gate: read-only on the tree, without network.
func (p *phase) runGate(ctx context.Context, stage release.StageName, spec release.GateSpec) (release.GateResult, error) {
	a := access{read: append(p.readable(spec.Path), p.spec.WorkDir)}
	for _, name := range []string{"config", "external_checks_dir", "checks_dir"} { // the operator's own rules
		if path := spec.Config[name]; path != "" {
			a.read = append(a.read, path)
		}
	}
	return p.confined(ctx, stage, gates.Config{Spec: spec, Tree: p.spec.WorkDir, StackPath: p.spec.Stack.Path}, a)
}

// confined runs a gate with what a gives and a scratch folder of its own, without
// network.
func (p *phase) confined(ctx context.Context, stage release.StageName, cfg gates.Config, a access) (result release.GateResult, err error) {
	name := cfg.Spec.Name
	if !p.box.cutsNetwork() && p.spec.Sandbox != "off" {
		if p.spec.Sandbox == "require" {
			return result, fmt.Errorf("%w: gate %s: neither Landlock nor a network namespace can keep it from the network here, and the configuration requires a sandbox", release.ErrUnavailable, name)
		}
		p.log.log(stage, "sandbox: "+name+" cannot be kept from the network here")
	}
	cfg.Scratch, err = os.MkdirTemp(p.tools("gates"), name+"-")
	if err != nil {
		return result, fmt.Errorf("gate %s: %w", name, err)
	}
	defer os.RemoveAll(cfg.Scratch)
	a.write, a.noNetwork = append(a.write, cfg.Scratch), true
	cfg.Path, cfg.Prepare = p.path, p.box.isolate
	cfg.Log = func(line string) { p.log.log(stage, line) }
	err = p.tool(a, func() (err error) {
		result, err = gates.Run(ctx, cfg)
		return err
	})
	return result, err
}
