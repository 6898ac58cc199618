package audit

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// ErrTampered says that a log does not agree with its own hashes, or with a
// head that was kept from an earlier day.
var ErrTampered = errors.New("the audit log does not verify")

// Verifier recomputes the tree from leaves alone. It keeps the hashes along the
// tree's right edge, of which there are no more than 63, so that a log of any
// length is verified in the same memory. The zero value is an empty log.
type Verifier struct {
	size     int64
	edge     []tlog.Hash // of the perfect subtrees that size is made of, the largest first
	expected []Head
}

// Resume begins with a log whose first entries were verified before: head was
// kept then, and stored gives that tree's hashes, whoever they come from. It is
// ErrTampered where they do not make up head's root.
func Resume(head Head, stored tlog.HashReader) (*Verifier, error) {
	v := &Verifier{size: head.Size}
	indexes, at := []int64{}, int64(0)
	for level := bits.Len64(uint64(head.Size)) - 1; level >= 0; level-- {
		if head.Size&(1<<level) != 0 {
			indexes = append(indexes, tlog.StoredHashIndex(level, at>>level))
			at += 1 << level
		}
	}
	if len(indexes) > 0 {
		var err error
		if v.edge, err = stored.ReadHashes(indexes); err != nil {
			return nil, fmt.Errorf("reading the tree of the first %d entries: %w", head.Size, err)
		}
	}
	return v, v.Check(head)
}

// Expect has the tree compared with head once its entries are there: Add is
// ErrTampered then where the root is another. The head's entries must not have
// been added yet.
func (v *Verifier) Expect(head Head) error {
	if head.Size <= v.size {
		return v.Check(head)
	}
	v.expected = append(v.expected, head)
	return nil
}

// Add takes the next leaf. Indexes must follow each other from 0, or from where
// Resume began; a gap is ErrTampered.
func (v *Verifier) Add(index int64, leaf []byte) error {
	if index != v.size {
		return fmt.Errorf("%w: entry %d follows entry %d", ErrTampered, index, v.size-1)
	}
	hash := tlog.RecordHash(leaf)
	for n := v.size; n&1 == 1; n >>= 1 {
		last := len(v.edge) - 1
		hash = tlog.NodeHash(v.edge[last], hash)
		v.edge = v.edge[:last]
	}
	v.edge = append(v.edge, hash)
	v.size++
	for _, head := range v.expected {
		if head.Size == v.size {
			if err := v.Check(head); err != nil {
				return err
			}
		}
	}
	return nil
}

// Size is how many leaves there are.
func (v *Verifier) Size() int64 { return v.size }

// Head is the head of all leaves added so far.
func (v *Verifier) Head() Head {
	var root tlog.Hash
	if v.size == 0 {
		root, _ = tlog.TreeHash(0, nil) // of nothing; it cannot fail
	}
	for i := len(v.edge) - 1; i >= 0; i-- {
		if i == len(v.edge)-1 {
			root = v.edge[i]
			continue
		}
		root = tlog.NodeHash(v.edge[i], root)
	}
	return Head{Size: v.size, Root: base64.StdEncoding.EncodeToString(root[:])}
}

// Check compares the tree as it is with a head of the same size. A longer head
// is ErrTampered, because entries are missing; a shorter one has to be told to
// Expect before its entries are added.
func (v *Verifier) Check(head Head) error {
	got := v.Head()
	switch {
	case head.Size < 0 || head.Size > v.size:
		return Shorter(v.size, head)
	case head.Size < v.size:
		return fmt.Errorf("the head at %d entries was not expected before there were %d", head.Size, v.size)
	case got.Root != head.Root:
		return fmt.Errorf("%w: its first %d entries hash to %s, the checkpoint says %s: an entry was changed, removed or put in",
			ErrTampered, head.Size, got.Root, head.Root)
	}
	return nil
}

// Shorter is what is wrong with a log of size entries of which a head of more is
// known.
func Shorter(size int64, head Head) error {
	return fmt.Errorf("%w: it has %d entries, and the checkpoint was made at %d: entries are missing at its end",
		ErrTampered, size, head.Size)
}
