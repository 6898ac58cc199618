package waymark_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// docs/operations.md is read at night. These hold what it says by name against
// the code: the unit, the audit actions, the metrics, and the tests that carry
// its procedures out.

const operations = "docs/operations.md"

func TestOperationsShowsTheUnit(t *testing.T) {
	unit := string(readFile(t, "examples/systemd/waymark.service"))
	if !strings.Contains(string(readFile(t, operations)), "```ini\n"+unit+"```\n") {
		t.Errorf("%s does not show examples/systemd/waymark.service as it is: copy the whole file between ```ini and ```", operations)
	}
	for _, line := range []string{"KillMode=process", "OOMPolicy=continue", "RestartPreventExitStatus=2", "User=waymark"} {
		if !strings.Contains(unit, "\n"+line+"\n") {
			t.Errorf("the unit has no line %s", line)
		}
	}
}

// TestTheUnitIsOne has systemd read the unit. Nothing here can start it.
func TestTheUnitIsOne(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed (package systemd): nobody else can judge the unit")
	}
	unit := strings.Replace(string(readFile(t, "examples/systemd/waymark.service")), "ExecStart=/usr/local/bin/waymark ", "ExecStart=/bin/true ", 1)
	file := filepath.Join(t.TempDir(), "waymark.service")
	if err := os.WriteFile(file, []byte(unit), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, "verify", file).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// productCode calls each for every Go file that is no test.
func productCode(t *testing.T, each func(file, text string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "internal" || d.Name() == "tools") {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			each(path, string(readFile(t, path)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// inTables gives the names in the first cells of tables, where they are code.
func inTables(text string) []string {
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		if cells := strings.SplitN(line, "|", 3); len(cells) == 3 && cells[0] == "" {
			for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
				out = append(out, name[1])
			}
		}
	}
	return out
}

func TestOperationsNamesEveryActionAndMetric(t *testing.T) {
	told := inTables(string(readFile(t, operations)))
	action := regexp.MustCompile(`(?:Action: *|[aA]ction :?= *|aboutRelease\()"([a-z]+\.[a-z_]+)"`)
	metric := regexp.MustCompile(`(?:Name: |NewDesc\()"(waymark_[a-z_]+)"`)
	var has []string
	productCode(t, func(file, text string) {
		for _, found := range slices.Concat(action.FindAllStringSubmatch(text, -1), metric.FindAllStringSubmatch(text, -1)) {
			if has = append(has, found[1]); !slices.Contains(told, found[1]) {
				t.Errorf("%s: %s is in no table of %s", file, found[1], operations)
			}
		}
	})
	if len(has) < 25 {
		t.Errorf("only %d names were found in the code; does this test still read it?", len(has))
	}
	for _, name := range told {
		if strings.HasPrefix(name, "waymark_") && !slices.Contains(has, name) {
			t.Errorf("%s tells of %s, which the code does not have", operations, name)
		}
	}
}

func TestOperationsNamesTestsThatAreThere(t *testing.T) {
	named := regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(string(readFile(t, operations)), -1)
	if len(named) < 10 {
		t.Errorf("%s names %d tests that carry out its procedures", operations, len(named))
	}
	files, err := filepath.Glob("*/*/*_test.go")
	more, err2 := filepath.Glob("*/*_test.go")
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	var all strings.Builder
	for _, f := range append(files, more...) {
		all.Write(readFile(t, f))
	}
	for _, n := range named {
		if !strings.Contains(all.String(), "\nfunc "+n[1]+"(t *testing.T)") {
			t.Errorf("%s names %s, and there is no such test", operations, n[1])
		}
	}
}
