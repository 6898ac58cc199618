package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/waymark-cd/waymark/release"
)

// maxReadFile bounds what ReadFile returns: it is for variables, not for data.
const maxReadFile = 4 << 20

// Files reads single files of one fetched commit, without writing it out.
type Files struct {
	r      *Repository
	commit string
}

// Files gives the files of a commit. Whether it was fetched shows at ReadFile.
func (r *Repository) Files(commit string) Files { return Files{r, commit} }

// ReadFile returns a file's content. The path is relative to the repository's
// root, with slashes, without "." and "..". Symlinks inside the tree are
// followed. The error wraps fs.ErrNotExist where there is no such file,
// release.ErrNotFound where the commit was not fetched, release.ErrRefused
// where a symlink leaves the tree or the path is no file, and ErrTooLarge above
// 4 MiB.
func (f Files) ReadFile(path string) ([]byte, error) {
	data, err := f.read(path)
	if err != nil {
		return nil, fmt.Errorf("reading %q of commit %s: %w", clip(path), clip(f.commit), err)
	}
	return data, nil
}

func (f Files) read(name string) ([]byte, error) {
	id, err := parseID(f.commit)
	if err != nil {
		return nil, err
	}
	if !fs.ValidPath(name) || name == "." {
		return nil, fmt.Errorf("%w: write the path relative to the repository's root, without dot segments", release.ErrInvalid)
	}
	if err := f.r.reading.take(context.Background()); err != nil {
		return nil, err
	}
	defer f.r.reading.give()
	treeID, err := commitTree(f.r.store, id)
	var data []byte
	if err == nil {
		data, err = f.content(treeID, name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		err = f.r.judgeReading(context.Background(), id, err)
	}
	return data, err
}

func (f Files) content(tree plumbing.Hash, name string) ([]byte, error) {
	at, err := resolve(nil, name, f.linkIn(tree))
	if errors.Is(err, errOutside) || errors.Is(err, errLinkHops) {
		return nil, fmt.Errorf("%w: a symlink on the way %w", release.ErrRefused, err)
	}
	if err != nil {
		return nil, err
	}
	e, err := f.find(tree, at)
	if err != nil {
		return nil, err
	}
	if e.Mode == filemode.Dir || e.Mode == filemode.Submodule {
		return nil, fmt.Errorf("%w: it is a folder", release.ErrRefused)
	}
	return f.blob(e.Hash, maxReadFile)
}

// linkIn looks symlinks up in the tree.
func (f Files) linkIn(tree plumbing.Hash) linkTarget {
	return func(path string) (string, bool, error) {
		e, err := f.find(tree, path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && e.Mode != filemode.Symlink {
			return "", false, nil
		}
		if err != nil {
			return "", false, err
		}
		target, err := f.blob(e.Hash, maxPath)
		return string(target), true, err
	}
}

// find returns the entry at a path, or fs.ErrNotExist. A folder that the cache
// ought to hold and does not is another error: a missing file may be optional,
// a damaged cache never is.
func (f Files) find(tree plumbing.Hash, path string) (object.TreeEntry, error) {
	e := object.TreeEntry{Mode: filemode.Dir, Hash: tree}
	if path == "" {
		return e, nil
	}
	for name := range strings.SplitSeq(path, "/") {
		if e.Mode != filemode.Dir {
			return e, fs.ErrNotExist
		}
		dir, err := readTree(f.r.store, e.Hash)
		if err != nil {
			return e, err
		}
		i := slices.IndexFunc(dir.Entries, func(e object.TreeEntry) bool { return e.Name == name })
		if i < 0 {
			return e, fs.ErrNotExist
		}
		e = dir.Entries[i]
	}
	return e, nil
}

func (f Files) blob(id plumbing.Hash, most int64) ([]byte, error) {
	obj, err := f.r.store.EncodedObject(plumbing.BlobObject, id)
	if err != nil {
		return nil, err
	}
	return readBounded(obj, most)
}
