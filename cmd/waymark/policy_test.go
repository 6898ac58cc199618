package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/release"
)

// policyWorld has rules at all three decision points, and an environment in which
// code may start no programs.
const policyWorld = `
environment "live" {
  regions   = ["us-east-1"]
  protected = true
}
policy {
  folders            = ["policies"]
  timeout            = "20s"
  data_bearing_types = ["terraform_data"]
  allowed_providers  = ["hashicorp/*"]
  rule "max-destroys" {
    level        = "off"
    environments = ["dev"]
  }
}
`

const tagRules = `package tag

deny contains {"rule": "no-drafts", "message": "a draft is not released"} if contains(input.message, "draft")

warn contains {"rule": "early", "message": sprintf("only %d releases before", [count(input.earlier)])} if count(input.earlier) < 1

require_approval contains {"rule": "first-time", "message": "the first release of a team"} if {
	input.target.team == "gamma"
	count(input.deployed) == 0
}
`

const configRules = `package config

import data.lib.places

deny contains {"rule": "no-files", "message": sprintf("%s(%q) reads outside of the stack", [call.function, call.path]), "file": call.file, "line": call.line} if {
	some call in input.file_functions
	places.outside(call)
}
`

const libRules = `package lib.places

outside(call) if call.outside

outside(call) if call.resolved in data.secrets.paths
`

const planRules = `package plan

import data.waymark.lib

deny contains {"rule": "no-seven", "message": "seven is not a good number", "resource": change.address, "link": "https://example.org/seven"} if {
	some change in input.resource_changes
	lib.changed(change)
	change.after.input == "seven"
}

deny contains {"rule": "seen", "message": "a secret was seen"} if contains(json.marshal(input), "hunter2hunter2")
`

// policies writes the world's policy folder.
func (w *world) policies(files map[string]string) {
	w.t.Helper()
	for name, text := range files {
		path := filepath.Join(w.dir, "policies", filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
}

func newPolicyWorld(t *testing.T) *world {
	w := newWorld(t, policyWorld)
	w.policies(map[string]string{"tag.rego": tagRules, "config.rego": configRules, "plan.rego": planRules,
		"lib/places.rego": libRules, "data.yaml": "secrets: {paths: [secret.txt]}", "plan_test.rego": "package plan_test\nimport data.plan\ntest_it if count(plan.deny) == 0 with input as {\"resource_changes\": []}\n"})
	for k, v := range w.env {
		t.Setenv(k, v)
	}
	return w
}

// tagged pushes new code under a tag.
func (w *world) tagged(tag, message string, files map[string]string) {
	w.t.Helper()
	if files != nil {
		w.remote.Commit(files)
	}
	w.remote.Tag(tag, "main", message)
}

func TestPoliciesAtEveryDecisionPoint(t *testing.T) {
	w := newPolicyWorld(t)
	w.serve()
	w.contact()

	w.tagged("dev_us-east-1/research/1.0", "draft of it", nil)
	if got := w.refused("dev_us-east-1/research/1.0"); got != "policy says no: a draft is not released (no-drafts)" {
		t.Errorf("refused with %q", got)
	}
	w.tagged("dev_us-east-1/research/1.1", "Release", nil)
	run := w.until("dev_us-east-1/research/1.1", release.Succeeded)
	wantText(t, summaryOf(run, "config"), "no findings")
	wantText(t, summaryOf(run, "policy"), "no findings; max-destroys is switched off")
	wantText(t, w.runLog(run.ID), "policy: by the service's configuration max-destroys is switched off")

	w.tagged("dev_eu-central-1/risk/1.0", "Release", nil)
	w.until("dev_eu-central-1/risk/1.0", release.Succeeded)
	queued := w.entryOf("run.queued", "dev_eu-central-1/risk/1.0")
	if got := fmt.Sprint(queued.Details["policy"]); got != "[warning: only 0 releases before (early)]" {
		t.Errorf("the entry's policy: %s", got)
	}

	w.tagged("live_us-east-1/gamma/1.0", "Release", nil)
	first := w.until("live_us-east-1/gamma/1.0", release.AwaitingApproval)
	wantText(t, w.mustCLI("runs", "show", first.ID), "1 approval (policy first-time)")
	w.mustCLI("runs", "approve", first.ID, "--yes")
	w.until("live_us-east-1/gamma/1.0", release.Succeeded)

	// Before anything is executed.
	for version, c := range map[string]struct {
		files map[string]string
		says  string
	}{
		"2.0": {map[string]string{"x.tf": "data \"external\" \"e\" { program = [\"false\"] }\n"}, `x.tf:1: data "external" starts a program where the run takes place (protected-program)`},
		"2.1": {map[string]string{"x.tf": "terraform {\n  backend \"s3\" {}\n}\n"}, `x.tf:2: the code keeps its state in the backend "s3", and the service's configuration in the backend "local": leave the block out (backend-in-code)`},
		"2.2": {map[string]string{"x.tf": "terraform {\n  required_providers {\n    x = { source = \"evil.example.org/a/x\" }\n  }\n}\n"}, `(allowed-providers)`},
		"2.3": {map[string]string{"x.tf": "locals { x = file(\"/etc/hostname\") }\n"}, `x.tf:1: file("/etc/hostname") reads outside of the stack (no-files)`},
		"2.4": {map[string]string{"x.tf": "locals { x = file(\"secret.txt\") }\n", "secret.txt": "x"}, `x.tf:1: file("secret.txt") reads outside of the stack (no-files)`},
	} {
		tag := "live_us-east-1/research/" + version
		w.tagged(tag, "Release", c.files)
		denied := w.until(tag, release.Denied)
		wantText(t, denied.Reason, "config: policy says no: ", c.says)
		if s := stageOf(denied, "init"); !s.StartedAt.IsZero() {
			t.Errorf("%s: init began, and is %s", tag, s.State)
		}
	}

	// After the plan.
	seven := map[string]string{"x.tf": "resource \"terraform_data\" \"seven\" { input = \"seven\" }\nvariable \"s\" {\n  sensitive = true\n  default = \"hunter2hunter2\"\n}\nresource \"terraform_data\" \"s\" { input = var.s }\n"}
	w.tagged("dev_us-east-1/research/3.0", "Release", seven)
	denied := w.until("dev_us-east-1/research/3.0", release.Denied)
	if want := "policy: policy says no: terraform_data.seven: seven is not a good number (no-seven)"; denied.Reason != want {
		t.Errorf("denied with %q, want %q", denied.Reason, want)
	}
	wantText(t, w.mustCLI("runs", "show", denied.ID), "no-seven")
	found, err := w.client.Findings(t.Context(), denied.ID)
	if err != nil || len(found.Findings) != 1 || found.Findings[0].Link != "https://example.org/seven" {
		t.Errorf("findings %+v, %v", found, err)
	}
	w.tagged("dev_us-east-1/research/3.1", "Release", map[string]string{"main.tf": strings.Replace(worldCode, `"terraform_data" "it"`, `"terraform_data" "other"`, 1), "x.tf": ""})
	w.until("dev_us-east-1/research/3.1", release.Failed) // the output still names the resource that is gone
	gone := strings.ReplaceAll(worldCode, "terraform_data.it", "terraform_data.other")
	w.tagged("dev_us-east-1/research/3.2", "Release", map[string]string{"main.tf": strings.Replace(gone, `"terraform_data" "it"`, `"terraform_data" "other"`, 1)})
	waits := w.until("dev_us-east-1/research/3.2", release.AwaitingApproval)
	wantText(t, summaryOf(waits, "policy"), "1 notice; needs 1 approval (policy data-bearing)")
	wantText(t, w.mustCLI("runs", "show", waits.ID), `"terraform_data" holds data and would be destroyed; it needs 1 approval`)
	w.mustCLI("runs", "approve", waits.ID, "--yes")
	w.until("dev_us-east-1/research/3.2", release.Succeeded)
	wantText(t, w.mustCLI("audit", "verify"), "verified:")
	wantText(t, w.log.String(), "bundled policy rules are weakened by the configuration", "environment dev: max-destroys is switched off")
}

func summaryOf(r api.Run, name string) string { return stageOf(r, name).Summary }

// entryOf is the audit entry of an action on a tag.
func (w *world) entryOf(action, tag string) api.AuditEntry {
	w.t.Helper()
	entries := w.entries()
	i := slices.IndexFunc(entries, func(e api.AuditEntry) bool { return e.Action == action && e.Tag == tag })
	if i < 0 {
		w.t.Fatalf("no entry %s of %s", action, tag)
	}
	return entries[i]
}

// Rules that loop deny, in the service and in a run, and say that they do.
func TestPoliciesThatNeverEnd(t *testing.T) {
	const loop = " contains \"x\" if {\n\tinput.target.team == %q\n\tsome a in numbers.range(1, 9000)\n\tsome b in numbers.range(1, 9000)\n\tsome c in numbers.range(1, 9000)\n\ta + b + c == 0\n}\n"
	w := newWorld(t, "policy {\n  folders = [\"policies\"]\n  timeout = \"1s\"\n}\n")
	w.policies(map[string]string{"tag.rego": "package tag\ndeny contains \"never\" if input.target.team == \"nobody\"\nwarn" + fmt.Sprintf(loop, "risk"),
		"plan.rego": "package plan\ndeny" + fmt.Sprintf(loop, "research")})
	w.serve()
	w.contact()
	w.push("dev_us-east-1/risk/1.0")
	wantText(t, w.refused("dev_us-east-1/risk/1.0"), "data.tag.warn did not end within 1s: write the rules so that they take less time, or raise policy { timeout }")
	w.push("dev_us-east-1/research/1.0")
	denied := w.until("dev_us-east-1/research/1.0", release.Denied)
	wantText(t, denied.Reason, "policy: judging the plan: ", "data.plan.deny did not end within 1s")
}

func TestBrokenPoliciesStopTheStart(t *testing.T) {
	w := newPolicyWorld(t)
	w.policies(map[string]string{"plan.rego": "package plan\n\ndeny contains {", "x.rego": "package main\n", "y.json": "{\n\"a\": }"})
	for _, args := range [][]string{{"serve", "--config", w.file}, {"config", "check", w.file}, {"policy", "eval", "dev_us-east-1/risk/1.0", "--config", w.file, "--repo", w.remote.Dir}} {
		code, _, errs := w.cli(args...)
		if code != 2 {
			t.Errorf("%v: exit %d %s", args, code, errs)
		}
		wantText(t, errs, w.file+":", "policy: policies/plan.rego:3: ", "policy: policies/x.rego:1: nothing asks the package main", "policy: policies/y.json:2: cannot be read as data")
	}
	code, _, errs := w.cli("policy", "test", filepath.Join(w.dir, "policies"))
	if code != 2 {
		t.Errorf("policy test: exit %d %s", code, errs)
	}
	wantText(t, errs, "policies/plan.rego:3: ", "policies/x.rego:1: ", "policies/y.json:2: ")
}

func TestConfigCheckSaysWhatIsWeakened(t *testing.T) {
	w := newPolicyWorld(t)
	code, out, errs := w.cli("config", "check", w.file)
	if code != 0 || !strings.Contains(out, "is good") || !strings.Contains(errs, "policy: environment dev: max-destroys is switched off\n") || strings.Count(errs, "max-destroys") != 1 {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
}

func TestPolicyTest(t *testing.T) {
	w := newPolicyWorld(t)
	code, out, errs := w.cli("policy", "test", "--config", w.file)
	if code != 0 || !strings.Contains(out, "data.plan_test.test_it") || !strings.Contains(out, "1 passed, 0 failed") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	w.policies(map[string]string{"tag_test.rego": "package tag_test\nimport data.tag\ntest_drafts if count(tag.deny) == 7 with input as {\"message\": \"a draft\"}\n"})
	code, out, _ = w.cli("policy", "test", filepath.Join(w.dir, "policies"))
	if code != 1 || !strings.Contains(out, "FAIL  data.tag_test.test_drafts") || !strings.Contains(out, "policies/tag_test.rego:3\n") || !strings.Contains(out, "1 passed, 1 failed") {
		t.Errorf("exit %d\n%s", code, out)
	}
	if code, _, errs := w.cli("policy", "test", t.TempDir()); code != 2 || !strings.Contains(errs, "there are no tests") {
		t.Errorf("an empty folder: exit %d %s", code, errs)
	}
	if code, _, errs := w.cli("policy", "test", "/nowhere/at/all"); code != 2 || !strings.Contains(errs, "/nowhere/at/all") {
		t.Errorf("no folder: exit %d %s", code, errs)
	}
}

func TestPolicyEval(t *testing.T) {
	w := newPolicyWorld(t)
	eval := func(want int, tag string, args ...string) evaluated {
		t.Helper()
		code, out, errs := w.cli(append([]string{"policy", "eval", tag, "--config", w.file, "--repo", w.remote.Dir, "-o", "json"}, args...)...)
		var e evaluated
		if err := json.Unmarshal([]byte(out), &e); code != want || err != nil {
			t.Fatalf("exit %d, %v\n%s%s", code, err, out, errs)
		}
		return e
	}
	w.tagged("live_us-east-1/gamma/1.0", "Release", nil)
	e := eval(0, "live_us-east-1/gamma/1.0")
	if len(e.Points) != 2 || e.Points[0].Point != "tag" || e.Points[0].Requirements[0].Why != "policy first-time" || e.Denied {
		t.Errorf("got %+v", e)
	}
	input, _ := e.Points[0].Input.(map[string]any)
	if input["message"] != "Release\n" && input["message"] != "Release" || input["annotated"] != true || input["reachable"] != true {
		t.Errorf("the tag's input: %v", input)
	}
	if f := e.Points[0].Fired; len(f) != 2 || f[1].Rule != "data.tag.require_approval" || f[1].File != "policies/tag.rego" || f[1].Line != 7 {
		t.Errorf("fired: %+v", f)
	}
	w.tagged("live_us-east-1/gamma/1.1", "draft", map[string]string{"x.tf": "data \"external\" \"e\" {}\n"})
	e = eval(4, "live_us-east-1/gamma/1.1")
	if !e.Points[0].Denied || !e.Points[1].Denied || e.Points[1].Findings[0].Rule != "protected-program" {
		t.Errorf("got %+v", e)
	}
	if e = eval(4, "live_us-east-1/gamma/1.1", "--point", "config"); len(e.Points) != 1 {
		t.Errorf("got %+v", e)
	}
	eval(0, "dev_us-east-1/research/9.0", "--point", "config") // not there yet: HEAD, in an environment that is not protected
	file := w.planFile("resource \"terraform_data\" \"x\" { input = \"seven\" }\n")
	e = eval(4, "dev_us-east-1/research/9.0", "--plan", file, "--point", "plan")
	if e.Points[0].Findings[0].Rule != "no-seven" || e.Points[0].Weakened != "max-destroys is switched off" {
		t.Errorf("got %+v", e)
	}
	code, out, _ := w.cli("policy", "eval", "dev_us-east-1/research/9.0", "--config", w.file, "--repo", w.remote.Dir, "--plan", file)
	if code != 4 {
		t.Errorf("exit %d", code)
	}
	wantText(t, out, "policy on the tag has no objection", "policy on the plan denies", "error: terraform_data.x: seven is not a good number (no-seven) https://example.org/seven",
		"fired: data.plan.deny  policies/plan.rego:5", "by configuration: max-destroys is switched off", `"resource_changes": [`)

	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no such point":     {[]string{"dev_us-east-1/risk/1.0", "--point", "plans"}, 2, `did you mean "plan"?`},
		"no plan":           {[]string{"dev_us-east-1/risk/1.0", "--point", "plan"}, 2, "there is no plan: name one with --plan"},
		"no plan file":      {[]string{"dev_us-east-1/risk/1.0", "--plan", "/nowhere"}, 2, "--plan: open /nowhere"},
		"no plan's file":    {[]string{"dev_us-east-1/risk/1.0", "--plan", w.file}, 2, "is no plan as `show -json` prints it"},
		"no tag of ours":    {[]string{"v1"}, 4, "v1"},
		"no such target":    {[]string{"dev_us-west-2/risk/1.0"}, 4, "us-west-2"},
		"no such kind":      {[]string{"dev_us-east-1/risk/1.0", "--kind", "drift"}, 2, "no kind"},
		"no tag given":      {nil, 2, "takes TAG"},
		"no such clone":     {[]string{"dev_us-east-1/risk/1.0", "--repo", "/nowhere"}, 2, "--repo"},
		"no configuration":  {[]string{"dev_us-east-1/risk/1.0", "--config", "/nowhere.hcl"}, 2, "/nowhere.hcl"},
		"kind of a rollout": {[]string{"dev_us-east-1/risk/1.0", "--kind", "destroy", "--point", "tag"}, 0, ""},
	} {
		args := append([]string{"policy", "eval"}, c.args...)
		for flag, value := range map[string]string{"--config": w.file, "--repo": w.remote.Dir} {
			if !slices.Contains(c.args, flag) {
				args = append(args, flag, value)
			}
		}
		if code, out, errs := w.cli(args...); code != c.code || !strings.Contains(out+errs, c.says) {
			t.Errorf("%s: exit %d\n%s%s", name, code, out, errs)
		}
	}
}

// planFile makes a plan of some code, as show prints it.
func (w *world) planFile(code string) string {
	w.t.Helper()
	dir := w.t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte(code), 0o600); err != nil {
		w.t.Fatal(err)
	}
	tofu := func(args ...string) []byte {
		cmd := exec.CommandContext(w.t.Context(), w.env["WORLD_TOFU"], args...)
		cmd.Dir, cmd.Env = dir, []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}
		out, err := cmd.Output()
		if err != nil {
			w.t.Fatalf("tofu %v: %v\n%s", args, err, out)
		}
		return out
	}
	tofu("init", "-input=false")
	tofu("plan", "-input=false", "-out=p")
	file := filepath.Join(dir, "plan.json")
	if err := os.WriteFile(file, tofu("show", "-json", "p"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return file
}

// What explain says of policies on the code is what the service says, and it
// names what is weakened.
func TestExplainAsksPoliciesOnTheCode(t *testing.T) {
	w := newPolicyWorld(t)
	w.serve()
	w.contact()
	w.tagged("live_us-east-1/research/2.0", "Release", map[string]string{"x.tf": "data \"external\" \"e\" { program = [\"false\"] }\n"})
	denied := w.until("live_us-east-1/research/2.0", release.Denied)
	if code, e := w.explained("live_us-east-1/research/2.0"); code != 4 || e.Reason != denied.Reason {
		t.Errorf("explain says %q with exit %d, the service %q", e.Reason, code, denied.Reason)
	}
	code, out, _ := w.cli("explain", "dev_us-east-1/research/1.1", "--config", w.file, "--repo", w.remote.Dir)
	if code != 0 {
		t.Errorf("exit %d", code)
	}
	wantText(t, out, "weakened rules", "max-destroys is switched off")
}
