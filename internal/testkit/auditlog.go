package testkit

import (
	"database/sql"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"golang.org/x/mod/sumdb/tlog"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// AuditLog is the audit log of a database in the hands of somebody who may write
// to it, and who knows how to make the hashes fit again.
type AuditLog struct {
	t  testing.TB
	db *sql.DB
}

// OpenAuditLog opens the log of a database by its URL, as store.Open takes it.
// It is closed when the test ends.
func OpenAuditLog(t testing.TB, url string) *AuditLog {
	t.Helper()
	driver, source := "pgx", url
	if path, ok := strings.CutPrefix(url, "sqlite://"); ok {
		driver, source = "sqlite", "file:"+path+"?_pragma=busy_timeout(10000)"
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return &AuditLog{t, db}
}

// Rewrite gives the log other leaves and all hashes that follow from them, as if
// there had never been any others.
func (l *AuditLog) Rewrite(change func(leaves []string) []string) {
	l.t.Helper()
	leaves := change(l.Leaves())
	tx, err := l.db.BeginTx(l.t.Context(), nil)
	if err != nil {
		l.t.Fatal(err)
	}
	defer tx.Rollback()
	do := func(query string, args ...any) {
		l.t.Helper()
		if _, err := tx.ExecContext(l.t.Context(), query, args...); err != nil {
			l.t.Fatal(err)
		}
	}
	do("DELETE FROM audit_entries")
	do("DELETE FROM audit_hashes")
	var hashes []tlog.Hash
	read := tlog.HashReaderFunc(func(at []int64) (out []tlog.Hash, _ error) {
		for _, x := range at {
			out = append(out, hashes[x])
		}
		return out, nil
	})
	for i, leaf := range leaves {
		fresh, err := tlog.StoredHashes(int64(i), []byte(leaf), read)
		if err != nil {
			l.t.Fatal(err)
		}
		for _, h := range fresh {
			do("INSERT INTO audit_hashes (idx, hash) VALUES ($1, $2)", len(hashes), h[:])
			hashes = append(hashes, h)
		}
		do("INSERT INTO audit_entries (idx, target, run_id, leaf) VALUES ($1, '', 0, $2)", i, leaf)
	}
	do("UPDATE audit_head SET size = $1", len(leaves))
	if err := tx.Commit(); err != nil {
		l.t.Fatal(err)
	}
}

// EditLeaf replaces a leaf and leaves the hashes as they are.
func (l *AuditLog) EditLeaf(index int64, leaf string) {
	l.t.Helper()
	if _, err := l.db.ExecContext(l.t.Context(), "UPDATE audit_entries SET leaf = $1 WHERE idx = $2", leaf, index); err != nil {
		l.t.Fatal(err)
	}
}

// Leaves returns all leaves in order.
func (l *AuditLog) Leaves() []string {
	l.t.Helper()
	rows, err := l.db.QueryContext(l.t.Context(), "SELECT leaf FROM audit_entries ORDER BY idx")
	if err != nil {
		l.t.Fatal(err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var leaf string
		if err := rows.Scan(&leaf); err != nil {
			l.t.Fatal(err)
		}
		out = append(out, leaf)
	}
	if err := rows.Err(); err != nil {
		l.t.Fatal(err)
	}
	return out
}
