package gitrepo

import (
	"container/heap"
	"context"
	"fmt"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
)

// Reachable tells whether the commit is the tip of the branch, as last
// fetched, or one of its ancestors. It fails with release.ErrInvalid where
// commit is no full object id, and with release.ErrUnavailable where no fetch
// has succeeded yet or the cache is damaged.
func (r *Repository) Reachable(ctx context.Context, commit string) (bool, error) {
	id, err := parseID(commit)
	if err != nil {
		return false, err
	}
	yes, err := r.reachable(ctx, id)
	return yes, r.failed(ctx, "looking for "+commit+" on branch "+r.cfg.Branch, err)
}

func (r *Repository) reachable(ctx context.Context, id plumbing.Hash) (bool, error) {
	if err := r.reading.take(ctx); err != nil {
		return false, err
	}
	defer r.reading.give()
	if r.tip.IsZero() {
		return false, &trouble{what: "the branch was not fetched yet", next: "fetch first"}
	}
	yes, err := r.onBranch(ctx, id)
	if err != nil && ctx.Err() == nil {
		err = r.markDamaged(err)
	}
	return yes, err
}

// onBranch is Reachable while r.reading is held.
func (r *Repository) onBranch(ctx context.Context, id plumbing.Hash) (bool, error) {
	if r.tip.IsZero() {
		return false, nil
	}
	if r.walk == nil {
		r.walk = newAncestry(r.tip)
	}
	return r.walk.contains(ctx, r.store, id)
}

// ancestry walks a branch's history once, newest commits first, only as far as
// the questions need. Commit times choose the order; they never decide an
// answer: a commit is outside only when the whole history was seen.
type ancestry struct {
	seen map[plumbing.Hash]struct{} // everything ever queued
	next byTime
}

func newAncestry(tip plumbing.Hash) *ancestry {
	return &ancestry{seen: map[plumbing.Hash]struct{}{tip: {}}, next: byTime{{id: tip}}}
}

func (a *ancestry) contains(ctx context.Context, store storer.EncodedObjectStorer, id plumbing.Hash) (bool, error) {
	for n := 0; ; n++ {
		if _, ok := a.seen[id]; ok {
			return true, nil
		}
		if len(a.next) == 0 {
			return false, nil
		}
		if n%256 == 0 && ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		if err := a.step(store); err != nil {
			return false, err
		}
	}
}

// step replaces the newest commit of the queue by its parents. On an error the
// commit stays queued, so that the walk never takes a gap for an end.
func (a *ancestry) step(store storer.EncodedObjectStorer) error {
	commit, err := object.GetCommit(store, a.next[0].id)
	if err != nil {
		return fmt.Errorf("reading commit %s: %w", a.next[0].id, err)
	}
	heap.Pop(&a.next)
	when := commit.Committer.When.Unix()
	for _, p := range commit.ParentHashes {
		if _, ok := a.seen[p]; !ok {
			a.seen[p] = struct{}{}
			// A parent is as old as its child at most: good enough to order by,
			// and it saves reading the parent to learn its time.
			heap.Push(&a.next, waiting{id: p, childTime: when})
		}
	}
	return nil
}

type waiting struct {
	id        plumbing.Hash
	childTime int64
}

// byTime is a heap with the newest on top.
type byTime []waiting

func (h byTime) Len() int           { return len(h) }
func (h byTime) Less(i, j int) bool { return h[i].childTime > h[j].childTime }
func (h byTime) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *byTime) Push(x any)        { *h = append(*h, x.(waiting)) }
func (h *byTime) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
