package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
)

// policyFolder writes files beside a configuration and returns its path.
func policyFolder(t *testing.T, hcl string, files map[string]string) (file string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file = filepath.Join(dir, "waymark.hcl")
	if err := os.WriteFile(file, []byte(hcl), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func load(t *testing.T, file string) *config.Config {
	t.Helper()
	cfg, err := config.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestPolicyProblems(t *testing.T) {
	for _, tt := range []struct{ name, src, want string }{
		{"unknown rule", `policy {
  rule "data-baring" { level = "off" }
}`, `:7:8: there is no rule "data-baring": did you mean "data-bearing"?`},
		{"no level", "policy {\n  rule \"data-bearing\" {}\n}", `policy.rule.data-bearing.level is missing`},
		{"unknown level", "policy {\n  rule \"data-bearing\" { level = \"notice\" }\n}", `policy.rule.data-bearing.level cannot be "notice": known: off, warn, approval, deny`},
		{"no environment", "policy {\n  rule \"data-bearing\" {\n    level = \"off\"\n    environments = [\"dew\"]\n  }\n}", `:9:5: rule "data-bearing" names "dew", which is no environment: did you mean "dev"?`},
		{"fixed", "policy {\n  rule \"backend-in-code\" { level = \"warn\" }\n}", `rule "backend-in-code" cannot be weakened`},
		{"approvals of a denial", "policy {\n  rule \"max-destroys\" {\n    level = \"deny\"\n    approvals = 2\n  }\n}", `:9:5: approvals of rule "max-destroys" does nothing at the level "deny"`},
		{"nobody", "policy {\n  rule \"max-destroys\" {\n    level = \"approval\"\n    approvers = [\"group:\"]\n  }\n}", `cannot be "group:"`},
		{"twice", "policy {\n  rule \"max-destroys\" { level = \"off\" }\n  rule \"max-destroys\" { level = \"warn\" }\n}", `rule "max-destroys" is there twice`},
		{"a type", `policy { data_bearing_types = ["aws s3"] }`, `policy.data_bearing_types[0] is no type of resources: "aws s3"`},
		{"all types", `policy { data_bearing_types = ["*"] }`, `is no type of resources: "*"`},
		{"a cap", `policy { max_destroys = -1 }`, `policy.max_destroys must be a whole number from 0 to 1000000`},
		{"an account", `policy { accounts = ["1"] }`, `policy.accounts[0] cannot be "1"`},
		{"a tag", `policy { required_tags = [" owner"] }`, `policy.required_tags[0] is no tag: " owner"`},
		{"memory", `policy { memory = 1 }`, `policy.memory must be a whole number from 64 to`},
		{"no time", `policy { timeout = "0s" }`, `policy.timeout cannot be less than 100ms`},
		{"no folder", `policy { folders = ["nowhere"] }`, `:6:10: policy folder`},
		{"protected", "environment \"prod\" {\n  regions = [\"us-east-1\"]\n  protected = \"maybe\"\n}", `environment.prod.protected must be true or false`},
	} {
		_, err := config.Parse("/nowhere/waymark.hcl", []byte(minimal+tt.src), nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v\nwant %s", tt.name, err, tt.want)
		}
	}
}

func TestPolicyFor(t *testing.T) {
	cfg, err := config.Parse("waymark.hcl", []byte(minimal+`
environment "prod" {
  regions   = ["us-east-1"]
  protected = true
}
policy {
  allowed_providers  = ["hashicorp/*"]
  data_bearing_types = ["x_*"]
  max_destroys       = 0
  required_tags      = ["owner"]
  accounts           = ["111122223333"]
  memory             = 64
  rule "required-tags" {
    level        = "warn"
    environments = ["dev"]
  }
  rule "data-bearing" {
    level     = "approval"
    approvals = 2
    approvers = ["group:dba"]
  }
}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	none := 0
	target := release.Target{Env: "prod", Scope: "us-east-1", Team: "research"}
	approval := release.PolicySwitch{Rule: "data-bearing", Level: release.PolicyApproval, Approvals: 2, Approvers: []string{"group:dba"}}
	want := release.PolicySpec{AllowedProviders: []string{"hashicorp/*"}, DataBearingTypes: []string{"x_*"}, MaxDestroys: &none, RequiredTags: []string{"owner"},
		Accounts: []string{"111122223333"}, Switches: []release.PolicySwitch{approval}, Target: target, Account: "444455556666", Protected: true,
		Backend: "local", Kind: release.Rollback, Timeout: 30 * time.Second, Memory: 64 << 20}
	if got := cfg.PolicyFor(target, "444455556666", release.Rollback); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	dev := cfg.PolicyFor(release.Target{Env: "dev"}, "", release.Deploy)
	if want := []release.PolicySwitch{{Rule: "required-tags", Level: release.PolicyWarn}, approval}; !reflect.DeepEqual(dev.Switches, want) || dev.Protected {
		t.Errorf("got %+v", dev)
	}
}

const withFolders = minimal + `policy { folders = ["policies", "more"] }`

func TestPolicyFolders(t *testing.T) {
	file := policyFolder(t, withFolders, map[string]string{
		"policies/plan.rego": "package plan", "policies/plan_test.rego": "package plan_test", "policies/lib/x.rego": "package lib.x",
		"policies/data/l.yaml": "a: 1", "policies/README.md": "x", "policies/.hidden.rego": "x", "policies/.git/x.rego": "x", "more/z.json": "{}",
	})
	if err := os.Symlink("plan.rego", filepath.Join(filepath.Dir(file), "policies", "linked.rego")); err != nil { // as a mounted ConfigMap has them
		t.Fatal(err)
	}
	cfg := load(t, file)
	want := []release.PolicyFile{
		{Name: "policies/data/l.yaml", Path: "data/l.yaml", Text: "a: 1"}, {Name: "policies/lib/x.rego", Path: "lib/x.rego", Text: "package lib.x"},
		{Name: "policies/linked.rego", Path: "linked.rego", Text: "package plan"}, {Name: "policies/plan.rego", Path: "plan.rego", Text: "package plan"},
		{Name: "more/z.json", Path: "z.json", Text: "{}"},
	}
	if !reflect.DeepEqual(cfg.Policy.Files, want) {
		t.Errorf("got %+v", cfg.Policy.Files)
	}
}

func TestPolicyFoldersAreBounded(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"empty": {map[string]string{"policies/README.md": "", "more/x.rego": "package lib.x"}, `waymark.hcl:6:10: policy folder`},
		"large": {map[string]string{"policies/x.rego": strings.Repeat("#", 1<<20+1), "more/x.rego": ""}, "is larger than 1 MiB"},
		"all together": {map[string]string{"policies/a.rego": strings.Repeat("#", 1<<20), "policies/b.rego": strings.Repeat("#", 1<<20), "policies/c.rego": strings.Repeat("#", 1<<20),
			"more/d.rego": strings.Repeat("#", 1<<20), "more/e.rego": "#"}, "hold more than 500 files or 4 MiB"},
	} {
		_, err := config.Load(policyFolder(t, withFolders, c.files), nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a run is admitted under holds its policy files: they may change, or be
// gone, on the disk of whoever goes on with it.
func TestPolicyFilesAreKeptWithTheConfiguration(t *testing.T) {
	file := policyFolder(t, withFolders, map[string]string{"policies/plan.rego": "package plan # \u00e4", "more/x.json": "{}"})
	first := load(t, file)
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), "policies/plan.rego"), []byte("package plan # other"), 0o600); err != nil {
		t.Fatal(err)
	}
	second := load(t, file)
	if first.Digest == second.Digest {
		t.Error("other rules have the same digest")
	}
	kept, err := second.Reparse(first.Text)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(kept.Policy.Files, first.Policy.Files) || kept.Digest != first.Digest || kept.Text != first.Text {
		t.Errorf("got %+v, %s, want %+v, %s", kept.Policy.Files, kept.Digest, first.Policy.Files, first.Digest)
	}
	if err := os.RemoveAll(filepath.Join(filepath.Dir(file), "more")); err != nil {
		t.Fatal(err)
	}
	if again, err := second.Reparse(first.Text); err != nil || len(again.Policy.Files) != 2 {
		t.Errorf("without the folder: %v", err)
	}
	if _, err := second.Reparse(first.Text[:len(first.Text)-5] + "!!!!\n"); err == nil || !strings.Contains(err.Error(), "policy files cannot be read") {
		t.Errorf("a damaged text: %v", err)
	}
	// Without folders the text is the file's own, as it always was.
	plain := load(t, policyFolder(t, minimal, nil))
	if plain.Text != minimal {
		t.Errorf("got %q", plain.Text)
	}
	// A file cannot pretend to be a kept configuration.
	faked := load(t, policyFolder(t, strings.TrimSuffix(first.Text, "\n")+"\n", map[string]string{"policies/plan.rego": "package plan # mine", "more/x.json": "{}"}))
	if faked.Policy.Files[0].Text != "package plan # mine" {
		t.Errorf("got %+v", faked.Policy.Files)
	}
	if again, err := faked.Reparse(faked.Text); err != nil || again.Policy.Files[0].Text != "package plan # mine" {
		t.Errorf("got %v, %v", again, err)
	}
}
