package reconciler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
	"github.com/waymark-cd/waymark/tagparse"
)

// watch is one repository being watched. Its goroutine owns lastDigest;
// lastLook is read under the reconciler's mutex.
type watch struct {
	repo       config.Repository
	remote     Remote
	hint       chan struct{}
	waiting    []chan error // for the next look; under the reconciler's mutex
	lastDigest string       // of the last listing that is wholly recorded
	lastLook   time.Time
}

// watch looks at one repository at every interval and at every hint, until ctx
// ends. After a failure it looks again sooner at first, then ever less often,
// with jitter, up to the interval or five minutes, whichever is longer.
func (r *Reconciler) watch(ctx context.Context, w *watch) {
	again := backoff.NewExponentialBackOff()
	again.InitialInterval = min(time.Second, w.repo.Poll)
	again.MaxInterval = max(w.repo.Poll, 5*time.Minute)
	for {
		began := r.Now()
		r.mu.Lock()
		waiting := w.waiting
		w.waiting = nil
		r.mu.Unlock()
		err := r.look(ctx, w)
		for _, tell := range waiting {
			tell <- err
		}
		if ctx.Err() != nil {
			return
		}
		r.metrics.look(w.repo.Name, r.Now().Sub(began), err)
		r.setTrouble("repository "+w.repo.Name, err)
		wait := w.repo.Poll
		if err != nil {
			wait = again.NextBackOff()
			r.log.Error("the repository's tags cannot be read, trying again", "repository", w.repo.Name,
				"error", err, "in", wait.Round(time.Millisecond).String())
		} else {
			again.Reset()
			r.mu.Lock()
			w.lastLook = r.Now()
			r.mu.Unlock()
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-w.hint:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// Look returns once the record holds what the repository's remote showed at a
// look that began after the call, or with that look's error.
func (r *Reconciler) Look(ctx context.Context, repository string) error {
	w := r.watches[repository]
	if w == nil {
		return fmt.Errorf("repository %q: %w", repository, release.ErrNotFound)
	}
	done := make(chan error, 1)
	r.mu.Lock()
	w.waiting = append(w.waiting, done)
	r.mu.Unlock()
	r.Hint(repository)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-done:
		return err
	}
}

// look compares the remote's tags with the record once and records what differs.
func (r *Reconciler) look(ctx context.Context, w *watch) error {
	listing, err := w.list(ctx)
	if err != nil {
		return err
	}
	if listing.Digest == w.lastDigest {
		return nil
	}
	known, err := r.Store.Contacted(ctx, w.repo.Name)
	if err != nil {
		return err
	}
	if !known && w.repo.FirstContact == "adopt" {
		if err := r.adopt(ctx, w, listing); err != nil {
			return err
		}
		w.lastDigest = listing.Digest
		return nil
	}
	refs, err := r.Store.Refs(ctx, w.repo.Name)
	if err != nil {
		return err
	}
	fresh, sights := compare(w.repo.Name, listing, refs)
	for _, s := range sights {
		r.log.Warn("a tag on record has changed", "repository", s.Repository, "tag", s.Tag, "object_id", s.ObjectID)
		before := r.Now()
		if err := r.persist(ctx, "tag "+s.Tag, func() error { return r.Store.RecordSight(ctx, s) }); err != nil {
			return err
		}
		r.noteStopped(ctx, s, before)
	}
	if err := r.admitAll(ctx, w, fresh); err != nil {
		return err
	}
	w.lastDigest = listing.Digest
	return nil
}

// How long a remote may take to answer before it counts as unreachable.
const (
	listWithin  = 2 * time.Minute
	fetchWithin = 30 * time.Minute
)

func (w *watch) list(ctx context.Context) (Listing, error) {
	ctx, cancel := context.WithTimeout(ctx, listWithin)
	defer cancel()
	return w.remote.List(ctx)
}

func (w *watch) inspect(ctx context.Context, refs []Ref) ([]Inspection, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchWithin)
	defer cancel()
	return w.remote.Inspect(ctx, refs)
}

// adopt records a first contact.
func (r *Reconciler) adopt(ctx context.Context, w *watch, listing Listing) error {
	tags := make([]release.Release, len(listing.Tags))
	for i, ref := range listing.Tags {
		tags[i] = release.Release{Tag: ref.Name, ObjectID: ref.ObjectID, Commit: ref.Commit}
		if tag, err := tagparse.Parse(ref.Name); err == nil {
			tags[i].Target, tags[i].Version = targetOf(tag), tag.Version.String()
		}
	}
	err := r.persist(ctx, "first contact", func() error {
		return r.Store.Adopt(ctx, w.repo.Name, listing.Digest, tags)
	})
	if errors.Is(err, release.ErrConflict) {
		return nil // another replica was first
	}
	if err == nil {
		r.log.Info("first contact: the tags that are there are recorded, nothing runs for them",
			"repository", w.repo.Name, "tags", len(tags))
	}
	return err
}

// compare finds the tags that the record does not know, and those on record
// that the remote shows otherwise or no more.
func compare(repository string, listing Listing, refs map[string]store.Ref) (fresh []Ref, sights []store.Sight) {
	shown := make(map[string]bool, len(listing.Tags))
	for _, ref := range listing.Tags {
		shown[ref.Name] = true
		known, ok := refs[ref.Name]
		if !ok {
			fresh = append(fresh, ref)
		} else if known.SeenID != ref.ObjectID {
			sights = append(sights, sightOf(repository, ref))
		}
	}
	for name, known := range refs {
		if !shown[name] && known.SeenID != "" {
			sights = append(sights, sightOf(repository, Ref{Name: name}))
		}
	}
	slices.SortFunc(sights, func(a, b store.Sight) int { return cmp.Compare(a.Tag, b.Tag) })
	return fresh, sights
}

func sightOf(repository string, ref Ref) store.Sight {
	s := store.Sight{Repository: repository, Tag: ref.Name, ObjectID: ref.ObjectID, Commit: ref.Commit}
	if tag, err := tagparse.Parse(ref.Name); err == nil {
		s.Target, s.Version = targetOf(tag), tag.Version.String()
	}
	return s
}

func targetOf(t tagparse.Tag) release.Target {
	return release.Target{Env: t.Env, Scope: t.Scope, Team: t.Team}
}

// candidate is a new tag that the grammar and the configuration know.
type candidate struct {
	ref Ref
	tag tagparse.Tag
}

// inspectAtOnce is how many tags are fetched in one exchange.
const inspectAtOnce = 200

// admitAll decides on new tags: refusals by name alone first, then those that
// have to be fetched, the global scope first and each target in the order of
// its versions.
func (r *Reconciler) admitAll(ctx context.Context, w *watch, fresh []Ref) error {
	var candidates []candidate
	for _, ref := range fresh {
		tag, err := tagparse.Parse(ref.Name)
		if err == nil {
			err = r.Config.Config.Admit(w.repo.Name, tag)
		}
		if err == nil {
			candidates = append(candidates, candidate{ref, tag})
			continue
		}
		rel := release.Release{Repository: w.repo.Name, Tag: ref.Name, ObjectID: ref.ObjectID, Commit: ref.Commit,
			Decision: release.Refused, Reason: reason(err)}
		if tag.Env != "" {
			rel.Target, rel.Version = targetOf(tag), tag.Version.String()
		}
		if err := r.record(ctx, store.Admission{Release: rel}, time.Time{}); err != nil {
			return err
		}
	}
	slices.SortFunc(candidates, func(a, b candidate) int {
		return cmp.Or(globalFirst(a.tag)-globalFirst(b.tag), cmp.Compare(a.tag.Env, b.tag.Env),
			cmp.Compare(a.tag.Team, b.tag.Team), cmp.Compare(a.tag.Scope, b.tag.Scope),
			tagparse.Compare(a.tag.Version, b.tag.Version), cmp.Compare(a.ref.Name, b.ref.Name))
	})
	for chunk := range slices.Chunk(candidates, inspectAtOnce) {
		if err := r.admitChunk(ctx, w, chunk); err != nil {
			return err
		}
	}
	return nil
}

func globalFirst(t tagparse.Tag) int {
	if t.Scope == release.Global {
		return 0
	}
	return 1
}

func (r *Reconciler) admitChunk(ctx context.Context, w *watch, chunk []candidate) error {
	refs := make([]Ref, len(chunk))
	for i, c := range chunk {
		refs[i] = c.ref
	}
	began := r.Now()
	inspections, err := w.inspect(ctx, refs)
	if err != nil && len(chunk) > 1 && ctx.Err() == nil && !errors.Is(err, release.ErrUnavailable) {
		// One tag of many cannot be fetched: the others must not wait for it.
		for i := range chunk {
			if err := r.admitChunk(ctx, w, chunk[i:i+1]); err != nil {
				return err
			}
		}
		return nil
	}
	if errors.Is(err, release.ErrRefused) {
		inspections, err = []Inspection{{Refusal: err}}, nil
	}
	if err != nil {
		return fmt.Errorf("fetching new tags: %w", err)
	}
	for i, c := range chunk {
		a, err := r.judge(ctx, w, c, inspections[i])
		if err != nil {
			return err
		}
		if err := r.record(ctx, a, began); err != nil {
			return err
		}
	}
	return nil
}

// record writes one decision on a tag that was looked at since began.
func (r *Reconciler) record(ctx context.Context, a store.Admission, began time.Time) error {
	var run int64
	err := r.persist(ctx, "tag "+a.Release.Tag, func() (err error) {
		_, run, err = r.Store.Admit(ctx, a)
		return err
	})
	if errors.Is(err, release.ErrConflict) {
		return nil // another replica recorded it
	}
	if err != nil {
		return err
	}
	r.metrics.tag(a.Release.Repository, a.Release.Decision)
	r.noteAdmission(ctx, a, run, began)
	r.log.Info("a tag was decided on", "repository", a.Release.Repository, "tag", a.Release.Tag,
		"decision", a.Release.Decision, "reason", a.Release.Reason, "run", run)
	return nil
}
