package store_test

import (
	"testing"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

func TestReleasesKeepTheirSigner(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		ann := release.Signer{Name: "Ann <ann@example.org>", Key: "ABCD", Kind: "OpenPGP"}
		admit(t, s, "dev_us-east-1/research/1.0", func(a *store.Admission) { a.Release.SignedBy = ann })
		admit(t, s, "dev_us-east-1/research/1.1")
		all, _, err := s.Releases(t.Context(), store.ReleaseFilter{})
		if err != nil || len(all) != 2 || all[1].SignedBy != ann || all[0].SignedBy != (release.Signer{}) {
			t.Errorf("%+v, %v", all, err)
		}
		for i, want := range []map[string]any{{"signer": ann.Name, "key": ann.Key}, {"signer": nil, "key": nil}} {
			e := entries(t, s)[i]
			if e.Action != "run.queued" || e.Details["signer"] != want["signer"] || e.Details["key"] != want["key"] {
				t.Errorf("entry %+v", e)
			}
		}
	})
}
