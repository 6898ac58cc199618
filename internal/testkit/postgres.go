package testkit

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// postgresTimeout bounds the start of the cluster and each statement that
// creates or drops a database; a healthy one takes about a second.
const postgresTimeout = time.Minute

// superviseScript runs one PostgreSQL server for as long as standard input
// stays open, then stops it and removes its folder. Nobody writes to standard
// input: it ends when the test binary ends, whether that returns, panics or is
// killed, so that neither a process nor a file is left behind. With "again" a
// server that ends before is started anew.
// Arguments: the folder of PostgreSQL's programs, the cluster's folder, "once"
// or "again", and the server's further arguments.
const superviseScript = `
bin=$1 dir=$2 often=$3
shift 3
exec 3<&0 </dev/null
"$bin/initdb" -D "$dir/data" -U postgres --auth=trust --encoding=UTF8 --locale=C --no-sync >&2 || { rm -rf "$dir"; exit 1; }
while :; do
	"$bin/postgres" -D "$dir/data" -c listen_addresses= -c unix_socket_directories="$dir" -c max_connections=300 \
		-c fsync=off -c synchronous_commit=off -c full_page_writes=off "$@" 3<&- >&2 &
	server=$!
	{ read -r _ <&3; : >"$dir/over"; kill -QUIT $server; } >/dev/null 2>&1 &
	watcher=$!
	wait $server
	kill $watcher 2>/dev/null
	[ "$often" = again ] && [ ! -e "$dir/over" ] || break
done
rm -rf "$dir"
`

// theCluster starts the one cluster of this test binary on the first call. It
// is the package's only state, because starting a cluster per test would take
// longer than the tests.
var theCluster = sync.OnceValues(func() (*cluster, error) { return startCluster("once") })

// Postgres returns the URL of a fresh, empty PostgreSQL database, which is
// dropped when the test ends. The databases of one test binary live in one
// throw-away cluster, which is reached by a socket in a temporary folder and
// ends with the test binary, however that ends. No set-up is needed in TestMain.
//
// Where PostgreSQL is not installed the test fails and names the package;
// with -short it is skipped.
func Postgres(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs PostgreSQL; left out with -short")
	}
	c, err := theCluster()
	if err != nil {
		t.Fatalf("starting PostgreSQL: %v", err)
	}
	name := fmt.Sprintf("waymark_%d", c.databases.Add(1))
	if err := c.exec("CREATE DATABASE " + name); err != nil {
		t.Fatalf("creating database %s: %v", name, err)
	}
	t.Cleanup(func() {
		if err := c.exec("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			t.Errorf("dropping database %s: %v", name, err)
		}
	})
	return c.url(name)
}

// cluster is a running PostgreSQL server.
type cluster struct {
	dir        string // its data and its socket
	supervisor *exec.Cmd
	stdin      io.Closer // open for as long as the server is to run
	databases  atomic.Int64
}

// startCluster makes and starts a cluster, and returns when it accepts
// connections. How often and settings are arguments of superviseScript.
func startCluster(often string, settings ...string) (*cluster, error) {
	bin, err := postgresPrograms("/usr/lib/postgresql", os.Getenv("PATH"))
	if err != nil {
		return nil, err
	}
	owner, err := postgresOwner()
	if err != nil {
		return nil, err
	}
	// Not os.TempDir: the path of a socket is limited to about 100 bytes, and the
	// server's user must be able to reach it.
	dir, err := os.MkdirTemp("/tmp", "waymark-pg-")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/bin/sh", append([]string{"-c", superviseScript, "sh", bin, dir, often}, settings...)...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + dir, "LC_ALL=C"}
	// A group of its own: an interrupt from the keyboard must not stop the
	// supervisor before it has cleaned up.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: owner}
	if owner != nil {
		err = os.Chown(dir, int(owner.Uid), int(owner.Gid))
	}
	c := &cluster{dir: dir, supervisor: cmd}
	if err == nil {
		err = c.start()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return c, nil
}

// start runs the supervisor and waits until the server says that it is ready.
func (c *cluster) start() error {
	stdin, err := c.supervisor.StdinPipe()
	if err != nil {
		return err
	}
	stderr, err := c.supervisor.StderrPipe()
	if err != nil {
		return err
	}
	if err := c.supervisor.Start(); err != nil {
		return err
	}
	c.stdin = stdin
	ready := make(chan error, 1)
	go awaitReady(stderr, ready) // reads for as long as the server lives, so that it never blocks on its log
	select {
	case err = <-ready:
	case <-time.After(postgresTimeout):
		err = fmt.Errorf("the server did not become ready within %s", postgresTimeout)
	}
	if err != nil {
		stdin.Close()
		return errors.Join(err, c.supervisor.Wait())
	}
	return nil
}

// awaitReady reads the server's log to its end and sends one value to ready:
// nil when the server accepts connections, or what the log said before it ended.
func awaitReady(log io.Reader, ready chan<- error) {
	var last []string
	waiting := true
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if !waiting {
			continue
		}
		if strings.Contains(lines.Text(), "database system is ready to accept connections") {
			ready <- nil
			waiting = false
		}
		last = append(last[max(0, len(last)-9):], lines.Text())
	}
	if waiting {
		ready <- fmt.Errorf("the server ended before it was ready:\n%s", strings.Join(last, "\n"))
	}
	_, _ = io.Copy(io.Discard, log) // after a line that is too long to scan
}

// stop ends the server and waits until its folder is gone. Test binaries need
// not call it: their end does the same.
func (c *cluster) stop() error {
	c.stdin.Close()
	_ = c.supervisor.Wait() // its status is that of the server, which was told to quit
	if _, err := os.Stat(c.dir); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the cluster's folder %s is still there: %v", c.dir, err)
	}
	return nil
}

// url returns the URL of one database of the cluster.
func (c *cluster) url(database string) string {
	return "postgres://postgres@/" + database + "?host=" + url.QueryEscape(c.dir)
}

// exec runs one statement in a connection of its own.
func (c *cluster) exec(statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), postgresTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.url("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statement)
	return err
}

// postgresPrograms finds the folder that holds initdb and postgres: the newest
// under debian, where Debian keeps them outside PATH, or else one on path.
func postgresPrograms(debian, path string) (string, error) {
	dirs, err := filepath.Glob(filepath.Join(debian, "*", "bin"))
	if err != nil {
		return "", err
	}
	slices.SortFunc(dirs, func(a, b string) int { return cmp.Compare(majorVersion(b), majorVersion(a)) })
	for _, dir := range filepath.SplitList(path) {
		if real, err := filepath.EvalSymlinks(filepath.Join(dir, "initdb")); err == nil {
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	for _, dir := range dirs {
		if isExecutable(filepath.Join(dir, "initdb")) && isExecutable(filepath.Join(dir, "postgres")) {
			return dir, nil
		}
	}
	return "", errors.New("PostgreSQL is not installed: install the package postgresql, or leave these tests out with make test-short")
}

// majorVersion reads the number from a folder such as …/15/bin.
func majorVersion(dir string) int {
	major, _, _ := strings.Cut(filepath.Base(filepath.Dir(dir)), ".")
	n, _ := strconv.Atoi(major)
	return n
}

// postgresOwner returns the user that the server runs as when the tests run as
// root, because the server refuses to run as root; otherwise nil.
func postgresOwner() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return nil, fmt.Errorf("reading the ids of user %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("the tests run as root, PostgreSQL does not, and there is neither a user postgres nor nobody")
}
