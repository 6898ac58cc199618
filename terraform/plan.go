package terraform

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

// PlanOptions says what to plan.
type PlanOptions struct {
	Out      string   // where the plan is saved, absolute; it holds secrets
	VarFiles []string // absolute, or relative to the root module; later ones win
	// Variables win over VarFiles. Values are anything that JSON can hold; they
	// reach the engine in a file of ScratchDir, never on its command line, and
	// are taken literally: "${x}" is no template.
	Variables   map[string]any
	Target      string // address of a module or resource; empty: everything
	Destroy     bool   // plan the removal of everything (or of Target)
	RefreshOnly bool   // plan only to take over what changed outside
	NoLock      bool   // do not lock the state: for a plan that is not applied
}

// Plan makes a plan and saves it. Whether anything changes is in the plan, not
// in the error. Diagnostics are held back for Release. Errors wrap release.ErrInvalid where the options are wrong and
// are an *Error where the engine fails.
func (e *Engine) Plan(ctx context.Context, opts PlanOptions) error {
	args, err := e.planArgs(opts)
	if err != nil {
		return err
	}
	defer os.Remove(e.variablesFile())
	s := newStream(e.log, e.hold)
	return e.run(ctx, "plan", args, nil, s.read, func() []Diagnostic { return s.diags })
}

func (e *Engine) planArgs(opts PlanOptions) ([]string, error) {
	if err := checkPlanFile(opts.Out); err != nil {
		return nil, err
	}
	if opts.Destroy && opts.RefreshOnly {
		return nil, fmt.Errorf("%w plan: destroy and refresh-only exclude each other", release.ErrInvalid)
	}
	args := []string{"plan", "-json", "-input=false", "-no-color", e.lockTimeout(), "-out=" + opts.Out}
	if opts.Destroy {
		args = append(args, "-destroy")
	}
	if opts.RefreshOnly {
		args = append(args, "-refresh-only")
	}
	if opts.NoLock {
		args = append(args, "-lock=false")
	}
	if opts.Target != "" {
		args = append(args, "-target="+opts.Target)
	}
	for _, f := range opts.VarFiles {
		args = append(args, "-var-file="+f)
	}
	if len(opts.Variables) > 0 {
		file, err := e.writeVariables(opts.Variables)
		if err != nil {
			return nil, err
		}
		args = append(args, "-var-file="+file)
	}
	for _, a := range args {
		if strings.ContainsRune(a, 0) {
			return nil, fmt.Errorf("%w plan: %q holds a NUL character", release.ErrInvalid, a)
		}
	}
	return args, nil
}

func (e *Engine) writeVariables(values map[string]any) (string, error) {
	doc, err := json.Marshal(values)
	if err != nil {
		return "", fmt.Errorf("%w variables: %w", release.ErrInvalid, err)
	}
	if err := writeFresh(e.variablesFile(), doc); err != nil {
		return "", fmt.Errorf("writing the variables: %w", err)
	}
	return e.variablesFile(), nil
}

func (e *Engine) variablesFile() string {
	return filepath.Join(e.cfg.ScratchDir, "variables.tfvars.json")
}
