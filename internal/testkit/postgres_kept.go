package testkit

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// keepScript is superviseScript for a server whose data outlives the test binary:
// it is stopped in order, and its data stays.
// Arguments: the folder of PostgreSQL's programs, that of its socket, that of its
// data, and the server's further arguments.
const keepScript = `
bin=$1 dir=$2 data=$3
shift 3
exec 3<&0 </dev/null
[ -e "$data/PG_VERSION" ] || "$bin/initdb" -D "$data" -U postgres --auth=trust --encoding=UTF8 --locale=C --no-sync >&2 || { rm -rf "$dir"; exit 1; }
"$bin/postgres" -D "$data" -c listen_addresses= -c unix_socket_directories="$dir" "$@" 3<&- >&2 &
server=$!
{ read -r _ <&3; kill -INT $server; } >/dev/null 2>&1 &
watcher=$!
wait $server
kill $watcher 2>/dev/null
rm -rf "$dir"
`

// PostgresIn starts a server over a folder of its own, which is made where there
// is none and stays, and gives the URL of its database postgres. The server ends
// with the test. Fails and skips as Postgres does.
func PostgresIn(t testing.TB, data string, settings ...string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs PostgreSQL; left out with -short")
	}
	c, err := keepCluster(data, settings)
	if err != nil {
		t.Fatalf("starting PostgreSQL over %s: %v", data, err)
	}
	t.Cleanup(func() {
		if err := c.stop(); err != nil {
			t.Error(err)
		}
	})
	return c.url("postgres")
}

func keepCluster(data string, settings []string) (*cluster, error) {
	bin, err := postgresPrograms("/usr/lib/postgresql", os.Getenv("PATH"))
	if err != nil {
		return nil, err
	}
	owner, err := postgresOwner()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("/tmp", "waymark-pg-") // as startCluster does
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/bin/sh", append([]string{"-c", keepScript, "sh", bin, dir, data}, settings...)...)
	cmd.Dir, cmd.Env = dir, []string{"PATH=/usr/bin:/bin", "HOME=" + dir, "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: owner}
	if err = os.MkdirAll(filepath.Dir(data), 0o755); err == nil {
		err = os.Mkdir(data, 0o700)
	}
	if errors.Is(err, os.ErrExist) {
		err = nil
	}
	if owner != nil && err == nil {
		err = errors.Join(os.Chown(dir, int(owner.Uid), int(owner.Gid)), os.Chown(data, int(owner.Uid), int(owner.Gid)))
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
