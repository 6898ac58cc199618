package gates

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

// testFolder is where the engines look for tests, beside the root module itself.
const testFolder = "tests"

// noTests is the summary of a root module without tests.
const noTests = "skipped: there are no tests (*.tftest.hcl)"

// TestFiles lists the tests that the engine would find for the root module at
// stackPath of a tree, relative to the tree: "*.tftest.hcl" and
// "*.tftest.json", and for "tofu" the same with "tofutest".
func TestFiles(tree, stackPath, engine string) ([]string, error) {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return nil, fmt.Errorf("looking for tests: %w", err)
	}
	defer root.Close()
	suffixes := []string{".tftest.hcl", ".tftest.json"}
	if engine == "tofu" {
		suffixes = append(suffixes, ".tofutest.hcl", ".tofutest.json")
	}
	var out []string
	for _, dir := range []string{path.Clean(filepath.ToSlash(stackPath)), path.Join(filepath.ToSlash(stackPath), testFolder)} {
		entries, err := fs.ReadDir(root.FS(), dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("looking for tests: %w", err)
		}
		for _, e := range entries {
			if !e.IsDir() && hasSuffix(e.Name(), suffixes) {
				out = append(out, path.Join(dir, e.Name()))
			}
		}
	}
	return out, nil
}

// NoTests is the result for a root module without tests.
func NoTests() release.GateResult {
	return release.GateResult{Gate: "test", Summary: noTests, Findings: []release.Finding{}}
}

func testEnv(string) []string {
	return []string{"CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1", "TF_INPUT=0"}
}

// runTest lets the engine test the root module in Tree, which has been
// initialised and to which it may write.
func runTest(ctx context.Context, cfg Config) (release.GateResult, error) {
	files, err := TestFiles(cfg.Tree, cfg.StackPath, cfg.Engine)
	if err != nil {
		return release.GateResult{}, err
	}
	if len(files) == 0 {
		return NoTests(), nil
	}
	stack := filepath.Join(cfg.Tree, filepath.FromSlash(cfg.StackPath))
	out, err := cfg.start(ctx, "-chdir="+stack, "test", "-json", "-no-color")
	if err != nil {
		return release.GateResult{}, err
	}
	return readTest(out, files, func(name string) string { return treeFile(cfg.Tree, stack, name) })
}

// testEvent is one line of `test -json`.
type testEvent struct {
	Type      string `json:"type"`
	Tofu      string `json:"tofu"`
	Terraform string `json:"terraform"`
	File      string `json:"@testfile"`
	Run       string `json:"@testrun"`
	TestRun   *struct {
		Path     string `json:"path"`
		Run      string `json:"run"`
		Progress string `json:"progress"`
		Status   string `json:"status"`
	} `json:"test_run"`
	Summary *struct {
		Status  string `json:"status"`
		Passed  int    `json:"passed"`
		Failed  int    `json:"failed"`
		Errored int    `json:"errored"`
		Skipped int    `json:"skipped"`
	} `json:"test_summary"`
	Diagnostic *struct {
		Severity string `json:"severity"`
		Summary  string `json:"summary"`
		Detail   string `json:"detail"`
		Range    *struct {
			Filename string `json:"filename"`
			Start    struct {
				Line int `json:"line"`
			} `json:"start"`
		} `json:"range"`
	} `json:"diagnostic"`
}

// testRun is what became of one run block.
type testRun struct {
	file, name, status string
	errors             []release.Finding
}

// readTest turns the engine's events into a result. Exit 1 means failed tests,
// but is also how the engine ends for anything else: the summary must be there
// and agree.
func readTest(out output, files []string, file func(string) string) (release.GateResult, error) {
	t := testLog{file: file, byName: map[[2]string]*testRun{}}
	for line := range bytes.Lines(out.stdout) {
		if err := t.event(bytes.TrimSpace(line)); err != nil {
			return release.GateResult{}, fmt.Errorf("%w, exit %d%s", err, out.exit, out.tail())
		}
	}
	s := t.summary
	if s == nil {
		why := ""
		if len(t.loose) > 0 {
			why = ": " + placed(t.loose[0])
		}
		return release.GateResult{}, fmt.Errorf("it could not test, exit %d%s%s", out.exit, why, out.tail())
	}
	bad, findings := s.failed+s.errored, append(t.findings(), t.loose...)
	if listed := t.count("fail", "error"); listed != bad || (out.exit != 0) != slices.ContainsFunc(findings, release.Finding.Counts) {
		return release.GateResult{}, fmt.Errorf("exit %d, with %d tests that failed by its summary and %d by its events%s", out.exit, bad, listed, out.tail())
	}
	result := release.GateResult{Version: t.version, Findings: findings, Report: report("junit", t.junit())}
	result.Summary = fmt.Sprintf("%d passed, %d failed, %d skipped, in %s", s.passed, bad, s.skipped, plural(len(files), "file"))
	if s.passed+bad == 0 {
		result.Summary = nothingEvaluated
		result.Findings = append(result.Findings, judgedNothing("no test ran"))
	}
	return result, nil
}

// testLog gathers the events of one `test -json`.
type testLog struct {
	file    func(string) string
	version string
	runs    []*testRun
	byName  map[[2]string]*testRun // by file and name
	loose   []release.Finding      // errors outside of any run
	summary *testSummary
}

type testSummary struct{ passed, failed, errored, skipped int }

func (t *testLog) event(line []byte) error {
	if len(line) == 0 {
		return nil
	}
	var e testEvent
	if err := json.Unmarshal(line, &e); err != nil {
		return fmt.Errorf("its output is not the JSON that was asked for (%w)", err)
	}
	switch {
	case e.Type == "version":
		if t.version = e.Tofu; t.version == "" {
			t.version = e.Terraform
		}
		t.version = clean(t.version, 50)
	case e.TestRun != nil && (e.TestRun.Progress == "" || e.TestRun.Progress == "complete"):
		r := t.run(e.TestRun.Path, e.TestRun.Run)
		r.status = e.TestRun.Status
	case e.Summary != nil:
		t.summary = &testSummary{e.Summary.Passed, e.Summary.Failed, e.Summary.Errored, e.Summary.Skipped}
	case e.Diagnostic != nil && e.Diagnostic.Severity == "error":
		d := e.Diagnostic
		f := release.Finding{Severity: release.SeverityError, Message: d.Summary}
		if d.Detail != "" {
			f.Message += ": " + d.Detail
		}
		if d.Range != nil {
			f.File, f.Line = t.file(d.Range.Filename), d.Range.Start.Line
		}
		if e.File == "" || e.Run == "" {
			f.Rule = "test"
			if e.File != "" {
				f.Rule = t.file(e.File)
			}
			t.loose = append(t.loose, f)
			return nil
		}
		r := t.run(e.File, e.Run)
		f.Rule = t.file(r.file) + "/" + r.name
		r.errors = append(r.errors, f)
	}
	return nil
}

func (t *testLog) run(file, name string) *testRun {
	id := [2]string{file, name}
	r := t.byName[id]
	if r == nil {
		r = &testRun{file: file, name: name}
		t.byName[id], t.runs = r, append(t.runs, r)
	}
	return r
}

func (t *testLog) count(statuses ...string) int {
	n := 0
	for _, r := range t.runs {
		n += btoi(slices.Contains(statuses, r.status))
	}
	return n
}

// findings are the errors of runs that failed, at least one for each; errors of
// runs that pass, such as in tearing down, count as well. Runs that were
// skipped, because one before them broke, are listed as suppressed.
func (t *testLog) findings() []release.Finding {
	var out []release.Finding
	for _, r := range t.runs {
		out = append(out, r.errors...)
		f := release.Finding{Rule: t.file(r.file) + "/" + r.name, File: t.file(r.file), Severity: release.SeverityError}
		switch {
		case (r.status == "fail" || r.status == "error") && len(r.errors) == 0:
			f.Message = "this run failed without a word"
			out = append(out, f)
		case r.status == "skip":
			f.Severity, f.Message, f.Suppressed = release.SeverityWarning, "this run was skipped", "the engine skipped it, because of the runs before it"
			out = append(out, f)
		}
	}
	return out
}

// placed is a finding's message with its place.
func placed(f release.Finding) string {
	if f.File == "" {
		return clean(f.Message, maxText)
	}
	return clean(fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Message), maxText)
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// The elements of the JUnit report that the events are turned into.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string          `xml:"name,attr"`
		Tests    int             `xml:"tests,attr"`
		Failures int             `xml:"failures,attr"`
		Errors   int             `xml:"errors,attr"`
		Skipped  int             `xml:"skipped,attr"`
		Cases    []junitTestCase `xml:"testcase"`
	}
	junitTestCase struct {
		Name    string        `xml:"name,attr"`
		Class   string        `xml:"classname,attr"`
		File    string        `xml:"file,attr,omitempty"`
		Line    int           `xml:"line,attr,omitempty"`
		Failure *junitOutcome `xml:"failure"`
		Error   *junitOutcome `xml:"error"`
		Skipped *junitOutcome `xml:"skipped"`
	}
	junitOutcome struct {
		Message string `xml:"message,attr,omitempty"`
		Text    string `xml:",chardata"`
	}
)

// junit writes the runs as a JUnit report, a suite for each file.
func (t *testLog) junit() []byte {
	var all junitSuites
	for _, r := range t.runs {
		file := t.file(r.file)
		if n := len(all.Suites); n == 0 || all.Suites[n-1].Name != file {
			all.Suites = append(all.Suites, junitSuite{Name: file})
		}
		s := &all.Suites[len(all.Suites)-1]
		c := junitTestCase{Name: r.name, Class: file, File: file}
		outcome := &junitOutcome{Message: r.status}
		for i, f := range r.errors {
			if i == 0 {
				outcome.Message, c.File, c.Line = f.Message, f.File, f.Line
			}
			outcome.Text += placed(f) + "\n"
		}
		switch r.status {
		case "fail":
			c.Failure, s.Failures = outcome, s.Failures+1
		case "error":
			c.Error, s.Errors = outcome, s.Errors+1
		case "skip":
			c.Skipped, s.Skipped = outcome, s.Skipped+1
		}
		s.Cases = append(s.Cases, c)
		s.Tests++
	}
	for _, s := range all.Suites {
		all.Tests, all.Failures, all.Errors = all.Tests+s.Tests, all.Failures+s.Failures, all.Errors+s.Errors
	}
	out, err := xml.MarshalIndent(all, "", "  ")
	if err != nil { // it holds strings and numbers alone
		return []byte(fmt.Sprintf("<!-- %s -->", clean(strings.ReplaceAll(err.Error(), "--", "- -"), maxText)))
	}
	return append([]byte(xml.Header), append(out, '\n')...)
}
