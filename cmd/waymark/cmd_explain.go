package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/tagparse"
)

// explanation is what a tag would do, as `waymark explain -o json` prints it.
type explanation struct {
	Tag     string            `json:"tag"`
	Valid   bool              `json:"valid"`
	Reason  string            `json:"reason,omitempty"`  // why it is refused
	Nearest string            `json:"nearest,omitempty"` // the nearest tag that is not
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
	PromotesFrom string   `json:"promotes_from,omitempty"`
	Downgrade    string   `json:"downgrade"`
	Queue        string   `json:"queue"`
	Windows      []string `json:"windows"` // none can be configured yet: every time is allowed
}

type explainedGate struct {
	Name   string `json:"name"`
	FailOn string `json:"fail_on"`
}

type explainedPolicy struct {
	AllowedProviders []string `json:"allowed_providers,omitempty"`
	AllowedModules   []string `json:"allowed_modules,omitempty"`
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
		Short: "Say what a tag would do, without a service and without running anything",
		Long: `Says what a tag would do. Where the configuration reads files of the repository
(var files, tfvar), they are taken from --repo: at the tag where it exists there,
else at HEAD. The signature is verified where the tag exists. A tag that would be
refused ends with exit code 4, the reason and the nearest tag that would not.`,
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
		e, err := explain(cfg, args[0], repo)
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

// explain judges a tag as far as the configuration and a clone can.
func explain(cfg *config.Config, name, repo string) (*explanation, error) {
	e := &explanation{Tag: name}
	refused := func(err error) (*explanation, error) {
		if !errors.Is(err, release.ErrRefused) && !errors.Is(err, release.ErrInvalid) {
			var bad *tagparse.Error
			if !errors.As(err, &bad) {
				return nil, err
			}
		}
		e.Valid, e.Reason, e.Nearest = false, err.Error(), cfg.Nearest(name)
		return e, nil
	}
	tag, err := tagparse.Parse(name)
	if err != nil {
		return refused(err)
	}
	files, commit, err := openClone(repo, name)
	if err != nil {
		return nil, err
	}
	e.Valid = true
	e.Parts = &explainedParts{tag.Env, tag.Scope, tag.Team, tag.Version.String()}
	target := release.Target{Env: tag.Env, Scope: tag.Scope, Team: tag.Team}
	keys, err := loadSigners(cfg)
	if err != nil {
		return nil, err
	}
	var unsigned *release.SignatureError
	e.Signature, err = explainSignature(cfg, keys, target, name, repo)
	if errors.As(err, &unsigned) {
		e.Valid, e.Reason = false, unsigned.Reason
		return e, nil
	}
	if err != nil {
		return refused(err)
	}
	for _, r := range cfg.Repositories {
		d, err := cfg.Resolve(config.ResolveInput{Repository: r.Name, Tag: tag, Commit: commit, Files: files})
		if errors.Is(err, release.ErrUnavailable) {
			return nil, usageErrorf("%w: run it in a clone of the repository, or name one with --repo", err)
		}
		if err != nil {
			return refused(err)
		}
		e.Targets = append(e.Targets, explainTarget(r.Name, commit, d))
		e.Gates = nil
		for _, gate := range d.Gates {
			e.Gates = append(e.Gates, explainedGate{gate.Name, string(gate.FailOn)})
		}
	}
	env, _ := cfg.Environment(tag.Env)
	e.Env = &explainedEnv{Approvals: env.Approvals, PromotesFrom: env.PromotesFrom, Downgrade: env.Downgrade, Queue: env.Queue, Windows: []string{}}
	e.Policy = &explainedPolicy{cfg.Policy.AllowedProviders, cfg.Policy.AllowedModules}
	if !target.IsGlobal() && cfg.GlobalRegion != "" {
		e.Global = target.GlobalTwin().String()
	}
	return e, nil
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

// openClone reads files from a clone: at the tag where it is there, else at
// HEAD. Without a clone there are no files, which is an error only for a folder
// that was named.
func openClone(dir, tag string) (files config.Files, commit string, err error) {
	open := dir
	if open == "" {
		open = "."
	}
	repo, err := plainOpen(open)
	if err != nil {
		if dir == "" {
			return nil, "", nil
		}
		return nil, "", usageErrorf("--repo %s is no git repository: %w", dir, err)
	}
	for _, rev := range []string{"refs/tags/" + tag, "HEAD"} {
		hash, err := repo.ResolveRevision(plumbing.Revision(rev))
		if err != nil {
			continue
		}
		c, err := repo.CommitObject(*hash)
		if err != nil {
			return nil, "", usageErrorf("reading %s of the clone: %w", rev, err)
		}
		tree, err := c.Tree()
		if err != nil {
			return nil, "", usageErrorf("reading %s of the clone: %w", rev, err)
		}
		return cloneFiles{tree}, hash.String(), nil
	}
	if dir == "" {
		return nil, "", nil
	}
	return nil, "", usageErrorf("--repo %s has no commit yet", dir)
}

// plainOpen opens a bare repository, or a clone at its top or from within.
func plainOpen(dir string) (*git.Repository, error) {
	repo, err := git.PlainOpen(dir)
	if err != nil {
		repo, err = git.PlainOpenWithOptions(dir, &git.PlainOpenOptions{DetectDotGit: true})
	}
	return repo, err
}

// cloneFiles reads files of one commit of a clone.
type cloneFiles struct{ tree *object.Tree }

func (f cloneFiles) ReadFile(path string) ([]byte, error) {
	file, err := f.tree.File(path)
	if errors.Is(err, object.ErrFileNotFound) {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	text, err := file.Contents()
	return []byte(text), err
}

// renderExplanation prints it for people.
func (g *globals) renderExplanation(e *explanation) {
	if !e.Valid {
		fmt.Fprintf(g.stdout, "%s would be refused\n  %s\n", clean(e.Tag), clean(e.Reason))
		if e.Nearest != "" {
			fmt.Fprintf(g.stdout, "  the nearest tag that would be admitted: %s\n", e.Nearest)
		}
		return
	}
	fmt.Fprintf(g.stdout, "%s\n", bold.on(clean(e.Tag), g.colour))
	t := table{indent: "  "}
	t.row("environment", e.Parts.Env)
	t.row("scope", e.Parts.Scope)
	t.row("team", e.Parts.Team)
	t.row("version", e.Parts.Version)
	for _, x := range e.Targets {
		if len(e.Targets) > 1 {
			t.row("in repository", x.Repository)
		}
		t.row("target", x.Target)
		t.row("account", orDash(x.Account))
		t.row("region", x.Region)
		t.row("roles", orDash(pairs(x.Roles)))
		t.row("state", strings.Join(nonEmpty(x.Backend.Kind, x.Backend.Bucket, x.Backend.Key), " "))
		t.row("lock", orDash(x.Backend.Lock))
		t.row("root module", x.Path)
		t.row("module target", orDash(x.Module))
		t.row("var files", orDash(strings.Join(x.VarFiles, ", ")))
		t.row("variables", orDash(pairs(x.Variables)))
		if x.Commit != "" {
			t.row("files read at", shortCommit(x.Commit))
		}
	}
	var gates []string
	for _, gate := range e.Gates {
		gates = append(gates, fmt.Sprintf("%s (fails on %s)", gate.Name, gate.FailOn))
	}
	t.row("gates", orDash(strings.Join(gates, ", ")))
	t.row("providers", orAny(e.Policy.AllowedProviders))
	t.row("modules", orAny(e.Policy.AllowedModules))
	t.row("signature", e.Signature.text())
	t.row("approvals", fmt.Sprint(e.Env.Approvals))
	t.row("promotes from", orDash(e.Env.PromotesFrom))
	t.row("older version", map[string]string{"allow": "allowed", "refuse": "refused"}[e.Env.Downgrade])
	t.row("queue", map[string]string{"all": "every tag runs", "supersede": "a newer tag overtakes queued ones"}[e.Env.Queue])
	t.row("windows", "any time")
	if e.Global != "" {
		t.row("waits for", e.Global+", while it has a queued or active run")
	}
	t.write(g.stdout, g.colour)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func orAny(list []string) string {
	if len(list) == 0 {
		return "any"
	}
	return strings.Join(list, ", ")
}

func nonEmpty(all ...string) []string {
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}

// pairs prints a map as "a = 1, b = 2", sorted.
func pairs[T any](m map[string]T) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		value, err := json.Marshal(m[name])
		if err != nil {
			value = []byte("?")
		}
		out = append(out, name+" = "+string(value))
	}
	return strings.Join(out, ", ")
}
