package policies

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/release"
)

// finding prints one as "severity rule place: message".
func line(f release.Finding) string {
	at := f.File
	if f.Line > 0 {
		at += fmt.Sprintf(":%d", f.Line)
	}
	return fmt.Sprintf("%s %s %s: %s", f.Severity, f.Rule, at+f.Resource, f.Message)
}

// rulesOf lists the rules that found something, each once.
func rulesOf(v release.PolicyVerdict) string {
	var ids []string
	for _, f := range v.Findings {
		if id := string(f.Severity) + " " + f.Rule; !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return strings.Join(ids, ", ")
}

// Every bundled rule finds what it is for, at its own level, and nothing when it
// is switched off.
func TestEveryBundledRule(t *testing.T) {
	most := 1
	spec := release.PolicySpec{AllowedProviders: []string{"hashicorp/*", "builtin"}, AllowedModules: []string{"org/*/aws"}, Backend: "s3",
		Account: "111111111111", RequiredTags: []string{"owner"}, MaxDestroys: &most, Kind: release.Deploy}
	protected := spec
	protected.Protected = true
	change := func(kind, actions, values string) string {
		return fmt.Sprintf(`{"format_version": "1.2", "resource_changes": [{"address": "%[1]s.x", "mode": "managed", "type": "%[1]s", "name": "x",
			"provider_name": "registry.terraform.io/hashicorp/aws", "change": {"actions": %[2]s, %[3]s}}]}`, kind, actions, values)
	}
	provisioned := `{"format_version": "1.2", "configuration": {"root_module": {"module_calls": {"m": {"module": {"resources": [
		{"address": "terraform_data.d", "mode": "managed", "type": "terraform_data", "provisioners": [{"type": "local-exec"}]}]}}}}}}`
	cases := map[string]struct {
		spec release.PolicySpec
		code map[string]string // or
		plan string
		want string // the first finding, beginning
	}{
		"allowed-providers": {spec, map[string]string{"a.tf": "terraform {\n  required_providers {\n    x = { source = \"evil.org/a/x\" }\n  }\n}"}, "",
			`error allowed-providers a.tf:3: provider "x" has the source "evil.org/a/x", which is not allowed`},
		"allowed-modules": {spec, map[string]string{"a.tf": "\nmodule \"m\" { source = \"git::https://evil.org/x\" }"}, "",
			`error allowed-modules a.tf:2: module "m" has the source "git::https://evil.org/x", which is not allowed`},
		"backend-in-code": {spec, map[string]string{"a.tf": "terraform {\n  backend \"local\" {}\n}"}, "",
			`error backend-in-code a.tf:2: the code keeps its state in the backend "local", and the service's configuration in the backend "s3"`},
		"data-bearing": {spec, nil, change("aws_db_instance", `["delete"]`, `"before": {}, "after": null`),
			`notice data-bearing aws_db_instance.x: "aws_db_instance" holds data and would be destroyed; it needs 1 approval`},
		"engine-folder": {spec, map[string]string{"a.tf": "", ".terraform/x": ""}, "", `error engine-folder .terraform: the repository holds ".terraform"`},
		"max-destroys": {spec, nil, `{"format_version": "1.2", "resource_changes": [` + strings.Repeat(`{"address": "x.y", "mode": "managed", "provider_name": "hashicorp/x", "change": {"actions": ["delete", "create"]}},`, 1) +
			`{"address": "x.z", "mode": "managed", "provider_name": "hashicorp/x", "change": {"actions": ["delete"]}}]}`,
			`error max-destroys : the plan destroys 2 resources, replaced ones included, and 1 are allowed`},
		"protected-program": {protected, map[string]string{"a.tf": "\ndata \"external\" \"e\" {}"}, "",
			`error protected-program a.tf:2data.external.e: data "external" starts a program where the run takes place`},
		"required-tags": {spec, nil, change("aws_vpc", `["update"]`, `"before": {}, "after": {"tags": {"Owner": "x"}}`),
			`error required-tags aws_vpc.x: the resource lacks the tag owner`},
		"runs-program":    {spec, map[string]string{"a.tf": "\ndata \"external\" \"e\" {}"}, "", `notice runs-program a.tf:2data.external.e: `},
		"symlink-outside": {spec, map[string]string{"a.tf": ""}, "", `error symlink-outside link: the symbolic link to "../x" leaves the repository: it leads above the repository`},
		"team-account": {spec, nil, change("aws_vpc", `["no-op"]`, `"before": {"owner_id": "222222222222"}, "after": {"owner_id": "222222222222"}`),
			`error team-account aws_vpc.x: the resource is (owner_id) of the account 222222222222, and the target's is 111111111111`},
	}
	for _, rule := range release.PolicyRules() {
		c, ok := cases[rule.ID]
		if !ok {
			t.Errorf("rule %s has no test", rule.ID)
			continue
		}
		t.Run(rule.ID, func(t *testing.T) {
			ask := func(spec release.PolicySpec) release.PolicyVerdict {
				t.Helper()
				e := engine(t, spec)
				if c.plan != "" {
					v, err := e.Plan(t.Context(), plan(t, c.plan))
					if err != nil {
						t.Fatal(err)
					}
					return v
				}
				root := tree(t, c.code)
				if rule.ID == "symlink-outside" {
					if err := os.Symlink("../x", filepath.Join(root, "link")); err != nil {
						t.Fatal(err)
					}
				}
				v, err := e.Config(t.Context(), read(t, root, "."))
				if err != nil {
					t.Fatal(err)
				}
				return v
			}
			v := ask(c.spec)
			if len(v.Findings) != 1 || !strings.HasPrefix(line(v.Findings[0]), c.want) {
				t.Errorf("got %v\nwant %s", said(v), c.want)
			}
			if wants := rule.Level == release.PolicyApproval; wants != (len(v.Requirements) == 1) {
				t.Errorf("requirements %v", v.Requirements)
			}
			for level, want := range map[release.PolicyLevel]string{release.PolicyOff: "", release.PolicyWarn: "warning " + rule.ID,
				release.PolicyApproval: "notice " + rule.ID, release.PolicyDeny: "error " + rule.ID} {
				switched := c.spec
				switched.Switches = []release.PolicySwitch{{Rule: rule.ID, Level: level, Approvals: 2, Approvers: []string{"group:dba"}}}
				if rule.Fixed && level.Below(rule.Level) {
					if _, err := New(t.Context(), switched); !errors.Is(err, release.ErrInvalid) || !strings.Contains(err.Error(), "cannot be weakened") {
						t.Errorf("a fixed rule was weakened to %s: %v", level, err)
					}
					continue
				}
				got := ask(switched)
				if rulesOf(got) != want {
					t.Errorf("at %s: %s", level, said(got))
				}
				if q := got.Requirements; level == release.PolicyApproval && (len(q) != 1 || q[0].String() != "2 approvals from group:dba (policy "+rule.ID+")" || q[0].Of != release.OfPlan) {
					t.Errorf("requirements %v", q)
				}
				if text := Weakened(switched.Switches, ""); (text != "") != level.Below(rule.Level) || text != "" && !strings.HasPrefix(text, rule.ID+" ") {
					t.Errorf("at %s: %q", level, text)
				}
			}
		})
	}
	if got, err := engine(t, protected).Plan(t.Context(), plan(t, provisioned)); err != nil || rulesOf(got) != "error protected-program" || got.Findings[0].Resource != "module.m.terraform_data.d" {
		t.Errorf("a provisioner of a downloaded module: %v %v", said(got), err)
	}
}

// What stops a run before any init, in each of the ways in which code can say it.
func TestStoppedBeforeInit(t *testing.T) {
	spec := release.PolicySpec{AllowedProviders: []string{"hashicorp/*"}, AllowedModules: []string{"org/*/aws"}, Backend: "s3", Protected: true}
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"external data":             {map[string]string{"a.tf": `data "external" "e" {}`}, "protected-program"},
		"external data in JSON":     {map[string]string{"a.tf.json": `{"data": {"external": {"e": {}}}}`}, "protected-program"},
		"external data in a module": {map[string]string{"a.tf": `module "m" { source = "./m" }`, "m/a.tf": `data "external" "e" {}`}, "protected-program"},
		"external data in a check":  {map[string]string{"a.tf": "check \"c\" {\n data \"external\" \"e\" {}\n}"}, "protected-program"},
		"local-exec":                {map[string]string{"a.tf": "resource \"terraform_data\" \"d\" {\n provisioner \"local-exec\" {}\n}"}, "protected-program"},
		"local-exec of a removal":   {map[string]string{"a.tf": "removed {\n from = terraform_data.d\n provisioner \"local-exec\" {}\n}"}, "protected-program"},
		"remote-exec, overriding":   {map[string]string{"a.tf": "", "a_override.tf": "resource \"terraform_data\" \"d\" {\n provisioner \"remote-exec\" {}\n}"}, "protected-program"},
		"a key provider":            {map[string]string{"a.tofu": "terraform {\n encryption {\n key_provider \"external\" \"k\" {}\n }\n}"}, "protected-program"},
		"an unknown provider":       {map[string]string{"a.tf": "terraform {\n required_providers {\n x = { source = \"evil.org/a/x\" }\n }\n}"}, "allowed-providers"},
		"an unknown module host":    {map[string]string{"a.tf": `module "m" { source = "git::https://evil.org/x" }`}, "allowed-modules"},
		"backend local":             {map[string]string{"a.tf": "terraform {\n backend \"local\" {}\n}"}, "backend-in-code"},
		"backend local, overriding": {map[string]string{"a.tf": "terraform {\n backend \"s3\" {}\n}", "b_override.tf": "terraform {\n backend \"local\" {}\n}"}, "backend-in-code"},
		"backend local in JSON":     {map[string]string{"a.tf": "", "override.tf.json": `{"terraform": {"backend": {"local": {}}}}`}, "backend-in-code"},
		"a cloud block":             {map[string]string{"a.tf": "terraform {\n cloud {}\n}"}, "backend-in-code"},
		"backend beside .tofu":      {map[string]string{"a.tf": "terraform {\n backend \"local\" {}\n}", "a.tofu": ""}, "backend-in-code"},
	} {
		v, err := engine(t, spec).Config(t.Context(), read(t, tree(t, c.files), "."))
		if err != nil || rulesOf(v) != "error "+c.want {
			t.Errorf("%s: %s %v", name, said(v), err)
		}
	}
	inModule := tree(t, map[string]string{"a.tf": `module "m" { source = "./m" }`, "m/a.tf": "terraform {\n backend \"local\" {}\n}"})
	if v, err := engine(t, spec).Config(t.Context(), read(t, inModule, ".")); err != nil || len(v.Findings) != 0 {
		t.Errorf("a backend that no engine reads: %s %v", said(v), err)
	}
}

func TestOutsideLinks(t *testing.T) {
	root := tree(t, map[string]string{"a.tf": "", "d/e/f.txt": "", "other/g.txt": ""})
	for name, leads := range map[string]string{
		"in": "d/e/f.txt", "d/e/up": "../../other/g.txt", "broken": "not/there", "self": ".",
		"out": "..", "d/out": "../../x", "abs": "/etc/passwd", "home": "d/e/up/../../../..", "loop": "loop",
		"d/through": "../d2/../../x", "d2": "d/e", "deep": "d/e/../e/../../d2/../../..",
	} {
		if err := os.Symlink(leads, filepath.Join(root, filepath.FromSlash(name))); err != nil {
			t.Fatal(err)
		}
	}
	input := read(t, root, ".")
	got := map[string]string{}
	for _, l := range input.OutsideLinks {
		got[l.File] = l.Reason
	}
	for name, want := range map[string]string{"out": "above the repository", "d/out": "above the repository", "abs": "an absolute path",
		"home": "above the repository", "loop": "without end", "d/through": "", "deep": "above the repository"} {
		if want == "" {
			if reason, there := got[name]; there {
				t.Errorf("%s counts as outside: %s", name, reason)
			}
			continue
		}
		if !strings.Contains(got[name], want) {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("these lead nowhere outside: %v", got)
	}
}

func TestFileFunctions(t *testing.T) {
	root := tree(t, map[string]string{
		"s/a.tf": `locals {
  a = file("x.json")
  b = templatefile("${path.module}/t.tpl", { x = file("../y") })
  c = [for f in fileset(path.module, "*") : filebase64("${path.root}/${f}")]
  d = "text ${file("/etc/passwd")} more"
  e = file(var.x)
  f = file("~/.ssh/id")
  g = provider::x::file("z")
  h = core::filemd5("h")
  i = file("${path.module}x")
  j = "file(\"no\")"
  # file("no")
  k = file( // a comment
    "k"
  )
  l = file("../../../up")
  m = notfile("no")
}
module "m" { source = "./m" }
`,
		"s/m/a.tf":      `locals { a = [file("${path.module}/in"), file("root")] }`,
		"s/m/b.tf.json": "{\n\"locals\": {\n\"x\": \"${file(\\\"q\\\")}\", \"y\": \"file(1)\", \"z\": \"${\\u0066ile(1)}\"}}",
	})
	var got []string
	for _, f := range read(t, root, "s").FileFunctions {
		got = append(got, fmt.Sprintf("%s:%d %s(%s)=%s outside=%v computed=%v", f.File, f.Line, f.Function, f.Path, f.Resolved, f.Outside, f.Computed))
	}
	want := []string{
		`s/a.tf:2 file(x.json)=s/x.json outside=false computed=false`,
		`s/a.tf:3 templatefile(${path.module}/t.tpl)=s/t.tpl outside=false computed=false`,
		`s/a.tf:3 file(../y)=y outside=false computed=false`,
		`s/a.tf:4 fileset()= outside=false computed=true`,
		`s/a.tf:4 filebase64()= outside=false computed=true`,
		`s/a.tf:5 file(/etc/passwd)= outside=true computed=false`,
		`s/a.tf:6 file()= outside=false computed=true`,
		`s/a.tf:7 file(~/.ssh/id)= outside=true computed=false`,
		`s/a.tf:9 filemd5(h)=s/h outside=false computed=false`,
		`s/a.tf:10 file(${path.module}x)= outside=false computed=true`,
		`s/a.tf:13 file(k)=s/k outside=false computed=false`,
		`s/a.tf:16 file(../../../up)= outside=true computed=false`,
		`s/m/a.tf:1 file(${path.module}/in)=s/m/in outside=false computed=false`,
		`s/m/a.tf:1 file(root)=s/root outside=false computed=false`,
		`s/m/b.tf.json:3 file()= outside=false computed=true`,
		`s/m/b.tf.json:3 file()= outside=false computed=true`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
