package reconciler

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// leadLease is what one controller at a time has: it watches the repositories,
// listens to their events and sweeps. Another takes over within seconds.
const (
	leadLease = "controller"
	leadFor   = 5 * time.Second // at most: less than a heartbeat, so that a leader's death delays nothing
	leadEvery = 5               // as often is it reached for within its time
)

// leadTime is how long the lead holds without being renewed.
func (r *Reconciler) leadTime() time.Duration { return min(leadFor, r.Heartbeat*2/3) }

// lead reaches for the lead until ctx ends, and leads whenever it has it. Where
// nobody else uses the database it always does.
func (r *Reconciler) lead(ctx context.Context) {
	if !r.Store.Shared() {
		r.leading(ctx)
		return
	}
	var term *term
	defer func() { term.end() }()
	holds := r.leadTime()
	tick := time.NewTicker(holds / leadEvery)
	defer tick.Stop()
	for until := (time.Time{}); ; {
		before := time.Now() // a lease counts from before it was asked for
		asking, cancel := context.WithTimeout(ctx, holds/2)
		held, err := r.Store.Lease(asking, leadLease, r.Instance.ID, holds)
		if err == nil && held {
			until = before.Add(holds)
		} else if err == nil {
			until = time.Time{}
		}
		switch leads := time.Now().Before(until); {
		case leads && (term == nil || term.ctx.Err() != nil):
			term.end() // it ended by itself while this process was stopped
			r.log.Info("this instance leads: it watches the repositories")
			term = r.beginTerm(ctx, before.Add(holds))
		case leads:
			term.extend(until)
			if asked, err := r.Store.Asked(asking, leadLease, r.Instance.ID); err == nil && asked {
				r.hintAll()
			}
		case term != nil:
			r.log.Warn("another instance leads now")
			term.end()
			term = nil
		}
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// term is one time of leading. It ends by itself when it is not extended: a
// process that was stopped finds it ended before it does anything else.
type term struct {
	timer  *time.Timer
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func (r *Reconciler) beginTerm(ctx context.Context, until time.Time) *term {
	ctx, cancel := context.WithCancel(ctx)
	t := &term{ctx: ctx, cancel: cancel, timer: time.AfterFunc(time.Until(until), cancel)}
	t.done.Go(func() { r.leading(ctx) })
	return t
}

func (t *term) extend(until time.Time) { t.timer.Reset(time.Until(until)) }

func (t *term) end() {
	if t != nil {
		t.timer.Stop()
		t.cancel()
		t.done.Wait()
	}
}

// leading is what the one leader does, until ctx ends.
func (r *Reconciler) leading(ctx context.Context) {
	r.leads.Store(true)
	defer r.leads.Store(false)
	g, ctx := errgroup.WithContext(ctx)
	for _, w := range r.watches {
		w.lastDigest = "" // somebody else may have recorded meanwhile
		g.Go(func() error { r.watch(ctx, w); return nil })
	}
	for _, listen := range r.Triggers {
		g.Go(func() error { return listen(ctx) })
	}
	g.Go(func() error { r.sweep(ctx); return nil })
	g.Go(func() error { r.forgetRuns(ctx); return nil })
	g.Go(func() error { r.expireAll(ctx); return nil })
	g.Go(func() error { r.wakeAll(ctx); return nil })
	_ = g.Wait() // each says by itself what is wrong, and goes on
}

// sweep wakes what lost its call, until ctx ends. Where others use the database
// too it looks often: a worker's death is noticed here.
func (r *Reconciler) sweep(ctx context.Context) {
	every, dead := sweepEvery, time.Duration(0)
	if r.Store.Shared() {
		every, dead = r.leadTime()/leadEvery, r.Heartbeat
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	defer r.setTrouble("database", nil) // it is for the next leader to say
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		judged := dead
		if !r.mayJudge() {
			judged = 0
		}
		err := r.Store.Sweep(ctx, judged)
		if ctx.Err() != nil {
			return
		}
		r.setTrouble("database", err)
		if err != nil {
			r.log.Error("looking for runs to wake", "error", err)
		}
	}
}

func (r *Reconciler) hintAll() {
	for name := range r.watches {
		r.hintHere(name)
	}
}
