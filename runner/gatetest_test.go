package runner_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/release"
)

// write puts a file into the tree.
func (s *site) write(name, text string) {
	s.t.Helper()
	file := s.path("run/tree/" + name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// mirror is a filesystem mirror with one real provider.
func (s *site) mirror() string {
	s.t.Helper()
	dir := s.path("mirror/registry.opentofu.org/hashicorp/time/0.14.2/linux_amd64")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	program, err := os.ReadFile(tool(s.t, "terraform-provider-time"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "terraform-provider-time_v0.14.2"), program, 0o700)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return s.path("mirror")
}

const timeCode = `
terraform {
  required_providers {
    time = { source = "hashicorp/time" }
  }
}
resource "time_static" "x" {}
`

// These find out what they can reach, by a script of the code.
const curiousTests = `
variables { probe = true }
run "fails" {
  command = plan
  assert {
    condition     = var.probe == false
    error_message = "the probe is on"
  }
}
run "tries" {}
`

func TestEngineTestsRunInACopyWithoutCredentials(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	s := newSite(t, "plain")
	s.write("time.tf", timeCode)
	s.write("probe.tf", `
variable "probe" {
  type    = bool
  default = false
}
resource "terraform_data" "probe" {
  count = var.probe ? 1 : 0
  provisioner "local-exec" {
    interpreter = ["/bin/bash", "-c"]
    command     = <<-EOT
      pwd > here
      env | sort > env
      (exec 3<>/dev/tcp/127.0.0.1/`+port+`) 2>> denied && echo "connected" > wrote
      (echo x > `+s.path("run/tree/evil.tf")+`) 2>> denied || echo "did not write the tree" >> wrote
      cat `+s.path("state/secret")+` > stolen 2>> denied || true
      cat .terraform/terraform.tfstate > stolen 2>> denied || true
      cat here env wrote stolen >&2
      exit 1
    EOT
  }
}
`)
	s.write("tests/probe.tftest.hcl", curiousTests)
	if err := os.WriteFile(s.path("state/secret"), []byte("hush-hush-hush"), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := s.plan()
	spec.Engine.PluginDir = s.mirror()
	spec.Env = map[string]string{"CLOUD_TOKEN": "token-token-token"}
	spec.Gates = []release.GateSpec{{Name: "test"}}
	denied, log := run(t, spec)
	wantOutcome(t, denied, log, release.OutcomeDenied)
	wantIn(t, denied.Reason, "scan: test says no: ", ".tf")
	wantIn(t, stateOf(denied, release.StageInit).Summary+string(stateOf(denied, release.StageInit).State), "passed")
	i := slices.IndexFunc(denied.Findings, func(f release.Finding) bool { return strings.HasSuffix(f.Rule, "/fails") })
	if i < 0 || denied.Findings[i].File != "tests/probe.tftest.hcl" || denied.Findings[i].Line != 6 {
		t.Errorf("findings %+v", denied.Findings)
	}
	said := fmt.Sprint(denied.Findings) + denied.Gates[0].Report.Content
	wantIn(t, said, "did not write the tree", s.path("run/tools/test"), "the probe is on")
	for _, secret := range []string{"CLOUD_TOKEN", "token-token", "hush", `"backend"`, "connected\n", "connected&#xA;did"} {
		if strings.Contains(said, secret) {
			t.Errorf("the tests reached %q:\n%s", secret, said)
		}
	}
	if r := denied.Gates[0].Report; r.Format != "junit" || !strings.Contains(r.Content, `<testcase name="fails"`) {
		t.Errorf("report %+v", r)
	}
	if _, err := os.Stat(s.path("run/tree/here")); err == nil {
		t.Error("the tests ran in the tree itself")
	}
}

func TestEngineTestsThatPassLeaveThePlanAlone(t *testing.T) {
	for _, engine := range []string{"tofu", "terraform"} {
		s := newSite(t, "plain")
		s.kind = engine
		s.write("tests/all.tftest.hcl", "run \"plans\" {\n  command = plan\n}\nrun \"applies\" {}\n")
		spec := s.plan()
		spec.Gates = []release.GateSpec{{Name: "test"}}
		planned, log := run(t, spec)
		wantOutcome(t, planned, log, release.OutcomePassed)
		wantIn(t, stateOf(planned, release.StageScan).Summary, "test: 2 passed, 0 failed, 0 skipped, in 1 file")
		if _, err := os.Stat(s.path("state/terraform.tfstate")); err == nil {
			t.Errorf("%s: the tests wrote the state", engine)
		}
		applied, log := run(t, s.apply(planned))
		wantOutcome(t, applied, log, release.OutcomePassed)
	}
}

func TestNoEngineTests(t *testing.T) {
	s := newSite(t, "plain")
	spec := s.plan()
	spec.Gates = []release.GateSpec{{Name: "test"}}
	planned, log := run(t, spec)
	wantOutcome(t, planned, log, release.OutcomePassed)
	wantIn(t, stateOf(planned, release.StageScan).Summary, "test: skipped: there are no tests")
	if _, err := os.Stat(s.path("run/tools/test")); err == nil {
		t.Error("the tree was copied for nothing")
	}
}

func TestEngineTestsWithoutInit(t *testing.T) {
	s := newSite(t, "plain")
	s.write("time.tf", timeCode)
	s.write("tests/all.tftest.hcl", "run \"plans\" {\n  command = plan\n}\n")
	spec := s.plan()
	spec.Engine.PluginDir = t.TempDir() // which has no provider
	spec.Gates = []release.GateSpec{{Name: "test"}}
	failed, log := run(t, spec)
	wantOutcome(t, failed, log, release.OutcomeFailed)
	wantIn(t, failed.Reason, "init: ")
	if s := stateOf(failed, release.StageScan); s.State != release.StageSkipped {
		t.Errorf("scan is %+v", s)
	}
}

func TestSoftGatesSayWhatTheyWouldHaveDone(t *testing.T) {
	s := newSite(t, "plain")
	s.write("more.tf", "variable \"unused\" {\n  type = string\n  default = \"\"\n}\n")
	spec := s.plan()
	spec.Gates = []release.GateSpec{
		{Name: "tflint", Path: tool(t, "tflint"), FailOn: release.SeverityNotice, Soft: true},
		{Name: "checkov", Path: "/no/such/program", Soft: true},
		{Name: "test", Soft: true},
	}
	planned, log := run(t, spec)
	wantOutcome(t, planned, log, release.OutcomePassed)
	if want := []string{"checkov", "tflint"}; !slices.Equal(planned.SoftGates, want) {
		t.Errorf("soft gates %q, want %q", planned.SoftGates, want)
	}
	wantIn(t, stateOf(planned, release.StageLint).Summary, "tflint: ", ", would have failed (soft mode)")
	wantIn(t, stateOf(planned, release.StageScan).Summary, "checkov: did not judge: ", "/no/such/program", "would have failed (soft mode); test: skipped")
	wantIn(t, log, "soft mode: tflint would have failed this run: ", "soft mode: checkov would have failed this run: ")
	if len(planned.Findings) == 0 {
		t.Error("findings of a soft gate are not listed")
	}
}

func TestSoftGateIsCancelledAsAnyOther(t *testing.T) {
	s := newSite(t, "invalid") // the plan fails while the gate hangs
	spec := s.plan()
	spec.Gates = []release.GateSpec{{Name: "checkov", Path: fakeGate(t, s, "read line < <(:; sleep 600)"), Soft: true}}
	failed, log := run(t, spec)
	wantOutcome(t, failed, log, release.OutcomeFailed)
	if len(failed.SoftGates) > 0 || stateOf(failed, release.StageScan).State != release.StageSkipped {
		t.Errorf("soft gates %q, scan %+v", failed.SoftGates, stateOf(failed, release.StageScan))
	}
}

func TestWaivers(t *testing.T) {
	day := func(in time.Duration) string { return time.Now().UTC().Add(in).Format(release.ExpiresLayout) }
	result := release.GateResult{Gate: "tflint", Version: "1.0.0", Summary: "2 errors", Findings: []release.Finding{
		{Source: "tflint", Rule: "R1", Severity: release.SeverityError, File: "a/main.tf", Message: "one"},
		{Source: "tflint", Rule: "R1", Severity: release.SeverityError, File: "b/main.tf", Message: "two"},
		{Source: "tflint", Rule: "R1", Severity: release.SeverityError, File: "c/main.tf", Message: "three", Suppressed: "known"}}}
	for _, tt := range []struct {
		name    string
		waivers []release.Waiver
		outcome release.Outcome
		summary string
		log     string
	}{
		{"none", nil, release.OutcomeDenied, "", ""},
		{"all", []release.Waiver{{Name: "w", Rule: "R1", Owner: "ann", Reason: "fine", Expires: day(1000 * time.Hour)}}, release.OutcomePassed,
			"tflint: 2 errors, 2 waived (kept from an earlier run)", ""},
		{"some", []release.Waiver{{Name: "w", Rule: "R1", Paths: []string{"a/**"}, Owner: "ann", Expires: day(1000 * time.Hour)}}, release.OutcomeDenied, "b/main.tf", ""},
		{"expired", []release.Waiver{{Name: "w", Rule: "R1", Owner: "ann", Expires: day(-24 * time.Hour)}}, release.OutcomeDenied, "a/main.tf",
			"waiver w of ann expired on " + day(-24*time.Hour) + " and no longer counts; findings of tflint that it would cover: 2"},
		{"last day", []release.Waiver{{Name: "w", Rule: "R1", Owner: "ann", Expires: day(0)}}, release.OutcomePassed, "2 waived",
			"waiver w of ann ends on " + day(0) + "; findings of tflint that it covers: 2"},
		{"two", []release.Waiver{{Name: "v", Rule: "R1", Paths: []string{"a/*"}, Expires: day(1000 * time.Hour)}, {Name: "w", Rule: "R1", Expires: day(1000 * time.Hour)}},
			release.OutcomePassed, "2 waived", ""},
		{"another rule", []release.Waiver{{Name: "w", Rule: "R", Expires: day(1000 * time.Hour)}}, release.OutcomeDenied, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, "plain")
			spec := s.plan()
			spec.Gates = []release.GateSpec{{Name: "tflint", Path: "/no/such/program", Cached: &result, Waivers: tt.waivers}}
			got, log := run(t, spec)
			wantOutcome(t, got, log, tt.outcome)
			wantIn(t, stateOf(got, release.StageLint).Summary, tt.summary)
			wantIn(t, log, tt.log)
			if strings.Contains(log, "waiver ") != (tt.log != "") {
				t.Errorf("the log speaks of waivers:\n%s", log)
			}
			waived := slices.DeleteFunc(slices.Clone(got.Findings), func(f release.Finding) bool { return f.Waived == release.Waived{} })
			if tt.name == "all" && (len(waived) != 2 || waived[0].Waived != tt.waivers[0].Waived() || len(got.Findings) != 3) {
				t.Errorf("findings %+v", got.Findings)
			}
		})
	}
}

// TestTrivyInTheSandbox runs where somebody has built trivy; package gates plays
// recorded runs elsewhere.
func TestTrivyInTheSandbox(t *testing.T) {
	path, err := filepath.Abs(filepath.Join("..", ".tools", "bin", "trivy"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil || testing.Short() {
		t.Skip("trivy is not built: go run -C tools/get . trivy")
	}
	s := newSite(t, "plain")
	spec := s.plan()
	s.write("unused/main.tf", "resource \"aws_lb\" \"web\" {\n  internal = false\n}\nmodule \"far\" {\n  source = \"git::https://git.example.org/x.git\"\n}\n")
	spec.Gates = []release.GateSpec{{Name: "trivy", Path: path}}
	denied, log := run(t, spec)
	wantOutcome(t, denied, log, release.OutcomeDenied)
	wantIn(t, denied.Reason, "scan: trivy says no: unused/main.tf:", "(AVD-AWS-005")
	if !slices.ContainsFunc(denied.Findings, func(f release.Finding) bool { return f.Rule == "waymark_unread_module" && f.Line == 4 }) {
		t.Errorf("findings %+v", denied.Findings)
	}
}

// TestCommandOfTheOperators runs a program that writes SARIF and tries to get
// out; its stage is that of linters.
func TestCommandOfTheOperators(t *testing.T) {
	s := newSite(t, "plain")
	program := s.path("bin/scan")
	if err := os.Mkdir(filepath.Dir(program), 0o700); err != nil {
		t.Fatal(err)
	}
	script := `#!/bin/bash
[ "$1" = "--sarif" ] && [ -e main.tf ] && ! (echo x > evil.tf) 2>/dev/null && ! (exec 3<>/dev/tcp/127.0.0.1/1) 2>/dev/null && echo x > $HOME/own || exit 9
echo "scanning" >&2
cat <<EOF
{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"scan"}},"results":[{"ruleId":"R1","level":"error","message":{"text":"no good"},
"locations":[{"physicalLocation":{"artifactLocation":{"uri":"main.tf"},"region":{"startLine":2}}}]}]}]}
EOF
exit 1
`
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	spec := s.plan()
	spec.Env = map[string]string{"CLOUD_TOKEN": "token-token-token"}
	spec.Gates = []release.GateSpec{{Name: "own", Path: program, Args: []string{"--sarif"}, Format: "sarif", Stage: release.StageLint}}
	denied, log := run(t, spec)
	wantOutcome(t, denied, log, release.OutcomeDenied)
	wantIn(t, denied.Reason, "lint: own says no: main.tf:2: no good (R1)")
	wantIn(t, log, "scanning")
	if len(denied.Gates) != 1 || denied.Gates[0].Report == nil || denied.Gates[0].Report.Format != "sarif" {
		t.Errorf("gates %+v", denied.Gates)
	}
	spec.Dir, spec.Gates[0].Waivers = s.path("own/waived"), []release.Waiver{{Name: "w", Rule: "R1", Expires: "2999-01-01"}}
	if err := os.RemoveAll(s.path("run/tree/.terraform")); err != nil {
		t.Fatal(err)
	}
	passed, log := run(t, spec)
	wantOutcome(t, passed, log, release.OutcomePassed)
}
