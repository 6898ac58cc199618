package gitrepo

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Ref is one tag as the remote lists it.
type Ref struct {
	Name     string // without refs/tags/
	ObjectID string // of the tag object; for a lightweight tag of what it names
	// Commit is what the tag leads to, as the remote says: Tag tells whether it
	// is a commit. Empty when unknown.
	Commit    string
	Annotated bool
}

// Listing is what a remote advertises at one moment.
type Listing struct {
	Branch string // commit of the configured branch; empty if there is no such branch
	// Tags are sorted by name. An unchanged remote gives the same slice again:
	// do not modify it.
	Tags []Ref
	// Digest is the SHA-256, in hex, over the branch and every tag's name and
	// ids: equal digests, equal listings.
	Digest string
}

const tagPrefix = "refs/tags/"

// List asks the remote for its tags and the branch, in one exchange. More tags
// than Config.MaxRefs are ErrTooLarge. An empty repository is no error.
func (r *Repository) List(ctx context.Context) (Listing, error) {
	listing, err := r.list(ctx)
	return listing, r.failed(ctx, "listing tags", err)
}

func (r *Repository) list(ctx context.Context) (Listing, error) {
	x, err := r.connect(ctx)
	if err != nil {
		return Listing{}, err
	}
	defer x.close()
	r.listing.Lock()
	c := collector{prev: r.listing.last, branchRef: []byte("refs/heads/" + r.cfg.Branch), max: r.cfg.MaxRefs}
	r.listing.Unlock()
	if err := x.refs(ctx, []string{"refs/heads/" + r.cfg.Branch, tagPrefix}, c.add); err != nil {
		return Listing{}, err
	}
	if c.skipped > 0 {
		r.log.Warn("tags with overlong names are left out", "count", c.skipped, "max_bytes", maxRefName)
	}
	listing, err := c.finish()
	if err != nil {
		return Listing{}, err
	}
	r.listing.Lock()
	r.listing.last = listing
	r.listing.Unlock()
	return listing, nil
}

// collector builds a Listing. It takes from the one before what has not
// changed, so that polling a large, quiet repository allocates nothing.
type collector struct {
	prev      Listing
	branchRef []byte
	max       int

	branch  string
	tags    []Ref // nil while all that came equals prev.Tags[:same]
	same    int
	at      int // in prev.Tags, once they differ
	skipped int
	refs    int // of any kind
}

func (c *collector) add(ref refLine) error {
	// Servers of protocol 0 send every ref: those count less, but they count.
	if c.refs++; c.refs > 8*c.max {
		return fmt.Errorf("%w: the remote lists more than %d refs", ErrTooLarge, 8*c.max)
	}
	if bytes.Equal(ref.name, c.branchRef) {
		c.branch = string(ref.id)
		return nil
	}
	name, ok := bytes.CutPrefix(ref.name, []byte(tagPrefix))
	if !ok || len(name) == 0 {
		return nil
	}
	if len(name) > maxRefName {
		c.skipped++
		return nil
	}
	if len(c.tags)+c.same >= c.max {
		return fmt.Errorf("%w: the remote has more than %d tags; delete old ones or raise the limit", ErrTooLarge, c.max)
	}
	if c.tags == nil {
		if c.same < len(c.prev.Tags) && equalRef(c.prev.Tags[c.same], name, ref) {
			c.same++
			return nil
		}
		c.tags = append(make([]Ref, 0, len(c.prev.Tags)+64), c.prev.Tags[:c.same]...)
		c.at, c.same = c.same, 0
	}
	c.tags = append(c.tags, c.take(name, ref))
	return nil
}

// take reuses the strings of the listing before where it holds the same tag.
func (c *collector) take(name []byte, ref refLine) Ref {
	for c.at < len(c.prev.Tags) && c.prev.Tags[c.at].Name < string(name) {
		c.at++
	}
	if c.at < len(c.prev.Tags) && equalRef(c.prev.Tags[c.at], name, ref) {
		return c.prev.Tags[c.at]
	}
	var b strings.Builder // one allocation for all three strings
	b.Grow(len(name) + 80)
	b.Write(name)
	b.Write(ref.id)
	b.Write(ref.peeled)
	s := b.String()
	n := len(name)
	out := Ref{Name: s[:n], ObjectID: s[n : n+40], Commit: s[n : n+40]}
	if len(ref.peeled) > 0 {
		out.Commit, out.Annotated = s[n+40:], true
	}
	return out
}

func equalRef(r Ref, name []byte, ref refLine) bool {
	if r.Name != string(name) || r.ObjectID != string(ref.id) || r.Annotated != (len(ref.peeled) > 0) {
		return false
	}
	return !r.Annotated || r.Commit == string(ref.peeled)
}

func (c *collector) finish() (Listing, error) {
	tags := c.tags
	if tags == nil {
		if c.same == len(c.prev.Tags) && c.branch == c.prev.Branch && c.prev.Digest != "" {
			return c.prev, nil
		}
		tags = c.prev.Tags[:c.same:c.same]
	}
	byName := func(a, b Ref) int { return cmp.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(tags, byName) {
		tags = slices.Clone(tags)
		slices.SortFunc(tags, byName)
	}
	for i := 1; i < len(tags); i++ {
		if tags[i].Name == tags[i-1].Name {
			return Listing{}, fmt.Errorf("the remote lists the tag %q twice", clip(tags[i].Name))
		}
	}
	return Listing{Branch: c.branch, Tags: tags, Digest: digest(c.branch, tags)}, nil
}

func digest(branch string, tags []Ref) string {
	h := sha256.New()
	b := append([]byte(branch), '\n')
	for _, t := range tags {
		b = append(append(append(append(b, t.ObjectID...), ' '), t.Commit...), ' ')
		b = append(append(b, t.Name...), '\n')
		if len(b) > 1<<13 {
			h.Write(b)
			b = b[:0]
		}
	}
	h.Write(b)
	return hex.EncodeToString(h.Sum(nil))
}
