package reconciler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// Locks looks at states and their locks, and releases locks.
type Locks interface {
	// List returns the held locks of one target's state.
	List(ctx context.Context, of *config.Deployment) ([]release.StateLock, error)
	// Release frees one lock if it still has that id: release.ErrConflict where
	// another has it by now, release.ErrNotFound where it is free.
	Release(ctx context.Context, of *config.Deployment, lock release.StateLock) error
	// State returns which version of the state is there.
	State(ctx context.Context, of *config.Deployment) (release.StateMark, error)
}

// locksAtOnce is how many states are asked for their lock side by side.
const locksAtOnce = 8

// StateLocks lists the held locks of every target that was ever admitted, or of
// one. A target whose locks cannot be told is in the list with its error.
func (r *Reconciler) StateLocks(ctx context.Context, only *release.Target) ([]release.HeldLock, error) {
	if r.Locks == nil {
		return nil, fmt.Errorf("%w: this service cannot look at locks", release.ErrUnavailable)
	}
	var newest []store.Record
	var err error
	if only == nil {
		newest, err = r.Store.NewestRuns(ctx)
	} else {
		newest = make([]store.Record, 1)
		newest[0], err = r.newestOf(ctx, *only)
	}
	if err != nil {
		return nil, err
	}
	found := make([][]release.HeldLock, len(newest))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(locksAtOnce)
	for i, rec := range newest {
		g.Go(func() error {
			held, _, err := r.locksOf(gctx, rec)
			if err != nil {
				held = []release.HeldLock{{Target: rec.Target, Err: err}}
			}
			found[i] = held
			return nil
		})
	}
	_ = g.Wait() // each has its error in its place
	var out []release.HeldLock
	for _, held := range found {
		out = append(out, held...)
	}
	return out, ctx.Err()
}

// newestOf reads the newest run that may have changed a target: it tells where the
// state is.
func (r *Reconciler) newestOf(ctx context.Context, target release.Target) (store.Record, error) {
	t, err := r.Store.Target(ctx, target)
	if err != nil {
		return store.Record{}, err
	}
	if t.Latest == nil {
		return store.Record{}, fmt.Errorf("target %s: %w: no run of it is on record", target, release.ErrNotFound)
	}
	return r.Store.Record(ctx, t.Latest.ID)
}

// locksOf asks for the locks of the state of a run's target and finds whose they are.
func (r *Reconciler) locksOf(ctx context.Context, rec store.Record) ([]release.HeldLock, *config.Deployment, error) {
	of, err := r.deploymentOf(ctx, rec)
	if err != nil {
		return nil, nil, err
	}
	held, err := r.heldLocks(ctx, rec.Target, of)
	return held, of, err
}

// heldLocks asks for the locks of a target's state and finds whose they are.
func (r *Reconciler) heldLocks(ctx context.Context, target release.Target, of *config.Deployment) ([]release.HeldLock, error) {
	locks, err := r.Locks.List(ctx, of)
	if err != nil {
		return nil, err
	}
	var out []release.HeldLock
	for _, l := range locks {
		held := release.HeldLock{Target: target, StateLock: l}
		rec, alive, err := r.ownerOf(ctx, target, l)
		if err != nil {
			return nil, err
		}
		if rec != nil {
			held.Run, held.Alive = &rec.Run, alive
			if rec.RanOn != r.Instance.ID && rec.RanOn != "" && l.Operation != planOperation {
				held.Elsewhere = rec.RanOn // only there can it be known dead
			}
		}
		out = append(out, held)
	}
	return out, nil
}

// clockSlack is how far the time in a lock may lie outside of its run's.
const clockSlack = 2 * time.Second

// ownerOf finds the run of ours that took a lock: one for this target, at work
// when the lock was made, whose engine names itself as the lock does. At most
// one run of ours is at work for a target at any time.
func (r *Reconciler) ownerOf(ctx context.Context, t release.Target, l release.StateLock) (owner *store.Record, alive bool, err error) {
	if l.Who == "" || l.Created.IsZero() {
		return nil, false, nil
	}
	runs, _, err := r.Store.Runs(ctx, store.RunFilter{Target: &t})
	if err != nil {
		return nil, false, err
	}
	for _, candidate := range runs {
		began, ended := candidate.StartedAt.Add(-clockSlack), candidate.FinishedAt.Add(clockSlack)
		if !candidate.Kind.ChangesTarget() {
			continue // it takes no lock
		}
		if candidate.StartedAt.IsZero() || l.Created.Before(began) || !candidate.FinishedAt.IsZero() && l.Created.After(ended) {
			continue
		}
		rec, err := r.Store.Record(ctx, candidate.ID)
		if err != nil {
			return nil, false, err
		}
		if rec.LockOwner != l.Who {
			continue
		}
		alive, err := r.atWork(rec, l.Created)
		return &rec, alive, err
	}
	return nil, false, nil
}

// planOperation is what a plan's lock says. A plan writes no state: its lock can
// be released once the run has left it behind, wherever its engine is.
const planOperation = "OperationTypePlan"

// atWork reports whether the runner that a run has now lives, and began before
// the lock was made: a lock from before is that of a runner that was lost.
func (r *Reconciler) atWork(rec store.Record, locked time.Time) (bool, error) {
	if rec.RunnerDir == "" {
		return false, nil
	}
	if rec.RanOn != r.Instance.ID {
		return rec.State == release.Running && rec.Worker == rec.RanOn, nil
	}
	stage := rec.Stage(release.StagePlan)
	if rec.Applying {
		stage = rec.Stage(release.StageApply)
	}
	if rec.State == release.Running && !stage.StartedAt.IsZero() && locked.Before(stage.StartedAt.Add(-clockSlack)) || !r.hasFolder(rec) {
		return false, nil
	}
	found, err := r.Runners.Find(r.path(rec.RunnerDir))
	return found == FoundAlive, err
}

// Unlock frees a state's lock: one of a run of ours that is known dead, or with
// Force any other but that of a run that is at work. Each is an audit entry,
// written first. It returns what was freed. release.ErrRefused says whose the
// lock is, release.ErrNotFound that there is none.
func (r *Reconciler) Unlock(ctx context.Context, u release.Unlock) ([]release.HeldLock, error) {
	if r.Locks == nil {
		return nil, fmt.Errorf("%w: this service cannot look at locks", release.ErrUnavailable)
	}
	if u.Force && u.ID == "" {
		return nil, fmt.Errorf("%w: force needs the id of the lock: waymark backend locks shows it", release.ErrInvalid)
	}
	newest, err := r.newestOf(ctx, u.Target)
	if err != nil {
		return nil, err
	}
	held, of, err := r.locksOf(ctx, newest)
	if err != nil {
		return nil, err
	}
	var chosen []release.HeldLock
	for _, l := range held {
		if u.ID != "" && l.ID != u.ID {
			continue
		}
		if err := mayFree(l, u.Force); err != nil {
			return nil, err
		}
		chosen = append(chosen, l)
	}
	if len(chosen) == 0 {
		return nil, noSuchLock(u, held)
	}
	for _, l := range chosen {
		if err := r.free(ctx, of, l, u); err != nil {
			return nil, err
		}
	}
	return chosen, nil
}

func noSuchLock(u release.Unlock, held []release.HeldLock) error {
	if len(held) == 0 {
		return fmt.Errorf("%w: the state of %s is not locked", release.ErrNotFound, u.Target)
	}
	return fmt.Errorf("%w: the state of %s is locked by %q, not by %q", release.ErrConflict, u.Target, held[0].ID, u.ID)
}

// mayFree decides whether a lock may be freed.
func mayFree(l release.HeldLock, force bool) error {
	switch {
	case l.Alive:
		return fmt.Errorf("%w: run %d holds the state of %s and is at work: wait for it, or cancel it with waymark runs cancel %d",
			release.ErrConflict, l.Run.ID, l.Target, l.Run.ID)
	case l.Elsewhere != "" && !force:
		return refuse("run %d holds the state of %s, and only the instance %s can tell whether its engine is gone: ask that one with --server; if its machine is gone for good, waymark backend unlock %s --force --id %s",
			l.Run.ID, l.Target, l.Elsewhere, l.Target, l.ID)
	case l.Run == nil && !force:
		return refuse("%s holds the state of %s since %s (%s), and is no run of this service: ask them first; if nothing of theirs is at work any more, waymark backend unlock %s --force --id %s",
			nobody(l.Who), l.Target, l.Created.UTC().Format(time.RFC3339), nobody(l.Operation), l.Target, l.ID)
	}
	return nil
}

// nobody stands for what a lock does not tell.
func nobody(s string) string {
	if s == "" {
		return "somebody unnamed"
	}
	return s
}

// free records that a lock is released, and then releases it.
func (r *Reconciler) free(ctx context.Context, of *config.Deployment, l release.HeldLock, u release.Unlock) error {
	details := map[string]any{"lock_id": l.ID, "lock": l.Kind, "where": l.Where, "who": l.Who, "operation": l.Operation,
		"created": l.Created.UTC(), "forced": l.Run == nil || l.Elsewhere != ""}
	entry := audit.Entry{Actor: u.Actor, Action: "state.unlocked", Reason: u.Reason, Target: l.Target.String(), Details: details}
	if l.Run != nil {
		entry.RunID, entry.Tag, entry.Commit = l.Run.ID, l.Run.Tag, l.Run.Commit
	}
	if err := r.persist(ctx, "unlock", func() error { return r.Store.Log(ctx, entry) }); err != nil {
		return err
	}
	err := r.Locks.Release(ctx, of, l.StateLock)
	if err == nil {
		r.log.Info("a state's lock was released", "target", l.Target, "id", l.ID, "who", l.Who, "by", u.Actor)
	}
	return err
}

// freeOwn releases what a lost runner of this run left locked. It is an aid to
// what comes next: that says by itself where the state is still locked.
func (r *Reconciler) freeOwn(ctx context.Context, rec store.Record, actor, why string) {
	if r.Locks == nil {
		return
	}
	err := func() error {
		newest, err := r.newestOf(ctx, rec.Target)
		if err != nil {
			return err
		}
		held, of, err := r.locksOf(ctx, newest)
		for _, l := range held {
			if l.Run == nil || l.Run.ID != rec.ID || l.Alive || l.Elsewhere != "" {
				continue
			}
			err = errors.Join(err, r.free(ctx, of, l, release.Unlock{Actor: actor, Reason: why}))
		}
		return err
	}()
	if err != nil {
		r.log.Warn("whether a lost runner left its state locked cannot be told", "run", rec.ID, "error", err)
	}
}
