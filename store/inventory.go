package store

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

// inventoryBatch is how many resources one statement writes.
const (
	inventoryBatch  = 200
	inventoryFields = "env, scope, team, address, type, provider, mode, run_id, tag, changed_at"
)

// keepContent brings the inventory of the run's target to what its state has: what
// the run's plan changed, or was not there before, is from now on this run's; the
// rest keeps the run that it had, and what is gone goes.
func (s *Store) keepContent(ctx context.Context, t tx, r Record, now *release.StateContent) error {
	if now == nil {
		return nil
	}
	had, err := inventoryOf(ctx, t, r.Target)
	if err != nil {
		return err
	}
	changed, err := planned(ctx, t, r.ID)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	var write []release.Resource
	for _, x := range now.Resources {
		if there[x.Address] {
			continue // an address is one resource; a state that says otherwise is taken at its first word
		}
		there[x.Address] = true
		if old, known := had[x.Address]; !known || old != x || changed[x.Address] {
			write = append(write, x)
		}
	}
	var gone []string
	for address := range had {
		if !there[address] && (!now.Cut || changed[address]) {
			gone = append(gone, address)
		}
	}
	slices.Sort(gone)
	if err := removeResources(ctx, t, r.Target, gone); err != nil {
		return err
	}
	return writeResources(ctx, t, r, write, millis(s.now()))
}

func inventoryOf(ctx context.Context, t tx, target release.Target) (map[string]release.Resource, error) {
	rs, err := t.query(ctx, "SELECT address, type, provider, mode FROM inventory WHERE env = $1 AND scope = $2 AND team = $3",
		target.Env, target.Scope, target.Team)
	if err != nil {
		return nil, fmt.Errorf("reading the inventory of %s: %w", target, err)
	}
	all, err := collect(rs, func(r rows) (x release.Resource, err error) {
		return x, r.Scan(&x.Address, &x.Type, &x.Provider, &x.Mode)
	})
	out := make(map[string]release.Resource, len(all))
	for _, x := range all {
		out[x.Address] = x
	}
	return out, err
}

// planned names what the run's plan changes.
func planned(ctx context.Context, t tx, id int64) (map[string]bool, error) {
	var text string
	err := t.row(ctx, "SELECT plan FROM run_details WHERE run_id = $1", id).Scan(&text)
	if noRows(err) || err == nil && text == "" {
		return nil, nil
	}
	var plan release.PlanSummary
	if err == nil {
		err = json.Unmarshal([]byte(text), &plan)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the plan of run %d: %w", id, err)
	}
	out := map[string]bool{}
	for _, x := range plan.Resources {
		out[x.Address] = x.Action != "read"
	}
	return out, nil
}

func removeResources(ctx context.Context, t tx, target release.Target, gone []string) error {
	for part := range slices.Chunk(gone, inventoryBatch) {
		var w where
		w.target(&target)
		w.terms = append(w.terms, "address IN ("+w.list(part)+")")
		if _, err := t.exec(ctx, "DELETE FROM inventory"+w.String(), w.args...); err != nil {
			return fmt.Errorf("removing from the inventory of %s: %w", target, err)
		}
	}
	return nil
}

func writeResources(ctx context.Context, t tx, r Record, all []release.Resource, at int64) error {
	for part := range slices.Chunk(all, inventoryBatch) {
		var args []any
		var values []string
		for _, x := range part {
			n := len(args)
			args = append(args, r.Target.Env, r.Target.Scope, r.Target.Team, x.Address, x.Type, x.Provider, x.Mode, r.ID, r.Tag, at)
			places := make([]string, 0, len(args)-n)
			for i := n + 1; i <= len(args); i++ {
				places = append(places, fmt.Sprintf("$%d", i))
			}
			values = append(values, "("+strings.Join(places, ", ")+")")
		}
		_, err := t.exec(ctx, "INSERT INTO inventory ("+inventoryFields+") VALUES "+strings.Join(values, ", ")+
			` ON CONFLICT (env, scope, team, address) DO UPDATE SET type = excluded.type, provider = excluded.provider,
			mode = excluded.mode, run_id = excluded.run_id, tag = excluded.tag, changed_at = excluded.changed_at`, args...)
		if err != nil {
			return fmt.Errorf("writing the inventory of %s: %w", r.Target, err)
		}
	}
	return nil
}

// InventoryFilter narrows the inventory; a zero field does not narrow.
type InventoryFilter struct {
	Target    *release.Target
	Within    []Scope // nil: everywhere
	Env, Team string
	Type      string
	Provider  string // or how it ends, such as aws
	Text      string // that the address holds, in any case
	Limit     int    // 0: 50; at most 500
	Cursor    string
}

// Inventory lists resources by target and address, and the cursor of the next page.
func (s *Store) Inventory(ctx context.Context, f InventoryFilter) ([]release.InventoryItem, string, error) {
	var w where
	w.target(f.Target)
	w.within(f.Within)
	for _, c := range []struct{ term, value string }{{"env =", f.Env}, {"team =", f.Team}, {"type =", f.Type}} {
		if c.value != "" {
			w.and(c.term, c.value)
		}
	}
	if err := w.afterResource(f.Cursor); err != nil {
		return nil, "", err
	}
	limit, err := w.page("", f.Limit)
	if err != nil {
		return nil, "", err
	}
	rs, err := s.resources(ctx, w, f, limit)
	if err != nil {
		return nil, "", fmt.Errorf("reading the inventory: %w", err)
	}
	all, err := collect(rs, scanItem)
	if err != nil || len(all) <= w.limit {
		return all, "", err
	}
	last := all[w.limit-1]
	cursor, err := json.Marshal([]string{last.Target.Env, last.Target.Scope, last.Target.Team, last.Address})
	return all[:w.limit], base64.RawURLEncoding.EncodeToString(cursor), err
}

// maxAlike is how many values of a column are looked for one by one.
const maxAlike = 50

// resources reads a page of what a filter leaves beside the terms of w. Few providers
// have a name that ends as somebody types it, and few addresses hold a text, for the
// code of many targets is the same: they are picked out among the different ones, so
// that an index leads to their resources. Where they are many, the next is not far.
func (s *Store) resources(ctx context.Context, w where, f InventoryFilter, limit string) (rows, error) {
	by, places := "", []string{""} // the column whose index leads to them, and its values
	for _, c := range []struct {
		column, asked string
		fits          func(string) bool
	}{
		{"provider", f.Provider, func(p string) bool { return p == f.Provider || strings.HasSuffix(p, "/"+f.Provider) }},
		{"address", f.Text, func(a string) bool { return holds([]byte(a), f.Text) }},
	} {
		if c.asked == "" {
			continue
		}
		if f.Target == nil { // one target has few
			some, all, err := s.different(ctx, "inventory", c.column, "", nil)
			if err != nil {
				return nil, err
			}
			switch some = slices.DeleteFunc(some, func(v string) bool { return !c.fits(v) }); {
			case all && len(some) == 0:
				w.terms = append(w.terms, "1 = 0")
				continue
			case all && len(some) <= maxAlike && by == "":
				by, places = c.column, some
				continue
			case all:
				condition, list := s.db.amid(c.column, len(w.args)+1, some)
				w.terms, w.args = append(w.terms, condition), append(w.args, list)
				continue
			}
		}
		w.resembles(c.column, c.asked)
	}
	const key, order = "env, scope, team, address", " ORDER BY env, scope, team, address"
	terms, parts := w.terms, make([]string, len(places))
	for i, value := range places {
		if w.terms = slices.Clone(terms); by != "" {
			w.and(by+" =", value)
		}
		parts[i] = fmt.Sprintf("SELECT "+key+" FROM (SELECT "+key+" FROM inventory%s%s%s) s%d", w.String(), order, limit, i)
	}
	if len(parts) == 1 {
		return s.db.query(ctx, "SELECT "+inventoryFields+" FROM inventory"+w.String()+order+limit, w.args...)
	}
	return s.db.query(ctx, "SELECT "+inventoryFields+" FROM inventory WHERE ("+key+") IN (SELECT "+key+" FROM ("+
		strings.Join(parts, " UNION ALL ")+") a"+order+limit+")"+order, w.args...)
}

// resembles leaves only rows of a provider, whole or by its last part, or whose
// address holds a text.
func (w *where) resembles(column, asked string) {
	if column == "provider" {
		w.args = append(w.args, asked, "%/"+likeText(asked))
		w.terms = append(w.terms, fmt.Sprintf(`(provider = $%d OR provider LIKE $%d ESCAPE '\')`, len(w.args)-1, len(w.args)))
		return
	}
	w.args = append(w.args, "%"+likeText(strings.ToLower(asked))+"%")
	w.terms = append(w.terms, fmt.Sprintf(`lower(address) LIKE $%d ESCAPE '\'`, len(w.args)))
}

// afterResource leaves out what comes before the cursor's resource, and that.
func (w *where) afterResource(cursor string) error {
	if cursor == "" {
		return nil
	}
	data, err := base64.RawURLEncoding.DecodeString(cursor)
	var place []string
	if err == nil {
		err = json.Unmarshal(data, &place)
	}
	if err == nil && len(place) != 4 {
		err = errors.New("it names no resource")
	}
	if err != nil {
		return fmt.Errorf("%w cursor %q: pass the value of \"next\" as it was returned", release.ErrInvalid, cursor)
	}
	w.terms = append(w.terms, "(env, scope, team, address) > ("+w.list(place)+")")
	return nil
}

func scanItem(r rows) (x release.InventoryItem, err error) {
	var at int64
	err = r.Scan(&x.Target.Env, &x.Target.Scope, &x.Target.Team, &x.Address, &x.Type, &x.Provider, &x.Mode, &x.RunID, &x.Tag, &at)
	x.ChangedAt = fromMillis(at)
	return x, err
}

// likeText makes a text stand for itself in LIKE.
func likeText(s string) string {
	return strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`).Replace(s)
}
