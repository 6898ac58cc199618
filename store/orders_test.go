package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// order queues a run of a kind for the release of another run.
func order(t *testing.T, s *store.Store, kind release.Kind, of int64) int64 {
	t.Helper()
	rec, err := s.Record(t.Context(), of)
	if err != nil {
		t.Fatal(err)
	}
	rec.Kind, rec.CreatedBy, rec.Ref = kind, "alice", map[release.Kind]string{release.PlanOnly: "main"}[kind]
	r, err := s.Order(t.Context(), rec, store.TargetInfo{Region: "us-east-1"}, audit.Entry{Actor: "alice", Action: "run.ordered"})
	if err != nil {
		t.Fatal(err)
	}
	if r.Kind != kind || r.State != release.Queued || r.CreatedBy != "alice" || r.Ref != rec.Ref || r.ID == of {
		t.Fatalf("ordered %+v", r)
	}
	return r.ID
}

// calls is the runs that a worker was called for.
type calls struct {
	t    *testing.T
	s    *store.Store
	got  chan int64
	next int
}

// listen answers calls one after the other, from now on: the record must be empty.
func listen(t *testing.T, s *store.Store) *calls {
	c := &calls{t: t, s: s, got: make(chan int64, 1000)}
	serve(t, s, store.Worker{ID: "listener", Pools: []string{"default"}, Slots: 1, Grace: time.Second,
		Handle: func(_ context.Context, id int64) error { c.got <- id; return nil }})
	return c
}

// take lists the runs that were called for since the last time, each once.
func (c *calls) take() []int64 {
	c.t.Helper()
	c.next++
	last := admit(c.t, c.s, fmt.Sprintf("sentinel_us-east-1/t%d/1.0", c.next))
	var out []int64
	for {
		select {
		case id := <-c.got:
			if id == last {
				slices.Sort(out)
				return slices.Compact(out)
			}
			out = append(out, id)
		case <-time.After(30 * time.Second):
			c.t.Fatalf("no call came for run %d; before: %v", last, out)
		}
	}
}

// repeat does what makes calls that are there already not twice, until each of the
// runs was called for: a call that was answered just now may count as there. It
// reports runs that were called for and that nobody expects, sentinels apart.
func (c *calls) repeat(what string, do func() error, want ...int64) {
	c.t.Helper()
	missing := slices.Clone(want)
	for deadline := time.Now().Add(30 * time.Second); len(missing) > 0; {
		if err := do(); err != nil {
			c.t.Fatal(err)
		}
		for _, id := range c.take() {
			if r, err := c.s.Run(c.t.Context(), id); err != nil || r.Target.Env != "sentinel" && !slices.Contains(want, id) {
				c.t.Errorf("%s: called for %d, want %v alone, %v", what, id, want, err)
			}
			missing = slices.DeleteFunc(missing, func(m int64) bool { return m == id })
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: no call for %v", what, missing)
		}
	}
}

// succeed takes a run through to its end.
func succeed(t *testing.T, s *store.Store, id int64) {
	t.Helper()
	if began, reason := start(t, s, id); !began {
		t.Fatalf("run %d did not begin: %s", id, reason)
	}
	update(t, s, id, release.Succeeded)
}

func TestPlansAndDriftWaitForNobodyAndNobodyForThem(t *testing.T) {
	for _, kind := range []release.Kind{release.PlanOnly, release.Drift} {
		t.Run(string(kind), func(t *testing.T) {
			onBoth(t, func(t *testing.T, s *store.Store, _ string) {
				held := admit(t, s, "dev_us-east-1/research/1.0")
				start(t, s, held)
				update(t, s, held, release.AwaitingApproval)
				line := admit(t, s, "dev_us-east-1/research/1.1")
				first, second := order(t, s, kind, held), order(t, s, kind, held)
				for _, id := range []int64{first, second} {
					if began, reason := start(t, s, id); !began {
						t.Errorf("run %d waits beside one that awaits approval: %s", id, reason)
					}
				}
				if began, reason := start(t, s, line); began || !strings.Contains(reason, fmt.Sprint(held)) {
					t.Errorf("the deploy in line: began %v, %q", began, reason)
				}
				update(t, s, first, release.Succeeded)
				update(t, s, held, release.Rejected)
				if began, reason := start(t, s, line); !began {
					t.Errorf("the deploy in line waits beside run %d, which changes nothing: %s", second, reason)
				}
				update(t, s, second, release.Failed)
				board, err := s.Target(t.Context(), target("dev_us-east-1/research"))
				if err != nil || board.Deployed != nil || board.Latest == nil || board.Latest.ID != line {
					t.Errorf("board %+v, %v", board, err)
				}
			})
		})
	}
}

func TestAGlobalPlanHoldsNoRegionBack(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		global := admit(t, s, "dev_global/research/1.0")
		succeed(t, s, global)
		order(t, s, release.PlanOnly, global)
		if began, reason := start(t, s, admit(t, s, "dev_us-east-1/research/1.0")); !began {
			t.Errorf("the regional run waits: %s", reason)
		}
	})
}

// A plan neither puts its target on the board nor moves what is there.
func TestAPlanOfANewTargetIsNotOnTheBoard(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		rec := store.Record{ObjectID: "o", Run: release.Run{Kind: release.PlanOnly, Repository: "infra", Version: "0", Commit: "c0ffee",
			Target: target("dev_us-east-1/research"), Ref: "topic", CreatedBy: "alice"}}
		r, err := s.Order(t.Context(), rec, store.TargetInfo{}, audit.Entry{Action: "run.ordered"})
		if err != nil || r.Ref != "topic" || r.Tag != "" {
			t.Fatalf("%+v, %v", r, err)
		}
		succeed(t, s, r.ID)
		if all, err := s.Targets(t.Context()); err != nil || len(all) != 0 {
			t.Errorf("board %+v, %v", all, err)
		}
	})
}

func TestEveryWaitingPlanIsWoken(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		called := listen(t, s)
		held := admit(t, s, "dev_us-east-1/research/1.0")
		start(t, s, held)
		called.take()
		plans := []int64{order(t, s, release.PlanOnly, held), order(t, s, release.Drift, held)}
		if got := called.take(); !slices.Equal(got, plans) {
			t.Errorf("called for %v, want %v", got, plans)
		}
		called.repeat("swept", func() error { return s.Sweep(t.Context(), 0) }, append(plans, held)...)
		next := admit(t, s, "dev_us-east-1/research/1.1")
		start(t, s, plans[0])
		called.take()
		update(t, s, plans[0], release.Succeeded)
		if got := called.take(); slices.Contains(got, next) {
			t.Errorf("the end of a plan woke %v", got)
		}
	})
}

func TestDestroyEmptiesTheTarget(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		tgt := target("dev_us-east-1/research")
		first, second := admit(t, s, "dev_us-east-1/research/1.0"), admit(t, s, "dev_us-east-1/research/1.1")
		succeed(t, s, first)
		succeed(t, s, second)
		back := order(t, s, release.Rollback, first)
		succeed(t, s, back)
		if board, err := s.Target(t.Context(), tgt); err != nil || board.Deployed.ID != back || board.Deployed.Version != "1.0" || board.Destroyed != nil {
			t.Errorf("after the rollback: %+v, %v", board, err)
		}
		gone := order(t, s, release.Destroy, back)
		succeed(t, s, gone)
		drift := order(t, s, release.Drift, back)
		succeed(t, s, drift)
		if board, err := s.Target(t.Context(), tgt); err != nil || board.Deployed != nil || board.Destroyed == nil || board.Destroyed.ID != gone {
			t.Errorf("after the destroy: %+v, %v", board, err)
		}
		for commit, want := range map[string][]int64{"": {first, second, back, gone}, "c0ffee": {first, second, back, gone}, "other": nil} {
			all, err := s.Deployments(t.Context(), tgt, commit)
			var got []int64
			for _, r := range all {
				got = append(got, r.ID)
			}
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("deployments since %q: %v, want %v, %v", commit, got, want, err)
			}
		}
		again := admit(t, s, "dev_us-east-1/research/1.2")
		succeed(t, s, again)
		if board, err := s.Target(t.Context(), tgt); err != nil || board.Deployed.ID != again || board.Destroyed != nil {
			t.Errorf("deployed again: %+v, %v", board, err)
		}
	})
}

func TestNoRollbackToATagThatMoved(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		first := admit(t, s, "dev_us-east-1/research/1.0")
		succeed(t, s, first)
		if err := s.RecordSight(t.Context(), store.Sight{Repository: "infra", Tag: "dev_us-east-1/research/1.0", ObjectID: "elsewhere", Commit: "c"}); err != nil {
			t.Fatal(err)
		}
		rec, _ := s.Record(t.Context(), first)
		rec.Kind = release.Rollback
		if _, err := s.Order(t.Context(), rec, store.TargetInfo{}, audit.Entry{Action: "run.ordered"}); !errors.Is(err, release.ErrRefused) {
			t.Errorf("rollback: %v", err)
		}
	})
}

// A later tag overtakes deploys alone: what a person asked for stays.
func TestSupersedeLeavesOrders(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		first := admit(t, s, "dev_us-east-1/research/1.0")
		succeed(t, s, first)
		hold := admit(t, s, "dev_us-east-1/research/1.1")
		start(t, s, hold)
		back, waits := order(t, s, release.Rollback, first), admit(t, s, "dev_us-east-1/research/1.2")
		admit(t, s, "dev_us-east-1/research/1.3", func(a *store.Admission) { a.Supersede = true })
		r1, _ := s.Run(t.Context(), back)
		r2, _ := s.Run(t.Context(), waits)
		if r1.State != release.Queued || r2.State != release.Superseded {
			t.Errorf("the rollback is %s, the deploy %s", r1.State, r2.State)
		}
	})
}

func wait(t *testing.T, s *store.Store, id int64, until time.Time, by string) {
	t.Helper()
	_, err := s.Update(t.Context(), id, store.Update{Change: func(r *store.Record) error {
		r.WaitUntil, r.OverriddenBy = until, by
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFreezes(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		ctx := t.Context()
		tgt := target("prod_us-east-1/research")
		for _, bad := range []release.Freeze{{Until: time.Now().Add(-time.Second)}, {}} {
			if _, err := s.SetFreeze(ctx, bad, 0); !errors.Is(err, release.ErrInvalid) {
				t.Errorf("%+v: %v", bad, err)
			}
		}
		f, err := s.SetFreeze(ctx, release.Freeze{Where: release.Target{Env: "prod"}, Reason: "incident", CreatedBy: "alice"}, time.Hour)
		other, err2 := s.SetFreeze(ctx, release.Freeze{Where: release.Target{Env: "prod", Team: "risk"}, CreatedBy: "bob"}, 2*time.Hour)
		if err := errors.Join(err, err2); err != nil || f.Until.Sub(f.CreatedAt) != time.Hour {
			t.Fatalf("%+v, %v", f, err)
		}
		of, err := s.FreezesOf(ctx, tgt, time.Now())
		if err != nil || len(of) != 1 || of[0] != f {
			t.Errorf("of the target: %+v, %v", of, err)
		}
		if all, err := s.Freezes(ctx, false); err != nil || len(all) != 2 || all[0] != f || all[1] != other {
			t.Errorf("all: %+v, %v", all, err)
		}
		if later, err := s.FreezesOf(ctx, tgt, f.Until.Add(time.Millisecond)); err != nil || len(later) != 0 {
			t.Errorf("later: %+v, %v", later, err)
		}
		lifted, err := s.LiftFreeze(ctx, f.ID, "carol", "over")
		if err != nil || lifted.LiftedBy != "carol" || lifted.LiftedAt.IsZero() {
			t.Errorf("%+v, %v", lifted, err)
		}
		if _, err := s.LiftFreeze(ctx, f.ID, "carol", ""); !errors.Is(err, release.ErrConflict) {
			t.Errorf("lifting twice: %v", err)
		}
		if _, err := s.LiftFreeze(ctx, 999, "carol", ""); !errors.Is(err, release.ErrNotFound) {
			t.Errorf("lifting none: %v", err)
		}
		if of, err := s.FreezesOf(ctx, tgt, time.Now()); err != nil || len(of) != 0 {
			t.Errorf("after: %+v, %v", of, err)
		}
		if all, err := s.Freezes(ctx, true); err != nil || len(all) != 2 {
			t.Errorf("with those that are over: %+v, %v", all, err)
		}
		if got, err := s.Freeze(ctx, f.ID); err != nil || got != lifted {
			t.Errorf("one: %+v, %v", got, err)
		}
		e := entries(t, s)
		if len(e) != 3 || e[0].Action != "freeze.set" || e[0].Target != "prod" || e[0].Actor != "alice" || e[0].Reason != "incident" ||
			e[2].Action != "freeze.lifted" || e[2].Actor != "carol" || e[2].Reason != "over" {
			t.Errorf("entries %+v", e)
		}
	})
}

// A freeze holds also for runs that were let go on before it was set.
func TestAFreezeTakesOverridesBack(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		mine, running, elsewhere := admit(t, s, "prod_us-east-1/research/1.0"), admit(t, s, "prod_global/research/1.0"), admit(t, s, "dev_us-east-1/research/1.0")
		applying := admit(t, s, "prod_us-east-1/risk/1.0")
		start(t, s, running)
		start(t, s, applying)
		for _, id := range []int64{mine, running, elsewhere, applying} {
			wait(t, s, id, time.Time{}, "root")
		}
		if _, err := s.Update(t.Context(), applying, store.Update{Change: func(r *store.Record) error { r.Applying = true; return nil }}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.SetFreeze(t.Context(), release.Freeze{Where: release.Target{Env: "prod"}, CreatedBy: "alice"}, time.Hour); err != nil {
			t.Fatal(err)
		}
		for id, want := range map[int64]string{mine: "", running: "", elsewhere: "root", applying: "root"} {
			if r, err := s.Run(t.Context(), id); err != nil || r.OverriddenBy != want {
				t.Errorf("run %d (%s): overridden by %q, want %q, %v", id, r.Tag, r.OverriddenBy, want, err)
			}
		}
		e := entries(t, s)
		if got := fmt.Sprint(e[len(e)-1].Details["overrides_taken_back"]); got != fmt.Sprint([]any{fmt.Sprint(running), fmt.Sprint(mine)}) {
			t.Errorf("taken back: %s", got)
		}
	})
}

func TestRunsWaitUntilTheirTime(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		now := time.Now()
		called := listen(t, s)
		later, due := admit(t, s, "prod_us-east-1/research/1.0"), admit(t, s, "dev_us-east-1/research/1.0")
		parked := admit(t, s, "prod_us-east-1/risk/1.0")
		start(t, s, parked)
		update(t, s, parked, release.AwaitingApproval)
		called.take()
		wait(t, s, later, now.Add(time.Hour), "")
		wait(t, s, due, now.Add(-time.Hour), "")
		wait(t, s, parked, now.Add(time.Hour), "")
		called.repeat("due now", func() error { return s.WakeDue(t.Context(), now) }, due)
		called.repeat("due later", func() error { return s.WakeDue(t.Context(), now.Add(2*time.Hour)) }, later, due, parked)
		called.repeat("swept", func() error { return s.Sweep(t.Context(), 0) }, due)
		f, err := s.SetFreeze(t.Context(), release.Freeze{Where: release.Target{Env: "prod", Team: "research"}}, time.Hour)
		if err == nil {
			_, err = s.LiftFreeze(t.Context(), f.ID, "x", "")
		}
		if got := called.take(); err != nil || !slices.Equal(got, []int64{later}) {
			t.Errorf("a freeze was lifted: called for %v, want %d, %v", got, later, err)
		}
		err = s.WakeWaiting(t.Context())
		if got := called.take(); err != nil || !slices.Equal(got, []int64{later, due, parked}) {
			t.Errorf("all: called for %v, want %d, %d and %d, %v", got, later, due, parked, err)
		}
		if began, _ := start(t, s, later); !began {
			t.Error("a run that was woken did not begin")
		}
		if r, _ := s.Run(t.Context(), later); !r.WaitUntil.IsZero() {
			t.Errorf("it waits until %v still", r.WaitUntil)
		}
	})
}
