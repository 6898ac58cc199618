package store_test

import (
	"slices"
	"testing"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

func TestListsWithinScopes(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		for _, tag := range []string{"dev_us-east-1/research/1.0", "dev_us-east-1/risk/1.0", "prod_us-east-1/research/1.0", "prod_global/risk/1.0"} {
			admit(t, s, tag)
		}
		if _, _, err := s.Admit(t.Context(), store.Admission{Release: release.Release{Repository: "infra", Tag: "nonsense",
			ObjectID: "o", Decision: release.Refused, Reason: "no target"}}); err != nil {
			t.Fatal(err)
		}
		for name, tt := range map[string]struct {
			scopes []store.Scope
			want   []string // the newest first
			tags   int
		}{
			"nil":          {nil, []string{"prod_global/risk", "prod_us-east-1/research", "dev_us-east-1/risk", "dev_us-east-1/research"}, 5},
			"everywhere":   {store.Everywhere(), []string{"prod_global/risk", "prod_us-east-1/research", "dev_us-east-1/risk", "dev_us-east-1/research"}, 5},
			"nowhere":      {[]store.Scope{}, nil, 0},
			"an env":       {[]store.Scope{{Environments: []string{"dev"}}}, []string{"dev_us-east-1/risk", "dev_us-east-1/research"}, 2},
			"a team of it": {[]store.Scope{{Environments: []string{"dev", "staging"}, Teams: []string{"risk"}}}, []string{"dev_us-east-1/risk"}, 1},
			"two scopes": {[]store.Scope{{Environments: []string{"prod"}, Teams: []string{"research"}}, {Teams: []string{"risk"}}},
				[]string{"prod_global/risk", "prod_us-east-1/research", "dev_us-east-1/risk"}, 3},
			"hostile": {[]store.Scope{{Teams: []string{"' OR 1=1 --"}}}, nil, 0},
		} {
			var got []string
			for cursor := ""; ; {
				runs, next, err := s.Runs(t.Context(), store.RunFilter{Within: tt.scopes, State: release.Queued, Limit: 1, Cursor: cursor})
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range runs {
					got = append(got, r.Target.String())
					if !store.InSight(append([]store.Scope{}, tt.scopes...), r.Target) && tt.scopes != nil {
						t.Errorf("%s: %s is listed and not in sight", name, r.Target)
					}
				}
				if cursor = next; next == "" {
					break
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%s: runs %q, want %q", name, got, tt.want)
			}
			if all, _, err := s.Releases(t.Context(), store.ReleaseFilter{Within: tt.scopes}); err != nil || len(all) != tt.tags {
				t.Errorf("%s: %d releases, want %d: %v", name, len(all), tt.tags, err)
			}
		}
	})
}
