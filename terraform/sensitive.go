package terraform

import (
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	tfjson "github.com/hashicorp/terraform-json"
	"github.com/zclconf/go-cty/cty"
)

// Sensitive lists every string that a plan marks as sensitive: in variables,
// resources, outputs, drift and the state that it began with.
func Sensitive(plan *tfjson.Plan) []string {
	if plan == nil {
		return nil
	}
	return secretsOf(plan).list()
}

// list gives the values in order, and of the names those that are no plain words:
// a log would lose "password" and its like everywhere.
func (s secrets) list() []string {
	var out []string
	for _, v := range slices.Sorted(maps.Keys(s)) {
		if s[v] || !identifier(v) {
			out = append(out, v)
		}
	}
	return out
}

// SensitiveState lists every string that a state marks as sensitive.
func SensitiveState(state *tfjson.State) []string {
	found := secrets{}
	found.addState(state)
	return found.list()
}

// SensitiveInputs lists the values that are given to the sensitive variables of
// the root module in dir: what can be known of secrets before the engine has run.
// varFiles are absolute, variables and env what the engine will get. What cannot
// be read is passed over: it is for the engine to complain.
func SensitiveInputs(dir string, varFiles []string, variables map[string]any, env map[string]string) []string {
	names, found := map[string]bool{}, secrets{}
	entries, _ := os.ReadDir(dir)
	var own []string // files that the engine reads by itself
	for _, entry := range entries {
		name, path := entry.Name(), filepath.Join(dir, entry.Name())
		switch {
		case hasSuffix(name, ".tf", ".tofu", ".tf.json", ".tofu.json"):
			sensitiveVariables(path, names, found)
		case hasSuffix(name, ".auto.tfvars", ".auto.tfvars.json"), name == "terraform.tfvars", name == "terraform.tfvars.json":
			own = append(own, path)
		}
	}
	if len(names) == 0 {
		return nil
	}
	for _, path := range append(own, varFiles...) {
		attributes := attributesOf(path)
		for name := range names {
			if a := attributes[name]; a != nil {
				v, _ := a.Expr.Value(nil)
				found.addValue(v)
			}
		}
	}
	for name := range names {
		if v, ok := variables[name]; ok {
			found.addPlain(v)
		}
		if v := env["TF_VAR_"+name]; v != "" {
			found.addString(v)
		}
	}
	return found.list()
}

func hasSuffix(name string, suffixes ...string) bool {
	return slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(name, s) })
}

// sensitiveVariables adds the names of a file's variables that are sensitive, and
// their defaults.
func sensitiveVariables(path string, names map[string]bool, found secrets) {
	body := parseAny(path)
	if body == nil {
		return
	}
	content, _, _ := body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "variable", LabelNames: []string{"name"}}}})
	if content == nil {
		return
	}
	for _, block := range content.Blocks {
		inside, _, _ := block.Body.PartialContent(&hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "sensitive"}, {Name: "default"}}})
		if inside == nil || inside.Attributes["sensitive"] == nil {
			continue
		}
		marked, _ := inside.Attributes["sensitive"].Expr.Value(nil)
		if marked.IsKnown() && !marked.IsNull() && marked.Type() == cty.Bool && marked.False() {
			continue
		}
		names[block.Labels[0]] = true
		if a := inside.Attributes["default"]; a != nil {
			v, _ := a.Expr.Value(nil)
			found.addValue(v)
		}
	}
}

// attributesOf reads a file of variables' values.
func attributesOf(path string) hcl.Attributes {
	body := parseAny(path)
	if body == nil {
		return nil
	}
	attributes, _ := body.JustAttributes()
	return attributes
}

// parseAny reads a file in either syntax; nil where it cannot be read.
func parseAny(path string) hcl.Body {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxSource {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxSource))
	if err != nil {
		return nil
	}
	parse := hclparse.NewParser().ParseHCL
	if strings.HasSuffix(path, ".json") {
		parse = hclparse.NewParser().ParseJSON
	}
	file, _ := parse(src, path)
	if file == nil {
		return nil
	}
	return file.Body
}

// addValue takes every string and number of a value.
func (s secrets) addValue(v cty.Value) {
	_ = cty.Walk(v, func(_ cty.Path, part cty.Value) (bool, error) {
		switch {
		case !part.IsKnown() || part.IsNull():
			return false, nil
		case part.Type() == cty.String:
			s.addString(part.AsString())
		case part.Type() == cty.Number:
			s.addString(part.AsBigFloat().Text('f', -1))
		case part.Type().IsMapType() || part.Type().IsObjectType():
			for name := range part.AsValueMap() {
				s.addName(name)
			}
		}
		return true, nil
	})
}

// addPlain takes every string and number of a value that JSON can hold.
func (s secrets) addPlain(v any) {
	text, err := json.Marshal(v)
	if err != nil {
		return
	}
	dec := json.NewDecoder(strings.NewReader(string(text)))
	dec.UseNumber()
	var plain any
	if dec.Decode(&plain) == nil {
		s.addAll(plain)
	}
}
