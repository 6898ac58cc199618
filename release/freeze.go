package release

import (
	"fmt"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/tagparse"
)

// Freeze stops every change to some targets until a time.
type Freeze struct {
	ID int64
	// Where are the targets: an empty scope or team stands for all of the
	// environment's.
	Where     Target
	Until     time.Time
	Reason    string
	CreatedBy string
	CreatedAt time.Time
	LiftedBy  string // empty while it was not lifted
	LiftedAt  time.Time
}

// Covers reports whether the freeze is for a target.
func (f Freeze) Covers(t Target) bool {
	return f.Where.Env == t.Env && (f.Where.Scope == "" || f.Where.Scope == t.Scope) && (f.Where.Team == "" || f.Where.Team == t.Team)
}

// InForce reports whether the freeze stops changes at a time.
func (f Freeze) InForce(at time.Time) bool {
	return f.LiftedAt.IsZero() && at.Before(f.Until)
}

// ParsePlace reads an environment, with or without a scope and a team: "prod",
// "prod_us-east-1", "prod/research", "prod_us-east-1/research". What is left out
// is empty, and stands for all. The error wraps ErrInvalid.
func ParsePlace(s string) (Target, error) {
	head, team, hasTeam := strings.Cut(s, "/")
	env, scope, hasScope := strings.Cut(head, "_")
	whole := Target{Env: env, Scope: scope, Team: team}
	if !hasScope {
		whole.Scope = Global
	}
	if !hasTeam {
		whole.Team = "team"
	}
	if _, _, _, err := tagparse.ParseTarget(whole.String()); err != nil {
		return Target{}, fmt.Errorf("%w place %.100q: write an environment, with or without a scope and a team: prod, prod_us-east-1, prod/research or prod_us-east-1/research",
			ErrInvalid, s)
	}
	return Target{Env: env, Scope: scope, Team: team}, nil
}

// Place prints a target whose scope or team may be empty as ParsePlace reads it.
func (t Target) Place() string {
	s := t.Env
	if t.Scope != "" {
		s += "_" + t.Scope
	}
	if t.Team != "" {
		s += "/" + t.Team
	}
	return s
}
