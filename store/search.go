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
	apart     = 16   // times as long as one of the next takes to read an entry at a place of an index
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
	in, rest, err := s.seeks(ctx, f)
	if err != nil {
		return nil, 0, fmt.Errorf("searching the audit log: %w", err)
	}
	from = f.Before
	cost, most := 1, f.Limit
	if len(in.keys) > 0 {
		cost = apart
	}
	if rest.any() {
		most = maxLooked / max(8, cost)
	}
	for looked := 0; looked < maxLooked && from > 0 && len(found) < f.Limit; {
		entries, read, end, err := s.nextEntries(ctx, in, from, most, rest)
		if err != nil {
			return nil, 0, fmt.Errorf("searching the audit log: %w", err)
		}
		looked += read * cost
		if from = end; len(found)+len(entries) > f.Limit {
			entries = entries[:f.Limit-len(found)]
			from = entries[len(entries)-1].Index
		}
		found = append(found, entries...)
	}
	return found, from, nil
}

// seeks are places of an index, which begins with some expressions: the entries for
// which these have the values of a place are in the order of their index in the log.
// Without expressions there is one place, the whole log.
type seeks struct {
	keys   []string
	places [][]any
}

func wholeLog() seeks { return seeks{places: [][]any{nil}} }

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
func (s *Store) seeks(ctx context.Context, f EntryFilter) (seeks, remains, error) {
	rest := remains{target: f.Target, action: f.Action, actor: f.Actor, text: f.Text}
	switch {
	case f.Run != 0:
		return seeks{[]string{"run_id"}, [][]any{{f.Run}}}, rest, nil
	case f.Target != "":
		at := seeks{[]string{"target"}, [][]any{{f.Target}}}
		if rest.target = ""; f.Action == "" {
			return at, rest, nil
		}
		rest.action = ""
		in, err := s.byAction(ctx, at, f.Action)
		return in, rest, err
	case f.Actor != "":
		actors, all, err := s.names(ctx, s.db.leafActor(), wholeLog(), func(name string) bool { return holds([]byte(name), f.Actor) })
		if err != nil || !all || len(actors) > maxActors {
			return wholeLog(), rest, err // they are many: the next entry of one of them is not far
		}
		at := seeks{keys: []string{s.db.leafActor()}}
		for _, actor := range actors {
			at.places = append(at.places, []any{actor})
		}
		rest = remains{text: rest.text}
		if f.Action == "" {
			return at, rest, nil
		}
		in, err := s.byAction(ctx, at, f.Action)
		return in, rest, err
	case f.Action != "":
		rest.action = ""
		in, err := s.byAction(ctx, wholeLog(), f.Action)
		return in, rest, err
	}
	return wholeLog(), rest, nil
}

// byAction divides places of an index by the actions, by which it is ordered next,
// that a pattern matches.
func (s *Store) byAction(ctx context.Context, at seeks, pattern string) (seeks, error) {
	action := s.db.leafAction()
	in := seeks{keys: append(slices.Clone(at.keys), action)}
	for _, place := range at.places {
		names := []string{pattern}
		if strings.HasSuffix(pattern, "*") {
			var err error
			if names, _, err = s.names(ctx, action, seeks{at.keys, [][]any{place}}, func(name string) bool { return matchesAction(pattern, name) }); err != nil {
				return in, err
			}
		}
		for _, name := range names {
			in.places = append(in.places, append(slices.Clone(place), name))
		}
	}
	return in, nil
}

// names lists the different values of an indexed expression at a place of the
// index that are to be kept; all says that there are no others.
func (s *Store) names(ctx context.Context, expression string, at seeks, keep func(string) bool) (out []string, all bool, err error) {
	var w where
	names, all, err := s.different(ctx, "audit_entries", expression, w.fill(at.keys, at.places[0]), w.args)
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
func (w *where) fill(keys []string, place []any) string {
	terms := make([]string, len(keys))
	for i, value := range place {
		w.args = append(w.args, value)
		terms[i] = fmt.Sprintf("%s = $%d", keys[i], len(w.args))
	}
	return strings.Join(terms, " AND ")
}

// nextEntries reads the next entries below an index at some places, and gives those
// that fit, how many it has read, and the index down to which it has looked.
func (s *Store) nextEntries(ctx context.Context, in seeks, before int64, most int, rest remains) (found []audit.Entry, read int, end int64, err error) {
	indexes, end, err := s.nextIndexes(ctx, in, before, most)
	if err != nil || len(indexes) == 0 {
		return nil, 0, 0, err
	}
	var w where
	if last := indexes[len(indexes)-1]; before-int64(len(indexes)) == last { // without a gap
		w.and("idx >=", last)
		w.and("idx <", before)
	} else {
		condition, list := s.db.oneOf("idx", 1, indexes)
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
		return nil, 0, 0, err
	}
	defer rs.Close()
	for rs.Next() {
		var index int64
		var leaf string
		if err := rs.Scan(&index, &leaf); err != nil {
			return nil, 0, 0, err
		}
		if !rest.any() || rest.fits([]byte(leaf)) {
			found = append(found, readLeaf(index, leaf))
		}
	}
	return found, len(indexes), end, rs.Err()
}

// nextIndexes lists the next entries below an index at some places, at most so many,
// and gives the index down to which that is all of them; 0 where there are no others.
// Each place is asked for more than its share, and what the one that is asked for too
// little would have had next is left for the next time.
func (s *Store) nextIndexes(ctx context.Context, in seeks, before int64, most int) (out []int64, end int64, err error) {
	if len(in.places) == 0 {
		return nil, 0, nil
	}
	each := min(most, 4+4*most/len(in.places))
	query, args := s.db.newestAt(in.keys, in.places, each)
	if len(in.keys) == 0 {
		query, args = fmt.Sprintf("SELECT 0, idx FROM audit_entries WHERE idx < $1 ORDER BY idx DESC LIMIT %d", each), nil
	}
	rs, err := s.db.query(ctx, query, append([]any{before}, args...)...)
	if err != nil {
		return nil, 0, err
	}
	had := make([]int, len(in.places))
	out, err = collect(rs, func(r rows) (index int64, err error) {
		var place int
		if err = r.Scan(&place, &index); err == nil {
			if had[place]++; had[place] == each {
				end = max(end, index)
			}
		}
		return index, err
	})
	for len(out) > 0 && out[len(out)-1] < end {
		out = out[:len(out)-1]
	}
	if len(out) > most {
		out = out[:most]
		end = out[most-1]
	}
	return out, end, err
}

// isPlain reports whether a text is there, and stands in a leaf as it is typed: of
// other letters the databases do not know the cases, and JSON writes some in another way.
func isPlain(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > unicode.MaxASCII || strings.ContainsRune(`"\<>&`, r) })
}
