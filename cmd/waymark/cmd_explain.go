package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/policies"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/tagparse"
)

// explanation is what a tag would do, as `waymark explain -o json` prints it.
type explanation struct {
	Tag     string            `json:"tag"`
	Valid   bool              `json:"valid"`             // whether no step refuses it
	Reason  string            `json:"reason,omitempty"`  // of the first step that does, in the service's words
	Nearest string            `json:"nearest,omitempty"` // the nearest tag with a name that is not refused
	Steps   []explainedStep   `json:"steps"`             // in the order in which the service asks
	Parts   *explainedParts   `json:"parts,omitempty"`
	Targets []explainedTarget `json:"targets,omitempty"` // one for each repository
	Global  string            `json:"waits_for,omitempty"`
	Env     *explainedEnv     `json:"environment,omitempty"`
	Gates   []explainedGate   `json:"gates,omitempty"`
	Policy  *explainedPolicy  `json:"policies,omitempty"`

	Signature *explainedSignature `json:"signature,omitempty"`
}

type explainedParts struct {
	Env     string `json:"env"`
	Scope   string `json:"scope"`
	Team    string `json:"team"`
	Version string `json:"version"`
}

type explainedEnv struct {
	Approvals    int      `json:"approvals"`
	Approvers    []string `json:"approvers"`       // none: whoever may approve runs of the target
	Expiry       string   `json:"approval_expiry"` // "0s": never
	PromotesFrom string   `json:"promotes_from,omitempty"`
	Downgrade    string   `json:"downgrade"`
	Queue        string   `json:"queue"`
	Windows      []string `json:"windows"` // and configured freezes, for the target; none: any time
	Outside      string   `json:"outside"` // of them: "wait" or "refuse"
}

type explainedGate struct {
	Name   string `json:"name"`
	FailOn string `json:"fail_on"`
	Soft   bool   `json:"soft,omitempty"` // it never fails a run
	// Waivers take findings of it out of the count for the target, those that have
	// expired left out.
	Waivers []release.Waiver `json:"waivers,omitempty"`
}

// explainGates says which gates judge a deployment, as of now.
func explainGates(d *config.Deployment, now time.Time) []explainedGate {
	var out []explainedGate
	for _, g := range d.Gates {
		waivers := slices.DeleteFunc(d.Config.WaiversFor(g.Name, d.Target), func(w release.Waiver) bool { return !w.Ends().After(now) })
		out = append(out, explainedGate{Name: g.Name, FailOn: string(g.FailOn), Soft: g.Mode == config.GateSoft, Waivers: waivers})
	}
	return out
}

// text prints a gate for people.
func (g explainedGate) text() string {
	mode := "fails on " + g.FailOn
	if g.Soft {
		mode = "soft mode: never fails, would on " + g.FailOn
	}
	for _, w := range g.Waivers {
		where := ""
		if len(w.Paths) > 0 {
			where = " in " + strings.Join(w.Paths, " and ")
		}
		mode += fmt.Sprintf(", %s waived%s until %s", w.Rule, where, w.Expires)
	}
	return g.Name + " (" + mode + ")"
}

type explainedPolicy struct {
	AllowedProviders []string `json:"allowed_providers,omitempty"`
	AllowedModules   []string `json:"allowed_modules,omitempty"`
	Protected        bool     `json:"protected"`          // the code may start no programs
	Weakened         string   `json:"weakened,omitempty"` // which bundled rules ask for less than by themselves
}

// explainedTarget is what the tag means in one repository.
type explainedTarget struct {
	Repository string            `json:"repository"`
	Target     string            `json:"target"`
	Account    string            `json:"account,omitempty"`
	Region     string            `json:"region"`
	Commit     string            `json:"commit,omitempty"` // whose files were read
	Roles      map[string]string `json:"roles,omitempty"`
	Backend    explainedBackend  `json:"backend"`
	Path       string            `json:"path"`
	VarFiles   []string          `json:"var_files"`
	Variables  map[string]any    `json:"variables,omitempty"`
	Module     string            `json:"module,omitempty"`
}

type explainedBackend struct {
	Kind   string            `json:"kind"`
	Bucket string            `json:"bucket,omitempty"`
	Key    string            `json:"key,omitempty"`
	Lock   string            `json:"lock,omitempty"`
	Values map[string]string `json:"values,omitempty"`
}

// newExplainCommand builds `waymark explain`.
func newExplainCommand(g *globals) *cobra.Command {
	var file, repo string
	cmd := &cobra.Command{
		Use:   "explain TAG",
		Short: "Say what a tag would do, without running anything",
		Long: `Says what a tag would do, step by step, in the words in which the service would
say it. What needs files is read from --repo: at the tag where it exists there,
else at HEAD. What needs the record (the order of versions, promotion, freezes) is
asked of the service at --server or WAYMARK_SERVER; without one those steps are not
known. Nothing is run, and nothing is changed. A tag that would be refused ends
with exit code 4, the reason and the nearest tag whose name would not be.`,
		Args: exactArgs("TAG"),
	}
	cmd.Flags().StringVar(&file, "config", "waymark.hcl", "the configuration file")
	cmd.Flags().StringVar(&repo, "repo", "", "a clone of the infrastructure repository (default: the current folder, where it is one)")
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := loadConfig(file)
		if err != nil {
			return err
		}
		x := &explainer{cfg: cfg, dir: repo}
		if g.namesServer() {
			if x.service, err = g.client(); err != nil {
				return err
			}
		}
		e, err := x.explain(cmd.Context(), args[0])
		if err != nil {
			return withExitCode(err)
		}
		if out.json() {
			err = printJSON(g.stdout, e, "  ")
		} else {
			g.renderExplanation(e)
		}
		if err == nil && !e.Valid {
			return &exitError{exitRefused, errors.New("")}
		}
		return err
	}
	return cmd
}

// namesServer reports whether somebody said where the service is.
func (g *globals) namesServer() bool { return g.server != "" || g.env("WAYMARK_SERVER") != "" }

// explain judges a tag as far as the configuration, a clone and a service can.
func (x *explainer) explain(ctx context.Context, name string) (*explanation, error) {
	x.e = &explanation{Tag: name, Valid: true, Steps: []explainedStep{}}
	tag, err := tagparse.Parse(name)
	if err := x.judged("name", err, "a deployment tag"); err != nil || !x.e.Valid {
		x.e.Nearest = x.cfg.Nearest(name)
		return x.e, err
	}
	x.tag, x.target = tag, release.Target{Env: tag.Env, Scope: tag.Scope, Team: tag.Team}
	x.e.Parts = &explainedParts{tag.Env, tag.Scope, tag.Team, tag.Version.String()}
	if x.keys, err = loadSigners(x.cfg); err != nil {
		return nil, err
	}
	if x.judge, err = tagPolicies(ctx, x.cfg); err != nil {
		return nil, err
	}
	for _, r := range x.cfg.Repositories {
		if len(x.cfg.Repositories) > 1 {
			x.repository = r.Name
		}
		if err := x.inRepository(ctx, r); err != nil {
			return nil, err
		}
	}
	x.environment()
	return x.e, nil
}

// windowsOf lists the windows and the configured freezes that are for a target.
func windowsOf(env config.Environment, t release.Target) []string {
	isFor := func(scopes, teams []string) bool {
		return (len(scopes) == 0 || slices.Contains(scopes, t.Scope)) && (len(teams) == 0 || slices.Contains(teams, t.Team))
	}
	out := []string{}
	for _, w := range env.Windows {
		if isFor(w.Regions, w.Teams) {
			out = append(out, w.String())
		}
	}
	for _, f := range env.Freezes {
		if isFor(f.Regions, f.Teams) {
			out = append(out, fmt.Sprintf("freeze %q from %s to %s", f.Name, f.From.Format(time.RFC3339), f.To.Format(time.RFC3339)))
		}
	}
	return out
}

// environment adds what the configuration says of the tag's environment.
func (x *explainer) environment() {
	env, ok := x.cfg.Environment(x.tag.Env)
	if !ok {
		return
	}
	x.e.Env = &explainedEnv{Approvals: env.Approvals, Approvers: append([]string{}, env.Approvers...), Expiry: env.ApprovalExpiry.String(),
		PromotesFrom: env.PromotesFrom, Downgrade: env.Downgrade, Queue: env.Queue, Windows: windowsOf(env, x.target), Outside: env.Outside}
	x.e.Policy = &explainedPolicy{x.cfg.Policy.AllowedProviders, x.cfg.Policy.AllowedModules, env.Protected,
		policies.Weakened(x.cfg.PolicySwitches(env.Name), "")}
	if !x.target.IsGlobal() && x.cfg.GlobalRegion != "" {
		x.e.Global = x.target.GlobalTwin().String()
	}
}

func explainTarget(repository, commit string, d *config.Deployment) explainedTarget {
	t := explainedTarget{Repository: repository, Target: d.Target.String(), Account: d.Account, Region: d.Region,
		Commit: commit, Roles: map[string]string{}, Path: d.Stack.Path, VarFiles: d.Stack.VarFiles,
		Variables: d.Stack.Variables, Module: d.Stack.Module,
		Backend: explainedBackend{d.BackendLocation.Kind, d.BackendLocation.Bucket, d.BackendLocation.Key, d.BackendLocation.Lock, d.Backend.Values}}
	for name, role := range map[string]string{"run": d.RunRole, "plan": d.PlanRole, "apply": d.ApplyRole} {
		if role != "" {
			t.Roles[name] = role
		}
	}
	return t
}
