package store

import (
	"context"
	"fmt"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
)

// Order queues a run that a person asked for: r says all of it but the state and
// the times. A rollback to a tag that has moved or was deleted is
// release.ErrRefused. Where the run may change the target, info becomes what is
// known of that.
func (s *Store) Order(ctx context.Context, r Record, info TargetInfo, entry audit.Entry) (release.Run, error) {
	var id int64
	err := s.db.inTx(ctx, func(t tx) (err error) {
		if r.Kind == release.Rollback {
			if err := unmoved(ctx, t, r); err != nil {
				return err
			}
		}
		id, err = s.queueRun(ctx, t, r, info, false, entry)
		return err
	})
	if err != nil {
		return release.Run{}, err
	}
	return s.Run(ctx, id)
}

// unmoved refuses a run whose tag is not what it was any more.
func unmoved(ctx context.Context, t tx, r Record) error {
	var seen string
	if err := t.row(ctx, "SELECT seen_id FROM tag_refs WHERE repository = $1 AND name = $2", r.Repository, r.Tag).Scan(&seen); err != nil {
		return fmt.Errorf("reading tag %q: %w", r.Tag, err)
	}
	if seen != r.ObjectID {
		return fmt.Errorf("%w: tag %q has moved or was deleted since it was deployed; push a new version", release.ErrRefused, r.Tag)
	}
	return nil
}

// Deployments lists what succeeded in changing a target, deploys, rollbacks and
// removals, in the order in which that happened. With a commit it begins where
// that commit first succeeded there, and is empty where it never did.
func (s *Store) Deployments(ctx context.Context, t release.Target, commit string) ([]release.Run, error) {
	const done = ` env = $1 AND scope = $2 AND team = $3 AND state = 'succeeded' AND kind IN ('deploy', 'rollback', 'destroy')`
	query, args := "SELECT "+runColumns+" FROM runs WHERE"+done, []any{t.Env, t.Scope, t.Team}
	if commit != "" {
		query, args = query+" AND id >= (SELECT min(id) FROM runs WHERE"+done+" AND kind <> 'destroy' AND commit_id = $4)", append(args, commit)
	}
	rs, err := s.db.query(ctx, query+" ORDER BY id", args...) // runs of a target change it one after the other
	if err != nil {
		return nil, fmt.Errorf("listing what was deployed to %s: %w", t, err)
	}
	all, err := collect(rs, func(r rows) (release.Run, error) { rec, err := scanRun(r); return rec.Run, err })
	if err != nil {
		return nil, fmt.Errorf("listing what was deployed to %s: %w", t, err)
	}
	return all, nil
}
