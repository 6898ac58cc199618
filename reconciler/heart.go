package reconciler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// The roles of an instance.
const (
	RoleAPI        = "api"        // answers requests
	RoleController = "controller" // watches repositories and sweeps
	RoleWorker     = "worker"     // drives runs
)

// beats is how many beats fit into the time after which an instance without one
// is declared dead.
const beats = 6

// errCutOff: this instance may have been declared dead, so it begins nothing.
var errCutOff = fmt.Errorf("%w: this instance has not reached the database for a while and may have been declared dead", release.ErrUnavailable)

// join puts this instance on record, where others may use the database too. The
// record then says at each beat whether it is to drain.
func (r *Reconciler) join(ctx context.Context) error {
	if !r.Store.Shared() {
		return nil
	}
	before := time.Now()
	err := r.Store.Join(ctx, r.Instance)
	if err == nil {
		r.beaten(before, false)
	}
	return err
}

// beat gives a sign of life until ctx ends. After a silence that was long enough
// to be declared dead it looks whether runs were lost meanwhile.
func (r *Reconciler) beat(ctx context.Context) {
	if !r.Store.Shared() {
		return
	}
	tick := time.NewTicker(r.Heartbeat / beats)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		before := time.Now() // the beat counts from before it was sent
		silent := before.Sub(r.lastBeat())
		draining, err := r.beatOnce(ctx)
		if err != nil {
			if ctx.Err() == nil {
				r.setTrouble("instance", fmt.Errorf("no sign of life could be given for %s: %w", silent.Round(time.Second), err))
			}
			continue
		}
		r.setTrouble("instance", nil)
		r.beaten(before, draining)
		if silent > r.Heartbeat/2 {
			r.log.Warn("this instance was silent, and looks whether it lost runs", "for", silent.Round(time.Millisecond).String())
		}
		r.checkHands(ctx)
	}
}

func (r *Reconciler) beatOnce(ctx context.Context) (draining bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.Heartbeat/3)
	defer cancel()
	draining, err = r.Store.Beat(ctx, r.Instance.ID)
	if errors.Is(err, release.ErrNotFound) {
		err = r.Store.Join(ctx, r.Instance)
	}
	return draining, err
}

// beaten notes a beat, and whether it brought the word to drain.
func (r *Reconciler) beaten(at time.Time, draining bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at.Sub(r.beatAt) > r.Heartbeat/3 {
		r.patientUntil = at.Add(r.Heartbeat / 2)
	}
	r.beatAt = at
	switch {
	case draining && !r.isDraining:
		r.log.Info("draining: no new work is taken up")
		close(r.drain)
	case !draining && r.isDraining:
		r.log.Info("no longer draining")
		r.drain = make(chan struct{})
		close(r.undrained)
		r.undrained = make(chan struct{})
	}
	r.isDraining = draining
}

func (r *Reconciler) lastBeat() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.beatAt
}

// mayJudge reports whether the silence of others means anything: where this
// instance could not beat itself a moment ago, the others could not either, and
// the database was away. They have a few beats to come back.
func (r *Reconciler) mayJudge() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.Store.Shared() || time.Now().After(r.patientUntil) && time.Since(r.beatAt) < r.Heartbeat/3
}

// mayBegin refuses to begin anything while this instance may have been declared
// dead: somebody else may have its runs by now.
func (r *Reconciler) mayBegin() error {
	if r.Store.Shared() && time.Since(r.lastBeat()) > r.Heartbeat/2 {
		return errCutOff
	}
	return nil
}

// beginBefore is until when a runner may begin to change anything: a worker that
// was stopped between its word and its deed must not do it late. Zero: any time.
func (r *Reconciler) beginBefore() time.Time {
	if !r.Store.Shared() {
		return time.Time{}
	}
	return r.lastBeat().Add(r.Heartbeat * 5 / beats)
}

// checkHands looks whether the runs that this process drives are still in its
// hand, and ends those that are not.
func (r *Reconciler) checkHands(ctx context.Context) {
	r.mu.Lock()
	held := map[int64]*drive{}
	for id, d := range r.driving {
		held[id] = d
	}
	r.mu.Unlock()
	for id, d := range held {
		epoch := d.epoch.Load()
		if epoch == 0 {
			continue
		}
		rec, err := r.Store.Record(ctx, id)
		if err != nil || rec.Epoch == epoch || rec.State.Ended() && rec.State != release.Unknown && rec.Worker == r.Instance.ID {
			continue
		}
		r.mu.Lock()
		if d.epoch.Load() != epoch { // the turn has gone on meanwhile
			r.mu.Unlock()
			continue
		}
		d.loseOnce.Do(func() {
			r.log.Warn("a run was taken over by another instance while this one was silent; its runner is ended here",
				"run", id, "epoch", epoch, "epoch_now", rec.Epoch, "worker", rec.Worker)
			r.metrics.lost.Inc()
			close(d.lost)
		})
		r.mu.Unlock()
	}
}

// leave says that this instance stops. One that has an apply at work stays on
// record, so that its next process finds it in its own hand.
func (r *Reconciler) leave(ctx context.Context) {
	if !r.Store.Shared() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := r.Store.Yield(ctx, leadLease, r.Instance.ID); err != nil {
		r.log.Warn("the lead could not be given up; it ends by itself", "error", err)
	}
	runs, _, err := r.Store.Runs(ctx, store.RunFilter{State: release.Running, Limit: 500})
	for _, run := range runs {
		rec, recErr := r.Store.Record(ctx, run.ID)
		if recErr != nil || rec.Worker == r.Instance.ID {
			return // it is found again by its next process, or declared dead
		}
	}
	if err == nil {
		err = r.Store.Leave(ctx, r.Instance.ID)
	}
	if err != nil {
		r.log.Warn("this instance stays on record until it is declared dead", "error", err)
	}
}
