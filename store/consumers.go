package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
)

// The kinds of consumer.
const (
	WebhookConsumer = "webhook"
	CopyConsumer    = "copy"
)

// Consumer is who is handed the audit log entry by entry. Its times are of the
// database's clock.
type Consumer struct {
	Name     string
	Kind     string
	Position int64     // index of the next entry
	SentAt   time.Time // when it last took one
	// Failures are those in a row since FailingSince; none: zero. RetryAt is when
	// it is tried next, and Trouble says what was wrong last.
	Failures     int64
	FailingSince time.Time
	RetryAt      time.Time
	Trouble      string

	Lag      int64         // entries that it has not been handed
	LagSince time.Time     // when the first of them was written; zero for none
	LagAge   time.Duration // since then
	Due      bool          // whether it may be tried now
}

// maxTrouble bounds what is kept of what was wrong, in bytes.
const maxTrouble = 500

// KeepConsumer sees to it that a consumer is on record. A new one begins at the
// log's first entry or, with atEnd, after its last. One of another kind is
// release.ErrConflict.
func (s *Store) KeepConsumer(ctx context.Context, name, kind string, atEnd bool) error {
	position := "0"
	if atEnd {
		position = "(SELECT size FROM audit_head WHERE id = 1)"
	}
	if _, err := s.db.exec(ctx, "INSERT INTO consumers (name, kind, position) VALUES ($1, $2, "+position+") ON CONFLICT (name) DO NOTHING", name, kind); err != nil {
		return fmt.Errorf("keeping consumer %q: %w", name, err)
	}
	c, err := s.Consumer(ctx, name)
	if err == nil && c.Kind != kind {
		err = fmt.Errorf("%w: consumer %q is on record as a %s: give this %s another name", release.ErrConflict, name, c.Kind, kind)
	}
	return err
}

// Consumers lists the consumers on record by name.
func (s *Store) Consumers(ctx context.Context) ([]Consumer, error) { return s.consumers(ctx, "") }

// Consumer returns one consumer, or release.ErrNotFound.
func (s *Store) Consumer(ctx context.Context, name string) (Consumer, error) {
	all, err := s.consumers(ctx, " WHERE c.name = $1", name)
	if err != nil {
		return Consumer{}, err
	}
	if len(all) == 0 {
		return Consumer{}, fmt.Errorf("consumer %q: %w: waymark consumers lists them", name, release.ErrNotFound)
	}
	return all[0], nil
}

func (s *Store) consumers(ctx context.Context, where string, args ...any) ([]Consumer, error) {
	now := s.db.clock()
	rs, err := s.db.query(ctx, `SELECT c.name, c.kind, c.position, c.sent_at, c.failures, c.failing_since, c.retry_at, c.trouble,
		h.size, coalesce(e.leaf, ''), `+now+` FROM consumers c JOIN audit_head h ON h.id = 1
		LEFT JOIN audit_entries e ON e.idx = c.position`+where+` ORDER BY c.name`, args...)
	if err != nil {
		return nil, fmt.Errorf("reading consumers: %w", err)
	}
	all, err := collect(rs, func(r rows) (Consumer, error) {
		var c Consumer
		var sent, since, retry, size, now int64
		var leaf string
		if err := r.Scan(&c.Name, &c.Kind, &c.Position, &sent, &c.Failures, &since, &retry, &c.Trouble, &size, &leaf, &now); err != nil {
			return c, err
		}
		c.SentAt, c.FailingSince, c.RetryAt = fromMillis(sent), fromMillis(since), fromMillis(retry)
		c.Lag, c.Due = max(0, size-c.Position), retry <= now
		if e, err := audit.Decode(c.Position, []byte(leaf)); err == nil && leaf != "" {
			c.LagSince, c.LagAge = e.At, max(0, fromMillis(now).Sub(e.At))
		}
		return c, nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading consumers: %w", err)
	}
	return all, nil
}

// Consumed moves a consumer on, from the position that the caller knows; sent
// says that it took something, and did not just leave out what is not for it.
// It reports false where somebody else has moved it meanwhile.
func (s *Store) Consumed(ctx context.Context, name string, from, to int64, sent bool) (bool, error) {
	at := "sent_at"
	if sent {
		at = s.db.clock()
	}
	n, err := s.db.exec(ctx, "UPDATE consumers SET position = $3, sent_at = "+at+`, failures = 0, failing_since = 0, retry_at = 0, trouble = ''
		WHERE name = $1 AND position = $2`, name, from, to)
	if err != nil {
		return false, fmt.Errorf("moving consumer %q on: %w", name, err)
	}
	return n == 1, nil
}

// ConsumerFailed notes that a consumer did not take what is at its position,
// why, and for how long it is left alone. Where it was moved meanwhile nothing
// happens.
func (s *Store) ConsumerFailed(ctx context.Context, name string, position int64, why string, wait time.Duration) error {
	now := s.db.clock()
	why = strings.ToValidUTF8(why[:min(len(why), maxTrouble)], "")
	if _, err := s.db.exec(ctx, "UPDATE consumers SET failures = failures + 1, trouble = $3, retry_at = "+now+` + $4,
		failing_since = CASE WHEN failures = 0 THEN `+now+` ELSE failing_since END WHERE name = $1 AND position = $2`,
		name, position, strings.ReplaceAll(why, "\x00", ""), wait.Milliseconds()); err != nil {
		return fmt.Errorf("noting the failure of consumer %q: %w", name, err)
	}
	return nil
}

// MoveConsumer puts a consumer somewhere else, by a person's word: to says where,
// given where it is and how many entries there are. It is tried again at once.
// The entry, which is written, gets its details. An unknown consumer is
// release.ErrNotFound, a position that the log does not have release.ErrInvalid.
func (s *Store) MoveConsumer(ctx context.Context, name string, to func(position, size int64) int64, entry audit.Entry) (Consumer, error) {
	err := s.db.inTx(ctx, func(t tx) error {
		var position, size int64
		err := t.row(ctx, "SELECT position FROM consumers WHERE name = $1"+t.lock(), name).Scan(&position)
		if noRows(err) {
			return fmt.Errorf("consumer %q: %w: waymark consumers lists them", name, release.ErrNotFound)
		}
		if err == nil {
			err = t.row(ctx, "SELECT size FROM audit_head WHERE id = 1"+t.lock()).Scan(&size)
		}
		if err != nil {
			return fmt.Errorf("reading consumer %q: %w", name, err)
		}
		next := to(position, size)
		if next < 0 || next > size {
			return fmt.Errorf("%w position %d: the audit log has %d entries, so write 0 to %[3]d", release.ErrInvalid, next, size)
		}
		if _, err := t.exec(ctx, "UPDATE consumers SET position = $2, failures = 0, failing_since = 0, retry_at = 0, trouble = '' WHERE name = $1", name, next); err != nil {
			return fmt.Errorf("moving consumer %q: %w", name, err)
		}
		for key, value := range map[string]any{"consumer": name, "from": position, "to": next} {
			entry.Details = withDetail(entry.Details, key, value)
		}
		return s.appendEntries(ctx, t, entry)
	})
	if err != nil {
		return Consumer{}, err
	}
	return s.Consumer(ctx, name)
}
