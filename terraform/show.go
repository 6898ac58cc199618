package terraform

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	tfjson "github.com/hashicorp/terraform-json"
)

// maxPlan bounds what show may print, in bytes.
const maxPlan = 256 << 20

// Show reads the saved plan, a path that is absolute, as the engine describes
// it, numbers as json.Number. The answer holds sensitive values in clear: it
// must not leave the process; [Summarize] makes what may.
func (e *Engine) Show(ctx context.Context, planFile string) (*tfjson.Plan, error) {
	if err := checkPlanFile(planFile); err != nil {
		return nil, err
	}
	plan := new(tfjson.Plan)
	plan.UseJSONNumber(true)
	return plan, e.show(ctx, "the plan", plan, planFile)
}

// ShowState reads the state as the engine describes it, with the care that Show
// asks for.
func (e *Engine) ShowState(ctx context.Context) (*tfjson.State, error) {
	state := new(tfjson.State)
	state.UseJSONNumber(true)
	return state, e.show(ctx, "the state", state)
}

func (e *Engine) show(ctx context.Context, what string, into any, args ...string) error {
	var doc []byte
	var err error
	runErr := e.run(ctx, "show", append([]string{"show", "-json", "-no-color"}, args...), nil, func(r io.Reader) {
		doc, err = io.ReadAll(io.LimitReader(r, maxPlan+1))
	}, nil)
	if runErr != nil {
		return runErr
	}
	if err == nil && len(doc) > maxPlan {
		err = fmt.Errorf("it is longer than %d MiB", maxPlan>>20)
	}
	if err == nil {
		err = json.Unmarshal(doc, into)
	}
	if err != nil {
		return &Error{Command: "show", Err: fmt.Errorf("reading %s: %w", what, err)}
	}
	return nil
}
