package identity

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

// Role is what a grant lets people do.
type Role string

// The roles. Neither of operator and approver holds the other: who works on runs
// and who answers for them may be different people.
const (
	Viewer   Role = "viewer"   // looks, and plans without applying
	Operator Role = "operator" // is viewer, and works on runs
	Approver Role = "approver" // is viewer, and answers for plans
	Admin    Role = "admin"    // does everything
)

// Roles lists all roles, the widest last.
func Roles() []Role { return []Role{Viewer, Operator, Approver, Admin} }

// Action is what somebody asks of a target or of the whole service.
type Action string

// The actions. Those of a verdict have its names.
const (
	View     Action = "view" // targets, runs, plans, findings, logs, freezes
	Plan     Action = "plan" // a run that never applies
	Drift    Action = "drift"
	Cancel   Action = "cancel"
	Retry    Action = "retry"
	Resolve  Action = "resolve"
	Evidence Action = "evidence"
	Rollback Action = "rollback"
	Unlock   Action = "unlock"
	Freeze   Action = "freeze"
	Thaw     Action = "thaw" // a freeze of one's own
	Approve  Action = "approve"
	Reject   Action = "reject"

	Override  Action = "override"
	ThawOther Action = "thaw_other" // a freeze that somebody else has set
	Destroy   Action = "destroy"
	Drain     Action = "drain"  // of the whole service
	Tokens    Action = "tokens" // of the whole service
	Watch     Action = "watch"  // instances, metrics and details of readiness: of the whole service
	Audit     Action = "audit"  // of the whole service
)

// needs is the least role for an action, and what the action is called where it
// is denied.
func (a Action) needs() (role Role, doing string) {
	switch a {
	case View:
		return Viewer, "viewing it"
	case Watch:
		return Viewer, "watching the service"
	case Audit:
		return Viewer, "reading the audit log"
	case Plan:
		return Viewer, "planning"
	case Drift:
		return Viewer, "looking for drift"
	case Cancel:
		return Operator, "cancelling"
	case Retry:
		return Operator, "retrying"
	case Resolve:
		return Operator, "resolving"
	case Evidence:
		return Operator, "gathering evidence"
	case Rollback:
		return Operator, "rolling back"
	case Unlock:
		return Operator, "unlocking"
	case Freeze:
		return Operator, "freezing"
	case Thaw:
		return Operator, "thawing"
	case Approve:
		return Approver, "approving"
	case Reject:
		return Approver, "rejecting"
	case Override:
		return Admin, "overriding"
	case ThawOther:
		return Admin, "thawing what another has frozen"
	case Destroy:
		return Admin, "destroying"
	case Drain:
		return Admin, "draining an instance"
	case Tokens:
		return Admin, "keeping tokens"
	default: // one that this table does not know is for nobody else
		return Admin, fmt.Sprintf("the action %q", string(a))
	}
}

// allows reports whether a role is enough where needed is the least.
func (r Role) allows(needed Role) bool {
	switch r {
	case Admin:
		return true
	case Operator, Approver:
		return needed == r || needed == Viewer
	case Viewer:
		return needed == Viewer
	default:
		return false
	}
}

// Grant is a role, and where it holds. An empty list is all.
type Grant struct {
	Role         Role     `json:"role"`
	Environments []string `json:"environments,omitempty"`
	Teams        []string `json:"teams,omitempty"`
}

// covers reports whether the grant holds for a target. A target whose team, or
// environment, is empty stands for all of them, and so the zero one for the whole
// service.
func (g Grant) covers(t release.Target) bool {
	selects := func(names []string, name string) bool {
		return len(names) == 0 || name != "" && slices.Contains(names, name)
	}
	return selects(g.Environments, t.Env) && selects(g.Teams, t.Team)
}

// Kind is how a person was recognised.
type Kind string

// The kinds.
const (
	KindLocal  Kind = "local"     // by nothing: whoever reaches an open service
	KindMaster Kind = "token"     // by the service's own token
	KindToken  Kind = "api_token" // by an API token
	KindOIDC   Kind = "oidc"      // by an issuer
)

// Person is who a request comes from. The zero value is nobody, who may do
// nothing.
type Person struct {
	Name   string // as it stands in the record
	Kind   Kind
	Emails []string // addresses that are the person's, as far as is known
	Groups []string
	Grants []Grant
	// Via is the name of the API token or of the issuer; Subject is the issuer's
	// own name of the person.
	Via, Subject string
	// Decides is false for a session that reads alone, whatever the grants say.
	Decides bool
}

// Anybody is the person of an open service, who may do everything on it.
func Anybody() Person {
	return Person{Name: "local", Kind: KindLocal, Grants: []Grant{{Role: Admin}}, Decides: true}
}

// Master is the holder of the service's own token, who may do everything.
func Master() Person {
	return Person{Name: "token", Kind: KindMaster, Grants: []Grant{{Role: Admin}}, Decides: true}
}

// TokenHolder is the person of an API token with this name, as it is kept: whom
// it stands for, the groups and, in JSON, the grants. The error wraps
// release.ErrInvalid.
func TokenHolder(name, actor string, groups []string, grants []byte) (Person, error) {
	p := Person{Name: actor, Kind: KindToken, Groups: groups, Via: name, Decides: true}
	if isAddress(actor) {
		p.Emails = []string{actor}
	}
	if err := json.Unmarshal(grants, &p.Grants); err != nil {
		return Person{}, fmt.Errorf("%w grants of the token %q: %w", release.ErrInvalid, name, err)
	}
	return p, CheckName(actor)
}

// May is nil where the person may do this to the target. Otherwise the error is
// a *Denial and says which role is missing where. A target whose
// team, scope or environment is empty stands for all of them; the zero target
// for the whole service.
func (p Person) May(action Action, t release.Target) error {
	needed, doing := action.needs()
	var roles []string
	for _, g := range p.Grants {
		if !g.covers(t) || !g.Role.allows(Viewer) {
			continue
		}
		if g.Role.allows(needed) && (p.Decides || needed == Viewer) {
			return nil
		}
		if !slices.Contains(roles, string(g.Role)) {
			roles = append(roles, string(g.Role))
		}
	}
	deny := func(format string, args ...any) error {
		return &Denial{Action: action, Detail: fmt.Sprintf(format, args...)}
	}
	switch {
	case p.Name == "":
		return deny("nobody has shown who they are; %s needs the role %s for %s", doing, needed, place(t))
	case !p.Decides && len(roles) > 0 && needed != Viewer:
		return deny("this session of %s reads alone, and %s is a decision: log in as a person, or use the command line with a token", p.Name, doing)
	case len(roles) == 0:
		return deny("%s has no role for %s; %s needs the role %s there: %s", p.Name, place(t), doing, needed, p.askWhom())
	}
	return deny("%s is %s for %s; %s needs the role %s there: %s", p.Name, strings.Join(roles, " and "), place(t), doing, needed, p.askWhom())
}

// Denial is a person's lack of a role. As an error it wraps release.ErrRefused.
type Denial struct {
	Action Action
	Detail string // whose role is missing where, and whom to ask
}

// Error prints the detail.
func (d *Denial) Error() string { return release.ErrRefused.Error() + ": " + d.Detail }

// Unwrap returns release.ErrRefused.
func (d *Denial) Unwrap() error { return release.ErrRefused }

// askWhom says who can give what is missing.
func (p Person) askWhom() string {
	if p.Kind == KindToken {
		return "ask an admin for a token with it (waymark tokens create)"
	}
	return "ask whoever keeps the access blocks of the service's configuration"
}

// place names a target, or what an incomplete one stands for.
func place(t release.Target) string {
	switch {
	case t.Env == "" && t.Team == "":
		return "the whole service"
	case t.Env == "":
		return "team " + t.Team + " in every environment"
	case t.Team == "" && t.Scope == "":
		return "every target of " + t.Env
	case t.Team == "":
		return "every target of " + t.Env + "_" + t.Scope
	case t.Scope == "":
		return "the targets of " + t.Env + " and " + t.Team
	}
	return t.String()
}

// Scopes lists where the person may do something, as the grants that allow it.
// One without environments and teams is everywhere.
func (p Person) Scopes(action Action) []Grant {
	needed, _ := action.needs()
	var out []Grant
	for _, g := range p.Grants {
		if g.Role.allows(needed) && (p.Decides || needed == Viewer) {
			out = append(out, g)
		}
	}
	return out
}
