package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/release"
)

// configured makes the world's environment that of commands that read the
// configuration themselves.
func (w *world) configured() {
	w.t.Helper()
	for k, v := range w.env {
		w.t.Setenv(k, v)
	}
}

// TestBackupAndRestore backs up the database of a service in another process,
// and goes back to it.
func TestBackupAndRestore(t *testing.T) {
	w := newWorld(t, "")
	w.configured()
	file := filepath.Join(t.TempDir(), "waymark.backup")
	w.spawn()
	w.contact()
	w.push("dev_us-east-1/research/1.0")
	first := w.until("dev_us-east-1/research/1.0", release.Succeeded)
	out := w.mustCLI("backup", "--config", w.file, file)
	wantText(t, out, "backed up to "+file, "everything up to 20", "audit log verified")
	if code, _, errs := w.cli("backup", "--config", w.file, file); code != exitConflict || !strings.Contains(errs, "is there already") {
		t.Errorf("a backup over another: exit %d %s", code, errs)
	}
	w.push("dev_us-east-1/research/1.1")
	w.until("dev_us-east-1/research/1.1", release.Succeeded)
	if code, _, errs := w.cli("restore", "--config", w.file, file); code != exitConflict || !strings.Contains(errs, "in use by another waymark") {
		t.Errorf("a restore under the service: exit %d %s", code, errs)
	}
	w.stop()

	out = w.mustCLI("restore", "--config", w.file, file)
	wantText(t, out, "restored "+file, "the database that was there is now "+filepath.Join(w.dir, "data/waymark.db.replaced-"),
		"waymark serve --config "+w.file, "New runs begin at ")
	w.spawn()
	if got := w.until("dev_us-east-1/research/1.0", release.Succeeded); got.ID != first.ID {
		t.Errorf("the run of the backup is %s, was %s", got.ID, first.ID)
	}
	again := w.until("dev_us-east-1/research/1.1", release.Succeeded)
	if id, err := strconv.Atoi(again.ID); err != nil || !strings.Contains(out, fmt.Sprintf("New runs begin at %d.", id)) {
		t.Errorf("the newer tag's run is %s; said was:\n%s", again.ID, out)
	}
	if c := again.Changes; c.Add+c.Change+c.Destroy != 0 {
		t.Errorf("what was deployed already has changes: %+v", c)
	}
	wantText(t, w.mustCLI("audit", "verify"), "verified: ")
	wantText(t, w.mustCLI("audit", "export"), "database.restored")
}

func TestRestoreWaitsForRunners(t *testing.T) {
	w := newWorld(t, "")
	w.configured()
	w.remote.Commit(map[string]string{"main.tf": slowCode})
	kill := w.spawn()
	w.contact()
	file := filepath.Join(t.TempDir(), "waymark.backup")
	w.mustCLI("backup", "--config", w.file, file)
	w.push("dev_us-east-1/research/1.0")
	work := ""
	w.await("the apply", func() bool {
		found, _ := filepath.Glob(filepath.Join(w.dir, "data/runs/1/*/tree/ran"))
		if len(found) == 1 {
			work = filepath.Dir(found[0])
		}
		return work != ""
	})
	kill()
	if code, _, errs := w.cli("restore", "--config", w.file, file); code != exitConflict || !strings.Contains(errs, "apply-1 is still at work") {
		t.Errorf("a restore under a runner: exit %d %s", code, errs)
	}
	if err := os.WriteFile(filepath.Join(work, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := 0, "", ""
	w.await("the runner's end", func() bool {
		code, out, errs = w.cli("restore", "--config", w.file, file)
		return code != exitConflict
	})
	if code != exitDone || !strings.Contains(out, "New runs begin at 1002.") {
		t.Errorf("exit %d %s%s", code, out, errs)
	}
}

func TestBackupAndRestoreRefuse(t *testing.T) {
	w := newWorld(t, "")
	w.configured()
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(code int, says string, args ...string) {
		t.Helper()
		args = append(args, "--config", w.file)
		if got, out, errs := w.cli(args...); got != code || !strings.Contains(errs, says) || out != "" {
			t.Errorf("%q: exit %d %s%s, want %d with %q", args, got, out, errs, code, says)
		}
	}
	check(exitUsage, "takes FILE, and was given 0", "backup")
	check(exitUsage, "takes FILE, and was given 0", "restore")
	check(exitNotFound, "there is no database", "backup", text+".new")
	check(exitUsage, "no database of waymark", "restore", text)
	check(exitNotFound, "there is no file", "restore", text+".new")
	if _, err := os.Stat(filepath.Join(w.dir, "data/waymark.db")); !os.IsNotExist(err) {
		t.Errorf("a database was made: %v", err)
	}
	t.Setenv("WORLD_DATABASE", "postgres://ann:hunter2@db.example.org/waymark")
	for _, command := range []string{"backup", "restore"} {
		check(exitRefused, "pg_dump --format=custom --file=waymark.dump --dbname='postgres://ann@db.example.org/waymark'", command, text)
		check(exitRefused, "pg_restore --clean --if-exists --single-transaction --dbname='postgres://ann@db.example.org/waymark' waymark.dump", command, text)
	}
}
