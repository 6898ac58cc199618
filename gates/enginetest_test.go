package gates

import (
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/release"
)

// engineTest lets a real engine test files.
func engineTest(t *testing.T, engine string, files map[string]string) Config {
	t.Helper()
	if testing.Short() {
		t.Skip("runs the real " + engine)
	}
	path, err := filepath.Abs(filepath.Join("..", ".tools", "bin", engine))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		if path, err = exec.LookPath(engine); err != nil {
			t.Fatalf("%s is neither on PATH nor in .tools/bin; run `make tools`", engine)
		}
	}
	return Config{Spec: release.GateSpec{Name: "test", Path: path}, Engine: engine, Tree: tree(t, files), StackPath: "stack",
		Scratch: scratch(t), Path: os.Getenv("PATH"), Log: func(l string) { t.Log(l) }}
}

const testedCode = `
variable "name" { type = string }
resource "terraform_data" "x" { input = var.name }
output "name" { value = terraform_data.x.output }
`

const testsOfCode = `
variables { name = "hello" }
run "good" {
  command = plan
  assert {
    condition     = var.name == "hello"
    error_message = "name"
  }
}
run "bad" {
  assert {
    condition     = output.name == "other"
    error_message = "the name is ${output.name}"
  }
}
run "broken" {
  command   = plan
  variables { name = null }
  assert {
    condition     = length(var.name) > 0
    error_message = "empty"
  }
}
run "after" { command = plan }
`

func TestEngineTests(t *testing.T) {
	for _, engine := range []string{"tofu", "terraform"} {
		got := run(t, engineTest(t, engine, map[string]string{"stack/main.tf": testedCode, "stack/tests/name.tftest.hcl": testsOfCode}))
		if !strings.Contains(got.Summary, "passed") || !strings.HasSuffix(got.Summary, "in 1 file") || got.Version == "" {
			t.Errorf("%s: %q %q", engine, got.Version, got.Summary)
		}
		bad := find(got.Findings, "stack/tests/name.tftest.hcl/bad")
		if len(bad) != 1 || bad[0].File != "stack/tests/name.tftest.hcl" || bad[0].Line != 12 || bad[0].Message != "Test assertion failed: the name is hello" || bad[0].Severity != release.SeverityError {
			t.Errorf("%s: %+v", engine, got.Findings)
		}
		if broken := find(got.Findings, "stack/tests/name.tftest.hcl/broken"); len(broken) == 0 || broken[0].Line == 0 {
			t.Errorf("%s: %+v", engine, got.Findings)
		}
		var junit junitSuites
		if got.Report == nil || xml.Unmarshal([]byte(got.Report.Content), &junit) != nil || junit.Tests != 4 || junit.Failures+junit.Errors != 2 {
			t.Errorf("%s: report %+v", engine, got.Report)
		}
		if again, err := readJUnit([]byte(got.Report.Content), func(s string) string { return s }); err != nil || len(release.Failing(again.Findings, release.SeverityError)) != 2 {
			t.Errorf("%s: our own reader says %+v, %v", engine, again, err)
		}
	}
}

func TestEngineTestsThatPass(t *testing.T) {
	good := "run \"good\" {\n  command = plan\n  variables { name = \"x\" }\n}\n"
	for engine, summary := range map[string]string{"tofu": "2 passed, 0 failed, 0 skipped, in 2 files", "terraform": "1 passed, 0 failed, 0 skipped, in 1 file"} {
		got := run(t, engineTest(t, engine, map[string]string{"stack/main.tf": testedCode, "stack/a.tftest.hcl": good, "stack/tests/b.tofutest.hcl": good,
			"other/tests/bad.tftest.hcl": "run \"bad\" {", "stack/tests/deep/c.tftest.hcl": "run"}))
		if got.Summary != summary || len(got.Findings) != 0 {
			t.Errorf("%s: %q %+v", engine, got.Summary, got.Findings)
		}
	}
}

func TestEngineTestsThatCannotRun(t *testing.T) {
	cfg := engineTest(t, "tofu", map[string]string{"stack/main.tf": testedCode, "stack/tests/b.tftest.hcl": "run \"x\" {"})
	if _, err := Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "it could not test, exit 1: stack/tests/b.tftest.hcl:1: ") {
		t.Errorf("a test that does not parse: %v", err)
	}
	// Code that is not initialised: its provider is missing.
	cfg = engineTest(t, "tofu", map[string]string{"stack/main.tf": "resource \"time_static\" \"x\" {}\n", "stack/tests/b.tftest.hcl": "run \"x\" {}"})
	if got, err := Run(t.Context(), cfg); err == nil && len(release.Failing(got.Findings, release.SeverityError)) == 0 {
		t.Errorf("without a provider: %+v", got)
	}
}

func TestNothingToTest(t *testing.T) {
	cfg := posing(t, "test", part{Mode: "signal"}) // it would not end well if it were started
	cfg.Engine = "terraform"
	cfg.Tree = tree(t, map[string]string{"main.tf": "", "tests/a.tofutest.hcl": "", "tests/deep/a.tftest.hcl": "", "a.tftest.hcl/x": ""})
	if got := run(t, cfg); got.Summary != noTests || len(got.Findings) > 0 || got.Report != nil {
		t.Errorf("got %+v", got)
	}
}

func TestEngineTestOutput(t *testing.T) {
	event := func(run, status string) string {
		return `{"type":"test_run","test_run":{"path":"a.tftest.hcl","run":"` + run + `","progress":"complete","status":"` + status + `"}}` + "\n"
	}
	summary := func(passed, failed string) string {
		return `{"type":"test_summary","test_summary":{"passed":` + passed + `,"failed":` + failed + `}}` + "\n"
	}
	loose := `{"type":"diagnostic","diagnostic":{"severity":"error","summary":"left behind"}}` + "\n"
	for _, tt := range []struct {
		name, out string
		exit      int
		want      string // of the error, or of the summary
		findings  int
	}{
		{"passes", event("a", "pass") + summary("1", "0"), 0, "1 passed, 0 failed, 0 skipped, in 1 file", 0},
		{"fails without a word", event("a", "fail") + summary("0", "1"), 1, "0 passed, 1 failed, 0 skipped, in 1 file", 1},
		{"skips", event("a", "pass") + event("b", "skip") + `{"test_summary":{"passed":1,"skipped":1}}`, 0, "1 passed, 0 failed, 1 skipped, in 1 file", 1},
		{"an error outside of any run", event("a", "pass") + loose + summary("1", "0"), 1, "1 passed, 0 failed, 0 skipped, in 1 file", 1},
		{"nothing ran", summary("0", "0"), 0, nothingEvaluated, 1},
		{"no output", "", 1, "it could not test, exit 1", 0},
		{"no summary", event("a", "pass"), 0, "it could not test, exit 0", 0},
		{"an exit that nothing explains", event("a", "pass") + summary("1", "0"), 2, "exit 2, with 0 tests", 0},
		{"failures and exit 0", event("a", "fail") + summary("0", "1"), 0, "exit 0, with 1 tests", 0},
		{"failures that are not there", event("a", "pass") + summary("1", "1"), 1, "exit 1, with 1 tests that failed by its summary and 0", 0},
		{"no JSON", "Success!", 0, "not the JSON", 0},
	} {
		cfg := posing(t, "test", part{Stdout: tt.out, Exit: tt.exit})
		cfg.Tree = tree(t, map[string]string{"a.tftest.hcl": ""})
		got, err := Run(t.Context(), cfg)
		said := got.Summary
		if err != nil {
			said = err.Error()
		}
		if !strings.Contains(said, tt.want) || len(got.Findings) != tt.findings || strings.Contains(said, "POSE") {
			t.Errorf("%s: %q, %+v, want %q", tt.name, said, got.Findings, tt.want)
		}
	}
}
