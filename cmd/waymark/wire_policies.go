package main

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/policies"
	"github.com/waymark-cd/waymark/release"
)

// checkPolicies holds a configuration's policy settings and the operator's own
// rules against what could be evaluated. What is wrong with the rules comes back
// as config.Problems: each with its place in the configuration and its own.
func checkPolicies(ctx context.Context, cfg *config.Config) error {
	var problems config.Problems
	for _, p := range policies.Check(cfg.Policy.Files) {
		problems = append(problems, cfg.Policy.ProblemAt(p.String()))
	}
	if len(problems) > 0 {
		return problems
	}
	_, err := policies.New(ctx, cfg.PolicyFor(release.Target{}, "", release.Deploy))
	return err
}

// tagPolicies gives the judgement of the operator's rules on tags; nil where
// there are none. The error is one of checkPolicies.
func tagPolicies(ctx context.Context, cfg *config.Config) (func(context.Context, release.TagFacts) (release.PolicyVerdict, error), error) {
	if err := checkPolicies(ctx, cfg); err != nil {
		return nil, err
	}
	engine, err := policies.New(ctx, cfg.PolicyFor(release.Target{}, "", release.Deploy))
	if err != nil || !engine.JudgesTags() {
		return nil, err
	}
	return (&tagJudge{cfg: cfg, engines: map[string]*policies.Engine{}}).judge, nil
}

// tagJudge keeps an engine for each environment: their settings differ.
type tagJudge struct {
	cfg     *config.Config
	mu      sync.Mutex
	engines map[string]*policies.Engine
}

func (j *tagJudge) judge(ctx context.Context, facts release.TagFacts) (release.PolicyVerdict, error) {
	engine, err := j.engine(ctx, facts.Target.Env)
	if err != nil {
		return release.PolicyVerdict{}, err
	}
	return engine.Tag(ctx, facts)
}

func (j *tagJudge) engine(ctx context.Context, env string) (*policies.Engine, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e := j.engines[env]; e != nil {
		return e, nil
	}
	e, err := policies.New(ctx, j.cfg.PolicyFor(release.Target{Env: env}, "", release.Deploy))
	if err == nil {
		j.engines[env] = e
	}
	return e, err
}

// weakenedRules says, for each environment, which bundled rules its
// configuration weakens; none where it weakens none.
func weakenedRules(cfg *config.Config) []string {
	var out []string
	for _, env := range cfg.Environments {
		if text := policies.Weakened(cfg.PolicySwitches(env.Name), ""); text != "" {
			out = append(out, fmt.Sprintf("environment %s: %s", env.Name, text))
		}
	}
	return out
}

// printWeakened lists weakened rules for people.
func printWeakened(w io.Writer, cfg *config.Config) {
	for _, text := range weakenedRules(cfg) {
		fmt.Fprintln(w, "policy: "+text)
	}
}
