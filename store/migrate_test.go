package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// onEmpty runs one test against an empty database of each kind.
func onEmpty(t *testing.T, test func(t *testing.T, url string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, "sqlite://"+filepath.Join(t.TempDir(), "waymark.db")) })
	t.Run("postgres", func(t *testing.T) { test(t, testkit.Postgres(t)) })
}

// makeOld makes the database that the first version of the schema alone made:
// a run that succeeded, one that runs and one that waits with its call in the
// queue of its scope, each with its audit entry.
func makeOld(t *testing.T, url string) {
	t.Helper()
	db := raw(t, url)
	schemaAt(t, db, url, 1)
	var hashes []tlog.Hash
	for i, state := range []string{"succeeded", "running", "queued"} {
		team, id := fmt.Sprintf("team%d", i), int64(i+1)
		tag := "dev_us-east-1/" + team + "/1.0"
		do(t, db, `INSERT INTO targets (env, scope, team, account, region, backend) VALUES ('dev', 'us-east-1', $1, 'a', 'us-east-1', '{}')`, team)
		do(t, db, `INSERT INTO tag_refs (repository, name, pinned_id, seen_id) VALUES ('infra', $1, 'o', 'o')`, tag)
		do(t, db, `INSERT INTO releases (repository, tag, env, scope, team, version, object_id, commit_id, tagger, tagged_at, message, signature,
			seen_at, decision, reason) VALUES ('infra', $1, 'dev', 'us-east-1', $2, '1.0', 'o', 'c', 'ann', 0, '', '', 1, 'admitted', '')`, tag, team)
		do(t, db, `INSERT INTO runs (kind, repository, release_id, tag, version, object_id, commit_id, env, scope, team, account, state, stages,
			changes, findings, reason, attempt, step, runner_dir, applying, plan_digest, plan_key, approvals_required, approvals, outputs,
			cancelled_by, created_by, created_at, started_at, finished_at) VALUES ('deploy', 'infra', $1, $2, '1.0', 'o', 'c', 'dev', 'us-east-1', $3,
			'a', $4, 'null', '{}', '{}', '', 1, 1, '', 0, '', '', 0, 'null', 'null', '', 'ann', 1, 0, 0)`, id, tag, team, state)
		leaf, err := audit.Entry{At: time.UnixMilli(id), Actor: "ann", Action: "run." + state, RunID: id}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := audit.Append(int64(i), leaf, tlog.HashReaderFunc(func(at []int64) (out []tlog.Hash, _ error) {
			for _, x := range at {
				out = append(out, hashes[x])
			}
			return out, nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range fresh {
			do(t, db, "INSERT INTO audit_hashes (idx, hash) VALUES ($1, $2)", len(hashes), h[:])
			hashes = append(hashes, h)
		}
		do(t, db, "INSERT INTO audit_entries (idx, target, run_id, leaf) VALUES ($1, '', $2, $3)", i, id, string(leaf))
	}
	do(t, db, "UPDATE audit_head SET size = 3")
	do(t, db, "UPDATE targets SET deployed_run_id = 1 WHERE team = 'team0'")
	if strings.HasPrefix(url, "sqlite") {
		callAsOld[*sql.Tx](t, riversqlite.New(db))
		return
	}
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	callAsOld[pgx.Tx](t, riverpgxv5.New(pool))
}

// schemaAt brings the schema up or down to a version.
func schemaAt(t *testing.T, db *sql.DB, url string, version int64) {
	t.Helper()
	dialect, dir := goose.DialectPostgres, "migrations/postgres"
	if strings.HasPrefix(url, "sqlite") {
		dialect, dir = goose.DialectSQLite3, "migrations/sqlite"
	}
	provider, err := goose.NewProvider(dialect, db, os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	has, err := provider.GetDBVersion(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if has > version {
		_, err = provider.DownTo(t.Context(), version)
	} else {
		_, err = provider.UpTo(t.Context(), version)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// callAsOld makes the calls of the runs that go on as they were made before
// there were pools.
func callAsOld[TTx any](t *testing.T, driver riverdriver.Driver[TTx]) {
	t.Helper()
	migrator, err := rivermigrate.New(driver, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := migrator.Migrate(t.Context(), rivermigrate.DirectionUp, nil); err != nil {
		t.Fatal(err)
	}
	client, err := river.NewClient(driver, &river.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []int64{2, 3} {
		if _, err := client.Insert(t.Context(), store.RunArgs{RunID: id, Step: 1}, &river.InsertOpts{Queue: "us-east-1"}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUpgradeKeepsEverything: what the first schema held is all there after an
// upgrade, and what was under way goes on.
func TestUpgradeKeepsEverything(t *testing.T) {
	onEmpty(t, func(t *testing.T, url string) {
		makeOld(t, url)
		s := again(t, url)
		verifyLog(t, s)
		if e := entries(t, s); len(e) != 3 || e[1].Action != "run.running" || e[1].RunID != 2 {
			t.Errorf("entries %+v", e)
		}
		for id, state := range map[int64]release.State{1: release.Succeeded, 2: release.Running, 3: release.Queued} {
			r, err := s.Record(t.Context(), id)
			if err != nil || r.State != state || r.Pool != "default" || r.Worker != "" || r.Epoch != 0 || r.Tag == "" {
				t.Errorf("run %d: %+v, %v", id, r, err)
			}
		}
		if status, err := s.Target(t.Context(), target("dev_us-east-1/team0")); err != nil || status.Deployed == nil || status.Deployed.ID != 1 {
			t.Errorf("deployed %+v, %v", status, err)
		}
		newestAre(t, s, map[string]int64{"team0": 1, "team1": 2, "team2": 3})
		join(t, s, "a")
		called := map[int64]bool{}
		var mu sync.Mutex
		var want sync.WaitGroup
		want.Add(2)
		serve(t, s, store.Worker{ID: "a", Pools: []string{"default"}, Slots: 2, Handle: func(_ context.Context, id int64) error {
			mu.Lock()
			defer mu.Unlock()
			if !called[id] {
				called[id] = true
				want.Done()
			}
			return nil
		}})
		want.Wait()
		if r, taken := take(t, s, 2, "a"); !taken || r.Epoch != 1 {
			t.Errorf("the run that was under way: taken %v, epoch %d", taken, r.Epoch)
		}
		startAs(t, s, 3, "a")
		verifyLog(t, s)
	})
}

// TestOlderInstancesQueueRunsBesideNewerOnes: what they queue in the middle of a
// rolling upgrade is the newest run of its target all the same, and what changes
// nothing is not.
func TestOlderInstancesQueueRunsBesideNewerOnes(t *testing.T) {
	onEmpty(t, func(t *testing.T, url string) {
		s := again(t, url)
		admit(t, s, "dev_us-east-1/research/1.0")
		other := admit(t, s, "dev_us-east-1/risk/1.0")
		db := raw(t, url)
		for _, kind := range []string{"deploy", "plan", "drift"} {
			do(t, db, `INSERT INTO runs (kind, repository, release_id, tag, version, object_id, commit_id, env, scope, team, account, state, stages,
				changes, findings, reason, attempt, step, runner_dir, applying, plan_digest, plan_key, approvals_required, approvals, outputs,
				cancelled_by, created_by, created_at, started_at, finished_at) VALUES ($1, 'infra', 1, '', '', '', '', 'dev', 'us-east-1', 'research',
				'a', 'queued', 'null', '{}', '{}', '', 1, 1, '', 0, '', '', 0, 'null', 'null', '', 'ann', 1, 0, 0)`, kind)
		}
		queued := number(t, db, "SELECT max(id) FROM runs WHERE kind = 'deploy'")
		newestAre(t, s, map[string]int64{"research": int64(queued), "risk": other})
	})
}

// newestAre checks which runs the targets of teams name as their newest.
func newestAre(t *testing.T, s *store.Store, want map[string]int64) {
	t.Helper()
	all, err := s.Targets(t.Context())
	if err != nil || len(all) != len(want) {
		t.Fatalf("%d targets, %v", len(all), err)
	}
	runs, err := s.NewestRuns(t.Context())
	if err != nil || len(runs) != len(want) {
		t.Fatalf("%d newest runs, %v", len(runs), err)
	}
	for i, status := range all {
		if id := want[status.Target.Team]; status.Latest == nil || status.Latest.ID != id || runs[i].ID != id || runs[i].Pool == "" {
			t.Errorf("the newest run of %s: %+v and %+v, want %d", status.Target, status.Latest, runs[i], id)
		}
	}
}

// TestAnUpgradeGoesOnAfterADeadlock crosses an upgrade with an instance at work that
// takes what it changes the other way round.
func TestAnUpgradeGoesOnAfterADeadlock(t *testing.T) {
	url := testkit.Postgres(t)
	if err := again(t, url).Close(); err != nil {
		t.Fatal(err)
	}
	db := raw(t, url)
	schemaAt(t, db, url, 17)
	do(t, db, "INSERT INTO targets (env, scope, team, account, region, backend) VALUES ('dev', 'us-east-1', 'risk', 'a', 'us-east-1', '{}')")
	atWork, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer atWork.Close(t.Context())
	does := func(statement string) {
		t.Helper()
		if _, err := atWork.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	does("SET deadlock_timeout = '1h'") // the upgrade is what Postgres ends
	does("BEGIN")
	does("LOCK TABLE runs IN ROW EXCLUSIVE MODE")
	upgraded := make(chan error, 1)
	go func() {
		s, err := store.Open(t.Context(), store.Config{URL: url})
		if err == nil {
			s.Close()
		}
		upgraded <- err
	}()
	for waits := false; !waits; {
		if err := atWork.QueryRow(t.Context(), "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'runs'::regclass)").Scan(&waits); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-upgraded:
			t.Fatalf("nobody waited: %v", err)
		default:
		}
	}
	does("UPDATE targets SET account = 'b'")
	does("COMMIT")
	if err := <-upgraded; err != nil {
		t.Error(err)
	}
	if n := number(t, db, "SELECT count(*) FROM targets WHERE account = 'b' AND newest_run_id = 0"); n != 1 {
		t.Errorf("%d targets are as both left them", n)
	}
}

// TestAFailedUpgradeChangesNothing: the old version can go on, and the upgrade
// is repeated once its obstacle is gone.
func TestAFailedUpgradeChangesNothing(t *testing.T) {
	onEmpty(t, func(t *testing.T, url string) {
		makeOld(t, url)
		db := raw(t, url)
		do(t, db, "CREATE TABLE configs (mine text)")
		if s, err := store.Open(t.Context(), store.Config{URL: url}); err == nil {
			s.Close()
			t.Fatal("upgraded over a table of somebody else")
		}
		if _, err := db.ExecContext(t.Context(), "SELECT 1 FROM instances"); err == nil {
			t.Error("a part of the upgrade was kept")
		}
		if n := number(t, db, "SELECT count(*) FROM river_job"); n != 2 {
			t.Errorf("%d calls are left", n)
		}
		do(t, db, "DROP TABLE configs")
		s := again(t, url)
		verifyLog(t, s)
		join(t, s, "a")
	})
}

func TestANewerDatabaseIsRefused(t *testing.T) {
	onEmpty(t, func(t *testing.T, url string) {
		if err := again(t, url).Close(); err != nil {
			t.Fatal(err)
		}
		insert := "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)"
		if strings.HasPrefix(url, "sqlite") {
			insert = "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)"
		}
		do(t, raw(t, url), insert)
		_, err := store.Open(t.Context(), store.Config{URL: url})
		if !errors.Is(err, release.ErrRefused) || !strings.Contains(err.Error(), "version 99") {
			t.Errorf("got %v", err)
		}
	})
}

// TestAnOlderServiceAtWorkIsNotUpgradedUnder: versions that know no others hold
// a lock of Postgres for as long as they drive runs.
func TestAnOlderServiceAtWorkIsNotUpgradedUnder(t *testing.T) {
	url := testkit.Postgres(t)
	makeOld(t, url)
	older, err := raw(t, url).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer older.Close()
	if _, err := older.ExecContext(t.Context(), "SELECT pg_advisory_lock(x'776d6b2d776f726b'::bigint)"); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), store.Config{URL: url}); !errors.Is(err, release.ErrConflict) {
		t.Errorf("while it is at work: %v, want ErrConflict", err)
	}
	if n := number(t, raw(t, url), "SELECT max(version_id) FROM goose_db_version"); n != 1 {
		t.Errorf("the schema has version %d under an older service", n)
	}
	if _, err := older.ExecContext(t.Context(), "SELECT pg_advisory_unlock_all()"); err != nil {
		t.Fatal(err)
	}
	again(t, url)
}

// TestReplicasMigrateOneAfterTheOther: several processes that start at once on
// one Postgres all find the schema whole.
func TestReplicasMigrateOneAfterTheOther(t *testing.T) {
	url := testkit.Postgres(t)
	makeOld(t, url)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			s, err := store.Open(t.Context(), store.Config{URL: url})
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if err := s.Join(t.Context(), store.Instance{ID: fmt.Sprint(i)}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestOpenRefusesWhatItCannotUse(t *testing.T) {
	for _, url := range []string{"", "sqlite:relative.db", "sqlite://relative.db", "mysql://x", "postgres://%zz"} {
		if _, err := store.Open(t.Context(), store.Config{URL: url}); !errors.Is(err, release.ErrInvalid) {
			t.Errorf("%q: %v", url, err)
		}
	}
	_, err := store.Open(t.Context(), store.Config{URL: "postgres://127.0.0.1:1/x?connect_timeout=1"})
	if !errors.Is(err, release.ErrUnavailable) {
		t.Errorf("nobody listens: %v", err)
	}
}
