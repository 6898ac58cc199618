package fill

import (
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/waymark-cd/waymark/audit"
)

const (
	hashesTable = "audit_hashes"
	hashSize    = tlog.HashSize
)

// log makes the rows of an audit log as the store does, with the hashes along the
// tree's right edge in memory.
type log struct {
	size int64
	last time.Time
	edge edge
}

// edge is the newest hash of each level of the tree.
type edge [64]struct {
	number int64
	hash   tlog.Hash
}

// ReadHashes gives stored hashes, of which an append needs the newest alone.
func (e *edge) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		level, number := tlog.SplitStoredHashIndex(index)
		if e[level].number != number {
			return nil, fmt.Errorf("hash %d of level %d is not the newest", number, level)
		}
		out[i] = e[level].hash
	}
	return out, nil
}

// append adds an entry's rows. Its time is not before that of the entry before.
func (l *log) append(b *batch, e audit.Entry) error {
	if e.At.Before(l.last) {
		e.At = l.last
	}
	l.last = e.At
	leaf, err := e.Encode()
	if err != nil {
		return err
	}
	hashes, err := audit.Append(l.size, leaf, &l.edge)
	if err != nil {
		return err
	}
	at := tlog.StoredHashCount(l.size)
	for i, h := range hashes {
		l.edge[i].number, l.edge[i].hash = l.size>>i, h
		b.add(hashesTable, "idx, hash", at+int64(i), h[:])
	}
	b.add("audit_entries", "idx, target, run_id, leaf", l.size, e.Target, e.RunID, string(leaf))
	l.size++
	return nil
}
