package gates

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"

	"github.com/waymark-cd/waymark/release"
)

const (
	maxTFLintConfig = 16 << 10 // bytes
	maxDepth        = 20       // of brackets and blocks within each other
)

var rulePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,127}$`)

// tflintConfig returns the file that tflint is given, and notices on what the
// repository asks for. tflint never sees the repository's own file: it would
// obey a plug-in or a folder of plug-ins that is named there.
func tflintConfig(root *os.Root, cfg Config) (string, []release.Finding, error) {
	operator := cfg.Spec.Config["config"]
	var notes []release.Finding
	var own string
	for _, dir := range []string{filepath.ToSlash(filepath.Clean(cfg.StackPath)), "."} {
		name := path.Join(dir, ".tflint.hcl")
		if _, err := root.Lstat(name); err == nil && own == "" {
			own = name
		}
		name = path.Join(dir, ".tflint.json")
		if _, err := root.Lstat(name); err == nil && !slices.ContainsFunc(notes, func(f release.Finding) bool { return f.File == name }) {
			notes = append(notes, ignoredConfig(name, "only .tflint.hcl is read"))
		}
	}
	if operator != "" {
		if own != "" {
			notes = append(notes, ignoredConfig(own, "the gate's setting \"config\" names the file that counts"))
		}
		return operator, notes, nil
	}
	out := hclwrite.NewEmptyFile()
	if own != "" {
		src, err := readSource(root, own, maxTFLintConfig)
		if err != nil {
			return "", nil, err
		}
		tuned, err := tuneRules(own, src, out.Body())
		if err != nil {
			return "", nil, err
		}
		notes = append(notes, tuned...)
	}
	fixed := out.Body().AppendNewBlock("config", nil).Body()
	fixed.SetAttributeValue("call_module_type", cty.StringVal("local"))
	fixed.SetAttributeValue("plugin_dir", cty.StringVal(filepath.Join(cfg.Scratch, "none")))
	file := filepath.Join(cfg.Scratch, "tflint.hcl")
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		return "", nil, fmt.Errorf("writing tflint's configuration: %w", err)
	}
	return file, notes, nil
}

// tuneRules copies what a repository's .tflint.hcl may say into out, evaluated to
// plain values: rule blocks, the preset of the bundled plug-in "terraform",
// config.disabled_by_default and config.ignore_module, tflint.required_version.
// Anything else is refused with file and line. What it switches off is listed.
func tuneRules(name string, src []byte, out *hclwrite.Body) ([]release.Finding, error) {
	if tokens, _ := hclsyntax.LexConfig(src, name, hcl.InitialPos); nesting(tokens) > maxDepth {
		return nil, fmt.Errorf("%w: %s: more than %d brackets within each other", release.ErrInvalid, name, maxDepth)
	}
	parsed, diags := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	if diags.HasErrors() {
		return nil, fmt.Errorf("%w: %s", release.ErrInvalid, clean(diags.Error(), maxText))
	}
	body := parsed.Body.(*hclsyntax.Body)
	for _, a := range body.Attributes {
		return nil, refuse(a.NameRange, "%q stands outside of a block", a.Name)
	}
	var notes []release.Finding
	for _, b := range body.Blocks {
		allowed, labels := tflintAllows(b)
		if labels != len(b.Labels) {
			return nil, refuse(b.TypeRange, "a repository may not write this %q block; allowed are rule blocks, plugin \"terraform\", config and tflint", clean(b.Type, 50))
		}
		if err := copyBody(b.Body, out.AppendNewBlock(b.Type, b.Labels).Body(), allowed); err != nil {
			return nil, err
		}
		note, err := switchedOff(name, b)
		if err != nil {
			return nil, err
		}
		notes = append(notes, note...)
	}
	return notes, nil
}

// tflintAllows gives the attributes that a block may hold (nil: any, and nested
// blocks) and how many labels it has; -1 where the block itself is not allowed.
func tflintAllows(b *hclsyntax.Block) (attributes []string, labels int) {
	switch {
	case b.Type == "rule" && len(b.Labels) == 1 && rulePattern.MatchString(b.Labels[0]):
		return nil, 1
	case b.Type == "plugin" && len(b.Labels) == 1 && b.Labels[0] == "terraform":
		return []string{"enabled", "preset"}, 1
	case b.Type == "config":
		return []string{"disabled_by_default", "ignore_module"}, 0
	case b.Type == "tflint":
		return []string{"required_version"}, 0
	}
	return nil, -1
}

// copyBody writes the attributes as plain values, in the order of their names.
func copyBody(in *hclsyntax.Body, out *hclwrite.Body, allowed []string) error {
	for _, a := range sortedAttributes(in) {
		if allowed != nil && !slices.Contains(allowed, a.Name) {
			return refuse(a.NameRange, "a repository may not set %q here, only %s; an operator can, in a file that the gate's setting \"config\" names",
				clean(a.Name, 50), strings.Join(allowed, " and "))
		}
		value, diags := a.Expr.Value(nil)
		if diags.HasErrors() || !value.IsWhollyKnown() {
			return refuse(a.NameRange, "the value of %q must be written out, without variables and functions", clean(a.Name, 50))
		}
		out.SetAttributeValue(a.Name, value)
	}
	for _, b := range in.Blocks {
		if allowed != nil {
			return refuse(b.TypeRange, "a repository may not write a block %q here", clean(b.Type, 50))
		}
		if err := copyBody(b.Body, out.AppendNewBlock(b.Type, b.Labels).Body(), nil); err != nil {
			return err
		}
	}
	return nil
}

func sortedAttributes(body *hclsyntax.Body) []*hclsyntax.Attribute {
	var out []*hclsyntax.Attribute
	for _, a := range body.Attributes {
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b *hclsyntax.Attribute) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// switchedOff lists what a block turns off. The bundled plug-in as a whole may
// not be: that would be no tuning but no gate.
func switchedOff(name string, b *hclsyntax.Block) ([]release.Finding, error) {
	is := func(attribute string, want bool) bool {
		a := b.Body.Attributes[attribute]
		if a == nil {
			return false
		}
		v, _ := a.Expr.Value(nil)
		return v.RawEquals(cty.BoolVal(want)) || v.RawEquals(cty.StringVal(fmt.Sprint(want)))
	}
	f := release.Finding{Rule: "waymark_rules_off", Severity: release.SeverityNotice, File: name, Line: b.TypeRange.Start.Line}
	switch {
	case b.Type == "plugin" && !is("enabled", true):
		return nil, refuse(b.TypeRange, "a repository may not switch the bundled rules off as a whole; write enabled = true and switch single rules off")
	case b.Type == "rule" && is("enabled", false):
		f.Rule, f.Message = b.Labels[0], "the repository switches this rule off"
	case b.Type == "config" && is("disabled_by_default", true):
		f.Message = "the repository switches off every rule that it does not name"
	case b.Type == "config" && b.Body.Attributes["ignore_module"] != nil:
		f.Message = "the repository leaves out calls of modules that it names"
	default:
		return nil, nil
	}
	return []release.Finding{f}, nil
}

func refuse(at hcl.Range, format string, args ...any) error {
	return fmt.Errorf("%w: %s:%d: %s", release.ErrRefused, at.Filename, at.Start.Line, fmt.Sprintf(format, args...))
}
