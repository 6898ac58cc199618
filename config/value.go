package config

import (
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/waymark-cd/waymark/release"
)

// maxText is the most bytes of one string value.
const maxText = 16 << 10

// fill evaluates an attribute and puts it into its Go value. It reports what is
// wrong and returns false then.
func (d *decoder) fill(f *field, owner any, expr hclsyntax.Expression, path string) bool {
	if t, ok := f.at(owner).(*Template); ok {
		problems := checkNames(expr, stackScope(path))
		d.problems = append(d.problems, problems...)
		if len(problems) == 0 {
			*t = Template{expr: expr, name: path, yields: f.yields}
		}
		return len(problems) == 0
	}
	if problems := checkNames(expr, staticScope); len(problems) > 0 {
		d.problems = append(d.problems, problems...)
		return false
	}
	value, diags := expr.Value(d.context)
	if diags.HasErrors() {
		d.problems = append(d.problems, problemsOf(diags, expr.Range())...)
		return false
	}
	before := len(d.problems)
	d.store(f, f.at(owner), value, expr.Range(), path)
	return len(d.problems) == before
}

// store puts a value into the Go value behind into, by that one's type.
func (d *decoder) store(f *field, into any, value cty.Value, at hcl.Range, path string) {
	switch into := into.(type) {
	case *string:
		*into = d.text(f, value, at, path)
	case *release.Severity:
		*into = release.Severity(d.text(f, value, at, path))
	case *release.PolicyLevel:
		*into = release.PolicyLevel(d.text(f, value, at, path))
	case *Secret:
		*into = NewSecret(d.text(f, value, at, path))
	case *bool:
		if v, ok := d.as(value, cty.Bool, at, path, "true or false"); ok {
			*into = v.True()
		}
	case *int:
		*into = d.number(f, value, at, path)
	case *time.Duration:
		*into = d.duration(f, value, at, path)
	case *[]string:
		*into = d.texts(f, value, at, path)
	case *Words:
		*into = d.words(f, value, at, path)
	case *map[string]string:
		*into = d.addresses(f, value, at, path)
	case *Share:
		*into = d.share(value, at, path)
	case *Headers:
		*into = d.headers(value, at, path)
	case *map[string]Secret:
		*into = d.environment(value, at, path)
	default:
		panic(fmt.Sprintf("config: the schema names %s with the type %T, which nothing decodes", path, into))
	}
}

// as converts a value, reporting what is expected where that fails.
func (d *decoder) as(value cty.Value, want cty.Type, at hcl.Range, path, expected string) (cty.Value, bool) {
	if !printable(value) {
		d.report(at, fmt.Sprintf("%s is a number out of all bounds", path), "write "+expected)
		return value, false
	}
	if value.IsNull() || !value.IsWhollyKnown() {
		d.report(at, fmt.Sprintf("%s has no value", path), "write "+expected+", or leave it out")
		return value, false
	}
	got, err := convert.Convert(value, want)
	if err != nil || got.IsNull() || !got.IsWhollyKnown() || want == cty.String && !value.Type().IsPrimitiveType() {
		d.report(at, fmt.Sprintf("%s must be %s", path, expected), "it is "+value.Type().FriendlyName())
		return value, false
	}
	return got, true
}

// text reads one string and judges it.
func (d *decoder) text(f *field, value cty.Value, at hcl.Range, path string) string {
	v, ok := d.as(value, cty.String, at, path, "a string")
	if !ok {
		return ""
	}
	s := v.AsString()
	switch {
	case len(s) > maxText:
		d.report(at, fmt.Sprintf("%s is longer than %d bytes", path, maxText), "")
		return ""
	case strings.ContainsFunc(s, isControl):
		d.report(at, fmt.Sprintf("%s holds a control character", path), "take it out")
		return ""
	case f.oneOf != nil && !slices.Contains(f.oneOf, s):
		d.report(at, fmt.Sprintf("%s cannot be %q", path, s), Choose(s, f.oneOf))
		return ""
	case (f.file || f.program) && s == "":
		d.report(at, fmt.Sprintf("%s is empty", path), "write a path, or leave it out")
		return ""
	case (f.file || f.program) && strings.HasPrefix(s, "~"):
		d.report(at, fmt.Sprintf("%s begins with a tilde, which only a shell expands", path), `write "${env("HOME")}/..."`)
		return ""
	case f.file, f.program && strings.Contains(s, "/"):
		return d.absolute(s)
	}
	if f.check != nil {
		if summary, detail := f.check(s); summary != "" {
			d.report(at, path+" "+summary, detail)
			return ""
		}
	}
	return s
}

// texts reads a list of strings, judging each.
func (d *decoder) texts(f *field, value cty.Value, at hcl.Range, path string) []string {
	if t := value.Type(); value.IsNull() || !value.IsKnown() || !(t.IsTupleType() || t.IsListType() || t.IsSetType()) {
		d.report(at, fmt.Sprintf("%s must be a list of strings", path), "write "+f.example)
		return nil
	}
	var out []string
	for i, v := range value.AsValueSlice() {
		s := d.text(f, v, at, fmt.Sprintf("%s[%d]", path, i))
		if s == "" {
			continue
		}
		if slices.Contains(out, s) {
			d.report(at, fmt.Sprintf("%s names %q twice", path, s), "take one out")
			continue
		}
		out = append(out, s)
	}
	return out
}

// words reads a list of strings, or one string as a list of it alone.
func (d *decoder) words(f *field, value cty.Value, at hcl.Range, path string) Words {
	if value.Type() == cty.String {
		if s := d.text(f, value, at, path); s != "" {
			return Words{s}
		}
		return nil
	}
	return d.texts(f, value, at, path)
}

// number reads a whole number within the field's bounds.
func (d *decoder) number(f *field, value cty.Value, at hcl.Range, path string) int {
	expected := fmt.Sprintf("a whole number from %d to %d", f.min, f.max)
	v, ok := d.as(value, cty.Number, at, path, expected)
	if !ok {
		return 0
	}
	n, accuracy := v.AsBigFloat().Int64()
	if accuracy != big.Exact || n < int64(f.min) || n > int64(f.max) {
		d.report(at, fmt.Sprintf("%s must be %s", path, expected), "write "+f.example)
		return 0
	}
	return int(n)
}

// duration reads a duration such as "30s".
func (d *decoder) duration(f *field, value cty.Value, at hcl.Range, path string) time.Duration {
	v, ok := d.as(value, cty.String, at, path, "a duration such as "+f.example)
	if !ok {
		return 0
	}
	got, err := time.ParseDuration(v.AsString())
	switch {
	case err != nil:
		d.report(at, fmt.Sprintf("%s is no duration: %q", path, short(v.AsString())), `write a number with a unit (ms, s, m, h), such as `+f.example)
		return 0
	case got < f.least:
		d.report(at, fmt.Sprintf("%s cannot be less than %s", path, f.least), "write a longer one, such as "+f.example)
		return 0
	}
	return got
}

// addresses reads a map of strings whose keys are f.oneOf; nil: any.
func (d *decoder) addresses(f *field, value cty.Value, at hcl.Range, path string) map[string]string {
	if t := value.Type(); value.IsNull() || !value.IsKnown() || !(t.IsObjectType() || t.IsMapType()) {
		d.report(at, fmt.Sprintf("%s must be a map of strings", path), "write "+f.example)
		return nil
	}
	out := map[string]string{}
	for k, v := range value.Elements() {
		name := k.AsString()
		if f.oneOf != nil && !slices.Contains(f.oneOf, name) {
			d.report(at, fmt.Sprintf("%s cannot set %q", path, short(name)), Choose(name, f.oneOf))
			continue
		}
		out[name] = d.text(&field{check: f.check}, v, at, path+"."+name)
	}
	return out
}

// environmentName is what a variable of the engine's environment may be called.
var environmentName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// reservedVariables are prefixes of variables that would go around what Waymark
// sets or checks.
var reservedVariables = []string{"TF_CLI_", "TF_DATA_DIR", "TF_IN_AUTOMATION", "TF_INPUT", "TF_LOG",
	"TF_REATTACH_PROVIDERS", "TF_VAR_", "TF_WORKSPACE"}

// awsVariables are those that a run's own session sets where there is one.
var awsVariables = []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE",
	"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE",
	"AWS_CONTAINER_", "AWS_EC2_METADATA_"}

// environment reads a map of variables; the values may be secrets and are never
// repeated.
func (d *decoder) environment(value cty.Value, at hcl.Range, path string) map[string]Secret {
	if t := value.Type(); value.IsNull() || !value.IsKnown() || !(t.IsObjectType() || t.IsMapType()) {
		d.report(at, fmt.Sprintf("%s must be a map of strings", path), `write { NAME = "value" }`)
		return nil
	}
	out := map[string]Secret{}
	for k, v := range value.Elements() {
		name := k.AsString()
		reserved := slices.IndexFunc(reservedVariables, func(p string) bool { return strings.HasPrefix(name, p) })
		switch {
		case !environmentName.MatchString(name):
			d.report(at, fmt.Sprintf("%s: %q is no name of a variable", path, short(name)), "use letters, digits and underscores")
		case reserved >= 0:
			d.report(at, fmt.Sprintf("%s cannot set %s", path, name),
				"it would go around what Waymark sets and checks; use stack.variables for variables of the code")
		default:
			out[name] = NewSecret(d.text(&field{}, v, at, path+"."+name))
		}
	}
	return out
}

// isControl reports whether r is a control character of ASCII.
func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// short cuts a value for a message.
func short(s string) string {
	if len(s) <= 80 {
		return s
	}
	return s[:80] + "..."
}

// printable reports whether a value can be written out: a number such as
// 1e999999999 would fill the memory with its digits.
func printable(v cty.Value) bool {
	if v.Type() != cty.Number || v.IsNull() || !v.IsKnown() {
		return true
	}
	exponent := v.AsBigFloat().MantExp(nil)
	return !v.AsBigFloat().IsInf() && -1024 < exponent && exponent < 1024
}
