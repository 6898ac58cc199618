package store_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// ended brings a new run of a tag to its end.
func ended(t *testing.T, s *store.Store, tag string, as release.State) int64 {
	t.Helper()
	id := admit(t, s, tag)
	update(t, s, id, release.Running)
	_, err := s.Update(t.Context(), id, store.Update{Entry: audit.Entry{Action: "run." + string(as)}, Change: to(as),
		Plan: &release.PlanSummary{}, Findings: []release.Finding{{Rule: "r"}}})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// age makes every run that has ended have done so a while ago.
func age(t *testing.T, url string, by time.Duration) {
	t.Helper()
	do(t, raw(t, url), fmt.Sprintf("UPDATE runs SET finished_at = finished_at - %d WHERE finished_at > 0", by.Milliseconds()))
}

// prune forgets what ended more than a day ago, and returns how many runs that were.
func prune(t *testing.T, s *store.Store) (n int) {
	t.Helper()
	now, err := s.Clock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for {
		batch, err := s.Prune(t.Context(), now.Add(-24*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if n += batch; batch == 0 {
			return n
		}
	}
}

func left(t *testing.T, s *store.Store) string {
	t.Helper()
	runs, _, err := s.Runs(t.Context(), store.RunFilter{Limit: 500})
	if err != nil {
		t.Fatal(err)
	}
	var tags []string
	for _, r := range runs {
		tags = append(tags, strings.TrimPrefix(r.Tag, "dev_us-east-1/"))
	}
	return strings.Join(tags, " ")
}

func TestPruneForgetsOldRunsAndNothingElse(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, url string) {
		if _, err := s.Prune(t.Context(), time.Time{}); !errors.Is(err, release.ErrInvalid) {
			t.Errorf("pruning before no moment: %v", err)
		}
		first := ended(t, s, "dev_us-east-1/a/1.0", release.Succeeded)
		ended(t, s, "dev_us-east-1/a/1.1", release.Succeeded) // deployed
		ended(t, s, "dev_us-east-1/a/1.2", release.Failed)
		ended(t, s, "dev_us-east-1/a/1.3", release.Cancelled)
		ended(t, s, "dev_us-east-1/b/1.0", release.Denied)
		unknown := ended(t, s, "dev_us-east-1/b/1.1", release.Unknown)
		admit(t, s, "dev_us-east-1/b/1.2")                    // waits
		ended(t, s, "dev_us-east-1/c/1.0", release.Succeeded) // both
		age(t, url, 25*time.Hour)
		ended(t, s, "dev_us-east-1/a/1.4", release.Failed)
		ended(t, s, "dev_us-east-1/a/1.5", release.Failed)
		before := len(entries(t, s))

		if n := prune(t, s); n != 4 {
			t.Errorf("%d runs were forgotten, want 4", n)
		}
		if got, want := left(t, s), "a/1.5 a/1.4 c/1.0 b/1.2 b/1.1 a/1.1"; got != want {
			t.Errorf("left are %s, want %s", got, want)
		}
		if n := prune(t, s); n != 0 {
			t.Errorf("%d more were forgotten", n)
		}
		for _, err := range []error{second(s.Run(t.Context(), first)), second(s.Plan(t.Context(), first)), second(s.Findings(t.Context(), first))} {
			if !errors.Is(err, release.ErrNotFound) {
				t.Errorf("of a forgotten run: %v", err)
			}
		}
		var details int
		if err := raw(t, url).QueryRow("SELECT count(*) FROM run_details").Scan(&details); err != nil || details != 5 {
			t.Errorf("%d runs have details, want those of the 5 that ended: %v", details, err)
		}
		log := entries(t, s)[before:]
		if len(log) != 1 || log[0].Action != "runs.forgotten" || log[0].Details["runs"] != "1 3 4 5" {
			t.Errorf("entries %+v", log)
		}
		if all, _, err := s.Releases(t.Context(), store.ReleaseFilter{}); err != nil || len(all) != 10 {
			t.Errorf("%d releases are left of 10: %v", len(all), err)
		}
		board, err := s.Target(t.Context(), target("dev_us-east-1/a"))
		if err != nil || board.Deployed == nil || board.Deployed.Version != "1.1" || board.Latest.Version != "1.5" {
			t.Errorf("board %+v, %v", board, err)
		}
		// Once it is resolved an unknown run is one that ended.
		update(t, s, unknown, release.Failed)
		if n := prune(t, s); n != 1 {
			t.Errorf("%d runs were forgotten after the unknown one was resolved, want it alone", n)
		}
	})
}

func second[T any](_ T, err error) error { return err }

func TestPruneGoesInBatchesAndBesideAnother(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, url string) {
		const runs = 1203
		ended(t, s, "dev_us-east-1/a/1.0", release.Failed)
		do(t, raw(t, url), fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
			INSERT INTO runs (kind, repository, release_id, tag, version, object_id, commit_id, env, scope, team, account, state,
				stages, changes, findings, reason, attempt, step, runner_dir, applying, plan_digest, plan_key, approvals_required,
				approvals, outputs, cancelled_by, created_by, created_at, started_at, finished_at)
			SELECT kind, repository, release_id, tag, version, object_id, commit_id, env, scope, team, account, state,
				stages, changes, findings, reason, attempt, step, runner_dir, applying, plan_digest, plan_key, approvals_required,
				approvals, outputs, cancelled_by, created_by, created_at, started_at, finished_at FROM runs, n WHERE id = 1`, runs))
		age(t, url, 25*time.Hour)
		if n, err := s.Prune(t.Context(), time.Now().Add(-24*time.Hour)); err != nil || n < 1 || n > 500 {
			t.Errorf("the first batch: %d, %v", n, err)
		} else {
			var both [2]int
			var wait sync.WaitGroup
			for i := range both {
				wait.Go(func() { both[i] = prune(t, s) })
			}
			wait.Wait()
			if n += both[0] + both[1]; n != runs {
				t.Errorf("%d runs were forgotten in all, want %d", n, runs)
			}
		}
		told := 0
		for _, e := range entries(t, s) {
			if e.Action == "runs.forgotten" {
				told += len(strings.Fields(e.Details["runs"].(string)))
			}
		}
		if told != runs {
			t.Errorf("the log tells of %d runs, want %d", told, runs)
		}
	})
}

// TestPruneDropsOldGateResults keeps what is young enough to be asked for.
func TestPruneDropsOldGateResults(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, url string) {
		now, err := s.Clock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for key, at := range map[string]int64{"old": 1, "young": now.UnixMilli()} {
			do(t, raw(t, url), fmt.Sprintf("INSERT INTO gate_results (key, result, created_at) VALUES ('%s', '{}', %d)", key, at))
		}
		prune(t, s)
		kept, err := s.GateResults(t.Context(), "old", "young")
		if _, young := kept["young"]; err != nil || len(kept) != 1 || !young {
			t.Fatalf("kept %v, %v", kept, err)
		}
	})
}
