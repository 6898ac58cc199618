package runner

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/mask"
	"github.com/waymark-cd/waymark/release"
)

const plant = "harbor violet lantern"

// fill puts the plant into every plain string of a value.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if v.Type() == reflect.TypeFor[string]() {
			v.SetString("x " + plant)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		value := reflect.New(v.Type().Elem()).Elem()
		fill(value)
		v.SetMapIndex(reflect.ValueOf("name").Convert(v.Type().Key()), value)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i))
			}
		}
	}
}

// holders gives the paths of a JSON value that hold the plant.
func holders(path string, v any) []string {
	switch v := v.(type) {
	case string:
		if strings.Contains(v, plant) {
			return []string{path}
		}
	case []any:
		var out []string
		for _, part := range v {
			out = append(out, holders(path, part)...)
		}
		return out
	case map[string]any:
		var out []string
		for _, name := range slices.Sorted(maps.Keys(v)) {
			out = append(out, holders(strings.TrimPrefix(path+"."+name, "."), v[name])...)
		}
		return out
	}
	return nil
}

// TestResultIsMaskedEverywhere: what stays of a result are names, places in the
// code, digests and the like, which come from the code or from the operator. A field
// that is new has to be masked, or named here.
func TestResultIsMaskedEverywhere(t *testing.T) {
	var r release.Result
	fill(reflect.ValueOf(&r).Elem())
	m := &mask.Mask{}
	m.Add(plant)
	maskResult(m, &r)
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	stays := []string{"plan.digest", "plan.resources.type", "plan.resources.provider", "plan.resources.action", "plan.outputs.name", "plan.outputs.action",
		"plan.drift.type", "plan.drift.provider", "plan.drift.action", "gates.gate", "gates.version", "gates.report.format", "requirements.from", "soft_gates",
		"content.resources.mode", "content.resources.provider", "content.resources.type"}
	for _, of := range []string{"findings", "gates.findings"} {
		for _, name := range []string{"source", "rule", "file", "link", "waived.name", "waived.owner", "waived.reason", "waived.expires"} {
			stays = append(stays, of+"."+name)
		}
	}
	for _, path := range holders("", v) {
		if !slices.Contains(stays, path) {
			t.Errorf("%s is not masked", path)
		}
	}
}

func TestSecretsOfATask(t *testing.T) {
	spec := &release.Spec{PlanIdentity: "AGE-SECRET-KEY-1X", Env: map[string]string{
		"AWS_SECRET_ACCESS_KEY": "of-the-session", "AWS_REGION": "eu-central-1", "NEUTRAL": "of-the-environment", "NO_PROXY": "localhost,.internal.example.org",
		"HTTPS_PROXY": "http://user:of-the%2Fproxy@proxy.example.org:3128", "AWS_CA_BUNDLE": "/etc/ssl/bundle.pem", "TF_VAR_name": "of-a-variable", "LEVEL": "debug"},
		Backend: release.BackendSpec{Values: map[string]string{"key": "research/dev.tfstate", "bucket": "a-bucket-of-states", "password": "of-the-backend",
			"conn_str": "postgres://u:of-the-url@db/x"}}}
	got := secretsOf(spec)
	for _, want := range []string{"AGE-SECRET-KEY-1X", "of-the-session", "of-the-environment", "of-the/proxy", "of-the%2Fproxy", "of-the-backend", "of-the-url"} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is missing in %q", want, got)
		}
	}
	for _, not := range []string{"eu-central-1", "localhost", "proxy.example.org", "bundle.pem", "of-a-variable", "debug", "dev.tfstate", "a-bucket"} {
		if slices.ContainsFunc(got, func(s string) bool { return s == not || strings.HasPrefix(s, not) }) {
			t.Errorf("%q is no secret", not)
		}
	}
}

// TestARenewedSessionIsMasked: what its files come to hold while a phase is at work,
// and what they held before.
func TestARenewedSessionIsMasked(t *testing.T) {
	dir := t.TempDir()
	write := func(key string) {
		t.Helper()
		path := filepath.Join(dir, "credentials")
		if err := os.WriteFile(path+".new", []byte("[default]\naws_secret_access_key = "+key+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write("the-first-of-all")
	m := &mask.Mask{}
	m.Add(sessionSecrets(dir)...)
	defer learnSession(m, dir)()
	for _, key := range []string{"the-second-of-all", "the-third-of-all"} {
		write(key)
		within := time.After(30 * time.Second)
		for tick := time.NewTicker(5 * time.Millisecond); strings.Contains(m.Known("with "+key), key); {
			select {
			case <-tick.C:
			case <-within:
				t.Fatalf("%q is not known after 30 s", key)
			}
		}
	}
	if got := m.Known("the-first-of-all, the-second-of-all, the-third-of-all"); got != "(masked), (masked), (masked)" {
		t.Errorf("got %q", got)
	}
}

func TestHashesOfAPlanStayReadable(t *testing.T) {
	const digest = "LCa0a2j/xo/5m0U8HTBBNBNCLXBkg7+g+YpeiGJm564="
	r := release.Result{Plan: &release.PlanSummary{Resources: []release.ResourceChange{{Address: "aws_lambda_function.x", Attributes: []release.AttributeChange{
		{Path: "source_code_hash", After: fmt.Sprintf("%q", digest)}, {Path: "password", After: fmt.Sprintf("%q", digest)}}}}}}
	maskResult(&mask.Mask{}, &r)
	a := r.Plan.Resources[0].Attributes
	if a[0].After != `"`+digest+`"` || a[1].After != `"(masked)"` {
		t.Errorf("got %+v", a)
	}
}
