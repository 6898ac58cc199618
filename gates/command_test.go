package gates

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/release"
)

// own poses as a command of the operator's that prints a report.
func own(t *testing.T, format, stdout string, exit int) Config {
	t.Helper()
	cfg := posing(t, "own", part{Stdout: stdout, Exit: exit, WantArgs: []string{"--out", "-"}})
	cfg.Spec.Format, cfg.Spec.Args = format, []string{"--out", "-"}
	return cfg
}

func read(t *testing.T, name ...string) string {
	t.Helper()
	src, err := os.ReadFile(filepath.Join(append([]string{"testdata"}, name...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(src)
}

func TestCommandWithRealReports(t *testing.T) {
	sarif := run(t, own(t, "sarif", read(t, "sarif", "checkov.sarif"), 1))
	if sarif.Summary != "9 errors" || sarif.Version != "3.3.13" || sarif.Report == nil || sarif.Report.Format != "sarif" {
		t.Errorf("got %q %q %+v", sarif.Summary, sarif.Version, sarif.Report)
	}
	want := release.Finding{Source: "own", Rule: "CKV_AWS_150", Severity: release.SeverityError, Line: 30,
		File: "ref/aws-samples+aws-sample-infra-resources-terraform/modules/regional/main.tf", Message: "Ensure that Load Balancer has deletion protection enabled"}
	if f := find(sarif.Findings, "CKV_AWS_150"); len(f) != 1 || f[0] != want {
		t.Errorf("got %+v, want %+v", f, want)
	}
	junit := run(t, own(t, "junit", read(t, "junit", "checkov.xml"), 0))
	if junit.Summary != "16 passed, 9 failed, 0 skipped" || len(junit.Findings) != 9 || junit.Report == nil || junit.Report.Format != "junit" {
		t.Errorf("got %q, %d findings", junit.Summary, len(junit.Findings))
	}
	if strings.Contains(junit.Findings[0].Message, "\n") || !strings.Contains(junit.Findings[0].Rule, "CKV") {
		t.Errorf("got %+v", junit.Findings[0])
	}
}

// TestCommandThatIsReal runs tflint as a command of the operator's.
func TestCommandThatIsReal(t *testing.T) {
	cfg := realTFLint(t, map[string]string{"a/main.tf": "variable \"unused\" {\n  type = string\n}\n" + cleanRoot})
	cfg.Spec.Name, cfg.Spec.Format = "own", "sarif"
	cfg.Spec.Args = []string{"--chdir=a", "--format=sarif"}
	got := run(t, cfg)
	if f := find(got.Findings, "terraform_unused_declarations"); len(f) != 1 || f[0].File != "a/main.tf" || f[0].Line != 1 || f[0].Severity != release.SeverityWarning {
		t.Errorf("got %+v", got.Findings)
	}
	cfg.Spec.Format, cfg.Spec.Args, cfg.Scratch = "junit", []string{"--chdir=a", "--format=junit"}, scratch(t)
	if got := run(t, cfg); len(got.Findings) != 1 || got.Findings[0].Severity != release.SeverityError {
		t.Errorf("got %+v", got.Findings)
	}
}

const (
	sarifHead = `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"t","semanticVersion":"1.2.3","rules":[
		{"id":"R0","helpUri":"https://example.org/r0","shortDescription":{"text":"short"},"defaultConfiguration":{"level":"error"},"messageStrings":{"m":{"text":"{0} is {1}"}}}]}},`
	sarifTail = `}]}`
)

func TestSARIFResults(t *testing.T) {
	for _, tt := range []struct {
		name, result string
		want         []release.Finding
	}{
		{"level of the rule, message of the rule", `{"ruleId":"R0"}`,
			[]release.Finding{{Rule: "R0", Severity: "error", Message: "short", Link: "https://example.org/r0"}}},
		{"rule by index", `{"ruleIndex":0,"level":"note","message":{"id":"m","arguments":["a","b"]}}`,
			[]release.Finding{{Rule: "R0", Severity: "notice", Message: "a is b", Link: "https://example.org/r0"}}},
		{"index of nothing", `{"ruleId":"X","ruleIndex":7,"message":{"text":"x"}}`, []release.Finding{{Rule: "X", Severity: "warning", Message: "x"}}},
		{"negative index", `{"ruleIndex":-1,"message":{"text":"x"}}`, []release.Finding{{Rule: "unnamed", Severity: "warning", Message: "x"}}},
		{"rule below a rule", `{"ruleId":"R0/1","ruleIndex":0}`, []release.Finding{{Rule: "R0/1", Severity: "error", Message: "short", Link: "https://example.org/r0"}}},
		{"unknown level", `{"ruleId":"X","level":"fatal","message":{"text":"x"}}`, []release.Finding{{Rule: "X", Severity: "error", Message: "x"}}},
		{"passed", `{"ruleId":"R0","kind":"pass"}`, nil},
		{"does not apply", `{"ruleId":"R0","kind":"notApplicable","level":"none"}`, nil},
		{"gone since the baseline", `{"ruleId":"R0","baselineState":"absent"}`, nil},
		{"open", `{"ruleId":"R0","kind":"open","level":"error"}`, []release.Finding{{Rule: "R0", Severity: "notice", Message: "short", Link: "https://example.org/r0"}}},
		{"place", `{"ruleId":"X","message":{"text":"x"},"locations":[{"physicalLocation":{"artifactLocation":{"uri":"a%20b/main.tf"},"region":{"startLine":3}},"logicalLocations":[{"fullyQualifiedName":"aws_lb.x"}]}]}`,
			[]release.Finding{{Rule: "X", Severity: "warning", Message: "x", File: "a b/main.tf", Line: 3, Resource: "aws_lb.x"}}},
		{"place outside", `{"ruleId":"X","message":{"text":"x"},"locations":[{"physicalLocation":{"artifactLocation":{"uri":"file:///etc/passwd"}}}]}`,
			[]release.Finding{{Rule: "X", Severity: "warning", Message: "x", File: "passwd"}}},
		{"place in a circle", `{"ruleId":"X","message":{"text":"x"},"locations":[{"physicalLocation":{"artifactLocation":{"uri":"f","uriBaseId":"A"}}}]}`,
			[]release.Finding{{Rule: "X", Severity: "warning", Message: "x", File: "a/b/a/b/a/b/a/b/a/f"}}},
		{"suppressed", `{"ruleId":"X","message":{"text":"x"},"suppressions":[{"kind":"inSource","justification":"known"}]}`,
			[]release.Finding{{Rule: "X", Severity: "warning", Message: "x", Suppressed: "known"}}},
		{"suppressed without a word", `{"ruleId":"X","message":{"text":"x"},"suppressions":[{"kind":"inSource"}]}`,
			[]release.Finding{{Rule: "X", Severity: "warning", Message: "x", Suppressed: "no reason given"}}},
		{"suppression refused", `{"ruleId":"X","message":{"text":"x"},"suppressions":[{"kind":"external","status":"accepted"},{"kind":"external","status":"rejected"}]}`,
			[]release.Finding{{Rule: "X", Severity: "warning", Message: "x"}}},
		{"message as a string", `{"ruleId":"X","message":"x"}`, []release.Finding{{Rule: "X", Severity: "warning", Message: "x"}}},
	} {
		src := sarifHead + `"originalUriBaseIds":{"A":{"uri":"a","uriBaseId":"B"},"B":{"uri":"b","uriBaseId":"A"}},"results":[` + tt.result + `]` + sarifTail
		got := run(t, own(t, "sarif", src, 0))
		for i := range tt.want {
			tt.want[i].Source = "own"
		}
		if !slices.Equal(got.Findings, tt.want) || got.Version != "1.2.3" {
			t.Errorf("%s: got %+v, want %+v", tt.name, got.Findings, tt.want)
		}
	}
}

func TestCommandThatDidNotJudge(t *testing.T) {
	for _, tt := range []struct {
		name, format, stdout string
		exit                 int
		want                 string
	}{
		{"nothing", "sarif", "", 0, "it printed nothing, exit 0"},
		{"another format", "sarif", "<testsuites/>", 0, "not the JSON"},
		{"two documents", "sarif", sarifHead + `"results":[]` + sarifTail + "{}", 0, "something follows"},
		{"another version", "sarif", `{"version":"2.0.0","runs":[]}`, 0, `its version is "2.0.0"`},
		{"no run", "sarif", `{"version":"2.1.0","runs":[]}`, 0, "holds no run"},
		{"no results", "sarif", sarifHead + `"results":null` + sarifTail, 0, "did not get so far as to judge"},
		{"no tool", "sarif", `{"version":"2.1.0","runs":[{"results":[]}]}`, 0, "names no tool"},
		{"not successful", "sarif", sarifHead + `"results":[],"invocations":[{"executionSuccessful":false,"toolExecutionNotifications":[{"message":{"text":"no rules"}}]}]` + sarifTail, 0,
			"did not succeed: no rules"},
		{"no reason for its exit", "sarif", sarifHead + `"results":[]` + sarifTail, 2, "holds no finding that explains the exit code, exit 2"},
		{"its own error alone", "sarif", sarifHead + `"results":[],"invocations":[{"executionSuccessful":true,"toolExecutionNotifications":[{"level":"error","message":{"text":"x"}}]}]` + sarifTail, 2, "explains the exit"},
		{"suppressed alone", "sarif", sarifHead + `"results":[{"ruleId":"X","suppressions":[{"kind":"inSource"}]}]` + sarifTail, 1, "explains the exit"},
		{"deep", "sarif", strings.Repeat("[", 20000), 0, "not the JSON"},
		{"no XML", "junit", "{}", 0, "it holds 0 documents"},
		{"another root", "junit", "<checkstyle/>", 0, `the root element is "checkstyle"`},
		{"cut off", "junit", `<testsuites><testsuite><testcase name="a"/>`, 0, "not the JUnit XML"},
		{"two roots", "junit", `<testsuites/><testsuites/>`, 0, "it holds 2 documents"},
		{"failures that are not there", "junit", `<testsuites failures="2"><testcase name="a"><failure/></testcase></testsuites>`, 1, "2 failures are counted, 1 are listed"},
		{"no test and a code", "junit", `<testsuites/>`, 1, "explains the exit"},
		{"entities", "junit", `<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><testsuites><testcase name="&b;"/></testsuites>`, 0, "a document type"},
		{"an entity of nobody", "junit", `<testsuites><testcase name="&b;"/></testsuites>`, 0, "invalid character entity"},
		{"deep XML", "junit", strings.Repeat("<testsuite>", 200), 0, "more than 100 elements within each other"},
		{"a test in a test", "junit", `<testsuite><testcase><testcase/></testcase></testsuite>`, 0, "a testcase within a testcase"},
		{"another encoding", "junit", `<?xml version="1.0" encoding="latin1"?><testsuite/>`, 0, "write it in UTF-8"},
		{"unknown format", "tap", "", 0, `format "tap" is none of sarif and junit`},
	} {
		got, err := Run(t.Context(), own(t, tt.format, tt.stdout, tt.exit))
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "POSE") || got.Summary != "" {
			t.Errorf("%s: got %+v, %v, want an error with %q", tt.name, got, err, tt.want)
		}
	}
}

func TestCommandsOwnErrorsAreListed(t *testing.T) {
	src := sarifHead + `"results":[],"invocations":[{"executionSuccessful":true,"toolExecutionNotifications":[{"level":"error","message":{"text":"cannot parse"},
		"locations":[{"physicalLocation":{"artifactLocation":{"uri":"x.tf"},"region":{"startLine":2}}}]},{"level":"note","message":{"text":"fine"}}]}]` + sarifTail
	want := release.Finding{Source: "own", Rule: "waymark_tool_error", Severity: release.SeverityWarning, Message: "the tool reports an error of its own: cannot parse", File: "x.tf", Line: 2}
	if got := run(t, own(t, "sarif", src, 0)); !slices.Equal(got.Findings, []release.Finding{want}) {
		t.Errorf("got %+v", got.Findings)
	}
}

func TestJUnitCases(t *testing.T) {
	got := run(t, own(t, "junit", `<?xml version="1.0"?>
<testsuites><testsuite name="s"><testsuite>
  <testcase classname="c" name="fails" file="a/main.tf" line="7"><failure message="no good">detail</failure></testcase>
  <testcase name="breaks"><error>it &lt;broke&gt;
here</error><system-out>hush</system-out></testcase>
  <testcase name="silent"><failure/></testcase>
  <testcase name="skipped"><skipped message="later"/></testcase>
  <testcase name="twice"><skipped/><failure message="x"/></testcase>
  <testcase name="passes"><properties><property name="failure"/></properties></testcase>
</testsuite></testsuite></testsuites>`, 3))
	want := []release.Finding{
		{Rule: "breaks", Severity: "error", Message: "it <broke> here"},
		{Rule: "silent", Severity: "error", Message: "it failed without a word"},
		{Rule: "twice", Severity: "error", Message: "x"},
		{Rule: "c/fails", Severity: "error", Message: "no good", File: "a/main.tf", Line: 7},
		{Rule: "skipped", Severity: "warning", Message: "this test is skipped", Suppressed: "later"},
	}
	for i := range want {
		want[i].Source = "own"
	}
	if !slices.Equal(got.Findings, want) || got.Summary != "1 passed, 4 failed, 1 skipped" {
		t.Errorf("got %q %+v", got.Summary, got.Findings)
	}
	if got := run(t, own(t, "junit", `<testsuite><testcase name="a"><skipped/></testcase></testsuite>`, 0)); got.Summary != nothingEvaluated || len(find(got.Findings, "waymark_nothing_evaluated")) != 1 {
		t.Errorf("nothing but skips: %q %+v", got.Summary, got.Findings)
	}
}

func TestReportThatIsTooLarge(t *testing.T) {
	fill := strings.Repeat(" ", release.MaxReport)
	got := run(t, own(t, "sarif", sarifHead+`"results":[]`+sarifTail+fill, 0))
	if got.Report != nil || len(find(got.Findings, "waymark_report_left_out")) != 1 {
		t.Errorf("report %v, findings %+v", got.Report != nil, got.Findings)
	}
}

func TestCommandIsFoundOnPath(t *testing.T) {
	cfg := own(t, "sarif", sarifHead+`"results":[]`+sarifTail, 0)
	t.Setenv("PATH", filepath.Dir(cfg.Spec.Path))
	cfg.Spec.Path = "own"
	run(t, cfg)
	cfg.Spec.Path, cfg.Scratch = "gone", scratch(t)
	if _, err := Run(t.Context(), cfg); !errors.Is(err, release.ErrUnavailable) {
		t.Errorf("a missing program: %v", err)
	}
	cfg.Spec.Path, cfg.Scratch = "bin/own", scratch(t)
	if _, err := Run(t.Context(), cfg); !errors.Is(err, release.ErrInvalid) {
		t.Errorf("a relative path: %v", err)
	}
	if Kept(cfg.Spec) || Kept(release.GateSpec{Name: "test"}) || !Kept(release.GateSpec{Name: "trivy"}) {
		t.Error("which results are kept")
	}
}

// What a hostile report may do is be refused.
func FuzzSARIF(f *testing.F) {
	f.Add([]byte(sarifHead + `"results":[{"ruleId":"R0","message":{"id":"m","arguments":["a"]},"suppressions":[{}]}]` + sarifTail))
	f.Fuzz(func(t *testing.T, src []byte) {
		result, err := readSARIF(src, func(name string) string { return treeFile("/tree", "/tree", name) })
		sane(t, result, err)
	})
}

func FuzzJUnit(f *testing.F) {
	f.Add([]byte(`<testsuites><testsuite><testcase name="a" line="3"><failure>x</failure></testcase><testcase name="b"><skipped/></testcase></testsuite></testsuites>`))
	f.Fuzz(func(t *testing.T, src []byte) {
		result, err := readJUnit(src, func(name string) string { return treeFile("/tree", "/tree", name) })
		sane(t, result, err)
	})
}

func FuzzEngineTest(f *testing.F) {
	f.Add([]byte(`{"type":"test_run","test_run":{"path":"a","run":"b","status":"fail"}}`+"\n"+`{"test_summary":{"failed":1}}`), 1)
	f.Fuzz(func(t *testing.T, src []byte, exit int) {
		result, err := readTest(output{stdout: src, exit: exit}, []string{"a"}, func(name string) string { return treeFile("/tree", "/tree", name) })
		sane(t, result, err)
		if err == nil && exit != 0 && len(release.Failing(result.Findings, release.SeverityError)) == 0 {
			t.Errorf("exit %d passes", exit)
		}
	})
}

func FuzzTrivy(f *testing.F) {
	f.Add([]byte(`{"SchemaVersion":2,"ArtifactType":"filesystem","Results":[{"Class":"config","MisconfSummary":{"Failures":1},"Misconfigurations":[{"ID":"a"}]}]}`), "t\tINFO\t[x] Ignore finding\trule=\"a\" range=\"main.tf:1-3\"", 10)
	f.Fuzz(func(t *testing.T, src []byte, log string, exit int) {
		said := trivyLog{}
		for line := range strings.SplitSeq(log, "\n") {
			said.line(line)
		}
		result, err := readTrivy(output{stdout: src, exit: exit}, said, "/tree")
		sane(t, result, err)
	})
}

// sane holds what every result must be.
func sane(t *testing.T, result release.GateResult, err error) {
	if err != nil && len(result.Findings) > 0 && result.Summary != "" {
		t.Errorf("an error comes with a result: %v, %+v", err, result)
	}
	for _, f := range finish("g", result.Findings) {
		if f.Rule == "" && f.Message == "" || strings.ContainsAny(f.Rule+f.Message+f.File, "\n\x1b") || filepath.IsAbs(f.File) || f.Line < 0 {
			t.Errorf("finding %+v", f)
		}
	}
}
