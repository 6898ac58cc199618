package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/tagparse"
)

func getBody(ctx context.Context, url string, to io.Writer) error {
	return getBodyAs(ctx, url, "", to)
}

// getBodyAs is getBody with a token.
func getBodyAs(ctx context.Context, url, token string, to io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, err = io.Copy(to, res.Body)
	return err
}

// slowCode applies for as long as the file "go" is missing in the working copy and
// the copy is there, and writes a line each time that it does.
const slowCode = worldCode + `
resource "terraform_data" "slow" {
  input = var.release_version
  triggers_replace = var.release_version
  provisioner "local-exec" { command = "echo ran; echo ran >> ran; until test -e go || ! test -e ran; do sleep 0.05; done" }
}
`

// TestKilledInTheMiddleOfAnApply kills the service with SIGKILL while an apply
// goes on, ten times: every other time the apply ends before the next service is
// up, and every other time after. Each run must succeed, having run once.
func TestKilledInTheMiddleOfAnApply(t *testing.T) {
	w := newWorld(t, "")
	w.remote.Commit(map[string]string{"main.tf": slowCode})
	kill := w.spawn()
	w.contact()
	for i := range 10 {
		tag := fmt.Sprintf("dev_us-east-1/research/1.%d", i)
		w.push(tag)
		work := ""
		w.await("the apply of "+tag, func() bool {
			found, _ := filepath.Glob(filepath.Join(w.dir, "data/runs", fmt.Sprint(i+1), "*/tree/ran"))
			if len(found) == 1 {
				work = filepath.Dir(found[0])
			}
			return work != ""
		})
		kill()
		goOn := func() {
			if err := os.WriteFile(filepath.Join(work, "go"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if i%2 == 0 {
			goOn()
			w.await("the runner's result", func() bool {
				_, err := os.Stat(filepath.Join(filepath.Dir(work), "apply-1/result.json"))
				return err == nil
			})
			kill = w.spawn()
		} else {
			kill = w.spawn()
			goOn()
		}
		r := w.until(tag, release.Succeeded)
		if n := strings.Count(w.runLog(r.ID), "(local-exec): ran"); n != 1 {
			t.Errorf("%s ran %d times:\n%s", tag, n, w.runLog(r.ID))
		}
		state, err := os.ReadFile(filepath.Join(w.dir, "data/state/infra/research/dev-us-east-1/terraform.tfstate"))
		if err != nil || !bytes.Contains(state, []byte(fmt.Sprintf(`"1.%d"`, i))) {
			t.Errorf("%s is not in the state: %v", tag, err)
		}
	}
	wantText(t, w.mustCLI("audit", "verify"), "verified:")
	w.stop()
}

// lostInApply kills service and runner in the middle of the apply of
// dev_us-east-1/research/1.0, which is run 1.
func lostInApply(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, "")
	w.remote.Commit(map[string]string{"main.tf": slowCode})
	kill := w.spawn()
	w.contact()
	w.push("dev_us-east-1/research/1.0")
	w.await("the apply", func() bool {
		found, _ := filepath.Glob(filepath.Join(w.dir, "data/runs/1/1/tree/ran"))
		return len(found) == 1
	})
	kill()
	killRunner(t, filepath.Join(w.dir, "data/runs/1/1/apply-1/runner.json"))
	return w
}

// TestLostRunners kills service and runner in the middle of an apply: the run is
// unknown, holds its target, and goes on when a person has decided.
func TestLostRunners(t *testing.T) {
	w := lostInApply(t)
	w.spawn()
	r := w.until("dev_us-east-1/research/1.0", release.Unknown)
	wantText(t, r.Reason, "resolve")
	if left, _ := filepath.Glob(filepath.Join(w.dir, "data/runs/1/1/*/plan.private")); len(left) > 0 {
		t.Errorf("the plan was left in clear: %v", left)
	}
	// Nothing else runs for the target until a person has decided.
	w.push("dev_us-east-1/research/1.1")
	w.await("1.1 in line", func() bool { return strings.Contains(w.states()["dev_us-east-1/research/1.1"], "unknown") })
	w.mustCLI("runs", "resolve", r.ID, "--abandon")
	w.await("1.1 to go on", func() bool {
		found, _ := filepath.Glob(filepath.Join(w.dir, "data/runs/2/*/tree"))
		for _, work := range found {
			_ = os.WriteFile(filepath.Join(work, "go"), nil, 0o600)
		}
		s := w.states()["dev_us-east-1/research/1.1"]
		return strings.HasPrefix(s, "succeeded") || strings.HasPrefix(s, "failed")
	})
	// The engine was killed with its runner, and left the state locked.
	wantText(t, w.mustCLI("audit", "verify"), "verified:")
}

// TestDataIsPrivate holds that nobody but the service's user reads what it keeps,
// also where the data folder was there before and is open to all.
func TestDataIsPrivate(t *testing.T) {
	w := newWorld(t, "")
	data := filepath.Join(w.dir, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	w.spawn()
	w.contact()
	w.push("dev_us-east-1/research/1.0")
	w.until("dev_us-east-1/research/1.0", release.Succeeded)
	w.stop()
	err := filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == data {
			return err
		}
		info, err := d.Info()
		switch {
		case err != nil:
			return err
		case info.Mode().Perm()&0o077 != 0:
			t.Errorf("%s has the mode %s", path, info.Mode())
		case d.IsDir():
			return fs.SkipDir // nobody gets any further
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestLostDataFolder loses service, runner and the folder of the run in the
// middle of an apply: nobody may say that nothing was changed.
func TestLostDataFolder(t *testing.T) {
	w := lostInApply(t)
	if err := os.RemoveAll(filepath.Join(w.dir, "data/runs")); err != nil {
		t.Fatal(err)
	}
	w.spawn()
	w.until("dev_us-east-1/research/1.0", release.Unknown)
	w.stop()
}

// TestASecondSignalInterruptsTheApply stops a service in the middle of an apply:
// the first signal lets the apply go on, the second interrupts it gracefully, and
// its end is on record when the process ends.
func TestASecondSignalInterruptsTheApply(t *testing.T) {
	w := newWorld(t, "")
	text, err := os.ReadFile(w.file)
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.Replace(string(text), `shutdown_grace = "100ms"`, `shutdown_grace = "40s"`, 1))
	if err := os.WriteFile(w.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	w.remote.Commit(map[string]string{"main.tf": slowCode})
	_, pid := w.spawnPID()
	w.contact()
	const tag = "dev_us-east-1/research/1.0"
	w.push(tag)
	tree := filepath.Join(w.dir, "data/runs/1/1/tree")
	w.await("an apply", func() bool { _, err := os.Stat(filepath.Join(tree, "ran")); return err == nil })
	stop := w.stop
	ended := make(chan struct{})
	go func() { stop(); close(ended) }() // the first signal
	w.await("the first signal", func() bool { return strings.Contains(w.log.String(), "a second signal interrupts them") })
	if err := syscall.Kill(pid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-ended
	wantText(t, w.log.String(), "the applies at work are interrupted", "state=cancelled")
	w.spawn()
	w.until(tag, release.Cancelled)
}

// TestRunsCannotDecide holds that the code of a run cannot approve, cancel or
// reject any run by the API of its own service, which a person can.
func TestRunsCannotDecide(t *testing.T) {
	w := newWorld(t, "")
	w.serve()
	w.contact()
	w.push("staging_us-east-1/risk/1.0")
	waiting := w.until("staging_us-east-1/risk/1.0", release.AwaitingApproval)
	address := strings.TrimPrefix(w.server, "http://")
	w.remote.Commit(map[string]string{"main.tf": worldCode + `
resource "terraform_data" "evil" {
  provisioner "local-exec" {
    interpreter = ["/bin/bash", "-c"]
    command     = <<-EOT
      exec 3<>/dev/tcp/` + strings.ReplaceAll(address, ":", "/") + `
      printf 'POST /api/v1/runs/` + waiting.ID + `/approve HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}' >&3
      cat <&3
    EOT
  }
}
`})
	w.push("dev_us-east-1/research/1.0")
	evil := w.until("dev_us-east-1/research/1.0", release.Succeeded)
	wantText(t, w.runLog(evil.ID), "403 Forbidden", "a run decides about no run")
	w.until("staging_us-east-1/risk/1.0", release.AwaitingApproval)
	w.remote.Commit(map[string]string{"main.tf": slowCode})
	w.push("dev_us-east-1/research/1.1")
	w.await("an apply", func() bool {
		found, _ := filepath.Glob(filepath.Join(w.dir, "data/runs/3/1/tree/ran"))
		return len(found) == 1
	})
	w.mustCLI("runs", "approve", waiting.ID)
	w.until("staging_us-east-1/risk/1.0", release.Succeeded)
	if err := os.WriteFile(filepath.Join(w.dir, "data/runs/3/1/tree/go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.until("dev_us-east-1/research/1.1", release.Succeeded)
}

// TestFiftyTagsWhileDown pushes 50 tags for 10 targets while the service is
// down: every one runs, once, each target in the order of its versions.
func TestFiftyTagsWhileDown(t *testing.T) {
	for _, database := range []string{"sqlite", "postgres"} {
		t.Run(database, func(t *testing.T) {
			w := newWorld(t, "")
			if database == "postgres" {
				w.env["WORLD_DATABASE"] = testkit.Postgres(t)
			}
			w.serve()
			w.contact()
			w.stop()
			for _, version := range []string{"1.10", "1.9", "2.0-rc10", "2.0", "2.0-rc9"} {
				for _, scope := range []string{"us-east-1", "eu-central-1"} {
					for _, team := range []string{"research", "risk", "alpha", "beta", "gamma"} {
						w.push(fmt.Sprintf("dev_%s/%s/%s", scope, team, version))
					}
				}
			}
			w.serve()
			w.await("50 runs", func() bool {
				ended := 0
				for _, r := range w.runs() {
					if release.State(r.State).Ended() {
						ended++
					}
				}
				return ended >= 50
			})
			perTag, lastOf := map[string]int{}, map[string]tagparse.Version{}
			runs := w.runs()
			for _, r := range runs {
				if r.State != string(release.Succeeded) {
					t.Errorf("%s is %s: %s", r.Tag, r.State, r.Reason)
				}
				perTag[r.Tag]++
				target := r.Target.Env + "_" + r.Target.Scope + "/" + r.Target.Team
				v, err := tagparse.ParseVersion(r.Version)
				if err != nil {
					t.Fatal(err)
				}
				if last, ok := lastOf[target]; ok && tagparse.Compare(last, v) >= 0 {
					t.Errorf("%s ran after %s", r.Tag, last)
				}
				lastOf[target] = v
			}
			if len(runs) != 50 || len(perTag) != 50 || len(lastOf) != 10 {
				t.Errorf("%d runs for %d tags of %d targets", len(runs), len(perTag), len(lastOf))
			}
			wantText(t, w.mustCLI("audit", "verify"), "verified:")
		})
	}
}

// killRunner ends the runner that owns a folder, by the id that it wrote there.
func killRunner(t *testing.T, claim string) {
	t.Helper()
	text, err := os.ReadFile(claim)
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal(text, &c); err != nil || c.PID < 2 {
		t.Fatalf("%s: %v", text, err)
	}
	if err := syscall.Kill(c.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}
