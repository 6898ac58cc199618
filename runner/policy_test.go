package runner_test

import (
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/release"
)

// userRules are an operator's rules on the configuration and on the plan.
func userRules(config, plan string) []release.PolicyFile {
	return []release.PolicyFile{
		{Name: "policies/config.rego", Path: "config.rego", Text: "package config\n" + config},
		{Name: "policies/plan.rego", Path: "plan.rego", Text: "package plan\n" + plan},
	}
}

func TestOperatorsRules(t *testing.T) {
	const quiet = `deny contains "never" if input.kind == "nothing"`
	for name, c := range map[string]struct {
		spec    release.PolicySpec
		outcome release.Outcome
		reason  string
		summary string // of the policy stage, where the run passes
		needs   []release.Requirement
	}{
		"nothing to say": {release.PolicySpec{Files: userRules(quiet, quiet)}, release.OutcomePassed, "", "no findings", nil},
		"no to the code": {release.PolicySpec{Files: userRules(`deny contains {"rule": "r", "message": "m", "file": "main.tf", "line": 3}`, quiet)},
			release.OutcomeDenied, "config: policy says no: main.tf:3: m (r)", "", nil},
		"no to the plan": {release.PolicySpec{Files: userRules(quiet, `deny contains {"rule": "r", "message": c.type, "resource": c.address} if some c in input.resource_changes`)},
			release.OutcomeDenied, "policy: policy says no: terraform_data.one: terraform_data (r)", "", nil},
		"approvals": {release.PolicySpec{Files: userRules(`require_approval contains {"rule": "a", "message": "m"}`, `require_approval contains {"rule": "b", "message": "m", "count": 2, "from": ["group:dba"]}`)},
			release.OutcomePassed, "", "1 notice; needs 2 approvals from group:dba (policy b)",
			[]release.Requirement{{Count: 1, Why: "policy a", Of: release.OfPlan}, {Count: 2, From: []string{"group:dba"}, Why: "policy b", Of: release.OfPlan}}},
		"weakened": {release.PolicySpec{Files: userRules(quiet, quiet), Switches: []release.PolicySwitch{{Rule: "team-account", Level: release.PolicyWarn}}},
			release.OutcomePassed, "", "no findings; team-account only warns", nil},
		"a loop": {release.PolicySpec{Timeout: time.Second, Files: userRules(quiet, `deny contains "x" if {
	some a in numbers.range(1, 9000)
	some b in numbers.range(1, 9000)
	a * b == 0
}`)}, release.OutcomeDenied, "policy: judging the plan: data.plan.deny did not end within 1s: write the rules so that they take less time, or raise policy { timeout }", "", nil},
		"broken": {release.PolicySpec{Files: userRules("deny {", quiet)}, release.OutcomeFailed, "config: invalid policy: policies/config.rego:2: ", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "plain")
			spec := s.plan()
			spec.Policy, spec.Policy.Kind = c.spec, release.Deploy
			got, log := run(t, spec)
			wantOutcome(t, got, log, c.outcome)
			wantIn(t, got.Reason, c.reason)
			if !reflect.DeepEqual(got.Requirements, c.needs) {
				t.Errorf("requirements %+v, want %+v", got.Requirements, c.needs)
			}
			if sum := stateOf(got, release.StagePolicy).Summary; c.outcome == release.OutcomePassed && sum != c.summary {
				t.Errorf("summary %q, want %q", sum, c.summary)
			}
			if _, err := os.Stat(s.path("saved.age")); c.outcome != release.OutcomePassed && err == nil {
				t.Error("a plan that was denied is kept")
			}
		})
	}
}
