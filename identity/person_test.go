package identity_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/release"
)

func target(t *testing.T, s string) release.Target {
	t.Helper()
	parsed, err := release.ParseTarget(s)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestWhoMayDoWhat(t *testing.T) {
	all := map[identity.Role]string{
		identity.Viewer:   "view plan drift watch audit",
		identity.Operator: "view plan drift watch audit cancel retry resolve evidence rollback unlock freeze thaw",
		identity.Approver: "view plan drift watch audit approve reject",
		identity.Admin: "view plan drift watch audit cancel retry resolve evidence rollback unlock freeze thaw approve reject " +
			"override thaw_other destroy drain tokens an-action-of-tomorrow",
		"wizard": "",
	}
	for role, may := range all {
		p := identity.Person{Name: "alice", Grants: []identity.Grant{{Role: role}}, Decides: true}
		for _, action := range strings.Fields(all[identity.Admin]) {
			err := p.May(identity.Action(action), target(t, "prod_us-east-1/research"))
			if want := strings.Contains(" "+may+" ", " "+action+" "); want != (err == nil) {
				t.Errorf("%s and %s: %v", role, action, err)
			}
			if err != nil && !errors.Is(err, release.ErrRefused) {
				t.Errorf("%s and %s: %v is no refusal", role, action, err)
			}
		}
	}
	for _, a := range []string{"approve", "reject", "cancel", "retry", "resolve", "override"} { // as verdicts are called
		if err := identity.Master().May(identity.Action(a), release.Target{}); err != nil {
			t.Error(err)
		}
	}
}

func TestGrantsHoldWhereTheySay(t *testing.T) {
	p := identity.Person{Name: "alice", Decides: true, Grants: []identity.Grant{
		{Role: identity.Approver, Environments: []string{"prod"}, Teams: []string{"research"}},
		{Role: identity.Operator, Environments: []string{"dev"}},
		{Role: identity.Viewer, Teams: []string{"risk"}},
	}}
	prod := release.Target{Env: "prod"}
	for _, c := range []struct {
		action identity.Action
		at     release.Target
		may    bool
	}{
		{identity.Approve, target(t, "prod_us-east-1/research"), true},
		{identity.Approve, target(t, "prod_global/research"), true},
		{identity.Approve, target(t, "prod_us-east-1/risk"), false},
		{identity.Approve, target(t, "dev_us-east-1/research"), false},
		{identity.Cancel, target(t, "dev_us-east-1/risk"), true},
		{identity.Cancel, target(t, "prod_us-east-1/research"), false},
		{identity.View, target(t, "prod_us-east-1/risk"), true},
		{identity.View, target(t, "staging_us-east-1/research"), false},
		{identity.Freeze, release.Target{Env: "dev"}, true},
		{identity.Freeze, release.Target{Env: "dev", Scope: "us-east-1"}, true},
		{identity.View, prod, false}, // all teams of it
		{identity.View, release.Target{Team: "risk"}, true},
		{identity.View, release.Target{}, false},
		{identity.Watch, release.Target{}, false},
	} {
		if err := p.May(c.action, c.at); (err == nil) != c.may {
			t.Errorf("%s at %q: %v", c.action, c.at, err)
		}
	}
	if got := len(p.Scopes(identity.View)); got != 3 {
		t.Errorf("views in %d scopes", got)
	}
	if got := p.Scopes(identity.Approve); len(got) != 1 || got[0].Teams[0] != "research" {
		t.Errorf("approves in %+v", got)
	}
}

func TestDenialsSayWhatIsMissing(t *testing.T) {
	viewer := identity.Person{Name: "alice@example.org", Kind: identity.KindOIDC, Decides: true, Grants: []identity.Grant{{Role: identity.Viewer, Environments: []string{"prod"}}}}
	token := identity.Person{Name: "ci", Kind: identity.KindToken, Decides: true, Grants: []identity.Grant{{Role: identity.Operator}}}
	session := identity.Master()
	session.Decides = false
	at := target(t, "prod_us-east-1/research")
	for _, c := range []struct {
		who    identity.Person
		action identity.Action
		at     release.Target
		says   string
	}{
		{viewer, identity.Approve, at, "refused: alice@example.org is viewer for prod_us-east-1/research; approving needs the role approver there: ask whoever keeps the access blocks of the service's configuration"},
		{viewer, identity.View, target(t, "dev_us-east-1/research"), "alice@example.org has no role for dev_us-east-1/research; viewing it needs the role viewer there"},
		{viewer, identity.Freeze, release.Target{Env: "prod"}, "is viewer for every target of prod; freezing needs the role operator"},
		{viewer, identity.Tokens, release.Target{}, "has no role for the whole service; keeping tokens needs the role admin there"},
		{token, identity.Approve, at, "ask an admin for a token with it (waymark tokens create)"},
		{session, identity.Approve, at, "this session of token reads alone"},
		{identity.Person{}, identity.View, at, "nobody has shown who they are"},
	} {
		err := c.who.May(c.action, c.at)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("got %v, want %q", err, c.says)
		}
	}
	if err := session.May(identity.View, at); err != nil {
		t.Error(err)
	}
	if got := session.Scopes(identity.Approve); got != nil {
		t.Errorf("a session that reads approves in %+v", got)
	}
}
