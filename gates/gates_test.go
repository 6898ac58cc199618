package gates

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/waymark-cd/waymark/release"
)

func TestCancelKillsTheGroup(t *testing.T) {
	cfg := posing(t, "checkov", part{Mode: "hang"})
	why := errors.New("the run was cancelled")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	cfg.Log = func(line string) {
		if line == "hanging" { // the grandchild is there
			cancel(why)
		}
	}
	if _, err := Run(ctx, cfg); !errors.Is(err, why) {
		t.Fatalf("got %v, want the cause", err)
	}
	lock, err := os.Open(filepath.Join(filepath.Dir(cfg.Spec.Path), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil { // waits until the grandchild is gone
		t.Error(err)
	}
}

func TestProcessesThatEndBadly(t *testing.T) {
	for mode, want := range map[string]string{"flood": "more than 64 MiB", "signal": "did not end by itself"} {
		_, err := Run(t.Context(), posing(t, "checkov", part{Mode: mode}))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", mode, err, want)
		}
	}
}

func TestPrepareSeesEveryCommand(t *testing.T) {
	cfg := posing(t, "tflint", part{Version: "TFLint version 0.64.0", Stdout: `{"issues":[],"errors":[]}`})
	var seen []string
	cfg.Prepare = func(cmd *exec.Cmd) {
		seen = append(seen, cmd.Args[1])
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a session of its own is left to the caller
	}
	got := run(t, cfg)
	if want := "--version --chdir=" + cfg.Tree; strings.Join(seen, " ") != want || got.Version != "0.64.0" {
		t.Errorf("prepared %q, want %q; version %q", seen, want, got.Version)
	}
}

func TestFolders(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"relative tree", func(c *Config) { c.Tree = "." }, "not an absolute path"},
		{"missing tree", func(c *Config) { c.Tree = "/nonexistent" }, "no such file"},
		{"file as tree", func(c *Config) { c.Tree = c.Spec.Path }, "is not a folder"},
		{"scratch in tree", func(c *Config) { c.Scratch = c.Tree }, "lies inside the tree"},
		{"used scratch", func(c *Config) { c.Scratch = filepath.Dir(c.Spec.Path) }, "is not empty"},
		{"stack outside", func(c *Config) { c.StackPath = "../x" }, "leaves the repository"},
		{"no stack", func(c *Config) { c.StackPath = "gone" }, "no folder \"gone\""},
		{"unknown gate", func(c *Config) { c.Spec.Name = "tfsec" }, "no gate is called \"tfsec\"; there are checkov, test, tflint, trivy"},
		{"unknown setting", func(c *Config) { c.Spec.Config["rules"] = "x" }, "no setting \"rules\"; known are config"},
	} {
		cfg := posing(t, "tflint", part{Version: "TFLint version 0.64.0", Stdout: `{"issues":[],"errors":[]}`})
		tt.change(&cfg)
		if _, err := Run(t.Context(), cfg); !errors.Is(err, release.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestFind(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, path := range []string{"", "/nonexistent/checkov", "/"} {
		if _, err := Find(release.GateSpec{Name: "checkov", Path: path}); !errors.Is(err, release.ErrUnavailable) || !strings.Contains(err.Error(), "pipx install checkov==3.3.13") {
			t.Errorf("Find(checkov, %q): %v does not say how to install", path, err)
		}
	}
	if _, err := Find(release.GateSpec{Name: "tflint", Path: "bin/tflint"}); !errors.Is(err, release.ErrInvalid) {
		t.Errorf("a relative path: %v", err)
	}
	if _, err := Find(release.GateSpec{Name: "rm"}); !errors.Is(err, release.ErrInvalid) {
		t.Errorf("no gate: %v", err)
	}
	cfg := posing(t, "checkov", part{})
	t.Setenv("PATH", filepath.Dir(cfg.Spec.Path))
	if got, err := Find(release.GateSpec{Name: "checkov"}); err != nil || got != cfg.Spec.Path {
		t.Errorf("on PATH: %q, %v", got, err)
	}
	cfg.Spec.Path = "/nonexistent/checkov"
	if _, err := Run(t.Context(), cfg); !errors.Is(err, release.ErrUnavailable) {
		t.Errorf("a missing executable: %v", err)
	}
}

func TestVersion(t *testing.T) {
	cfg := posing(t, "checkov", part{Recording: recording(t, "x-version")})
	if got, err := Version(t.Context(), cfg.Spec); err != nil || got != "3.3.13" {
		t.Errorf("checkov: %q, %v", got, err)
	}
	cfg = posing(t, "tflint", part{Version: "some other program 1.2.3"})
	if got, err := Version(t.Context(), cfg.Spec); !errors.Is(err, release.ErrUnavailable) {
		t.Errorf("another program: %q, %v", got, err)
	}
	real := realTFLint(t, nil)
	if got, err := Version(t.Context(), real.Spec); err != nil || !strings.HasPrefix(got, "0.") {
		t.Errorf("tflint: %q, %v", got, err)
	}
}

func TestKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tflint.hcl")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a")
	spec := func(gate string, failOn release.Severity, config map[string]string) release.GateSpec {
		return release.GateSpec{Name: gate, Path: "/any", FailOn: failOn, Config: config}
	}
	settings := map[string]string{"config": file}
	base := Key("t", "1", spec("tflint", "error", settings), "s")
	if same := Key("t", "1", spec("tflint", "notice", settings), "./s/"); same != base {
		t.Error("FailOn or the spelling of the path changes the key")
	}
	checkov := Key("t", "1", spec("checkov", "error", nil), "s")
	if checkov != Key("t", "1", spec("checkov", "error", map[string]string{"check": ""}), "other") {
		t.Error("checkov's key depends on the stack")
	}
	trivy := Key("t", "1", spec("trivy", "error", nil), "s")
	if waived := spec("trivy", "error", nil); true {
		waived.Waivers, waived.Soft = []release.Waiver{{Rule: "R"}}, true
		if Key("t", "1", waived, "other") != trivy {
			t.Error("trivy's key depends on the stack, on waivers or on the mode")
		}
	}
	write("b")
	seen := map[string]string{base: "base", checkov: "checkov", trivy: "trivy"}
	for name, key := range map[string]string{
		"file's content": Key("t", "1", spec("tflint", "error", settings), "s"),
		"tree":           Key("u", "1", spec("tflint", "error", nil), "s"),
		"version":        Key("t", "2", spec("tflint", "error", nil), "s"),
		"stack":          Key("t", "1", spec("tflint", "error", nil), "r"),
		"settings":       Key("t", "1", spec("checkov", "error", map[string]string{"check": "CKV_1"}), "s"),
	} {
		if other, ok := seen[key]; ok {
			t.Errorf("the key is the same for %s and %s", name, other)
		}
		seen[key] = name
	}
}

func TestFinishCutsTheMildFirst(t *testing.T) {
	var many []release.Finding
	for i := range maxFindings {
		many = append(many, release.Finding{Rule: strings.Repeat("a", 1+i%250), Line: i, Severity: release.SeverityError, Suppressed: "\x00"})
	}
	many = append(many, release.Finding{Rule: "real", Severity: release.SeverityWarning, Message: "a\x1b[31m\n\u202eb", Link: "javascript:x"})
	got := finish("g", many)
	real, cut := find(got, "real"), find(got, "waymark_truncated")
	if len(got) != maxFindings+1 || len(real) != 1 || len(cut) != 1 {
		t.Fatalf("%d findings, real %+v, notice %+v", len(got), real, cut)
	}
	if real[0].Message != "a [31m b" || real[0].Link != "" {
		t.Errorf("not cleaned: %+v", real[0])
	}
	if c := release.CountFindings(got); c.Error != 0 || c.Warning != 1 {
		t.Errorf("suppressed findings count: %+v", c)
	}
}
