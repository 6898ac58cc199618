package store

import (
	"fmt"
	"slices"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

// Scope is where somebody may look: every target whose environment and team are
// among those named. An empty list is all.
type Scope struct {
	Environments []string
	Teams        []string
}

// Everywhere is the scope of whoever may look at everything.
func Everywhere() []Scope { return []Scope{{}} }

// InSight reports whether one of the scopes has the target.
func InSight(scopes []Scope, t release.Target) bool {
	return slices.ContainsFunc(scopes, func(s Scope) bool {
		return (len(s.Environments) == 0 || slices.Contains(s.Environments, t.Env)) && (len(s.Teams) == 0 || slices.Contains(s.Teams, t.Team))
	})
}

// within leaves rows out that no scope has. nil is everywhere; none is nowhere.
func (w *where) within(scopes []Scope) {
	if scopes == nil {
		return
	}
	var some []string
	for _, s := range scopes {
		var all []string
		if len(s.Environments) > 0 {
			all = append(all, "env IN ("+w.list(s.Environments)+")")
		}
		if len(s.Teams) > 0 {
			all = append(all, "team IN ("+w.list(s.Teams)+")")
		}
		if len(all) == 0 {
			return
		}
		some = append(some, "("+strings.Join(all, " AND ")+")")
	}
	if len(some) == 0 {
		some = []string{"1 = 0"}
	}
	w.terms = append(w.terms, "("+strings.Join(some, " OR ")+")")
}

// list adds arguments and gives their places.
func (w *where) list(values []string) string {
	places := make([]string, len(values))
	for i, v := range values {
		w.args = append(w.args, v)
		places[i] = fmt.Sprintf("$%d", len(w.args))
	}
	return strings.Join(places, ", ")
}
