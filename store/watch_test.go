package store_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// heard collects what a watch is told until ok says that it is enough.
func heard(t *testing.T, w *store.Watch, ok func(store.Changes) bool) store.Changes {
	t.Helper()
	var all store.Changes
	within := time.After(20 * time.Second)
	for {
		select {
		case <-w.C():
			c := w.Take()
			all.Entries, all.All, all.Runs = all.Entries || c.Entries, all.All || c.All, append(all.Runs, c.Runs...)
			if ok(all) {
				return all
			}
		case <-within:
			t.Fatalf("heard only %+v", all)
		}
	}
}

func TestChangesAreHeard(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, url string) {
		// On Postgres a second process hears what the first commits.
		other := s
		if s.Shared() {
			var err error
			if other, err = store.Open(t.Context(), store.Config{URL: url}); err != nil {
				t.Fatal(err)
			}
			defer other.Close()
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- other.Listen(ctx) }()
		w := other.Watch()
		defer w.Close()
		if s.Shared() {
			heard(t, w, func(c store.Changes) bool { return c.All }) // it listens
		}
		first := admit(t, s, "dev_us-east-1/research/1.0")
		second := admit(t, s, "dev_us-east-1/research/1.1")
		all := heard(t, w, func(c store.Changes) bool { return slices.Contains(c.Runs, first) && slices.Contains(c.Runs, second) })
		if !all.Entries {
			t.Error("nothing was said of the audit log")
		}
		if err := s.Log(t.Context(), audit.Entry{Action: "run.queued"}); err != nil {
			t.Fatal(err)
		}
		if all := heard(t, w, func(c store.Changes) bool { return c.Entries }); len(all.Runs) > 0 {
			t.Errorf("runs %v have not changed", all.Runs)
		}
		// What is rolled back is not told, and what follows it is.
		_, err := s.Update(t.Context(), first, store.Update{Change: func(r *store.Record) error { return errors.New("no") }})
		if err == nil {
			t.Error("the change was to fail")
		}
		if _, err := s.Update(t.Context(), second, store.Update{Change: func(r *store.Record) error { r.Reason = "progress"; return nil }}); err != nil {
			t.Fatal(err)
		}
		if all := heard(t, w, func(c store.Changes) bool { return len(c.Runs) > 0 }); !slices.Equal(all.Runs, []int64{second}) || all.Entries {
			t.Errorf("heard %+v, want run %d alone", all, second)
		}
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Listen: %v", err)
		}
	})
}

// TestLostConnectionIsTold: who watches looks at everything while, and after,
// announcements cannot be heard.
func TestLostConnectionIsTold(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, url string) {
		if !s.Shared() {
			return // there is no connection to lose
		}
		go func() { _ = s.Listen(t.Context()) }()
		w := s.Watch()
		defer w.Close()
		heard(t, w, func(c store.Changes) bool { return c.All })
		db := raw(t, url)
		do(t, db, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
		heard(t, w, func(c store.Changes) bool { return c.All })
		id := admit(t, s, "dev_us-east-1/research/1.0")
		heard(t, w, func(c store.Changes) bool { return c.All || slices.Contains(c.Runs, id) })
	})
}

func TestSlowWatchIsBounded(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		w := s.Watch()
		defer w.Close()
		if s.Shared() {
			return // told by one process or by the database, they are gathered alike
		}
		for i := range 1010 {
			version := strings.Join([]string{"1", release.FormatID(int64(i + 1))}, ".")
			admit(t, s, "dev_us-east-1/research/"+version)
		}
		if c := w.Take(); !c.All || len(c.Runs) > 1000 {
			t.Errorf("remembers %d runs, all: %v", len(c.Runs), c.All)
		}
	})
}

func TestActiveRuns(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		a := admit(t, s, "dev_us-east-1/research/1.0")
		b := admit(t, s, "dev_us-east-1/risk/1.0")
		update(t, s, a, release.Cancelled)
		runs, err := s.ActiveRuns(t.Context())
		if err != nil || len(runs) != 1 || runs[0].ID != b {
			t.Errorf("active: %v, %v", runs, err)
		}
		runs, err = s.RunsByID(t.Context(), []int64{b, 99, a})
		if err != nil || len(runs) != 2 || runs[0].ID != a {
			t.Errorf("by id: %v, %v", runs, err)
		}
	})
}
