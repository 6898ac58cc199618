package store

import (
	"context"
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

// maxPlaces is how many targets a page is put together from. Who may see more need
// not look far for the next row.
const maxPlaces = 60

// newest reads a page of runs or releases, the newest first: what the terms of w
// leave, of one target alone where it is given, and of what the scopes have. Of the few targets that somebody may see the rows
// are found by the index of each, however far apart they are.
func (s *Store) newest(ctx context.Context, table, columns string, w where, only *release.Target, scopes []Scope, limit string) (rows, error) {
	const order = " ORDER BY id DESC"
	if w.target(only); only == nil && scopes != nil && !slices.ContainsFunc(scopes, func(s Scope) bool { return len(s.Environments)+len(s.Teams) == 0 }) {
		places, err := s.targetsOf(ctx, table)
		if err != nil {
			return nil, err
		}
		places = slices.DeleteFunc(places, func(t release.Target) bool { return !InSight(scopes, t) })
		if len(places) == 0 {
			w.terms = append(w.terms, "1 = 0")
		} else if n := len(places); n <= maxPlaces {
			terms, parts := w.terms, make([]string, n)
			for i, t := range places {
				w.terms = slices.Clone(terms)
				w.target(&t)
				parts[i] = fmt.Sprintf("SELECT id FROM (SELECT id FROM %s%s%s%s) s%d", table, w.String(), order, limit, i)
			}
			return s.db.query(ctx, "SELECT "+columns+" FROM "+table+" WHERE id IN (SELECT id FROM ("+strings.Join(parts, " UNION ALL ")+") a"+order+limit+")"+order, w.args...)
		}
	}
	w.within(scopes)
	return s.db.query(ctx, "SELECT "+columns+" FROM "+table+w.String()+order+limit, w.args...)
}

// targetsOf lists the targets that rows of a table are of, by a step in its index
// for each.
func (s *Store) targetsOf(ctx context.Context, table string) ([]release.Target, error) {
	const key, order = "env, scope, team", " ORDER BY env, scope, team LIMIT 1"
	rs, err := s.db.query(ctx, fmt.Sprintf(`WITH RECURSIVE d(id) AS (SELECT (SELECT id FROM %[1]s%[3]s)
		UNION ALL SELECT (SELECT n.id FROM %[1]s n, %[1]s o WHERE o.id = d.id AND (n.env, n.scope, n.team) > (o.env, o.scope, o.team)
			ORDER BY n.env, n.scope, n.team LIMIT 1) FROM d WHERE d.id IS NOT NULL)
		SELECT %[2]s FROM %[1]s WHERE id IN (SELECT id FROM d)`, table, key, order))
	if err != nil {
		return nil, err
	}
	return collect(rs, func(r rows) (t release.Target, err error) { return t, r.Scan(&t.Env, &t.Scope, &t.Team) })
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
