package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/store"
)

// fitsFilter is what a search means, without an index.
func fitsFilter(f store.EntryFilter, e audit.Entry) bool {
	action := f.Action == "" || e.Action == f.Action
	if begin, ok := strings.CutSuffix(f.Action, "*"); ok {
		action = strings.HasPrefix(e.Action, begin)
	}
	holds := func(text, part string) bool { return strings.Contains(strings.ToLower(text), strings.ToLower(part)) }
	return action && (f.Target == "" || e.Target == f.Target) && (f.Run == 0 || e.RunID == f.Run) &&
		holds(e.Actor, f.Actor) && holds(string(e.Leaf), f.Text) && e.Index < f.Before
}

// TestSearchFindsWhatALookAtEveryEntryFinds turns every page of many searches.
func TestSearchFindsWhatALookAtEveryEntryFinds(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, url string) {
		actors := []string{"waymark", "ann@example.org", `Bob "the \ rock" <b@example.org>`, "Ängström", `"action":"run.fake"`, "anna@example.org"}
		for i := range 24 {
			actors = append(actors, fmt.Sprintf("person-%d", i))
		}
		names := []string{"run.queued", "run.started", "run.failed", "freeze.set", "freeze.lifted", "token.created"}
		targets := []string{"", "dev_us-east-1/risk", "dev_global/risk", "prod_us-east-1/research"}
		for i := range 300 {
			e := audit.Entry{Actor: actors[i*i%len(actors)], Action: names[i*7%len(names)], Target: targets[i*i*i%len(targets)], RunID: int64(i % 40),
				Reason: fmt.Sprintf("Reason %d", i), Details: map[string]any{"action": "run.nested", "actor": "somebody else"}}
			if err := s.Log(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		all := entries(t, s)
		slices.Reverse(all)
		for _, f := range []store.EntryFilter{{}, {Target: "dev_us-east-1/risk"}, {Target: "nowhere"}, {Run: 7}, {Run: 7, Action: "run.*"}, {Run: 4000},
			{Action: "run.failed"}, {Action: "run.*"}, {Action: "*"}, {Action: "freeze.*", Target: "dev_global/risk"}, {Action: "run.nested"}, {Action: "run.fake"},
			{Action: "freeze"}, {Actor: "ANN"}, {Actor: `"the \ rock"`}, {Actor: "ÄNG"}, {Actor: "person"}, {Actor: "person-2", Action: "run.*"}, {Actor: "nobody"},
			{Actor: `"action":"run.fake"`, Action: "run.started"}, {Actor: "waymark", Target: "dev_us-east-1/risk"}, {Actor: "somebody else"},
			{Text: "REASON 29"}, {Text: "nowhere"}, {Text: "reason 1", Action: "run.queued", Actor: "person"}, {Text: "reason 1", Target: "prod_us-east-1/research"}} {
			f.Before = int64(len(all)) - 3
			var want []int64
			for _, e := range all {
				if fitsFilter(f, e) {
					want = append(want, e.Index)
				}
			}
			name := fmt.Sprintf("%+v", f)
			var got []int64
			for f.Limit = 7; f.Before > 0; {
				found, from, err := s.Search(t.Context(), f)
				if err != nil || from >= f.Before || len(found) > f.Limit {
					t.Fatalf("%s: %d entries, down to %d, %v", name, len(found), from, err)
				}
				for _, e := range found {
					got = append(got, e.Index)
				}
				f.Before = from
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: found %v, want %v", name, got, want)
			}
		}
	})
}

// TestAChangedLeafIsNoObstacle: an index of what leaves say must take what somebody
// has written over one, and a search must go on.
func TestAChangedLeafIsNoObstacle(t *testing.T) {
	onEmpty(t, func(t *testing.T, url string) {
		s := again(t, url)
		for range 3 {
			if err := s.Log(t.Context(), audit.Entry{Action: "test.noted", Actor: "ann", Target: "dev_us-east-1/risk"}); err != nil {
				t.Fatal(err)
			}
		}
		for i, leaf := range []string{"no JSON", `{"actor":["a"],"action":`} {
			do(t, raw(t, url), "UPDATE audit_entries SET leaf = $1 WHERE idx = $2", leaf, i)
		}
		for _, f := range []store.EntryFilter{{Target: "dev_us-east-1/risk"}, {Action: "*"}, {Action: "test.noted"}, {Actor: "a"}, {}} {
			f.Before = 3
			found, from, err := s.Search(t.Context(), f)
			if err != nil || from != 0 || len(found) == 0 || found[0].Action != "test.noted" {
				t.Errorf("%+v: %+v, down to %d, %v", f, found, from, err)
			}
		}
	})
}
