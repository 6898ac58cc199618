package gitrepo

import (
	"context"
	"fmt"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/waymark-cd/waymark/release"
)

// maxPrefixes is how many tags a request names one by one; beyond it the server
// lists all tags, which is then the cheaper question.
const maxPrefixes = 200

// Fetch brings exactly these tags, as List gave them, and the branch with its
// full history into the cache. What is there already is not asked for again. A
// tag that the remote no longer lists under the same object id makes it fail
// with ErrMoved, before anything is fetched; a missing branch with
// release.ErrUnavailable; a pack or object beyond Config's bounds with
// ErrTooLarge (a caller that fetched several tags may then fetch them one by
// one to find the culprit).
//
// A tag outside the branch comes without its commit's history.
func (r *Repository) Fetch(ctx context.Context, refs []Ref) error {
	if err := r.fetching.take(ctx); err != nil {
		return r.failed(ctx, "fetching", err)
	}
	defer r.fetching.give()
	return r.failed(ctx, "fetching", r.fetch(ctx, refs))
}

func (r *Repository) fetch(ctx context.Context, refs []Ref) error {
	if err := checkRefs(refs); err != nil {
		return err
	}
	if err := r.startOverIfDamaged(ctx); err != nil {
		return err
	}
	x, err := r.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { x.close() }()
	now, err := r.look(ctx, x, refs)
	if err != nil {
		return err
	}
	if err := now.check(refs, r.cfg.Branch); err != nil {
		return err
	}
	// First the branch, and with it the tags whose commit we are sure to get.
	wants, later, err := r.plan(ctx, now, refs)
	if err != nil {
		return err
	}
	if err := r.bring(ctx, x, wants, false); err != nil {
		return err
	}
	if err := r.advance(ctx, now.branch); err != nil {
		return err
	}
	// Then the others: their commits came with the branch, or are not on it.
	if len(later) == 0 {
		return nil
	}
	if x.spent() {
		x.close()
		if x, err = r.connect(ctx); err != nil {
			return err
		}
		if err := x.refs(ctx, nil, func(refLine) error { return nil }); err != nil {
			return err
		}
	}
	return r.bringLater(ctx, x, later)
}

// checkRefs refuses what could not have come from List: names go into requests.
func checkRefs(refs []Ref) error {
	for _, ref := range refs {
		if ref.Name == "" || len(ref.Name) > maxRefName || hasControl(ref.Name) {
			return fmt.Errorf("%w: %q is no tag name", release.ErrInvalid, clip(ref.Name))
		}
		if _, err := parseID(ref.ObjectID); err != nil {
			return fmt.Errorf("tag %q: %w", clip(ref.Name), err)
		}
	}
	return nil
}

// view is what the remote advertises of the refs that a fetch is about.
type view struct {
	branch string
	tags   map[string]Ref
}

func (r *Repository) look(ctx context.Context, x *exchange, refs []Ref) (view, error) {
	branchRef := "refs/heads/" + r.cfg.Branch
	prefixes := []string{branchRef}
	v := view{tags: make(map[string]Ref, len(refs))}
	for _, ref := range refs {
		v.tags[ref.Name] = Ref{}
		prefixes = append(prefixes, tagPrefix+ref.Name)
	}
	if len(refs) > maxPrefixes {
		prefixes = []string{branchRef, tagPrefix}
	}
	n := 0
	err := x.refs(ctx, prefixes, func(line refLine) error {
		if n++; n > 8*r.cfg.MaxRefs {
			return fmt.Errorf("%w: the remote lists more than %d refs", ErrTooLarge, 8*r.cfg.MaxRefs)
		}
		if string(line.name) == branchRef {
			v.branch = string(line.id)
			return nil
		}
		name := strings.TrimPrefix(string(line.name), tagPrefix)
		if _, wanted := v.tags[name]; wanted && len(name) < len(line.name) {
			v.tags[name] = Ref{Name: name, ObjectID: string(line.id), Commit: string(line.peeled), Annotated: len(line.peeled) > 0}
		}
		return nil
	})
	return v, err
}

func (v view) check(refs []Ref, branch string) error {
	for _, ref := range refs {
		switch got := v.tags[ref.Name]; {
		case got.Name == "":
			return fmt.Errorf("%w: %q is gone from the remote; it was %s", ErrMoved, ref.Name, ref.ObjectID)
		case got.ObjectID != ref.ObjectID:
			return fmt.Errorf("%w: %q is now %s; it was %s", ErrMoved, ref.Name, got.ObjectID, ref.ObjectID)
		}
	}
	if v.branch == "" {
		return &trouble{what: fmt.Sprintf("the remote has no branch %q", branch),
			next: "push it, or configure the branch that tags must be reachable from"}
	}
	return nil
}

// plan splits what is missing: wanted now, and the tags that had better wait
// until the branch is there.
func (r *Repository) plan(ctx context.Context, now view, refs []Ref) (wants []string, later []Ref, err error) {
	if err := r.reading.take(ctx); err != nil {
		return nil, nil, err
	}
	defer r.reading.give()
	if !r.has(now.branch) || r.tip.IsZero() {
		wants = append(wants, now.branch)
	}
	asked := map[string]bool{}
	for _, ref := range refs {
		ref = now.tags[ref.Name]
		commit := ref.Commit
		if !ref.Annotated {
			commit = ref.ObjectID
		}
		switch {
		case asked[ref.ObjectID] || r.has(ref.ObjectID) || ref.ObjectID == now.branch:
		case commit == now.branch || r.has(commit):
			wants = append(wants, ref.ObjectID)
		default:
			ref.Commit = commit
			later = append(later, ref)
		}
		asked[ref.ObjectID] = true
	}
	return wants, later, nil
}

func (r *Repository) bringLater(ctx context.Context, x *exchange, refs []Ref) error {
	var wants []string
	depth1 := false
	if err := r.reading.take(ctx); err != nil {
		return err
	}
	for _, ref := range refs {
		if !r.has(ref.ObjectID) {
			wants = append(wants, ref.ObjectID)
			depth1 = depth1 || !r.has(ref.Commit)
		}
	}
	r.reading.give()
	return r.bring(ctx, x, wants, depth1)
}

// bring fetches the wanted objects with what they lead to and makes them
// readable.
//
// A depth-1 fetch leaves commits without parents in the store, and no note of
// it: only tips of the branch, whose history is whole, are ever offered to a
// server as "have", so a later fetch of the branch brings the parents.
func (r *Repository) bring(ctx context.Context, x *exchange, wants []string, depth1 bool) error {
	if len(wants) == 0 {
		return nil
	}
	var haves []string
	if !r.tip.IsZero() { // only Fetch changes tip, and it runs alone
		haves = []string{r.tip.String()}
	}
	stream, err := x.pack(ctx, wants, haves, depth1)
	if err != nil {
		return err
	}
	if err := r.install(ctx, stream); err != nil {
		return err
	}
	if err := r.reading.take(ctx); err != nil {
		return err
	}
	defer r.reading.give()
	for _, id := range wants {
		if !r.has(id) {
			r.damaged = len(haves) > 0 // or we offered what we lack
			return &trouble{what: "the remote did not send " + id, next: "check the remote repository with git fsck"}
		}
	}
	return nil
}

// advance records the branch's new tip, on disk first.
func (r *Repository) advance(ctx context.Context, branch string) error {
	if err := r.reading.take(ctx); err != nil {
		return err
	}
	defer r.reading.give()
	tip := plumbing.NewHash(branch)
	if tip == r.tip {
		return nil
	}
	if _, err := r.store.EncodedObject(plumbing.CommitObject, tip); err != nil {
		return &trouble{what: fmt.Sprintf("the branch's tip %s is no commit", branch), cause: err, next: "check the remote repository with git fsck"}
	}
	if err := r.writeMarker(branch); err != nil {
		return err
	}
	r.tip, r.walk = tip, nil
	return nil
}

// has tells whether the object is in the cache; r.reading is held.
func (r *Repository) has(id string) bool {
	return r.store.HasEncodedObject(plumbing.NewHash(id)) == nil
}

// markDamaged notes that the cache lacks or garbles what it should hold, so
// that the next Fetch makes it anew; r.reading is held.
func (r *Repository) markDamaged(err error) error {
	if r.foreign {
		return &trouble{what: "the clone cannot be read", cause: err, next: "look at it with git fsck, or clone it anew"}
	}
	r.damaged = true
	r.log.Warn("the cache is damaged and will be fetched anew", "error", err)
	return &trouble{what: "the local copy is damaged", cause: err, next: "it is made anew at the next fetch; then try again"}
}

// lost tells whether a commit that is not in the cache ought to be there: it is
// part of the branch's history. r.reading is held.
func (r *Repository) lost(ctx context.Context, id plumbing.Hash) bool {
	yes, err := r.onBranch(ctx, id)
	return yes && err == nil
}
