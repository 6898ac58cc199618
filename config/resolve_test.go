package config_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
)

// resolve evaluates minimal plus extra for one tag.
func resolve(t *testing.T, extra, name string, repo config.Files) (*config.Deployment, error) {
	t.Helper()
	return parse(t, minimal+extra).Resolve(config.ResolveInput{
		Repository: "infra", Tag: tag(t, name), Commit: "0123abcd", Files: repo})
}

func TestResolveStack(t *testing.T) {
	d, err := resolve(t, `
stack {
  path      = "stacks/${team}/."
  var_files = ["base.tfvars", optional("${region}.tfvars"), optional("gone.tfvars"), scope == "global" ? "global.tfvars" : null]
  variables = { tag = tag, version = version, commit = commit, repository = repository, short = short_region(region), n = 12345678901234567890, list = [1, true] }
}`, "dev_eu-central-1/risk/v1.2", files{"base.tfvars": "", "eu-central-1.tfvars": "", "global.tfvars": ""})
	if err != nil {
		t.Fatal(err)
	}
	want := release.StackSpec{Path: "stacks/risk", VarFiles: []string{"base.tfvars", "eu-central-1.tfvars"}, Variables: map[string]any{
		"tag": "dev_eu-central-1/risk/v1.2", "version": "v1.2", "commit": "0123abcd", "repository": "infra", "short": "euc1",
		"n": json.Number("12345678901234567890"), "list": []any{json.Number("1"), true}}}
	if !reflect.DeepEqual(d.Stack, want) {
		t.Errorf("got  %+v\nwant %+v", d.Stack, want)
	}
}

func TestResolveWithoutStack(t *testing.T) {
	d, err := resolve(t, "", "dev_global/research/1.0", files{})
	if err != nil {
		t.Fatal(err)
	}
	if d.Stack.Path != "." || d.Stack.Module != "" || d.Region != "us-east-1" || d.Account != "" {
		t.Errorf("got %+v", d)
	}
	const state = "/etc/waymark/waymark-data/state/infra/research/dev-global/terraform.tfstate"
	if d.Backend.Type != "local" || d.Backend.Values["path"] != state || d.BackendLocation.Key != state {
		t.Errorf("the state is at %+v", d.Backend)
	}
}

// A variable file that the commit lacks is an error where no branch says
// optional().
func TestOptionalBindsToItsOwnPath(t *testing.T) {
	const stack = `stack { var_files = [scope == "global" ? "must.tfvars" : optional("may.tfvars")] }`
	if _, err := resolve(t, stack, "dev_us-east-1/risk/1", files{}); err != nil {
		t.Errorf("the optional file is missed: %v", err)
	}
	if _, err := resolve(t, stack, "dev_global/risk/1", files{}); !errors.Is(err, release.ErrRefused) {
		t.Errorf("the mandatory file is not missed: %v", err)
	}
}

func TestResolveRefuses(t *testing.T) {
	const account = `stack { account = tfvar("v.tfvars", "account") }
`
	failing := errors.New("the disk is gone")
	for _, tt := range []struct {
		name, extra string
		repo        config.Files
		is          error
		want        string
	}{
		{"missing variable file", `stack { var_files = ["${team}.tfvars"] }`, files{}, release.ErrRefused,
			`waymark.hcl:6: stack.var_files: refused: the commit has no file risk.tfvars: add it, or write optional(...)`},
		{"missing tfvar file", account, files{}, release.ErrRefused, `the commit has no file v.tfvars, which must set "account"`},
		{"missing tfvar", account, files{"v.tfvars": `acount = "1"`}, release.ErrRefused, `v.tfvars does not set "account": did you mean "acount"?`},
		{"tfvars do not parse", account, files{"v.tfvars": `account = `}, release.ErrInvalid, `v.tfvars:1:`},
		{"tfvar is no literal", account, files{"v.tfvars": "x = 1\naccount = var.x"}, release.ErrInvalid, `v.tfvars:2: "account" must be a literal`},
		{"account is not an account", account, files{"v.tfvars": `account = "1:role/Evil"`}, release.ErrRefused, `an account is 12 digits`},
		{"leading zero is lost", account, files{"v.tfvars": `account = 012345678901`}, release.ErrRefused, `put them in quotes to keep leading zeros`},
		{"account is not allowed", account + `environment "x" {
  regions  = ["us-east-1"]
  accounts = ["111122223333"]
}`, files{"v.tfvars": `account = "444455556666"`}, release.ErrRefused,
			`the target's account, "444455556666", is not one that environment x allows`},
		{"role reaches another account", account + `credentials {
  run_role   = "arn:aws:iam::444455556666:role/R"
  apply_role = "arn:aws:iam::${tfvar("v.tfvars", "other")}:role/X"
}
environment "x" {
  regions  = ["us-east-1"]
  accounts = ["111122223333"]
}`, files{"v.tfvars": "account = \"111122223333\"\nother = \"444455556666\""}, release.ErrRefused,
			`the account of apply_role, "444455556666", is not one that environment x allows`},
		{"role is none", `credentials {
  run_role  = "arn:aws:iam::444455556666:role/R"
  plan_role = "arn:aws:iam::${tfvar("v.tfvars", "a")}:role/X"
}`,
			files{"v.tfvars": `a = "1 2"`}, release.ErrRefused, `credentials.plan_role: refused: it is no role`},
		{"stack leaves", `stack { path = "stacks/${tfvar("v.tfvars", "a")}" }`,
			files{"v.tfvars": `a = "../../etc"`}, release.ErrRefused, `climbs with ".."`},
		{"stack with NUL", `stack { path = "stacks/${tfvar("v.tfvars", "a")}" }`,
			files{"v.tfvars": `a = "x\u0000y"`}, release.ErrInvalid, `holds a control character`},
		{"var file leaves", `stack { var_files = [optional("x/${tfvar("v.tfvars", "a")}")] }`,
			files{"v.tfvars": `a = "../../../etc/passwd"`}, release.ErrRefused, `climbs with ".."`},
		{"module is an option", `stack { module = tfvar("v.tfvars", "a") }`,
			files{"v.tfvars": `a = "-destroy"`}, release.ErrRefused, `is no address: "-destroy"`},
		{"key climbs", `backend "s3" {
  bucket = "b-${env}-${scope}-${team}"
  key    = tfvar("v.tfvars", "a")
}`, files{"v.tfvars": `a = "x/../../y"`}, release.ErrRefused, `backend.s3.key: refused`},
		{"key is empty", `backend "s3" {
  bucket = "b-${env}-${scope}-${team}"
  key    = tfvar("v.tfvars", "a")
}`, files{"v.tfvars": `a = ""`}, release.ErrRefused, `a path in the repository is empty`},
		{"no repository at hand", account, nil, release.ErrUnavailable, `v.tfvars is in the repository, which is not at hand`},
		{"no variable files at hand", `stack { var_files = ["x"] }`, nil, release.ErrUnavailable, `x is in the repository`},
		{"reading fails", account, brokenFiles{failing}, failing, `waymark.hcl:6: stack.account: reading v.tfvars: the disk is gone`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := "dev_us-east-1/risk/1"
			if strings.Contains(tt.extra, `environment "x"`) {
				name = "x_us-east-1/risk/1"
			}
			_, err := resolve(t, tt.extra, name, tt.repo)
			if !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if tt.is == failing && (errors.Is(err, release.ErrRefused) || errors.Is(err, release.ErrInvalid)) {
				t.Errorf("a failure to read looks final: %v", err)
			}
		})
	}
}

// brokenFiles is a repository that cannot be read.
type brokenFiles struct{ err error }

func (b brokenFiles) ReadFile(string) ([]byte, error) { return nil, b.err }

func TestResolveRefusesUnknownTargets(t *testing.T) {
	if _, err := resolve(t, "", "qa_us-east-1/risk/1", files{}); !errors.Is(err, release.ErrRefused) {
		t.Errorf("got %v", err)
	}
}

func TestBackendValues(t *testing.T) {
	d, err := resolve(t, `backend "s3" {
  bucket       = "b"
  key          = "${team}/${env}-${scope}"
  use_lockfile = true
  max_retries  = 5
  endpoints    = { s3 = "http://localhost:1/${env}" }
  profile      = null
}`, "dev_global/risk/1", files{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"bucket": "b", "key": "risk/dev-global", "use_lockfile": "true", "max_retries": "5",
		"endpoints": `{"s3":"http://localhost:1/dev"}`}
	if !reflect.DeepEqual(d.Backend.Values, want) {
		t.Errorf("got %v", d.Backend.Values)
	}
	if d.BackendLocation.Lock != "risk/dev-global.tflock" {
		t.Errorf("the lock is %q", d.BackendLocation.Lock)
	}
}

func TestGatesOfADeployment(t *testing.T) {
	d, err := resolve(t, `
gate "tflint" { enabled = false }
gate "checkov" {
  skip_check = ["CKV_AWS_1", "CKV_AWS_2"]
  config     = "checks"
}`, "dev_global/risk/1", files{})
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Gates) != 1 || d.Gates[0].Name != "checkov" {
		t.Fatalf("the gates are %+v", d.Gates)
	}
	want := map[string]string{"skip_check": "CKV_AWS_1,CKV_AWS_2", "external_checks_dir": "/etc/waymark/checks"}
	if got := d.Gates[0].Settings(); !reflect.DeepEqual(got, want) {
		t.Errorf("the settings are %v, want %v", got, want)
	}
}

func TestTfvar(t *testing.T) {
	for _, tt := range []struct{ file, src, want, problem string }{
		{"v.tfvars", `a = "x"`, "x", ""},
		{"v.tfvars", `a = 12`, "12", ""},
		{"v.tfvars", `a = -1.5`, "-1.5", ""},
		{"v.tfvars", `a = true`, "true", ""},
		{"v.tfvars", `a = ""`, "", ""},
		{"v.tfvars", "b = file(\"/etc/passwd\")\na = \"x\"", "x", ""},
		{"v.tfvars", `a = null`, "", "must be a literal"},
		{"v.tfvars", `a = "${b}"`, "", "must be a literal"},
		{"v.tfvars", `a = "x-${b}"`, "", "must be a literal"},
		{"v.tfvars", `a = file("/etc/passwd")`, "", "must be a literal"},
		{"v.tfvars", `a = 1 + 1`, "", "must be a literal"},
		{"v.tfvars", `a = ["x"]`, "", "must be a literal"},
		{"v.tfvars", `a = 1e99999`, "", "too large"},
		{"v.tfvars", "a = 1\na = 2", "", "attribute redefined"},
		{"v.tfvars", "a = " + strings.Repeat("(", 500000), "", "nested too deep"},
		{"v.tfvars", "a = " + strings.Repeat("!", 500000), "", "nested too deep"},
		{"v.tfvars", "a = " + strings.Repeat("- ", 400000) + "1", "", "nested too deep"},
		{"v.tfvars", "a = " + strings.Repeat("x?", 400000), "", "nested too deep"},
		{"v.tfvars", "a = x" + strings.Repeat("[*]", 300000), "", "nested too deep"},
		{"v.tfvars", "a = \"" + strings.Repeat("%{if x}", 100000), "", "nested too deep"},
		{"v.tfvars", strings.Repeat(" ", 1<<20+1), "", "larger than"},
		{"v.tfvars.json", `{"b": {"a": 1}, "a": "x"}`, "x", ""},
		{"v.tfvars.json", `{"a": 123456789012345678}`, "123456789012345678", ""},
		{"v.tfvars.json", `{"a": 1e999999999}`, "", "too large"},
		{"v.tfvars.json", `{"a": "${b}"}`, "${b}", ""},
		{"v.tfvars.json", `{"a": null}`, "", "must be a literal"},
		{"v.tfvars.json", `{"a": 1, "a": 2}`, "", `sets "a" twice`},
		{"v.tfvars.json", `["a"]`, "", "no JSON object"},
		{"v.tfvars.json", `{"a": 1`, "", "no JSON object"},
		{"v.tfvars.json", `{"b": ` + strings.Repeat("[", 500000), "", "no JSON object"},
		{"v.tfvars.json", `{"ab": 1}`, "", `does not set "a"`},
	} {
		d, err := resolve(t, `stack { variables = { v = "=${tfvar("`+tt.file+`", "a")}" } }`, "dev_global/risk/1", files{tt.file: tt.src})
		switch {
		case tt.problem == "" && (err != nil || d.Stack.Variables["v"] != "="+tt.want):
			t.Errorf("%s %.40s: got %v, %v", tt.file, tt.src, d, err)
		case tt.problem != "" && (err == nil || !strings.Contains(err.Error(), tt.problem)):
			t.Errorf("%s %.40s: got %v, want %s", tt.file, tt.src, err, tt.problem)
		}
	}
}

func FuzzTfvar(f *testing.F) {
	f.Add(`a = "x"`, false)
	f.Add(`{"a": 1}`, true)
	f.Fuzz(func(t *testing.T, src string, asJSON bool) {
		name := "v.tfvars"
		if asJSON {
			name += ".json"
		}
		_, err := resolve(t, `stack { account = tfvar("`+name+`", "a") }`, "dev_global/risk/1", files{name: src})
		if err != nil && !errors.Is(err, release.ErrInvalid) && !errors.Is(err, release.ErrRefused) {
			t.Errorf("an error without a sentinel: %v", err)
		}
	})
}

func TestShortRegion(t *testing.T) {
	for region, want := range map[string]string{
		"us-east-1": "use1", "ap-southeast-1": "apse1", "eu-central-1": "euc1", "us-gov-west-1": "usgw1",
		"ap-northeast-3": "apne3", "me-south-1": "mes1", "ca-west-1": "caw1", "us-iso-east-1": "usie1",
		"us-isob-east-1": "usibe1", "il-central-1": "ilc1", "cn-northwest-1": "cnnw1", "af-south-1": "afs1",
	} {
		c := parse(t, `
repository "infra" { url = "https://git.example.org/infra.git" }
teams = ["a"]
environment "dev" { regions = ["`+region+`"] }
stack { path = short_region(region) }`)
		d, err := c.Resolve(config.ResolveInput{Repository: "infra", Tag: tag(t, "dev_"+region+"/a/1"), Files: files{}})
		if err != nil || d.Stack.Path != want {
			t.Errorf("short_region(%q): %v, %v, want %s", region, d, err, want)
		}
	}
	_, err := config.Parse("w.hcl", []byte(minimal+`stack { path = short_region(scope) }`), nil)
	if err == nil || !strings.Contains(err.Error(), `short_region() takes a Region such as us-east-1, not "global"`) {
		t.Errorf("of global: %v", err)
	}
}
