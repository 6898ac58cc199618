package reconciler

import (
	"context"
	"fmt"
	"time"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/tagparse"
)

// The functions of this file judge facts, wherever these come from: the service
// asks them with its record, and waymark explain with a clone and what a service
// says of itself. A refusal wraps release.ErrRefused, and Reason is what the
// record says of it.

// Reason is a refusal as people read it, without the sentinel's own word.
func Reason(err error) string { return reason(err) }

// WriteOut writes a commit's tree to a folder, as write does, with the errors of a
// run's checkout.
func WriteOut(ctx context.Context, write func(ctx context.Context, commit, dir string) (treeDigest string, err error), commit, dir string) error {
	_, err := writeOut(ctx, write, commit, dir)
	return err
}

// ListOf prints requirements as one part of a sentence.
func ListOf(all []release.Requirement) string { return listOf(all) }

// JudgeObject refuses a tag that is none of ours to release; refusal is what
// reading its object said.
func JudgeObject(repo config.Repository, annotated bool, refusal error) error {
	if refusal != nil {
		return fmt.Errorf("%w: %w", release.ErrRefused, refusal)
	}
	if !annotated && repo.LightweightTags != "allow" {
		return refuse("the tag is lightweight and says nothing of who made it: make an annotated one with git tag -a -m MESSAGE %s",
			nextVersion)
	}
	return nil
}

// JudgeReachable refuses a commit that is not on the repository's branch.
func JudgeReachable(repo config.Repository, commit string, reachable bool) error {
	if reachable {
		return nil
	}
	return refuse("commit %.12s is not on branch %q: merge it first, then push a tag with a new version", commit, repo.Branch)
}

// Standing is what the order of versions is judged by: the run that a target
// shows, and its newest; nil where there is none.
type Standing struct{ Deployed, Latest *release.Run }

// JudgeOrder refuses a version below the one that is deployed, and with waiting
// also below one that is on its way, unless the environment allows it.
func JudgeOrder(cfg *config.Config, t release.Target, version tagparse.Version, is Standing, waiting bool) error {
	if env, _ := cfg.Environment(t.Env); env.Downgrade == "allow" {
		return nil
	}
	older := func(run *release.Run, what string) error {
		other, err := tagparse.ParseVersion(run.Version)
		if err != nil || tagparse.Compare(version, other) >= 0 {
			return nil
		}
		return refuse("version %s is older than %s, which %s (run %d): push a higher version, or set downgrade = \"allow\" for %s",
			version, run.Version, what, run.ID, t.Env)
	}
	if is.Deployed != nil {
		if err := older(is.Deployed, "is deployed"); err != nil {
			return err
		}
	}
	if waiting && is.Latest != nil && !is.Latest.State.Ended() && is.Latest.Kind == release.Deploy {
		return older(is.Latest, "is on its way")
	}
	return nil
}

// JudgeTime says until when a change has to wait, and for what: for windows and
// freezes, as JudgeOpening said, or for its commit's soak, whichever takes longer;
// zero where it need not wait. Where the environment does not wait, it is a refusal.
func JudgeTime(cfg *config.Config, t release.Target, proven Promotion, opens time.Time, which string) (until time.Time, why string, err error) {
	until, why = proven.Waits()
	if opens.After(until) {
		until, why = opens, which
	}
	if until.IsZero() {
		return until, "", nil
	}
	if env, _ := cfg.Environment(t.Env); env.Outside == "refuse" {
		return until, why, refuse("%s may not change now: %s; it may from %s on: push a tag with a new version then, or set outside = \"wait\" for %s",
			t, why, stamp(until), t.Env)
	}
	return until, why, nil
}

// SayWaits is how the record says that a run waits.
func SayWaits(until time.Time, why string) string { return pause{until, why}.String() }
