package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// backedUp is a database that a service has open, and a backup of it to which
// two runs are missing.
func backedUp(t *testing.T) (s *store.Store, url, file string) {
	t.Helper()
	s, url = openNew(t)
	file = filepath.Join(t.TempDir(), "backup.db")
	if _, err := store.Backup(t.Context(), store.BackupConfig{URL: url, File: file}); err != nil {
		t.Fatal(err)
	}
	admit(t, s, "dev_us-east-1/research/1.2")
	admit(t, s, "dev_us-east-1/research/1.3")
	return s, url, file
}

// restored restores and opens the database.
func restored(t *testing.T, cfg store.RestoreConfig) (store.Restored, *store.Store) {
	t.Helper()
	cfg.Actor = "ann@host"
	cfg.Now = func() time.Time { return time.Date(2026, 11, 23, 4, 5, 6, 0, time.UTC) }
	got, err := store.Restore(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), store.Config{URL: cfg.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	verifyLog(t, s)
	return got, s
}

func TestRestoreTakesThePlaceOfADatabase(t *testing.T) {
	old, url, file := backedUp(t)
	path := strings.TrimPrefix(url, "sqlite://")
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	before := inspect(t, file)
	got, s := restored(t, store.RestoreConfig{URL: url, File: file})
	if got.Snapshot != before || got.Kept != path+".replaced-20261123T040506Z" || got.FirstRun != 1005 {
		t.Errorf("restored: %+v, the backup: %+v", got, before)
	}
	all := entries(t, s)
	last := all[len(all)-1]
	if int64(len(all)) != before.Audit.Size+1 || last.Action != "database.restored" || last.Actor != "ann@host" ||
		last.Details["backup_root"] != before.Audit.Root {
		t.Errorf("%d entries, the last is %+v", len(all), last)
	}
	if id := admit(t, s, "dev_us-east-1/research/1.2"); id != got.FirstRun {
		t.Errorf("the next run is %d, want %d", id, got.FirstRun)
	}
	if kept := inspect(t, got.Kept); kept.LastRun != 4 || kept.Audit.Size != before.Audit.Size+2 {
		t.Errorf("the old database: %+v", kept)
	}
	if after := inspect(t, file); after != before {
		t.Errorf("the backup has become %+v, was %+v", after, before)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantAlone(t, filepath.Dir(path), filepath.Base(path), filepath.Base(got.Kept))
}

// TestRestoreAfterAKill replaces a database whose last writes are beside it.
func TestRestoreAfterAKill(t *testing.T) {
	s, url, file := backedUp(t)
	crashed := "sqlite://" + filepath.Join(t.TempDir(), "waymark.db")
	for _, suffix := range []string{"", "-wal"} { // as a killed process leaves them
		text, err := os.ReadFile(strings.TrimPrefix(url, "sqlite://") + suffix)
		if err == nil {
			err = os.WriteFile(strings.TrimPrefix(crashed, "sqlite://")+suffix, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	head, err := s.AuditHead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, _ := restored(t, store.RestoreConfig{URL: crashed, File: file})
	kept, err := store.Open(t.Context(), store.Config{URL: "sqlite://" + got.Kept})
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	if has, err := kept.AuditHead(t.Context()); err != nil || has != head {
		t.Errorf("the old database has %+v, %v, want %+v", has, err, head)
	}
}

func TestRestoreWithoutAReadableDatabase(t *testing.T) {
	_, _, file := backedUp(t)
	for name, damaged := range map[string]string{"none": "", "damaged": strings.Repeat("no database", 1000)} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "waymark.db")
			if damaged != "" {
				if err := errors.Join(os.WriteFile(path, []byte(damaged), 0o600), os.WriteFile(path+"-wal", []byte("torn"), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			got, s := restored(t, store.RestoreConfig{URL: "sqlite://" + path, File: file, RunsAbove: 70})
			if id := admit(t, s, "dev_us-east-1/research/9.0"); id != 1071 || got.FirstRun != 1071 {
				t.Errorf("the next run is %d, said %d", id, got.FirstRun)
			}
			if (got.Kept == "") != (damaged == "") {
				t.Errorf("kept %q", got.Kept)
			}
			for suffix, want := range map[string]string{"": damaged, "-wal": "torn"} {
				if text, err := os.ReadFile(got.Kept + suffix); got.Kept != "" && (err != nil || string(text) != want) {
					t.Errorf("kept%s: %d bytes, %v", suffix, len(text), err)
				}
			}
		})
	}
}

func TestRestoreRefusesAndTouchesNothing(t *testing.T) {
	s, url, file := backedUp(t)
	path := strings.TrimPrefix(url, "sqlite://")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(t.TempDir(), "half.db")
	if err := os.WriteFile(half, text[:len(text)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 23, 4, 5, 6, 0, time.UTC)
	taken := path + ".replaced-20261123T040506Z"
	for name, c := range map[string]struct {
		file, text string
		is         error
	}{
		"damaged":      {half, "damaged", release.ErrInvalid},
		"missing":      {half + ".no", "there is no file", release.ErrNotFound},
		"itself":       {path, "is the database itself", release.ErrConflict},
		"name is used": {file, "is there already", release.ErrConflict},
	} {
		if err := os.WriteFile(taken, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := store.Restore(t.Context(), store.RestoreConfig{URL: url, File: c.file, Now: func() time.Time { return at }})
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
		wantAlone(t, filepath.Dir(path), filepath.Base(path), filepath.Base(taken))
	}
	s, err = store.Open(t.Context(), store.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := actions(t, s); slices.Contains(got, "database.restored") || got[len(got)-1] != "run.queued" {
		t.Errorf("the log ends with %q", got[len(got)-1])
	}
}
