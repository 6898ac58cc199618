package store_test

import (
	"testing"
	"time"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

func TestWaitingCountsWhatIsNotSettled(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		want := func(when string, want map[release.State]int) {
			t.Helper()
			got, err := s.Waiting(t.Context())
			if err != nil || len(got) != 4 {
				t.Fatalf("%s: %v, %v", when, got, err)
			}
			for state, w := range got {
				if w.Runs != want[state] || w.Oldest < 0 || w.Oldest > time.Hour || w.Runs == 0 && w.Oldest != 0 {
					t.Errorf("%s: %s %+v, want %d", when, state, w, want[state])
				}
			}
		}
		want("at first", nil)
		join(t, s, "a")
		first := startAs(t, s, admit(t, s, "dev_us-east-1/research/1.0"), "a")
		second := startAs(t, s, admit(t, s, "dev_us-east-1/risk/1.0"), "a")
		third := startAs(t, s, admit(t, s, "dev_us-east-1/alpha/1.0"), "a")
		admit(t, s, "dev_us-east-1/alpha/1.1")
		want("while all run", map[release.State]int{release.Running: 3, release.Queued: 1})
		update(t, s, second.ID, release.Unknown)
		update(t, s, third.ID, release.Succeeded)
		if _, err := s.Update(t.Context(), first.ID, store.Update{Change: func(r *store.Record) error {
			r.State = release.AwaitingApproval
			r.SetStage(release.Stage{Name: release.StageApproval, State: release.StageRunning, StartedAt: time.Now().Add(-30 * time.Minute)})
			return nil
		}}); err != nil {
			t.Fatal(err)
		}
		want("once they wait, are unknown or have ended", map[release.State]int{release.AwaitingApproval: 1, release.Unknown: 1, release.Queued: 1})
		if got, _ := s.Waiting(t.Context()); got[release.AwaitingApproval].Oldest < 29*time.Minute {
			t.Errorf("a plan that has waited for half an hour: %+v", got[release.AwaitingApproval])
		}
	})
}
