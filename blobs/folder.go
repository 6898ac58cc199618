package blobs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/waymark-cd/waymark/release"
)

// unfinished is the folder of blobs that are still being written. No key can
// name it.
const unfinished = ".unfinished"

// folder keeps each blob as a file whose path is its key. Nothing leaves it, by
// a symbolic link neither.
type folder struct {
	path string
	root *os.Root
}

func openFolder(dir string) (*folder, error) {
	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("%w blobs: the folder %q is no absolute path", release.ErrInvalid, dir)
	}
	if err := os.MkdirAll(filepath.Join(dir, unfinished), 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of blobs: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the folder of blobs: %w", err)
	}
	f := &folder{path: dir, root: root}
	return f, f.sweep()
}

// sweep removes what writers left that are dead: a living one holds the lock of
// its file.
func (f *folder) sweep() error {
	left, err := fs.ReadDir(f.root.FS(), unfinished)
	if err != nil {
		return fmt.Errorf("sweeping the folder of blobs: %w", err)
	}
	for _, entry := range left {
		name := path.Join(unfinished, entry.Name())
		file, err := f.root.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // its writer was quicker
		}
		if err == nil && syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			err = f.root.Remove(name)
		}
		if file != nil {
			_ = file.Close()
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("sweeping the folder of blobs: %w", err)
		}
	}
	return nil
}

// create makes a file to write to, locked for as long as it is open.
func (f *folder) create() (name string, file *os.File, err error) {
	for {
		name = path.Join(unfinished, rand.Text())
		if file, err = f.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err != nil {
			return "", nil, err
		}
		// Another process may sweep between the two steps: then the file is
		// locked already, or gone.
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			_, err = f.root.Lstat(name)
		}
		if err == nil {
			return name, file, nil
		}
		_ = file.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, fs.ErrNotExist) {
			_ = f.root.Remove(name)
			return "", nil, err
		}
	}
}

func (f *folder) put(_ context.Context, key string, data io.Reader) error {
	name, file, err := f.create()
	if err != nil {
		return f.explain("storing", key, err)
	}
	_, err = io.Copy(file, data)
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = f.place(name, key)
	}
	// Only now: without the lock another process would sweep the file.
	err = errors.Join(err, file.Close())
	if err != nil {
		_ = f.root.Remove(name)
	}
	if src, ok := data.(*source); ok && src.failed != nil {
		return fmt.Errorf("storing blob %q: %w", key, src.failed)
	}
	return f.explain("storing", key, err)
}

// placeTries bounds how often the folders of a blob are made again that others
// remove because they are empty.
const placeTries = 100

// place gives a written file its key, for good.
func (f *folder) place(name, key string) error {
	dir := path.Dir(key)
	for try := 1; ; try++ {
		err := f.makeDirs(dir)
		if err == nil {
			err = f.root.Rename(name, key)
		}
		if errors.Is(err, fs.ErrNotExist) && try < placeTries {
			continue
		}
		if err != nil {
			return err
		}
		if err = f.syncDir(dir); errors.Is(err, fs.ErrNotExist) {
			return nil // the blob has been deleted already, and its folder with it
		}
		return err
	}
}

// makeDirs makes the folders of a blob and forces each to the disk.
func (f *folder) makeDirs(dir string) error {
	for i := range len(dir) + 1 {
		if dir == "." || i < len(dir) && dir[i] != '/' {
			continue
		}
		err := f.root.Mkdir(dir[:i], 0o700)
		if err == nil {
			err = f.syncDir(path.Dir(dir[:i]))
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

func (f *folder) syncDir(dir string) error {
	d, err := f.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (f *folder) get(_ context.Context, key string) (io.ReadCloser, error) {
	file, err := f.root.Open(key)
	if err == nil {
		var info fs.FileInfo
		if info, err = file.Stat(); err == nil && !info.Mode().IsRegular() {
			err = fs.ErrNotExist // a folder of other keys
		}
		if err == nil {
			return file, nil
		}
		_ = file.Close()
	}
	// A part of the key that is a blob, and no folder, has nothing beneath it.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, missing(key)
	}
	return nil, f.explain("reading", key, err)
}

func missing(key string) error {
	return fmt.Errorf("%w: there is no blob %q", release.ErrNotFound, key)
}

func (f *folder) list(ctx context.Context, prefix string, each func(Info)) error {
	top := "."
	if prefix != "" {
		top = prefix
	}
	err := fs.WalkDir(f.root.FS(), top, func(name string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return nil // deleted meanwhile, or never there
		}
		if err != nil {
			return err
		}
		if entry.IsDir() && name != "." && strings.HasPrefix(entry.Name(), ".") {
			return fs.SkipDir
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		// The top itself is a blob where the prefix is the key of one.
		if err == nil && info.Mode().IsRegular() && name != top && checkKey(name) == nil {
			each(Info{Key: name, Size: info.Size(), ModTime: info.ModTime()})
		}
		return err
	})
	return f.explain("listing", prefix, err)
}

func (f *folder) remove(_ context.Context, key string) error {
	info, err := f.root.Lstat(key)
	if err == nil && !info.IsDir() {
		err = f.root.Remove(key)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || err == nil && info.IsDir() {
		return nil
	}
	// Folders that are empty go too; one that is not stops it.
	for dir := path.Dir(key); err == nil && dir != "."; dir = path.Dir(dir) {
		if f.root.Remove(dir) != nil {
			break
		}
	}
	return f.explain("deleting", key, err)
}

// check writes a byte, so that a full, read-only or lost disk is seen.
func (f *folder) check(context.Context) error {
	name, file, err := f.create()
	if err == nil {
		_, err = file.WriteString("x")
		err = errors.Join(err, file.Close(), f.root.Remove(name))
	}
	return f.explain("writing", "for a check", err)
}

// explain says what somebody can do about an error of the file system. A full
// disk, and one that has been taken away, may come back.
func (f *folder) explain(doing, key string, err error) error {
	is := func(codes ...syscall.Errno) bool {
		for _, c := range codes {
			if errors.Is(err, c) {
				return true
			}
		}
		return false
	}
	switch {
	case err == nil:
		return nil
	case is(syscall.ENOSPC, syscall.EDQUOT):
		return fmt.Errorf("%w: %s blob %q: the disk of %s is full: free space there; what was stored before is whole: %w", release.ErrUnavailable, doing, key, f.path, err)
	case is(syscall.EFBIG):
		return fmt.Errorf("%w: %s blob %q: files in %s may not become so large: raise the limit of the process or the disk: %w", release.ErrUnavailable, doing, key, f.path, err)
	case is(syscall.EIO, syscall.EROFS, syscall.ESTALE, syscall.EMFILE, syscall.ENFILE):
		return fmt.Errorf("%w: %s blob %q in %s: look at the disk and the mount: %w", release.ErrUnavailable, doing, key, f.path, err)
	case is(syscall.ENOTDIR, syscall.EISDIR, syscall.EEXIST, syscall.ENOTEMPTY):
		return fmt.Errorf("%w: %s blob %q in %s: a blob and a folder of blobs cannot have the same key: %w", release.ErrConflict, doing, key, f.path, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %s blob %q: this process may not write and read in %s: give the folder to its user: %w", release.ErrRefused, doing, key, f.path, err)
	}
	return fmt.Errorf("%s blob %q in %s: %w", doing, key, f.path, err)
}
