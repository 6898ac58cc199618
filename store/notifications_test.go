package store_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// places lists what is on record of notifications, by name.
func places(t *testing.T, s *store.Store) map[string]store.Notification {
	t.Helper()
	all, err := s.Notifications(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]store.Notification{}
	for _, n := range all {
		out[n.Name] = n
	}
	return out
}

func openPlace(t *testing.T, s *store.Store, name string) store.Notification {
	t.Helper()
	n, err := s.OpenNotification(t.Context(), name, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNotificationsKeepTheirPositions(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, url string) {
		admit(t, s, "dev_us-east-1/research/1.0")
		end := int64(len(entries(t, s)))
		if n := openPlace(t, s, "ops"); n.Position != end || n.Behind != 0 {
			t.Fatalf("a new place begins at %d, want the end %d", n.Position, end)
		}
		admit(t, s, "dev_us-east-1/risk/1.0")
		if n := openPlace(t, s, "ops"); n.Position != end || n.Behind == 0 {
			t.Errorf("opened again: %+v", n)
		}
		head := int64(len(entries(t, s)))
		if err := s.FailToTell(t.Context(), "ops", "it burns\x00"+strings.Repeat("é", 600), time.Minute); err != nil {
			t.Fatal(err)
		}
		if n := places(t, s)["ops"]; n.Failures != 1 || !strings.HasPrefix(n.Error, "it burns") || len(n.Error) > 500 ||
			n.RetryAt.Sub(n.FailedAt) != time.Minute || n.Position != end {
			t.Errorf("after a failure: %+v", n)
		}
		if err := s.Tell(t.Context(), "ops", end, head, 1, 0, ""); err != nil {
			t.Fatal(err)
		}
		n := places(t, s)["ops"]
		if n.Position != head || n.Behind != 0 || n.Told != 1 || n.Failures != 0 || n.Error != "" || n.ToldAt.IsZero() || !n.FailedAt.IsZero() || !n.RetryAt.IsZero() {
			t.Errorf("after telling: %+v", n)
		}
		if err := s.Tell(t.Context(), "ops", end, head, 1, 0, ""); !errors.Is(err, release.ErrConflict) {
			t.Errorf("telling twice: %v", err)
		}
		if err := s.Tell(t.Context(), "ops", head, head, 0, 2, "no such commit"); err != nil {
			t.Fatal(err)
		}
		if n := places(t, s)["ops"]; n.Dropped != 2 || n.Error != "no such commit" || n.Told != 1 {
			t.Errorf("after a refusal: %+v", n)
		}
		if _, err := s.OpenNotification(t.Context(), "", time.Hour); !errors.Is(err, release.ErrInvalid) {
			t.Errorf("without a name: %v", err)
		}
	})
}

// TestNotificationsDoNotTellOfWhatIsLongOver: a place that was out of use, or
// whose position is of a log that a backup has replaced, begins at the end.
func TestNotificationsDoNotTellOfWhatIsLongOver(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, url string) {
		for _, name := range []string{"unused", "used", "ahead"} {
			openPlace(t, s, name)
		}
		admit(t, s, "dev_us-east-1/research/1.0")
		end := int64(len(entries(t, s)))
		do(t, raw(t, url), "UPDATE notifications SET seen_at = seen_at - 3700000 WHERE name = 'unused'")
		do(t, raw(t, url), "UPDATE notifications SET position = 99 WHERE name = 'ahead'")
		for name, want := range map[string]int64{"unused": end, "used": 0, "ahead": end} {
			if n := openPlace(t, s, name); n.Position != want {
				t.Errorf("%s begins at %d, want %d", name, n.Position, want)
			}
		}
	})
}

func TestLaterRunsOfACommitAreCounted(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, url string) {
		first := admit(t, s, "dev_us-east-1/research/1.0")
		admit(t, s, "dev_us-east-1/research/1.1")
		admit(t, s, "dev_us-east-1/risk/1.0")
		admit(t, s, "dev_us-east-1/research/1.2", func(a *store.Admission) { a.Release.Commit = strings.Repeat("9", 40) })
		// A look for drift is for the same commit, and says nothing of it.
		do(t, raw(t, url), "UPDATE runs SET kind = 'drift' WHERE id = (SELECT max(id) FROM runs)")
		do(t, raw(t, url), "UPDATE runs SET commit_id = (SELECT commit_id FROM runs WHERE id = 1)")
		r, err := s.Run(t.Context(), first)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := s.RunsOfCommit(t.Context(), r); n != 1 || err != nil {
			t.Errorf("%d later runs, %v, want 1", n, err)
		}
	})
}
