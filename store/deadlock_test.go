package store_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// TestADeadlockIsTriedAgain crosses the calls of two runs with somebody who takes
// them the other way round, as the queue may when it keeps its books.
func TestADeadlockIsTriedAgain(t *testing.T) {
	url := testkit.Postgres(t)
	s, err := store.Open(t.Context(), store.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	first, second := admit(t, s, "dev_us-east-1/research/1.0"), admit(t, s, "dev_us-east-1/risk/1.0")
	for _, id := range []int64{first, second} {
		wait(t, s, id, time.Now().Add(-time.Hour), "")
	}
	if err := s.WakeDue(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	other, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(t.Context())
	books := func(statement string, args ...any) {
		t.Helper()
		if _, err := other.Exec(t.Context(), statement, args...); err != nil {
			t.Fatal(err)
		}
	}
	const take = "SELECT 1 FROM river_job WHERE (args->>'run_id')::bigint = $1 FOR UPDATE"
	books("SET deadlock_timeout = '1h'") // the store is the one that Postgres ends
	books("BEGIN")
	books(take, second)
	woken := make(chan error, 1)
	go func() { woken <- s.WakeDue(t.Context(), time.Now()) }()
	for waits := false; !waits; { // for the second call, with the first in its hand
		if err := other.QueryRow(t.Context(), "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted)").Scan(&waits); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-woken:
			t.Fatalf("nobody waited: %v", err)
		default:
		}
	}
	books(take, first)
	books("COMMIT")
	if err := <-woken; err != nil {
		t.Error(err)
	}
	if r, err := s.Run(t.Context(), first); err != nil || r.State != release.Queued {
		t.Errorf("%v, %v", r.State, err)
	}
}
