package store

import (
	"context"
	"fmt"
	"time"

	"github.com/waymark-cd/waymark/release"
)

// Lease takes the named lease for holder, or extends it where holder has it,
// and reports whether holder has it now. It holds for ttl from the moment of the
// database's clock at which it was given: the caller counts from before the
// call, and extends it well before the end. No two holders ever have it at once
// by the database's clock.
func (s *Store) Lease(ctx context.Context, name, holder string, ttl time.Duration) (held bool, err error) {
	now := s.db.clock()
	// One statement: the row is locked before the clock is read for its condition.
	n, err := s.db.exec(ctx, `INSERT INTO leases (name, holder, until) VALUES ($1, $2, `+now+` + $3)
		ON CONFLICT (name) DO UPDATE SET holder = $2, until = `+now+` + $3
			WHERE leases.holder = $2 OR leases.until <= `+now, name, holder, ttl.Milliseconds())
	if err != nil {
		return false, fmt.Errorf("taking the lease %q: %w", name, err)
	}
	return n == 1, nil
}

// Yield gives up the named lease, where holder has it, so that another need not
// wait for its end.
func (s *Store) Yield(ctx context.Context, name, holder string) error {
	if _, err := s.db.exec(ctx, "DELETE FROM leases WHERE name = $1 AND holder = $2", name, holder); err != nil {
		return fmt.Errorf("yielding the lease %q: %w", name, err)
	}
	return nil
}

// KeepConfig keeps a configuration's text under its digest, so that a run can
// be held against what it was admitted under. What is kept already stays.
func (s *Store) KeepConfig(ctx context.Context, digest, text string) error {
	if _, err := s.db.exec(ctx, "INSERT INTO configs (digest, text, first_seen_at) VALUES ($1, $2, "+s.db.clock()+
		") ON CONFLICT (digest) DO NOTHING", digest, text); err != nil {
		return fmt.Errorf("keeping configuration %s: %w", digest, err)
	}
	return nil
}

// Config returns a kept configuration's text, or release.ErrNotFound.
func (s *Store) Config(ctx context.Context, digest string) (string, error) {
	var text string
	err := s.db.row(ctx, "SELECT text FROM configs WHERE digest = $1", digest).Scan(&text)
	if noRows(err) {
		return "", fmt.Errorf("configuration %q: %w", digest, release.ErrNotFound)
	}
	if err != nil {
		return "", fmt.Errorf("reading configuration %q: %w", digest, err)
	}
	return text, nil
}

// Ask leaves word for whoever has the named lease, now or next.
func (s *Store) Ask(ctx context.Context, name string) error {
	if _, err := s.db.exec(ctx, "INSERT INTO leases (name, holder, until, asked) VALUES ($1, '', 0, 1) ON CONFLICT (name) DO UPDATE SET asked = 1", name); err != nil {
		return fmt.Errorf("leaving word for the holder of %q: %w", name, err)
	}
	return nil
}

// Asked takes the word that was left for the holder of a lease, and reports
// whether there was one.
func (s *Store) Asked(ctx context.Context, name, holder string) (bool, error) {
	n, err := s.db.exec(ctx, "UPDATE leases SET asked = 0 WHERE name = $1 AND holder = $2 AND asked = 1", name, holder)
	if err != nil {
		return false, fmt.Errorf("looking for word for the holder of %q: %w", name, err)
	}
	return n == 1, nil
}
