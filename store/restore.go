package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
)

// RestoreConfig says which backup goes where.
type RestoreConfig struct {
	URL  string // of the database, as Open takes it
	File string // as Backup wrote it
	// RunsAbove is the highest id of a run that has left traces elsewhere, such
	// as a folder; 0 where none has.
	RunsAbove int64
	Actor     string                  // who restores, for the audit log
	Verified  func(done, total int64) // is called with entries of the backup's audit log, which is read twice; nil: nobody asks
	Now       func() time.Time
}

// Restored is what a restore has done.
type Restored struct {
	Snapshot        // of the backup
	Kept     string // the database that was there before; empty where there was none
	FirstRun int64  // the lowest id that the next run can get
}

// runGap is left between the highest known run and the next: runs that were
// begun after the backup, elsewhere or in a database that is lost, keep their
// ids in logs, blobs and the memory of people.
const runGap = 1000

// Restore puts a backup in the place of a SQLite database that no process has
// open: the caller sees to that. The backup is verified as by Inspect, copied,
// told in its audit log ("database.restored") that it was restored, and forced to the
// disk before anything is touched; the old database is kept beside it under a
// name with the time. Errors are those of Inspect and Backup; after one, the
// old database is in its place.
func Restore(ctx context.Context, cfg RestoreConfig) (Restored, error) {
	var out Restored
	path, err := sqlitePath(cfg.URL, "restored")
	if err != nil {
		return out, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if same, err := sameFile(cfg.File, path); err != nil || same {
		return out, errors.Join(err, conflictOf(same, path))
	}
	copied, err := newAside(path)
	if err != nil {
		return out, fmt.Errorf("copying the backup: %w", err)
	}
	defer copied.remove()
	// First where it lies, for what lies beside it; then the copy, which nobody
	// else can change any more.
	if out.Snapshot, err = inspect(ctx, cfg.File, cfg.Verified); err != nil {
		return out, err
	}
	if err := copyFile(cfg.File, copied.path); err != nil {
		return out, fmt.Errorf("copying the backup: %w", err)
	}
	if out.Snapshot, err = inspect(ctx, copied.path, cfg.Verified); err != nil {
		return out, err
	}
	last := max(cfg.RunsAbove, out.LastRun, knownRuns(ctx, path)) + runGap
	out.FirstRun = last + 1
	if err := recordRestore(ctx, copied.path, last, out.Snapshot, cfg); err != nil {
		return out, fmt.Errorf("recording the restore: %w", err)
	}
	out.Kept, err = replace(path, copied.path, cfg.Now())
	return out, err
}

func conflictOf(same bool, path string) error {
	if !same {
		return nil
	}
	return fmt.Errorf("%w: %s is the database itself", release.ErrConflict, path)
}

func sameFile(file, path string) (bool, error) {
	a, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("%w: there is no file %s", release.ErrNotFound, file)
	}
	if err != nil {
		return false, fmt.Errorf("reading the backup: %w", err)
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b), nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

// knownRuns is the highest id in the database that is replaced, as far as that
// can be read without touching it: it may be evidence. Its log of writes is
// left out, which runGap makes good.
func knownRuns(ctx context.Context, path string) int64 {
	db, err := sql.Open("sqlite", sqliteFile(path, "mode=ro&immutable=1"))
	if err != nil {
		return 0
	}
	defer db.Close()
	id, err := lastRun(ctx, sqlQuerier{db})
	if err != nil {
		return 0 // none is there, or it is damaged: that is why there are backups
	}
	return id
}

// recordRestore raises the ids of runs and writes the entry, in one transaction
// and with the schema as it is.
func recordRestore(ctx context.Context, path string, last int64, s Snapshot, cfg RestoreConfig) error {
	db, err := sql.Open("sqlite", sqliteFile(path, sqlitePragmas[1:]))
	if err != nil {
		return err
	}
	defer db.Close()
	log := &Store{db: &sqliteDB{db: db, announcer: newAnnouncer(), changes: newChanges()}, now: cfg.Now}
	err = log.db.inTx(ctx, func(t tx) error {
		raised, err := t.exec(ctx, "UPDATE sqlite_sequence SET seq = $1 WHERE name = 'runs'", last)
		if err == nil && raised == 0 {
			_, err = t.exec(ctx, "INSERT INTO sqlite_sequence (name, seq) VALUES ('runs', $1)", last)
		}
		if err != nil {
			return err
		}
		return log.appendEntries(ctx, t, audit.Entry{Actor: cfg.Actor, Action: "database.restored",
			Reason:  "a backup took the place of the database; what happened after it is missing from this log",
			Details: map[string]any{"backup_entries": s.Audit.Size, "backup_root": s.Audit.Root, "runs_go_on_after": last}})
	})
	if err != nil {
		return err
	}
	// All of it must be in the one file that is moved.
	_, err = db.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	return errors.Join(err, db.Close(), syncPath(path))
}

// replace gives a finished file the database's name. The old one is linked to
// its new name first, so that at no moment a database is missing: a service
// would make an empty one. The log of writes goes before the new file comes,
// because SQLite would play it into that.
func replace(path, by string, now time.Time) (kept string, err error) {
	kept = path + ".replaced-" + now.UTC().Format("20060102T150405Z")
	for _, suffix := range []string{"", "-wal"} {
		err := os.Link(path+suffix, kept+suffix)
		switch {
		case errors.Is(err, fs.ErrNotExist) && suffix == "":
			kept = ""
		case errors.Is(err, fs.ErrNotExist):
		case errors.Is(err, fs.ErrExist):
			return "", existing(kept + suffix)
		case err != nil:
			return "", fmt.Errorf("keeping the old database: %w", err)
		}
		if kept == "" {
			break
		}
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return kept, fmt.Errorf("putting the old database aside: %w", err)
		}
	}
	return kept, publishOver(by, path)
}

// publishOver renames a file that is on the disk over another.
func publishOver(file, over string) error {
	err := os.Rename(file, over)
	if err == nil {
		err = syncPath(filepath.Dir(over))
	}
	if err != nil {
		return fmt.Errorf("putting the backup in place: %w", err)
	}
	return nil
}
