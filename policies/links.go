package policies

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Bounds on the search for links.
const (
	maxEntries = 500000 // files and folders of the repository
	maxLinks   = 1000   // that lead out of it
	maxHops    = 40     // from link to link
)

// findLinks lists the symbolic links anywhere in the repository that lead out
// of it: code may read through any of them.
func (r *reader) findLinks(root string) {
	entries := 0
	err := filepath.WalkDir(root+string(filepath.Separator), func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entries++; entries > maxEntries {
			r.stop("the repository holds more than %d files and folders: split it", maxEntries)
			return fs.SkipAll
		}
		if d.Type()&fs.ModeSymlink == 0 {
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		return r.addLink(root, filepath.ToSlash(rel))
	})
	if err != nil && r.failure == nil {
		r.failure = fmt.Errorf("reading the configuration: looking for symbolic links: %w", plainError(err))
	}
}

// addLink lists a link where it leads out.
func (r *reader) addLink(root, name string) error {
	leads, err := os.Readlink(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	reason := followLink(root, name)
	if reason == "" {
		return nil
	}
	if len(r.input.OutsideLinks) == maxLinks {
		r.stop("more than %d symbolic links lead out of the repository: remove them", maxLinks)
		return fs.SkipAll
	}
	r.input.OutsideLinks = append(r.input.OutsideLinks, OutsideLink{File: name, Leads: leads, Reason: reason})
	return nil
}

// followLink says why a link leads out of the repository; empty where it does
// not. It goes by names: a part that does not exist counts as a folder, because
// it may come to exist.
func followLink(root, name string) (reason string) {
	at, rest := "", strings.Split(name, "/")
	for hops := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		if part == "" || part == "." {
			continue
		}
		if part == ".." {
			if at == "" {
				return "it leads above the repository"
			}
			if at = path.Dir(at); at == "." {
				at = ""
			}
			continue
		}
		at = path.Join(at, part)
		leads, err := os.Readlink(filepath.Join(root, filepath.FromSlash(at)))
		switch {
		case err != nil && (errors.Is(err, fs.ErrPermission) || strings.ContainsRune(at, 0)):
			return "it cannot be followed"
		case err != nil:
			continue // no link
		}
		if hops++; hops > maxHops {
			return "it goes from link to link without end"
		}
		if filepath.IsAbs(leads) {
			return "it leads to an absolute path"
		}
		if at = path.Dir(at); at == "." {
			at = ""
		}
		rest = append(strings.Split(filepath.ToSlash(leads), "/"), rest...)
	}
	return ""
}
