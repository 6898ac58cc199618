package main

import (
	"context"
	"fmt"

	"github.com/waymark-cd/waymark/reconciler"
	"github.com/waymark-cd/waymark/release"
)

// revs finds commits that people name in the repositories.
func revs(remotes map[string]reconciler.Remote) func(ctx context.Context, repository, rev string, any bool) (string, error) {
	return func(ctx context.Context, repository, rev string, any bool) (string, error) {
		r, ok := remotes[repository].(remote)
		if !ok {
			return "", fmt.Errorf("repository %q: %w", repository, release.ErrNotFound)
		}
		return r.repo.Rev(ctx, rev, any)
	}
}
