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
	var doc []byte
	var err error
	runErr := e.run(ctx, "show", []string{"show", "-json", "-no-color", planFile}, nil, func(r io.Reader) {
		doc, err = io.ReadAll(io.LimitReader(r, maxPlan+1))
	}, nil)
	if runErr != nil {
		return nil, runErr
	}
	plan := new(tfjson.Plan)
	plan.UseJSONNumber(true)
	if err == nil && len(doc) > maxPlan {
		err = fmt.Errorf("it is longer than %d MiB", maxPlan>>20)
	}
	if err == nil {
		err = json.Unmarshal(doc, plan)
	}
	if err != nil {
		return nil, &Error{Command: "show", Err: fmt.Errorf("reading the plan: %w", err)}
	}
	return plan, nil
}
