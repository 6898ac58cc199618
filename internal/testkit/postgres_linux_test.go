package testkit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"
)

// childEnv is set where the test binary is run again to be killed.
const childEnv = "WAYMARK_TESTKIT_CHILD"

func TestPostgresDatabasesAreApart(t *testing.T) {
	first, second := connect(t, Postgres(t)), connect(t, Postgres(t))
	ctx := t.Context()
	if _, err := first.Exec(ctx, "CREATE TABLE things (n int)"); err != nil {
		t.Fatal(err)
	}
	var table *string
	if err := second.QueryRow(ctx, "SELECT to_regclass('things')::text").Scan(&table); err != nil || table != nil {
		t.Errorf("the second database knows the first one's table: %v, %v", table, err)
	}
	var encoding string
	if err := second.QueryRow(ctx, "SHOW server_encoding").Scan(&encoding); err != nil || encoding != "UTF8" {
		t.Errorf("encoding = %q, %v, want UTF8", encoding, err)
	}
}

func TestPostgresDatabaseIsDroppedAtTheEnd(t *testing.T) {
	var url string
	t.Run("in use", func(t *testing.T) {
		url = Postgres(t)
		conn, err := pgx.Connect(t.Context(), url) // left open on purpose
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	if conn, err := pgx.Connect(t.Context(), url); err == nil {
		_ = conn.Close(t.Context())
		t.Error("the database is still there after its test")
	}
}

func TestPostgresStopLeavesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL; left out with -short")
	}
	c, err := startCluster("once")
	if err != nil {
		t.Fatal(err)
	}
	server := serverPidfd(t, c.dir)
	if err := c.stop(); err != nil {
		t.Error(err)
	}
	awaitEnd(t, server, "the server")
}

func TestPostgresEndsWithAKilledTestBinary(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL; left out with -short")
	}
	child := exec.Command(os.Args[0], "-test.run=^TestPostgresChild$")
	child.Env = append(os.Environ(), childEnv+"=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	var dir string
	var supervisorPID int
	if _, scanErr := fmt.Sscanf(line, "cluster %s %d", &dir, &supervisorPID); scanErr != nil {
		t.Fatalf("the child said %q (%v), want its cluster", line, err)
	}
	server, supervisor := serverPidfd(t, dir), pidfd(t, supervisorPID)
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	awaitEnd(t, server, "the server")
	awaitEnd(t, supervisor, "its supervisor")
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cluster's folder is still there: %v", err)
	}
}

// TestPostgresChild is the test binary that TestPostgresEndsWithAKilledTestBinary kills.
func TestPostgresChild(t *testing.T) {
	if os.Getenv(childEnv) == "" {
		t.Skip("plays a part in another test")
	}
	_ = Postgres(t)
	c, err := theCluster()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("cluster %s %d\n", c.dir, c.supervisor.Process.Pid)
	select {} // until it is killed
}

func TestPostgresMissingNamesThePackage(t *testing.T) {
	if dir, err := postgresPrograms(t.TempDir(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "package postgresql") {
		t.Errorf("postgresPrograms = %q, %v, want an error that names the package", dir, err)
	}
}

func TestPostgresNewestIsTaken(t *testing.T) {
	debian := t.TempDir()
	for _, major := range []string{"9.6", "15", "16"} {
		for _, program := range []string{"initdb", "postgres"} {
			if major == "16" && program == "postgres" {
				continue // only the client's half of 16 is installed
			}
			file := filepath.Join(debian, major, "bin", program)
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o755)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if dir, err := postgresPrograms(debian, ""); err != nil || dir != filepath.Join(debian, "15", "bin") {
		t.Errorf("postgresPrograms = %q, %v, want that of 15", dir, err)
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// serverPidfd returns a handle on the server whose cluster lies in dir.
func serverPidfd(t *testing.T, dir string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(text), &pid); err != nil {
		t.Fatal(err)
	}
	return pidfd(t, pid)
}

func pidfd(t *testing.T, pid int) int {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// awaitEnd fails the test unless the process behind the handle fd ends within 30 s.
func awaitEnd(t *testing.T, fd int, what string) {
	t.Helper()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 30_000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n != 1 {
			t.Fatalf("%s is still running (%v)", what, err)
		}
		return
	}
}
