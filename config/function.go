package config

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/tagparse"
)

// plainFunctions are the functions that need no target.
var plainFunctions = []string{"env", "lower", "upper", "replace", "format", "join", "coalesce", "short_region"}

// optionalMark begins the path of a variable file that may be absent. It holds
// a NUL, so that it cannot come from anywhere but optional().
const optionalMark = "\x00optional\x00"

// callProblem is what a function of ours says of its arguments. It is shown
// as it is, without HCL's words around it.
type callProblem struct{ error }

// Unwrap returns the cause.
func (p callProblem) Unwrap() error { return p.error }

func callProblemf(format string, args ...any) error { return callProblem{fmt.Errorf(format, args...)} }

// staticFunctions are the functions of values that no target decides.
func staticFunctions(lookupEnv func(string) (string, bool)) map[string]function.Function {
	return map[string]function.Function{
		"env":          envFunction(lookupEnv),
		"lower":        stdlib.LowerFunc,
		"upper":        stdlib.UpperFunc,
		"replace":      stdlib.ReplaceFunc,
		"format":       stdlib.FormatFunc,
		"join":         stdlib.JoinFunc,
		"coalesce":     stdlib.CoalesceFunc,
		"short_region": shortRegionFunction(),
	}
}

// templateFunctions are the functions of templates. files is the repository at
// the tag's commit; while it is nil, what tfvar reads is unknown.
func templateFunctions(lookupEnv func(string) (string, bool), files Files) map[string]function.Function {
	out := staticFunctions(lookupEnv)
	out["tfvar"] = tfvarFunction(files)
	out["optional"] = function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.StringVal(optionalMark + strings.TrimPrefix(args[0].AsString(), optionalMark)), nil
		},
	})
	return out
}

// envFunction is env(name) and env(name, default). A variable that is set but
// empty counts as unset.
func envFunction(lookupEnv func(string) (string, bool)) function.Function {
	return function.New(&function.Spec{
		Params:   []function.Parameter{{Name: "name", Type: cty.String}},
		VarParam: &function.Parameter{Name: "default", Type: cty.String},
		Type:     function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			name := args[0].AsString()
			if len(args) > 2 {
				return cty.NilVal, callProblemf("env() takes a name and one default")
			}
			if v, _ := lookupEnv(name); v != "" {
				return cty.StringVal(v), nil
			}
			if len(args) == 2 {
				return args[1], nil
			}
			return cty.NilVal, callProblemf("the environment variable %s is unset or empty: set it, or write env(%q, \"a default\")", name, name)
		},
	})
}

// tfvarFunction is tfvar(path, name).
func tfvarFunction(files Files) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}, {Name: "name", Type: cty.String}},
		Type:   function.StaticReturnType(cty.DynamicPseudoType),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			path, err := insidePath(args[0].AsString())
			if err != nil {
				return cty.NilVal, callProblem{err}
			}
			if files == nil {
				return cty.DynamicVal, nil
			}
			v, err := readVariable(files, path, args[1].AsString())
			if err != nil {
				return cty.NilVal, callProblem{err}
			}
			return v, nil
		},
	})
}

// shortRegionFunction is short_region(region).
func shortRegionFunction() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "region", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			short, err := shortRegion(args[0].AsString())
			if err != nil {
				return cty.NilVal, callProblem{err}
			}
			return cty.StringVal(short), nil
		},
	})
}

// direction splits the word of a Region's name that says where it lies.
var direction = regexp.MustCompile(`^(north|south|)(east|west|central|)$`)

// shortRegion abbreviates a Region: the first part and the number stay, a
// direction becomes its letters (northeast: ne), gov becomes g, iso and what
// follows it i and the rest, any other word stays.
func shortRegion(region string) (string, error) {
	if region == tagparse.Global || !isScope(region) {
		return "", fmt.Errorf(`%w: short_region() takes a Region such as us-east-1, not %q: for global targets use region, or a condition on scope`,
			release.ErrInvalid, short(region))
	}
	parts := strings.Split(region, "-")
	for i := 1; i < len(parts)-1; i++ {
		p := parts[i]
		switch m := direction.FindStringSubmatch(p); {
		case m != nil:
			parts[i] = initial(m[1]) + initial(m[2])
		case p == "gov":
			parts[i] = "g"
		case strings.HasPrefix(p, "iso"):
			parts[i] = "i" + strings.TrimPrefix(p, "iso")
		}
	}
	return strings.Join(parts, ""), nil
}

// initial returns the first letter of a word, or nothing of an empty one.
func initial(word string) string { return word[:min(len(word), 1)] }

// isScope reports whether s may be the scope of a tag.
func isScope(s string) bool {
	_, _, _, err := tagparse.ParseTarget("env_" + s + "/team")
	return err == nil
}

// functionMeanings documents the functions, in the order of the reference.
func functionMeanings() [][2]string {
	return [][2]string{
		{`env("NAME")`, "An environment variable of the service. One that is unset or empty is an error; `env(\"NAME\", \"default\")` gives the default then, which may be `\"\"`."},
		{`optional("path")`, "In `stack.var_files` alone: a variable file that the commit may lack."},
		{`tfvar("path", "name")`, "A variable that is set in a `.tfvars` or `.tfvars.json` file of the repository at the tag's commit. It must be a literal string, number or bool: nothing in the file is evaluated. Templates alone."},
		{`short_region("us-east-1")`, "The Region's short form, `use1`. The first part and the number stay; directions become `n`, `s`, `e`, `w`, `c`, `ne`, `nw`, `se`, `sw`; `gov` becomes `g` and `iso` becomes `i`; any other word stays. So `ap-southeast-1` gives `apse1`, `eu-central-1` `euc1`, `us-gov-west-1` `usgw1`."},
		{`lower("Dev")`, "The string in lower case."},
		{`upper("dev")`, "The string in upper case."},
		{`replace("a-b", "-", "_")`, "The string with every occurrence replaced."},
		{`format("%s-%03d", env, 7)`, "A string by a pattern with `%s`, `%d` and so on."},
		{`join("-", [env, team])`, "The strings of a list with a separator between them."},
		{`coalesce(null, "a")`, "The first value that is not null."},
	}
}
