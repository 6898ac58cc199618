package reconciler

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

const (
	beforePatience = 3 * time.Second  // for the state's serial before an apply
	gatherPatience = 20 * time.Second // for all evidence of a run
	maxLastEvent   = 400              // bytes of the last event that are kept
)

// stateBefore reads the state just before an apply begins; nil where it cannot
// be read in time. It is no reason not to apply.
func (r *Reconciler) stateBefore(ctx context.Context, d *drive, of *config.Deployment, id int64) *release.StateMark {
	read := d.readState
	if read == nil && r.Locks != nil {
		read = func(ctx context.Context) (release.StateMark, error) { return r.Locks.State(ctx, of) }
	}
	if read == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, beforePatience)
	defer cancel()
	mark, err := read(ctx)
	if err != nil {
		r.log.Debug("the state before an apply cannot be read", "run", id, "error", err)
		return nil
	}
	return &mark
}

// Evidence gathers again what can be told of a run whose end is unknown, keeps
// it with the run and returns the run. A run in another state is
// release.ErrConflict.
func (r *Reconciler) Evidence(ctx context.Context, id int64, actor string) (release.Run, error) {
	rec, err := r.Store.Record(ctx, id)
	if err == nil {
		err = must(&rec, release.Unknown, "looked into")
	}
	if err != nil {
		return rec.Run, err
	}
	rec, err = r.keepEvidence(ctx, rec, actor)
	return rec.Run, err
}

// keepEvidence gathers and records evidence of an unknown run.
func (r *Reconciler) keepEvidence(ctx context.Context, rec store.Record, actor string) (store.Record, error) {
	e := r.gather(ctx, rec)
	entry := audit.Entry{Actor: actor, Action: "run.evidence"}
	return r.Store.Update(ctx, rec.ID, store.Update{Entry: withEvidence(entry, e), Change: func(now *store.Record) error {
		if err := must(now, release.Unknown, "looked into"); err != nil {
			return err
		}
		now.Evidence = e
		return nil
	}})
}

// withEvidence puts what was found into an entry's details.
func withEvidence(entry audit.Entry, e *release.Evidence) audit.Entry {
	entry.Details = map[string]any{"runner": e.Runner, "lock": e.Lock, "state": e.State, "errored_state": e.ErroredState,
		"instance": e.Instance, "unread": e.Unread}
	return entry
}

// gather looks at all that can be told of an unknown run. It never fails: what
// cannot be read is named.
func (r *Reconciler) gather(ctx context.Context, rec store.Record) *release.Evidence {
	ctx, cancel := context.WithTimeout(ctx, gatherPatience)
	defer cancel()
	e := &release.Evidence{GatheredAt: r.Now().UTC().Truncate(time.Millisecond), Instance: r.Instance.ID, RunnerOn: rec.RanOn,
		State: release.StateEvidence{Before: rec.StateBefore}}
	unread := func(what string, err error) {
		if err != nil {
			e.Unread = append(e.Unread, what+": "+reason(err))
		}
	}
	of, err := r.deploymentOf(ctx, rec)
	if rec.RanOn == r.Instance.ID {
		unread("runner", r.lookAtRunner(rec, e))
		if err == nil && e.Runner.Dead() {
			unread(erroredState, r.lookAtErrored(rec, of, e))
		}
	} else {
		e.Runner = release.RunnerElsewhere
		unread("runner", fmt.Errorf("only the instance that started it, %s, can look at it and at what it left", rec.RanOn))
	}
	unread("events", r.lookAtEvents(ctx, rec, e))
	switch {
	case err != nil:
		unread("lock and state", err)
	case r.Locks == nil:
		unread("lock and state", fmt.Errorf("this service cannot look at states"))
	default:
		unread("lock", r.lookAtLock(ctx, rec, of, e))
		now, err := r.Locks.State(ctx, of)
		if unread("state", err); err == nil {
			e.State.Now = &now
		}
	}
	if e.State.Before == nil {
		unread("state before the apply", errors.New("it was not read when the apply began"))
	}
	if rec.Evidence != nil {
		e.Refresh = rec.Evidence.Refresh
	}
	complement(e, rec.Evidence)
	return e
}

// erroredState is how evidence names the state that an apply could not write.
const erroredState = "errored state"

// complement takes what only the runner's instance could tell from what it told
// before.
func complement(e, before *release.Evidence) {
	if e.Runner != release.RunnerElsewhere || before == nil || before.Runner == release.RunnerElsewhere {
		return
	}
	e.ErroredState, e.Kept = before.ErroredState, before.Kept
	if before.Runner.Dead() {
		e.Runner = before.Runner
		e.Unread = slices.DeleteFunc(e.Unread, func(s string) bool { return strings.HasPrefix(s, "runner: ") })
	}
	if before.LastEventAt.After(e.LastEventAt) {
		e.EventsEnd, e.LastEvent, e.LastEventAt = before.EventsEnd, before.LastEvent, before.LastEventAt
	}
}

// deploymentOf resolves the configuration of a run as it was admitted.
func (r *Reconciler) deploymentOf(ctx context.Context, rec store.Record) (of *config.Deployment, err error) {
	w := r.watches[rec.Repository]
	if w == nil {
		return nil, fmt.Errorf("%w: repository %q is no longer configured", release.ErrNotFound, rec.Repository)
	}
	err = r.withCommit(ctx, w, rec, func() (err error) {
		of, err = r.resolve(ctx, w, rec)
		return err
	})
	return of, err
}

// lookAtRunner finds what became of the run's runner, which this instance had
// started. A push's counts while it is at work.
func (r *Reconciler) lookAtRunner(rec store.Record, e *release.Evidence) error {
	e.Runner = release.RunnerUntold
	if !r.hasFolder(rec) {
		return fmt.Errorf("the folder of the run is gone")
	}
	for _, folder := range []string{rec.RunnerDir, r.applyDir(rec)} {
		found, err := r.Runners.Find(r.path(folder))
		if err != nil {
			return err
		}
		switch found {
		case FoundAlive:
			e.Runner = release.RunnerAlive
			return nil
		case FoundDone:
			e.Runner = release.RunnerEnded
		case FoundGone:
			e.Runner = release.RunnerDied
		case FoundNever:
			e.Runner = release.RunnerNever
		}
	}
	return nil
}

// hasFolder reports whether the folder of the run's attempt is here: without it
// nothing tells whether a runner began.
func (r *Reconciler) hasFolder(rec store.Record) bool {
	_, err := os.Stat(r.path(attemptDir(rec.ID, rec.Attempt)))
	return rec.RunnerDir != "" && !errors.Is(err, fs.ErrNotExist)
}

// applyDir is the folder of the runner that applied: the record's own, or where
// a push came after it the last of those that are here.
func (r *Reconciler) applyDir(rec store.Record) string {
	if !isPush(rec.RunnerDir) {
		return rec.RunnerDir
	}
	return filepath.Join(attemptDir(rec.ID, rec.Attempt), fmt.Sprintf("apply-%d", max(1, r.lastFolder(rec, "apply-"))))
}

// lastFolder is the highest number of the folders here that runners of one kind
// had for the run's attempt; 0 for none.
func (r *Reconciler) lastFolder(rec store.Record, kind string) int {
	found, _ := filepath.Glob(r.path(filepath.Join(attemptDir(rec.ID, rec.Attempt), kind+"*"))) // never malformed
	last := 0
	for _, dir := range found {
		if n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), kind)); err == nil {
			last = max(last, n)
		}
	}
	return last
}

// lookAtErrored finds the state that the apply could not write, and has it kept
// encrypted where a runner that died did not come to do it.
func (r *Reconciler) lookAtErrored(rec store.Record, of *config.Deployment, e *release.Evidence) (err error) {
	if r.KeepState == nil || rec.PlanKey == "" {
		return fmt.Errorf("the key of the run is gone, or this service cannot keep one")
	}
	e.Kept, err = r.KeepState(r.path(filepath.Join(attemptDir(rec.ID, rec.Attempt), treeName)), of.Stack.Path, r.path(r.applyDir(rec)), rec.PlanKey)
	e.ErroredState = e.Kept != nil
	return err
}

// lookAtLock tells whether the state is locked: of two locks, by the run's own.
func (r *Reconciler) lookAtLock(ctx context.Context, rec store.Record, of *config.Deployment, e *release.Evidence) error {
	held, err := r.heldLocks(ctx, rec.Target, of)
	if err != nil {
		return err
	}
	for _, l := range held {
		ours := l.Run != nil && l.Run.ID == rec.ID
		if !e.Lock.Held || ours && !e.Lock.Ours {
			e.Lock = release.LockEvidence{Held: true, ID: l.ID, Who: l.Who, Operation: l.Operation, Created: l.Created.UTC(), Ours: ours, Alive: l.Alive || l.Elsewhere != ""}
		}
	}
	return nil
}

// lookAtEvents reads how far the events of the runner that applied come, from
// this disk or from what is kept for all.
func (r *Reconciler) lookAtEvents(ctx context.Context, rec store.Record, e *release.Evidence) error {
	folder := r.applyDir(rec)
	f, err := os.Open(r.path(filepath.Join(folder, "events.jsonl")))
	if err == nil {
		defer f.Close()
		return lastEvents(f, e)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if r.Blobs == nil {
		return fmt.Errorf("they are not on this instance's disk")
	}
	keys, err := r.Blobs.List(ctx, blobKey(rec, filepath.Base(folder)))
	if err != nil {
		return err
	}
	slices.Sort(keys)
	for _, key := range keys {
		if path.Ext(key) != ".jsonl" {
			continue
		}
		blob, err := r.Blobs.Get(ctx, key)
		if err != nil {
			return err
		}
		err = lastEvents(blob, e)
		if err := errors.Join(err, blob.Close()); err != nil {
			return err
		}
	}
	if e.LastEvent == "" {
		return fmt.Errorf("none are kept")
	}
	return nil
}

// lastEvents reads events to their end, and notes the last of all and the last
// of a stage.
func lastEvents(from io.Reader, e *release.Evidence) error {
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var event release.Event
		if json.Unmarshal(line, &event) != nil {
			continue // torn by a kill
		}
		text := event.Message
		if event.Type == release.EventStage {
			e.EventsEnd = event.State
			text = strings.TrimSuffix(string(event.State)+": "+event.Message, ": ")
		}
		text = strings.ToValidUTF8(text[:min(len(text), maxLastEvent)], "")
		e.LastEvent, e.LastEventAt = string(event.Stage)+": "+text, event.At.UTC()
	}
}
