package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"github.com/waymark-cd/waymark/release"
)

// Export writes the files of a fetched commit to dir, which must be empty or
// not exist, and returns the id of the git tree: equal ids, equal files.
//
// Execute bits and symlinks inside the tree are kept. Refused with
// release.ErrRefused, before anything is written: a symlink that leads out of
// the tree, directly or through others, and a name that could leave the folder
// or pass for .git on some file system. A name that this file system takes for
// one already written is an error too. A submodule becomes an empty folder, as
// git leaves it, and a line in the log. More files or bytes than Config allows
// are ErrTooLarge. On an error dir is left empty.
func (r *Repository) Export(ctx context.Context, commit, dir string) (treeDigest string, err error) {
	id, err := parseID(commit)
	if err != nil {
		return "", err
	}
	r.files.RLock()
	defer r.files.RUnlock()
	store := r.openStore()
	defer store.Close()
	treeID, err := r.export(ctx, store, id, dir)
	if err != nil {
		err = r.judge(ctx, id, err)
		return "", fmt.Errorf("repository %q: writing out commit %s: %w", r.cfg.Name, commit, err)
	}
	return treeID.String(), nil
}

// judge finds out whether a failed read is the cache's fault; r.reading is not
// held.
func (r *Repository) judge(ctx context.Context, commit plumbing.Hash, err error) error {
	if ctx.Err() != nil || r.reading.take(ctx) != nil {
		return err
	}
	defer r.reading.give()
	return r.judgeReading(ctx, commit, err)
}

func (r *Repository) judgeReading(ctx context.Context, commit plumbing.Hash, err error) error {
	if isDamage(err) || errors.Is(err, release.ErrNotFound) && r.lost(ctx, commit) {
		return r.markDamaged(err)
	}
	return err
}

// isDamage tells an unreadable object from our refusals and from a full disk.
func isDamage(err error) bool {
	var disk *fs.PathError
	var link *os.LinkError
	return !isSentinel(err) && !errors.As(err, &disk) && !errors.As(err, &link)
}

func (r *Repository) export(ctx context.Context, store *filesystem.Storage, id plumbing.Hash, dir string) (plumbing.Hash, error) {
	treeID, err := commitTree(store, id)
	if err != nil {
		return treeID, err
	}
	t := treeReader{ctx: ctx, store: store, maxFiles: r.cfg.MaxFiles}
	if err := t.read(treeID, ""); err != nil {
		return treeID, err
	}
	links, err := readLinks(store, t.entries)
	if err != nil {
		return treeID, err
	}
	if err := checkLinks(links); err != nil {
		return treeID, err
	}
	root, err := emptyRoot(dir)
	if err != nil {
		return treeID, err
	}
	defer root.Close()
	w := treeWriter{ctx: ctx, store: store, root: root, left: r.cfg.MaxTreeBytes, buf: make([]byte, 1<<15)}
	for _, e := range t.entries {
		if e.mode == filemode.Submodule {
			r.log.Warn("a submodule is left out: its folder is empty", "commit", id.String(), "path", e.path)
		}
		if err := w.write(e); err != nil {
			return treeID, errors.Join(fmt.Errorf("%q: %w", e.path, err), clearRoot(root))
		}
	}
	// Symlinks come last: no file is written through one.
	for name, target := range links {
		if err := root.Symlink(target, name); err != nil {
			return treeID, errors.Join(fmt.Errorf("%q: %w", name, err), clearRoot(root))
		}
	}
	return treeID, nil
}

func readLinks(store *filesystem.Storage, entries []entry) (map[string]string, error) {
	links := map[string]string{}
	for _, e := range entries {
		if e.mode != filemode.Symlink {
			continue
		}
		obj, err := store.EncodedObject(plumbing.BlobObject, e.id)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", e.path, err)
		}
		target, err := readBounded(obj, maxPath)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", e.path, err)
		}
		if _, twice := links[e.path]; twice {
			return nil, fmt.Errorf("%w: the tree lists %q twice", release.ErrRefused, e.path)
		}
		links[e.path] = string(target)
	}
	return links, nil
}

// emptyRoot opens dir, made if need be, and makes sure that it is empty.
func emptyRoot(dir string) (*os.Root, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	if len(entries) > 0 {
		return nil, fmt.Errorf("%w: the folder %s is not empty", release.ErrInvalid, dir)
	}
	return os.OpenRoot(dir)
}

func clearRoot(root *os.Root) error {
	entries, err := fs.ReadDir(root.FS(), ".")
	for _, e := range entries {
		err = errors.Join(err, root.RemoveAll(e.Name()))
	}
	return err
}

// treeWriter writes entries below root. Everything is created, never opened:
// two names that the file system takes for one are an error.
type treeWriter struct {
	ctx   context.Context
	store *filesystem.Storage
	root  *os.Root
	left  int64
	buf   []byte
}

func (w *treeWriter) write(e entry) error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	switch e.mode {
	case filemode.Dir, filemode.Submodule:
		return w.root.Mkdir(e.path, 0o755)
	case filemode.Symlink:
		return nil
	case filemode.Executable:
		return w.file(e, 0o755)
	default:
		return w.file(e, 0o644)
	}
}

func (w *treeWriter) file(e entry, perm fs.FileMode) (err error) {
	obj, err := w.store.EncodedObject(plumbing.BlobObject, e.id)
	if err != nil {
		return err
	}
	if w.left -= obj.Size(); w.left < 0 {
		return fmt.Errorf("%w: the tree is larger than the limit; raise it if that is right", ErrTooLarge)
	}
	in, err := obj.Reader()
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := w.root.OpenFile(e.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	n, err := io.CopyBuffer(struct{ io.Writer }{out}, io.LimitReader(in, obj.Size()+1), w.buf)
	if err == nil && n != obj.Size() {
		err = io.ErrUnexpectedEOF
	}
	return err
}
