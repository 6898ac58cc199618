package store

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
)

// InclusionProof proves that the entry at index is in the log of the first size
// entries: the entry's hash, the hashes on its way to the root, and that root's
// head. What the log does not have is release.ErrNotFound.
func (s *Store) InclusionProof(ctx context.Context, index, size int64) (leaf tlog.Hash, proof []tlog.Hash, head audit.Head, err error) {
	if head, err = s.HeadAt(ctx, size); err != nil {
		return leaf, nil, head, err
	}
	if index < 0 || index >= size {
		return leaf, nil, head, fmt.Errorf("%w: there is no entry %d among the first %d", release.ErrNotFound, index, size)
	}
	stored := hashReader(ctx, s.db)
	if proof, err = tlog.ProveRecord(size, index, stored); err != nil {
		return leaf, nil, head, fmt.Errorf("proving audit entry %d: %w", index, err)
	}
	hashes, err := stored.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
	if err != nil {
		return leaf, nil, head, fmt.Errorf("reading the hash of audit entry %d: %w", index, err)
	}
	return hashes[0], proof, head, nil
}

// ConsistencyProof proves that the log of the first to entries begins with that
// of the first from. What the log does not have is release.ErrNotFound.
func (s *Store) ConsistencyProof(ctx context.Context, from, to int64) (proof []tlog.Hash, before, after audit.Head, err error) {
	if from < 0 || from > to {
		return nil, before, after, fmt.Errorf("%w consistency proof: from %d to %d: the first must not be the larger", release.ErrInvalid, from, to)
	}
	if after, err = s.HeadAt(ctx, to); err != nil {
		return nil, before, after, err
	}
	stored := hashReader(ctx, s.db)
	if before, err = audit.HeadOf(from, stored); err != nil || from == 0 || from == to {
		return nil, before, after, err // nothing is to be proved
	}
	if proof, err = tlog.ProveTree(to, from, stored); err != nil {
		return nil, before, after, fmt.Errorf("proving that the audit log grew from %d to %d: %w", from, to, err)
	}
	return proof, before, after, nil
}

// Hashes gives the tree's stored hashes.
func (s *Store) Hashes(ctx context.Context) tlog.HashReader { return hashReader(ctx, s.db) }

// Tile is the content of a tile of the audit log. One that the log does not
// reach is release.ErrNotFound.
func (s *Store) Tile(ctx context.Context, tile audit.Tile) ([]byte, error) {
	size, err := s.AuditSize(ctx)
	if err != nil {
		return nil, err
	}
	if !tile.In(size) {
		return nil, fmt.Errorf("%w: the audit log, of %d entries, has no tile %s", release.ErrNotFound, size, tile.Path())
	}
	if !tile.Entries {
		return tile.Hashes(hashReader(ctx, s.db))
	}
	entries, err := s.Entries(ctx, tile.First(), tile.Width)
	if err == nil && (len(entries) != tile.Width || entries[len(entries)-1].Index != tile.First()+int64(tile.Width)-1) {
		err = fmt.Errorf("the audit log lacks entries of tile %s", tile.Path())
	}
	if err != nil {
		return nil, err
	}
	return audit.Bundle(entries)
}
