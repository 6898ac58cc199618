package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
)

// AuditKey signs checkpoints of the audit log, or did.
type AuditKey struct {
	Verifier  string // the public half, in the text form of signed notes
	Signer    string // the private half; empty where the configuration gives it
	CreatedAt time.Time
	RetiredAt time.Time // zero: it signs
}

// AuditKeys lists the keys, the one that signs first.
func (s *Store) AuditKeys(ctx context.Context) ([]AuditKey, error) {
	rs, err := s.db.query(ctx, "SELECT verifier, signer, created_at, retired_at FROM audit_keys ORDER BY id DESC")
	if err != nil {
		return nil, fmt.Errorf("listing the audit log's keys: %w", err)
	}
	all, err := collect(rs, func(r rows) (k AuditKey, err error) {
		var created, retired int64
		err = r.Scan(&k.Verifier, &k.Signer, &created, &retired)
		k.CreatedAt, k.RetiredAt = fromMillis(created), fromMillis(retired)
		return k, err
	})
	if err != nil {
		return nil, fmt.Errorf("listing the audit log's keys: %w", err)
	}
	return all, nil
}

// SigningKey is the key that signs, or release.ErrNotFound before there is one.
func (s *Store) SigningKey(ctx context.Context) (AuditKey, error) { return signingKey(ctx, s.db) }

func signingKey(ctx context.Context, q querier) (k AuditKey, err error) {
	var created int64
	err = q.row(ctx, "SELECT verifier, signer, created_at FROM audit_keys WHERE retired_at = 0").Scan(&k.Verifier, &k.Signer, &created)
	if noRows(err) {
		return k, fmt.Errorf("%w: no key signs the audit log yet", release.ErrNotFound)
	}
	if err != nil {
		return k, fmt.Errorf("reading the audit log's key: %w", err)
	}
	k.CreatedAt = fromMillis(created)
	return k, nil
}

// KeepSigningKey sees to it that there is a key that signs. next is asked with
// the one there is, and with false where there is none, and gives the one that
// there should be: the same to leave it so. A key in another's place is an entry,
// "audit.key_rotated"; the first is none. Of several processes that begin at once
// all get the same key.
func (s *Store) KeepSigningKey(ctx context.Context, next func(now AuditKey, is bool) (AuditKey, error), entry audit.Entry) (k AuditKey, err error) {
	err = s.db.inTx(ctx, func(t tx) error {
		var size int64 // whoever changes keys holds the log's head
		if err := t.row(ctx, "SELECT size FROM audit_head WHERE id = 1"+t.lock()).Scan(&size); err != nil {
			return fmt.Errorf("locking the audit log: %w", err)
		}
		old, err := signingKey(ctx, t)
		is := err == nil
		if !is && !errors.Is(err, release.ErrNotFound) {
			return err
		}
		if k, err = next(old, is); err != nil || is && k.Verifier == old.Verifier {
			return err
		}
		return s.replaceKey(ctx, t, old, &k, entry)
	})
	return k, err
}

func (s *Store) replaceKey(ctx context.Context, t tx, old AuditKey, k *AuditKey, entry audit.Entry) error {
	now := s.now().UTC().Truncate(time.Millisecond)
	if _, err := t.exec(ctx, "UPDATE audit_keys SET retired_at = $1, signer = '' WHERE retired_at = 0", millis(now)); err != nil {
		return fmt.Errorf("retiring the audit log's key: %w", err)
	}
	k.CreatedAt = now
	// A key that was there before signs again where the configuration gives it again.
	if _, err := t.exec(ctx, "DELETE FROM audit_keys WHERE verifier = $1", k.Verifier); err != nil {
		return fmt.Errorf("keeping the audit log's key: %w", err)
	}
	if _, err := t.exec(ctx, "INSERT INTO audit_keys (verifier, signer, created_at) VALUES ($1, $2, $3)", k.Verifier, k.Signer, millis(now)); err != nil {
		return fmt.Errorf("keeping the audit log's key: %w", err)
	}
	if old.Verifier == "" {
		return nil
	}
	entry.Action = "audit.key_rotated"
	entry.Details = withDetail(withDetail(entry.Details, "old", old.Verifier), "new", k.Verifier)
	return s.appendEntries(ctx, t, entry)
}

// AuditSize is how many entries the audit log has.
func (s *Store) AuditSize(ctx context.Context) (size int64, err error) {
	if err := s.db.row(ctx, "SELECT size FROM audit_head WHERE id = 1").Scan(&size); err != nil {
		return 0, fmt.Errorf("reading the audit log's size: %w", err)
	}
	return size, nil
}

// HeadAt is the audit log's head when it had size entries. A size that it has
// not reached is release.ErrNotFound.
func (s *Store) HeadAt(ctx context.Context, size int64) (audit.Head, error) {
	if err := s.mustHave(ctx, size); err != nil {
		return audit.Head{}, err
	}
	return audit.HeadOf(size, hashReader(ctx, s.db))
}

func (s *Store) mustHave(ctx context.Context, size int64) error {
	has, err := s.AuditSize(ctx)
	if err == nil && (size < 0 || size > has) {
		err = fmt.Errorf("%w: the audit log has %d entries, not %d", release.ErrNotFound, has, size)
	}
	return err
}
