package gitrepo

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/waymark-cd/waymark/release"
)

// LogEntry is one commit of a history.
type LogEntry struct {
	Commit  string
	Author  string // the name alone
	Subject string // the first line of the message, 200 bytes at most
	At      time.Time
}

const (
	maxLogWalk = 5000 // commits that Log looks at
	maxSubject = 200  // bytes
)

// Log lists the commits that are in to's history and not in from's, newest first,
// most of them at most; more says that there are others. It asks no remote: a
// commit that was not fetched is release.ErrNotFound.
func (r *Repository) Log(ctx context.Context, from, to string, most int) (entries []LogEntry, more bool, err error) {
	a, err1 := parseID(from)
	b, err2 := parseID(to)
	if err := errors.Join(err1, err2); err != nil {
		return nil, false, err
	}
	if err := r.reading.take(ctx); err != nil {
		return nil, false, err
	}
	defer r.reading.give()
	entries, more, err = r.between(ctx, a, b, most)
	return entries, more, r.failed(ctx, "listing what is between "+from+" and "+to, err)
}

// The sides of a walk from two commits.
const (
	inTo   = 1
	inFrom = 2
)

func (r *Repository) between(ctx context.Context, from, to plumbing.Hash, most int) ([]LogEntry, bool, error) {
	for _, id := range []plumbing.Hash{from, to} {
		if !r.has(id.String()) {
			return nil, false, fmt.Errorf("commit %s: %w", id, release.ErrNotFound)
		}
	}
	if from == to {
		return nil, false, nil
	}
	side := map[plumbing.Hash]int{to: inTo, from: inFrom}
	queue, queued := byTime{{id: to, childTime: math.MaxInt64}, {id: from, childTime: math.MaxInt64}}, map[plumbing.Hash]bool{to: true, from: true}
	open := 1 // queued commits that are, as far as is known, in to's history alone
	var found []*object.Commit
	visited, oldest := 0, int64(math.MaxInt64)
	// What is in from's history and as young as something that was found may still
	// turn out to have it as an ancestor.
	for ; len(queue) > 0 && (open > 0 || queue[0].childTime >= oldest) && visited < maxLogWalk; visited++ {
		if ctx.Err() != nil {
			return nil, false, context.Cause(ctx)
		}
		id := heap.Pop(&queue).(waiting).id
		here := side[id]
		delete(queued, id)
		if here == inTo {
			open--
		}
		commit, err := object.GetCommit(r.store, id)
		if errors.Is(err, plumbing.ErrObjectNotFound) {
			continue // the history was fetched so far
		}
		if err != nil {
			return nil, false, fmt.Errorf("reading commit %s: %w", id, err)
		}
		if here == inTo {
			found, oldest = append(found, commit), min(oldest, commit.Committer.When.Unix())
		}
		for _, p := range commit.ParentHashes {
			if side[p]|here == side[p] {
				continue // nothing new is known of it
			}
			switch {
			case side[p] == 0 && here == inTo:
				open++
			case side[p] == inTo && queued[p]:
				open--
			}
			side[p] |= here
			if !queued[p] { // also where it was seen already: its own history has to be told
				queued[p] = true
				heap.Push(&queue, waiting{id: p, childTime: commit.Committer.When.Unix()})
			}
		}
	}
	entries, more := logEntries(found, side, most)
	return entries, more || visited == maxLogWalk, nil
}

// logEntries leaves out what turned out to be in from's history too.
func logEntries(found []*object.Commit, side map[plumbing.Hash]int, most int) (entries []LogEntry, more bool) {
	for _, c := range found {
		if side[c.Hash] != inTo {
			continue
		}
		if len(entries) == most {
			return entries, true
		}
		subject, _, _ := strings.Cut(strings.TrimSpace(c.Message), "\n")
		entries = append(entries, LogEntry{Commit: c.Hash.String(), Author: c.Author.Name,
			Subject: strings.ToValidUTF8(subject[:min(len(subject), maxSubject)], ""), At: c.Committer.When.UTC()})
	}
	return entries, false
}
