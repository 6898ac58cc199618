package terraform

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	tfjson "github.com/hashicorp/terraform-json"
)

// Validate checks the code of an initialised directory, whatever the variables'
// values. What it finds wrong is an *Error with a diagnostic for each problem;
// an *Error without one says that the question could not be answered. It runs
// providers of the code, which may leave processes behind that hold the output
// open, so that it is started here and not through terraform-exec.
func (e *Engine) Validate(ctx context.Context) error {
	var doc []byte
	var err error
	runErr := e.run(ctx, "validate", []string{"validate", "-json", "-no-color"}, nil, func(r io.Reader) {
		doc, err = io.ReadAll(io.LimitReader(r, maxAnswer+1))
	}, nil)
	if ctx.Err() != nil && runErr != nil {
		return runErr
	}
	var answer tfjson.ValidateOutput
	if err == nil {
		err = json.Unmarshal(doc, &answer)
	}
	switch {
	case err != nil && runErr != nil:
		return runErr
	case err != nil:
		return &Error{Command: "validate", Err: fmt.Errorf("reading the answer: %w", err)}
	}
	failure := &Error{Command: "validate"}
	for _, d := range answer.Diagnostics {
		diag := diagnosticOf(d)
		e.log(diag.lines()...)
		failure.add(diag)
	}
	if answer.Valid {
		return nil
	}
	return failure
}
