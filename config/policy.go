package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/waymark-cd/waymark/release"
)

// Policy is what is judged by rules: bundled ones with their settings and
// switches, and the operator's own.
type Policy struct {
	AllowedProviders []string     // patterns; empty: all
	AllowedModules   []string     // patterns; empty: all
	Rules            []RuleSwitch // in file order
	DataBearingTypes []string     // beyond the bundled list; "*" stands for any letters
	MaxDestroys      int
	RequiredTags     []string
	Accounts         []string // that resources may be in beside the target's
	Folders          []string // absolute
	// Files are the rules and data of the folders, as they were read with the
	// configuration. Whether they make sense is for package policies to say.
	Files   []release.PolicyFile
	Timeout time.Duration // of one evaluation of the files' rules
	Memory  int           // MiB, likewise

	folders hcl.Range
}

// RuleSwitch sets the level of one bundled rule.
type RuleSwitch struct {
	ID           string
	Level        release.PolicyLevel
	Environments []string // empty: all
	Approvals    int
	Approvers    []string
}

// PolicyFor is what the rules are told of a run for a target in an account.
func (c *Config) PolicyFor(t release.Target, account string, kind release.Kind) release.PolicySpec {
	p := c.Policy
	env, _ := c.Environment(t.Env)
	most := p.MaxDestroys
	return release.PolicySpec{AllowedProviders: p.AllowedProviders, AllowedModules: p.AllowedModules,
		Switches: c.PolicySwitches(t.Env), DataBearingTypes: p.DataBearingTypes, MaxDestroys: &most, RequiredTags: p.RequiredTags,
		Accounts: p.Accounts, Target: t, Account: account, Protected: env.Protected, Backend: c.Backend.Type, Kind: kind,
		Files: p.Files, Timeout: p.Timeout, Memory: int64(p.Memory) << 20}
}

// PolicySwitches are the switches of bundled rules that hold in an environment.
func (c *Config) PolicySwitches(env string) []release.PolicySwitch {
	var out []release.PolicySwitch
	for _, r := range c.Policy.Rules {
		if len(r.Environments) == 0 || slices.Contains(r.Environments, env) {
			out = append(out, release.PolicySwitch{Rule: r.ID, Level: r.Level, Approvals: r.Approvals, Approvers: r.Approvers})
		}
	}
	return out
}

// ProblemAt makes a problem of what is wrong with a file of the folders, at the
// attribute that names them.
func (p Policy) ProblemAt(summary string) Problem { return problemAt(p.folders, "policy", summary) }

// protectionFields are what environments say to the bundled rules.
func protectionFields() []field {
	return []field{
		{name: "protected", at: of(func(e *Environment) any { return &e.Protected }), fallback: "false", example: "true",
			meaning: "Whether the code may start no programs here: no `external` data source, no `local-exec` or `remote-exec`. See [Policies](policies.md)."},
	}
}

func policyBlock() block {
	return block{
		name: "policy",
		in:   within(func(c *Config, _ string) any { return &c.Policy }),
		about: "Rules on tags, on the code before anything of it is executed, and on plans: bundled ones, which are on by default, and your own. " +
			"A repository can neither switch them nor see their settings. See [Policies](policies.md).",
		fields: []field{
			{name: "allowed_providers", at: of(func(p *Policy) any { return &p.AllowedProviders }), check: checkPattern, unset: "all",
				example: `["hashicorp/*"]`, meaning: "Patterns of provider sources."},
			{name: "allowed_modules", at: of(func(p *Policy) any { return &p.AllowedModules }), check: checkPattern, unset: "all",
				example: `["terraform-aws-modules/*/aws"]`, meaning: "Patterns of module sources. Paths inside the repository are always allowed."},
			{name: "data_bearing_types", at: of(func(p *Policy) any { return &p.DataBearingTypes }), check: checkTypePattern, unset: "the bundled list alone",
				example: `["aws_workspaces_*"]`, meaning: "Types of resources whose destruction or replacement needs approval, beyond those of the bundled list. `*` stands for any letters."},
			{name: "max_destroys", at: of(func(p *Policy) any { return &p.MaxDestroys }), fallback: fmt.Sprint(release.DefaultMaxDestroys), max: 1000000,
				example: "10", meaning: "How many resources one plan may destroy, replaced ones included. Runs that are there to destroy are exempt."},
			{name: "required_tags", at: of(func(p *Policy) any { return &p.RequiredTags }), check: checkTagKey, unset: "none",
				example: `["owner", "cost-center"]`, meaning: "Tags that every resource which can have tags must have when it is created or changed."},
			{name: "accounts", at: of(func(p *Policy) any { return &p.Accounts }), check: checkAccount, unset: "the target's alone",
				example: `["999900001111"]`, meaning: "Accounts in which a plan's resources and providers may be, beside the target's own."},
			{name: "folders", at: of(func(p *Policy) any { return &p.Folders }), file: true, unset: "none",
				example: `["policies"]`, meaning: "Folders with rules of your own in Rego and their data in JSON or YAML, read when the service starts. What is broken in them stops it."},
			{name: "timeout", at: of(func(p *Policy) any { return &p.Timeout }), fallback: `"30s"`, least: 100 * time.Millisecond,
				example: `"1m"`, meaning: "The longest that the rules of the folders may take for one decision. Then the answer is no."},
			{name: "memory", at: of(func(p *Policy) any { return &p.Memory }), fallback: "1024", min: 64, max: 1 << 20,
				example: "4096", meaning: "The most memory that they may take, in MiB. Then the answer is no."},
		},
		blocks: []block{ruleBlock()},
	}
}

func ruleBlock() block {
	var ids []string
	for _, r := range release.PolicyRules() {
		ids = append(ids, r.ID)
	}
	return block{
		name: "rule", label: "id", labels: ids, many: true,
		in: within(func(p *Policy, id string) any {
			return added(&p.Rules, RuleSwitch{ID: id})
		}),
		about: "Sets what comes of it that a bundled rule finds something. Each rule that is weakened is named in the summary of every run's stage, and by `waymark config check`.",
		fields: []field{
			{name: "level", required: true, at: of(func(r *RuleSwitch) any { return &r.Level }),
				oneOf:   []string{string(release.PolicyOff), string(release.PolicyWarn), string(release.PolicyApproval), string(release.PolicyDeny)},
				example: `"warn"`, meaning: "`off`: nothing. `warn`: it is listed. `approval`: people have to approve the plan. `deny`: the run ends."},
			{name: "environments", at: of(func(r *RuleSwitch) any { return &r.Environments }), check: checkName, unset: "all environments",
				example: `["dev"]`, meaning: "Where the switch holds. Elsewhere the rule is as bundled."},
			{name: "approvals", at: of(func(r *RuleSwitch) any { return &r.Approvals }), unset: "1", max: 20,
				example: "2", meaning: "For `approval`: how many people have to approve."},
			{name: "approvers", at: of(func(r *RuleSwitch) any { return &r.Approvers }), check: checkApprover,
				unset: "everyone who may approve runs of the target", example: `["group:storage"]`, meaning: "For `approval`: who they may be, as in `approvers` of an environment."},
		},
	}
}

// checkTypePattern judges a pattern of resource types.
func checkTypePattern(s string) (summary, detail string) {
	if s == "" || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_-*") != "" || strings.Trim(s, "*") == "" {
		return fmt.Sprintf("is no type of resources: %q", short(s)), `write one such as "aws_s3_bucket", with "*" for any letters`
	}
	return "", ""
}

// checkTagKey judges the key of a tag.
func checkTagKey(s string) (summary, detail string) {
	if s == "" || len(s) > 128 || s != strings.TrimSpace(s) {
		return fmt.Sprintf("is no tag: %q", short(s)), `write a tag's key such as "owner"`
	}
	return "", ""
}

// checkPolicy finds switches that name no environment, ask for what their level
// does not do, or weaken what cannot be weakened.
func (d *decoder) checkPolicy(cfg *Config) {
	cfg.Policy.folders = d.at("policy", "folders")
	var names []string
	for _, e := range cfg.Environments {
		names = append(names, e.Name)
	}
	rules := release.PolicyRules()
	for _, r := range cfg.Policy.Rules {
		for _, env := range r.Environments {
			if !slices.Contains(names, env) {
				d.report(d.at("policy", "rule", r.ID, "environments"), fmt.Sprintf("rule %q names %q, which is no environment", r.ID, short(env)), Choose(env, names))
			}
		}
		for _, name := range []string{"approvals", "approvers"} {
			if r.Level != release.PolicyApproval && d.has("policy", "rule", r.ID, name) && !d.broken["policy.rule."+r.ID+".level"] {
				d.report(d.at("policy", "rule", r.ID, name), fmt.Sprintf("%s of rule %q does nothing at the level %q", name, r.ID, r.Level), `write level = "approval", or take it out`)
			}
		}
		i := slices.IndexFunc(rules, func(known release.PolicyRule) bool { return known.ID == r.ID })
		if i >= 0 && rules[i].Fixed && r.Level != "" && r.Level.Below(rules[i].Level) {
			d.report(d.at("policy", "rule", r.ID, "level"), fmt.Sprintf("rule %q cannot be weakened", r.ID), "other parts of Waymark refuse the same; take the block out")
		}
	}
}
