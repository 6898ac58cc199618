package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/waymark-cd/waymark/release"
)

// cell is a target of one repository.
type cell struct {
	repository string
	release.Target
}

// cells yields every target that the configuration admits.
func (c *Config) cells(yield func(cell) bool) {
	for _, r := range c.Repositories {
		for _, e := range c.Environments {
			scopes := slices.Clone(e.Regions)
			if c.GlobalRegion != "" {
				scopes = append(scopes, release.Global)
			}
			for _, scope := range scopes {
				for _, team := range c.Teams {
					if !yield(cell{r.Name, release.Target{Env: e.Name, Scope: scope, Team: team}}) {
						return
					}
				}
			}
		}
	}
}

// regionOf is the Region to deploy a target from.
func (c *Config) regionOf(t release.Target) string {
	if t.IsGlobal() {
		return c.GlobalRegion
	}
	return t.Scope
}

// values are the template variables of a cell. What only a tag decides is
// unknown until the caller sets it.
func (c *Config) values(at cell) map[string]cty.Value {
	out := map[string]cty.Value{}
	for _, v := range variables() {
		out[v.name] = cty.UnknownVal(cty.String).RefineNotNull()
	}
	for name, value := range map[string]string{"env": at.Env, "scope": at.Scope, "team": at.Team,
		"region": c.regionOf(at.Target), "repository": at.repository} {
		out[name] = cty.StringVal(value)
	}
	return out
}

// KnownBackend is a target's backend, as far as the configuration alone decides.
type KnownBackend struct {
	Target  release.Target
	Backend release.BackendSpec
	// Owner is the account of the role that runs reach the state with: 12 digits,
	// or empty where there is none or a commit decides it.
	Owner string
}

// KnownBackends evaluates the backend for every target. Targets whose backend
// only the repository's commit decides are in late. The error wraps
// release.ErrInvalid or release.ErrRefused.
func (c *Config) KnownBackends() (known []KnownBackend, late []release.Target, err error) {
	for at := range c.cells {
		r := resolver{config: c, files: noFiles{}, context: &hcl.EvalContext{
			Variables: c.values(at), Functions: templateFunctions(c.lookupEnv, nil)}}
		if v, problems := c.Stack.Account.evaluateIfSet(r.context); problems == nil && v.IsKnown() && !v.IsNull() {
			r.context.Variables["account"] = v
		}
		k := KnownBackend{Target: at.Target}
		if v, problems := c.Credentials.RunRole.evaluateIfSet(r.context); problems == nil && v.IsKnown() && !v.IsNull() {
			if m := roleForm.FindStringSubmatch(v.AsString()); m != nil {
				k.Owner = m[1]
			}
		}
		if c.decidedLate(r.context) {
			late = append(late, at.Target)
			continue
		}
		k.Backend = r.backend(at)
		if r.err == nil {
			r.err = c.reach(k.Backend)
		}
		if r.err != nil {
			return nil, nil, r.err
		}
		known = append(known, k)
	}
	return known, late, nil
}

// decidedLate reports whether any argument of the backend has no value yet.
func (c *Config) decidedLate(ctx *hcl.EvalContext) bool {
	for _, t := range c.Backend.Values {
		if v, problems := t.evaluate(ctx); problems == nil && !v.IsWhollyKnown() {
			return true
		}
	}
	return false
}

// checkTargets evaluates every template for every target, so that what cannot
// work is found before the first tag. Each template is reported once.
func (d *decoder) checkTargets(cfg *Config) {
	functions := templateFunctions(d.lookupEnv, nil)
	reported := map[string]bool{}
	var states []state
	for at := range cfg.cells {
		ctx := &hcl.EvalContext{Variables: cfg.values(at), Functions: functions}
		for _, t := range cfg.templates() {
			if reported[t.name] {
				continue
			}
			value, problems := t.evaluate(ctx)
			if problems == nil {
				problems = cfg.judgeKnown(t, value, at)
			}
			if problems != nil {
				reported[t.name] = true
				d.problems = append(d.problems, problems...)
			}
			if t.name == "stack.account" && problems == nil && value.IsKnown() && !value.IsNull() {
				ctx.Variables["account"] = value
			}
		}
		states = append(states, cfg.stateOf(at, ctx))
	}
	for path := range d.broken {
		reported[path] = true
	}
	for path := range reported {
		if strings.HasPrefix(path, "backend.") {
			return // a backend that cannot be read has no places to compare
		}
	}
	before := len(d.problems)
	d.checkStates(cfg, states)
	if len(d.problems) == before { // sharing a state is worse, and says enough
		d.checkFolders(cfg, states)
	}
}

// judgeKnown judges what a template gives for one target, as far as it is known.
func (c *Config) judgeKnown(t Template, value cty.Value, at cell) Problems {
	var err error
	switch {
	case value.IsNull() || !value.IsKnown():
		return nil
	case t.yields == yieldsObject:
		err = judgeVariables(value)
	case t.yields == yieldsList:
		for _, v := range value.AsValueSlice() {
			if err == nil && v.IsKnown() && !v.IsNull() {
				_, err = insidePath(strings.TrimPrefix(v.AsString(), optionalMark))
			}
		}
	case strings.HasPrefix(t.name, "backend."):
		var s string
		if s, err = backendText(value); err == nil {
			_, err = c.judgeBackend(t.name, s)
		}
	default:
		err = c.judgeText(t.name, value.AsString())
	}
	if err != nil {
		said := strings.TrimPrefix(strings.TrimPrefix(err.Error(), release.ErrRefused.Error()+": "), release.ErrInvalid.Error()+": ")
		return Problems{problemAt(t.expr.Range(), fmt.Sprintf("%s of %s: %s", t.name, at.Target, said), "")}
	}
	return nil
}

// judgeText judges what a template of a string gives. Errors wrap
// release.ErrRefused.
func (c *Config) judgeText(name, s string) error {
	check := func(string) (string, string) { return "", "" }
	switch name {
	case "stack.path":
		_, err := insidePath(s)
		return err
	case "stack.account":
		check = checkAccount
	case "stack.module":
		check = checkModule
	case "credentials.run_role", "credentials.plan_role", "credentials.apply_role":
		check = checkRole
	case "credentials.external_id":
		check = checkExternalID
	}
	if summary, detail := check(s); summary != "" {
		return fmt.Errorf("%w: it %s: %s", release.ErrRefused, summary, detail)
	}
	return nil
}

// judgeVariables judges the names of the code's variables.
func judgeVariables(value cty.Value) error {
	for k := range value.Elements() {
		if name := k.AsString(); !variableForm.MatchString(name) {
			return fmt.Errorf("%w: %q is no name of a variable: use letters, digits and underscores", release.ErrInvalid, short(name))
		}
	}
	return nil
}

// judgeBackend judges one backend argument and returns it as the backend gets
// it: the path of a local state becomes absolute. Errors wrap release.ErrRefused.
func (c *Config) judgeBackend(name, s string) (string, error) {
	_, argument, _ := strings.Cut(strings.TrimPrefix(name, "backend."), ".")
	if strings.ContainsFunc(s, isControl) || len(s) > maxText {
		return "", fmt.Errorf("%w: it is too long or holds a control character", release.ErrRefused)
	}
	local := c.Backend.Type == "local" && argument == "path"
	if !local && argument != "key" && argument != "prefix" && argument != "path" {
		return s, nil
	}
	if local && filepath.IsAbs(s) {
		rest, err := filepath.Rel(c.Server.DataDir, filepath.Clean(s))
		if err != nil || !filepath.IsLocal(rest) {
			return "", fmt.Errorf("%w: %q is outside of data_dir: write a path from there", release.ErrRefused, short(s))
		}
		s = rest
	}
	clean, err := insidePath(s)
	if err != nil {
		return "", err
	}
	switch {
	case local && clean == ".":
		return "", fmt.Errorf("%w: it names data_dir itself: write a file in it", release.ErrRefused)
	case local && !strings.Contains(clean, "/"):
		return "", fmt.Errorf("%w: it names a file in data_dir itself, and a run may write to its state's folder: write a folder of the target's own, such as state/…", release.ErrRefused)
	case local && slices.Contains([]string{"runs", "repositories", "plugin-cache"}, clean[:strings.Index(clean, "/")]):
		return "", fmt.Errorf("%w: %q is a folder of the service's own in data_dir: write state/… instead", release.ErrRefused, clean[:strings.Index(clean, "/")])
	case local:
		return filepath.Join(c.Server.DataDir, filepath.FromSlash(clean)), nil
	}
	return s, nil
}

// backendText writes a value as a backend argument: a string as it is, numbers
// and bools in words, lists and maps as JSON.
func backendText(value cty.Value) (string, error) {
	if s, ok := asString(value); ok {
		return s.AsString(), nil
	}
	if !value.IsWhollyKnown() {
		return "", nil
	}
	text, err := ctyjson.Marshal(value, value.Type())
	if err != nil || !json.Valid(text) {
		return "", fmt.Errorf("%w: it cannot be written as JSON", release.ErrInvalid)
	}
	return string(text), nil
}

// sortedKeys returns a map's keys in order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
