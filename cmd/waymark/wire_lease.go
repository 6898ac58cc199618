package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/waymark-cd/waymark/store"
)

const (
	taskLease = 15 * time.Second // at most: another instance takes over within it
	taskEvery = 5                // as often is it reached for within its time
)

// whileHeld does a task, until ctx ends, on one of the instances that share the
// database: on this one whenever it has the task's lease. The task ends when its
// context does, which it does by itself where the lease is not extended in time:
// a process that was stopped finds it ended before it does anything else.
func whileHeld(ctx context.Context, s *store.Store, name, holder string, log *slog.Logger, task func(context.Context)) {
	if !s.Shared() {
		task(ctx)
		return
	}
	var (
		done  sync.WaitGroup
		at    context.Context
		end   context.CancelFunc
		timer *time.Timer
	)
	stop := func() {
		if end != nil {
			timer.Stop()
			end()
			done.Wait()
			end = nil
		}
	}
	defer func() {
		stop()
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = s.Yield(bye, name, holder) // it ends by itself too
	}()
	tick := time.NewTicker(taskLease / taskEvery)
	defer tick.Stop()
	for until := (time.Time{}); ; {
		before := time.Now() // a lease counts from before it was asked for
		asking, cancel := context.WithTimeout(ctx, taskLease/2)
		held, err := s.Lease(asking, name, holder, taskLease)
		cancel()
		if err == nil && held {
			until = before.Add(taskLease)
		} else if err == nil {
			until = time.Time{}
		}
		switch holds := time.Now().Before(until); {
		case holds && (end == nil || at.Err() != nil):
			stop()
			log.Debug("this instance has taken a task", "task", name)
			at, end = context.WithCancel(ctx)
			timer = time.AfterFunc(time.Until(until), end)
			work := at
			done.Go(func() { task(work) })
		case holds:
			timer.Reset(time.Until(until))
		case end != nil:
			log.Warn("another instance has a task now", "task", name)
			stop()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// attend does what goes on beside the runs, until either context ends.
func (s *service) attend(ctx, ended context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ended, cancel)()
	var all sync.WaitGroup
	for _, task := range s.background {
		all.Go(func() { task(ctx) })
	}
	all.Wait()
}
