package policies

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	tfjson "github.com/hashicorp/terraform-json"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/waymark-cd/waymark/release"
)

//go:embed rego/sources.rego rego/config.rego rego/plan.rego
var bundled embed.FS

// source is what Finding.Source says of every finding of this package.
const source = "policy"

// Engine holds the rules, ready to be asked. It is safe for concurrent use.
type Engine struct {
	config, plan rego.PreparedEvalQuery
}

// New compiles the bundled rules for the settings in spec. A pattern that makes
// no sense gives an error that wraps release.ErrInvalid.
func New(ctx context.Context, spec release.PolicySpec) (*Engine, error) {
	settings, err := settings(spec)
	if err != nil {
		return nil, err
	}
	data := map[string]any{"waymark": map[string]any{"settings": settings}}
	store := inmem.NewFromObjectWithOpts(data, inmem.OptRoundTripOnWrite(false))
	rules, err := compile()
	if err != nil {
		return nil, fmt.Errorf("compiling the rules: %w", err)
	}
	e := &Engine{}
	if e.config, err = prepare(ctx, rules, store, "config"); err != nil {
		return nil, err
	}
	if e.plan, err = prepare(ctx, rules, store, "plan"); err != nil {
		return nil, err
	}
	return e, nil
}

// settings gives the document data.waymark.settings. Its lists are never null.
func settings(spec release.PolicySpec) (map[string]any, error) {
	providers, err := patterns(spec.AllowedProviders, providerPattern)
	if err != nil {
		return nil, err
	}
	modules, err := patterns(spec.AllowedModules, modulePattern)
	if err != nil {
		return nil, err
	}
	return map[string]any{"providers": providers, "modules": modules}, nil
}

// patterns reads a list of patterns and reports all that are wrong.
func patterns(texts []string, read func(string) (pattern, error)) ([]any, error) {
	list := make([]any, 0, len(texts))
	var problems []error
	for _, text := range texts {
		p, err := read(text)
		problems = append(problems, err)
		list = append(list, map[string]any{"pattern": p.Text, "regex": p.Regex, "query": p.Query})
	}
	return list, errors.Join(problems...)
}

// compile compiles all rules at once, which is cheaper than once per decision
// point.
func compile() (*ast.Compiler, error) {
	files, err := fs.Glob(bundled, "rego/*.rego")
	if err != nil {
		return nil, err
	}
	modules := map[string]*ast.Module{}
	for _, file := range files {
		text, err := bundled.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if modules[file], err = ast.ParseModule(file, string(text)); err != nil {
			return nil, err
		}
	}
	compiler := ast.NewCompiler().WithStrict(true)
	if compiler.Compile(modules); compiler.Failed() {
		return nil, compiler.Errors
	}
	return compiler, nil
}

// prepare makes the query for the findings of one decision point, "config" or "plan".
func prepare(ctx context.Context, rules *ast.Compiler, store storage.Store, point string) (rego.PreparedEvalQuery, error) {
	query, err := rego.New(
		rego.Query("data.waymark."+point+".findings"),
		rego.Compiler(rules),
		rego.Store(store),
		rego.StrictBuiltinErrors(true), // an error must not read as "no finding"
	).PrepareForEval(ctx)
	if err != nil {
		return query, fmt.Errorf("preparing the rules on the %s: %w", point, err)
	}
	return query, nil
}

// Config judges what ReadConfig gave. It returns the findings in the order of
// release.SortFindings, none where nothing is to be said. An error means that
// nothing was judged, and is never to be taken for a pass.
func (e *Engine) Config(ctx context.Context, input Input) ([]release.Finding, error) {
	findings, err := evaluate(ctx, e.config, input)
	if err != nil {
		return nil, fmt.Errorf("judging the configuration: %w", err)
	}
	return findings, nil
}

// Plan judges a plan as `show -json` gives it. Findings and error are as for
// Config; no finding repeats a value of an attribute.
func (e *Engine) Plan(ctx context.Context, plan *tfjson.Plan) ([]release.Finding, error) {
	if plan == nil {
		return nil, errors.New("judging the plan: there is none")
	}
	findings, err := evaluate(ctx, e.plan, planInput(plan))
	if err != nil {
		return nil, fmt.Errorf("judging the plan: %w", err)
	}
	return findings, nil
}

// evaluate asks one query and reads its set of findings.
func evaluate(ctx context.Context, query rego.PreparedEvalQuery, input any) ([]release.Finding, error) {
	results, err := query.Eval(ctx, rego.EvalInput(input))
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || len(results[0].Expressions) != 1 {
		return nil, errors.New("the rules gave no answer")
	}
	text, err := json.Marshal(results[0].Expressions[0].Value)
	if err != nil {
		return nil, err
	}
	var findings []release.Finding
	if err := json.Unmarshal(text, &findings); err != nil {
		return nil, fmt.Errorf("reading the rules' answer: %w", err)
	}
	for i := range findings {
		findings[i].Source = source
		findings[i].Message = oneLine(findings[i].Message)
		findings[i].Resource = oneLine(findings[i].Resource) // in JSON a name may be any text
	}
	release.SortFindings(findings)
	return findings, nil
}
