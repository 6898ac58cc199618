package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	goversion "github.com/hashicorp/go-version"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/gates"
	"github.com/waymark-cd/waymark/reconciler"
	"github.com/waymark-cd/waymark/release"
)

// testGate is the gate that needs no program of its own: the engine's own tests.
const testGate = "test"

// gateKeeper makes configured gates ready, and remembers their versions.
type gateKeeper struct {
	mu       sync.Mutex
	versions map[string]string // by path, size and time of the executable
}

// newGateKeeper finds every enabled gate, so that a missing one stops the start
// and not a deployment, and says which waivers have come to their end.
func newGateKeeper(cfg *config.Config, engine release.EngineSpec, log *slog.Logger) (*gateKeeper, error) {
	for _, p := range cfg.Warnings(time.Now()) {
		log.Warn("the configuration needs a look", "problem", p.String())
	}
	for _, g := range cfg.Gates {
		var err error
		switch {
		case !g.Enabled:
		case g.Name == testGate:
			err = canTest(engine)
		default:
			_, err = gates.Find(gateSpec(g))
		}
		if err != nil {
			return nil, fmt.Errorf("%w: gate %s: %v", release.ErrInvalid, g.Name, err)
		}
	}
	return &gateKeeper{versions: map[string]string{}}, nil
}

// canTest refuses engines from before there were tests as the gate runs them.
func canTest(engine release.EngineSpec) error {
	v, err := goversion.NewVersion(engine.Version)
	if err == nil && v.LessThan(goversion.Must(goversion.NewVersion("1.6.0"))) {
		return fmt.Errorf("%s %s has no tests that it can run: use version 1.6 or later", engine.Kind, engine.Version)
	}
	return nil
}

// gateSpec is what a runner is told of a configured gate.
func gateSpec(g config.GateConfig) release.GateSpec {
	spec := release.GateSpec{Name: g.Name, Path: g.Path, FailOn: g.FailOn, Soft: g.Mode == config.GateSoft, Config: g.Settings()}
	if g.Own() {
		spec.Path, spec.Args, spec.Format, spec.Stage = g.Command[0], g.Command[1:], g.Format, release.StageName(g.Stage)
	}
	return spec
}

// check makes a gate ready for a tree. A gate in soft mode that cannot be is left
// to the runner as it is: it says there what is wrong, and the run goes on.
func (k *gateKeeper) check(ctx context.Context, g config.GateConfig, tree string, stack release.StackSpec) (reconciler.GateCheck, error) {
	check := reconciler.GateCheck{Spec: gateSpec(g)}
	if g.Name == testGate {
		return check, nil
	}
	path, err := gates.Find(check.Spec)
	if err == nil {
		check.Spec.Path = path
		if !gates.Kept(check.Spec) {
			return check, nil
		}
		var v string
		if v, err = k.version(ctx, check.Spec); err == nil {
			check.Key = gates.Key(tree, v, check.Spec, stack.Path)
		}
	}
	if err != nil && (!check.Spec.Soft || ctx.Err() != nil) {
		return reconciler.GateCheck{}, err
	}
	return check, nil
}

// version asks a gate for its version once, and again when its file changes.
func (k *gateKeeper) version(ctx context.Context, spec release.GateSpec) (string, error) {
	info, err := os.Stat(spec.Path)
	if err != nil {
		return "", fmt.Errorf("gate %s: %w", spec.Name, err)
	}
	key := fmt.Sprintf("%s %d %d", spec.Path, info.Size(), info.ModTime().UnixNano())
	k.mu.Lock()
	defer k.mu.Unlock()
	if v, ok := k.versions[key]; ok {
		return v, nil
	}
	v, err := gates.Version(ctx, spec)
	if err == nil {
		k.versions[key] = v
	}
	return v, err
}
