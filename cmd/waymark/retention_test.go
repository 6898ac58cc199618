package main

import (
	"database/sql"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/release"
)

// age makes every run of a database that has ended have done so a while ago, and
// its folder in data be as old.
func age(t *testing.T, driver, source, data string, by time.Duration) {
	t.Helper()
	then := time.Now().Add(-by)
	if err := filepath.WalkDir(filepath.Join(data, "runs"), func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = os.Chtimes(path, then, then)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), fmt.Sprintf("UPDATE runs SET finished_at = finished_at - %d WHERE finished_at > 0", by.Milliseconds())); err != nil {
		t.Fatal(err)
	}
}

func isGone(path string) bool {
	_, err := os.Stat(path)
	return os.IsNotExist(err)
}

// TestRetentionForgetsRuns starts a service on a record that is older than the
// configured retention.
func TestRetentionForgetsRuns(t *testing.T) {
	w := newWorld(t, "")
	w.serve()
	w.contact()
	tag := func(version int) string { return fmt.Sprintf("dev_us-east-1/research/1.%d", version) }
	for i := range 3 {
		w.push(tag(i))
		w.until(tag(i), release.Succeeded)
	}
	w.stop()
	age(t, "sqlite", filepath.Join(w.dir, "data/waymark.db"), filepath.Join(w.dir, "data"), 25*time.Hour)
	strange := filepath.Join(w.dir, "data/runs/77")
	if err := os.Mkdir(strange, 0o700); err != nil { // of a run that a restore took off the record
		t.Fatal(err)
	}
	w.configure(`retention { runs = "24h" }`)
	w.serve()
	w.await("the old runs to be forgotten", func() bool { return len(w.runs()) == 1 })
	w.await("their folders to be removed", func() bool {
		left, err := filepath.Glob(filepath.Join(w.dir, "data/runs/[123]"))
		return err == nil && len(left) == 0
	})
	if isGone(strange) {
		t.Error("the fresh folder of a run that is not on record was removed")
	}
	if code, _, _ := w.cli("runs", "show", "1"); code != exitNotFound {
		t.Errorf("a forgotten run: exit %d, want %d", code, exitNotFound)
	}
	wantText(t, w.mustCLI("status"), "dev_us-east-1/research", "1.2")
	wantText(t, w.mustCLI("runs", "logs", "3"), "the log was removed after 24h, as retention { logs } says", "run 3 succeeded")
	wantText(t, strings.Join(w.actions(), " "), "runs.forgotten")
	wantText(t, w.mustCLI("audit", "verify"), "verified:")
	w.push(tag(3)) // and on it goes
	if r := w.until(tag(3), release.Succeeded); r.ID != "4" {
		t.Errorf("the next run is %s, want 4", r.ID)
	}
	wantText(t, w.runLog("4"), "plan     == passed")
}

// TestRetentionRemovesLogsEverywhere has each worker remove old logs from its
// disk, and the one that leads from the blob store.
func TestRetentionRemovesLogsEverywhere(t *testing.T) {
	f := newFleet(t, 2, `retention { logs = "24h" }`)
	f.push(fleetTag)
	f.until(fleetTag, release.Succeeded)
	kept := filepath.Join(f.shared, "runs/1")
	f.await("the log in the blob store", func() bool { return !isGone(kept) })
	wantText(t, f.runLog("1"), "apply    == passed")
	for _, r := range f.all {
		r.stop()
	}
	age(t, "pgx", f.all[0].env["WORLD_DATABASE"], f.shared, 25*time.Hour)
	for _, r := range f.all {
		r.start()
	}
	f.ask(f.all[0])
	f.await("the log to be removed", func() bool {
		files, _ := filepath.Glob(filepath.Join(kept, "*/*/*"))
		return len(files) == 0 && isGone(filepath.Join(f.all[0].dir, "data/runs/1")) && isGone(filepath.Join(f.all[1].dir, "data/runs/1"))
	})
	for _, r := range f.all {
		f.ask(r)
		wantText(t, f.runLog("1"), "the log was removed after 24h, as retention { logs } says")
	}
	if n := len(f.runs()); n != 1 {
		t.Errorf("%d runs are on record, want the one", n)
	}
}
