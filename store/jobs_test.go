package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// TestWorkDrivesEveryRunOnceInOrder is the engine's promise: many targets side
// by side, each strictly in order, none lost, none twice, also when calls fail.
func TestWorkDrivesEveryRunOnceInOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		const targets, versions = 8, 12
		var want sync.WaitGroup
		for v := range versions {
			for i := range targets {
				admit(t, s, fmt.Sprintf("dev_us-east-1/team%d/1.%d", i, v))
				want.Add(1)
			}
		}
		var mu sync.Mutex
		done, failedOnce := map[string][]string{}, map[int64]bool{}
		ctx, cancel := context.WithCancel(t.Context())
		handle := func(ctx context.Context, id int64) error {
			r, began, err := s.Start(ctx, id, "here")
			if err != nil || !began {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			done[r.Target.Team] = append(done[r.Target.Team], r.Version)
			want.Done()
			_, err = s.Update(ctx, id, store.Update{Entry: audit.Entry{Action: "run.succeeded"}, Change: to(release.Succeeded)})
			if err == nil && id%10 == 0 && !failedOnce[id] {
				failedOnce[id] = true
				return errors.New("a call that fails after its work")
			}
			return err
		}
		stopped := make(chan error, 1)
		go func() {
			stopped <- s.Work(ctx, store.Worker{ID: "test", Pools: []string{"default"}, Slots: 20, Handle: handle, Grace: time.Minute})
		}()
		want.Wait()
		cancel()
		if err := <-stopped; err != nil {
			t.Fatal(err)
		}
		for team, got := range done {
			if len(got) != versions || got[0] != "1.0" || got[versions-1] != fmt.Sprintf("1.%d", versions-1) {
				t.Errorf("%s: %v", team, got)
			}
		}
		if len(done) != targets {
			t.Errorf("%d targets ran", len(done))
		}
	})
}

// TestWorkTakesUpWhatADeadProcessLeft: a run that was running when its process
// died is handed to the next process of the same installation.
func TestWorkTakesUpWhatADeadProcessLeft(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, url string) {
		id := admit(t, s, "dev_us-east-1/research/1.0")
		worker := func(s *store.Store, ctx context.Context, handle func(context.Context, int64) error) chan error {
			out := make(chan error, 1)
			go func() {
				out <- s.Work(ctx, store.Worker{ID: "same", Pools: []string{"default"}, Slots: 2, Handle: handle, Grace: time.Millisecond})
			}()
			return out
		}
		ctx, cancel := context.WithCancel(t.Context())
		reached := make(chan struct{})
		first := worker(s, ctx, func(ctx context.Context, id int64) error {
			if _, began, err := s.Start(ctx, id, "here"); err != nil || !began {
				return err
			}
			close(reached)
			<-ctx.Done() // the process "dies" here, the run stays running
			return nil
		})
		<-reached
		cancel()
		<-first
		again, err := store.Open(t.Context(), store.Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		ctx, cancel = context.WithCancel(t.Context())
		taken := make(chan int64, 1)
		second := worker(again, ctx, func(ctx context.Context, id int64) error { taken <- id; return nil })
		if got := <-taken; got != id {
			t.Errorf("took run %d", got)
		}
		cancel()
		<-second
	})
}

// serve answers calls until the test ends.
func serve(t *testing.T, s *store.Store, w store.Worker) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Work(ctx, w) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestARunIsForTheWorkersOfItsPool(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, url string) {
		digest := func(pool string) func(*store.Admission) {
			return func(a *store.Admission) { a.Pool, a.ConfigDigest = pool, "d-"+pool }
		}
		plain := admit(t, s, "dev_us-east-1/research/1.0")
		eu := admit(t, s, "dev_eu-central-1/research/1.0", digest("eu"))
		called := make(chan int64, 10)
		t.Run("work", func(t *testing.T) {
			serve(t, s, store.Worker{ID: "a", Pools: []string{"eu"}, Slots: 2, Handle: func(_ context.Context, id int64) error { called <- id; return nil }})
			if id := <-called; id != eu {
				t.Errorf("called for run %d", id)
			}
		})
		if n := number(t, raw(t, url), "SELECT count(*) FROM river_job WHERE state = 'available' AND queue = 'default'"); n != 1 || len(called) != 0 {
			t.Errorf("%d calls wait for the default pool, %d more came", n, len(called))
		}
		if r, _ := s.Record(t.Context(), plain); r.Pool != "default" || r.ConfigDigest != "" {
			t.Errorf("pool %q, configuration %q", r.Pool, r.ConfigDigest)
		}
		startAs(t, s, eu, "a")
		update(t, s, eu, release.Failed)
		for _, c := range []struct{ a, want store.Admission }{
			{store.Admission{}, store.Admission{Pool: "eu", ConfigDigest: "d-eu"}},
			{store.Admission{Pool: "new", ConfigDigest: "d2"}, store.Admission{Pool: "new", ConfigDigest: "d2"}},
		} {
			run, err := s.Requeue(t.Context(), eu, audit.Entry{Action: "run.retried"}, c.a)
			if err != nil {
				t.Fatal(err)
			}
			if r, _ := s.Record(t.Context(), run.ID); r.Pool != c.want.Pool || r.ConfigDigest != c.want.ConfigDigest || r.Worker != "" || r.Epoch != 0 || r.HandedBack != 0 {
				t.Errorf("retried as %+v", r)
			}
		}
		for _, pool := range []string{"EU", "a b", "-a", "a--b", strings.Repeat("x", 65)} {
			_, _, err := s.Admit(t.Context(), store.Admission{Pool: pool, Release: release.Release{Repository: "infra", Tag: "t",
				Target: target("dev_global/x"), Decision: release.Admitted}})
			if !errors.Is(err, release.ErrInvalid) {
				t.Errorf("pool %q: %v", pool, err)
			}
		}
		if refs, _ := s.Refs(t.Context(), "infra"); len(refs) != 2 {
			t.Errorf("a refused admission left a tag on record: %v", refs)
		}
	})
}

// TestSweepWakesWhatTheDeadWereAnswering: a call that hangs in a dead instance
// is made anew, and one that a living instance answers is not.
func TestSweepWakesWhatTheDeadWereAnswering(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, url string) {
		join(t, s, "a")
		id := admit(t, s, "dev_us-east-1/research/1.0")
		called := make(chan int64)
		db := raw(t, url)
		t.Run("work", func(t *testing.T) {
			serve(t, s, store.Worker{ID: "a", Pools: []string{"default"}, Slots: 2, Grace: time.Millisecond, Handle: func(ctx context.Context, id int64) error {
				select {
				case called <- id:
				case <-ctx.Done():
				}
				<-ctx.Done() // it hangs
				return nil
			}})
			if got := <-called; got != id {
				t.Errorf("called for run %d", got)
			}
			job := number(t, db, "SELECT max(id) FROM river_job")
			silence(t, url, "a", dead-10*time.Second)
			for _, after := range []time.Duration{0, dead} {
				if err := s.Sweep(t.Context(), after); err != nil {
					t.Fatal(err)
				}
				if n := number(t, db, "SELECT count(*) FROM river_job WHERE id = $1 AND state = 'running'", job); n != 1 {
					t.Errorf("dead after %s: the call of a living instance was given up", after)
				}
			}
			silence(t, url, "a", time.Minute)
			if err := s.Sweep(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			if n := number(t, db, "SELECT count(*) FROM river_job WHERE state IN ('available', 'running')"); n != 1 {
				t.Errorf("%d calls where nobody is to be taken for dead", n)
			}
			if err := s.Sweep(t.Context(), dead); err != nil {
				t.Fatal(err)
			}
			if got := <-called; got != id {
				t.Errorf("called again for run %d", got)
			}
		})
	})
}

// TestWorkersShareOnePostgres: several processes answer the calls of one
// database; every run is done once, in order, whoever does it.
func TestWorkersShareOnePostgres(t *testing.T) {
	const targets, versions = 6, 8
	url := testkit.Postgres(t)
	s := again(t, url)
	var want sync.WaitGroup
	for v := range versions {
		for i := range targets {
			admit(t, s, fmt.Sprintf("dev_us-east-1/team%d/1.%d", i, v))
			want.Add(1)
		}
	}
	var mu sync.Mutex
	done := map[string][]string{}
	for _, worker := range []string{"a", "b", "c"} {
		mine := again(t, url)
		join(t, mine, worker)
		serve(t, mine, store.Worker{ID: worker, Pools: []string{"default"}, Slots: 4, Grace: time.Minute, Handle: func(ctx context.Context, id int64) error {
			r, began, err := mine.Start(ctx, id, worker)
			if err != nil || !began {
				return err
			}
			mu.Lock()
			done[r.Target.Team] = append(done[r.Target.Team], r.Version)
			mu.Unlock()
			_, err = mine.Update(ctx, id, store.Update{Entry: audit.Entry{Action: "run.succeeded"}, Change: to(release.Succeeded)})
			want.Done()
			return err
		}})
	}
	want.Wait()
	for team, got := range done {
		if len(got) != versions || !slices.IsSorted(got) {
			t.Errorf("%s: %v", team, got)
		}
	}
	verifyLog(t, s)
}

// TestACallIsRepeatedByTheDatabasesClock: a process whose clock is ahead does
// not hold its failed calls back until the others' clocks are there too.
func TestACallIsRepeatedByTheDatabasesClock(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, url string) {
		ahead, err := store.Open(t.Context(), store.Config{URL: url, Now: func() time.Time { return time.Now().Add(time.Hour) }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ahead.Close() })
		admit(t, s, "dev_us-east-1/research/1.0")
		called := make(chan int64, 10)
		serve(t, ahead, store.Worker{ID: "a", Pools: []string{"default"}, Slots: 1, Handle: func(_ context.Context, id int64) error {
			called <- id
			return errors.New("not now")
		}})
		<-called
		select {
		case <-called:
		case <-time.After(time.Minute):
			t.Error("a failed call was not repeated within a minute")
		}
	})
}

// TestASweepWritesNothingWhereAllIsWell: it comes every second, and a row that is
// written each time is held meanwhile, and left for the database to clear away.
func TestASweepWritesNothingWhereAllIsWell(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, url string) {
		for i := range 5 {
			admit(t, s, fmt.Sprintf("dev_us-east-1/team%d/1.0", i))
		}
		db := raw(t, url)
		db.SetMaxOpenConns(1)                      // what others write shows on one connection
		written, calls := "PRAGMA data_version", 0 // of SQLite: what any other has written
		if strings.HasPrefix(url, "postgres") {
			written = "SELECT string_agg(CAST(ctid AS text), ' ' ORDER BY id) FROM river_job"
		}
		var before, after string
		sweep := func() {
			t.Helper()
			if err := errors.Join(db.QueryRow(written).Scan(&before), s.Sweep(t.Context(), 0), db.QueryRow(written).Scan(&after)); err != nil {
				t.Fatal(err)
			}
		}
		if sweep(); before != after {
			t.Errorf("a sweep has written: %s, then %s", before, after)
		}
		do(t, db, "DELETE FROM river_job WHERE id IN (SELECT min(id) FROM river_job)")
		sweep()
		if err := db.QueryRow("SELECT count(*) FROM river_job").Scan(&calls); err != nil || before == after || calls != 5 {
			t.Errorf("%d calls after one was lost, %v", calls, err)
		}
	})
}
