package reconciler

import (
	"context"
	"errors"
	"fmt"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// keepConfig puts this instance's configuration on record, under its digest, so
// that every worker can go on with what is admitted under it.
func (r *Reconciler) keepConfig(ctx context.Context) error {
	return r.Store.KeepConfig(ctx, r.Config.Config.Digest, r.Config.Config.Text)
}

// configOf is the configuration that a run was admitted under: a run keeps it
// over restarts with another one, and on workers that have another one. Its
// env() is this instance's.
func (r *Reconciler) configOf(ctx context.Context, rec store.Record) (*config.Config, error) {
	own := r.Config.Config
	if rec.ConfigDigest == "" || rec.ConfigDigest == own.Digest {
		return own, nil
	}
	r.mu.Lock()
	kept := r.configs[rec.ConfigDigest]
	r.mu.Unlock()
	if kept != nil {
		return kept, nil
	}
	text, err := r.Store.Config(ctx, rec.ConfigDigest)
	if errors.Is(err, release.ErrNotFound) {
		return own, nil // from before configurations were kept
	}
	if err != nil {
		return nil, err
	}
	kept, err = own.Reparse(text)
	if err != nil {
		return nil, fmt.Errorf("%w configuration %.12s, which run %d was admitted under, for this instance: %w; retry the run to admit it under this instance's own",
			release.ErrInvalid, rec.ConfigDigest, rec.ID, err)
	}
	r.mu.Lock()
	r.configs[rec.ConfigDigest] = kept
	r.mu.Unlock()
	return kept, nil
}
