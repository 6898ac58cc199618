package runner

import (
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func requireSandbox(t *testing.T) *sandbox {
	t.Helper()
	box, note, err := newSandbox("require")
	if err != nil || note != "" {
		t.Fatalf("this kernel cannot run the test: %v %s", err, note)
	}
	return box
}

// TestNetworkIsCutTwice holds that Landlock alone and a namespace alone keep a
// process from TCP, so that either is enough where the other is missing.
func TestNetworkIsCutTwice(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	box := requireSandbox(t)
	workers := &threads{active: map[int]bool{}}
	for _, tt := range []struct {
		name      string
		landlock  bool
		namespace bool
		connects  bool
	}{{"neither", false, false, true}, {"landlock", true, false, false}, {"namespace", false, true, false}, {"both", true, true, false}} {
		t.Run(tt.name, func(t *testing.T) {
			err := workers.run(func() error {
				if tt.landlock {
					if err := box.restrict(access{read: systemPaths(), noNetwork: true}); err != nil {
						t.Error(err)
					}
				}
				cmd := exec.Command("/bin/bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/"+port)
				if tt.namespace {
					box.isolate(cmd)
				}
				return cmd.Run()
			})
			if (err == nil) != tt.connects {
				t.Errorf("connected: %v (%v), want %v", err == nil, err, tt.connects)
			}
		})
	}
}

// TestRestrictionEndsWithItsThread holds that a sandbox never reaches the
// runner's own work.
func TestRestrictionEndsWithItsThread(t *testing.T) {
	box := requireSandbox(t)
	workers := &threads{active: map[int]bool{}}
	path := t.TempDir() + "/file"
	for range 20 {
		err := workers.run(func() error {
			if err := box.restrict(access{read: systemPaths()}); err != nil {
				t.Error(err)
			}
			return os.WriteFile(path, nil, 0o600)
		})
		if !os.IsPermission(err) {
			t.Fatalf("within the sandbox: %v, want a refusal", err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatalf("outside the sandbox: %v", err)
		}
		os.Remove(path)
	}
}

// TestToolsCannotReadOtherProcesses holds that no tool sees the environment or
// the memory of the service and of other runners, also where all are root.
func TestToolsCannotReadOtherProcesses(t *testing.T) {
	box := requireSandbox(t)
	workers := &threads{active: map[int]bool{}}
	proc := "/proc/" + strconv.Itoa(os.Getpid())
	for _, script := range []string{"head -c 1 " + proc + "/environ", "head -c 0 " + proc + "/mem", "readlink " + proc + "/fd/0"} {
		var out []byte
		err := workers.run(func() (err error) {
			if err := box.restrict(access{read: systemPaths()}); err != nil {
				t.Error(err)
			}
			out, err = exec.Command("/bin/sh", "-c", script).CombinedOutput()
			return err
		})
		if err == nil {
			t.Errorf("%s: %q, want a refusal", script, out)
		}
	}
}

// TestToolsCannotLimitOtherProcesses holds that a tool sets limits for itself
// alone: one on the service's time or files would end it.
func TestToolsCannotLimitOtherProcesses(t *testing.T) {
	box := requireSandbox(t)
	workers := &threads{active: map[int]bool{}}
	pid := strconv.Itoa(os.Getpid())
	for script, works := range map[string]bool{
		"prlimit --pid " + pid + " --rss=4000000000": false, // Linux ignores this limit
		"ulimit -n 100 && test $(ulimit -n) = 100":   true,
	} {
		var out []byte
		err := workers.run(func() (err error) {
			if err := box.restrict(access{read: systemPaths()}); err != nil {
				t.Error(err)
			}
			out, err = exec.Command("/bin/sh", "-c", script).CombinedOutput()
			return err
		})
		if (err == nil) != works {
			t.Errorf("%s: %v %s", script, err, out)
		}
	}
}

// TestLeftoversOfOneToolOnly holds that the end of one tool kills what it left
// behind, through fork, fork and a session of its own, and spares a tool that
// is at work.
func TestLeftoversOfOneToolOnly(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	if err := checkChildren(); err != nil {
		t.Fatal(err)
	}
	workers := &threads{active: map[int]bool{}}
	started, release, ended := make(chan bool), make(chan bool), make(chan error, 1)
	go func() {
		ended <- workers.run(func() error {
			cmd := exec.Command("/bin/sh", "-c", "read line; test \"$line\" = go")
			in, err := cmd.StdinPipe()
			if err != nil {
				return err
			}
			if err := cmd.Start(); err != nil {
				return err
			}
			started <- true
			<-release
			in.Write([]byte("go\n"))
			in.Close()
			return cmd.Wait()
		})
	}()
	<-started
	file := t.TempDir() + "/pid"
	err := workers.run(func() error {
		cmd := exec.Command("/bin/sh", "-c", "(setsid sh -c 'echo $$ > $0; sleep 300 & sleep 300' $0 &); until test -s $0; do :; done", file)
		return cmd.Run()
	})
	if err != nil {
		t.Fatal(err)
	}
	pid, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	proc := "/proc/" + strings.TrimSpace(string(pid))
	if _, err := os.Stat(proc); err != nil {
		t.Fatalf("nothing was left behind: %v", err)
	}
	if err := workers.killLeftovers(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(proc); err == nil {
		t.Errorf("process %s still lives", pid)
	}
	if orphans, err := workers.orphans(); err != nil || len(orphans) > 0 {
		t.Errorf("left: %v, %v", orphans, err)
	}
	close(release)
	if err := <-ended; err != nil {
		t.Errorf("the tool at work was disturbed: %v", err)
	}
}

func TestPanicOnAToolsThread(t *testing.T) {
	workers := &threads{active: map[int]bool{}}
	if err := workers.run(func() error { panic("oh") }); err == nil || !strings.Contains(err.Error(), "oh") {
		t.Errorf("error %v, want the panic's", err)
	}
	if len(workers.active) != 0 {
		t.Errorf("threads at work: %v", workers.active)
	}
}
