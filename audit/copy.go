package audit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/waymark-cd/waymark/release"
)

// A copy of the log is files of consecutive entries, one leaf a line, each with
// the signed checkpoint of the log as it was after its last entry:
//
//	000000/000000000000-000000000041.jsonl
//	000000/000000000000-000000000041.checkpoint
//
// The names are the indexes of the first and the last entry; a folder is for
// 100,000 of them. A file counts once its checkpoint is there.

const (
	copyEntries = 1000    // of one file
	copyBytes   = 4 << 20 // likewise, but for one entry more
	copyFolder  = 100_000 // entries of one folder
	linesSuffix = ".jsonl"
	noteSuffix  = ".checkpoint"
)

// Segment is one file of a copy.
type Segment struct{ First, Last int64 }

// name is the segment's key without what tells its two files apart.
func (s Segment) name() string {
	return fmt.Sprintf("%s/%012d-%012d", s.folder(), s.First, s.Last)
}

func (s Segment) folder() string { return fmt.Sprintf("%06d", s.First/copyFolder) }

// Lines is the key of the segment's entries, Note that of its checkpoint.
func (s Segment) Lines() string { return s.name() + linesSuffix }

// Note is the key of the segment's checkpoint.
func (s Segment) Note() string { return s.name() + noteSuffix }

// Segments finds the segments among keys, in the order of their entries. One
// whose checkpoint is missing was not finished, and is left out.
func Segments(keys []string) []Segment {
	var out []Segment
	there := map[string]bool{}
	for _, key := range keys {
		there[key] = true
	}
	for _, key := range keys {
		name, ok := strings.CutSuffix(path.Base(key), noteSuffix)
		first, last, both := strings.Cut(name, "-")
		a, err1 := strconv.ParseInt(first, 10, 64)
		b, err2 := strconv.ParseInt(last, 10, 64)
		s := Segment{a, b}
		if ok && both && errors.Join(err1, err2) == nil && a >= 0 && b >= a && s.Note() == key && there[s.Lines()] {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b Segment) int { return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last)) })
	return out
}

// CopyConfig is what a copy is made from, and where to. All is required.
type CopyConfig struct {
	Size   func(ctx context.Context) (int64, error)
	Read   func(ctx context.Context, from int64, limit int) ([]Entry, error)
	HeadAt func(ctx context.Context, size int64) (Head, error)
	Hashes func(ctx context.Context) tlog.HashReader
	Sign   func(ctx context.Context, head Head) (string, error)
	// Verifiers are the keys that may have signed what is there already.
	Verifiers func(ctx context.Context) ([]string, error)
	// Put stores, Get reads, and List lists the keys beneath a folder.
	Put  func(ctx context.Context, key string, data []byte) error
	Get  func(ctx context.Context, key string) ([]byte, error)
	List func(ctx context.Context, folder string) ([]string, error)
}

// Copier copies the log as it grows. It belongs to one goroutine, and to one
// process at a time; what two write at once is the same twice.
type Copier struct {
	cfg   CopyConfig
	has   Head // of the entries that the copy has
	knows bool // has is known
}

// NewCopier makes a copier. It asks nobody yet.
func NewCopier(cfg CopyConfig) *Copier { return &Copier{cfg: cfg} }

// Position finds how far the copy goes, by what is there, and that what is there
// is the beginning of this log. A log that is shorter than its copy, or another,
// is ErrTampered: nothing is copied then, because the copy is the evidence.
func (c *Copier) Position(ctx context.Context) (int64, error) {
	size, err := c.cfg.Size(ctx)
	if err != nil {
		return 0, err
	}
	if c.knows {
		return c.has.Size, c.agree(ctx, size)
	}
	// The folder after the last is looked into too: there should be none.
	for folder := size/copyFolder + 1; folder >= 0; folder-- {
		keys, err := c.cfg.List(ctx, Segment{First: folder * copyFolder}.folder())
		if err != nil {
			return 0, err
		}
		found := Segments(keys)
		if len(found) == 0 {
			continue
		}
		last := found[0]
		for _, s := range found {
			if s.Last > last.Last {
				last = s
			}
		}
		if err := c.resume(ctx, last); err != nil {
			return 0, err
		}
		return c.has.Size, c.agree(ctx, size)
	}
	c.has, c.knows = (&Verifier{}).Head(), true
	return 0, nil
}

// resume takes the copy's last segment for its end.
func (c *Copier) resume(ctx context.Context, last Segment) error {
	note, err := c.cfg.Get(ctx, last.Note())
	if err != nil {
		return err
	}
	keys, err := c.cfg.Verifiers(ctx)
	if err != nil {
		return err
	}
	kept, _, err := OpenCheckpoint(string(note), keys...)
	if err == nil && kept.Size != last.Last+1 {
		err = fmt.Errorf("%w checkpoint: it is about %d entries", release.ErrInvalid, kept.Size)
	}
	if err != nil {
		return fmt.Errorf("the copy's %s: %w: was it made of another log? Give this one a place of its own", last.Note(), err)
	}
	c.has, c.knows = kept.Head, true
	return nil
}

// agree holds that a log of size entries begins with what the copy has.
func (c *Copier) agree(ctx context.Context, size int64) error {
	if c.has.Size > size {
		return fmt.Errorf("the log and its copy: %w", Shorter(size, c.has))
	}
	now, err := c.cfg.HeadAt(ctx, c.has.Size)
	if err == nil && now.Root != c.has.Root {
		err = fmt.Errorf("the log and its copy: %w: its first %d entries hash to %s, the copy's checkpoint says %s: an entry was changed, removed or put in",
			ErrTampered, c.has.Size, now.Root, c.has.Root)
	}
	return err
}

// Copied is how many entries the copy has; false before that was found out.
func (c *Copier) Copied() (int64, bool) { return c.has.Size, c.has.Root != "" }

// Step copies the next segment and returns how many entries it has: 0 where the
// copy is whole, or where fewer entries than a whole segment wait and flush is
// false. After an error the place is looked for again.
func (c *Copier) Step(ctx context.Context, flush bool) (copied int64, err error) {
	defer func() {
		if err != nil {
			c.knows = false
		}
	}()
	from, err := c.Position(ctx)
	if err != nil {
		return 0, err
	}
	limit := min(copyEntries, copyFolder-from%copyFolder)
	entries, err := c.cfg.Read(ctx, from, int(limit))
	if err != nil || len(entries) == 0 || !flush && int64(len(entries)) < limit {
		return 0, err
	}
	lines, s, head, err := c.segment(ctx, from, entries)
	if err != nil {
		return 0, err
	}
	note, err := c.cfg.Sign(ctx, head)
	if err != nil {
		return 0, err
	}
	if err := c.cfg.Put(ctx, s.Lines(), lines); err != nil {
		return 0, err
	}
	if err := c.cfg.Put(ctx, s.Note(), []byte(note)); err != nil {
		return 0, err
	}
	c.has = head
	return s.Last - s.First + 1, nil
}

// segment makes the lines of the next entries, and holds that they are what the
// tree was made from: a leaf that was edited in the database is no leaf of it.
func (c *Copier) segment(ctx context.Context, from int64, entries []Entry) (text []byte, s Segment, head Head, err error) {
	var lines bytes.Buffer
	tree, err := Resume(c.has, c.cfg.Hashes(ctx))
	if err != nil {
		return nil, s, head, err
	}
	for _, e := range entries {
		if lines.Len() > copyBytes {
			break
		}
		if err := tree.Add(e.Index, e.Leaf); err != nil {
			return nil, s, head, err
		}
		lines.Write(e.Leaf)
		lines.WriteByte('\n')
	}
	if head, err = c.cfg.HeadAt(ctx, tree.Size()); err == nil {
		err = tree.Check(head)
	}
	return lines.Bytes(), Segment{from, tree.Size() - 1}, head, err
}

// VerifyCopy recomputes the tree from a copy alone, given its keys and how to
// read one, and holds it against the checkpoint of each segment, which one of the
// verifiers must have signed. kept, where not nil, must be contained. It returns
// the head of all entries; a gap, or anything else that does not fit, is
// ErrTampered.
func VerifyCopy(keys []string, get func(key string) ([]byte, error), kept *Head, verifiers ...string) (Head, error) {
	var tree Verifier
	if kept != nil {
		if err := tree.Expect(*kept); err != nil {
			return Head{}, err
		}
	}
	for _, s := range Segments(keys) {
		if s.Last < tree.Size() {
			continue // two services wrote at the same time
		}
		if err := addSegment(&tree, s, get, verifiers); err != nil {
			return Head{}, fmt.Errorf("%s: %w", s.Lines(), err)
		}
	}
	if kept != nil && kept.Size > tree.Size() {
		return Head{}, Shorter(tree.Size(), *kept)
	}
	return tree.Head(), nil
}

func addSegment(tree *Verifier, s Segment, get func(key string) ([]byte, error), verifiers []string) error {
	if s.First > tree.Size() {
		return fmt.Errorf("%w: it begins with entry %d, and entry %d is missing", ErrTampered, s.First, tree.Size())
	}
	lines, err := get(s.Lines())
	if err != nil {
		return err
	}
	leaves := bytes.Split(bytes.TrimSuffix(lines, []byte("\n")), []byte("\n"))
	if int64(len(leaves)) != s.Last-s.First+1 {
		return fmt.Errorf("%w: it has %d lines, and its name says %d", ErrTampered, len(leaves), s.Last-s.First+1)
	}
	for i, leaf := range leaves {
		if index := s.First + int64(i); index >= tree.Size() {
			if err := tree.Add(index, leaf); err != nil {
				return err
			}
		}
	}
	note, err := get(s.Note())
	if err != nil {
		return err
	}
	c, _, err := OpenCheckpoint(string(note), verifiers...)
	if err != nil {
		return err
	}
	return tree.Check(c.Head)
}
