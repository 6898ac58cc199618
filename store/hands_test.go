package store_test

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// dead is how long an instance of these tests may be silent.
const dead = 30 * time.Second

// raw opens the database of a store beside it, to do what time or a fault would.
func raw(t *testing.T, url string) *sql.DB {
	t.Helper()
	driver, source := "pgx", url
	if path, ok := strings.CutPrefix(url, "sqlite://"); ok {
		driver, source = "sqlite", "file:"+path+"?_pragma=busy_timeout(10000)"
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func do(t *testing.T, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatal(err)
	}
}

func number(t *testing.T, db *sql.DB, query string, args ...any) (n int) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// silence makes an instance's last beat as old as age.
func silence(t *testing.T, url, id string, age time.Duration) {
	t.Helper()
	do(t, raw(t, url), "UPDATE instances SET beat_at = beat_at - $1 WHERE id = $2", age.Milliseconds(), id)
}

func join(t *testing.T, s *store.Store, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := s.Join(t.Context(), store.Instance{ID: id, Name: id, Pool: "default", Roles: []string{"api", "worker"}}); err != nil {
			t.Fatal(err)
		}
	}
}

func startAs(t *testing.T, s *store.Store, id int64, worker string) store.Record {
	t.Helper()
	r, began, err := s.Start(t.Context(), id, worker)
	if err != nil || !began {
		t.Fatalf("run %d did not begin: %v", id, err)
	}
	return r
}

func take(t *testing.T, s *store.Store, id int64, worker string) (store.Record, bool) {
	t.Helper()
	r, taken, err := s.Take(t.Context(), id, worker, dead)
	if err != nil {
		t.Fatal(err)
	}
	return r, taken
}

// again opens the database a second time, as another process would.
func again(t *testing.T, url string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestOneOfManyGetsTheRun: whoever reaches for a run at once, one has it.
func TestOneOfManyGetsTheRun(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, url string) {
		const workers, rounds = 8, 12
		stores := []*store.Store{s, again(t, url)}
		var names []string
		for i := range workers {
			names = append(names, fmt.Sprintf("w%d", i))
		}
		join(t, s, names...)
		// race lets every worker do the same at once, and returns who succeeded.
		race := func(reach func(s *store.Store, worker string) (bool, error)) (winners []string) {
			var mu sync.Mutex
			var all sync.WaitGroup
			line := make(chan struct{})
			for i, name := range names {
				all.Go(func() {
					<-line
					got, err := reach(stores[i%len(stores)], name)
					mu.Lock()
					defer mu.Unlock()
					if err != nil {
						t.Error(err)
					}
					if got {
						winners = append(winners, name)
					}
				})
			}
			close(line)
			all.Wait()
			return winners
		}
		for round := range rounds {
			id := admit(t, s, fmt.Sprintf("dev_us-east-1/team%d/1.0", round))
			began := race(func(s *store.Store, w string) (bool, error) {
				_, ok, err := s.Start(t.Context(), id, w)
				return ok, err
			})
			r, _ := s.Record(t.Context(), id)
			if len(began) != 1 || r.Worker != began[0] || r.Epoch != 1 || r.Attempt != 1 {
				t.Fatalf("round %d: began for %v, the record says %q, epoch %d, attempt %d", round, began, r.Worker, r.Epoch, r.Attempt)
			}
			silence(t, url, r.Worker, time.Hour)
			took := race(func(s *store.Store, w string) (bool, error) {
				if w == r.Worker {
					return false, nil
				}
				_, ok, err := s.Take(t.Context(), id, w, dead)
				return ok, err
			})
			now, _ := s.Record(t.Context(), id)
			if len(took) != 1 || now.Worker != took[0] || now.Epoch != 2 {
				t.Fatalf("round %d: %v took it, the record says %q, epoch %d", round, took, now.Worker, now.Epoch)
			}
			if _, err := s.Beat(t.Context(), r.Worker); err != nil {
				t.Fatal(err)
			}
		}
		over := 0
		for _, e := range entries(t, s) {
			if e.Action == "run.taken_over" {
				over++
			}
		}
		if over != rounds {
			t.Errorf("%d entries tell of %d runs taken over", over, rounds)
		}
	})
}

// TestTheReturnedHasLostItsRuns: an instance that was declared dead and comes
// back keeps what nobody took, and nothing else.
func TestTheReturnedHasLostItsRuns(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, url string) {
		lost, kept := admit(t, s, "dev_us-east-1/research/1.0"), admit(t, s, "dev_us-east-1/risk/1.0")
		join(t, s, "a", "b")
		startAs(t, s, lost, "a")
		startAs(t, s, kept, "a")
		if _, taken := take(t, s, lost, "b"); taken {
			t.Error("taken from one that is alive")
		}
		silence(t, url, "a", dead+time.Second)
		if got, err := s.Abandoned(t.Context(), dead); err != nil || !slices.Equal(got, []int64{lost, kept}) {
			t.Errorf("abandoned %v, %v", got, err)
		}
		if r, taken := take(t, s, lost, "b"); !taken || r.Worker != "b" || r.Epoch != 2 {
			t.Errorf("taken %v by %q, epoch %d", taken, r.Worker, r.Epoch)
		}
		if _, err := s.Beat(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if r, taken := take(t, s, lost, "a"); taken || r.Worker != "b" || r.Epoch != 2 {
			t.Errorf("the returned has a run of another: %q, epoch %d", r.Worker, r.Epoch)
		}
		if err := s.HandBack(t.Context(), lost, "a", 1, "its worker stopped before the apply"); !errors.Is(err, release.ErrConflict) {
			t.Errorf("the returned gave back what it lost: %v", err)
		}
		if r, taken := take(t, s, kept, "a"); !taken || r.Epoch != 1 {
			t.Errorf("the returned lost what nobody took: %v, epoch %d", taken, r.Epoch)
		}
		if _, taken := take(t, s, kept, "b"); taken {
			t.Error("taken from one that has returned")
		}
		e := entries(t, s)
		last := e[len(e)-1]
		if last.Action != "run.taken_over" || last.RunID != lost || last.Details["from"] != "a" || last.Details["worker"] != "b" {
			t.Errorf("the last entry: %+v", last)
		}
	})
}

// TestWhoseRunsAreAbandoned holds every way of being gone against Abandoned and Take.
func TestWhoseRunsAreAbandoned(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, url string) {
		join(t, s, "alive", "silent", "left", "other")
		ways := []struct {
			worker    string
			state     release.State
			abandoned bool
		}{
			{"alive", release.Running, false},
			{"silent", release.Running, true},
			{"left", release.Running, true},
			{"never joined", release.Running, true},
			{"silent", release.AwaitingApproval, false},
			{"silent", release.Unknown, false},
			{"silent", release.Failed, false},
		}
		ids := make([]int64, len(ways))
		for i, w := range ways {
			ids[i] = admit(t, s, fmt.Sprintf("dev_us-east-1/team%d/1.0", i))
			startAs(t, s, ids[i], w.worker)
			if w.state != release.Running {
				update(t, s, ids[i], w.state)
			}
		}
		silence(t, url, "silent", dead+time.Second)
		if err := s.Leave(t.Context(), "left"); err != nil {
			t.Fatal(err)
		}
		listed, err := s.Abandoned(t.Context(), dead)
		if err != nil {
			t.Fatal(err)
		}
		for i, w := range ways {
			if got := slices.Contains(listed, ids[i]); got != w.abandoned {
				t.Errorf("%+v: listed %v", w, got)
			}
			if _, taken := take(t, s, ids[i], "other"); taken != w.abandoned {
				t.Errorf("%+v: taken %v", w, taken)
			}
		}
		for _, err := range []error{
			func() error { _, err := s.Abandoned(t.Context(), 0); return err }(),
			func() error { _, _, err := s.Take(t.Context(), ids[0], "other", 0); return err }(),
			func() error { _, _, err := s.Take(t.Context(), ids[0], "", dead); return err }(),
			func() error { _, _, err := s.Start(t.Context(), ids[0], ""); return err }(),
		} {
			if !errors.Is(err, release.ErrInvalid) {
				t.Errorf("got %v, want ErrInvalid", err)
			}
		}
	})
}

// TestAWaitingRunIsInNobodysHand: after the wait any worker may go on with it,
// and nobody from before.
func TestAWaitingRunIsInNobodysHand(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		join(t, s, "a", "b")
		id := admit(t, s, "dev_us-east-1/research/1.0")
		startAs(t, s, id, "a")
		update(t, s, id, release.AwaitingApproval)
		if r, _ := s.Record(t.Context(), id); r.Worker != "" || r.Epoch != 2 {
			t.Errorf("waiting in the hand of %q, epoch %d", r.Worker, r.Epoch)
		}
		update(t, s, id, release.Running)
		if got, _ := s.Abandoned(t.Context(), dead); len(got) != 0 {
			t.Errorf("abandoned: %v", got)
		}
		if r, taken := take(t, s, id, "b"); !taken || r.Worker != "b" || r.Epoch != 3 {
			t.Errorf("taken %v by %q, epoch %d", taken, r.Worker, r.Epoch)
		}
		update(t, s, id, release.Failed)
		if r, _ := s.Record(t.Context(), id); r.Worker != "b" {
			t.Errorf("who ended it is forgotten: %q", r.Worker)
		}
		if slices.Contains(actions(t, s), "run.taken_over") {
			t.Error("taken from nobody, and an entry says from somebody")
		}
	})
}

func TestHandBack(t *testing.T) {
	change := func(t *testing.T, s *store.Store, id int64, change func(*store.Record)) {
		t.Helper()
		_, err := s.Update(t.Context(), id, store.Update{Change: func(r *store.Record) error { change(r); return nil }})
		if err != nil {
			t.Fatal(err)
		}
	}
	cases := map[string]struct {
		before           func(*store.Record)
		worker           string
		epoch            int64
		conflict         bool
		state            release.State
		handedBack, next int
	}{
		"planning":    {func(r *store.Record) { r.PlanKey, r.RunnerDir = "k", "1/1/plan" }, "a", 1, false, release.Queued, 1, 2},
		"of another":  {func(*store.Record) {}, "b", 1, true, release.Running, 0, 0},
		"lost before": {func(*store.Record) {}, "a", 0, true, release.Running, 0, 0},
		"applying":    {func(r *store.Record) { r.Applying = true }, "a", 1, true, release.Running, 0, 0},
		"approved": {func(r *store.Record) {
			r.PlanKey = "k"
			r.SetStage(release.Stage{Name: release.StageApproval, State: release.StagePassed})
		}, "a", 1, false, release.Running, 0, 1},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, s *store.Store, url string) {
				join(t, s, "a", "b")
				id := admit(t, s, "dev_us-east-1/research/1.0")
				startAs(t, s, id, "a")
				change(t, s, id, c.before)
				do(t, raw(t, url), "DELETE FROM river_job")
				err := s.HandBack(t.Context(), id, c.worker, c.epoch, "its worker stopped before the apply")
				r, _ := s.Record(t.Context(), id)
				if errors.Is(err, release.ErrConflict) != c.conflict || (err == nil) == c.conflict || r.State != c.state || r.HandedBack != c.handedBack {
					t.Fatalf("%v; the run is %s, handed back %d times", err, r.State, r.HandedBack)
				}
				calls := number(t, raw(t, url), "SELECT count(*) FROM river_job WHERE queue = 'default'")
				if c.conflict {
					if r.Worker != "a" || r.Epoch != 1 || calls != 0 {
						t.Errorf("changed all the same: %q, epoch %d, %d calls", r.Worker, r.Epoch, calls)
					}
					return
				}
				if r.Worker != "" || r.Epoch != 2 || calls != 1 || (r.PlanKey == "") != (r.State == release.Queued) {
					t.Errorf("in the hand of %q, epoch %d, %d calls, plan key %q", r.Worker, r.Epoch, calls, r.PlanKey)
				}
				if a := actions(t, s); a[len(a)-1] != "run.handed_back" {
					t.Errorf("entries %v", a)
				}
				if r.State == release.Queued {
					r = startAs(t, s, id, "b")
				} else {
					r, _ = take(t, s, id, "b")
				}
				if r.Worker != "b" || r.Attempt != c.next || r.Epoch != 3 {
					t.Errorf("gone on by %q in attempt %d, epoch %d", r.Worker, r.Attempt, r.Epoch)
				}
			})
		})
	}
}
