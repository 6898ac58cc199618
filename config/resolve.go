package config

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/tagparse"
)

// ResolveInput is a tag and the commit that it names.
type ResolveInput struct {
	Repository string // name of the repository block
	Tag        tagparse.Tag
	Commit     string // id, as hexadecimal digits
	Files      Files  // the repository at that commit; nil: not at hand
}

// Deployment is what the configuration says of one tag at its commit.
type Deployment struct {
	Config          *Config // that says it
	Target          release.Target
	Version         string // as the tag spells it
	Account         string // 12 digits, or empty where the configuration names none
	Region          string // the scope, or global_region for global targets
	Backend         release.BackendSpec
	BackendLocation BackendLocation
	Stack           release.StackSpec
	PlanRole        string // ARN, or empty
	ApplyRole       string // ARN, or empty
	RunRole         string // ARN, or empty
	ExternalID      string // for RunRole, or empty
	Gates           []GateConfig
	Approvals       int
}

// BackendLocation says, for people, where a state and its lock live.
type BackendLocation struct {
	Kind   string // the backend type
	Bucket string // bucket or container; empty where the type has none
	Key    string // object key, path or address of the state
	Lock   string // lock table, lock file or address; empty where unknown
}

// Resolve evaluates the configuration for one tag. It admits the tag first. An
// error wraps release.ErrRefused where a rule says no (an unknown target, an
// account that is not allowed, a path that leaves its folder, a file that the
// commit lacks), and release.ErrInvalid where something cannot be read or
// evaluated; any other error is that of in.Files, and worth another try. Where
// in.Files is nil and a file is needed, it wraps release.ErrUnavailable.
func (c *Config) Resolve(in ResolveInput) (*Deployment, error) {
	if err := c.Admit(in.Repository, in.Tag); err != nil {
		return nil, err
	}
	if in.Files == nil {
		in.Files = noFiles{}
	}
	target := release.Target{Env: in.Tag.Env, Scope: in.Tag.Scope, Team: in.Tag.Team}
	env, _ := c.Environment(target.Env)
	at := cell{in.Repository, target}
	r := resolver{config: c, files: in.Files, context: &hcl.EvalContext{
		Variables: c.values(at), Functions: templateFunctions(c.lookupEnv, in.Files)}}
	r.context.Variables["version"] = cty.StringVal(in.Tag.Version.String())
	r.context.Variables["tag"] = cty.StringVal(in.Tag.String())
	r.context.Variables["commit"] = cty.StringVal(in.Commit)
	out := &Deployment{Config: c, Target: target, Version: in.Tag.Version.String(), Region: c.regionOf(target), Approvals: env.Approvals}

	out.Account = r.text(c.Stack.Account)
	r.context.Variables["account"] = cty.StringVal(out.Account)
	out.RunRole = r.text(c.Credentials.RunRole)
	out.PlanRole = r.text(c.Credentials.PlanRole)
	out.ApplyRole = r.text(c.Credentials.ApplyRole)
	out.ExternalID = r.text(c.Credentials.ExternalID)
	r.allowed(env, out)
	out.Backend = r.backend(at)
	out.Stack = r.stack()
	if r.err == nil {
		r.err = c.reach(out.Backend)
	}
	if r.err != nil {
		return nil, r.err
	}
	out.BackendLocation = locate(out.Backend)
	out.Gates = c.GatesFor(target.Env)
	return out, nil
}

// resolver evaluates templates for one tag and keeps the first error.
type resolver struct {
	config  *Config
	files   Files
	context *hcl.EvalContext
	err     error
}

// fail keeps an error, with the template's place in the configuration.
func (r *resolver) fail(t Template, err error) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: %s: %w", t.place(), t.name, err)
	}
}

// value evaluates a template. It returns false for a null or absent one, and
// after an error.
func (r *resolver) value(t Template) (cty.Value, bool) {
	if r.err != nil || t.IsZero() {
		return cty.NilVal, false
	}
	value, problems := t.evaluate(r.context)
	for _, p := range problems {
		if p.cause != nil {
			r.fail(t, p.cause)
		}
	}
	switch {
	case problems != nil && r.err == nil:
		r.err = problems
	case problems == nil && !value.IsWhollyKnown():
		r.fail(t, fmt.Errorf("%w: it has no value for this target", release.ErrInvalid))
	}
	return value, r.err == nil && !value.IsNull()
}

// text evaluates a template of a string and judges it; a null is empty.
func (r *resolver) text(t Template) string {
	value, ok := r.value(t)
	if !ok {
		return ""
	}
	s := value.AsString()
	if err := r.config.judgeText(t.name, s); err != nil {
		r.fail(t, err)
	}
	return s
}

// allowed holds the account, and those of the roles that reach into it, against
// the list of the environment.
func (r *resolver) allowed(env Environment, d *Deployment) {
	if len(env.Accounts) == 0 || r.err != nil {
		return
	}
	found := []struct{ what, account string }{{"the target's account", d.Account}}
	for what, role := range map[string]string{"the account of plan_role": d.PlanRole, "the account of apply_role": d.ApplyRole} {
		if m := roleForm.FindStringSubmatch(role); m != nil {
			found = append(found, struct{ what, account string }{what, m[1]})
		}
	}
	for _, f := range found {
		if !slices.Contains(env.Accounts, f.account) {
			r.err = fmt.Errorf("%w: %s, %q, is not one that environment %s allows: correct it in the repository, or add it to accounts",
				release.ErrRefused, f.what, f.account, env.Name)
			return
		}
	}
}

// backend evaluates the backend's arguments; null ones are left out.
func (r *resolver) backend(at cell) release.BackendSpec {
	c := r.config
	spec := release.BackendSpec{Type: c.Backend.Type, Values: map[string]string{}}
	if c.Backend.Embedded {
		spec.Values["path"] = c.embeddedPath(at.repository, at.Env, at.Scope, at.Team)
	}
	for _, name := range sortedKeys(c.Backend.Values) {
		t := c.Backend.Values[name]
		value, ok := r.value(t)
		if !ok {
			continue
		}
		s, err := backendText(value)
		if err == nil {
			s, err = c.judgeBackend(t.name, s)
		}
		if err == nil && s == "" && slices.Contains(places[spec.Type].required, name) {
			err = fmt.Errorf("%w: it is empty for this target", release.ErrRefused)
		}
		if err != nil {
			r.fail(t, err)
		}
		spec.Values[name] = s
	}
	return spec
}

// stack evaluates how the target maps onto the code.
func (r *resolver) stack() release.StackSpec {
	s := r.config.Stack
	out := release.StackSpec{Path: path.Clean(r.text(s.Path)), Module: r.text(s.Module),
		VarFiles: r.varFiles(s.VarFiles), Variables: map[string]any{}}
	value, ok := r.value(s.Variables)
	if !ok {
		return out
	}
	if err := judgeVariables(value); err != nil {
		r.fail(s.Variables, err)
		return out
	}
	text, err := ctyjson.Marshal(value, value.Type())
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber() // so that no digit of a number is lost
		err = d.Decode(&out.Variables)
	}
	if err != nil {
		r.fail(s.Variables, fmt.Errorf("%w: it cannot be written as JSON: %w", release.ErrInvalid, err))
	}
	return out
}

// varFiles evaluates the list of variable files, drops optional ones that the
// commit lacks, and refuses others that it lacks.
func (r *resolver) varFiles(t Template) []string {
	value, ok := r.value(t)
	if !ok {
		return nil
	}
	var out []string
	for _, v := range value.AsValueSlice() {
		if v.IsNull() {
			continue
		}
		file, optional := strings.CutPrefix(v.AsString(), optionalMark)
		file, err := insidePath(file)
		if err == nil {
			_, err = r.files.ReadFile(file)
		}
		switch {
		case err == nil:
			out = append(out, file)
		case !errors.Is(err, fs.ErrNotExist):
			r.fail(t, fmt.Errorf("reading the variable file: %w", err))
		case !optional:
			r.fail(t, fmt.Errorf("%w: the commit has no file %s: add it, or write optional(...) around it in the configuration",
				release.ErrRefused, file))
		}
	}
	return out
}

// locate reads from a backend's arguments where state and lock live.
func locate(spec release.BackendSpec) BackendLocation {
	v := spec.Values
	out := BackendLocation{Kind: spec.Type, Bucket: v["bucket"], Key: cmp.Or(v["key"], v["prefix"], v["path"])}
	switch spec.Type {
	case "local":
		out.Lock = filepath.Join(filepath.Dir(v["path"]), ".terraform.tfstate.lock.info")
	case "s3":
		out.Lock = v["dynamodb_table"]
		if v["use_lockfile"] == "true" {
			out.Lock = strings.TrimPrefix(out.Lock+" and "+out.Key+".tflock", " and ")
		}
	case "gcs":
		out.Key = path.Join(v["prefix"], "default.tfstate")
		out.Lock = path.Join(v["prefix"], "default.tflock")
	case "azurerm":
		out.Bucket = v["storage_account_name"] + "/" + v["container_name"]
		out.Lock = "lease of the blob"
	case "http":
		out.Key, out.Lock = v["address"], v["lock_address"]
	}
	return out
}
