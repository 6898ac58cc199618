package store_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

func resource(address string) release.Resource {
	return release.Resource{Address: address, Type: "terraform_data", Provider: "terraform.io/builtin/terraform", Mode: "managed"}
}

// endWith takes a queued run of the tag to its end, with what the state has then.
func endWith(t *testing.T, s *store.Store, id int64, changed []string, content *release.StateContent) {
	t.Helper()
	if _, began, err := s.Start(t.Context(), id, "here"); err != nil || !began {
		t.Fatalf("run %d did not begin: %v", id, err)
	}
	plan := release.PlanSummary{Digest: "sha256:00"}
	for _, address := range changed {
		plan.Resources = append(plan.Resources, release.ResourceChange{Address: address, Action: "update"})
	}
	_, err := s.Update(t.Context(), id, store.Update{Entry: audit.Entry{Action: "run.succeeded"}, Plan: &plan, Content: content,
		Change: func(r *store.Record) error { r.State = release.Succeeded; return nil }})
	if err != nil {
		t.Fatal(err)
	}
}

func TestInventory(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		one := release.Target{Env: "dev", Scope: "us-east-1", Team: "research"}
		admit := func(version string) int64 {
			_, id, err := s.Admit(t.Context(), store.Admission{Release: release.Release{Repository: "infra", Tag: one.String() + "/" + version,
				Target: one, Version: version, ObjectID: "a", Commit: "c", Decision: release.Admitted}})
			if err != nil {
				t.Fatal(err)
			}
			return id
		}
		look := func(f store.InventoryFilter) []string {
			t.Helper()
			var out []string
			for {
				items, next, err := s.Inventory(t.Context(), f)
				if err != nil {
					t.Fatal(err)
				}
				for _, x := range items {
					out = append(out, fmt.Sprintf("%s %d", x.Address, x.RunID))
				}
				if f.Cursor = next; next == "" {
					return out
				}
			}
		}
		check := func(what string, got []string, want ...string) {
			t.Helper()
			if !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
		}
		endWith(t, s, admit("1.0"), nil, &release.StateContent{Resources: []release.Resource{resource("a"), resource("b"), resource("c_1%")}})
		check("first", look(store.InventoryFilter{}), "a 1", "b 1", "c_1% 1")
		endWith(t, s, admit("1.1"), []string{"b", "c_1%"}, &release.StateContent{Resources: []release.Resource{resource("a"), resource("b"), resource("d"), resource("d")}})
		check("changed, gone and new", look(store.InventoryFilter{}), "a 1", "b 2", "d 2")
		check("page by page", look(store.InventoryFilter{Limit: 1}), "a 1", "b 2", "d 2")
		endWith(t, s, admit("1.2"), nil, nil)
		check("state not read", look(store.InventoryFilter{}), "a 1", "b 2", "d 2")
		endWith(t, s, admit("1.3"), nil, &release.StateContent{Resources: []release.Resource{resource("0X_y")}, Cut: true})
		check("cut", look(store.InventoryFilter{}), "0X_y 4", "a 1", "b 2", "d 2")
		for _, c := range []struct {
			f    store.InventoryFilter
			want []string
		}{
			{store.InventoryFilter{Text: "x_"}, []string{"0X_y 4"}},
			{store.InventoryFilter{Text: "_%"}, nil},
			{store.InventoryFilter{Target: &one, Text: "A"}, []string{"a 1"}},
			{store.InventoryFilter{Type: "terraform_data", Provider: "terraform", Text: "b"}, []string{"b 2"}},
			{store.InventoryFilter{Type: "aws_instance"}, nil},
			{store.InventoryFilter{Provider: "form"}, nil},
			{store.InventoryFilter{Within: []store.Scope{{Teams: []string{"risk"}}}}, nil},
			{store.InventoryFilter{Within: []store.Scope{}}, nil},
		} {
			check(fmt.Sprintf("%+v", c.f), look(c.f), c.want...)
		}
		endWith(t, s, admit("1.4"), nil, &release.StateContent{Resources: []release.Resource{}})
		check("emptied", look(store.InventoryFilter{}))
		for _, cursor := range []string{"x", "W10"} {
			if _, _, err := s.Inventory(t.Context(), store.InventoryFilter{Cursor: cursor}); !errors.Is(err, release.ErrInvalid) {
				t.Errorf("cursor %q: %v", cursor, err)
			}
		}
	})
}
