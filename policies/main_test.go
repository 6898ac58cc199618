package policies

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

// TestMain lets the test binary be the evaluator that the package starts, and one
// that panics.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case EvaluatorCommand:
			if err := Evaluate(context.Background(), os.Stdin, os.Stdout, os.Stderr); err != nil {
				fmt.Fprintln(os.Stderr, "waymark:", err)
				os.Exit(2)
			}
			os.Exit(0)
		case "evaluator-that-panics":
			fmt.Fprintln(os.Stderr, stepPrefix+"data.plan.deny")
			panic("a function of OPA's failed")
		case "evaluator-that-is-killed":
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		case "evaluator-that-hangs":
			fmt.Fprintln(os.Stderr, stepPrefix+"data.plan.warn")
			select {}
		}
	}
	os.Exit(m.Run())
}

// regoText prints a value as Rego does.
func regoText(t *testing.T, v any) string {
	t.Helper()
	value, err := ast.InterfaceToValue(v)
	if err != nil {
		t.Fatal(err)
	}
	return value.String()
}
