package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
)

const freezeColumns = "id, env, scope, team, until, reason, created_by, created_at, lifted_by, lifted_at"

func scanFreeze(sc scanner) (f release.Freeze, err error) {
	var until, created, lifted int64
	err = sc.Scan(&f.ID, &f.Where.Env, &f.Where.Scope, &f.Where.Team, &until, &f.Reason, &f.CreatedBy, &created, &f.LiftedBy, &lifted)
	f.Until, f.CreatedAt, f.LiftedAt = fromMillis(until), fromMillis(created), fromMillis(lifted)
	return f, err
}

// SetFreeze stops every change to the targets of f.Where until f.Until or, where
// that is zero, for so long from now by the clock that all share. It takes back the
// overrides that people gave before for runs there that have not begun to apply:
// whoever gave one did not know of it. An end that has passed is release.ErrInvalid.
func (s *Store) SetFreeze(ctx context.Context, f release.Freeze, long time.Duration) (release.Freeze, error) {
	err := s.db.inTx(ctx, func(t tx) error {
		var now int64
		if err := t.row(ctx, "SELECT "+t.clock()).Scan(&now); err != nil {
			return fmt.Errorf("asking the database for the time: %w", err)
		}
		f.CreatedAt = fromMillis(now)
		if f.Until.IsZero() {
			f.Until = f.CreatedAt.Add(long)
		}
		f.Until = f.Until.UTC().Truncate(time.Millisecond)
		if !f.Until.After(f.CreatedAt) {
			return fmt.Errorf("%w end of a freeze: %s has passed", release.ErrInvalid, f.Until.Format(time.RFC3339))
		}
		err := t.row(ctx, `INSERT INTO freezes (env, scope, team, until, reason, created_by, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id`,
			f.Where.Env, f.Where.Scope, f.Where.Team, millis(f.Until), f.Reason, f.CreatedBy, now).Scan(&f.ID)
		if err != nil {
			return fmt.Errorf("freezing %s: %w", f.Where.Place(), err)
		}
		overridden, err := lockRuns(ctx, t, "overridden_by <> '' AND applying = 0 AND state IN ('queued', 'running', 'awaiting_approval')", f.Where)
		if err != nil {
			return err
		}
		entry := aboutFreeze("freeze.set", f.CreatedBy, f.Reason, f)
		var runs []string
		for _, r := range overridden {
			if _, err := t.exec(ctx, "UPDATE runs SET overridden_by = '' WHERE id = $1", r.ID); err != nil {
				return fmt.Errorf("taking back the override of run %d: %w", r.ID, err)
			}
			runs = append(runs, release.FormatID(r.ID))
		}
		if len(runs) > 0 {
			entry.Details["overrides_taken_back"] = runs
		}
		return s.appendEntries(ctx, t, entry)
	})
	return f, err
}

// LiftFreeze ends a freeze before its time, and wakes whatever may have waited for
// that. One that is over or was lifted is release.ErrConflict.
func (s *Store) LiftFreeze(ctx context.Context, id int64, actor, reason string) (f release.Freeze, err error) {
	err = s.db.inTx(ctx, func(t tx) error {
		var now int64
		if err := t.row(ctx, "SELECT "+t.clock()).Scan(&now); err != nil {
			return fmt.Errorf("asking the database for the time: %w", err)
		}
		f, err = scanFreeze(t.row(ctx, "SELECT "+freezeColumns+" FROM freezes WHERE id = $1"+t.lock(), id))
		switch {
		case noRows(err):
			return fmt.Errorf("freeze %d: %w", id, release.ErrNotFound)
		case err != nil:
			return fmt.Errorf("reading freeze %d: %w", id, err)
		case !f.LiftedAt.IsZero():
			return fmt.Errorf("%w: freeze %d was lifted by %s already", release.ErrConflict, id, f.LiftedBy)
		case !f.InForce(fromMillis(now)):
			return fmt.Errorf("%w: freeze %d ended at %s", release.ErrConflict, id, f.Until.Format(time.RFC3339))
		}
		f.LiftedBy, f.LiftedAt = actor, fromMillis(now)
		if _, err := t.exec(ctx, "UPDATE freezes SET lifted_by = $2, lifted_at = $3 WHERE id = $1", id, actor, now); err != nil {
			return fmt.Errorf("lifting freeze %d: %w", id, err)
		}
		if err := wakeWaiting(ctx, t, f.Where); err != nil {
			return err
		}
		return s.appendEntries(ctx, t, aboutFreeze("freeze.lifted", actor, reason, f))
	})
	return f, err
}

func aboutFreeze(action, actor, reason string, f release.Freeze) audit.Entry {
	return audit.Entry{Actor: actor, Action: action, Reason: reason, Target: f.Where.Place(),
		Details: map[string]any{"freeze": release.FormatID(f.ID), "until": f.Until.Format(time.RFC3339)}}
}

// Freezes lists the freezes in force by the clock that all share, the first to end
// first; with all also those that are over, the newest 500.
func (s *Store) Freezes(ctx context.Context, all bool) ([]release.Freeze, error) {
	query := "SELECT " + freezeColumns + " FROM freezes WHERE lifted_at = 0 AND until > " + s.db.clock() + " ORDER BY until, id"
	if all {
		query = "SELECT " + freezeColumns + " FROM freezes ORDER BY id DESC LIMIT 500"
	}
	rs, err := s.db.query(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("listing freezes: %w", err)
	}
	out, err := collect(rs, func(r rows) (release.Freeze, error) { return scanFreeze(r) })
	if err != nil {
		return nil, fmt.Errorf("listing freezes: %w", err)
	}
	return out, nil
}

// Freeze returns one freeze, or release.ErrNotFound.
func (s *Store) Freeze(ctx context.Context, id int64) (release.Freeze, error) {
	f, err := scanFreeze(s.db.row(ctx, "SELECT "+freezeColumns+" FROM freezes WHERE id = $1", id))
	if noRows(err) {
		return f, fmt.Errorf("freeze %d: %w", id, release.ErrNotFound)
	}
	if err != nil {
		return f, fmt.Errorf("reading freeze %d: %w", id, err)
	}
	return f, nil
}

// FreezesOf lists the freezes set for a target that are not lifted and whose end
// is not before a time, to be judged by whoever asks.
func (s *Store) FreezesOf(ctx context.Context, target release.Target, since time.Time) ([]release.Freeze, error) {
	rs, err := s.db.query(ctx, "SELECT "+freezeColumns+` FROM freezes WHERE env = $1 AND (scope = '' OR scope = $2)
		AND (team = '' OR team = $3) AND lifted_at = 0 AND until >= $4 ORDER BY id`, target.Env, target.Scope, target.Team, millis(since))
	if err != nil {
		return nil, fmt.Errorf("listing the freezes of %s: %w", target, err)
	}
	out, err := collect(rs, func(r rows) (release.Freeze, error) { return scanFreeze(r) })
	if err != nil {
		return nil, fmt.Errorf("listing the freezes of %s: %w", target, err)
	}
	return out, nil
}

// waiting selects the runs that wait for a window, or the end of a freeze or of a
// soak.
const waiting = "wait_until > 0 AND state IN ('queued', 'awaiting_approval')"

// WakeDue makes a call for every run whose time of waiting is over by now. It may
// be asked again and again: a call that is there already is not made twice.
func (s *Store) WakeDue(ctx context.Context, now time.Time) error {
	return s.db.inTx(ctx, func(t tx) error {
		rs, err := t.query(ctx, "SELECT id, step, pool FROM runs WHERE "+waiting+" AND wait_until <= $1 ORDER BY id", millis(now))
		if err != nil {
			return fmt.Errorf("looking for runs that have waited: %w", err)
		}
		type call struct {
			args RunArgs
			pool string
		}
		calls, err := collect(rs, func(r rows) (c call, err error) { return c, r.Scan(&c.args.RunID, &c.args.Step, &c.pool) })
		if err != nil {
			return fmt.Errorf("looking for runs that have waited: %w", err)
		}
		for _, c := range calls {
			if err := t.insertJob(ctx, c.args, c.pool); err != nil {
				return fmt.Errorf("waking run %d: %w", c.args.RunID, err)
			}
		}
		return nil
	})
}

// WakeWaiting makes a fresh call for every run that waits for a window, or the end
// of a freeze or of a soak, so that it is judged anew.
func (s *Store) WakeWaiting(ctx context.Context) error {
	return s.db.inTx(ctx, func(t tx) error { return wakeWaiting(ctx, t, release.Target{}) })
}

// wakeWaiting is WakeWaiting for the targets of a place; the zero one is all.
func wakeWaiting(ctx context.Context, t tx, where release.Target) error {
	all, err := lockRuns(ctx, t, waiting, where)
	for _, r := range all {
		if err == nil {
			err = wake(ctx, t, r.ID, r.Pool)
		}
	}
	return err
}

// lockRuns locks the targets of the runs that a condition selects in a place, in
// the order in which everybody does, and returns the runs: the rows of many can
// then be changed in one transaction.
func lockRuns(ctx context.Context, t tx, condition string, where release.Target) ([]Record, error) {
	rs, err := t.query(ctx, "SELECT "+runColumns+" FROM runs WHERE "+condition+` AND ($1 = '' OR env = $1) AND ($2 = '' OR scope = $2)
		AND ($3 = '' OR team = $3) ORDER BY id`, where.Env, where.Scope, where.Team)
	if err != nil {
		return nil, fmt.Errorf("looking for runs of %s: %w", where.Place(), err)
	}
	all, err := collect(rs, func(r rows) (Record, error) { return scanRun(r) })
	if err != nil {
		return nil, fmt.Errorf("looking for runs of %s: %w", where.Place(), err)
	}
	regional := func(r Record) int {
		if r.Target.IsGlobal() {
			return 0
		}
		return 1
	}
	slices.SortFunc(all, func(a, b Record) int {
		return cmp.Or(cmp.Compare(a.Target.Env, b.Target.Env), cmp.Compare(a.Target.Team, b.Target.Team), regional(a)-regional(b),
			cmp.Compare(a.Target.Scope, b.Target.Scope), cmp.Compare(a.ID, b.ID))
	})
	for _, r := range all {
		if err := lockTarget(ctx, t, r.Target); err != nil {
			return nil, err
		}
	}
	return all, nil
}
