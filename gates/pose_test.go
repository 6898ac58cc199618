package gates

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/waymark-cd/waymark/release"
)

// The test binary poses as a gate when it is started under the gate's name: its
// environment is scrubbed, so the part it plays stands in a file beside the link.
func TestMain(m *testing.M) {
	if name := filepath.Base(os.Args[0]); slices.Contains([]string{"checkov", "tflint", "trivy", "test", "own"}, name) {
		syscall.Exit(pose(filepath.Dir(os.Args[0]))) // os.Exit waits a second under the race detector
	}
	os.Exit(m.Run())
}

// part is what the posing binary does.
type part struct {
	Recording string   // folder with stdout, stderr and meta.json to play
	Stdout    string   // without a recording: what to print
	Exit      int      // without a recording
	Version   string   // the answer to --version
	Mode      string   // "flood", "hang", "signal", or a plain end
	WantArgs  []string // exactly these, where set
	WantEnv   []string // the names that the environment may and must have
	WantDir   string   // the folder to work in; empty: HOME
}

// badPart is the exit code of a posing binary that was not started as it should be.
const badPart = 99

func pose(dir string) int {
	raw, err := os.ReadFile(filepath.Join(dir, "part.json"))
	var p part
	if err == nil {
		err = json.Unmarshal(raw, &p)
	}
	if err == nil {
		err = p.verify()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "POSE:", err)
		return badPart
	}
	if p.Version != "" && slices.Contains(os.Args, "--version") {
		fmt.Println(p.Version)
		return 0
	}
	switch p.Mode {
	case "flood":
		out := bufio.NewWriter(os.Stdout)
		fill := strings.Repeat("x", 1<<20)
		for range maxOutput>>20 + 1 {
			if _, err := out.WriteString(fill); err != nil {
				return 0
			}
		}
		out.Flush()
	case "hang":
		return p.hang(dir)
	case "signal":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	if p.Recording == "" {
		fmt.Print(p.Stdout)
		return p.Exit
	}
	return p.play()
}

// play prints a recorded run and ends as it did.
func (p part) play() int {
	var meta struct{ Exit int }
	for name, to := range map[string]io.Writer{"stdout": os.Stdout, "stderr": os.Stderr, "meta.json": nil} {
		raw, err := os.ReadFile(filepath.Join(p.Recording, name))
		if err == nil && to == nil {
			err = json.Unmarshal(raw, &meta)
		} else if err == nil {
			_, err = to.Write(raw)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "POSE:", err)
			return badPart
		}
	}
	return meta.Exit
}

// hang starts a grandchild that holds a lock for ever, and waits for ever.
func (p part) hang(dir string) int {
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
	}
	if err == nil {
		grandchild := exec.Command("/bin/sh", "-c", "echo hanging >&2; read line <&4")
		r, w, _ := os.Pipe()
		grandchild.ExtraFiles = []*os.File{lock, r, w}
		grandchild.Stderr = os.Stderr
		if err = grandchild.Start(); err == nil {
			err = grandchild.Wait()
		}
	}
	fmt.Fprintln(os.Stderr, "POSE:", err)
	return badPart
}

// verify holds the process against what every gate must be started with.
func (p part) verify() error {
	wd, err := os.Getwd()
	if err != nil {
		return err
	}
	if want := cmp.Or(p.WantDir, os.Getenv("HOME")); wd != want || os.Getenv("HOME") != os.Getenv("TMPDIR") {
		return fmt.Errorf("working directory %s, HOME %s, TMPDIR %s", wd, os.Getenv("HOME"), os.Getenv("TMPDIR"))
	}
	if p.WantArgs != nil && !slices.Equal(p.WantArgs, os.Args[1:]) && !slices.Contains(os.Args, "--version") {
		return fmt.Errorf("arguments %q, want %q", os.Args[1:], p.WantArgs)
	}
	var names []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		names = append(names, name)
	}
	slices.Sort(names)
	if want := slices.Sorted(slices.Values(p.WantEnv)); !slices.Equal(names, want) {
		return fmt.Errorf("environment %q, want %q", names, want)
	}
	return nil
}

// posing returns a Config whose executable plays the part.
func posing(t *testing.T, gate string, p part) Config {
	t.Helper()
	// What a careless child would inherit.
	for _, name := range []string{"CKV_PARSE_ERROR_FAIL", "BC_API_KEY", "PRISMA_API_URL", "LOG_LEVEL", "TF_VAR_x",
		"TFLINT_LOG", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "WAYMARK_TOKEN"} {
		t.Setenv(name, "leak")
	}
	p.WantEnv = append(p.WantEnv, "PATH", "HOME", "TMPDIR", "LANG")
	p.WantEnv = append(p.WantEnv, map[string][]string{
		"checkov": {"PYTHONDONTWRITEBYTECODE"},
		"tflint":  {"TFLINT_DISABLE_VERSION_CHECK", "TFLINT_PLUGIN_DIR", "TF_DATA_DIR"},
		"test":    {"CHECKPOINT_DISABLE", "TF_IN_AUTOMATION", "TF_INPUT"},
	}[gate]...)
	root := tree(t, map[string]string{"main.tf": ""})
	if gate == "own" {
		p.WantDir = root
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	link := filepath.Join(bin, gate)
	raw, err := json.Marshal(p)
	if err == nil {
		err = os.WriteFile(filepath.Join(bin, "part.json"), raw, 0o600)
	}
	if err == nil {
		err = os.Symlink(self, link)
	}
	if err != nil {
		t.Fatal(err)
	}
	return Config{Spec: release.GateSpec{Name: gate, Path: link, FailOn: release.SeverityError, Config: map[string]string{}},
		Tree: root, Scratch: scratch(t), Path: os.Getenv("PATH"), Log: func(l string) { t.Log(l) }}
}

// tree writes files, by their slash-separated names, into a new folder.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		p := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// scratch is a short path: sockets are opened in it.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// recording is the absolute folder of a recorded run.
func recording(t *testing.T, name string) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("testdata", "checkov", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// find returns the findings with that rule.
func find(findings []release.Finding, rule string) []release.Finding {
	return slices.DeleteFunc(slices.Clone(findings), func(f release.Finding) bool { return f.Rule != rule })
}
