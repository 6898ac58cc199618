package storm

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/internal/testkit"
)

// replica is one process of the service, with its own data folder and its own
// way to the database. The storm's goroutine alone changes it.
type replica struct {
	name     string
	data     string // its data folder
	address  string
	log      string // file, to which every process of it appends
	waymark  string
	config   string
	env      []string
	database *testkit.Proxy
	spawn    *spawner
	client   *api.Client
	small    bool // its data folder is a file system of its own, which can be filled

	cmd     *exec.Cmd
	over    chan struct{} // closed when cmd has ended
	stopped bool          // by SIGSTOP
	leave   bool          // it is down, and will be started when its time comes
}

// start starts the replica's process; it does not wait until it answers.
func (r *replica) start() error {
	out, err := os.OpenFile(r.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(r.waymark, "serve", "--config", r.config, "--name", r.name)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.Dir = r.env, out, out, filepath.Dir(r.log)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := r.spawn.start(cmd); err != nil {
		return fmt.Errorf("starting %s: %w", r.name, err)
	}
	r.cmd, r.over, r.stopped, r.leave = cmd, make(chan struct{}), false, false
	go func(over chan struct{}) { _ = cmd.Wait(); close(over) }(r.over)
	return nil
}

// up reports whether the replica's process is there and not stopped.
func (r *replica) up() bool { return r.running() && !r.stopped }

func (r *replica) running() bool {
	if r.cmd == nil {
		return false
	}
	select {
	case <-r.over:
		return false
	default:
		return true
	}
}

// signal sends a signal to the replica's process alone.
func (r *replica) signal(s syscall.Signal) { _ = r.cmd.Process.Signal(s) }

// kill ends the process at once and returns when it is gone.
func (r *replica) kill() {
	if r.running() {
		r.signal(syscall.SIGKILL)
		<-r.over
	}
}

// machine lists the processes that work in the replica's data folder: its
// runners and what they started.
func (r *replica) machine() []process {
	return slices.DeleteFunc(processes(r.data), func(p process) bool { return r.running() && p.pid == r.cmd.Process.Pid })
}

// runners lists those of them that own a phase of a run.
func (r *replica) runners() []process {
	return slices.DeleteFunc(r.machine(), func(p process) bool { return !p.isRunner() })
}

// spawner starts processes that are killed when this one ends, however it ends.
// The kernel watches the thread that started them, so one is kept for it.
type spawner struct {
	asked chan func()
	done  chan struct{}
}

func newSpawner(t *testing.T) *spawner {
	s := &spawner{make(chan func()), make(chan struct{})}
	go func() {
		runtime.LockOSThread()
		for f := range s.asked {
			f()
		}
		close(s.done)
	}()
	t.Cleanup(func() { close(s.asked); <-s.done })
	return s
}

func (s *spawner) start(cmd *exec.Cmd) error {
	err := make(chan error, 1)
	s.asked <- func() { err <- cmd.Start() }
	return <-err
}

// freeAddress finds an address of loopback that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// smallDisk gives the folder a file system of its own, of 128 MB, where that
// is allowed.
func smallDisk(t *testing.T, dir string) error {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=128m,mode=0700"); err != nil {
		return fmt.Errorf("mounting a small disk: %w", err)
	}
	t.Cleanup(func() {
		if t.Failed() { // what lies on it may tell why
			_ = os.CopyFS(dir+"-kept", os.DirFS(dir))
		}
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmounting the small disk: %v", err)
		}
	})
	return nil
}

// fillDisk writes a file until nothing more goes; emptyDisk removes it.
func fillDisk(dir string) {
	f, err := os.Create(filepath.Join(dir, "filling"))
	if err != nil {
		return
	}
	defer f.Close()
	for block := make([]byte, 64<<10); len(block) > 0; {
		if _, err := f.Write(block); err != nil {
			block = block[:len(block)/2] // to the last byte
		}
	}
}

func emptyDisk(dir string) { _ = os.Remove(filepath.Join(dir, "filling")) }

// soon runs ok until it says yes, or the time is over.
func soon(within time.Duration, ok func() bool) bool {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			return false
		case <-tick.C:
		}
	}
	return true
}
