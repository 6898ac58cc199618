package reconciler

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/waymark-cd/waymark/release"
)

// removeWork deletes an attempt's saved plan and working copy; the events of
// its runners stay, they are the run's log.
func (r *Reconciler) removeWork(id int64, attempt int) {
	dir := r.path(attemptDir(id, attempt))
	names := []string{planName, planName + release.SecretsSuffix, sessionName, pushTree}
	if !r.Config.Config.Runner.Keep {
		names = append(names, treeName, "tools")
	}
	for _, name := range names {
		r.remove(id, filepath.Join(dir, name))
	}
	r.removeIn(id, attempt, "errored.tfstate*")
	r.removePlain(id, attempt)
}

// removePlain deletes what a runner that was killed left in clear, of the plan
// or of a state that it was to push.
func (r *Reconciler) removePlain(id int64, attempt int) { r.removeIn(id, attempt, "*.private") }

// removeIn deletes files in the folders of an attempt's runners.
func (r *Reconciler) removeIn(id int64, attempt int, pattern string) {
	for _, runner := range []string{"plan", "apply-*", "push-*"} {
		found, err := filepath.Glob(filepath.Join(r.path(attemptDir(id, attempt)), runner, pattern))
		if err != nil {
			return // a pattern of ours is never malformed
		}
		for _, path := range found {
			r.remove(id, path)
		}
	}
}

func (r *Reconciler) remove(id int64, path string) {
	if err := os.RemoveAll(path); err != nil {
		r.log.Warn("what an ended run left cannot be removed", "run", id, "error", err)
	}
}

// removeLeftovers deletes the plans and working copies of runs that ended
// without this process seeing it: after a crash, or by a person's word.
func (r *Reconciler) removeLeftovers(ctx context.Context) {
	found, err := filepath.Glob(r.path("*/*/" + planName))
	works, err2 := filepath.Glob(r.path("*/*/" + treeName))
	kept, err3 := filepath.Glob(r.path("*/*/apply-*/" + keptState))
	for _, path := range kept {
		found = append(found, filepath.Dir(path))
	}
	if err := errors.Join(err, err2, err3); err != nil || (r.Config.Config.Runner.Keep && len(found) == 0) {
		return
	}
	for _, path := range append(found, works...) {
		var id int64
		var attempt int
		rel, err := filepath.Rel(r.runsDir(), filepath.Dir(path))
		if err != nil {
			continue
		}
		if n, _ := fmt.Sscanf(rel, "%d/%d", &id, &attempt); n != 2 {
			continue
		}
		rec, err := r.Store.Record(ctx, id)
		if err == nil && (rec.State.Ended() && rec.State != release.Unknown || attempt < rec.Attempt) {
			r.removeWork(id, attempt)
		}
	}
}
