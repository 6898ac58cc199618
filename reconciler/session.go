package reconciler

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// SessionRequest asks for what one phase of a run needs to reach the cloud.
type SessionRequest struct {
	RunID      int64 // 0: for the service itself, to look at a state's lock
	Tag        string
	Phase      release.Phase
	Deployment *config.Deployment
	Dir        string        // absolute folder for the session's files
	Lifetime   time.Duration // of the phase; 0 for no limit
	Renewal    bool          // the phase has begun, and its files are to be replaced
}

// Session is what a phase reaches the cloud with.
type Session struct {
	Name      string // as the cloud's own log shows it
	Env       map[string]string
	Files     map[string][]byte // by name in the session's folder
	Backend   map[string]string // further backend arguments
	RefreshAt time.Time         // when Files need new ones; zero: never
	// State reads which version of the target's state is there, as this session;
	// nil where only the service's own identity can.
	State func(ctx context.Context) (release.StateMark, error)
}

// sessionName is the folder of an attempt that holds its session's files.
const sessionName = "session"

// sessionPatience bounds how long a run waits for a session that the cloud
// cannot give just now.
const sessionPatience = 15 * time.Minute

// openSession gives a phase its session: the environment, further backend
// arguments and, where the session has any, its files.
func (r *Reconciler) openSession(ctx context.Context, d *drive, spec *release.Spec, of *config.Deployment) (name string, err error) {
	if r.Session == nil {
		return "", nil
	}
	dir := filepath.Join(filepath.Dir(spec.WorkDir), sessionName)
	phase := spec.Phase
	if phase == release.PhasePush {
		phase = release.PhaseApply // it writes the same state
	}
	s, err := r.patientSession(ctx, d, SessionRequest{RunID: spec.RunID, Tag: spec.Tag, Phase: phase, Deployment: of,
		Dir: dir, Lifetime: spec.Timeout})
	if err != nil {
		return "", err
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", fmt.Errorf("removing the last session: %w", err)
	}
	maps.Copy(spec.Env, s.Env)
	spec.Backend.Values = maps.Clone(spec.Backend.Values)
	maps.Copy(spec.Backend.Values, s.Backend)
	d.opened, d.refreshAt, d.readState = true, s.RefreshAt, s.State
	if len(s.Files) == 0 {
		return s.Name, nil
	}
	spec.SessionDir = dir
	return s.Name, writeSession(dir, s.Files)
}

// patientSession asks for a session until there is one. A cloud that is
// throttled or away is waited for; any other answer is final.
func (r *Reconciler) patientSession(ctx context.Context, d *drive, req SessionRequest) (Session, error) {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = time.Second, time.Minute
	until := r.Now().Add(sessionPatience)
	for {
		s, err := r.Session(ctx, req)
		if err == nil || !errors.Is(err, release.ErrUnavailable) || r.Now().After(until) {
			return s, err
		}
		r.log.Warn("a run waits for its session", "run", req.RunID, "error", err)
		select {
		case <-ctx.Done():
			return s, context.Cause(ctx)
		case <-d.cancel:
			return s, err
		case <-time.After(wait.NextBackOff()):
		}
	}
}

// writeSession puts a session's files in place, each by rename, so that whoever
// reads one finds it whole.
func writeSession(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the session's folder: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+".new", files[name], 0o600); err != nil {
			return fmt.Errorf("writing the session: %w", err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			return fmt.Errorf("writing the session: %w", err)
		}
	}
	return nil
}

// keepSession renews the session's files of a phase before they expire, until
// ctx ends. A phase that an earlier process began gets new ones at once.
func (r *Reconciler) keepSession(ctx context.Context, d *drive, rec store.Record) {
	dir := filepath.Join(r.path(attemptDir(rec.ID, rec.Attempt)), sessionName)
	_, err := os.Stat(dir)
	if r.Session == nil || errors.Is(err, fs.ErrNotExist) || d.opened && d.refreshAt.IsZero() {
		return
	}
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = time.Second, time.Minute
	for at := d.refreshAt; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(at.Sub(r.Now())):
		}
		next, err := r.renewSession(ctx, rec, dir)
		switch {
		case ctx.Err() != nil || err == nil && next.IsZero():
			return
		case err != nil:
			r.log.Error("a run's session cannot be renewed, trying again", "run", rec.ID, "error", err)
			at = r.Now().Add(wait.NextBackOff())
		default:
			wait.Reset()
			at = next
		}
	}
}

// renewSession opens another session for the phase that a run is in.
func (r *Reconciler) renewSession(ctx context.Context, rec store.Record, dir string) (next time.Time, err error) {
	w := r.watches[rec.Repository]
	if w == nil {
		return next, fmt.Errorf("repository %q is no longer configured", rec.Repository)
	}
	deployment, err := r.resolve(ctx, w, rec)
	if err != nil {
		return next, err
	}
	phase := release.PhasePlan
	if rec.Applying {
		phase = release.PhaseApply
	}
	s, err := r.Session(ctx, SessionRequest{RunID: rec.ID, Tag: rec.Tag, Phase: phase, Deployment: deployment, Dir: dir,
		Lifetime: deployment.Config.Engine.Timeout, Renewal: true})
	if err != nil {
		return next, err
	}
	return s.RefreshAt, writeSession(dir, s.Files)
}
