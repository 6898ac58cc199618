package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/release"
)

// Notification is how far one place outside has been told of runs. Its times are
// of the database's clock.
type Notification struct {
	Name     string
	Position int64 // index of the first audit entry that was not told
	Told     int64 // runs told of
	Dropped  int64 // runs that the other side refused to hear of for good
	Failures int64 // attempts in a row that failed
	Error    string
	ToldAt   time.Time
	FailedAt time.Time // zero where the last attempt succeeded
	RetryAt  time.Time // likewise
	Behind   int64     // entries from Position on
}

// maxNotificationError bounds what is kept of an error, in bytes.
const maxNotificationError = 500

const notificationColumns = `name, position, told, dropped, failures, error, told_at, failed_at, retry_at,
	(SELECT size FROM audit_head WHERE id = 1) - position`

func scanNotification(r scanner) (n Notification, err error) {
	var told, failed, retry int64
	err = r.Scan(&n.Name, &n.Position, &n.Told, &n.Dropped, &n.Failures, &n.Error, &told, &failed, &retry, &n.Behind)
	n.ToldAt, n.FailedAt, n.RetryAt, n.Behind = fromMillis(told), fromMillis(failed), fromMillis(retry), max(0, n.Behind)
	return n, err
}

// OpenNotification gives how far a place has been told of. One that is new, that
// nobody attended to for as long as stale, or that is ahead of the log because a
// backup was restored, begins at the end of the audit log: nobody is told of
// what is long over.
func (s *Store) OpenNotification(ctx context.Context, name string, stale time.Duration) (n Notification, err error) {
	if name == "" {
		return n, fmt.Errorf("%w notification: it has no name", release.ErrInvalid)
	}
	const end = "(SELECT size FROM audit_head WHERE id = 1)"
	err = s.db.inTx(ctx, func(t tx) error {
		_, err := t.exec(ctx, `INSERT INTO notifications (name, position, seen_at) VALUES ($1, `+end+`, `+t.clock()+`)
			ON CONFLICT (name) DO UPDATE SET seen_at = `+t.clock()+`,
				position = CASE WHEN notifications.seen_at < `+t.clock()+` - $2 OR notifications.position > `+end+` THEN `+end+` ELSE notifications.position END`,
			name, stale.Milliseconds())
		if err != nil {
			return err
		}
		n, err = scanNotification(t.row(ctx, "SELECT "+notificationColumns+" FROM notifications WHERE name = $1", name))
		return err
	})
	if err != nil {
		return n, fmt.Errorf("opening notification %q: %w", name, err)
	}
	return n, nil
}

// Tell moves a place's position from one index to another, with how many runs it
// was told of and how many it refused, and forgets its failures. A position that
// is not where it was thought to be is release.ErrConflict: somebody else tells.
// Without a reason the last error is kept only where something was dropped.
func (s *Store) Tell(ctx context.Context, name string, from, to, told, dropped int64, reason string) error {
	now := s.db.clock()
	n, err := s.db.exec(ctx, `UPDATE notifications SET position = $3, told = told + $4, dropped = dropped + $5,
		failures = 0, failed_at = 0, retry_at = 0, seen_at = `+now+`,
		error = CASE WHEN $5 > 0 THEN $6 WHEN $4 > 0 OR failures > 0 THEN '' ELSE error END,
		told_at = CASE WHEN $4 > 0 THEN `+now+` ELSE told_at END
		WHERE name = $1 AND position = $2`, name, from, to, told, dropped, cut(reason, maxNotificationError))
	if err != nil {
		return fmt.Errorf("moving notification %q to %d: %w", name, to, err)
	}
	if n == 0 {
		return fmt.Errorf("notification %q is not at %d any more: %w", name, from, release.ErrConflict)
	}
	return nil
}

// FailToTell says that a place could not be told, and when it is tried again.
func (s *Store) FailToTell(ctx context.Context, name, reason string, again time.Duration) error {
	now := s.db.clock()
	_, err := s.db.exec(ctx, `UPDATE notifications SET failures = failures + 1, error = $2, failed_at = `+now+`,
		retry_at = `+now+` + $3, seen_at = `+now+` WHERE name = $1`, name, cut(reason, maxNotificationError), again.Milliseconds())
	if err != nil {
		return fmt.Errorf("recording that notification %q failed: %w", name, err)
	}
	return nil
}

// Notifications lists every place on record by name, also those that are not
// configured any more.
func (s *Store) Notifications(ctx context.Context) ([]Notification, error) {
	rs, err := s.db.query(ctx, "SELECT "+notificationColumns+" FROM notifications ORDER BY name")
	if err != nil {
		return nil, fmt.Errorf("listing notifications: %w", err)
	}
	all, err := collect(rs, func(r rows) (Notification, error) { return scanNotification(r) })
	if err != nil {
		return nil, fmt.Errorf("listing notifications: %w", err)
	}
	return all, nil
}

// RunsOfCommit counts the runs of a target that were queued after a run, are of
// its kind and for the same commit: what they tell of the commit is newer.
func (s *Store) RunsOfCommit(ctx context.Context, r release.Run) (later int64, err error) {
	err = s.db.row(ctx, "SELECT count(*) FROM runs WHERE env = $1 AND scope = $2 AND team = $3 AND id > $4 AND commit_id = $5 AND kind = $6",
		r.Target.Env, r.Target.Scope, r.Target.Team, r.ID, r.Commit, string(r.Kind)).Scan(&later)
	if err != nil {
		return 0, fmt.Errorf("counting runs of commit %s: %w", r.Commit, err)
	}
	return later, nil
}

// cut shortens a text to at most n bytes that are valid UTF-8 and hold no zero
// byte, which Postgres takes in no text.
func cut(s string, n int) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s[:min(len(s), n)], ""), "\x00", "")
}
