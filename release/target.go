package release

import (
	"fmt"

	"github.com/waymark-cd/waymark/tagparse"
)

// Global is the scope of resources that exist once per account.
const Global = tagparse.Global

// Target is one cell: one state, one account, one Region (or global).
// Two targets never share a state.
type Target struct {
	Env   string `json:"env"`
	Scope string `json:"scope"`
	Team  string `json:"team"`
}

// ParseTarget reads a tag without its version, such as "dev_us-east-1/research".
// The error wraps ErrInvalid and names the part that is wrong.
func ParseTarget(s string) (Target, error) {
	env, scope, team, err := tagparse.ParseTarget(s)
	if err != nil {
		return Target{}, fmt.Errorf("%w target: %w", ErrInvalid, err)
	}
	return Target{Env: env, Scope: scope, Team: team}, nil
}

// String prints the target as its tags begin: <env>_<scope>/<team>.
func (t Target) String() string { return t.Env + "_" + t.Scope + "/" + t.Team }

// IsGlobal reports whether the target holds its account's global resources.
func (t Target) IsGlobal() bool { return t.Scope == Global }

// GlobalTwin is the global target of the same environment and team.
func (t Target) GlobalTwin() Target { return Target{Env: t.Env, Scope: Global, Team: t.Team} }
