package store_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

func TestInstancesBeatDrainAndAreForgotten(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, url string) {
		if err := s.Join(t.Context(), store.Instance{}); !errors.Is(err, release.ErrInvalid) {
			t.Errorf("joining without an id: %v", err)
		}
		if _, err := s.Beat(t.Context(), "a"); !errors.Is(err, release.ErrNotFound) {
			t.Errorf("beating before joining: %v", err)
		}
		want := store.Instance{ID: "a", Name: "east", Host: "h", Pool: "eu", Roles: []string{"api", "worker"}, Version: "1", ConfigDigest: "d"}
		if err := s.Join(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		silence(t, url, "a", time.Minute)
		all, err := s.Instances(t.Context())
		if err != nil || len(all) != 1 || all[0].Age < time.Minute || all[0].Age > 2*time.Minute || all[0].StartedAt.IsZero() {
			t.Fatalf("instances %+v, %v", all, err)
		}
		got := all[0]
		got.StartedAt, got.BeatAt, got.Age = time.Time{}, time.Time{}, 0
		if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			t.Errorf("instance %+v, want %+v", got, want)
		}
		for _, drain := range []bool{true, false, true} {
			if err := s.SetDraining(t.Context(), "a", drain, audit.Entry{Actor: "ann", Action: "instance.drained"}); err != nil {
				t.Fatal(err)
			}
			if told, err := s.Beat(t.Context(), "a"); err != nil || told != drain {
				t.Errorf("the beat tells %v, %v, want %v", told, err, drain)
			}
		}
		if all, _ := s.Instances(t.Context()); all[0].Age > 30*time.Second || !all[0].Draining {
			t.Errorf("after a beat: %+v", all[0])
		}
		if e := entries(t, s); len(e) != 3 || e[0].Details["instance"] != "a" || e[0].Actor != "ann" {
			t.Errorf("entries %+v", e)
		}
		if err := s.SetDraining(t.Context(), "nobody", true, audit.Entry{Action: "x"}); !errors.Is(err, release.ErrNotFound) || len(entries(t, s)) != 3 {
			t.Errorf("draining nobody: %v", err)
		}
		join(t, s, "a")
		if told, err := s.Beat(t.Context(), "a"); err != nil || told {
			t.Errorf("draining after joining again: %v, %v", told, err)
		}
		silence(t, url, "a", 2*time.Hour)
		join(t, s, "b")
		if err := s.Sweep(t.Context(), dead); err != nil {
			t.Fatal(err)
		}
		if all, _ := s.Instances(t.Context()); len(all) != 1 || all[0].ID != "b" {
			t.Errorf("after the sweep: %+v", all)
		}
		if _, err := s.Beat(t.Context(), "a"); !errors.Is(err, release.ErrNotFound) {
			t.Errorf("a beat of the forgotten: %v", err)
		}
		if err := errors.Join(s.Leave(t.Context(), "b"), s.Leave(t.Context(), "b")); err != nil {
			t.Error(err)
		}
		if _, err := s.Beat(t.Context(), "b"); !errors.Is(err, release.ErrNotFound) {
			t.Errorf("a beat after leaving: %v", err)
		}
		if all, _ := s.Instances(t.Context()); len(all) != 1 || all[0].StoppedAt.IsZero() {
			t.Errorf("after leaving: %+v", all)
		}
	})
}

func TestALeaseHasOneHolder(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, url string) {
		lease := func(holder string, want bool) {
			t.Helper()
			if held, err := s.Lease(t.Context(), "sweep", holder, time.Hour); err != nil || held != want {
				t.Errorf("%s holds it: %v, %v, want %v", holder, held, err, want)
			}
		}
		yield := func(holder string) {
			t.Helper()
			if err := s.Yield(t.Context(), "sweep", holder); err != nil {
				t.Error(err)
			}
		}
		lease("a", true)
		lease("b", false)
		lease("a", true)
		yield("b") // not b's to give
		lease("b", false)
		if held, err := s.Lease(t.Context(), "repository/infra", "b", time.Hour); err != nil || !held {
			t.Errorf("another lease: %v, %v", held, err)
		}
		yield("a")
		lease("b", true)
		lease("a", false)
		do(t, raw(t, url), "UPDATE leases SET until = until - $1 WHERE name = 'sweep'", (2 * time.Hour).Milliseconds())
		lease("a", true)
		lease("b", false)
	})
}

// TestNoTwoHoldAtOnce lets several reach for a short lease without rest, and
// holds the times at which they got it against each other: on one machine the
// database's clock is this process's.
func TestNoTwoHoldAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, url string) {
		const ttl, changes = 40 * time.Millisecond, 12
		type holding struct {
			holder        string
			before, after time.Time // the call that got it
		}
		var mu sync.Mutex
		moved := sync.NewCond(&mu)
		var held []holding
		var all sync.WaitGroup
		for i, s := range []*store.Store{s, again(t, url), again(t, url)} {
			holder := fmt.Sprint(i)
			all.Go(func() {
				for {
					before := time.Now()
					got, err := s.Lease(t.Context(), "l", holder, ttl)
					h := holding{holder, before, time.Now()}
					mu.Lock()
					if err != nil {
						t.Error(err)
					}
					if got {
						held = append(held, h)
						moved.Broadcast()
						// Whoever has it lets it run out, so that another gets it.
						for held[len(held)-1].holder == holder && len(held) < changes {
							moved.Wait()
						}
					}
					done := len(held) >= changes || err != nil
					mu.Unlock()
					if done {
						moved.Broadcast()
						return
					}
				}
			})
		}
		all.Wait()
		slices.SortFunc(held, func(a, b holding) int { return a.after.Compare(b.after) })
		for i := 1; i < len(held); i++ {
			// Times are kept in whole milliseconds.
			if until := held[i-1].before.Add(ttl - 2*time.Millisecond); held[i].holder != held[i-1].holder && held[i].after.Before(until) {
				t.Errorf("%s got it %s before the end of %s", held[i].holder, until.Sub(held[i].after), held[i-1].holder)
			}
		}
	})
}

func TestConfigurationsAreKept(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		if _, err := s.Config(t.Context(), "d"); !errors.Is(err, release.ErrNotFound) {
			t.Errorf("an unknown one: %v", err)
		}
		err := errors.Join(s.KeepConfig(t.Context(), "d", "first"), s.KeepConfig(t.Context(), "d", "second"))
		if text, err2 := s.Config(t.Context(), "d"); err != nil || err2 != nil || text != "first" {
			t.Errorf("%q, %v, %v", text, err, err2)
		}
	})
}
