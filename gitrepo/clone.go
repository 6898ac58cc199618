package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"github.com/waymark-cd/waymark/release"
)

// Clone is somebody's own clone of a repository, which answers as the remote
// would. Nothing is fetched, and nothing is written to it.
type Clone struct {
	repo *Repository
	git  *git.Repository
	// The branch as it was last fetched from a remote, or pushed there, and the
	// clone's own one; either may be missing.
	upstream, local plumbing.Hash
}

// ErrNoClone is what OpenClone's error wraps where the folder holds no repository.
var ErrNoClone = errors.New("no git repository")

// OpenClone opens a bare repository, or a clone at its top or from within. Of cfg
// it reads Name, Branch and the bounds.
func OpenClone(dir string, cfg Config) (*Clone, error) {
	repo, err := git.PlainOpen(dir)
	if errors.Is(err, git.ErrRepositoryNotExists) {
		repo, err = git.PlainOpenWithOptions(dir, &git.PlainOpenOptions{DetectDotGit: true, EnableDotGitCommonDir: true})
	}
	if errors.Is(err, git.ErrRepositoryNotExists) {
		return nil, fmt.Errorf("%s is %w", dir, ErrNoClone)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the clone %s: %w", dir, err)
	}
	store, ok := repo.Storer.(*filesystem.Storage)
	if !ok {
		return nil, fmt.Errorf("opening the clone %s: it is kept in no folder", dir)
	}
	cfg = cfg.withDefaults()
	c := &Clone{git: repo, repo: &Repository{cfg: cfg, shown: dir, log: cfg.Logger, store: store, foreign: true,
		fetching: newTurn(), reading: newTurn()}}
	if err := checkBranch(cfg.Branch); err != nil {
		return nil, c.repo.invalid(err)
	}
	return c, c.findTips()
}

// Close frees the clone's file descriptors.
func (c *Clone) Close() error { return c.repo.Close() }

// Tag is Repository.Tag.
func (c *Clone) Tag(ctx context.Context, ref Ref) (TagInfo, error) { return c.repo.Tag(ctx, ref) }

// SignedTag is Repository.SignedTag.
func (c *Clone) SignedTag(ctx context.Context, ref Ref) (SignedTag, error) {
	return c.repo.SignedTag(ctx, ref)
}

// Files is Repository.Files.
func (c *Clone) Files(commit string) Files { return c.repo.Files(commit) }

// Export is Repository.Export.
func (c *Clone) Export(ctx context.Context, commit, dir string) (treeDigest string, err error) {
	return c.repo.Export(ctx, commit, dir)
}

// findTips looks for the branch: the clone's own, and the one of its remotes. Of
// several remotes origin's is taken.
func (c *Clone) findTips() error {
	refs, err := c.git.References()
	if err != nil {
		return fmt.Errorf("reading the refs of the clone %s: %w", c.repo.shown, err)
	}
	defer refs.Close()
	return refs.ForEach(func(ref *plumbing.Reference) error {
		name := ref.Name().String()
		switch {
		case ref.Type() != plumbing.HashReference:
		case name == "refs/heads/"+c.repo.cfg.Branch:
			c.local = ref.Hash()
		case name == "refs/remotes/origin/"+c.repo.cfg.Branch,
			c.upstream.IsZero() && strings.HasPrefix(name, "refs/remotes/") && strings.HasSuffix(name, "/"+c.repo.cfg.Branch):
			c.upstream = ref.Hash()
		}
		return nil
	})
}

// Resembles reports whether the clone is that repository itself, or has a remote
// whose address ends in the same name: as far as can be told, for the same
// repository is reached by several addresses.
func (c *Clone) Resembles(url string) bool {
	name := func(s string) string {
		s = strings.TrimSuffix(strings.TrimSuffix(strings.TrimRight(s, "/"), "/.git"), ".git")
		return s[strings.LastIndexAny(s, "/:\\")+1:]
	}
	remotes, err := c.git.Remotes()
	if err != nil {
		return false
	}
	for _, r := range remotes {
		for _, u := range r.Config().URLs {
			if name(u) == name(url) {
				return true
			}
		}
	}
	here, err := filepath.Abs(c.repo.store.Filesystem().Root())
	there := strings.TrimPrefix(url, "file://")
	return err == nil && (here == there || here == filepath.Join(there, ".git"))
}

// Ref finds a tag of the clone; found is false where there is none.
func (c *Clone) Ref(name string) (ref Ref, found bool, err error) {
	at, err := c.git.Reference(plumbing.NewTagReferenceName(name), true)
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return Ref{}, false, nil
	}
	if err != nil {
		return Ref{}, false, fmt.Errorf("reading tag %q of the clone: %w", clip(name), err)
	}
	ref = Ref{Name: name, ObjectID: at.Hash().String(), Commit: at.Hash().String()}
	if tag, err := object.GetTag(c.repo.store, at.Hash()); err == nil {
		ref.Annotated, ref.Commit = true, tag.Target.String()
	}
	return ref, true, nil
}

// Head is the commit that the clone has checked out; empty before the first.
func (c *Clone) Head() string {
	head, err := c.git.Head()
	if err != nil {
		return ""
	}
	return head.Hash().String()
}

// Reachable tells whether a commit is on the branch as the clone knows it, and
// whether it is there by a remote too: a branch that was not pushed yet is not
// known to anybody else. A clone without the branch, or without the whole of its
// history, is release.ErrUnavailable.
func (c *Clone) Reachable(ctx context.Context, commit string) (reachable, pushed bool, err error) {
	id, err := parseID(commit)
	if err != nil {
		return false, false, err
	}
	if c.upstream.IsZero() && c.local.IsZero() {
		return false, false, fmt.Errorf("%w: the clone %s has no branch %q: fetch it", release.ErrUnavailable, c.repo.shown, c.repo.cfg.Branch)
	}
	for _, tip := range []plumbing.Hash{c.upstream, c.local} {
		if tip.IsZero() {
			continue
		}
		yes, err := newAncestry(tip).contains(ctx, c.repo.store, id)
		if err != nil {
			return false, false, fmt.Errorf("%w: the clone %s has not the whole history of branch %q: git fetch --unshallow (%w)", release.ErrUnavailable, c.repo.shown, c.repo.cfg.Branch, err)
		}
		if yes {
			return true, tip == c.upstream || c.upstream.IsZero(), nil
		}
	}
	return false, false, nil
}
