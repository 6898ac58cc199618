package runner

import (
	"context"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/waymark-cd/waymark/gates"
	"github.com/waymark-cd/waymark/release"
)

// splitGates tells linters from scanners.
func (p *phase) splitGates() (lint, scan []release.GateSpec) {
	for _, g := range p.spec.Gates {
		if g.Name == "tflint" {
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

// gate takes one gate's kept result, or runs it, and judges the findings.
func (p *phase) gate(ctx context.Context, stage release.StageName, spec release.GateSpec) (summary string, err error) {
	var result release.GateResult
	kept := ""
	if spec.Cached != nil {
		result, kept = *spec.Cached, " (kept from an earlier run)"
	} else {
		if result, err = p.runGate(ctx, stage, spec); err != nil {
			return "", err
		}
		p.mu.Lock()
		p.gates = append(p.gates, result)
		p.mu.Unlock()
	}
	floor := spec.FailOn
	if floor == "" {
		floor = release.SeverityError
	}
	summary = spec.Name + ": " + result.Summary
	return summary + kept, p.found(stage, result.Findings, floor)
}

// runGate runs one gate: read-only on the tree, without network.
func (p *phase) runGate(ctx context.Context, stage release.StageName, spec release.GateSpec) (result release.GateResult, err error) {
	if !p.box.cutsNetwork() && p.spec.Sandbox != "off" {
		if p.spec.Sandbox == "require" {
			return result, fmt.Errorf("%w: gate %s: neither Landlock nor a network namespace can keep it from the network here, and the configuration requires a sandbox", release.ErrUnavailable, spec.Name)
		}
		p.log.log(stage, "sandbox: "+spec.Name+" cannot be kept from the network here")
	}
	scratch, err := os.MkdirTemp(p.tools("gates"), spec.Name+"-")
	if err != nil {
		return result, fmt.Errorf("gate %s: %w", spec.Name, err)
	}
	defer os.RemoveAll(scratch)
	a := access{read: append(p.readable(spec.Path), p.spec.WorkDir), write: []string{scratch}, noNetwork: true}
	for _, name := range []string{"config", "external_checks_dir"} { // the operator's own rules
		if path := spec.Config[name]; path != "" {
			a.read = append(a.read, path)
		}
	}
	err = p.tool(a, func() (err error) {
		result, err = gates.Run(ctx, gates.Config{Spec: spec, Tree: p.spec.WorkDir, StackPath: p.spec.Stack.Path,
			Scratch: scratch, Path: p.path, Prepare: p.box.isolate,
			Log: func(line string) { p.log.log(stage, line) }})
		return err
	})
	return result, err
}
