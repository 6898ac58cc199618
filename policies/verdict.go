package policies

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

// Bounds on what the rules may say.
const (
	maxFindings  = 1000 // listed; a denial is never cut
	maxApprovals = 20
	maxRuleID    = 100
)

// checkSwitches refuses switches of rules that do not exist, and those that
// would weaken what is fixed. Its error wraps release.ErrInvalid.
func checkSwitches(switches []release.PolicySwitch) error {
	for _, s := range switches {
		rule, ok := bundledRule(s.Rule)
		switch {
		case !ok:
			return fmt.Errorf("%w policy rule %.80q: there is none of that name", release.ErrInvalid, s.Rule)
		case !slices.Contains([]release.PolicyLevel{release.PolicyOff, release.PolicyWarn, release.PolicyApproval, release.PolicyDeny}, s.Level):
			return fmt.Errorf("%w policy rule %s: the level %.80q: write off, warn, approval or deny", release.ErrInvalid, s.Rule, s.Level)
		case rule.Fixed && s.Level.Below(rule.Level):
			return fmt.Errorf("%w policy rule %s: it cannot be weakened", release.ErrInvalid, s.Rule)
		}
	}
	return nil
}

func bundledRule(id string) (release.PolicyRule, bool) {
	all := release.PolicyRules()
	i := slices.IndexFunc(all, func(r release.PolicyRule) bool { return r.ID == id })
	if i < 0 {
		return release.PolicyRule{}, false
	}
	return all[i], true
}

// Weakened says which of the bundled rules of a decision point ask for less than
// they do without a switch, for people; empty where none does.
func (e *Engine) Weakened(point string) string { return Weakened(e.spec.Switches, point) }

// Weakened says which bundled rules of a decision point, or of all where point is
// empty, switches weaken, for people; empty where they weaken none.
func Weakened(switches []release.PolicySwitch, point string) string {
	var parts []string
	for _, rule := range release.PolicyRules() {
		if point != "" && !slices.Contains(rule.Points, point) {
			continue
		}
		for _, s := range switches {
			if s.Rule != rule.ID || !s.Level.Below(rule.Level) {
				continue
			}
			switch s.Level {
			case release.PolicyOff:
				parts = append(parts, rule.ID+" is switched off")
			case release.PolicyWarn:
				parts = append(parts, rule.ID+" only warns")
			default:
				parts = append(parts, rule.ID+" only asks for approval")
			}
		}
	}
	return strings.Join(parts, ", ")
}

// verdict gathers what the rules of one decision point say.
type verdict struct {
	point string
	out   release.PolicyVerdict
}

// addBundled adds the bundled rules' findings at their levels. A rule that is not
// in the list denies.
func (v *verdict) addBundled(found []bundledFinding, switches []release.PolicySwitch) {
	for _, f := range found {
		setting := release.PolicySwitch{Rule: f.Rule, Level: release.PolicyDeny}
		if rule, ok := bundledRule(f.Rule); ok {
			setting.Level = rule.Level
		}
		if i := slices.IndexFunc(switches, func(s release.PolicySwitch) bool { return s.Rule == f.Rule }); i >= 0 {
			setting = switches[i]
		}
		v.add(release.Finding{Rule: f.Rule, Message: f.Message, Resource: f.Resource, File: f.File, Line: f.Line}, setting)
	}
}

// add adds a finding, with its requirement where people have to approve.
func (v *verdict) add(f release.Finding, setting release.PolicySwitch) {
	f.Source = source
	switch setting.Level {
	case release.PolicyOff:
		return
	case release.PolicyNotice:
		f.Severity = release.SeverityNotice
	case release.PolicyWarn:
		f.Severity = release.SeverityWarning
	case release.PolicyApproval:
		f.Severity = release.SeverityNotice
		q := release.Requirement{Count: cmp.Or(setting.Approvals, 1), From: setting.Approvers, Why: "policy " + f.Rule}
		if v.point != release.PointTag {
			q.Of = release.OfPlan
		}
		asks := q
		asks.Why = ""
		f.Message += "; it needs " + asks.String()
		if !slices.ContainsFunc(v.out.Requirements, func(r release.Requirement) bool { return reflect.DeepEqual(r, q) }) {
			v.out.Requirements = append(v.out.Requirements, q)
		}
	default:
		f.Severity = release.SeverityError
	}
	f.Message, f.Resource = oneLine(f.Message), oneLine(f.Resource) // in JSON a name may be any text
	v.out.Findings = append(v.out.Findings, f)
}

// addUsers adds what users' rules say. An answer of another form is an error.
func (v *verdict) addUsers(said answer) error {
	for _, set := range []struct {
		name  string
		level release.PolicyLevel
		found []userFinding
	}{{"deny", release.PolicyDeny, said.Deny}, {"warn", release.PolicyWarn, said.Warn}, {"require_approval", release.PolicyApproval, said.RequireApproval}} {
		for _, f := range set.found {
			name := "data." + v.point + "." + set.name
			if err := f.check(set.level); err != nil {
				return denial("%s: %s", name, err)
			}
			v.add(release.Finding{Rule: oneLine(cmp.Or(f.Rule, v.point+"."+set.name)), Message: f.Message, Resource: f.Resource,
				File: oneLine(f.File), Line: f.Line, Link: oneLine(f.Link)},
				release.PolicySwitch{Level: set.level, Approvals: f.Count, Approvers: f.From})
		}
	}
	return nil
}

// check refuses what a user's rule must not say.
func (f userFinding) check(level release.PolicyLevel) error {
	switch {
	case strings.TrimSpace(f.Message) == "":
		return fmt.Errorf(`a result has no message: write {"rule": "my-rule", "message": "what is wrong, what to do next"}`)
	case len(f.Rule) > maxRuleID:
		return fmt.Errorf("the rule id %.40q is longer than %d bytes", f.Rule, maxRuleID)
	case level != release.PolicyApproval && (f.Count != 0 || f.From != nil):
		return fmt.Errorf("the result %.40q has count or from, which are for require_approval", cmp.Or(f.Rule, f.Message))
	case f.Count < 0 || f.Count > maxApprovals:
		return fmt.Errorf("the result %.40q needs %d approvals: write a count from 1 to %d", cmp.Or(f.Rule, f.Message), f.Count, maxApprovals)
	case slices.Contains(f.From, ""):
		return fmt.Errorf("the result %.40q has an empty name in from", cmp.Or(f.Rule, f.Message))
	case f.Line < 0:
		return fmt.Errorf("the result %.40q has the line %d", cmp.Or(f.Rule, f.Message), f.Line)
	}
	return nil
}

// done gives the verdict in order, cut where it is too long: the mildest go.
func (v *verdict) done() release.PolicyVerdict {
	release.SortFindings(v.out.Findings)
	if n := len(v.out.Findings); n > maxFindings {
		cut := v.out.Findings[maxFindings-1]
		v.out.Findings = append(v.out.Findings[:maxFindings-1], release.Finding{Source: source, Rule: cut.Rule, Severity: cut.Severity,
			Message: fmt.Sprintf("and %d more findings", n-maxFindings+1)})
	}
	return v.out
}
