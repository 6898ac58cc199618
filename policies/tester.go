package policies

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"

	"github.com/waymark-cd/waymark/release"
)

// TestResult is how one of the users' own tests ended.
type TestResult struct {
	Name   string        `json:"name"` // with its package, such as data.plan_test.test_buckets
	File   string        `json:"file"`
	Line   int           `json:"line"`
	Passed bool          `json:"passed"`
	Skip   bool          `json:"skipped"` // its name begins with todo_
	Error  string        `json:"error"`   // what was wrong beside its not being true; empty for nothing
	Output string        `json:"output"`  // of print()
	Took   time.Duration `json:"took"`
}

// Test runs the users' tests, which are rules named test_… in files that end in
// _test.rego, beside the bundled modules, with the functions that rules have in a
// run and no others. The problems are those of Check, for the tests as well;
// where there are any, nothing is run.
func Test(ctx context.Context, spec release.PolicySpec) ([]TestResult, []FileProblem, error) {
	settings, err := settings(spec)
	if err != nil {
		return nil, nil, err
	}
	lib := readLibrary(spec.Files)
	if len(lib.problems) == 0 {
		lib.compile() // what is used in a run, by its stricter rules
	}
	var modules map[string]*ast.Module
	if len(lib.problems) == 0 {
		_, modules = lib.compile(lib.tests)
	}
	if problems := lib.sorted(); len(problems) > 0 {
		return nil, problems, nil
	}
	store := inmem.NewFromObjectWithOpts(lib.withSettings(settings), inmem.OptRoundTripOnWrite(false))
	txn, err := store.NewTransaction(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the rules' data: %w", err)
	}
	defer store.Abort(ctx, txn)
	compiler := ast.NewCompiler().WithCapabilities(capabilities()).WithEnablePrintStatements(true)
	runner := tester.NewRunner().SetCompiler(compiler).SetStore(store).CapturePrintOutput(true).RaiseBuiltinErrors(true).
		SetTimeout(cmp.Or(spec.Timeout, DefaultTimeout)).SetModules(modules)
	ran, err := runner.RunTests(ctx, txn)
	if err != nil {
		return nil, nil, fmt.Errorf("running the tests: %w", err)
	}
	var results []TestResult
	for r := range ran {
		result := TestResult{Name: r.Package + "." + r.Name, Passed: r.Pass(), Skip: r.Skip, Output: string(r.Output), Took: r.Duration}
		if r.Location != nil {
			result.File, result.Line = r.Location.File, r.Location.Row
		}
		if r.Error != nil {
			result.Error = strings.TrimSpace(r.Error.Error())
		}
		results = append(results, result)
	}
	slices.SortFunc(results, func(a, b TestResult) int { return cmp.Or(cmp.Compare(a.File, b.File), a.Line-b.Line) })
	return results, nil, ctx.Err()
}
