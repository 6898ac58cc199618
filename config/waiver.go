package config

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/waymark-cd/waymark/release"
)

// WaiverNotice is how long before its end a waiver is warned of.
const WaiverNotice = 14 * 24 * time.Hour

// Waiver takes findings of one rule of a gate out of the count for a while, for
// the targets that all of its selectors fit. Empty selectors fit every target.
type Waiver struct {
	release.Waiver
	Gate         string
	Targets      []string
	Environments []string
	Teams        []string

	block, expires hcl.Range
}

// WaiversFor lists the waivers of a gate that fit a target, in file order, those
// that have expired included: whoever judges findings says of those what they
// would have covered.
func (c *Config) WaiversFor(gate string, t release.Target) []release.Waiver {
	fits := func(selector []string, s string) bool { return len(selector) == 0 || slices.Contains(selector, s) }
	var out []release.Waiver
	for _, w := range c.Waivers {
		if w.Gate == gate && fits(w.Targets, t.String()) && fits(w.Environments, t.Env) && fits(w.Teams, t.Team) {
			out = append(out, w.Waiver)
		}
	}
	return out
}

// Warnings are what is not wrong, and should be seen to: approvals that people who
// log in cannot give and, as of now, waivers that have expired or soon will.
func (c *Config) Warnings(now time.Time) Problems {
	out := slices.Clone(c.notices)
	for _, w := range c.Waivers {
		switch left := w.Ends().Sub(now); {
		case left <= 0:
			out = append(out, problemAt(w.expires, fmt.Sprintf("waiver %q expired on %s and no longer counts", w.Name, w.Expires),
				"take it out, or have "+w.Owner+" renew it"))
		case left <= WaiverNotice:
			out = append(out, problemAt(w.expires, fmt.Sprintf("waiver %q ends on %s", w.Name, w.Expires),
				"fix what it covers, or have "+w.Owner+" renew it"))
		}
	}
	return out
}

func waiverBlock() block {
	return block{
		name: "waiver", label: "name", many: true, checkLabel: checkName,
		in: within(func(c *Config, name string) any {
			return added(&c.Waivers, Waiver{Waiver: release.Waiver{Name: name}})
		}),
		about: "Takes findings of one rule of a gate out of the count until a date. They stay listed, with owner, reason and date, wherever findings are. Selectors that are left out fit everything; a finding must fit all of them.",
		fields: []field{
			{name: "gate", required: true, at: of(func(w *Waiver) any { return &w.Gate }), example: `"checkov"`, meaning: "The gate whose findings these are."},
			{name: "rule", required: true, at: of(func(w *Waiver) any { return &w.Rule }), check: checkNotEmpty, example: `"CKV_AWS_20"`,
				meaning: "The rule, exactly as findings name it."},
			{name: "paths", at: of(func(w *Waiver) any { return &w.Paths }), check: checkPathPattern, unset: "everywhere", example: `["stacks/**"]`,
				meaning: "Patterns of files, from the repository's root: `*` within a folder, `**` for any folders. A finding without a file fits only where this is left out."},
			{name: "targets", at: of(func(w *Waiver) any { return &w.Targets }), check: checkTarget, unset: "all", example: `["prod_us-east-1/research"]`, meaning: "Targets."},
			{name: "environments", at: of(func(w *Waiver) any { return &w.Environments }), unset: "all", example: `["dev"]`, meaning: "Environments."},
			{name: "teams", at: of(func(w *Waiver) any { return &w.Teams }), unset: "all", example: `["research"]`, meaning: "Teams."},
			{name: "owner", required: true, at: of(func(w *Waiver) any { return &w.Owner }), check: checkNotEmpty, example: `"alice@example.org"`, meaning: "Who answers for it."},
			{name: "reason", required: true, at: of(func(w *Waiver) any { return &w.Reason }), check: checkNotEmpty, example: `"a public website, see the threat model"`, meaning: "Why the findings are acceptable."},
			{name: "expires", required: true, at: of(func(w *Waiver) any { return &w.Expires }), check: checkDay, example: `"2027-01-31"`,
				meaning: "The last day on which it counts, in UTC. Of one that has expired, or will within 14 days, `config check`, the service's log and the logs of runs speak."},
		},
		note: "Waivers are for gates alone: a rule of the policies has its own switches.",
	}
}

// checkDay judges a date.
func checkDay(s string) (summary, detail string) {
	if _, err := time.Parse(release.ExpiresLayout, s); err != nil {
		return fmt.Sprintf("is no date: %q", short(s)), `write one such as "2027-01-31"`
	}
	return "", ""
}

// checkTarget judges a target's spelling.
func checkTarget(s string) (summary, detail string) {
	if _, err := release.ParseTarget(s); err != nil {
		return fmt.Sprintf("is no target: %q", short(s)), `write a tag without its version, such as "prod_us-east-1/research"`
	}
	return "", ""
}

// checkPathPattern judges a pattern for release.MatchPath.
func checkPathPattern(s string) (summary, detail string) {
	_, err := path.Match(s, "")
	switch {
	case err != nil, s == "":
		return fmt.Sprintf("is no pattern: %q", short(s)), `write one such as "stacks/**"`
	case strings.HasPrefix(s, "/"), strings.HasPrefix(s, "./"), slices.Contains(strings.Split(s, "/"), ".."):
		return fmt.Sprintf("matches no file: %q", short(s)), `patterns begin at the repository's root, such as "stacks/**"`
	}
	for part := range strings.SplitSeq(s, "/") {
		if strings.Contains(part, "**") && part != "**" {
			return fmt.Sprintf("is no pattern: %q", short(s)), `write ** between slashes, such as "stacks/**/*.tf"`
		}
	}
	return "", ""
}

// checkWaivers finds selectors that fit nothing.
func (d *decoder) checkWaivers(cfg *Config) {
	var gates []string
	for _, g := range cfg.Gates {
		gates = append(gates, g.Name)
	}
	var environments []string
	for _, e := range cfg.Environments {
		environments = append(environments, e.Name)
	}
	for i := range cfg.Waivers {
		w := &cfg.Waivers[i]
		w.block, w.expires = d.at("waiver", w.Name), d.at("waiver", w.Name, "expires")
		named := func(attribute, noun string, names, known []string) {
			for _, name := range names {
				if !slices.Contains(known, name) && !d.broken["waiver."+w.Name+"."+attribute] {
					d.report(d.at("waiver", w.Name, attribute), fmt.Sprintf("waiver %q names %q, which is no %s", w.Name, short(name), noun), Choose(name, known))
				}
			}
		}
		named("gate", "gate of this file", []string{w.Gate}, gates)
		named("environments", "environment", w.Environments, environments)
		if !d.broken["teams"] {
			named("teams", "team", w.Teams, cfg.Teams)
		}
		for _, name := range w.Targets {
			if t, err := release.ParseTarget(name); err == nil && !cfg.hasTarget(t) && !d.broken["teams"] {
				d.report(d.at("waiver", w.Name, "targets"), fmt.Sprintf("waiver %q names the target %q, which is not configured", w.Name, name),
					"correct its environment, Region or team")
			}
		}
	}
}

// hasTarget reports whether tags may name a target.
func (c *Config) hasTarget(t release.Target) bool {
	env, ok := c.Environment(t.Env)
	known := slices.Contains(env.Regions, t.Scope) || t.IsGlobal() && c.GlobalRegion != ""
	return ok && known && slices.Contains(c.Teams, t.Team)
}
