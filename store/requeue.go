package store

import (
	"cmp"
	"context"
	"fmt"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
)

// Requeue queues a new run for the release of run id, as a retry or whatever
// entry says; the new run is as the old one was when it was queued, on the terms
// of a: its Release and Supersede are not looked at, and where its Pool or
// ConfigDigest is empty the old run's stays.
func (s *Store) Requeue(ctx context.Context, id int64, entry audit.Entry, a Admission) (release.Run, error) {
	var newID int64
	err := s.db.inTx(ctx, func(t tx) (err error) {
		newID, err = s.requeue(ctx, t, id, entry, a)
		return err
	})
	if err != nil {
		return release.Run{}, err
	}
	return s.Run(ctx, newID)
}

// Replan ends a run as settle says and does what Requeue does, both or neither.
// It returns the run that was ended, and the new one.
func (s *Store) Replan(ctx context.Context, id int64, settle Update, entry audit.Entry, a Admission) (Record, release.Run, error) {
	var newID int64
	var ended Record
	err := s.db.inTx(ctx, func(t tx) (err error) {
		if ended, err = s.update(ctx, t, id, settle); err == nil {
			newID, err = s.requeue(ctx, t, id, entry, a)
		}
		return err
	})
	if err != nil {
		return Record{}, release.Run{}, err
	}
	run, err := s.Run(ctx, newID)
	return ended, run, err
}

func (s *Store) requeue(ctx context.Context, t tx, id int64, entry audit.Entry, a Admission) (int64, error) {
	old, err := readRun(ctx, t, id, "")
	if err != nil {
		return 0, err
	}
	if !old.State.Ended() || old.State == release.Unknown || old.State == release.Succeeded {
		return 0, fmt.Errorf("%w: run %d is %s; only a run that ended without success can be retried", release.ErrConflict, id, old.State)
	}
	var seen string
	if err := t.row(ctx, "SELECT seen_id FROM tag_refs WHERE repository = $1 AND name = $2",
		old.Repository, old.Tag).Scan(&seen); err != nil {
		return 0, fmt.Errorf("reading tag %q: %w", old.Tag, err)
	}
	if seen != old.ObjectID {
		return 0, fmt.Errorf("%w: tag %q has moved or was deleted since run %d; push a new version", release.ErrRefused, old.Tag, id)
	}
	entry.Details = withDetail(entry.Details, "of", release.FormatID(id))
	old.CreatedBy, old.ApprovalsRequired, old.Requirements = entry.Actor, a.Approvals, release.Again(old.Requirements, a.Requirements)
	old.Pool, old.ConfigDigest = cmp.Or(a.Pool, old.Pool), cmp.Or(a.ConfigDigest, old.ConfigDigest)
	return s.queueRun(ctx, t, old, a.Info, false, entry)
}
