package fill

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	_ "modernc.org/sqlite" // the driver of the store
)

// sink takes rows as fast as a database can, and leaves it as if they had come one
// after the other: its indexes are made anew at the end.
type sink interface {
	begin(ctx context.Context) error
	rows(ctx context.Context, table string, columns []string, rows [][]any) error
	finish(ctx context.Context) error
	close(ctx context.Context) error
}

func open(ctx context.Context, url string) (sink, error) {
	path, isSQLite := strings.CutPrefix(url, "sqlite://")
	if !isSQLite {
		conn, err := pgx.Connect(ctx, url)
		return &postgresSink{conn: conn}, err
	}
	// Nobody else has it, and what a power cut takes is made anew.
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(OFF)&_pragma=synchronous(OFF)&_pragma=locking_mode(EXCLUSIVE)&_pragma=cache_size(-400000)&_pragma=temp_store(FILE)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return &sqliteSink{db: db, statements: map[string]*sql.Stmt{}}, nil
}

// ---- SQLite

type sqliteSink struct {
	db         *sql.DB
	tx         *sql.Tx
	statements map[string]*sql.Stmt
	indexes    []string // statements that make them
}

const sqliteIndexes = "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL AND tbl_name NOT LIKE 'river%' AND tbl_name NOT LIKE 'goose%'"

func (s *sqliteSink) begin(ctx context.Context) error {
	found, err := s.db.QueryContext(ctx, sqliteIndexes)
	if err != nil {
		return err
	}
	var names []string
	for found.Next() {
		var name, text string
		if err := found.Scan(&name, &text); err != nil {
			return err
		}
		names, s.indexes = append(names, name), append(s.indexes, text)
	}
	if err := errors.Join(found.Err(), found.Close()); err != nil {
		return err
	}
	for _, name := range names {
		if _, err := s.db.ExecContext(ctx, "DROP INDEX "+name); err != nil {
			return err
		}
	}
	if s.tx, err = s.db.BeginTx(ctx, nil); err == nil {
		_, err = s.tx.ExecContext(ctx, "DELETE FROM audit_head")
	}
	return err
}

func (s *sqliteSink) rows(ctx context.Context, table string, columns []string, rows [][]any) error {
	if table == hashesTable {
		return s.hashes(ctx, rows)
	}
	insert, ok := s.statements[table]
	if !ok {
		var err error
		insert, err = s.tx.PrepareContext(ctx, "INSERT INTO "+table+" ("+strings.Join(columns, ", ")+") VALUES (?"+strings.Repeat(", ?", len(columns)-1)+")")
		if err != nil {
			return err
		}
		s.statements[table] = insert
	}
	for _, row := range rows {
		if _, err := insert.ExecContext(ctx, row...); err != nil {
			return err
		}
	}
	return nil
}

// hashes writes the tree's hashes, which follow each other, in one statement: two
// for each entry would take as long as all the rest.
func (s *sqliteSink) hashes(ctx context.Context, rows [][]any) error {
	all := make([]byte, 0, len(rows)*hashSize)
	for _, row := range rows {
		all = append(all, row[1].([]byte)...)
	}
	_, err := s.tx.ExecContext(ctx, fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < %d)
		INSERT INTO %s (idx, hash) SELECT %d + i, substr(?1, i * %d + 1, %[4]d) FROM n`, len(rows), hashesTable, rows[0][0], hashSize), all)
	return err
}

func (s *sqliteSink) finish(ctx context.Context) error {
	for _, insert := range s.statements {
		if err := insert.Close(); err != nil {
			return err
		}
	}
	if err := s.tx.Commit(); err != nil {
		return err
	}
	for _, text := range s.indexes {
		if _, err := s.db.ExecContext(ctx, text); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
	}
	return nil
}

func (s *sqliteSink) close(context.Context) error { return s.db.Close() }

// ---- Postgres

type postgresSink struct {
	conn    *pgx.Conn
	indexes []string
}

const postgresIndexes = `SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema()
	AND tablename NOT LIKE 'river%' AND tablename NOT LIKE 'goose%'
	AND indexname NOT IN (SELECT conname FROM pg_constraint WHERE contype IN ('p', 'u'))`

func (s *postgresSink) begin(ctx context.Context) error {
	found, err := s.conn.Query(ctx, postgresIndexes)
	if err != nil {
		return err
	}
	var names []string
	var name, text string
	if _, err := pgx.ForEachRow(found, []any{&name, &text}, func() error {
		names, s.indexes = append(names, name), append(s.indexes, text)
		return nil
	}); err != nil {
		return err
	}
	for _, name := range names {
		if _, err := s.conn.Exec(ctx, "DROP INDEX "+name); err != nil {
			return err
		}
	}
	_, err = s.conn.Exec(ctx, "SET maintenance_work_mem = '512MB'; SET synchronous_commit = off; DELETE FROM audit_head")
	return err
}

func (s *postgresSink) rows(ctx context.Context, table string, columns []string, rows [][]any) error {
	_, err := s.conn.CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromRows(rows))
	return err
}

func (s *postgresSink) finish(ctx context.Context) error {
	for _, text := range s.indexes {
		if _, err := s.conn.Exec(ctx, text); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
	}
	for _, t := range []string{"runs", "releases", "freezes", "tokens"} {
		if _, err := s.conn.Exec(ctx, "SELECT setval(pg_get_serial_sequence('"+t+"', 'id'), (SELECT max(id) FROM "+t+"))"); err != nil {
			return fmt.Errorf("numbering %s: %w", t, err)
		}
	}
	_, err := s.conn.Exec(ctx, "VACUUM ANALYZE")
	if err == nil {
		_, err = s.conn.Exec(ctx, "CHECKPOINT")
	}
	return err
}

func (s *postgresSink) close(ctx context.Context) error { return s.conn.Close(ctx) }
