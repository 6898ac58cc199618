package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/waymark-cd/waymark/audit"
)

// EntryFilter selects entries of the audit log; zero fields select all.
type EntryFilter struct {
	Target string
	Run    int64
	Action string // with an asterisk at its end: whatever begins so
	Actor  string // or a part of it, in any case
	Text   string // that the leaf holds, in any case
	Before int64  // only entries with a lower index
	Limit  int    // 50 by default, 1,000 at most
}

const (
	maxLooked = 4000 // entries that one search reads at most
	maxNames  = 3000 // values of a column that are told apart
	maxActors = 16   // actors that are looked for one by one
	maxSeeks  = 400  // places of an index that one statement begins at; SQLite joins 500
)

// Search returns the newest entries that a filter selects, newest first, and the
// index down to which it has looked: 0 where there are no others. What no index
// helps to find it looks for among a bounded number of entries, and the caller
// goes on from there.
func (s *Store) Search(ctx context.Context, f EntryFilter) (found []audit.Entry, from int64, err error) {
	if f.Limit <= 0 {
		f.Limit = 50
	}
	f.Limit = min(f.Limit, maxEntries)
	seeks, rest, err := s.seeks(ctx, f)
	if err != nil {
		return nil, 0, fmt.Errorf("searching the audit log: %w", err)
	}
	from = f.Before
	for looked := 0; looked < maxLooked && from > 0 && len(found) < f.Limit; {
		most := f.Limit
		if rest.any() {
			most = maxLooked / 8
		}
		entries, end, err := s.nextEntries(ctx, seeks, from, most, rest)
		if err != nil {
			return nil, 0, fmt.Errorf("searching the audit log: %w", err)
		}
		if looked += most; len(seeks) > 0 && len(seeks[0].keys) > 0 {
			looked = maxLooked // they lie apart from each other: so many are enough
		}
		if from = end; len(found)+len(entries) > f.Limit {
			entries = entries[:f.Limit-len(found)]
			from = entries[len(entries)-1].Index
		}
		found = append(found, entries...)
	}
	return found, from, nil
}

// seek is a place of an index, which begins with some expressions: the entries for
// which these have some values are in the order of their index in the log. One
// without expressions is the whole log.
type seek struct {
	keys []string
	args []any
}

// remains is what no index has looked for.
type remains struct {
	target, action, actor, text string
}

func (r remains) any() bool { return r != remains{} }

// fits reports whether a leaf is one that is looked for. Most are not: they are not
// decoded.
func (r remains) fits(leaf []byte) bool {
	if r.text != "" && !holds(leaf, r.text) {
		return false
	}
	if r.target == "" && r.action == "" && r.actor == "" {
		return true
	}
	var e struct{ Target, Action, Actor string }
	if json.Unmarshal(leaf, &e) != nil {
		return false
	}
	return (r.target == "" || e.Target == r.target) && matchesAction(r.action, e.Action) && holds([]byte(e.Actor), r.actor)
}

// matchesAction compares an action with one that may end in an asterisk.
func matchesAction(pattern, action string) bool {
	if begin, open := strings.CutSuffix(pattern, "*"); open {
		return strings.HasPrefix(action, begin)
	}
	return pattern == "" || pattern == action
}

// holds reports whether a text holds a part of it, in any case.
func holds(text []byte, part string) bool {
	return bytes.Contains(bytes.ToLower(text), []byte(strings.ToLower(part)))
}

// seeks finds the places of the indexes that have what a filter selects, and what
// is left to be looked for there.
func (s *Store) seeks(ctx context.Context, f EntryFilter) ([]seek, remains, error) {
	rest := remains{target: f.Target, action: f.Action, actor: f.Actor, text: f.Text}
	action := s.db.leafAction()
	switch {
	case f.Run != 0:
		return []seek{{[]string{"run_id"}, []any{f.Run}}}, rest, nil
	case f.Target != "":
		if rest.target = ""; f.Action == "" {
			return []seek{{[]string{"target"}, []any{f.Target}}}, rest, nil
		}
		return s.byAction(ctx, seek{[]string{"target"}, []any{f.Target}}, rest)
	case f.Actor != "":
		actors, all, err := s.names(ctx, s.db.leafActor(), seek{}, func(name string) bool { return holds([]byte(name), f.Actor) })
		if err != nil || !all || len(actors) > maxActors {
			return []seek{{}}, rest, err // they are many: the next entry of one of them is not far
		}
		var out []seek
		for _, actor := range actors {
			some, _, err := s.byAction(ctx, seek{[]string{s.db.leafActor()}, []any{actor}}, remains{action: f.Action})
			if out = append(out, some...); err != nil || len(out) > maxSeeks {
				return []seek{{}}, rest, err
			}
		}
		return out, remains{text: rest.text}, nil
	case f.Action != "":
		rest.action = ""
		if !strings.HasSuffix(f.Action, "*") {
			return []seek{{[]string{action}, []any{f.Action}}}, rest, nil
		}
		return s.byAction(ctx, seek{}, remains{action: f.Action, text: rest.text})
	}
	return []seek{{}}, rest, nil
}

// byAction divides a place of an index by actions, by which it is ordered next.
func (s *Store) byAction(ctx context.Context, at seek, rest remains) ([]seek, remains, error) {
	action := s.db.leafAction()
	names := []string{rest.action}
	if rest.action == "" || strings.HasSuffix(rest.action, "*") {
		var err error
		if names, _, err = s.names(ctx, action, at, func(name string) bool { return matchesAction(rest.action, name) }); err != nil {
			return nil, rest, err
		}
	}
	if len(names) > maxSeeks {
		return []seek{at}, rest, nil
	}
	rest.action = ""
	var out []seek
	for _, name := range names {
		out = append(out, seek{append(slices.Clone(at.keys), action), append(slices.Clone(at.args), name)})
	}
	return out, rest, nil
}

// names lists the different values of an indexed expression at a place of the
// index that are to be kept; all says that there are no others.
func (s *Store) names(ctx context.Context, expression string, at seek, keep func(string) bool) (out []string, all bool, err error) {
	var w where
	names, all, err := s.different(ctx, "audit_entries", expression, w.fill(at), w.args)
	return slices.DeleteFunc(names, func(name string) bool { return !keep(s.db.unquoted(name)) }), all, err
}

// different lists the different values of an expression, but for an empty one, by
// its index: with a step for each value, and not for each row. all says that there
// are no others.
func (s *Store) different(ctx context.Context, table, expression, condition string, args []any) (out []string, all bool, err error) {
	if condition != "" {
		condition += " AND "
	}
	step := func(after string) string {
		return "(SELECT " + expression + " FROM " + table + " WHERE " + condition + expression + " > " + after + " ORDER BY " + expression + " LIMIT 1)"
	}
	rs, err := s.db.query(ctx, "WITH RECURSIVE d(v) AS (SELECT "+step("''")+" UNION ALL SELECT "+step("d.v")+
		" FROM d WHERE d.v IS NOT NULL) SELECT v FROM d WHERE v IS NOT NULL"+fmt.Sprintf(" LIMIT %d", maxNames+1), args...)
	if err != nil {
		return nil, false, err
	}
	out, err = collect(rs, func(r rows) (value string, err error) { return value, r.Scan(&value) })
	return out, len(out) <= maxNames, err
}

// fill puts a place's values among the arguments of a statement, and gives its
// condition.
func (w *where) fill(at seek) string {
	terms := make([]string, len(at.keys))
	for i, value := range at.args {
		w.args = append(w.args, value)
		terms[i] = fmt.Sprintf("%s = $%d", at.keys[i], len(w.args))
	}
	return strings.Join(terms, " AND ")
}

// nextEntries reads the next entries below an index at some places, and gives those
// that fit, and the index down to which it has looked.
func (s *Store) nextEntries(ctx context.Context, seeks []seek, before int64, most int, rest remains) (found []audit.Entry, end int64, err error) {
	places, err := s.nextIndexes(ctx, seeks, before, most)
	if err != nil || len(places) == 0 {
		return nil, 0, err
	}
	var w where
	if last := places[len(places)-1]; before-int64(len(places)) == last { // without a gap
		w.and("idx >=", last)
		w.and("idx <", before)
	} else {
		condition, list := s.db.oneOf("idx", 1, places)
		w.terms, w.args = []string{condition}, []any{list}
	}
	for _, part := range []string{rest.text, rest.actor} {
		if isPlain(part) {
			w.and(s.db.anyCase("leaf")+` LIKE`, "%"+likeText(strings.ToLower(part))+"%")
			w.terms[len(w.terms)-1] += ` ESCAPE '\'`
		}
	}
	if isPlain(rest.text) {
		rest.text = ""
	}
	rs, err := s.db.query(ctx, "SELECT idx, leaf FROM audit_entries"+w.String()+" ORDER BY idx DESC", w.args...)
	if err != nil {
		return nil, 0, err
	}
	defer rs.Close()
	for rs.Next() {
		var index int64
		var leaf string
		if err := rs.Scan(&index, &leaf); err != nil {
			return nil, 0, err
		}
		if !rest.any() || rest.fits([]byte(leaf)) {
			found = append(found, readLeaf(index, leaf))
		}
	}
	if len(places) == most { // otherwise there are no others
		end = places[most-1]
	}
	return found, end, rs.Err()
}

// nextIndexes lists the next entries below an index at some places.
func (s *Store) nextIndexes(ctx context.Context, seeks []seek, before int64, most int) ([]int64, error) {
	if len(seeks) == 0 {
		return nil, nil
	}
	w := where{args: []any{before}}
	parts := make([]string, len(seeks))
	for i, at := range seeks {
		condition, order := s.db.below(at.keys, len(w.args)+1)
		w.args = append(w.args, at.args...)
		parts[i] = fmt.Sprintf("SELECT idx FROM (SELECT idx FROM audit_entries WHERE %s ORDER BY %s LIMIT %d) s%d", condition, order, most, i)
	}
	rs, err := s.db.query(ctx, fmt.Sprintf("%s ORDER BY idx DESC LIMIT %d", strings.Join(parts, " UNION ALL "), most), w.args...)
	if err != nil {
		return nil, err
	}
	return collect(rs, func(r rows) (index int64, err error) { return index, r.Scan(&index) })
}

// isPlain reports whether a text is there, and stands in a leaf as it is typed: of
// other letters the databases do not know the cases, and JSON writes some in another way.
func isPlain(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > unicode.MaxASCII || strings.ContainsRune(`"\<>&`, r) })
}
