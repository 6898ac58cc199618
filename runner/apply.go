package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/terraform"
)

// runApply is the apply phase: exactly the saved plan, or nothing.
func (p *phase) runApply(ctx context.Context) error {
	e, err := p.newEngine()
	if err != nil {
		return stopAt(ctx, release.StageApply, err)
	}
	// Another machine than the one that planned has the code, but no init.
	if _, err := os.Lstat(filepath.Join(p.root(), ".terraform")); errors.Is(err, os.ErrNotExist) {
		if err := p.initAgain(ctx, e); err != nil {
			return err
		}
	}
	return p.stage(ctx, release.StageApply, func() (string, error) {
		plan := p.own(plainPlan)
		if err := decryptPlan(p.spec.PlanFile, plan, p.spec.PlanIdentity); err != nil {
			return "", err
		}
		digest, err := terraform.Digest(plan)
		if err != nil {
			return "", err
		}
		if digest != p.spec.PlanDigest {
			return "", fmt.Errorf("the saved plan is not the one that was approved: it has the digest %s, approved was %s; plan again", digest, p.spec.PlanDigest)
		}
		if err := p.learnSecrets(ctx, e, plan); err != nil {
			return "", fmt.Errorf("what of the plan is secret cannot be told, and nothing was changed: %w", err)
		}
		if ctx.Err() != nil {
			return "", context.Cause(ctx) // nothing has begun
		}
		return p.applyPlan(ctx, e, plan)
	})
}

// initAgain prepares the working directory as the plan phase did.
func (p *phase) initAgain(ctx context.Context, e *engine) error {
	return p.stage(ctx, release.StageInit, func() (string, error) {
		args, err := p.prepare(p.root(), p.spec.Engine, p.spec.Backend)
		if err != nil {
			return "", err
		}
		return "this machine had no init of the plan", p.init(ctx, e, release.StageInit, args)
	})
}

// applyPlan applies a plan file. The error wraps errUnseen where nobody can say
// how far the engine came.
func (p *phase) applyPlan(ctx context.Context, e *engine, plan string) (string, error) {
	began, seen := false, false
	var did terraform.ApplyResult
	err := e.step(release.StageApply, func() (err error) {
		if until := p.spec.BeginBefore; !until.IsZero() && time.Now().After(until) {
			return fmt.Errorf("the apply was to begin before %s and did not: its worker may have been declared dead since; nothing was changed", until.UTC().Format(time.TimeOnly))
		}
		if err := removeErrored(p.spec.WorkDir, p.spec.Stack.Path); err != nil { // one of the repository's own
			return err
		}
		began = true
		did, err = e.Apply(ctx, plan)
		seen = true
		return err
	})
	if err == nil {
		p.learnContent(ctx, e)
	}
	e.settle(ctx)
	err = p.redact(err)
	p.mu.Lock()
	p.applied, p.outputs = did.Changes, did.Outputs
	p.mu.Unlock()
	summary := changeSummary(did.Changes, "added", "changed", "destroyed")
	switch {
	case err == nil:
		return summary, nil
	case began && !seen, killedBySignal(err):
		return "", fmt.Errorf("%w: %w", errUnseen, err)
	case stateNotSaved(err):
		return "", fmt.Errorf("%w: %s; done before: %s; %s", errUnseen, firstLine(err), summary, p.keepErroredState())
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		why := stopAt(ctx, release.StageApply, err).(*stop)
		why.why += "; done before: " + summary
		return "", why
	case did.Changes.Any():
		return "", fmt.Errorf("%s; done before: %s", firstLine(err), summary)
	}
	return "", err
}

// learnContent reads which resources the state has now. The apply is over: without
// them it has succeeded all the same.
func (p *phase) learnContent(ctx context.Context, e *engine) {
	err := e.step(release.StageApply, func() error {
		state, err := e.ShowState(ctx)
		if err != nil {
			return err
		}
		content := terraform.Content(state)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.content = &content
		return nil
	})
	if err != nil {
		p.log.log(release.StageApply, "the inventory stays as it was: "+firstLine(err))
	}
}

// stateNotSaved reports whether the engine applied and could not write the
// state: what it made is real, and the state does not know it.
func stateNotSaved(err error) bool {
	var failure *terraform.Error
	return errors.As(err, &failure) && slices.ContainsFunc(failure.Diagnostics, func(d terraform.Diagnostic) bool {
		return strings.HasPrefix(d.Summary, "Failed to save state") || strings.HasPrefix(d.Summary, "Failed to persist state")
	})
}

// killedBySignal reports whether the engine was killed and so may not have
// saved its state.
func killedBySignal(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled()
}
