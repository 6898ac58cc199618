// Package audit owns the audit log's entries and its Merkle tree: how an entry
// becomes a leaf, which hashes an append adds, and how a copy of the log is
// verified without trusting the service that gave it.
//
// The tree is RFC 6962's, as golang.org/x/mod/sumdb/tlog keeps it. This package
// computes; it must never open a database or a connection. Whoever stores
// entries writes leaf and hashes in the transaction of the change they tell of.
package audit

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Entry is one decision or effect. Its index and its leaf are given by the log.
type Entry struct {
	Index int64  `json:"-"`
	Leaf  []byte `json:"-"` // the exact bytes that were hashed

	At         time.Time      `json:"at"`
	Actor      string         `json:"actor"`  // who decided: a person, or "waymark"
	Action     string         `json:"action"` // such as "run.approved"; docs/operations.md lists them
	Repository string         `json:"repository,omitempty"`
	Target     string         `json:"target,omitempty"`
	RunID      int64          `json:"run_id,omitempty,string"`
	Tag        string         `json:"tag,omitempty"`
	ObjectID   string         `json:"object_id,omitempty"`
	Commit     string         `json:"commit,omitempty"`
	Reason     string         `json:"reason,omitempty"`
	Details    map[string]any `json:"details,omitempty"`
}

// Encode returns the entry's leaf: one line of JSON, times in UTC to the
// millisecond. Keys of Details are sorted, so equal entries give equal leaves.
func (e Entry) Encode() ([]byte, error) {
	e.At = e.At.UTC().Truncate(time.Millisecond)
	leaf, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encoding audit entry %q: %w", e.Action, err)
	}
	return leaf, nil
}

// Decode reads the leaf at index back.
func Decode(index int64, leaf []byte) (Entry, error) {
	var e Entry
	if err := json.Unmarshal(leaf, &e); err != nil {
		return Entry{}, fmt.Errorf("decoding audit entry %d: %w", index, err)
	}
	e.Index, e.Leaf = index, leaf
	return e, nil
}

// Append returns the hashes that a log of size entries must store when leaf is
// appended, in order, the first at tlog.StoredHashCount(size). The reader gives
// hashes that are stored already.
func Append(size int64, leaf []byte, stored tlog.HashReader) ([]tlog.Hash, error) {
	hashes, err := tlog.StoredHashes(size, leaf, stored)
	if err != nil {
		return nil, fmt.Errorf("hashing audit entry %d: %w", size, err)
	}
	return hashes, nil
}

// Head is the state of a log: how many entries, under which root.
type Head struct {
	Size int64  `json:"size"`
	Root string `json:"root"` // standard base64 of the RFC 6962 tree hash
}

// HeadOf computes the head of the first size entries.
func HeadOf(size int64, stored tlog.HashReader) (Head, error) {
	root, err := tlog.TreeHash(size, stored)
	if err != nil {
		return Head{}, fmt.Errorf("computing the audit log's root at %d: %w", size, err)
	}
	return Head{Size: size, Root: base64.StdEncoding.EncodeToString(root[:])}, nil
}

// ErrTampered says that a log does not agree with its own hashes, or with a
// head that was kept from an earlier day.
var ErrTampered = errors.New("the audit log does not verify")

// Verifier recomputes the tree from leaves alone, in memory.
type Verifier struct {
	size   int64
	hashes []tlog.Hash
}

// Add takes the next leaf. Indexes must follow each other from 0; a gap is
// ErrTampered.
func (v *Verifier) Add(index int64, leaf []byte) error {
	if index != v.size {
		return fmt.Errorf("%w: entry %d follows entry %d", ErrTampered, index, v.size-1)
	}
	hashes, err := Append(v.size, leaf, tlog.HashReaderFunc(v.read))
	if err != nil {
		return err
	}
	v.hashes = append(v.hashes, hashes...)
	v.size++
	return nil
}

// Size is how many leaves were added.
func (v *Verifier) Size() int64 { return v.size }

// Check compares the recomputed tree with head: the root of its first
// head.Size entries. A log that is shorter than head, or that hashes to another
// root there, is ErrTampered. A head that was kept earlier proves in this way
// that the log has only grown since.
func (v *Verifier) Check(head Head) error {
	if head.Size < 0 || head.Size > v.size {
		return fmt.Errorf("%w: it has %d entries, and the checkpoint was made at %d: entries are missing at its end",
			ErrTampered, v.size, head.Size)
	}
	got, err := HeadOf(head.Size, tlog.HashReaderFunc(v.read))
	if err != nil {
		return err
	}
	if got.Root != head.Root {
		return fmt.Errorf("%w: its first %d entries hash to %s, the checkpoint says %s: an entry was changed, removed or put in",
			ErrTampered, head.Size, got.Root, head.Root)
	}
	return nil
}

// Head is the head of all leaves added so far.
func (v *Verifier) Head() (Head, error) { return HeadOf(v.size, tlog.HashReaderFunc(v.read)) }

func (v *Verifier) read(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		if x < 0 || x >= int64(len(v.hashes)) {
			return nil, fmt.Errorf("hash %d is not there yet", x)
		}
		out[i] = v.hashes[x]
	}
	return out, nil
}
