package reconciler

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// progress is the stages of a run as its runner tells of them.
type progress struct {
	of    store.Record // as it was at first; nobody changes it
	mu    sync.Mutex
	run   store.Record
	ended []endedStage // in the order of their ends
	dirty chan struct{}
}

// endedStage is a stage that a runner has ended, and what ran for it.
type endedStage struct {
	release.Stage
	commands []release.Command
}

func newProgress(rec store.Record) *progress {
	return &progress{of: rec, run: rec, dirty: make(chan struct{}, 1)}
}

// event takes one event of the runner.
func (p *progress) event(e release.Event) {
	if e.Type != release.EventStage {
		return
	}
	p.mu.Lock()
	s := p.run.Stage(e.Stage)
	s.State, s.Summary = e.State, e.Message
	if e.State == release.StageRunning {
		s.StartedAt = e.At
	} else {
		s.FinishedAt = e.At
		p.ended = append(p.ended, endedStage{s, e.Commands})
	}
	p.run.SetStage(s)
	p.mu.Unlock()
	select {
	case p.dirty <- struct{}{}:
	default:
	}
}

func (p *progress) stages() []release.Stage {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]release.Stage(nil), p.run.Stages...)
}

// progressEvery is how often a run's stages are written at most: short stages
// follow each other faster than anyone looks, and each write is a transaction.
const progressEvery = 150 * time.Millisecond

// writeProgress records the stages as they are, a moment after one has changed.
// A write that fails is left to the next one: the run's end writes them all.
func (r *Reconciler) writeProgress(ctx context.Context, p *progress) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.dirty:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(progressEvery):
		}
		stages := p.stages()
		_, err := r.Store.Update(ctx, p.of.ID, store.Update{Change: func(now *store.Record) error {
			if err := same(p.of, *now); err != nil {
				return err
			}
			now.Stages = stages
			return nil
		}})
		if err != nil && ctx.Err() == nil && !errors.Is(err, release.ErrConflict) {
			r.log.Warn("a run's progress cannot be written", "run", p.of.ID, "error", err)
		}
	}
}
