package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// openNew opens a SQLite database of a few MiB with two runs.
func openNew(t *testing.T) (s *store.Store, url string) {
	t.Helper()
	url = "sqlite://" + filepath.Join(t.TempDir(), "way mark.db")
	s, err := store.Open(t.Context(), store.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	admit(t, s, "dev_us-east-1/research/1.0")
	admit(t, s, "dev_us-east-1/research/1.1")
	for range 300 {
		write(t, s, strings.Repeat("long ", 3_000))
	}
	return s, url
}

// write adds an entry to the audit log.
func write(t *testing.T, s *store.Store, reason string) {
	t.Helper()
	if err := s.Log(context.WithoutCancel(t.Context()), audit.Entry{Action: "test.written", Reason: reason}); err != nil {
		t.Error(err)
	}
}

func inspect(t *testing.T, file string) store.Snapshot {
	t.Helper()
	s, err := store.Inspect(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantAlone expects that the folder has these files and nothing else.
func wantAlone(t *testing.T, dir string, want ...string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range list {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s has %q, want %q", dir, got, want)
	}
}

// TestBackupIsOneMomentOfADatabaseInUse writes before, in the middle of and
// after a copy, and all the time from two goroutines.
func TestBackupIsOneMomentOfADatabaseInUse(t *testing.T) {
	s, url := openNew(t)
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	var turn sync.Mutex // fair, as SQLite's waiting for its one writer is not
	for range 2 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				turn.Lock()
				write(t, s, fmt.Sprint(i))
				turn.Unlock()
			}
		})
	}
	for i := range 3 {
		file := filepath.Join(dir, fmt.Sprintf("a b?%d.db", i))
		before, err := s.AuditHead(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var steps, first int64
		got, err := store.Backup(t.Context(), store.BackupConfig{URL: url, File: file, Progress: func(done, total int64) {
			if steps++; steps == 1 {
				head, err := s.AuditHead(t.Context())
				if err != nil {
					t.Error(err)
				}
				first = head.Size
				turn.Lock()
				write(t, s, "in the middle")
				turn.Unlock()
			}
			if done > total || done <= 0 {
				t.Errorf("%d of %d bytes", done, total)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		if steps < 4 {
			t.Errorf("%d steps: the database is too small for this test", steps)
		}
		if got.Audit.Size < before.Size || got.Audit.Size > first {
			t.Errorf("the backup has %d entries, there were %d before and %d at its first step", got.Audit.Size, before.Size, first)
		}
		if again := inspect(t, file); again != got || again.LastRun != 2 || again.LastAt.IsZero() || again.Schema == 0 {
			t.Errorf("inspected: %+v, backed up: %+v", again, got)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 || info.Size() != got.Bytes {
			t.Errorf("the file: %v, %v", info, err)
		}
	}
	stop()
	writers.Wait()
	wantAlone(t, dir, "a b?0.db", "a b?1.db", "a b?2.db")
	verifyLog(t, s)
}

// TestBackupMigratesNothing backs up what an older waymark has written.
func TestBackupMigratesNothing(t *testing.T) {
	s, url := openNew(t)
	db := raw(t, url)
	do(t, db, "DELETE FROM goose_db_version WHERE version_id = (SELECT max(version_id) FROM goose_db_version)")
	want := int64(number(t, db, "SELECT max(version_id) FROM goose_db_version"))
	got, err := store.Backup(t.Context(), store.BackupConfig{URL: url, File: filepath.Join(t.TempDir(), "b.db")})
	if err != nil || got.Schema != want || int64(number(t, db, "SELECT max(version_id) FROM goose_db_version")) != want {
		t.Errorf("schema %d, %v, want %d", got.Schema, err, want)
	}
	write(t, s, "the service goes on")
}

func TestBackupRefuses(t *testing.T) {
	_, url := openNew(t)
	dir := t.TempDir()
	there, dangling := filepath.Join(dir, "there"), filepath.Join(dir, "dangling")
	if err := errors.Join(os.WriteFile(there, []byte("mine"), 0o600), os.Symlink("nowhere", dangling)); err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	for name, c := range map[string]struct {
		cfg  store.BackupConfig
		ctx  context.Context
		is   error
		text string
	}{
		"file there":   {store.BackupConfig{URL: url, File: there}, t.Context(), release.ErrConflict, "is there already"},
		"link there":   {store.BackupConfig{URL: url, File: dangling}, t.Context(), release.ErrConflict, "is there already"},
		"the database": {store.BackupConfig{URL: url, File: strings.TrimPrefix(url, "sqlite://")}, t.Context(), release.ErrConflict, "is there already"},
		"no database":  {store.BackupConfig{URL: "sqlite:///nowhere/x.db", File: filepath.Join(dir, "b")}, t.Context(), release.ErrNotFound, "data_dir"},
		"no folder":    {store.BackupConfig{URL: url, File: filepath.Join(dir, "nowhere/b")}, t.Context(), os.ErrNotExist, "writing the backup"},
		"cancelled": {store.BackupConfig{URL: url, File: filepath.Join(dir, "b"), Progress: func(int64, int64) { cancel() }}, cancelled,
			context.Canceled, "backing up"},
		"Postgres": {store.BackupConfig{URL: "postgres://u:pass@h:5433/d?password=pass&pool_max_conns=4&sslmode=require", File: filepath.Join(dir, "b")}, t.Context(), release.ErrRefused,
			"pg_dump --format=custom --file=waymark.dump --dbname='postgres://u@h:5433/d?sslmode=require'"},
	} {
		_, err := store.Backup(c.ctx, c.cfg)
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "pass@") {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantAlone(t, dir, "dangling", "there")
	if text, err := os.ReadFile(there); err != nil || string(text) != "mine" {
		t.Errorf("the file that was there: %q, %v", text, err)
	}
}

func TestInspectSeesDamage(t *testing.T) {
	s, url := openNew(t)
	good := filepath.Join(t.TempDir(), "good.db")
	if _, err := store.Backup(t.Context(), store.BackupConfig{URL: url, File: good}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	edit := func(query string) func(file string) error {
		return func(file string) error {
			db, err := sql.Open("sqlite", "file:"+file)
			if err != nil {
				return err
			}
			_, err = db.Exec(query)
			return errors.Join(err, db.Close())
		}
	}
	write := func(data []byte) func(file string) error {
		return func(file string) error { return os.WriteFile(file, data, 0o600) }
	}
	flipped := bytes.Clone(text)
	copy(flipped[len(text)/2:], make([]byte, 8192))
	for name, c := range map[string]struct {
		do   func(file string) error
		is   error
		text string
	}{
		"good":            {edit("SELECT 1"), nil, ""},
		"truncated":       {write(text[:len(text)/2]), release.ErrInvalid, "damaged"},
		"overwritten":     {write(flipped), release.ErrInvalid, "damaged"},
		"empty":           {write(nil), release.ErrInvalid, "no database of waymark"},
		"text":            {write([]byte(strings.Repeat("no database\n", 1000))), release.ErrInvalid, "no database of waymark"},
		"other database":  {func(file string) error { return errors.Join(os.Remove(file), edit("CREATE TABLE x (y)")(file)) }, release.ErrInvalid, "no database of waymark"},
		"edited entry":    {edit("UPDATE audit_entries SET leaf = replace(leaf, 'long', 'LONG') WHERE idx = 5"), audit.ErrTampered, "was changed"},
		"lost entry":      {edit("DELETE FROM audit_entries WHERE idx = (SELECT max(idx) FROM audit_entries)"), audit.ErrTampered, "says that there are"},
		"lost in between": {edit("DELETE FROM audit_entries WHERE idx = 5"), audit.ErrTampered, "follows entry"},
		"lost hashes":     {edit("DELETE FROM audit_hashes WHERE idx > 10"), audit.ErrTampered, "lacks"},
		"newer":           {edit("INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)"), release.ErrRefused, "use the newer waymark"},
		"copied in use":   {func(file string) error { return os.WriteFile(file+"-wal", []byte("x"), 0o600) }, release.ErrInvalid, "copied from a database in use"},
		"missing":         {os.Remove, release.ErrNotFound, "there is no file"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "b.db")
			if err := errors.Join(os.WriteFile(file, text, 0o600), c.do(file)); err != nil {
				t.Fatal(err)
			}
			_, err := store.Inspect(t.Context(), file)
			if !errors.Is(err, c.is) || err != nil && !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v, want %v with %q", err, c.is, c.text)
			}
			if errors.Is(c.is, audit.ErrTampered) && !errors.Is(err, release.ErrInvalid) {
				t.Errorf("%v does not wrap %v", err, release.ErrInvalid)
			}
		})
	}
}

// TestPostgresCommandsWork carries out what the refusal says.
func TestPostgresCommandsWork(t *testing.T) {
	url, empty := testkit.Postgres(t), testkit.Postgres(t)
	s, err := store.Open(t.Context(), store.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	id := admit(t, s, "dev_us-east-1/research/1.0")
	commands := func(url string) (dump, restore string) {
		_, err := store.Backup(t.Context(), store.BackupConfig{URL: url})
		_, also := store.Restore(t.Context(), store.RestoreConfig{URL: url})
		if !errors.Is(err, release.ErrRefused) || !errors.Is(also, release.ErrRefused) {
			t.Fatalf("%v; %v", err, also)
		}
		_, dump, _ = strings.Cut(err.Error(), "back it up:")
		dump, _, _ = strings.Cut(dump, "\n")
		_, restore, _ = strings.Cut(also.Error(), ", then ")
		return dump, restore
	}
	sh := func(dir, command string) {
		cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", command)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
	dir := t.TempDir()
	dump, restore := commands(url)
	sh(dir, dump)
	admit(t, s, "dev_us-east-1/research/2.0")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, elsewhere := commands(empty)
	for target, command := range map[string]string{url: restore, empty: elsewhere} {
		sh(dir, command)
		s, err := store.Open(t.Context(), store.Config{URL: target})
		if err != nil {
			t.Fatal(err)
		}
		verifyLog(t, s)
		if got := actions(t, s); len(got) != 1 {
			t.Errorf("after the restore the log has %q", got)
		}
		if _, err := s.Record(t.Context(), id); err != nil {
			t.Errorf("after the restore: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
