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
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/waymark-cd/waymark/release"
)

//go:embed rego/lib.rego rego/sources.rego rego/config.rego rego/plan.rego
var bundled embed.FS

//go:embed rego/databearing.json
var databearing []byte

// source is what Finding.Source says of every finding of this package.
const source = "policy"

// Engine holds the bundled rules, ready to be asked, and the users' own. It is
// safe for concurrent use.
type Engine struct {
	spec         release.PolicySpec
	config, plan rego.PreparedEvalQuery
	users        users
}

// New compiles the bundled rules for the settings in spec, and reads which
// decision points the users' own are for. A setting or a file that makes no
// sense gives an error that wraps release.ErrInvalid.
func New(ctx context.Context, spec release.PolicySpec) (*Engine, error) {
	settings, err := settings(spec)
	if err != nil {
		return nil, err
	}
	e := &Engine{spec: spec}
	if e.users, err = newUsers(spec, settings); err != nil {
		return nil, err
	}
	data := map[string]any{"waymark": settings}
	store := inmem.NewFromObjectWithOpts(data, inmem.OptRoundTripOnWrite(false))
	rules, err := compile()
	if err != nil {
		return nil, fmt.Errorf("compiling the rules: %w", err)
	}
	if e.config, err = prepare(ctx, rules, store, "data.waymark.config.findings"); err != nil {
		return nil, err
	}
	if e.plan, err = prepare(ctx, rules, store, "data.waymark.plan.findings"); err != nil {
		return nil, err
	}
	return e, nil
}

// settings gives the document data.waymark. Its lists are never null.
func settings(spec release.PolicySpec) (map[string]any, error) {
	providers, err := patterns(spec.AllowedProviders, providerPattern)
	if err != nil {
		return nil, err
	}
	modules, err := patterns(spec.AllowedModules, modulePattern)
	if err != nil {
		return nil, err
	}
	if err := checkSwitches(spec.Switches); err != nil {
		return nil, err
	}
	var types any
	if err := json.Unmarshal(databearing, &types); err != nil {
		return nil, fmt.Errorf("reading the list of data-bearing types: %w", err)
	}
	most := release.DefaultMaxDestroys
	if spec.MaxDestroys != nil {
		most = *spec.MaxDestroys
	}
	return map[string]any{"databearing": types, "settings": map[string]any{
		"providers": providers, "modules": modules, "data_bearing_types": anyList(spec.DataBearingTypes),
		"max_destroys": json.Number(fmt.Sprint(most)), "required_tags": anyList(spec.RequiredTags), "accounts": anyList(spec.Accounts)}}, nil
}

func anyList(texts []string) []any {
	list := make([]any, len(texts))
	for i, text := range texts {
		list[i] = text
	}
	return list
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

// bundledModules parses the bundled rules.
func bundledModules() (map[string]*ast.Module, error) {
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
	return modules, nil
}

// compile compiles all bundled rules at once, which is cheaper than once per
// decision point.
func compile() (*ast.Compiler, error) {
	modules, err := bundledModules()
	if err != nil {
		return nil, err
	}
	compiler := ast.NewCompiler().WithStrict(true)
	if compiler.Compile(modules); compiler.Failed() {
		return nil, compiler.Errors
	}
	return compiler, nil
}

// prepare makes one query ready.
func prepare(ctx context.Context, rules *ast.Compiler, store storage.Store, query string) (rego.PreparedEvalQuery, error) {
	prepared, err := rego.New(
		rego.Query(query),
		rego.Compiler(rules),
		rego.Store(store),
		rego.StrictBuiltinErrors(true), // an error must not read as "no finding"
	).PrepareForEval(ctx)
	if err != nil {
		return prepared, fmt.Errorf("preparing %s: %w", query, err)
	}
	return prepared, nil
}

// Config judges what ReadConfig gave. The findings come in the order of
// release.SortFindings, none where nothing is to be said. An error means that
// nothing was judged, and is never to be taken for a pass; it wraps
// release.ErrRefused where it is the users' rules that cannot be evaluated.
func (e *Engine) Config(ctx context.Context, input Input) (release.PolicyVerdict, error) {
	answer, err := e.askConfig(ctx, input, false)
	return answer.Verdict, err
}

// Plan judges a plan as `show -json` gives it. Verdict and error are as for
// Config; no finding of a bundled rule repeats a sensitive value of an attribute.
func (e *Engine) Plan(ctx context.Context, plan *tfjson.Plan) (release.PolicyVerdict, error) {
	answer, err := e.askPlan(ctx, plan, false)
	return answer.Verdict, err
}

// Tag judges a tag before it is admitted. Verdict and error are as for Config.
// There are no bundled rules on tags: Waymark's own are part of the service.
func (e *Engine) Tag(ctx context.Context, facts release.TagFacts) (release.PolicyVerdict, error) {
	answer, err := e.askTag(ctx, facts, false)
	return answer.Verdict, err
}

// JudgesTags reports whether there are rules on tags at all.
func (e *Engine) JudgesTags() bool { return e.users.has(release.PointTag) }

// Answer is a verdict with how it came about.
type Answer struct {
	Point   string                `json:"point"`
	Input   any                   `json:"input"` // what users' rules see
	Verdict release.PolicyVerdict `json:"-"`
	Fired   []Fired               `json:"fired"`
}

// Fired is a place in a rule file that said something.
type Fired struct {
	Rule string `json:"rule"` // such as data.plan.deny
	File string `json:"file"`
	Line int    `json:"line"`
}

// ExplainConfig judges as Config does, and tells the input and which rules fired.
// It takes longer.
func (e *Engine) ExplainConfig(ctx context.Context, input Input) (Answer, error) {
	return e.askConfig(ctx, input, true)
}

// ExplainPlan is to Plan what ExplainConfig is to Config.
func (e *Engine) ExplainPlan(ctx context.Context, plan *tfjson.Plan) (Answer, error) {
	return e.askPlan(ctx, plan, true)
}

// ExplainTag is to Tag what ExplainConfig is to Config.
func (e *Engine) ExplainTag(ctx context.Context, facts release.TagFacts) (Answer, error) {
	return e.askTag(ctx, facts, true)
}

func (e *Engine) askConfig(ctx context.Context, input Input, trace bool) (Answer, error) {
	input.Format, input.Target = InputFormat, targetOf(e.spec)
	input.Kind, input.ConfiguredBackend = string(e.spec.Kind), e.spec.Backend
	a, err := e.ask(ctx, release.PointConfig, &e.config, input, func() any { return input }, trace)
	if err != nil {
		return a, fmt.Errorf("judging the configuration: %w", err)
	}
	return a, nil
}

func (e *Engine) askPlan(ctx context.Context, plan *tfjson.Plan, trace bool) (Answer, error) {
	if plan == nil {
		return Answer{}, errors.New("judging the plan: there is none")
	}
	a, err := e.ask(ctx, release.PointPlan, &e.plan, planInput(plan, e.spec, false),
		func() any { return planInput(plan, e.spec, true) }, trace)
	if err != nil {
		return a, fmt.Errorf("judging the plan: %w", err)
	}
	return a, nil
}

func (e *Engine) askTag(ctx context.Context, facts release.TagFacts, trace bool) (Answer, error) {
	input := tagInput(facts, e.spec)
	a, err := e.ask(ctx, release.PointTag, nil, nil, func() any { return input }, trace)
	if err != nil {
		return a, fmt.Errorf("judging the tag: %w", err)
	}
	return a, nil
}

// ask puts the bundled rules' input to query, where there is one, and the users'
// input to their rules.
func (e *Engine) ask(ctx context.Context, point string, query *rego.PreparedEvalQuery, ours any, theirs func() any, trace bool) (Answer, error) {
	a := Answer{Point: point, Fired: []Fired{}}
	v := verdict{point: point}
	if query != nil {
		found, err := e.evaluate(ctx, *query, ours, trace, &a)
		if err != nil {
			return a, err
		}
		v.addBundled(found, e.spec.Switches)
	}
	if trace || e.users.has(point) {
		a.Input = theirs()
	}
	if e.users.has(point) {
		said, err := e.users.evaluate(ctx, point, a.Input, trace)
		if err != nil {
			return a, err
		}
		a.Fired = append(a.Fired, said.Fired...)
		if err := v.addUsers(said); err != nil {
			return a, err
		}
	}
	a.Verdict = v.done()
	return a, nil
}

// bundledFinding is what a bundled rule gives.
type bundledFinding struct {
	Rule     string `json:"rule"`
	Message  string `json:"message"`
	Resource string `json:"resource"`
	File     string `json:"file"`
	Line     int    `json:"line"`
}

// evaluate asks one query of the bundled rules and reads its set of findings.
func (e *Engine) evaluate(ctx context.Context, query rego.PreparedEvalQuery, input any, trace bool, a *Answer) ([]bundledFinding, error) {
	options := []rego.EvalOption{rego.EvalInput(input)}
	fired := &firing{}
	if trace {
		options = append(options, rego.EvalQueryTracer(fired))
	}
	results, err := query.Eval(ctx, options...)
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
	var findings []bundledFinding
	if err := json.Unmarshal(text, &findings); err != nil {
		return nil, fmt.Errorf("reading the rules' answer: %w", err)
	}
	a.Fired = append(a.Fired, fired.places("findings")...)
	return findings, nil
}

// firing notes which rules came to something.
type firing struct {
	seen map[Fired]bool
	list []Fired
}

var _ topdown.QueryTracer = (*firing)(nil)

// Enabled is part of topdown.QueryTracer.
func (f *firing) Enabled() bool { return true }

// Config is part of topdown.QueryTracer.
func (f *firing) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

// TraceEvent is part of topdown.QueryTracer.
func (f *firing) TraceEvent(event topdown.Event) {
	rule, ok := event.Node.(*ast.Rule)
	if !ok || event.Op != topdown.ExitOp || rule.Location == nil {
		return
	}
	place := Fired{Rule: rule.Module.Package.Path.String() + "." + string(rule.Head.Name), File: rule.Location.File, Line: rule.Location.Row}
	if f.seen == nil {
		f.seen = map[Fired]bool{}
	}
	if !f.seen[place] {
		f.seen[place] = true
		f.list = append(f.list, place)
	}
}

// places lists the rules of these names.
func (f *firing) places(names ...string) []Fired {
	out := []Fired{}
	for _, place := range f.list {
		for _, name := range names {
			if len(place.Rule) > len(name) && place.Rule[len(place.Rule)-len(name)-1:] == "."+name {
				out = append(out, place)
			}
		}
	}
	return out
}
