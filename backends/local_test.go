package backends_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/backends"
	"github.com/waymark-cd/waymark/release"
)

// tool finds an executable among the built tools, then on PATH.
func tool(t *testing.T, name string) string {
	t.Helper()
	built, err := filepath.Abs(filepath.Join("..", ".tools", "bin", name))
	must(t, err)
	if _, err := os.Stat(built); err == nil {
		return built
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is neither in .tools/bin nor on PATH: run make tools", name)
	}
	return path
}

// engine makes a command of a real engine in dir.
func engine(t *testing.T, kind, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), tool(t, kind), args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1"}
	return cmd
}

func run(t *testing.T, kind, dir string, args ...string) string {
	t.Helper()
	out, err := engine(t, kind, dir, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", kind, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func eachEngine(t *testing.T, test func(t *testing.T, kind string)) {
	if testing.Short() {
		t.Skip("needs real engines")
	}
	for _, kind := range []string{"tofu", "terraform"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			test(t, kind)
		})
	}
}

// states looks at local states alone.
var states = backends.New(backends.S3Config{})

// lockOf gives the one lock of a state, or nil.
func lockOf(t *testing.T, spec release.BackendSpec) (*backends.Lock, error) {
	t.Helper()
	locks, err := states.Locks(t.Context(), spec)
	if len(locks) > 1 {
		t.Fatalf("%d locks: %+v", len(locks), locks)
	}
	if len(locks) == 0 {
		return nil, err
	}
	return &locks[0], err
}

func localSpec(path string) release.BackendSpec {
	return release.BackendSpec{Type: "local", Values: map[string]string{"path": path}}
}

// The values reach both engines literally, and the state is where they say,
// with and without a block in the code.
func TestTheStateIsWhereTheConfigurationSays(t *testing.T) {
	eachEngine(t, func(t *testing.T, kind string) {
		for i, block := range []string{"", "terraform {\n  backend \"local\" {}\n}\n"} {
			dir := write(t, map[string]string{"main.tf": block + "resource \"terraform_data\" \"a\" {}\n"})
			state := filepath.Join(t.TempDir(), "a=b \"quoted\" ${x} %{y} $(id) 'z'\nnew; line", "ü", "terraform.tfstate")
			args, err := backends.Prepare(dir, newest, localSpec(state))
			must(t, err)
			info, err := os.Stat(filepath.Dir(state))
			must(t, err)
			if info.Mode().Perm() != 0o700 {
				t.Errorf("the folder's mode is %v", info.Mode())
			}
			if serial, lineage, err := states.StateSerial(t.Context(), localSpec(state)); serial != 0 || lineage != "" || err != nil {
				t.Errorf("before the first apply: %d %q %v", serial, lineage, err)
			}
			run(t, kind, dir, append([]string{"init", "-input=false"}, args...)...)
			run(t, kind, dir, "apply", "-auto-approve", "-input=false")
			serial, lineage, err := states.StateSerial(t.Context(), localSpec(state))
			if serial < 1 || lineage == "" || err != nil {
				t.Errorf("%d: serial %d, lineage %q, %v", i, serial, lineage, err)
			}
			if _, err := os.Stat(filepath.Join(dir, "terraform.tfstate")); err == nil {
				t.Error("there is a state in the working copy")
			}
			if lock, err := lockOf(t, localSpec(state)); lock != nil || err != nil {
				t.Errorf("lock %+v, %v", lock, err)
			}
		}
	})
}

// A setting of another type than text is converted by the engine.
func TestAnOverrideIsReadByBothEngines(t *testing.T) {
	eachEngine(t, func(t *testing.T, kind string) {
		for _, files := range []map[string]string{
			{"main.tf": "output \"x\" { value = 1 }\n"},
			{"main.tofu": "terraform {\n  backend \"s3\" {\n    max_retries = 1\n  }\n}\n", "other.tf": ""},
		} {
			dir := write(t, files)
			_, err := backends.Prepare(dir, newest, s3)
			must(t, err)
			out, err := engine(t, kind, dir, "init", "-input=false", "-no-color", "-backend-config=no_such_setting=x").CombinedOutput()
			if err == nil || !strings.Contains(string(out), "no_such_setting") {
				t.Errorf("the engine did not take the block for s3:\n%s", out)
			}
		}
	})
}

func TestTheLockTellsTheLivingFromTheDead(t *testing.T) {
	eachEngine(t, func(t *testing.T, kind string) {
		dir := write(t, map[string]string{"main.tf": `
resource "terraform_data" "first" {}
resource "terraform_data" "a" {
  input = terraform_data.first.id
  provisioner "local-exec" {
    command = "echo started $$; exec sleep 600"
  }
}`})
		state := filepath.Join(t.TempDir(), "s", "terraform.tfstate")
		args, err := backends.Prepare(dir, newest, localSpec(state))
		must(t, err)
		run(t, kind, dir, append([]string{"init", "-input=false"}, args...)...)
		cmd := engine(t, kind, dir, "apply", "-auto-approve", "-input=false", "-no-color")
		stdout, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewScanner(stdout)
		var provisioner int
		for lines.Scan() {
			if _, pid, found := strings.Cut(lines.Text(), "(local-exec): started "); found {
				provisioner, err = strconv.Atoi(pid)
				must(t, err)
				break
			}
		}
		t.Cleanup(func() { _ = syscall.Kill(provisioner, syscall.SIGKILL) })
		lock, err := lockOf(t, localSpec(state))
		if err != nil || lock == nil {
			t.Fatalf("lock %+v, %v", lock, err)
		}
		if !lock.Held || lock.PID != cmd.Process.Pid || lock.ID == "" || lock.Who == "" || lock.Operation != "OperationTypeApply" || time.Since(lock.Created) > time.Hour {
			t.Errorf("while it runs: %+v, pid %d", lock, cmd.Process.Pid)
		}
		must(t, cmd.Process.Kill())
		_ = cmd.Wait()
		lock, err = lockOf(t, localSpec(state))
		if err != nil || lock == nil || lock.Held || lock.PID != 0 || lock.ID == "" {
			t.Errorf("after the kill: %+v, %v", lock, err)
		}
	})
}

func TestBrokenLocalFilesAreSaid(t *testing.T) {
	dir := write(t, map[string]string{
		"no.tfstate": "{", "list.tfstate": "[]", "other.tfstate": "{}", "empty.tfstate": "",
		"encrypted.tfstate": `{"serial":4,"lineage":"l","encrypted_data":"x"}`, "bad": "", ".bad.lock.info": "{",
	})
	spec := func(name string) release.BackendSpec { return localSpec(filepath.Join(dir, name)) }
	for _, name := range []string{"no.tfstate", "list.tfstate", "other.tfstate"} {
		if _, _, err := states.StateSerial(t.Context(), spec(name)); !errors.Is(err, release.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	if serial, _, err := states.StateSerial(t.Context(), spec("empty.tfstate")); serial != 0 || err != nil {
		t.Errorf("empty: %d, %v", serial, err)
	}
	if serial, lineage, err := states.StateSerial(t.Context(), spec("encrypted.tfstate")); serial != 4 || lineage != "l" || err != nil {
		t.Errorf("encrypted: %d %q, %v", serial, lineage, err)
	}
	if _, err := lockOf(t, spec("bad")); !errors.Is(err, release.ErrInvalid) {
		t.Errorf("bad lock: %v", err)
	}
	gcs := release.BackendSpec{Type: "gcs", Values: map[string]string{"bucket": "b"}}
	if _, err := lockOf(t, gcs); !errors.Is(err, release.ErrInvalid) {
		t.Errorf("gcs: %v", err)
	}
	if _, _, err := states.StateSerial(t.Context(), gcs); !errors.Is(err, release.ErrInvalid) {
		t.Errorf("gcs: %v", err)
	}
}
