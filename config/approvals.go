package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

// Requirements are the approvals that the environment itself asks for; none
// where it asks for none.
func (e Environment) Requirements() []release.Requirement {
	if e.Approvals == 0 {
		return nil
	}
	return []release.Requirement{{Count: e.Approvals, From: e.Approvers, Why: "environment " + e.Name, Of: release.OfEnvironment}}
}

// RequirementsFor are the approvals that the environment asks for of a run.
func (e Environment) RequirementsFor(kind release.Kind) []release.Requirement {
	if kind == release.Destroy {
		return e.DestroyRequirements()
	}
	return e.Requirements()
}

// mostApprovals is how many people may have to approve a plan of any kind.
func (e Environment) mostApprovals() int {
	if e.Destroy == "allow" {
		return max(e.Approvals, e.DestroyApprovals, 1)
	}
	return e.Approvals
}

// TellsPeople reports whether the service knows one person from another: otherwise
// whoever reaches it, or has its token, counts as one.
func (c *Config) TellsPeople() bool { return len(c.Access) > 0 || len(c.OIDC) > 0 }

func approvalFields() []field {
	return []field{
		{name: "approvals", at: of(func(e *Environment) any { return &e.Approvals }), fallback: "0", max: 20,
			example: "1", meaning: "How many people must approve a plan before it is applied. More than one needs people whom the service can tell apart."},
		{name: "approvers", at: of(func(e *Environment) any { return &e.Approvers }), check: checkApprover,
			unset:   "everyone who may approve runs of the target",
			example: `["group:release", "alice@example.org"]`,
			meaning: "Who these people may be: users as the service names them, and `group:NAME` for the members of a group. The tagger, the author and the committer of the commit and whoever signed the tag never count."},
		{name: "approval_expiry", at: of(func(e *Environment) any { return &e.ApprovalExpiry }), fallback: `"72h"`,
			example: `"8h"`, meaning: "How long after it was made a plan can be approved and applied; then its run ends as rejected. `\"0s\"` for no limit."},
	}
}

// checkApprover judges a user or a group.
func checkApprover(s string) (summary, detail string) {
	name, isGroup := strings.CutPrefix(s, release.GroupPrefix)
	switch {
	case name == "" || name != strings.TrimSpace(name) || strings.ContainsAny(name, "\r\n\t\x00"):
		return fmt.Sprintf("cannot be %q", short(s)), `write a user such as "alice@example.org", or "group:release" for a group`
	case !isGroup && strings.ContainsAny(name, " ,"):
		return fmt.Sprintf("cannot be %q", short(s)), "write one user or group per string"
	}
	return "", ""
}

// checkApprovals finds approvals that nobody asks for, and those that can never be given.
func (d *decoder) checkApprovals(cfg *Config) {
	for _, e := range cfg.Environments {
		if len(e.Approvers) == 0 || d.broken["environment."+e.Name+".approvals"] || d.broken["environment."+e.Name+".approvers"] {
			continue
		}
		at := d.at("environment", e.Name, "approvers")
		most := e.mostApprovals()
		if most == 0 {
			d.report(at, fmt.Sprintf("environment %q has approvers and needs no approvals", e.Name), "write approvals = 1, or take approvers out")
			continue
		}
		people := map[string]bool{}
		for _, who := range e.Approvers {
			people[strings.ToLower(who)] = true
		}
		isGroup := func(s string) bool { return strings.HasPrefix(s, release.GroupPrefix) }
		if !slices.ContainsFunc(e.Approvers, isGroup) && len(people) < most {
			d.report(at, fmt.Sprintf("environment %q needs %d approvals and has approvers for %d", e.Name, most, len(people)),
				"name more people or a group, or lower approvals")
		}
	}
}

// noticeApprovers keeps what is no error, and leaves approvals that may never be
// given: names that nobody has who logs in, and environments where nobody may
// approve. API tokens may be made for any name, so it stays a warning.
func (d *decoder) noticeApprovers(cfg *Config) {
	if !cfg.TellsPeople() {
		return // that is refused where the service starts
	}
	for _, e := range cfg.Environments {
		d.noticeNames(cfg, e.Approvers, "environment", e.Name, "approvers")
		if e.mostApprovals() > 0 && !slices.ContainsFunc(cfg.Access, func(a Access) bool { return a.approvesIn(e.Name) }) {
			at := d.at("environment", e.Name, "approvals")
			cfg.notices = append(cfg.notices, problemAt(at, fmt.Sprintf("environment %q needs approvals, and no access block gives the role approver or admin there", e.Name),
				"only whoever has an API token with such a role can approve: write an access block, or leave it so"))
		}
	}
	for _, r := range cfg.Policy.Rules {
		d.noticeNames(cfg, r.Approvers, "policy", "rule", r.ID, "approvers")
	}
}

// noticeNames keeps what is to be said of each of the approvers at a place.
func (d *decoder) noticeNames(cfg *Config, approvers []string, place ...string) {
	for _, who := range approvers {
		name, isGroup := strings.CutPrefix(who, release.GroupPrefix)
		summary, next := "", ""
		switch {
		case !isGroup && slices.Contains([]string{"local", "token", "waymark"}, strings.ToLower(name)):
			summary, next = "is nobody whose approval counts where people log in", "name people or groups"
		case len(cfg.OIDC) > 1 && !slices.ContainsFunc(cfg.OIDC, func(o OIDC) bool { return strings.HasPrefix(name, cfg.OIDCPrefix(o.Name)) }):
			summary = "is nobody who logs in: there are several oidc blocks, and names begin with that of theirs"
			next = fmt.Sprintf("write it so, such as %q; as it is, only an API token can be of it", strings.TrimSuffix(who, name)+cfg.OIDCPrefix(cfg.OIDC[0].Name)+name)
		default:
			continue
		}
		cfg.notices = append(cfg.notices, problemAt(d.at(place...), fmt.Sprintf("approver %q %s", short(who), summary), next))
	}
}

// approvesIn reports whether the block lets people approve in an environment.
func (a Access) approvesIn(env string) bool {
	return (a.Role == "approver" || a.Role == "admin") && (len(a.Environments) == 0 || slices.Contains(a.Environments, env))
}
