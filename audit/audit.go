// Package audit owns the audit log's entries and its Merkle tree: how an entry
// becomes a leaf, which hashes an append adds, how a head is signed, what a tile
// holds, and how a copy of the log is verified without trusting the service that
// gave it.
//
// The tree is RFC 6962's, as golang.org/x/mod/sumdb/tlog keeps it. This package
// computes; it must never open a database or a connection. Whoever stores
// entries writes leaf and hashes in the transaction of the change they tell of.
package audit

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// EntryVersion is the version of the form of entries that is written now;
// docs/schemas/audit-entry.v1.json describes it. Entries from before there were
// versions have none, and the same form.
const EntryVersion = 1

// Entry is one decision or effect. Its index, its leaf and its version are given
// by the log.
type Entry struct {
	Index int64  `json:"-"`
	Leaf  []byte `json:"-"` // the exact bytes that were hashed

	Version    int            `json:"version,omitempty"`
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

// maxLeaf bounds a leaf, in bytes: a bundle of entries has two for the length.
const maxLeaf = 60_000

// Encode returns the entry's leaf: one line of JSON, times in UTC to the
// millisecond. Keys of Details are sorted, so equal entries give equal leaves.
// What does not fit into 60,000 bytes is cut, and says so.
func (e Entry) Encode() ([]byte, error) {
	e.Version, e.At = EntryVersion, e.At.UTC().Truncate(time.Millisecond)
	leaf, err := json.Marshal(e)
	if err == nil && len(leaf) > maxLeaf {
		e.Details = map[string]any{"omitted": fmt.Sprintf("the entry had %d bytes", len(leaf))}
	}
	for most := 8 << 10; err == nil && len(leaf) > maxLeaf; most /= 2 {
		for _, field := range []*string{&e.Actor, &e.Repository, &e.Target, &e.Tag, &e.ObjectID, &e.Commit, &e.Reason} {
			*field = cut(*field, most)
		}
		leaf, err = json.Marshal(e)
	}
	if err != nil {
		return nil, fmt.Errorf("encoding audit entry %q: %w", e.Action, err)
	}
	return leaf, nil
}

// cut shortens a text to at most so many bytes, and marks that it did.
func cut(s string, most int) string {
	const mark = "… (cut)"
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most-len(mark)], "") + mark
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
