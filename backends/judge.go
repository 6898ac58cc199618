package backends

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/waymark-cd/waymark/release"
)

// harmless lists, by backend type, the settings that code may hold although
// the configuration does not: they decide neither where a state or its lock
// lives nor who may reach it. Everything else is refused, so that a setting
// of a later engine is not let through by default.
var harmless = map[string][]string{
	"s3": {"encrypt", "kms_key_id", "acl", "max_retries", "retry_mode", "skip_credentials_validation",
		"skip_region_validation", "skip_requesting_account_id", "skip_metadata_api_check", "skip_s3_checksum",
		"force_path_style", "use_path_style"},
	"gcs":     {"kms_encryption_key"},
	"azurerm": {"snapshot"},
	"consul":  {"gzip"},
	"http":    {"retry_max", "retry_wait_min", "retry_wait_max"},
	"pg":      {"skip_schema_creation", "skip_table_creation", "skip_index_creation"},
}

// setting is one argument of a backend block.
type setting struct {
	name  string
	value cty.Value // cty.NilVal for a nested block
	at    place
}

// judge refuses a block that does not agree with the configuration, and adds
// the settings that stay as they are in the code to kept.
func judge(b block, spec release.BackendSpec, kept map[string]string) error {
	if b.kind == "cloud" {
		return fmt.Errorf("%w: %s: the code has a cloud block, the state belongs into backend %q: remove the block",
			release.ErrRefused, b.at, spec.Type)
	}
	if b.kind != spec.Type {
		return fmt.Errorf("%w: %s: the code says backend %q, the configuration %q: leave the block out, or write backend %q {}",
			release.ErrRefused, b.at, b.kind, spec.Type, spec.Type)
	}
	settings, err := settingsOf(b.body)
	if err != nil {
		return err
	}
	for _, s := range settings {
		if err := judgeSetting(s, spec, kept); err != nil {
			return err
		}
	}
	return nil
}

func judgeSetting(s setting, spec release.BackendSpec, kept map[string]string) error {
	configured, isSet := configuredAs(spec, s.name)
	if s.value != cty.NilVal && s.value.IsNull() {
		return nil // the same as leaving it out
	}
	text, plain := asText(s.value)
	if isSet {
		if plain && text == configured {
			if slices.Contains(pathStyle[:], s.name) {
				kept[s.name] = text
			}
			return nil
		}
		shown := "a block or collection"
		if plain {
			shown = fmt.Sprintf("%q", shorten(text))
		}
		return fmt.Errorf("%w: %s: the code sets the backend's %s to %s, the configuration to %q: remove it from the code",
			release.ErrRefused, s.at, s.name, shown, shorten(configured))
	}
	if !plain || !slices.Contains(harmless[spec.Type], s.name) || strings.Contains(text, "${") || strings.Contains(text, "%{") {
		return fmt.Errorf("%w: %s: the code sets the backend's %s, which decides where the state or its lock lives or how it is reached: set it in the configuration's backend %q block instead",
			release.ErrRefused, s.at, s.name, spec.Type)
	}
	if before, twice := kept[s.name]; twice && before != text {
		return fmt.Errorf("%w: %s: the code sets the backend's %s to %q here and to %q elsewhere: keep one of them",
			release.ErrRefused, s.at, s.name, shorten(text), shorten(before))
	}
	kept[s.name] = text
	return nil
}

// configuredAs returns what the configuration says of a setting, under either of
// its names where it has two.
func configuredAs(spec release.BackendSpec, name string) (string, bool) {
	text, ok := spec.Values[name]
	if !ok && spec.Type == s3Type && slices.Contains(pathStyle[:], name) {
		text, _ = either(spec.Values, pathStyle[:]...) // Prepare has refused two that differ
		ok = text != ""
	}
	return text, ok
}

// leaveToCode takes out of the arguments what the code sets under another name:
// an engine refuses both together.
func leaveToCode(values, kept map[string]string) {
	for i, name := range pathStyle {
		if _, inCode := kept[name]; inCode {
			delete(values, pathStyle[1-i])
		}
	}
}

// settingsOf evaluates what a block holds, in the order of the code. Anything
// that is not a constant is refused: OpenTofu would evaluate it later.
func settingsOf(body hcl.Body) ([]setting, error) {
	var out []setting
	var attrs hcl.Attributes
	var diags hcl.Diagnostics
	if native, ok := body.(*hclsyntax.Body); ok {
		attrs = hcl.Attributes{}
		for name, a := range native.Attributes {
			attrs[name] = a.AsHCLAttribute()
		}
		for _, inner := range native.Blocks {
			out = append(out, setting{name: inner.Type, value: cty.NilVal, at: placeOf(inner.DefRange())})
		}
	} else if attrs, diags = body.JustAttributes(); diags.HasErrors() {
		return nil, refuse(diags)
	}
	for name, a := range attrs {
		v, diags := a.Expr.Value(&hcl.EvalContext{})
		if diags.HasErrors() || !v.IsWhollyKnown() {
			return nil, fmt.Errorf("%w: %s: the backend's %s is not a constant: write its value, or remove it and set it in the configuration",
				release.ErrRefused, placeOf(a.Range), name)
		}
		out = append(out, setting{name: name, value: v, at: placeOf(a.Range)})
	}
	slices.SortFunc(out, func(a, b setting) int { return cmp.Or(a.at.line-b.at.line, cmp.Compare(a.name, b.name)) })
	return out, nil
}

// asText is a string, number or bool as a command line would say it.
func asText(v cty.Value) (string, bool) {
	if v == cty.NilVal || v.IsNull() || v.IsMarked() || !v.Type().IsPrimitiveType() {
		return "", false
	}
	s, err := convert.Convert(v, cty.String)
	if err != nil {
		return "", false
	}
	return s.AsString(), true
}

func shorten(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}
