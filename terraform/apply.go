package terraform

import (
	"context"

	"github.com/waymark-cd/waymark/release"
)

// ApplyResult is what an apply did, also when it failed on the way.
type ApplyResult struct {
	// Changes counts what was really done: a replaced resource is one added and
	// one destroyed.
	Changes release.Changes
	// Outputs of the root module: strings as they are, other values as compact
	// JSON, cut at 64 KiB, sensitive ones as "(sensitive)". Empty where the apply
	// failed.
	Outputs map[string]string
	// Failed are the resources that were not brought to their planned state.
	Failed []ResourceFailure
}

// ResourceFailure is one resource that an apply could not bring about.
type ResourceFailure struct {
	Address string
	Action  string // create, update or delete; empty where it had not begun
	Reason  string // one line with the place in the code
}

// Apply carries out exactly the saved plan, a path that is absolute. A plan
// without changes is applied all the same: it may carry outputs. The result is
// valid with an error too; the error is an *Error whose first line names the
// first resource that failed. Diagnostics are held back for Release.
func (e *Engine) Apply(ctx context.Context, planFile string) (ApplyResult, error) {
	if err := checkPlanFile(planFile); err != nil {
		return ApplyResult{}, err
	}
	args := []string{"apply", "-json", "-input=false", "-no-color", e.lockTimeout(), planFile}
	s := newStream(e.log, e.hold)
	err := e.run(ctx, "apply", args, nil, s.read, func() []Diagnostic { return s.diags })
	result := ApplyResult{Changes: s.done, Outputs: s.outputs}
	if s.total != nil {
		result.Changes = *s.total
	}
	if err != nil {
		result.Failed = s.failures()
	}
	return result, err
}

func (e *Engine) lockTimeout() string { return "-lock-timeout=" + e.cfg.LockTimeout.String() }
