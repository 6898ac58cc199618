package reconciler

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
)

// forgetEvery is how often it is looked for what is older than the configured
// retention: also at the start.
const forgetEvery = time.Hour

// forgetRuns deletes what all instances share and the configured retention has
// run out for: logs in the blob store, then runs in the record. The leader does
// it, until ctx ends.
func (r *Reconciler) forgetRuns(ctx context.Context) {
	if r.retention().Runs == 0 && (r.retention().Logs == 0 || r.Blobs == nil) {
		return
	}
	r.hourly(ctx, "old runs", func(now time.Time) error {
		// A run that is forgotten would leave its blobs to nobody, so they go first.
		if err := r.forgetBlobs(ctx, now); err != nil || r.retention().Runs == 0 {
			return err
		}
		for {
			n, err := r.Store.Prune(ctx, now.Add(-r.retention().Runs))
			if err != nil || n == 0 {
				return err
			}
			r.log.Info("old runs were forgotten", "runs", n, "older_than", span(r.retention().Runs))
		}
	})
}

// forgetLogs deletes old runs' folders on this worker's disk, until ctx ends.
func (r *Reconciler) forgetLogs(ctx context.Context) {
	if r.retention().Logs > 0 {
		r.hourly(ctx, "old logs", func(now time.Time) error { return r.forgetFolders(ctx, now) })
	}
}

// retention is how long ended runs and their logs are kept.
func (r *Reconciler) retention() config.Retention { return r.Config.Config.Retention }

// hourly calls fn with the database's time, now and every hour, until ctx ends.
// What fails is done the next time.
func (r *Reconciler) hourly(ctx context.Context, what string, fn func(now time.Time) error) {
	tick := time.NewTicker(forgetEvery)
	defer tick.Stop()
	for {
		now, err := r.Store.Clock(ctx)
		if err == nil {
			err = fn(now)
		}
		if err != nil && ctx.Err() == nil {
			r.log.Warn("what is old cannot be removed now; it is tried again in an hour", "what", what, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// forgetBlobs deletes the blobs of runs that ended longer ago than logs are
// kept. Those of runs that are not on record, as after a restore, stay: they may
// be all that is known of them.
func (r *Reconciler) forgetBlobs(ctx context.Context, now time.Time) error {
	if r.Blobs == nil {
		return nil
	}
	keys, err := r.Blobs.List(ctx, "runs")
	if err != nil {
		return fmt.Errorf("listing the logs of old runs: %w", err)
	}
	var last int64
	for _, key := range keys { // sorted: those of one run are side by side
		name, _, _ := strings.Cut(strings.TrimPrefix(key, "runs/"), "/")
		id, err := strconv.ParseInt(name, 10, 64)
		if err != nil || id == last {
			continue
		}
		last = id
		run, err := r.Store.Run(ctx, id)
		if errors.Is(err, release.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if !r.logExpired(run, now) {
			continue
		}
		if err := r.Blobs.DeletePrefix(ctx, path.Join("runs", name)); err != nil {
			return fmt.Errorf("removing the log of run %d: %w", id, err)
		}
	}
	return nil
}

// forgetFolders deletes the folders of runs that ended longer ago than logs are
// kept; those of runs that are not on record when they are as old themselves.
func (r *Reconciler) forgetFolders(ctx context.Context, now time.Time) error {
	folders, err := os.ReadDir(r.runsDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for old logs: %w", err)
	}
	removed := 0
	for _, f := range folders {
		id, err := strconv.ParseInt(f.Name(), 10, 64)
		if err != nil || release.FormatID(id) != f.Name() {
			continue // none of ours
		}
		run, err := r.Store.Run(ctx, id)
		old := false
		switch {
		case err == nil:
			old = r.logExpired(run, now)
		case errors.Is(err, release.ErrNotFound):
			old = r.allOlder(r.path(f.Name()), now)
		default:
			return err
		}
		if old && !r.runnerAlive(f.Name()) {
			r.remove(id, r.path(f.Name()))
			removed++
		}
	}
	if removed > 0 {
		r.log.Info("the logs of old runs were removed from this disk", "runs", removed, "older_than", span(r.retention().Logs))
	}
	return nil
}

// logExpired reports whether a run's log has been kept for long enough. That of
// an unknown one is evidence, for as long as it takes.
func (r *Reconciler) logExpired(run release.Run, now time.Time) bool {
	keep := r.retention().Logs
	return keep > 0 && run.State.Ended() && run.State != release.Unknown &&
		!run.FinishedAt.IsZero() && run.FinishedAt.Before(now.Add(-keep))
}

// allOlder reports whether nothing beneath a folder was written since logs are
// kept. What cannot be looked at is taken for new.
func (r *Reconciler) allOlder(dir string, now time.Time) bool {
	since := now.Add(-r.retention().Logs)
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.ModTime().After(since) {
			err = fs.ErrExist
		}
		return err
	})
	return err == nil
}

// runnerAlive reports whether a runner of a run is at work on this machine,
// whatever the record says of the run.
func (r *Reconciler) runnerAlive(folder string) bool {
	runners, err := filepath.Glob(r.path(filepath.Join(folder, "*", "*", "runner.json")))
	for _, file := range runners {
		found, findErr := r.Runners.Find(filepath.Dir(file))
		if findErr != nil || found == FoundAlive {
			return true
		}
	}
	return err != nil
}

// goneLog says why an ended run's log is empty, where that is by configuration.
func (r *Reconciler) goneLog(run release.Run) string {
	if !r.logExpired(run, r.Now()) {
		return ""
	}
	return fmt.Sprintf("the log was removed after %s, as retention { logs } says", span(r.retention().Logs))
}

// span writes a time as configurations do.
func span(d time.Duration) string {
	if d%time.Hour == 0 {
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return d.String()
}
