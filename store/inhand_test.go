package store_test

import (
	"maps"
	"testing"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

func TestInHandCountsWhatRunsForEachInstance(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		want := func(when string, want map[string]int) {
			t.Helper()
			if got, err := s.InHand(t.Context()); err != nil || !maps.Equal(got, want) {
				t.Errorf("%s: %v, %v, want %v", when, got, err, want)
			}
		}
		join(t, s, "a", "b")
		admit(t, s, "dev_us-east-1/gamma/1.0")
		want("while it waits", map[string]int{})
		first := startAs(t, s, admit(t, s, "dev_us-east-1/research/1.0"), "a")
		second := startAs(t, s, admit(t, s, "dev_us-east-1/risk/1.0"), "a")
		third := startAs(t, s, admit(t, s, "dev_us-east-1/alpha/1.0"), "b")
		want("while all run", map[string]int{"a": 2, "b": 1})
		update(t, s, first.ID, release.AwaitingApproval)
		update(t, s, second.ID, release.Succeeded)
		want("once one waits for people and one has ended", map[string]int{"b": 1})
		if err := s.HandBack(t.Context(), third.ID, "b", third.Epoch, "its worker stopped before the apply"); err != nil {
			t.Fatal(err)
		}
		want("once the last was handed back", map[string]int{})
		approved := startAs(t, s, third.ID, "b")
		if _, err := s.Update(t.Context(), third.ID, store.Update{Entry: audit.Entry{Action: "run.approved"}, Change: func(r *store.Record) error {
			r.SetStage(release.Stage{Name: release.StageApproval, State: release.StagePassed})
			return nil
		}}); err != nil {
			t.Fatal(err)
		}
		want("while it runs again", map[string]int{"b": 1})
		if err := s.HandBack(t.Context(), third.ID, "b", approved.Epoch, "its worker stopped before the apply"); err != nil {
			t.Fatal(err)
		}
		want("once it runs in nobody's hand", map[string]int{})
	})
}
