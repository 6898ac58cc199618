package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/waymark-cd/waymark/release"
)

// Waiting is how many runs are in one state that is no end, or is unknown, and
// for how long the first of them has been so.
type Waiting struct {
	Runs   int
	Oldest time.Duration // 0 where there is none
}

// maxAwaiting bounds the plans that are looked at for the oldest one.
const maxAwaiting = 1000

// Waiting counts the runs that are not settled, by state. It reads these alone,
// by the index of states, however many have ended.
func (s *Store) Waiting(ctx context.Context) (map[release.State]Waiting, error) {
	out := map[release.State]Waiting{release.Queued: {}, release.Running: {}, release.AwaitingApproval: {}, release.Unknown: {}}
	rs, err := s.db.query(ctx, `SELECT state, count(*), min(created_at), min(started_at), min(finished_at) FROM runs
		WHERE state IN ('queued', 'running', 'awaiting_approval', 'unknown') GROUP BY state`)
	if err != nil {
		return nil, fmt.Errorf("counting runs by state: %w", err)
	}
	now := s.now()
	since := func(at int64) time.Duration { return max(0, now.Sub(fromMillis(at))) }
	_, err = collect(rs, func(r rows) (none struct{}, err error) {
		var state release.State
		var runs int
		var created, started, finished int64
		if err := r.Scan(&state, &runs, &created, &started, &finished); err != nil {
			return none, err
		}
		w := Waiting{Runs: runs}
		switch state {
		case release.Queued:
			w.Oldest = since(created)
		case release.Running:
			w.Oldest = since(started)
		case release.Unknown:
			w.Oldest = since(finished)
		}
		out[state] = w
		return none, nil
	})
	if err == nil && out[release.AwaitingApproval].Runs > 0 {
		var first time.Time
		first, err = s.firstAwaiting(ctx)
		w := out[release.AwaitingApproval]
		w.Oldest = max(0, now.Sub(first))
		out[release.AwaitingApproval] = w
	}
	if err != nil {
		return nil, fmt.Errorf("counting runs by state: %w", err)
	}
	return out, nil
}

// firstAwaiting is when the plan was made that waits for approval the longest.
func (s *Store) firstAwaiting(ctx context.Context) (time.Time, error) {
	rs, err := s.db.query(ctx, fmt.Sprintf("SELECT stages, started_at FROM runs WHERE state = 'awaiting_approval' ORDER BY id LIMIT %d", maxAwaiting))
	if err != nil {
		return time.Time{}, err
	}
	first := s.now()
	_, err = collect(rs, func(r rows) (none struct{}, err error) {
		var text string
		var started int64
		var run release.Run
		if err := r.Scan(&text, &started); err != nil {
			return none, err
		}
		if err := json.Unmarshal([]byte(text), &run.Stages); err != nil {
			return none, err
		}
		at := run.Stage(release.StageApproval).StartedAt
		if at.IsZero() {
			at = fromMillis(started)
		}
		if at.Before(first) {
			first = at
		}
		return none, nil
	})
	return first, err
}
