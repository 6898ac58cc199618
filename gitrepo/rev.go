package gitrepo

import (
	"context"
	"fmt"
	"slices"

	"github.com/waymark-cd/waymark/release"
)

// Rev finds the commit that rev names, a branch of the remote or a full commit id,
// and fetches it. The commit must be on the configured branch or, with any, be the
// newest of another branch. Where nothing has the name the error wraps
// release.ErrNotFound; a commit that is elsewhere is release.ErrRefused.
//
// A commit outside the configured branch comes without its history.
func (r *Repository) Rev(ctx context.Context, rev string, any bool) (commit string, err error) {
	if err := r.fetching.take(ctx); err != nil {
		return "", r.failed(ctx, "finding "+clip(rev), err)
	}
	defer r.fetching.give()
	commit, err = r.rev(ctx, rev, any)
	return commit, r.failed(ctx, "finding "+clip(rev), err)
}

func (r *Repository) rev(ctx context.Context, rev string, any bool) (string, error) {
	isID := isHexID([]byte(rev))
	if err := checkBranch(rev); err != nil && !isID {
		return "", fmt.Errorf("%w: %w", release.ErrInvalid, err)
	}
	if err := r.startOverIfDamaged(ctx); err != nil {
		return "", err
	}
	x, err := r.connect(ctx)
	if err != nil {
		return "", err
	}
	defer func() { x.close() }()
	now, err := r.heads(ctx, x, rev)
	if err != nil {
		return "", err
	}
	commit := now.named
	if commit == "" && isID {
		commit = rev
	}
	if commit == "" {
		return "", fmt.Errorf("%w: the remote has no branch %q; name one, or a commit by its 40 digits", release.ErrNotFound, clip(rev))
	}
	if on, err := r.bringBranch(ctx, x, now.branch, commit); err != nil || on {
		return commit, err
	}
	switch {
	case !any:
		return "", fmt.Errorf("%w: commit %.12s is not on branch %q, and only its commits may be planned without a tag here", release.ErrRefused, commit, r.cfg.Branch)
	case !slices.Contains(now.tips, commit):
		return "", fmt.Errorf("%w: commit %.12s is neither on branch %q nor the newest of another: push a branch that ends there", release.ErrRefused, commit, r.cfg.Branch)
	}
	if x.spent() {
		x.close()
		if x, err = r.connect(ctx); err != nil {
			return "", err
		}
		if err := x.refs(ctx, nil, func(refLine) error { return nil }); err != nil {
			return "", err
		}
	}
	return commit, r.bring(ctx, x, r.without(ctx, commit), true)
}

// headView is what the remote advertises of its branches.
type headView struct {
	branch string   // the configured one's commit
	named  string   // that of the branch that was asked for; empty where there is none
	tips   []string // of all
}

func (r *Repository) heads(ctx context.Context, x *exchange, rev string) (v headView, err error) {
	const prefix = "refs/heads/"
	err = x.refs(ctx, []string{prefix}, func(line refLine) error {
		name := string(line.name)
		if len(name) <= len(prefix) || name[:len(prefix)] != prefix {
			return nil
		}
		if len(v.tips) >= r.cfg.MaxRefs {
			return fmt.Errorf("%w: the remote has more than %d branches", ErrTooLarge, r.cfg.MaxRefs)
		}
		v.tips = append(v.tips, string(line.id))
		if name = name[len(prefix):]; name == r.cfg.Branch {
			v.branch = string(line.id)
		}
		if name == rev {
			v.named = string(line.id)
		}
		return nil
	})
	if err == nil && v.branch == "" {
		err = view{}.check(nil, r.cfg.Branch)
	}
	return v, err
}

// bringBranch fetches the configured branch and tells whether a commit is on it.
func (r *Repository) bringBranch(ctx context.Context, x *exchange, branch, commit string) (bool, error) {
	if err := r.bring(ctx, x, r.without(ctx, branch), false); err != nil {
		return false, err
	}
	if err := r.advance(ctx, branch); err != nil {
		return false, err
	}
	id, err := parseID(commit)
	if err != nil {
		return false, err
	}
	return r.reachable(ctx, id)
}

// without leaves out of what is wanted what is here. The branch's tip is here only
// where its history is, too.
func (r *Repository) without(ctx context.Context, id string) []string {
	if err := r.reading.take(ctx); err != nil {
		return []string{id}
	}
	defer r.reading.give()
	if r.tip.IsZero() || !r.has(id) {
		return []string{id}
	}
	return nil
}
