package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"modernc.org/sqlite"
)

// querier runs one statement. Statements are written once, with $1 parameters,
// for both databases.
type querier interface {
	exec(ctx context.Context, query string, args ...any) (affected int64, err error)
	query(ctx context.Context, query string, args ...any) (rows, error)
	row(ctx context.Context, query string, args ...any) scanner
	// clock is an expression for the database's own time in milliseconds, read
	// when the row at hand is. Replicas' clocks differ by minutes; this one is
	// the same for all. SQLite lives in this process and takes the machine's.
	clock() string
	// leafAction and leafActor are expressions for what an entry's leaf says, as the
	// indexes of audit_entries have them. An actor is as unquoted takes it.
	leafAction() string
	leafActor() string
	unquoted(actor string) string
	// anyCase is a column for LIKE with a pattern in lower case.
	anyCase(column string) string
	// newestAt selects the number of a place and the indexes of its newest entries of
	// the audit log below $1, the newest first and so many of each place. A place is
	// where the keys, with which an index begins, have the values of $2 and so on.
	newestAt(keys []string, places [][]any, each int) (query string, args []any)
	// oneOf is the condition that a column is one of some numbers, which are the one
	// parameter $place: the text of the statement is the same for all of them.
	oneOf(column string, place int, numbers []int64) (condition string, arg any)
	// amid is oneOf for many texts, among which a row that is read in another order is
	// sooner found than by an index of the column.
	amid(column string, place int, texts []string) (condition string, arg any)
}

// tx is a querier inside a transaction that can also queue a job.
type tx interface {
	querier
	// lock is appended to a SELECT that must hold its row until the end of the
	// transaction: SQLite has one writer and needs nothing.
	lock() string
	// answeredBy is an expression for the instance that answers, or was last to
	// answer, a job of the job engine's table.
	answeredBy() string
	insertJob(ctx context.Context, args RunArgs, queue string) error
	// tellEntries and tellRun let whoever watches hear, once it is committed, that
	// the audit log has grown, or a run has changed.
	tellEntries()
	tellRun(id int64)
}

// database is one of the two engines.
type database interface {
	querier
	// inTx does fn in a transaction. Where that ends in a deadlock fn is called again,
	// so that what it leaves outside may not depend on an earlier call.
	inTx(ctx context.Context, fn func(tx) error) error
	ping(ctx context.Context) error
	close() error
}

type scanner interface{ Scan(dest ...any) error }

type rows interface {
	scanner
	Next() bool
	Err() error
	Close()
}

// noRows reports that a query for one row found none, in either database.
func noRows(err error) bool { return errors.Is(err, sql.ErrNoRows) || errors.Is(err, pgx.ErrNoRows) }

// sqliteConstraint is SQLITE_CONSTRAINT, the low byte of every such code.
const sqliteConstraint = 19

// uniqueViolation reports that a unique index refused a row, in either database.
func uniqueViolation(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "23505"
	}
	var lite *sqlite.Error
	return errors.As(err, &lite) && lite.Code()&0xff == sqliteConstraint
}

// ---- SQLite

type sqliteDB struct {
	db        *sql.DB
	client    *river.Client[*sql.Tx]
	announcer *announcer
	changes   *changes
}

// sqlDo is what *sql.DB and *sql.Tx have in common.
type sqlDo interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

type sqlQuerier struct{ do sqlDo }

type sqlRows struct{ *sql.Rows }

func (r sqlRows) Close() { _ = r.Rows.Close() }

// questionMarks turns $1 into SQLite's ?1.
func questionMarks(query string) string {
	out := []byte(query)
	for i, c := range out {
		if c == '$' && i+1 < len(out) && '0' <= out[i+1] && out[i+1] <= '9' {
			out[i] = '?'
		}
	}
	return string(out)
}

func (q sqlQuerier) exec(ctx context.Context, query string, args ...any) (int64, error) {
	res, err := q.do.ExecContext(ctx, questionMarks(query), args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (q sqlQuerier) query(ctx context.Context, query string, args ...any) (rows, error) {
	r, err := q.do.QueryContext(ctx, questionMarks(query), args...)
	if err != nil {
		return nil, err
	}
	return sqlRows{r}, nil
}

func (q sqlQuerier) row(ctx context.Context, query string, args ...any) scanner {
	return q.do.QueryRowContext(ctx, questionMarks(query), args...)
}

func (sqlQuerier) clock() string { return "CAST(round(unixepoch('subsec') * 1000) AS INTEGER)" }

// A leaf that is no JSON, because somebody has changed it, has no actor.
func (sqlQuerier) leafAction() string {
	return `substr(leaf, instr(leaf, '"action":"') + 10, instr(substr(leaf, instr(leaf, '"action":"') + 10, 64), '"') - 1)`
}
func (sqlQuerier) leafActor() string {
	return `CASE WHEN json_valid(leaf) THEN json_extract(leaf, '$.actor') END`
}
func (sqlQuerier) unquoted(actor string) string { return actor }
func (sqlQuerier) anyCase(column string) string { return column } // its LIKE is for any case

func (sqlQuerier) newestAt(keys []string, places [][]any, each int) (query string, args []any) {
	condition := ""
	for i, key := range keys {
		condition += fmt.Sprintf("%s = (p.value ->> %d) AND ", key, i)
	}
	return fmt.Sprintf(`SELECT p.key, e.value FROM json_each($2) p, json_each((SELECT json_group_array(idx)
		FROM (SELECT idx FROM audit_entries WHERE %sidx < $1 ORDER BY idx DESC LIMIT %d))) e ORDER BY e.value DESC`, condition, each), []any{jsonText(places)}
}

func (sqlQuerier) oneOf(column string, place int, numbers []int64) (condition string, arg any) {
	return fmt.Sprintf("%s IN (SELECT value FROM json_each($%d))", column, place), jsonText(numbers)
}

// A plus keeps SQLite from the column's index.
func (sqlQuerier) amid(column string, place int, texts []string) (condition string, arg any) {
	return fmt.Sprintf("+%s IN (SELECT value FROM json_each($%d))", column, place), jsonText(texts)
}

type sqliteTx struct {
	sqlQuerier
	tx     *sql.Tx
	client *river.Client[*sql.Tx]
	queues []string // that jobs were inserted into
	told
}

func (*sqliteTx) lock() string { return "" }

func (*sqliteTx) answeredBy() string { return "json_extract(attempted_by, '$[#-1]')" }

func (t *sqliteTx) insertJob(ctx context.Context, args RunArgs, queue string) error {
	t.queues = append(t.queues, queue)
	_, err := t.client.InsertTx(ctx, t.tx, args, &river.InsertOpts{Queue: queue})
	return err
}

func (d *sqliteDB) inTx(ctx context.Context, fn func(tx) error) (err error) {
	t, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("beginning a transaction: %w", err)
	}
	defer func() {
		if err != nil {
			_ = t.Rollback()
		}
	}()
	mine := &sqliteTx{sqlQuerier: sqlQuerier{t}, tx: t, client: d.client}
	if err = fn(mine); err != nil {
		return err
	}
	if err = t.Commit(); err == nil {
		d.announcer.announce(mine.queues)
		if mine.any() {
			d.changes.tell(mine.changes())
		}
	}
	return err
}

func (d *sqliteDB) exec(ctx context.Context, q string, a ...any) (int64, error) {
	return sqlQuerier{d.db}.exec(ctx, q, a...)
}
func (d *sqliteDB) query(ctx context.Context, q string, a ...any) (rows, error) {
	return sqlQuerier{d.db}.query(ctx, q, a...)
}
func (d *sqliteDB) row(ctx context.Context, q string, a ...any) scanner {
	return sqlQuerier{d.db}.row(ctx, q, a...)
}
func (d *sqliteDB) clock() string                { return sqlQuerier{}.clock() }
func (d *sqliteDB) leafAction() string           { return sqlQuerier{}.leafAction() }
func (d *sqliteDB) leafActor() string            { return sqlQuerier{}.leafActor() }
func (d *sqliteDB) unquoted(actor string) string { return actor }
func (d *sqliteDB) anyCase(column string) string { return column }
func (d *sqliteDB) newestAt(keys []string, places [][]any, each int) (query string, args []any) {
	return sqlQuerier{}.newestAt(keys, places, each)
}
func (d *sqliteDB) oneOf(column string, place int, numbers []int64) (condition string, arg any) {
	return sqlQuerier{}.oneOf(column, place, numbers)
}
func (d *sqliteDB) amid(column string, place int, texts []string) (condition string, arg any) {
	return sqlQuerier{}.amid(column, place, texts)
}
func (d *sqliteDB) ping(ctx context.Context) error { return d.db.PingContext(ctx) }
func (d *sqliteDB) close() error                   { return d.db.Close() }

// ---- Postgres

type postgresDB struct {
	pool   *pgxpool.Pool
	client *river.Client[pgx.Tx]
}

// pgxDo is what *pgxpool.Pool and pgx.Tx have in common.
type pgxDo interface {
	Exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, query string, args ...any) pgx.Row
}

type pgxQuerier struct{ do pgxDo }

func (q pgxQuerier) exec(ctx context.Context, query string, args ...any) (int64, error) {
	tag, err := q.do.Exec(ctx, query, args...)
	return tag.RowsAffected(), err
}

func (q pgxQuerier) query(ctx context.Context, query string, args ...any) (rows, error) {
	return q.do.Query(ctx, query, args...)
}

func (q pgxQuerier) row(ctx context.Context, query string, args ...any) scanner {
	return q.do.QueryRow(ctx, query, args...)
}

func (pgxQuerier) clock() string { return "(extract(epoch FROM clock_timestamp()) * 1000)::bigint" }

// These are columns: the first of their names in a leaf, with quotes and all else as
// JSON escapes it, for Postgres 15 reads no JSON that may be broken.
func (pgxQuerier) leafAction() string { return "action" }
func (pgxQuerier) leafActor() string  { return "actor" }
func (pgxQuerier) unquoted(actor string) string {
	var out string
	if json.Unmarshal([]byte(`"`+actor+`"`), &out) != nil {
		return actor
	}
	return out
}

func (pgxQuerier) anyCase(column string) string { return "lower(" + column + ")" }

// Postgres, told that the keys are equal to values, may walk the whole log backwards
// in the hope of some soon. In the order of the keys it has the index alone.
func (pgxQuerier) newestAt(keys []string, places [][]any, each int) (query string, args []any) {
	var columns, lists, values, order string
	for i, key := range keys {
		kind, list := "text", make([]any, len(places))
		for n, place := range places {
			list[n] = place[i]
		}
		if _, number := list[0].(int64); number {
			kind = "bigint"
		}
		args = append(args, list)
		columns += key + ", "
		order += key + " DESC, "
		values += fmt.Sprintf("k%d, ", i)
		lists += fmt.Sprintf("$%d::%s[], ", i+2, kind)
	}
	return fmt.Sprintf(`SELECT n - 1, idx FROM unnest(%[1]s) WITH ORDINALITY p(%[2]sn) CROSS JOIN LATERAL
		(SELECT idx FROM audit_entries WHERE (%[3]sidx) >= (%[2]s0) AND (%[3]sidx) < (%[2]s$1) ORDER BY %[4]sidx DESC LIMIT %[5]d) e ORDER BY idx DESC`,
		strings.TrimSuffix(lists, ", "), values, columns, order, each), args
}

func (pgxQuerier) oneOf(column string, place int, numbers []int64) (condition string, arg any) {
	return fmt.Sprintf("%s = ANY($%d)", column, place), numbers
}

// Postgres knows how often each text is there.
func (pgxQuerier) amid(column string, place int, texts []string) (condition string, arg any) {
	return fmt.Sprintf("%s = ANY($%d)", column, place), texts
}

type postgresTx struct {
	pgxQuerier
	tx     pgx.Tx
	client *river.Client[pgx.Tx]
	told
}

func (*postgresTx) lock() string { return " FOR UPDATE" }

func (*postgresTx) answeredBy() string { return "attempted_by[array_upper(attempted_by, 1)]" }

func (t *postgresTx) insertJob(ctx context.Context, args RunArgs, queue string) error {
	made, err := t.client.InsertTx(ctx, t.tx, args, &river.InsertOpts{Queue: queue})
	if err != nil || made.UniqueSkippedAsDuplicate {
		return err
	}
	// The engine stamps a call with this process's clock, and others that share the
	// database may be minutes behind: a call is due by every clock.
	_, err = t.exec(ctx, "UPDATE river_job SET scheduled_at = scheduled_at - interval '1 day' WHERE id = $1", made.Job.ID)
	return err
}

// deadlocks is how often a transaction is tried that Postgres ends because of a
// deadlock. What wakes several runs meets the queue at its own books, which takes
// its rows in an order of its own, and what changes tables meets instances at work.
const deadlocks = 5

// pastDeadlocks does what is one transaction, or several that may be repeated.
func pastDeadlocks(do func() error) (err error) {
	for range deadlocks {
		err = do()
		if of, ok := errors.AsType[*pgconn.PgError](err); !ok || of.Code != "40P01" {
			break
		}
	}
	return err
}

func (d *postgresDB) inTx(ctx context.Context, fn func(tx) error) error {
	return pastDeadlocks(func() error { return d.tryTx(ctx, fn) })
}

func (d *postgresDB) tryTx(ctx context.Context, fn func(tx) error) error {
	return pgx.BeginFunc(ctx, d.pool, func(t pgx.Tx) error {
		mine := &postgresTx{pgxQuerier: pgxQuerier{t}, tx: t, client: d.client}
		if err := fn(mine); err != nil || !mine.any() {
			return err
		}
		// Postgres sends it when, and only if, the transaction is committed.
		_, err := mine.exec(ctx, "SELECT pg_notify($1, $2)", changesChannel, mine.notice())
		return err
	})
}

func (d *postgresDB) exec(ctx context.Context, q string, a ...any) (int64, error) {
	return pgxQuerier{d.pool}.exec(ctx, q, a...)
}
func (d *postgresDB) query(ctx context.Context, q string, a ...any) (rows, error) {
	return pgxQuerier{d.pool}.query(ctx, q, a...)
}
func (d *postgresDB) row(ctx context.Context, q string, a ...any) scanner {
	return pgxQuerier{d.pool}.row(ctx, q, a...)
}
func (d *postgresDB) clock() string                { return pgxQuerier{}.clock() }
func (d *postgresDB) leafAction() string           { return pgxQuerier{}.leafAction() }
func (d *postgresDB) leafActor() string            { return pgxQuerier{}.leafActor() }
func (d *postgresDB) unquoted(actor string) string { return pgxQuerier{}.unquoted(actor) }
func (d *postgresDB) anyCase(column string) string { return pgxQuerier{}.anyCase(column) }
func (d *postgresDB) newestAt(keys []string, places [][]any, each int) (query string, args []any) {
	return pgxQuerier{}.newestAt(keys, places, each)
}
func (d *postgresDB) oneOf(column string, place int, numbers []int64) (condition string, arg any) {
	return pgxQuerier{}.oneOf(column, place, numbers)
}
func (d *postgresDB) amid(column string, place int, texts []string) (condition string, arg any) {
	return pgxQuerier{}.amid(column, place, texts)
}
func (d *postgresDB) ping(ctx context.Context) error { return d.pool.Ping(ctx) }
func (d *postgresDB) close() error                   { d.pool.Close(); return nil }
