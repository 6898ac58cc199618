package release

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Approval is one person's yes, bound to the digest of the plan it was given for.
type Approval struct {
	Actor      string    `json:"actor"`
	Emails     []string  `json:"emails,omitempty"` // of the actor, likewise
	Groups     []string  `json:"groups,omitempty"` // of the actor, as of then
	PlanDigest string    `json:"plan_digest"`
	At         time.Time `json:"at"`
}

// Requirement is how many people, and which, must approve a plan. A run may have
// several, each of which must be met; one approval counts for all that it fits.
type Requirement struct {
	Count int `json:"count"` // at least 1
	// From names users and, as "group:NAME", groups whose members count; empty:
	// everyone who may approve runs of the target.
	From []string `json:"from,omitempty"`
	Why  string   `json:"why"` // who asks for it, such as "environment prod" or a policy's rule
	// Of says to what the requirement belongs; empty: to the tag, so that every run
	// of the release has it.
	Of RequirementOf `json:"of,omitempty"`
}

// RequirementOf is what a requirement vanishes with.
type RequirementOf string

// What requirements belong to, tags apart.
const (
	OfEnvironment RequirementOf = "environment" // the configuration at the time when the run was queued
	OfPlan        RequirementOf = "plan"        // the plan, and the code as it was then judged
)

// Again returns the requirements of another run for the release of a run that had
// old: those of the tag, and fresh ones of the environment.
func Again(old, fresh []Requirement) []Requirement {
	tags := slices.DeleteFunc(slices.Clone(old), func(q Requirement) bool { return q.Of != "" })
	return append(slices.Clone(fresh), tags...)
}

// Unplanned leaves out the requirements that vanish with the plan.
func Unplanned(all []Requirement) []Requirement {
	return slices.DeleteFunc(slices.Clone(all), func(q Requirement) bool { return q.Of == OfPlan })
}

// MostRequired is the largest count among n and the requirements: how many
// approvals a plan needs at least.
func MostRequired(n int, all []Requirement) int {
	for _, q := range all {
		n = max(n, q.Count)
	}
	return n
}

// String prints a requirement for people.
func (q Requirement) String() string {
	text := "1 approval"
	if q.Count != 1 {
		text = fmt.Sprintf("%d approvals", q.Count)
	}
	if len(q.From) > 0 {
		text += " from " + strings.Join(q.From, " or ")
	}
	if q.Why != "" {
		text += " (" + q.Why + ")"
	}
	return text
}

// GroupPrefix marks a group in Requirement.From.
const GroupPrefix = "group:"

// Accepts reports whether an approval by this person counts.
func (q Requirement) Accepts(actor string, groups []string) bool {
	if len(q.From) == 0 || slices.Contains(q.From, actor) {
		return true
	}
	return slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(q.From, GroupPrefix+g) })
}

// Open lists what the run's plan still needs: each requirement that is not met, with
// the number of approvals that it lacks.
func (r *Run) Open() []Requirement {
	all := r.Requirements
	if len(all) == 0 && r.ApprovalsRequired > 0 { // from before there were requirements
		all = []Requirement{{Count: r.ApprovalsRequired}}
	}
	var open []Requirement
	for _, q := range all {
		if q.Count = q.Missing(r.Approvals, r.PlanDigest); q.Count > 0 {
			open = append(open, q)
		}
	}
	return open
}

// ForgetPlan takes away what vanishes with a plan: its digest, its approvals, and
// what was asked for because of it.
func (r *Run) ForgetPlan() {
	r.PlanDigest, r.Approvals, r.ApproveBy = "", nil, time.Time{}
	if len(r.Requirements) > 0 {
		r.Requirements = Unplanned(r.Requirements)
		r.ApprovalsRequired = MostRequired(0, r.Requirements)
	}
}

// Missing is how many approvals of the plan with this digest a requirement lacks.
func (q Requirement) Missing(approvals []Approval, digest string) int {
	missing := q.Count
	for _, a := range approvals {
		if a.PlanDigest == digest && q.Accepts(a.Actor, a.Groups) {
			missing--
		}
	}
	return max(0, missing)
}
