package testkit

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestPostgresServerKeepsWhatItCommitted restarts a server in the middle of
// another session's work: what was committed is there, and nothing else.
func TestPostgresServerKeepsWhatItCommitted(t *testing.T) {
	s := NewPostgresServer(t)
	before := connect(t, s.URL())
	if _, err := before.Exec(t.Context(), "CREATE TABLE things (n int)"); err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		if _, err := before.Exec(t.Context(), "INSERT INTO things VALUES ($1)", n); err != nil {
			t.Fatal(err)
		}
		other := connect(t, s.URL())
		tx, err := other.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), "INSERT INTO things VALUES (100)"); err != nil {
			t.Fatal(err)
		}
		s.Restart()
		awaitBreak(t, before)
		before = reconnect(t, s.URL())
		var all, sum int
		if err := before.QueryRow(t.Context(), "SELECT count(*), sum(n) FROM things").Scan(&all, &sum); err != nil || all != n+1 || sum != n*(n+1)/2 {
			t.Fatalf("after restart %d: %d things, sum %d, %v", n+1, all, sum, err)
		}
	}
}

// awaitBreak waits until the server has broken the connection.
func awaitBreak(t *testing.T, c *pgx.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), postgresTimeout)
	defer cancel()
	if _, err := c.Exec(ctx, "SELECT pg_sleep(3600)"); err == nil || ctx.Err() != nil {
		t.Fatalf("the connection outlived the server: %v", err)
	}
}

// reconnect tries until the server takes connections again.
func reconnect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), postgresTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := pgx.Connect(ctx, url)
		if err == nil {
			t.Cleanup(func() { _ = c.Close(context.WithoutCancel(ctx)) })
			return c
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the server did not come back: %v", err)
		case <-tick.C:
		}
	}
}
