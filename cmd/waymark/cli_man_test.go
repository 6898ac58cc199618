package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/audit"
)

func TestManualPages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "share", "man1")
	w := &cliWorld{t: t, env: map[string]string{}}
	if stdout, stderr, code := w.typed("man --dir " + dir); code != 0 || !strings.Contains(stdout, "pages to "+dir) {
		t.Fatalf("exit %d, %s%s", code, stdout, stderr)
	}
	files, err := filepath.Glob(filepath.Join(dir, "waymark*.1"))
	if err != nil || len(files) < 50 {
		t.Fatalf("%d pages: %v", len(files), err)
	}
	for file, wants := range map[string][]string{
		"waymark.1":                {".SH COMMANDS", `\fBwaymark\-runs\fR(1)`, "Exit", "WAYMARK_SERVER"},
		"waymark-runs-list.1":      {`waymark\-runs\-list \- List runs, newest first`, `\fB\-o\fR, \fB\-\-output\fR \fIformat\fR`, "(default 50)", "GLOBAL OPTIONS", `\fBwaymark\-runs\fR(1)`},
		"waymark-consumers-move.1": {`waymark consumers move siem \-\-to start \-\-reason \(aqits index was lost\(aq`},
		"waymark-completion.1":     {"source <(waymark completion bash)"},
	} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Error(err)
		}
		for _, want := range wants {
			if !strings.Contains(strings.ToLower(string(text)), strings.ToLower(want)) {
				t.Errorf("%s lacks %q:\n%s", file, want, text)
			}
		}
	}
	for _, hidden := range []string{"waymark-runner.1", "waymark-help.1", "waymark-policy-evaluator.1"} {
		if _, err := os.Stat(filepath.Join(dir, hidden)); !os.IsNotExist(err) {
			t.Errorf("%s: %v", hidden, err)
		}
	}
	t.Run("groff", func(t *testing.T) { renderPages(t, files) })
}

var overstruck = regexp.MustCompile(".\x08")

// renderPages lets groff print every page, which has nothing to complain of.
func renderPages(t *testing.T, files []string) {
	if testing.Short() {
		t.Skip("it starts groff")
	}
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("groff is not installed")
	}
	for _, file := range files {
		cmd := exec.Command(groff, "-man", "-Tutf8", "-ww", "-b", "-rLL=78n", file)
		cmd.Env = append(os.Environ(), "GROFF_NO_SGR=1")
		var complaints strings.Builder
		cmd.Stderr = &complaints
		out, err := cmd.Output()
		if err != nil || complaints.Len() > 0 {
			t.Errorf("%s: %v, %s", filepath.Base(file), err, complaints.String())
		}
		// Struck over for bold, as terminals without colours had it.
		text := overstruck.ReplaceAllString(string(out), "")
		command := strings.ReplaceAll(strings.TrimSuffix(filepath.Base(file), ".1"), "-", " ")
		if strings.HasPrefix(command, "waymark runs") && !strings.Contains(text, command) || !strings.Contains(text, "EXIT STATUS") {
			t.Errorf("%s is printed as\n%s", filepath.Base(file), text)
		}
	}
}

func TestVersionAsJSON(t *testing.T) {
	w := &cliWorld{t: t, env: map[string]string{}}
	stdout, stderr, code := w.typed("version -o json")
	var got versionInfo
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != 0 {
		t.Fatalf("exit %d, %v: %s%s", code, err, stdout, stderr)
	}
	files, err := filepath.Glob("../../store/migrations/sqlite/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	newest := strings.TrimLeft(strings.Split(filepath.Base(files[len(files)-1]), "_")[0], "0")
	if got.Version == "" || !strings.HasPrefix(got.Go, "go1.") || got.Formats.API != "v1" || got.Formats.AuditEntry != audit.EntryVersion || !strings.Contains(stdout, `"database": `+newest+"\n") {
		t.Errorf("%s, newest schema %s", stdout, newest)
	}
	if stdout, _, _ := w.typed("version"); stdout != "waymark "+got.Version+"\n" {
		t.Errorf("%q", stdout)
	}
}
