// Package store owns what Waymark remembers: releases, runs, targets, the audit
// log and the job engine's tables, in SQLite or in Postgres with the same code.
//
// Every exported method that changes something is one transaction, and the
// audit entry of the change is written in it: where the entry cannot be
// written, the change does not happen. The job engine's jobs are wake-up calls
// and nothing more; who may run is decided by the rows here. This package must
// never run a tool, read a repository or speak HTTP.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/waymark-cd/waymark/release"
)

//go:embed migrations
var migrations embed.FS

// Config says which database to use.
type Config struct {
	// URL is "sqlite:///absolute/path/waymark.db" or a "postgres://" URL.
	URL    string
	Logger *slog.Logger     // nil: nothing is logged
	Now    func() time.Time // nil: time.Now
	// Mask takes secrets out of reasons, summaries, messages and details before they
	// are stored. Nil: they are stored as they are.
	Mask func(string) string
}

// Store is an open database.
type Store struct {
	db      database
	changes *changes
	mask    func(string) string // nil: nothing is masked
	log     *slog.Logger
	now     func() time.Time
}

// sqlitePragmas: WAL lets readers go on beside the one writer, and FULL makes a
// committed audit entry survive a power cut. A connection keeps up to 8 MB of pages,
// enough for the indexes of a million runs as far as a page of the board reads them.
const sqlitePragmas = "?_pragma=journal_mode(WAL)&_pragma=cache_size(-8000)&_pragma=busy_timeout(10000)&_pragma=synchronous(FULL)&_txlock=immediate"

// sqliteConnections read side by side; one writes.
const sqliteConnections = 8

// Open opens the database and brings its schema up to date. Errors wrap
// release.ErrInvalid for a URL that names no supported database, and
// release.ErrUnavailable where the database cannot be reached.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	s := &Store{changes: newChanges(), mask: cfg.Mask, log: cfg.Logger, now: cfg.Now}
	if s.log == nil {
		s.log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if s.now == nil {
		s.now = time.Now
	}
	var err error
	switch path, isSQLite := strings.CutPrefix(cfg.URL, "sqlite://"); {
	case isSQLite && filepath.IsAbs(path):
		s.db, err = openSQLite(ctx, path, s.changes, s.log)
	case strings.HasPrefix(cfg.URL, "postgres://"), strings.HasPrefix(cfg.URL, "postgresql://"):
		s.db, err = openPostgres(ctx, cfg.URL, s.log)
	default:
		return nil, fmt.Errorf("%w database URL: write sqlite:///absolute/path or postgres://…", release.ErrInvalid)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Close closes the database. Work must have returned.
func (s *Store) Close() error { return s.db.close() }

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.db.ping(ctx); err != nil {
		return fmt.Errorf("%w: the database does not answer: %w", release.ErrUnavailable, err)
	}
	return nil
}

func openSQLite(ctx context.Context, path string, changes *changes, log *slog.Logger) (database, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	db, err := sql.Open("sqlite", "file:"+path+sqlitePragmas)
	if err != nil {
		return nil, fmt.Errorf("opening the database %s: %w", path, err)
	}
	db.SetMaxOpenConns(sqliteConnections)
	db.SetMaxIdleConns(sqliteConnections) // a new one reads the schema and has no pages yet
	driver := riversqlite.New(db)
	if err := migrate(ctx, goose.DialectSQLite3, db, "migrations/sqlite", driver, log); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the database %s: %w", path, err), db.Close())
	}
	client, err := river.NewClient(driver, insertOnly(log))
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &sqliteDB{db: db, client: client, announcer: newAnnouncer(), changes: changes}, nil
}

func openPostgres(ctx context.Context, url string, log *slog.Logger) (database, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("%w database URL: it does not parse as a Postgres URL", release.ErrInvalid)
	}
	cfg.MaxConns = max(cfg.MaxConns, 8)
	// A plan for any value takes a rare state for one of all runs, and looks through them.
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "SET plan_cache_mode = force_custom_plan")
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("%w: opening the database: %w", release.ErrUnavailable, err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		if refusal := new(pgconn.PgError); errors.As(err, &refusal) && (strings.HasPrefix(refusal.Code, "28") || strings.HasPrefix(refusal.Code, "3D")) {
			return nil, fmt.Errorf("%w database URL: the server on %s refuses it: %w", release.ErrInvalid, cfg.ConnConfig.Host, err)
		}
		return nil, fmt.Errorf("%w: the database on %s does not answer: %w", release.ErrUnavailable, cfg.ConnConfig.Host, err)
	}
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	driver := riverpgxv5.New(pool)
	if err := migrate(ctx, goose.DialectPostgres, db, "migrations/postgres", driver, log); err != nil {
		pool.Close()
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	client, err := river.NewClient(driver, insertOnly(log))
	if err != nil {
		pool.Close()
		return nil, err
	}
	return &postgresDB{pool: pool, client: client}, nil
}

// migrationLock is an advisory lock of Postgres, so that of several replicas
// one migrates and the others wait.
const migrationLock = 0x7761796d61726b // "waymark"

// migrate brings our own tables and the job engine's up to date, and refuses a
// database that a newer version has written.
func migrate[TTx any](ctx context.Context, dialect goose.Dialect, db *sql.DB, dir string,
	driver riverdriver.Driver[TTx], log *slog.Logger) error {
	files, err := fs.Sub(migrations, dir)
	if err != nil {
		return err
	}
	if dialect == goose.DialectPostgres {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", migrationLock); err != nil {
			return err
		}
		defer conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", migrationLock)
		if err := refuseLoner(ctx, conn); err != nil {
			return err
		}
	}
	provider, err := goose.NewProvider(dialect, db, files)
	if err != nil {
		return err
	}
	has, want, err := provider.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("reading the schema's version: %w", err)
	}
	if has > want {
		return fmt.Errorf("%w: its schema has version %d and this waymark knows %d: start the newer waymark that wrote it, or restore a backup",
			release.ErrRefused, has, want)
	}
	// The job engine's tables come first: ours tell what to do with its jobs.
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: quiet(log)})
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("migrating the job engine's tables: %w", err)
	}
	err = pastDeadlocks(func() error { _, err := provider.Up(ctx); return err })
	if err != nil {
		return fmt.Errorf("migrating the schema: %w", err)
	}
	return nil
}

// lonerLock is the advisory lock that versions of before the replicas hold for
// as long as they drive runs; "wmk-work".
const lonerLock = 0x776d6b2d776f726b

// refuseLoner refuses a database on which a version of before the replicas is at
// work: it would go on driving the runs that others take. A connection of one
// that was just killed may take a while to be noticed by Postgres.
func refuseLoner(ctx context.Context, conn *sql.Conn) error {
	if _, err := conn.ExecContext(ctx, "SET lock_timeout = '5s'"); err != nil {
		return err
	}
	defer conn.ExecContext(context.WithoutCancel(ctx), "RESET lock_timeout")
	_, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", lonerLock)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "55P03" { // lock_not_available
		return fmt.Errorf("%w: an older waymark that shares with no other is at work on this database: stop it, then start this one", release.ErrConflict)
	}
	if err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, "SELECT pg_advisory_unlock($1)", lonerLock)
	return err
}

// insertOnly configures the client that makes calls. Its cooldown is what the
// engine holds announcements back by; a longer one than the worker's fetch
// cooldown loses announcements until the next poll.
func insertOnly(log *slog.Logger) *river.Config {
	return &river.Config{Logger: quiet(log), FetchCooldown: river.FetchCooldownMin}
}

// quiet passes on what the job engine warns of, and not its daily routine.
func quiet(log *slog.Logger) *slog.Logger { return slog.New(warnOnly{log.Handler()}) }

type warnOnly struct{ slog.Handler }

func (h warnOnly) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && h.Handler.Enabled(ctx, l)
}
func (h warnOnly) WithAttrs(a []slog.Attr) slog.Handler { return warnOnly{h.Handler.WithAttrs(a)} }
func (h warnOnly) WithGroup(n string) slog.Handler      { return warnOnly{h.Handler.WithGroup(n)} }

// millis stores a time as milliseconds since 1970 in UTC, zero as 0.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// fromMillis reads what millis stored.
func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// Shared reports whether other processes may use the database at the same time.
func (s *Store) Shared() bool {
	_, is := s.db.(*postgresDB)
	return is
}
