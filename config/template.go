package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// Template is a value that depends on the target. Config.Resolve evaluates it;
// the zero Template is an absent value.
type Template struct {
	expr   hclsyntax.Expression
	name   string // path in the file, for messages
	yields shape
}

// IsZero reports whether the configuration leaves the value out.
func (t Template) IsZero() bool { return t.expr == nil }

// place is where the template begins, "file:line".
func (t Template) place() string {
	r := t.expr.Range()
	return fmt.Sprintf("%s:%d", r.Filename, r.Start.Line)
}

// variable is a name that templates may use.
type variable struct {
	name, meaning string
	late          bool // decided by the tag or its commit, not by the target
}

// variables lists what templates may use, in the order of the reference.
func variables() []variable {
	return []variable{
		{name: "env", meaning: "The environment, such as `dev`."},
		{name: "scope", meaning: "The Region that the tag names, or `global`."},
		{name: "region", meaning: "The Region to deploy from: `scope`, or `global_region` for global targets."},
		{name: "team", meaning: "The team, such as `research`."},
		{name: "repository", meaning: "The name of the repository block."},
		{name: "account", meaning: "What `stack.account` gives. Not available in `stack.account` itself."},
		{name: "version", late: true, meaning: "The version as the tag spells it. Not available in `backend`."},
		{name: "tag", late: true, meaning: "The whole tag. Not available in `backend`."},
		{name: "commit", late: true, meaning: "The commit's id. Not available in `backend`."},
	}
}

// nameScope says which names an expression may use, and where it stands.
type nameScope struct {
	place     string
	variables func(variable) bool
	functions []string
}

// Where expressions stand.
var (
	staticScope = nameScope{
		place:     "a value that is read once, when the service starts",
		variables: func(variable) bool { return false },
		functions: plainFunctions,
	}
	backendScope = nameScope{
		place:     "backend",
		variables: func(v variable) bool { return !v.late },
		functions: append(slices.Clone(plainFunctions), "tfvar"),
	}
)

// stackScope returns what a template outside of backend may use.
func stackScope(path string) nameScope {
	s := nameScope{
		place:     path,
		variables: func(v variable) bool { return path != "stack.account" || v.name != "account" },
		functions: backendScope.functions,
	}
	if path == "stack.var_files" {
		s.functions = append(slices.Clone(s.functions), "optional")
	}
	return s
}

// checkNames finds variables and functions that are not there, in every branch
// of the expression, also those that no evaluation reaches.
func checkNames(expr hclsyntax.Expression, in nameScope) Problems {
	var out Problems
	var known, elsewhere []string
	for _, v := range variables() {
		if in.variables(v) {
			known = append(known, v.name)
		} else {
			elsewhere = append(elsewhere, v.name)
		}
	}
	for _, t := range expr.Variables() {
		name := t.RootName()
		switch {
		case slices.Contains(elsewhere, name):
			out = append(out, problemAt(t.SourceRange(), fmt.Sprintf("the variable %s cannot be used in %s", name, in.place),
				useVariables(known)))
		case !slices.Contains(known, name):
			out = append(out, problemAt(t.SourceRange(), fmt.Sprintf("there is no variable %q", name), chooseVariable(name, known)))
		case len(t) > 1:
			out = append(out, problemAt(t.SourceRange(), fmt.Sprintf("the variable %s is a string", name), "it has no parts; leave out what follows it"))
		}
	}
	_ = hclsyntax.VisitAll(expr, func(n hclsyntax.Node) hcl.Diagnostics {
		if call, ok := n.(*hclsyntax.FunctionCallExpr); ok {
			out = append(out, checkCall(call, in)...)
		}
		return nil
	})
	return out
}

// checkCall judges one function call by its name.
func checkCall(call *hclsyntax.FunctionCallExpr, in nameScope) Problems {
	switch {
	case slices.Contains(in.functions, call.Name):
		return nil
	case call.Name == "optional":
		return Problems{problemAt(call.NameRange, "optional() cannot be used in "+in.place, "it belongs in stack.var_files")}
	case call.Name == "tfvar":
		return Problems{problemAt(call.NameRange, "tfvar() cannot be used in "+in.place, "it reads the repository at a tag's commit")}
	default:
		return Problems{problemAt(call.NameRange, fmt.Sprintf("there is no function %q", call.Name), Choose(call.Name, in.functions))}
	}
}

// useVariables says which variables there are.
func useVariables(known []string) string {
	if len(known) == 0 {
		return "write the value itself, or env(\"NAME\")"
	}
	return "use " + strings.Join(known, ", ")
}

// chooseVariable is choose, for a place that may have no variables at all.
func chooseVariable(name string, known []string) string {
	if len(known) == 0 {
		return "put quotes around a string"
	}
	return Choose(name, known)
}

// evaluate gives the template's value, converted to what it must yield.
func (t Template) evaluate(ctx *hcl.EvalContext) (cty.Value, Problems) {
	value, diags := t.expr.Value(ctx)
	if !printable(value) {
		return cty.DynamicVal, Problems{problemAt(t.expr.Range(), t.name+" is too large a number", "write a string")}
	}
	if diags.HasErrors() {
		return cty.DynamicVal, problemsOf(diags, t.expr.Range())
	}
	if value.IsNull() || !value.IsKnown() && value.Type() == cty.DynamicPseudoType {
		return value, nil
	}
	expected, ok := "a string", true
	switch t.yields {
	case yieldsList:
		value, ok, expected = asList(value)
	case yieldsObject:
		expected, ok = `a map, such as { env = env }`, value.Type().IsObjectType() || value.Type().IsMapType()
	case yieldsString:
		value, ok = asString(value)
	}
	if !ok {
		return cty.DynamicVal, Problems{problemAt(t.expr.Range(), fmt.Sprintf("%s must be %s", t.name, expected),
			"it is "+value.Type().FriendlyName())}
	}
	return value, nil
}

// evaluateIfSet is evaluate, and null for a template that is absent.
func (t Template) evaluateIfSet(ctx *hcl.EvalContext) (cty.Value, Problems) {
	if t.IsZero() {
		return cty.NullVal(cty.String), nil
	}
	return t.evaluate(ctx)
}

// asString converts a primitive value to a string.
func asString(v cty.Value) (cty.Value, bool) {
	if !v.Type().IsPrimitiveType() && v.Type() != cty.DynamicPseudoType {
		return v, false
	}
	s, err := convert.Convert(v, cty.String)
	if err != nil {
		return v, false
	}
	return s, true
}

// asList converts a value to a list of strings.
func asList(v cty.Value) (cty.Value, bool, string) {
	const expected = `a list of strings, such as ["${env}.tfvars"]`
	if t := v.Type(); !t.IsTupleType() && !t.IsListType() && !t.IsSetType() {
		return v, false, expected
	}
	list, err := convert.Convert(v, cty.List(cty.String))
	if err != nil {
		return v, false, expected
	}
	return list, true, expected
}
