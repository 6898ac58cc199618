package reconciler

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"filippo.io/age"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
	"github.com/waymark-cd/waymark/tagparse"
)

// prepare does the checkout stage of a run: it writes the commit's tree out,
// resolves what the configuration says of the target at that commit, and
// records the key and the folder of the runner that is about to start. It
// returns the runner's Spec and, by gate, the key under which a fresh result is
// kept. rec is brought up to date.
func (r *Reconciler) prepare(ctx context.Context, drv *drive, rec *store.Record) (spec release.Spec, keys map[string]string, err error) {
	stage := release.Stage{Name: release.StageCheckout, State: release.StageRunning, StartedAt: r.Now().UTC()}
	rec.SetStage(stage)
	dir := r.path(attemptDir(rec.ID, rec.Attempt))
	if err := os.RemoveAll(dir); err != nil {
		return spec, nil, fmt.Errorf("making room for run %d: %w", rec.ID, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return spec, nil, fmt.Errorf("making the folder of run %d: %w", rec.ID, err)
	}
	w := r.watches[rec.Repository]
	if w == nil {
		return spec, nil, refuse("repository %q is no longer configured: put it back, or push the tag to another one", rec.Repository)
	}
	var d *config.Deployment
	var tree string
	err = r.withCommit(ctx, w, *rec, func() (err error) {
		d, tree, err = r.checkout(ctx, w, *rec, filepath.Join(dir, treeName))
		return err
	})
	if err != nil {
		return spec, nil, err
	}
	spec = r.spec(*rec, d, release.PhasePlan, "plan")
	if rec.Kind != release.Drift { // which is judged already, as it is deployed
		if spec.Gates, keys, err = r.gates(ctx, d, tree); err != nil {
			return spec, nil, err
		}
	}
	session, err := r.openSession(ctx, drv, &spec, d)
	if err != nil {
		return spec, nil, err
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return spec, nil, fmt.Errorf("making the plan's key: %w", err)
	}
	if rec.Kind.ChangesTarget() { // any other plan is not kept
		spec.PlanRecipient = identity.Recipient().String()
	}
	stage.State, stage.FinishedAt = release.StagePassed, r.Now().UTC()
	stage.Summary = fmt.Sprintf("commit %.12s", rec.Commit)
	if session != "" {
		stage.Summary += ", session " + session
	}
	err = r.persist(ctx, "checkout", func() error {
		now, err := r.Store.Update(ctx, rec.ID, store.Update{Change: func(now *store.Record) error {
			if err := same(*rec, *now); err != nil {
				return err
			}
			now.SetStage(stage)
			now.Account, now.PlanKey = d.Account, identity.String()
			now.RunnerDir = filepath.Join(attemptDir(rec.ID, rec.Attempt), "plan")
			now.LockOwner, now.RanOn = r.LockOwner, r.Instance.ID
			return nil
		}})
		if err == nil {
			*rec = now
		}
		return err
	})
	return spec, keys, err
}

// withCommit does what needs the run's commit, and once more after fetching it:
// another worker may have admitted the tag, or the cache was made anew since.
func (r *Reconciler) withCommit(ctx context.Context, w *watch, rec store.Record, fn func() error) error {
	err := fn()
	if errors.Is(err, release.ErrNotFound) {
		if err = r.fetchCommit(ctx, w, rec); err == nil {
			err = fn()
		}
	}
	return err
}

// fetchCommit fetches the run's commit by its tag. Code without one is named by the
// commit alone, and so is that of a removal whose tag is gone.
func (r *Reconciler) fetchCommit(ctx context.Context, w *watch, rec store.Record) error {
	if rec.Tag != "" {
		ref := Ref{Name: rec.Tag, ObjectID: rec.ObjectID, Commit: rec.Commit, Annotated: rec.ObjectID != rec.Commit}
		_, err := w.inspect(ctx, []Ref{ref})
		if err == nil || rec.Kind != release.Destroy || r.Rev == nil {
			return err
		}
	}
	if r.Rev == nil {
		return fmt.Errorf("%w: this service finds no commits without a tag", release.ErrUnavailable)
	}
	_, err := r.Rev(ctx, rec.Repository, rec.Commit, rec.Tag == "")
	return err
}

// writeTree writes the run's commit out once more, for an apply of a plan that
// another worker made.
func (r *Reconciler) writeTree(ctx context.Context, w *watch, rec store.Record, dir string) error {
	return r.withCommit(ctx, w, rec, func() error {
		_, err := w.remote.Checkout(ctx, rec.Commit, dir)
		return err
	})
}

// checkout resolves the configuration at the run's commit and writes its tree out.
func (r *Reconciler) checkout(ctx context.Context, w *watch, rec store.Record, dir string) (*config.Deployment, string, error) {
	d, err := r.resolve(ctx, w, rec)
	if err != nil {
		return nil, "", err
	}
	tree, err := writeOut(ctx, w.remote.Checkout, rec.Commit, dir)
	return d, tree, err
}

// writeOut writes a commit's tree to a folder.
func writeOut(ctx context.Context, write func(ctx context.Context, commit, dir string) (treeDigest string, err error), commit, dir string) (string, error) {
	tree, err := write(ctx, commit, dir)
	if err != nil {
		return "", fmt.Errorf("writing out commit %.12s: %w", commit, err)
	}
	return tree, nil
}

// resolve evaluates the configuration that a run was admitted under, at its commit.
func (r *Reconciler) resolve(ctx context.Context, w *watch, rec store.Record) (*config.Deployment, error) {
	run := rec.Run
	cfg, err := r.configOf(ctx, rec)
	if err != nil {
		return nil, err
	}
	tag, err := tagparse.Parse(run.Tag)
	if run.Tag == "" {
		tag, err = untagged(run.Target, run.Version)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", release.ErrInvalid, err)
	}
	if err := cfg.Admit(run.Repository, tag); err != nil {
		return nil, err
	}
	return cfg.Resolve(config.ResolveInput{Repository: run.Repository, Tag: tag, Commit: run.Commit,
		Files: w.remote.Files(run.Commit)})
}

// spec is what both phases of a run are told.
func (r *Reconciler) spec(rec store.Record, d *config.Deployment, phase release.Phase, folder string) release.Spec {
	attempt := r.path(attemptDir(rec.ID, rec.Attempt))
	cfg, here := d.Config, r.Config.Config
	s := release.Spec{Format: release.ProtocolFormat, RunID: rec.ID, Attempt: rec.Attempt, Kind: rec.Kind, Phase: phase,
		Tag: rec.Tag, Target: rec.Target, Dir: filepath.Join(attempt, folder), WorkDir: filepath.Join(attempt, treeName),
		PlanFile: filepath.Join(attempt, planName), Engine: r.Engine, Backend: d.Backend, Stack: d.Stack,
		Policy:   cfg.PolicyFor(rec.Target, d.Account, rec.Kind),
		Writable: here.Runner.Writable, Readable: here.Runner.Readable, Sandbox: here.Runner.Sandbox, Mask: here.Runner.Mask,
		Env: map[string]string{}, Timeout: cfg.Engine.Timeout}
	for name, value := range cfg.Engine.Env {
		s.Env[name] = value.Reveal()
	}
	if bundle := cfg.AWS.CABundle; bundle != "" {
		s.Readable = append(append([]string(nil), s.Readable...), bundle)
	}
	if path := d.Backend.Values["path"]; d.Backend.Type == "local" && path != "" {
		s.Writable = append(append([]string(nil), s.Writable...), filepath.Dir(path))
	}
	return s
}

// gates makes the configured gates ready for a tree, with kept results where
// the same tree was judged before by the same version and settings.
func (r *Reconciler) gates(ctx context.Context, d *config.Deployment, tree string) ([]release.GateSpec, map[string]string, error) {
	var specs []release.GateSpec
	keys := map[string]string{}
	for _, g := range d.Gates {
		c, err := r.Gate(ctx, g, tree, d.Stack)
		if err != nil {
			return nil, nil, fmt.Errorf("gate %s: %w", g.Name, err)
		}
		c.Spec.Waivers = d.Config.WaiversFor(g.Name, d.Target)
		if c.Key != "" {
			kept, err := r.Store.GateResults(ctx, c.Key)
			if err != nil {
				return nil, nil, err
			}
			if result, ok := kept[c.Key]; ok {
				c.Spec.Cached = &result
			}
			keys[g.Name] = c.Key
		}
		specs = append(specs, c.Spec)
	}
	return specs, keys, nil
}
