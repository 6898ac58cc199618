package gitrepo

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

// unpackLimit is git's: a smaller pack becomes loose objects, so that a fetch
// per tag does not leave a pack per tag.
const unpackLimit = 100

// install saves a pack from the remote, checks it, and makes its objects
// readable. Nothing is visible before all of it is verified.
func (r *Repository) install(ctx context.Context, stream io.Reader) (err error) {
	f, err := os.CreateTemp(r.path("objects", "pack"), "tmp_pack_")
	if err != nil {
		return fmt.Errorf("%w: %w", errLocal, err)
	}
	defer func() {
		_ = f.Close()
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	sum, err := download(ctx, f, stream, r.cfg.MaxPackBytes)
	if err != nil {
		return err
	}
	in := &ctxFile{ctx: ctx, File: f}
	count, err := scanPack(in, r.cfg.MaxObjectBytes)
	if err != nil {
		return badPack(ctx, err)
	}
	index, err := indexPack(in)
	if err != nil {
		return badPack(ctx, err)
	}
	return r.show(func() error {
		if count < unpackLimit {
			return r.unpack(f.Name(), index)
		}
		return r.addPack(f, sum, index)
	})
}

// show puts objects in place while nobody reads, because readers would find a
// commit whose trees are still to come, and lets them see what is new.
func (r *Repository) show(place func() error) error {
	if err := r.reading.take(context.Background()); err != nil {
		return err
	}
	defer r.reading.give()
	if err := place(); err != nil {
		return fmt.Errorf("%w: %w", errLocal, err)
	}
	_ = r.store.Close()
	r.store, r.walk = r.openStore(), nil
	return nil
}

func badPack(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, ErrTooLarge) {
		return err
	}
	return &trouble{what: "the remote sent a malformed pack", cause: err, next: "check the remote repository with git fsck"}
}

// download writes the pack to f and verifies its trailing checksum, which it
// returns.
func download(ctx context.Context, f *os.File, stream io.Reader, most int64) ([]byte, error) {
	w := &packSink{f: f, left: most, hash: sha1.New()}
	if _, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{stream}, make([]byte, 1<<16)); err != nil {
		if errors.Is(err, ErrTooLarge) {
			return nil, fmt.Errorf("%w: the fetch brings more than %d bytes; raise the limit if that is right", ErrTooLarge, most)
		}
		return nil, err
	}
	if got := w.hash.Sum(nil); len(w.end) != sha1.Size || !bytes.Equal(got, w.end) {
		return nil, badPack(ctx, errors.New("its checksum does not fit"))
	}
	return w.end, nil
}

// packSink writes and hashes all but the last 20 bytes, which are the pack's
// own checksum.
type packSink struct {
	f    *os.File
	left int64
	hash interface {
		io.Writer
		Sum([]byte) []byte
	}
	end []byte
}

func (w *packSink) Write(p []byte) (int, error) {
	if w.left -= int64(len(p)); w.left < 0 {
		return 0, ErrTooLarge
	}
	if n, err := w.f.Write(p); err != nil {
		return n, fmt.Errorf("%w: %w", errLocal, err)
	}
	w.end = append(w.end, p...)
	if n := len(w.end) - sha1.Size; n > 0 {
		_, _ = w.hash.Write(w.end[:n])
		w.end = append(w.end[:0], w.end[n:]...)
	}
	return len(p), nil
}

// ctxFile stops a long parse when the context ends.
type ctxFile struct {
	ctx context.Context
	*os.File
}

func (c *ctxFile) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.File.Read(p)
}

// scanPack reads the pack once without keeping anything and refuses objects
// whose inflated size goes beyond most: the parser that follows holds whole
// objects in memory.
func scanPack(in io.ReadSeeker, most int64) (count uint32, err error) {
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	s := packfile.NewScanner(in)
	_, count, err = s.Header()
	if err != nil {
		return 0, err
	}
	for range count {
		h, err := s.NextObjectHeader()
		if err != nil {
			return 0, err
		}
		head := &firstBytes{}
		if h.Length > most {
			return 0, tooBig(h.Length, most)
		}
		if n, _, err := s.NextObject(head); err != nil || n != h.Length {
			return 0, errors.Join(fmt.Errorf("object at %d is cut short", h.Offset), err)
		}
		if h.Type.IsDelta() {
			if size := deltaTarget(head.b); size < 0 || size > most {
				return 0, tooBig(size, most)
			}
		}
	}
	return count, nil
}

func tooBig(size, most int64) error {
	return fmt.Errorf("%w: an object of %d bytes; the limit is %d", ErrTooLarge, size, most)
}

// firstBytes keeps enough of a delta to read the two sizes at its head.
type firstBytes struct{ b []byte }

func (f *firstBytes) Write(p []byte) (int, error) {
	f.b = append(f.b, p[:min(len(p), 20-len(f.b))]...)
	return len(p), nil
}

// deltaTarget reads the size of the object that a delta makes, -1 if malformed.
func deltaTarget(b []byte) int64 {
	var size int64
	for range 2 { // the base's size, then the target's
		size = 0
		for shift := 0; ; shift += 7 {
			if len(b) == 0 || shift > 56 {
				return -1
			}
			c := b[0]
			b = b[1:]
			size |= int64(c&0x7f) << shift
			if c&0x80 == 0 {
				break
			}
		}
	}
	return size
}

func indexPack(in io.ReadSeeker) (*idxfile.MemoryIndex, error) {
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	w := new(idxfile.Writer)
	p, err := packfile.NewParser(packfile.NewScanner(in), w)
	if err != nil {
		return nil, err
	}
	if _, err := p.Parse(); err != nil {
		return nil, err
	}
	return w.Index()
}

// unpack stores a small pack's objects one by one and removes it.
func (r *Repository) unpack(name string, index *idxfile.MemoryIndex) error {
	fs := osfs.New(r.path("objects", "pack"))
	f, err := fs.Open(filepath.Base(name))
	if err != nil {
		return err
	}
	pack := packfile.NewPackfile(index, fs, f, 0)
	defer pack.Close()
	store := r.openStore()
	defer store.Close()
	entries, err := index.EntriesByOffset()
	if err != nil {
		return err
	}
	for {
		e, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return os.Remove(name)
		}
		if err != nil {
			return err
		}
		if err := storeLoose(store, pack, e.Hash); err != nil {
			return err
		}
	}
}

func storeLoose(store interface {
	SetEncodedObject(plumbing.EncodedObject) (plumbing.Hash, error)
}, pack *packfile.Packfile, want plumbing.Hash) error {
	obj, err := pack.Get(want)
	if err != nil {
		return err
	}
	got, err := store.SetEncodedObject(obj)
	if err == nil && got != want {
		err = fmt.Errorf("object %s hashes to %s", want, got)
	}
	return err
}

// addPack gives the pack and its index their names, the index last: a pack
// without one is swept away by the next Open.
func (r *Repository) addPack(f *os.File, sum []byte, index *idxfile.MemoryIndex) error {
	base := r.path("objects", "pack", fmt.Sprintf("pack-%x", sum))
	var idx bytes.Buffer
	if _, err := idxfile.NewEncoder(&idx).Encode(index); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), base+".pack"); err != nil {
		return err
	}
	tmp := r.path("objects", "pack", fmt.Sprintf("tmp_idx_%x", sum))
	if err := writeSynced(tmp, idx.Bytes()); err != nil {
		return err
	}
	return os.Rename(tmp, base+".idx")
}
