package config

import (
	"fmt"
	"slices"

	"github.com/waymark-cd/waymark/release"
)

// Words is a list of strings that may be written as one string.
type Words []string

// What promotion_scopes may say besides names.
const (
	SameScope = "same"
	AllScopes = "all"
)

// ProvenIn lists the targets of the named environment in which a commit must have
// succeeded before it may go to t. With any, one of them is enough. It is empty
// where the environment promotes from none.
func (c *Config) ProvenIn(t release.Target) (targets []release.Target, any bool) {
	env, _ := c.Environment(t.Env)
	source, ok := c.Environment(env.PromotesFrom)
	if !ok {
		return nil, false
	}
	in := func(scopes ...string) (out []release.Target) {
		for _, s := range scopes {
			out = append(out, release.Target{Env: source.Name, Scope: s, Team: t.Team})
		}
		return out
	}
	switch {
	case slices.Contains(env.PromotionScopes, AllScopes):
		return in(source.Regions...), false
	case !slices.Contains(env.PromotionScopes, SameScope) && len(env.PromotionScopes) > 0:
		return in(env.PromotionScopes...), false
	case t.IsGlobal() || slices.Contains(source.Regions, t.Scope):
		return in(t.Scope), false
	}
	scopes := slices.Clone(source.Regions)
	if c.GlobalRegion != "" {
		scopes = append(scopes, release.Global)
	}
	return in(scopes...), true
}

// DestroyRequirements are the approvals that the removal of a target needs.
func (e Environment) DestroyRequirements() []release.Requirement {
	if e.DestroyApprovals == 0 {
		return nil
	}
	return []release.Requirement{{Count: e.DestroyApprovals, From: e.Approvers, Why: "environment " + e.Name + ", destroy", Of: release.OfEnvironment}}
}

func promotionFields() []field {
	return []field{
		{name: "promotes_from", at: of(func(e *Environment) any { return &e.PromotesFrom }), unset: "none", example: `"staging"`,
			meaning: "Environment in which a commit must have succeeded, for the same team, before it is deployed here. See [Order](order.md#promotion)."},
		{name: "promotion_scopes", at: of(func(e *Environment) any { return &e.PromotionScopes }), check: checkPromotionScope, unset: "`\"same\"`",
			example: `["us-east-1", "eu-central-1"]`,
			meaning: "Where in that environment: `\"same\"` is the tag's own scope, or any where that environment does not have it; `\"all\"` is every Region of it; otherwise these scopes, each of them."},
		{name: "soak", at: of(func(e *Environment) any { return &e.Soak }), fallback: `"0s"`, example: `"24h"`,
			meaning: "How long ago that success must be, at least. What becomes of a tag that comes earlier is said by `outside`."},
	}
}

func orderFields() []field {
	return []field{
		{name: "outside", at: of(func(e *Environment) any { return &e.Outside }), fallback: `"wait"`,
			oneOf: []string{"wait", "refuse"}, example: `"refuse"`,
			meaning: "What becomes of a run outside of the windows, in a freeze or before the soak is over. `wait`: it waits until it may go on. `refuse`: the tag is refused, and a run that has not begun to apply is denied."},
		{name: "destroy", at: of(func(e *Environment) any { return &e.Destroy }), fallback: `"refuse"`,
			oneOf: []string{"refuse", "allow"}, example: `"allow"`,
			meaning: "Whether `waymark destroy` may remove what is deployed."},
		{name: "destroy_approvals", at: of(func(e *Environment) any { return &e.DestroyApprovals }), unset: "as `approvals`, at least 1", max: 20,
			example: "2", meaning: "How many people must approve the plan of a removal. `approvers` holds for them too."},
		{name: "speculative", at: of(func(e *Environment) any { return &e.Speculative }), fallback: `"branch"`,
			oneOf: []string{"branch", "any", "off"}, example: `"any"`,
			meaning: "What `waymark plan --ref` may plan, which runs the code of that commit with the plan role. `branch`: commits on the repository's `branch`. `any`: also the newest commit of any other branch. `off`: nothing; tags can be planned all the same."},
	}
}

// checkPromotionScope judges one word of promotion_scopes.
func checkPromotionScope(s string) (summary, detail string) {
	if s == SameScope || s == AllScopes || isScope(s) {
		return "", ""
	}
	return fmt.Sprintf("cannot be %q", short(s)), `write "same", "all", or scopes such as ["us-east-1"]`
}

// checkOrder finds settings of promotion and of removals that contradict each
// other, and fills in how many approvals a removal needs.
func (d *decoder) checkOrder(cfg *Config) {
	for i := range cfg.Environments {
		e := &cfg.Environments[i]
		if !d.has("environment", e.Name, "destroy_approvals") {
			e.DestroyApprovals = max(1, e.Approvals)
		}
		for _, name := range []string{"promotion_scopes", "soak"} {
			if e.PromotesFrom == "" && d.has("environment", e.Name, name) && d.intact("environment."+e.Name+".promotes_from") {
				d.report(d.at("environment", e.Name, name), fmt.Sprintf("environment %q has %s and promotes from nowhere", e.Name, name),
					`write promotes_from = "staging", or take it out`)
			}
		}
		d.checkPromotionScopes(cfg, e)
	}
}

func (d *decoder) checkPromotionScopes(cfg *Config, e *Environment) {
	source, ok := cfg.Environment(e.PromotesFrom)
	path := "environment." + e.Name + ".promotion_scopes"
	if !ok || !d.intact(path, "environment."+source.Name+".regions", "global_region") {
		return
	}
	at := d.at("environment", e.Name, "promotion_scopes")
	if d.has(path) && len(e.PromotionScopes) == 0 {
		d.report(at, path+" is empty", `write "same", "all", or scopes such as ["us-east-1"]`)
	}
	known := slices.Clone(source.Regions)
	if cfg.GlobalRegion != "" {
		known = append(known, release.Global)
	}
	for _, s := range e.PromotionScopes {
		word := s == SameScope || s == AllScopes
		switch {
		case word && len(e.PromotionScopes) > 1:
			d.report(at, fmt.Sprintf("%s has %q beside other words", path, s), fmt.Sprintf("write %q alone, or scopes alone", s))
		case word && s == AllScopes && len(source.Regions) == 0:
			d.report(at, fmt.Sprintf("%s is \"all\", and environment %q has no Regions", path, source.Name), "nothing would have to succeed: name scopes")
		case !word && !slices.Contains(known, s):
			d.report(at, fmt.Sprintf("%s names %q, which environment %q does not have", path, short(s), source.Name), Choose(s, known))
		}
	}
}
