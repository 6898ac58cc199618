package reconciler

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
)

// Ledger tells what was deployed. The record does, and so does a service's API.
type Ledger interface {
	// Deployments lists what succeeded in changing a target, deploys, rollbacks and
	// removals, in the order in which that happened, from where the commit first
	// succeeded there; empty where it never did.
	Deployments(ctx context.Context, t release.Target, commit string) ([]release.Run, error)
}

// Proof is the success of a commit in one target.
type Proof struct {
	Target release.Target
	Run    release.Run
}

// Promotion is what speaks for a commit's way into an environment.
type Promotion struct {
	From   string  // the environment that it comes from; empty: it needs to come from none
	Proofs []Proof // the runs that count
	// Ripe is when the soak is over; zero where there is none.
	Ripe time.Time
	// Young are the proofs that are not old enough at the time of the judgement.
	Young []Proof
	soak  time.Duration
}

// JudgePromotion refuses a commit for a target that has not succeeded, for the same
// team, where the target's environment promotes from. A success counts from its end
// on, and no more once somebody rolled it back or removed it. Where nothing is
// missing but time, that is no refusal: see Promotion.Waits.
func JudgePromotion(ctx context.Context, cfg *config.Config, ledger Ledger, t release.Target, commit string, now time.Time) (Promotion, error) {
	env, _ := cfg.Environment(t.Env)
	p := Promotion{From: env.PromotesFrom, soak: env.Soak}
	if p.From == "" {
		return p, nil
	}
	targets, any := cfg.ProvenIn(t)
	var lacks []string
	for _, in := range targets {
		all, err := ledger.Deployments(ctx, in, commit)
		if err != nil {
			return p, err
		}
		run, why := proofOf(all, commit)
		switch {
		case why != "":
			lacks = append(lacks, in.String()+why)
		case any && len(p.Proofs) == 1:
			if run.FinishedAt.Before(p.Proofs[0].Run.FinishedAt) {
				p.Proofs[0] = Proof{in, run}
			}
		default:
			p.Proofs = append(p.Proofs, Proof{in, run})
		}
	}
	if len(targets) == 0 || any && len(p.Proofs) == 0 || !any && len(lacks) > 0 {
		return p, unproven(t, p.From, commit, lacks, any)
	}
	for _, proof := range p.Proofs {
		ripe := proof.Run.FinishedAt.Add(env.Soak)
		if env.Soak > 0 && ripe.After(p.Ripe) {
			p.Ripe = ripe
		}
		if ripe.After(now) {
			p.Young = append(p.Young, proof)
		}
	}
	return p, nil
}

// proofOf finds the run by which a commit counts as having succeeded in a target,
// or says why none does.
func proofOf(history []release.Run, commit string) (proof release.Run, why string) {
	deployed, why := "", ""
	for _, r := range history {
		takesBack := r.Kind == release.Destroy || r.Kind == release.Rollback && r.Commit != commit
		if takesBack && deployed == commit {
			proof, why = release.Run{}, fmt.Sprintf(" (taken back by run %d, a %s)", r.ID, r.Kind)
		}
		if deployed = r.Commit; r.Kind == release.Destroy {
			deployed = ""
		}
		if deployed == commit && proof.ID == 0 {
			proof = r
		}
	}
	switch {
	case proof.ID != 0:
		return proof, ""
	case why == "":
		return proof, " (never succeeded there)"
	}
	return proof, why
}

func unproven(t release.Target, from, commit string, lacks []string, any bool) error {
	where := strings.Join(lacks, ", ")
	if any {
		where = "any scope of " + from + ": " + where
	}
	return refuse("%s promotes from %s, and commit %.12s has not succeeded in %s: deploy it there first, then push a tag with a new version",
		t.Env, from, commit, where)
}

// Waits says until when the commit has to soak, and why; zero where it need not.
func (p Promotion) Waits() (until time.Time, why string) {
	if len(p.Young) == 0 {
		return time.Time{}, ""
	}
	var since []string
	for _, y := range p.Young {
		since = append(since, fmt.Sprintf("%s since %s (run %d)", y.Target, stamp(y.Run.FinishedAt), y.Run.ID))
	}
	return p.Ripe, fmt.Sprintf("the commit must soak for %s, and is in %s", short(p.soak), strings.Join(since, ", "))
}

// String names the runs that count, for people; empty where none need to.
func (p Promotion) String() string {
	var out []string
	for _, proof := range p.Proofs {
		out = append(out, fmt.Sprintf("run %d succeeded in %s at %s", proof.Run.ID, proof.Target, stamp(proof.Run.FinishedAt)))
	}
	return strings.Join(out, ", ")
}

// details are what the audit log keeps of a promotion.
func (p Promotion) details() map[string]any {
	if p.From == "" {
		return nil
	}
	var runs []map[string]any
	for _, proof := range p.Proofs {
		runs = append(runs, map[string]any{"run": release.FormatID(proof.Run.ID), "target": proof.Target.String(), "tag": proof.Run.Tag,
			"at": proof.Run.FinishedAt.UTC().Format(time.RFC3339)})
	}
	out := map[string]any{"from": p.From, "runs": runs}
	if !p.Ripe.IsZero() {
		out["ripe"] = p.Ripe.UTC().Format(time.RFC3339)
	}
	return map[string]any{"promotion": out}
}

// stamp prints a time for people and programs.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
