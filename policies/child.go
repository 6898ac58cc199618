package policies

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/waymark-cd/waymark/release"
)

// EvaluatorCommand is the hidden command by which a program that has this
// package starts itself to evaluate users' rules. It must call Evaluate.
const EvaluatorCommand = "policy-evaluator"

// request is what the evaluator is told on its standard input, before the input
// of the rules, which follows as a JSON document of its own.
type request struct {
	Point    string               `json:"point"`
	Files    []release.PolicyFile `json:"files"`
	Settings map[string]any       `json:"settings"`
	Timeout  time.Duration        `json:"timeout"`
	Memory   int64                `json:"memory"` // bytes
	Trace    bool                 `json:"trace"`
}

// answer is what the evaluator says on its standard output.
type answer struct {
	Deny            []userFinding `json:"deny"`
	Warn            []userFinding `json:"warn"`
	RequireApproval []userFinding `json:"require_approval"`
	Fired           []Fired       `json:"fired"`
	// Error is what went wrong in the rules, and Late what did not end in time; then
	// the rest is empty.
	Error string `json:"error"`
	Late  string `json:"late"`
}

// userFinding is one result of a user's rule: a string, which is its message, or
// an object with these members and no others.
type userFinding struct {
	Rule     string   `json:"rule"`
	Message  string   `json:"message"`
	Resource string   `json:"resource"`
	File     string   `json:"file"`
	Line     int      `json:"line"`
	Link     string   `json:"link"`
	Count    int      `json:"count"` // of approvals
	From     []string `json:"from"`  // who may give them: users, and groups as "group:NAME"
}

// Evaluate is the evaluator: it reads a request, bounds its own process for good
// and writes the answer. It ends the process when the time is over. A request
// that cannot be read, and memory that is used up, are errors or the process's
// end; what is wrong with the rules is part of the answer.
func Evaluate(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) error {
	decoder := json.NewDecoder(stdin)
	decoder.UseNumber()
	var r request
	if err := decoder.Decode(&r); err != nil {
		return fmt.Errorf("%w: reading the request (this command is started by waymark itself): %w", release.ErrInvalid, err)
	}
	if r.Timeout <= 0 || r.Memory <= 0 {
		return fmt.Errorf("%w request: it has no bounds", release.ErrInvalid)
	}
	// A function of OPA's may take no notice of being cancelled.
	time.AfterFunc(r.Timeout+graceTime/2, func() { os.Exit(lateExit) })
	debug.SetMemoryLimit(r.Memory / 4 * 3)
	if err := limitMemory(r.Memory); err != nil {
		return fmt.Errorf("bounding the memory: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	say := func(step string) { fmt.Fprintln(stderr, stepPrefix+step) }
	say("the input of package " + r.Point)
	input, err := readInput(decoder)
	if err != nil {
		return fmt.Errorf("%w: reading the input: %w", release.ErrInvalid, err)
	}
	a, err := r.answer(ctx, input, say)
	if err != nil {
		a = answer{Error: err.Error()}
	}
	return json.NewEncoder(stdout).Encode(a)
}

// readInput reads the document that rules see as "input".
func readInput(decoder *json.Decoder) (ast.Value, error) {
	var input any
	if err := decoder.Decode(&input); err != nil {
		return nil, err
	}
	return ast.InterfaceToValue(input)
}

// stepPrefix begins what the evaluator says on standard error of what it is at,
// so that whoever waits can tell what took too long.
const stepPrefix = "waymark: at "

// lateExit is the evaluator's exit code where its time is over.
const lateExit = 75

// answer evaluates all three sets of a decision point.
func (r request) answer(ctx context.Context, input ast.Value, say func(step string)) (a answer, err error) {
	say("the rules of package " + r.Point)
	lib := readLibrary(r.Files)
	var compiler *ast.Compiler
	if len(lib.problems) == 0 {
		compiler, _ = lib.compile()
	}
	if problems := lib.sorted(); len(problems) > 0 {
		return a, fmt.Errorf("%s (%d problems in all)", problems[0], len(problems))
	}
	store := inmem.NewFromObjectWithOpts(lib.withSettings(r.Settings), inmem.OptRoundTripOnWrite(false))
	fired := &firing{}
	for _, set := range []struct {
		name string
		into *[]userFinding
	}{{"deny", &a.Deny}, {"warn", &a.Warn}, {"require_approval", &a.RequireApproval}} {
		query := "data." + r.Point + "." + set.name
		say(query)
		prepared, err := prepare(ctx, compiler, store, query)
		if err != nil {
			return a, err
		}
		options := []rego.EvalOption{rego.EvalParsedInput(input)}
		if r.Trace {
			options = append(options, rego.EvalQueryTracer(fired))
		}
		results, err := prepared.Eval(ctx, options...)
		if ctx.Err() != nil || topdown.IsCancel(err) {
			return answer{Late: query}, nil
		}
		if err != nil {
			return a, err
		}
		if *set.into, err = readResults(results); err != nil {
			return a, fmt.Errorf("%s: %w", query, err)
		}
	}
	a.Fired = fired.places(answers...)
	return a, nil
}

// readResults reads the set that a query gave. No result at all means that the
// package has no such rule.
func readResults(results rego.ResultSet) ([]userFinding, error) {
	if len(results) == 0 {
		return nil, nil
	}
	if len(results) != 1 || len(results[0].Expressions) != 1 {
		return nil, errors.New("the rules gave no single answer")
	}
	set, ok := results[0].Expressions[0].Value.([]any)
	if !ok {
		return nil, errors.New("the answer is no set")
	}
	var out []userFinding
	for _, one := range set {
		f, err := readResult(one)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

func readResult(one any) (userFinding, error) {
	var f userFinding
	if message, ok := one.(string); ok {
		f.Message = message
		return f, nil
	}
	text, err := json.Marshal(one)
	if err != nil {
		return f, err
	}
	if _, ok := one.(map[string]any); !ok {
		return f, fmt.Errorf("a result is neither a string nor an object: %.80s", text)
	}
	if err := strictly(text, &f); err != nil {
		return f, fmt.Errorf("the result %.200s: %w", text, err)
	}
	return f, nil
}
