package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"

	"github.com/waymark-cd/waymark/release"
)

const (
	maxTreeObject = 16 << 20 // bytes of one folder's list
	maxPath       = 4096     // bytes
	maxLinkHops   = 40       // as the kernel allows
)

// entry is one thing that Export writes.
type entry struct {
	path string // relative, slashes, checked
	mode filemode.FileMode
	id   plumbing.Hash
}

// treeReader flattens a tree, holding every name and the bounds.
type treeReader struct {
	ctx      context.Context
	store    storer.EncodedObjectStorer
	maxFiles int
	entries  []entry
}

// commitTree is the id of the commit's tree.
func commitTree(store storer.EncodedObjectStorer, id plumbing.Hash) (plumbing.Hash, error) {
	commit, err := object.GetCommit(store, id)
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return plumbing.ZeroHash, fmt.Errorf("commit %s: %w in the local copy: fetch it first", id, release.ErrNotFound)
	}
	if err != nil {
		return plumbing.ZeroHash, fmt.Errorf("reading commit %s: %w", id, err)
	}
	return commit.TreeHash, nil
}

// read adds the folder's entries, parents before children.
func (t *treeReader) read(id plumbing.Hash, dir string) error {
	if t.ctx.Err() != nil {
		return context.Cause(t.ctx)
	}
	tree, err := readTree(t.store, id)
	if err != nil {
		return fmt.Errorf("folder %q: %w", dir, err)
	}
	for _, e := range tree.Entries {
		name := path.Join(dir, e.Name)
		if why := badName(e.Name); why != "" {
			return fmt.Errorf("%w: %q %s; remove it from the repository", release.ErrRefused, clip(dir+"/"+e.Name), why)
		}
		if len(name) > maxPath {
			return fmt.Errorf("%w: the path %q…", ErrTooLarge, clip(name))
		}
		if len(t.entries) >= t.maxFiles {
			return fmt.Errorf("%w: the tree holds more than %d files and folders; raise the limit if that is right", ErrTooLarge, t.maxFiles)
		}
		t.entries = append(t.entries, entry{name, e.Mode, e.Hash})
		if e.Mode == filemode.Dir {
			if err := t.read(e.Hash, name); err != nil {
				return err
			}
		}
	}
	return nil
}

func readTree(store storer.EncodedObjectStorer, id plumbing.Hash) (*object.Tree, error) {
	obj, err := store.EncodedObject(plumbing.TreeObject, id)
	if err != nil {
		return nil, err
	}
	if obj.Size() > maxTreeObject {
		return nil, fmt.Errorf("%w: its list of files has %d bytes", ErrTooLarge, obj.Size())
	}
	return object.DecodeTree(store, obj)
}

// badName says why a name must not be written to any file system, or nothing.
// Besides the names that leave the folder these are the spellings that
// Windows and macOS take for .git.
func badName(name string) string {
	switch {
	case name == "" || name == "." || name == "..":
		return "is no file name"
	case strings.ContainsAny(name, "/\\\x00"):
		return "holds a slash, a backslash or a NUL"
	case len(name) > 255:
		return "is too long a name"
	case isDotGit(name):
		return "is a name that git keeps for itself"
	}
	return ""
}

func isDotGit(name string) bool {
	name = strings.Map(func(c rune) rune {
		// What HFS+ leaves out when it compares names (git's utf8.c).
		if c >= 0x200c && c <= 0x200f || c >= 0x202a && c <= 0x202e || c >= 0x206a && c <= 0x206f || c == 0xfeff {
			return -1
		}
		return c
	}, name)
	name, _, _ = strings.Cut(name, ":") // NTFS streams
	name = strings.ToLower(strings.TrimRight(name, ". "))
	return name == ".git" || name == "git~1"
}

// linkTarget tells where the symlink at a path points; ok is false for
// anything else.
type linkTarget func(path string) (target string, ok bool, err error)

var (
	errOutside  = errors.New("leads out of the tree")
	errLinkHops = errors.New("passes too many symlinks")
)

// resolve follows rest from the folder dir through every symlink, by name
// alone: a part that does not exist counts as a folder, because it may come to
// exist. The result is a path inside the tree; errOutside where it would leave.
func resolve(dir []string, rest string, link linkTarget) (string, error) {
	at := append([]string(nil), dir...)
	parts := strings.Split(rest, "/")
	for hops := 0; len(parts) > 0; {
		p := parts[0]
		parts = parts[1:]
		switch p {
		case "", ".":
			continue
		case "..":
			if len(at) == 0 {
				return "", errOutside
			}
			at = at[:len(at)-1]
			continue
		}
		at = append(at, p)
		target, ok, err := link(strings.Join(at, "/"))
		if err != nil {
			return "", err
		}
		if !ok {
			continue
		}
		if hops++; hops > maxLinkHops {
			return "", errLinkHops
		}
		if strings.HasPrefix(target, "/") {
			return "", errOutside
		}
		at = at[:len(at)-1]
		parts = append(strings.Split(target, "/"), parts...)
	}
	return strings.Join(at, "/"), nil
}

// checkLinks refuses a symlink that is empty, absolute, or leads out of the
// tree by itself or through others.
func checkLinks(links map[string]string) error {
	look := func(p string) (string, bool, error) { t, ok := links[p]; return t, ok, nil }
	for from, target := range links {
		var dir []string
		if parent := path.Dir(from); parent != "." {
			dir = strings.Split(parent, "/")
		}
		var err error
		switch {
		case target == "" || strings.ContainsRune(target, 0):
			err = errors.New("has no valid target")
		case strings.HasPrefix(target, "/"):
			err = errOutside
		default:
			_, err = resolve(dir, target, look)
		}
		if err != nil {
			return fmt.Errorf("%w: the symlink %q to %q %w; replace it in the repository", release.ErrRefused, from, clip(target), err)
		}
	}
	return nil
}
