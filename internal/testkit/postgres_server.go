package testkit

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// PostgresServer is a PostgreSQL server of one test alone, which may be
// restarted: what it committed is still there after that.
type PostgresServer struct {
	t testing.TB
	c *cluster
}

// NewPostgresServer starts a server, which ends with the test. Fails and skips
// as Postgres does.
func NewPostgresServer(t testing.TB) *PostgresServer {
	t.Helper()
	if testing.Short() {
		t.Skip("needs PostgreSQL; left out with -short")
	}
	c, err := startCluster("again", "-c", "synchronous_commit=on")
	if err != nil {
		t.Fatalf("starting PostgreSQL: %v", err)
	}
	t.Cleanup(func() {
		if err := c.stop(); err != nil {
			t.Error(err)
		}
	})
	return &PostgresServer{t: t, c: c}
}

// URL is that of the server's database postgres, by its socket.
func (s *PostgresServer) URL() string { return s.c.url("postgres") }

// Socket is the path of the server's socket, for a proxy before it. It is there
// while the server runs.
func (s *PostgresServer) Socket() string { return filepath.Join(s.c.dir, ".s.PGSQL.5432") }

// Restart stops the server as pg_ctl does with -m immediate: every connection
// breaks, nothing is written down in order. The server comes back by itself,
// after it has recovered; Restart does not wait for that. A server that is not
// up just now is left to come up.
func (s *PostgresServer) Restart() {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.c.dir, "data", "postmaster.pid"))
	if err != nil {
		return
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err == nil && pid < 2 {
		err = fmt.Errorf("no process has the id %d", pid)
	}
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGQUIT)
	}
	if err != nil {
		s.t.Logf("restarting PostgreSQL: %v", err)
	}
}
