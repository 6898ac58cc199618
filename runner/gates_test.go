package runner_test

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/release"
)

func TestLintStopsTheRun(t *testing.T) {
	s := newSite(t, "plain")
	// tflint warns of a variable that nobody uses.
	if err := os.WriteFile(s.path("run/tree/more.tf"), []byte("variable \"unused\" {\n  type = string\n  default = \"\"\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := s.plan()
	spec.Gates = []release.GateSpec{{Name: "tflint", Path: tool(t, "tflint"), FailOn: release.SeverityNotice}}
	denied, log := run(t, spec)
	wantOutcome(t, denied, log, release.OutcomeDenied)
	wantIn(t, denied.Reason, "lint: ", "tflint", ".tf:1")
	unused := slices.ContainsFunc(denied.Findings, func(f release.Finding) bool { return f.File == "more.tf" && f.Line == 1 })
	if !unused || len(denied.Gates) != 1 {
		t.Errorf("findings %v, gates %v", denied.Findings, denied.Gates)
	}

	kept := denied.Gates[0]
	if err := os.RemoveAll(s.path("run/tree/.terraform")); err != nil {
		t.Fatal(err)
	}
	spec.Dir = s.path("own/kept")
	spec.Gates[0].FailOn, spec.Gates[0].Path, spec.Gates[0].Cached = release.SeverityError, "/no/such/program", &kept
	passed, log := run(t, spec)
	wantOutcome(t, passed, log, release.OutcomePassed)
	wantIn(t, stateOf(passed, release.StageLint).Summary, "kept")
	if len(passed.Gates) != 0 {
		t.Errorf("a kept result was reported as fresh: %v", passed.Gates)
	}
}

func TestGateThatCannotRun(t *testing.T) {
	s := newSite(t, "plain")
	spec := s.plan()
	spec.Gates = []release.GateSpec{{Name: "checkov", Path: "/no/such/program"}}
	failed, log := run(t, spec)
	wantOutcome(t, failed, log, release.OutcomeFailed)
	wantIn(t, failed.Reason, "scan: ", "/no/such/program")
}

// TestGateIsShutIn poses as a gate that tries to get out. It never answers as a
// gate would, so the run fails; what it managed to do is what counts.
func TestGateIsShutIn(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	s := newSite(t, "plain")
	script := `
(exec 3<>/dev/tcp/127.0.0.1/` + port + `) 2>/dev/null && echo "connected" >&2 || echo "not connected" >&2
(echo x > ` + s.path("run/tree/evil.tf") + `) 2>/dev/null && echo "wrote the tree" >&2 || echo "did not write the tree" >&2
(echo x > ` + s.path("run/tools/tmp/evil") + `) 2>/dev/null && echo "wrote the tools" >&2 || echo "did not write the tools" >&2
ls ` + s.path("run/tree/main.tf") + ` >/dev/null && echo "reads the tree" >&2
echo x > $HOME/own && echo "wrote its own" >&2
env | sort >&2
`
	spec := s.plan()
	spec.Env = map[string]string{"CLOUD_TOKEN": "hush-hush-hush", "CLOUD_NAME": "cumulus"}
	spec.Gates = []release.GateSpec{{Name: "checkov", Path: fakeGate(t, s, script)}}
	failed, log := run(t, spec)
	wantOutcome(t, failed, log, release.OutcomeFailed)
	wantIn(t, log, "not connected", "did not write the tree", "did not write the tools", "reads the tree", "wrote its own")
	if strings.Contains(log, "CLOUD_") {
		t.Errorf("the gate has the engine's environment:\n%s", log)
	}
}

// fakeGate makes a shell script that poses as Checkov, to show what no real
// gate can be made to do.
func fakeGate(t *testing.T, s *site, script string) string {
	t.Helper()
	gate := s.path("bin/checkov")
	if err := os.Mkdir(filepath.Dir(gate), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(gate, []byte("#!/bin/bash\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return gate
}
