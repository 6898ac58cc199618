package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

// gatedWorld has every kind of gate that needs no program beyond those of the
// tests; $own is a program that finds one error, $tflint the real one.
const gatedWorld = `
gate "tflint" {
  path    = "$tflint"
  fail_on = "notice"
  mode    = "soft"
}
gate "own" {
  command = ["$own", "--sarif"]
  stage   = "lint"
}
gate "test" {}
environment "qa" {
  regions = ["us-east-1"]
  gates   = ["test", "own"]
  gate_fail_on = { own = "warning" }
}
environment "lab" {
  regions    = ["us-east-1"]
  soft_gates = ["own", "test"]
}
waiver "website" {
  gate         = "own"
  rule         = "R1"
  paths        = ["*.tf"]
  environments = ["dev"]
  teams        = ["research"]
  owner        = "ann@example.org"
  reason       = "a public website"
  expires      = "$expires"
}
`

// ownGate finds one error in every tree.
const ownGate = `#!/bin/sh
echo '{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"own"}},"results":[{"ruleId":"R1","level":"error","message":{"text":"open to the world"},
"locations":[{"physicalLocation":{"artifactLocation":{"uri":"main.tf"},"region":{"startLine":6}}}]}]}]}'
exit 1
`

const passingTest = `
variables {
  env             = "dev"
  scope           = "global"
  team            = "research"
  release_version = "1"
}
run "plans" {
  command = plan
  assert {
    condition     = terraform_data.it.input == "dev/global/research"
    error_message = "another input"
  }
}
`

func newGatedWorld(t *testing.T, expires time.Time) *world {
	t.Helper()
	w := newWorld(t, "")
	own := filepath.Join(w.dir, "bin", "own")
	if err := os.Mkdir(filepath.Dir(own), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(own, []byte(ownGate), 0o755); err != nil {
		t.Fatal(err)
	}
	w.configure(strings.NewReplacer("$own", own, "$tflint", testkit.Tool(t, "tflint"),
		"$expires", expires.UTC().Format(release.ExpiresLayout)).Replace(gatedWorld))
	w.remote.Commit(map[string]string{"tests/it.tftest.hcl": passingTest})
	return w
}

func stageOf(r api.Run, name string) api.Stage {
	i := slices.IndexFunc(r.Stages, func(s api.Stage) bool { return s.Name == name })
	if i < 0 {
		return api.Stage{}
	}
	return r.Stages[i]
}

func TestGatesOfEveryKind(t *testing.T) {
	w := newGatedWorld(t, time.Now().Add(48*time.Hour))
	for k, v := range w.env {
		t.Setenv(k, v)
	}
	wantText(t, w.mustCLI("explain", "dev_us-east-1/research/1.0", "--config", w.file, "--repo", w.remote.Dir),
		"tflint (soft mode: never fails, would on notice), own (fails on error, R1 waived in *.tf until ", "test (fails on error)")
	wantText(t, w.mustCLI("explain", "qa_us-east-1/research/1.0", "--config", w.file, "--repo", w.remote.Dir), "own (fails on warning), test (fails on error)")
	w.serve()
	w.contact()
	wantText(t, w.log.String(), "waiver \\\"website\\\" ends on")

	// In dev the waiver covers what the own gate finds, and tflint is soft.
	w.push("dev_us-east-1/research/1.0")
	r := w.until("dev_us-east-1/research/1.0", release.Succeeded)
	wantText(t, stageOf(r, "lint").Summary, "tflint: ", ", would have failed (soft mode)", "own: 1 error, 1 waived")
	wantText(t, stageOf(r, "scan").Summary, "test: 1 passed, 0 failed, 0 skipped, in 1 file")
	if !slices.Equal(r.SoftGates, []string{"tflint"}) || r.Findings.Error != 0 {
		t.Errorf("soft gates %q, findings %+v", r.SoftGates, r.Findings)
	}
	wantText(t, w.runLog(r.ID), "waiver website of ann@example.org ends on", "soft mode: tflint would have failed this run")
	wantText(t, w.mustCLI("runs", "show", r.ID), "soft mode", "tflint would have failed this run", "waived", "(waiver website of ann@example.org until ", "waymark runs report "+r.ID+" test")
	wantText(t, w.mustCLI("runs", "report", r.ID, "test"), `<testcase name="plans"`)
	wantText(t, w.mustCLI("runs", "report", r.ID, "own"), `"ruleId":"R1"`)
	for _, e := range w.entries() {
		if e.RunID == r.ID && (e.Action == "run.apply_started" || e.Action == "run.succeeded") && fmt.Sprint(e.Details["soft_gates"]) != "[tflint]" {
			t.Errorf("%s says %v", e.Action, e.Details)
		}
	}

	// The same code of another team is not covered.
	w.push("dev_us-east-1/risk/1.0")
	denied := w.until("dev_us-east-1/risk/1.0", release.Denied)
	wantText(t, denied.Reason, "lint: own says no: main.tf:6: open to the world (R1)")

	// Other environments have other gates.
	w.push("qa_us-east-1/research/1.0")
	denied = w.until("qa_us-east-1/research/1.0", release.Denied)
	if lint := stageOf(denied, "lint").Summary; strings.Contains(lint, "tflint") || !strings.Contains(lint, "own") {
		t.Errorf("lint of qa: %s", lint)
	}
	wantText(t, w.mustCLI("runs", "report", denied.ID, "own"), `"ruleId":"R1"`) // that of a run that it failed, above all
	w.push("lab_us-east-1/research/1.0")
	lab := w.until("lab_us-east-1/research/1.0", release.Denied) // tflint is not soft there
	wantText(t, lab.Reason, "tflint")

	// A test that fails says where.
	w.remote.Commit(map[string]string{"tests/it.tftest.hcl": strings.Replace(passingTest, "dev/global/research\"", "else\"", 1)})
	w.push("dev_us-east-1/research/1.1")
	failed := w.until("dev_us-east-1/research/1.1", release.Denied)
	wantText(t, failed.Reason, "scan: test says no: tests/it.tftest.hcl:", "another input")
}

func TestExpiredWaiversAreSaidAndDoNotCount(t *testing.T) {
	w := newGatedWorld(t, time.Now().Add(-48*time.Hour))
	for k, v := range w.env {
		t.Setenv(k, v)
	}
	code, out, errs := w.cli("config", "check", w.file)
	if code != 0 || !strings.Contains(out, "is good") {
		t.Errorf("exit %d %s", code, out)
	}
	wantText(t, errs, "warning: "+w.file+":", `waiver "website" expired on `)
	w.serve()
	w.contact()
	w.push("dev_us-east-1/research/1.0")
	r := w.until("dev_us-east-1/research/1.0", release.Denied)
	wantText(t, w.runLog(r.ID), "waiver website of ann@example.org expired on", "findings of own that it would cover: 1")
}

func TestGateTestNeedsAnEngineThatTests(t *testing.T) {
	w := newWorld(t, "gate \"test\" {}\n")
	w.env["WORLD_TOFU"] = testkit.Tool(t, "terraform-1.5")
	text, err := os.ReadFile(w.file)
	if err == nil {
		err = os.WriteFile(w.file, []byte(strings.Replace(string(text), "engine { path = env(\"WORLD_TOFU\") }",
			"engine {\n  kind = \"terraform\"\n  path = env(\"WORLD_TOFU\")\n}", 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	code, _, errs := w.cliServe()
	if code != 2 || !strings.Contains(errs, "use version 1.6 or later") {
		t.Errorf("exit %d: %s", code, errs)
	}
}
