package policies

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	tfjson "github.com/hashicorp/terraform-json"

	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

func engine(t testing.TB, spec release.PolicySpec) *Engine {
	t.Helper()
	e, err := New(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// judge gives the findings on some files, as "severity rule file:line message".
func judge(t *testing.T, spec release.PolicySpec, files map[string]string) []release.Finding {
	t.Helper()
	verdict, err := engine(t, spec).Config(t.Context(), read(t, tree(t, files), "."))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range verdict.Findings {
		if f.Source != "policy" || f.Message == "" || f.Rule == "" {
			t.Errorf("incomplete finding %+v", f)
		}
	}
	return verdict.Findings
}

// TestConfig is the table of what the bundled rules deny and allow, from the
// files to the findings. A line of want is "severity rule file:line part of the
// message".
func TestConfig(t *testing.T) {
	hashicorp := release.PolicySpec{AllowedProviders: []string{"hashicorp/*"}}
	onlyTime := release.PolicySpec{AllowedProviders: []string{"registry.opentofu.org/hashicorp/time"}}
	modules := release.PolicySpec{AllowedModules: []string{"terraform-aws-modules/*/aws", "git::https://git.example.org/**"}}
	provider := func(source string) string {
		return "terraform {\n  required_providers {\n    x = {\n      source = \"" + source + "\"\n    }\n  }\n}\n"
	}
	module := func(source string) string { return "module \"m\" {\n  source = \"" + source + "\"\n}\n" }
	for name, c := range map[string]struct {
		spec release.PolicySpec
		code string
		want []string
	}{
		"no list allows all":               {release.PolicySpec{}, provider("evil/x") + module("evil/x/y"), nil},
		"an allowed provider":              {hashicorp, provider("hashicorp/x"), nil},
		"an allowed provider with host":    {hashicorp, provider("registry.terraform.io/hashicorp/x"), nil},
		"an allowed provider by its name":  {onlyTime, `resource "time_sleep" "s" {}`, nil},
		"the engine's own provider":        {onlyTime, `resource "terraform_data" "d" {}`, nil},
		"another namespace":                {hashicorp, provider("evil/x"), []string{`error allowed-providers main.tf:4 provider "x" has the source "evil/x", which is not allowed: remove it`}},
		"another host":                     {hashicorp, provider("evil.org/hashicorp/x"), []string{`error allowed-providers main.tf:4 `}},
		"dots that climb":                  {hashicorp, provider("hashicorp/../evil"), []string{`error allowed-providers main.tf:4 `}},
		"a trailing dot":                   {hashicorp, provider("registry.terraform.io./hashicorp/x"), []string{`error allowed-providers main.tf:4 `}},
		"a look-alike":                     {hashicorp, provider("h\u0430shicorp/x"), []string{`error allowed-providers main.tf:4 provider "x" has the source "h\u0430shicorp/x"`}},
		"a direction mark":                 {hashicorp, provider("hashicorp/\u202ex"), []string{`error allowed-providers main.tf:4 provider "x" has the source "hashicorp/\u202ex"`}},
		"an undeclared provider":           {onlyTime, "\nresource \"null_resource\" \"n\" {}\ndata \"null_data_source\" \"d\" {}", []string{`error allowed-providers main.tf:2 provider "null" is used without a source, which means "hashicorp/null"`}},
		"an undeclared provider's block":   {onlyTime, "\nprovider \"aws\" {}", []string{`error allowed-providers main.tf:2 provider "aws" is used`}},
		"an undeclared provider by import": {onlyTime, "import {\n provider = aws.x\n}", []string{`error allowed-providers main.tf:1 provider "aws" is used`}},
		"a data source in a check":         {onlyTime, "check \"c\" {\n data \"http\" \"h\" {}\n}", []string{`error allowed-providers main.tf:2 provider "http" is used`}},

		"an allowed module":         {modules, module("terraform-aws-modules/vpc/aws"), nil},
		"an allowed repository":     {modules, module("git::https://GIT.example.org/org/x.git//sub?ref=v1"), nil},
		"another module":            {modules, "\n" + module("evil/vpc/aws"), []string{`error allowed-modules main.tf:3 module "m" has the source "evil/vpc/aws", which is not allowed: use another`}},
		"a host that only looks so": {modules, module("git::https://git.example.org@evil.org/x"), []string{`error allowed-modules main.tf:2 `}},
		"a module that climbs":      {modules, module("git::https://git.example.org/../x"), []string{`error allowed-modules main.tf:2 `}},
		"a path out":                {release.PolicySpec{}, module("../x"), []string{`error allowed-modules main.tf:2 module "m" has the source "../x", which leads out of the repository`}},
		"an absolute path":          {release.PolicySpec{}, module("/etc"), []string{`error allowed-modules main.tf:2 `}},
		"a file URL":                {release.PolicySpec{}, module("git::file:///srv/x"), []string{`error allowed-modules main.tf:2 `}},
		"a computed source":         {release.PolicySpec{}, module("${var.x}"), []string{`error allowed-modules main.tf:2 module "m" has a source that is computed`}},

		"programs are listed": {hashicorp, `data "external" "e" {}
resource "terraform_data" "d" {
  provisioner "local-exec" {}
}
`, []string{
			`notice runs-program main.tf:1 data "external" starts a program where the run takes place`,
			`notice runs-program main.tf:3 the provisioner "local-exec" acts outside of any provider`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, f := range judge(t, c.spec, map[string]string{"main.tf": c.code}) {
				got = append(got, string(f.Severity)+" "+f.Rule+" "+f.File+":"+release.FormatID(int64(f.Line))+" "+f.Message)
			}
			ok := len(got) == len(c.want)
			for i := range c.want {
				ok = ok && strings.HasPrefix(got[i], c.want[i])
			}
			if !ok {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

func TestConfigReportsEngineFolders(t *testing.T) {
	got := judge(t, release.PolicySpec{}, map[string]string{"main.tf": "", ".terraform/providers/registry.terraform.io/x": ""})
	if len(got) != 1 || got[0].Rule != "engine-folder" || got[0].Severity != release.SeverityError || got[0].File != ".terraform" {
		t.Errorf("got %+v", got)
	}
}

// A module inside the repository is allowed whatever the list says, and what it
// uses is judged.
func TestConfigFollowsLocalModules(t *testing.T) {
	got := judge(t, release.PolicySpec{AllowedModules: []string{"a/b/c"}, AllowedProviders: []string{"time"}}, map[string]string{
		"main.tf":     `module "m" { source = "./m" }`,
		"m/main.tf":   "\nresource \"null_resource\" \"n\" {}",
		"m/time.tf":   `resource "time_sleep" "s" {}`,
		"other/x.tf":  `resource "aws_vpc" "v" {}`,
		"m/README.md": "{",
	})
	if len(got) != 1 || got[0].File != "m/main.tf" || got[0].Line != 2 || got[0].Resource != "null_resource.n" {
		t.Errorf("got %+v", got)
	}
}

// What a repository names reaches nobody's terminal as it is.
func TestConfigCleansNames(t *testing.T) {
	got := judge(t, release.PolicySpec{}, map[string]string{"a.tf.json": `{"data": {"external": {"\u001b[2J\u202e": {}}}}`})
	if len(got) != 1 || got[0].Resource != "data.external. [2J " {
		t.Errorf("got %+v", got)
	}
}

func plan(t testing.TB, text string) *tfjson.Plan {
	t.Helper()
	var p tfjson.Plan
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	return &p
}

func TestPlan(t *testing.T) {
	const (
		planned  = `"planned_values": {"root_module": {"child_modules": [{"child_modules": [{"resources": [{"address": "module.a.module.b.x.y", "provider_name": "%"}]}]}]}}`
		prior    = `"prior_state": {"format_version": "1.0", "values": {"root_module": {"resources": [{"address": "x.y", "provider_name": "%"}]}}}`
		change   = `"resource_changes": [{"address": "x.y", "provider_name": "%"}]`
		drift    = `"resource_drift": [{"address": "x.y", "provider_name": "%"}]`
		deferred = `"deferred_changes": [{"reason": "r", "resource_change": {"address": "x.y", "provider_name": "%"}}]`
		action   = `"action_invocations": [{"address": "x.y", "provider_name": "%"}]`
		config   = `"configuration": {"provider_config": {"m:x": {"name": "x", "full_name": "%"}}, "root_module": {}}`
	)
	e := engine(t, release.PolicySpec{AllowedProviders: []string{"hashicorp/*"}})
	for _, part := range []string{planned, prior, change, drift, deferred, action, config} {
		for provider, denied := range map[string]bool{
			"registry.terraform.io/hashicorp/time": false, "registry.opentofu.org/hashicorp/time": false, builtinProvider: false,
			"registry.terraform.io/evil/time": true, "evil.org/hashicorp/time": true, "registry.terraform.io/-/time": true, "": true,
		} {
			p := plan(t, `{"format_version": "1.2", `+strings.ReplaceAll(part, "%", provider)+`}`)
			verdict, err := e.Plan(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			got := verdict.Findings
			if denied != (len(got) == 1) || denied && (got[0].Severity != release.SeverityError || got[0].Rule != "allowed-providers") {
				if part == config && provider == "" {
					continue // an older engine gives the short name alone
				}
				t.Errorf("%q in %s: %+v", provider, part, got)
			}
			if all, err := engine(t, release.PolicySpec{}).Plan(t.Context(), p); err != nil || len(all.Findings) != 0 {
				t.Errorf("without a list: %+v %v", all, err)
			}
		}
	}
	verdict, err := e.Plan(t.Context(), plan(t, `{"format_version": "1.2", `+
		`"resource_changes": [{"address": "x.z", "provider_name": "evil.org/a/b"}, {"address": "x.y", "provider_name": "evil.org/a/b"}]}`))
	got := verdict.Findings
	if err != nil || len(got) != 1 || got[0].Resource != "x.y" || !strings.Contains(got[0].Message, `"evil.org/a/b", which is not allowed (2 uses, first "x.y")`) {
		t.Errorf("got %+v %v", got, err)
	}
	if got, err := e.Plan(t.Context(), plan(t, `{"format_version": "1.2"}`)); err != nil || len(got.Findings) != 0 {
		t.Errorf("an empty plan: %+v %v", got, err)
	}
	if _, err := e.Plan(t.Context(), nil); err == nil {
		t.Error("no plan was judged")
	}
}

// A real engine's plan is judged as the documents above are.
func TestPlanOfARealEngine(t *testing.T) {
	for _, kind := range []string{"tofu", "terraform"} {
		t.Run(kind, func(t *testing.T) {
			bin := testkit.Tool(t, kind)
			dir := tree(t, map[string]string{"main.tf": `resource "terraform_data" "d" { input = "secret" }`})
			run := func(args ...string) []byte {
				t.Helper()
				cmd := exec.CommandContext(t.Context(), bin, args...)
				cmd.Dir, cmd.Env = dir, []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "CHECKPOINT_DISABLE=1"}
				out, err := cmd.Output()
				if err != nil {
					t.Fatalf("%s %v: %v\n%s", kind, args, err, out)
				}
				return out
			}
			run("init", "-input=false")
			run("plan", "-input=false", "-out=p")
			p := plan(t, string(run("show", "-json", "p")))
			input := planInput(p, release.PolicySpec{}, true)
			if len(input.Providers) != 1 || input.Providers[0].ProviderAddress != builtinProvider {
				t.Errorf("got %+v", input)
			}
			got, err := engine(t, release.PolicySpec{AllowedProviders: []string{"hashicorp/time"}}).Plan(t.Context(), p)
			if err != nil || len(got.Findings) != 0 {
				t.Errorf("got %+v %v", got, err)
			}
		})
	}
}

// The runner pays this at every run.
func BenchmarkNewAndFirstEvaluation(b *testing.B) {
	input := read(b, tree(b, map[string]string{"main.tf": `resource "terraform_data" "d" {}`}), ".")
	spec := release.PolicySpec{AllowedProviders: []string{"hashicorp/*"}}
	for b.Loop() {
		if _, err := engine(b, spec).Config(b.Context(), input); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadConfig(b *testing.B) {
	root := tree(b, map[string]string{"main.tf": strings.Repeat("resource \"aws_vpc\" \"v\" {\n  cidr = \"10.0.0.0/16\"\n}\n", 500)})
	for b.Loop() {
		read(b, root, ".")
	}
}
