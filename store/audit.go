package store

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/waymark-cd/waymark/audit"
)

// appendEntries writes entries to the log as the last act of a transaction:
// the head's row is locked from here on, and always after every other row.
func (s *Store) appendEntries(ctx context.Context, t tx, entries ...audit.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	var size int64
	if err := t.row(ctx, "SELECT size FROM audit_head WHERE id = 1"+t.lock()).Scan(&size); err != nil {
		return fmt.Errorf("reading the audit log's size: %w", err)
	}
	for _, e := range entries {
		if e.At.IsZero() {
			e.At = s.now()
		}
		if e.Actor == "" {
			e.Actor = "waymark"
		}
		e = s.hideIn(e)
		leaf, err := e.Encode()
		if err != nil {
			return err
		}
		if err := appendLeaf(ctx, t, size, e, leaf); err != nil {
			return fmt.Errorf("writing audit entry %d: %w", size, err)
		}
		size++
	}
	t.tellEntries()
	_, err := t.exec(ctx, "UPDATE audit_head SET size = $1 WHERE id = 1", size)
	return err
}

// Log writes an entry about something that no row of ours tells, before it is done.
func (s *Store) Log(ctx context.Context, e audit.Entry) error {
	return s.db.inTx(ctx, func(t tx) error { return s.appendEntries(ctx, t, e) })
}

func appendLeaf(ctx context.Context, t tx, size int64, e audit.Entry, leaf []byte) error {
	hashes, err := audit.Append(size, leaf, hashReader(ctx, t))
	if err != nil {
		return err
	}
	at := tlog.StoredHashCount(size)
	for i, h := range hashes {
		if _, err := t.exec(ctx, "INSERT INTO audit_hashes (idx, hash) VALUES ($1, $2)", at+int64(i), h[:]); err != nil {
			return err
		}
	}
	_, err = t.exec(ctx, "INSERT INTO audit_entries (idx, target, run_id, leaf) VALUES ($1, $2, $3, $4)",
		size, e.Target, e.RunID, string(leaf))
	return err
}

// hashReader reads the tree's stored hashes.
func hashReader(ctx context.Context, q querier) tlog.HashReaderFunc {
	return func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		if len(indexes) == 0 {
			return out, nil
		}
		place := map[int64]int{}
		for i, x := range indexes {
			place[x] = i
		}
		condition, list := q.oneOf("idx", 1, indexes)
		rs, err := q.query(ctx, "SELECT idx, hash FROM audit_hashes WHERE "+condition, list)
		if err != nil {
			return nil, err
		}
		defer rs.Close()
		found := 0
		for rs.Next() {
			var idx int64
			var hash []byte
			if err := rs.Scan(&idx, &hash); err != nil {
				return nil, err
			}
			if len(hash) != tlog.HashSize {
				return nil, fmt.Errorf("audit hash %d has %d bytes", idx, len(hash))
			}
			out[place[idx]] = tlog.Hash(hash)
			found++
		}
		if err := rs.Err(); err != nil {
			return nil, err
		}
		if found != len(place) {
			return nil, fmt.Errorf("the audit log lacks %d of %d hashes", len(place)-found, len(place))
		}
		return out, nil
	}
}

// maxEntries bounds one page of the audit log.
const maxEntries = 1000

// Entries returns up to limit audit entries with an index of after or higher,
// in order. A limit of 0, or one above 1,000, means 1,000.
func (s *Store) Entries(ctx context.Context, after int64, limit int) ([]audit.Entry, error) {
	if limit <= 0 || limit > maxEntries {
		limit = maxEntries
	}
	rs, err := s.db.query(ctx, "SELECT idx, leaf FROM audit_entries WHERE idx >= $1 ORDER BY idx LIMIT $2", after, limit)
	if err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	return collect(rs, func(r rows) (audit.Entry, error) {
		var idx int64
		var leaf string
		if err := r.Scan(&idx, &leaf); err != nil {
			return audit.Entry{}, fmt.Errorf("reading the audit log: %w", err)
		}
		return readLeaf(idx, leaf), nil
	})
}

// readLeaf decodes an entry. A leaf that does not decode is evidence of tampering:
// who verifies must see it.
func readLeaf(index int64, leaf string) audit.Entry {
	e, err := audit.Decode(index, []byte(leaf))
	if err != nil {
		e = audit.Entry{Index: index, Leaf: []byte(leaf), Action: "unreadable"}
	}
	return e
}

// AuditHead returns the log's size and root, computed from its stored hashes.
func (s *Store) AuditHead(ctx context.Context) (audit.Head, error) {
	var size int64
	if err := s.db.row(ctx, "SELECT size FROM audit_head WHERE id = 1").Scan(&size); err != nil {
		return audit.Head{}, fmt.Errorf("reading the audit log's size: %w", err)
	}
	return audit.HeadOf(size, hashReader(ctx, s.db))
}
