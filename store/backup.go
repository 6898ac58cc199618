package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
)

// BackupConfig says what to back up, and where to.
type BackupConfig struct {
	URL  string // of the database, as Open takes it
	File string // must not be there
	// Progress is called with bytes, about once for each MiB; nil: nobody asks.
	Progress func(done, total int64)
	Verified func(done, total int64) // is called with entries of the copy's audit log; nil: nobody asks
}

// Snapshot is what a backup holds.
type Snapshot struct {
	Schema  int64      // version of the schema
	Bytes   int64      // size of the file
	Audit   audit.Head // of the log, which was verified
	LastAt  time.Time  // of the log's last entry; zero where there is none
	LastRun int64      // the highest id that a run was given
}

// Backup copies a SQLite database to a new file while a service writes to it.
// The file is the database as it was at one moment, readable by its owner
// alone, verified as by Inspect and forced to the disk; it appears whole or not
// at all. The database keeps its schema: nothing is migrated. Errors wrap
// release.ErrConflict where the file is there, ErrNotFound where there is no
// database, ErrInvalid where the copy does not verify, and ErrRefused for
// Postgres, with the command that makes a backup of it.
func Backup(ctx context.Context, cfg BackupConfig) (Snapshot, error) {
	path, err := sqlitePath(cfg.URL, "backed up")
	if err != nil {
		return Snapshot{}, err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return Snapshot{}, fmt.Errorf("%w: there is no database %s: is server { data_dir } the one of the service?", release.ErrNotFound, path)
	}
	if _, err := os.Lstat(cfg.File); err == nil {
		return Snapshot{}, existing(cfg.File)
	}
	aside, err := newAside(cfg.File)
	if err != nil {
		return Snapshot{}, fmt.Errorf("writing the backup: %w", err)
	}
	defer aside.remove()
	if err := copyDatabase(ctx, path, aside.path, cfg.Progress); err != nil {
		return Snapshot{}, fmt.Errorf("backing up %s: %w", path, err)
	}
	s, err := inspect(ctx, aside.path, cfg.Verified)
	if err != nil {
		return s, fmt.Errorf("verifying the copy of %s: %w", path, err)
	}
	return s, aside.publish(cfg.File)
}

func existing(file string) error {
	return fmt.Errorf("%w: %s is there already: give another name, or move it away", release.ErrConflict, file)
}

// sqlitePath is the file of a SQLite database.
func sqlitePath(databaseURL, done string) (string, error) {
	path, ok := strings.CutPrefix(databaseURL, "sqlite://")
	if !ok {
		dump, restore := postgresCommands(databaseURL)
		return "", fmt.Errorf("%w: a Postgres database is %s with its own tools (the password comes from PGPASSWORD or ~/.pgpass):\n"+
			"  to back it up:   %s\n  to restore it:   stop every waymark on it, then %s", release.ErrRefused, done, dump, restore)
	}
	return path, nil
}

// postgresCommands are the commands that back up and restore the database, for
// a shell, without the URL's password.
func postgresCommands(databaseURL string) (dump, restore string) {
	target := `"$DATABASE_URL"`
	if u, err := url.Parse(databaseURL); err == nil {
		if u.User != nil {
			u.User = url.User(u.User.Username())
		}
		query := u.Query()
		for name := range query {
			// Settings of our own driver are unknown to these tools.
			if name == "password" || strings.HasPrefix(name, "pool_") || strings.HasSuffix(name, "_cache_capacity") || name == "default_query_exec_mode" {
				query.Del(name)
			}
		}
		u.RawQuery = query.Encode()
		target = "'" + strings.ReplaceAll(u.String(), "'", `'\''`) + "'"
	}
	return "pg_dump --format=custom --file=waymark.dump --dbname=" + target,
		"pg_restore --clean --if-exists --single-transaction --dbname=" + target + " waymark.dump"
}

// sqliteFile is how to open a file, whatever its name holds.
func sqliteFile(path, parameters string) string {
	return (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: parameters}).String()
}

// pagesPerStep is how much is copied between looks at the context: 1 MiB.
const pagesPerStep = 256

// copyDatabase copies the database as it is at one moment. The transaction
// holds that moment, so that no writer makes the copy begin again, and in WAL
// mode holds up no writer.
func copyDatabase(ctx context.Context, from, to string, progress func(done, total int64)) error {
	db, err := sql.Open("sqlite", sqliteFile(from, "mode=rw&_pragma=busy_timeout(10000)"))
	if err != nil {
		return err
	}
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "BEGIN"); err != nil {
		return err
	}
	defer conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	var tables, pageSize int64
	if err := conn.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return err
	}
	if err := conn.QueryRowContext(ctx, "PRAGMA page_size").Scan(&pageSize); err != nil {
		return err
	}
	return conn.Raw(func(raw any) error {
		source, ok := raw.(interface {
			NewBackup(uri string) (*sqlite.Backup, error)
		})
		if !ok {
			return fmt.Errorf("the driver %T makes no backups", raw)
		}
		b, err := source.NewBackup(sqliteFile(to, ""))
		if err != nil {
			return err
		}
		return errors.Join(copyPages(ctx, b, pageSize, progress), b.Finish())
	})
}

func copyPages(ctx context.Context, b *sqlite.Backup, pageSize int64, progress func(done, total int64)) error {
	for more := true; more; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var err error
		if more, err = b.Step(pagesPerStep); err != nil {
			return err
		}
		if progress != nil {
			total := int64(b.PageCount())
			progress((total-int64(b.Remaining()))*pageSize, total*pageSize)
		}
	}
	return nil
}

// aside is a file that is written beside its final name.
type aside struct{ path string }

func newAside(file string) (aside, error) {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".unfinished-*") // for its owner alone
	if err != nil {
		return aside{}, err
	}
	return aside{f.Name()}, f.Close()
}

// publish forces the file to the disk and gives it its name, unless that is taken.
func (a aside) publish(file string) error {
	err := syncPath(a.path)
	if err == nil {
		err = os.Link(a.path, file)
	}
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) {
		// A file system without hard links, as on removable disks.
		if _, there := os.Lstat(file); there == nil {
			return existing(file)
		}
		err = os.Rename(a.path, file)
	}
	if errors.Is(err, fs.ErrExist) {
		return existing(file)
	}
	if err == nil {
		err = syncPath(filepath.Dir(file))
	}
	if err != nil {
		return fmt.Errorf("keeping %s: %w", file, err)
	}
	return nil
}

// remove removes what is left of it.
func (a aside) remove() {
	for _, suffix := range []string{"", "-journal", "-wal", "-shm"} {
		_ = os.Remove(a.path + suffix)
	}
}

// syncPath forces a file or a folder to the disk.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Inspect verifies a backup without changing it: every page, the version of the
// schema, and the audit log against its own hashes. Errors wrap
// release.ErrInvalid for a file that is damaged, no database of Waymark or in
// use, audit.ErrTampered beside it where it is the log, release.ErrNotFound for
// a missing file, and release.ErrRefused where a newer waymark has written it.
func Inspect(ctx context.Context, file string) (Snapshot, error) {
	return inspect(ctx, file, nil)
}

func inspect(ctx context.Context, file string, verified func(done, total int64)) (Snapshot, error) {
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Snapshot{}, fmt.Errorf("%w: there is no file %s", release.ErrNotFound, file)
	}
	if err != nil {
		return Snapshot{}, fmt.Errorf("reading the backup: %w", err)
	}
	for _, suffix := range []string{"-wal", "-journal"} {
		if beside, err := os.Stat(file + suffix); err == nil && beside.Size() > 0 {
			return Snapshot{}, fmt.Errorf("%w backup %s: %s%s beside it holds changes that are not in it, so it was copied from a database in use: make one with `waymark backup`", release.ErrInvalid, file, filepath.Base(file), suffix)
		}
	}
	// Immutable: nothing is written beside the file, and nobody else writes it.
	db, err := sql.Open("sqlite", sqliteFile(file, "mode=ro&immutable=1"))
	if err != nil {
		return Snapshot{}, fmt.Errorf("reading the backup: %w", err)
	}
	defer db.Close()
	s := Snapshot{Bytes: info.Size()}
	if err := s.read(ctx, db, verified); err != nil {
		var said *sqlite.Error
		if errors.As(err, &said) || errors.Is(err, audit.ErrTampered) {
			err = fmt.Errorf("%w backup: it is damaged, or no database of waymark: use another one: %w", release.ErrInvalid, err)
		}
		return s, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

func (s *Snapshot) read(ctx context.Context, db *sql.DB, verified func(done, total int64)) (err error) {
	if s.Schema, err = schemaOf(ctx, db); err != nil {
		return err
	}
	var whole string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&whole); err != nil {
		return err
	}
	if whole != "ok" {
		return fmt.Errorf("%w backup: it is damaged: %s: use another one", release.ErrInvalid, whole)
	}
	if s.LastRun, err = lastRun(ctx, sqlQuerier{db}); err != nil {
		return err
	}
	return s.verifyLog(ctx, &Store{db: &sqliteDB{db: db, announcer: newAnnouncer(), changes: newChanges()}}, verified)
}

// SchemaVersion is the version of the schema that Open brings a database to.
func SchemaVersion() (newest int64, err error) {
	files, err := fs.ReadDir(migrations, "migrations/sqlite")
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		v, err := goose.NumericComponent(f.Name())
		if err != nil {
			return 0, err
		}
		newest = max(newest, v)
	}
	return newest, nil
}

// schemaOf is the version of a database's schema, which must not be newer than ours.
func schemaOf(ctx context.Context, db *sql.DB) (has int64, err error) {
	if err := db.QueryRowContext(ctx, "SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied").Scan(&has); err != nil {
		return 0, err
	}
	want, err := SchemaVersion()
	if err != nil {
		return 0, err
	}
	if has > want {
		return has, fmt.Errorf("%w: its schema has version %d and this waymark knows %d: use the newer waymark that wrote it", release.ErrRefused, has, want)
	}
	return has, nil
}

// lastRun is the highest id that any run was given, also one that is deleted.
func lastRun(ctx context.Context, q querier) (id int64, err error) {
	err = q.row(ctx, "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'runs'").Scan(&id)
	return id, err
}

// verifyLog recomputes the audit log from its leaves.
func (s *Snapshot) verifyLog(ctx context.Context, log *Store, verified func(done, total int64)) error {
	var v audit.Verifier
	total := int64(0) // as the log itself says; nothing relies on it
	if head, err := log.AuditHead(ctx); err == nil {
		total = head.Size
	}
	for {
		if verified != nil && total > 0 {
			verified(v.Size(), total)
		}
		page, err := log.Entries(ctx, v.Size(), maxEntries)
		if err != nil {
			return err
		}
		for _, e := range page {
			if err := v.Add(e.Index, e.Leaf); err != nil {
				return err
			}
			s.LastAt = e.At
		}
		if len(page) == 0 {
			break
		}
	}
	var err error
	if s.Audit, err = log.AuditHead(ctx); err != nil {
		return fmt.Errorf("%w: %w", audit.ErrTampered, err)
	}
	if s.Audit.Size != v.Size() {
		return fmt.Errorf("%w: it has %d entries and says that there are %d", audit.ErrTampered, v.Size(), s.Audit.Size)
	}
	return v.Check(s.Audit)
}
