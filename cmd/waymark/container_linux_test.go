package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/release"
)

// inContainer makes a command process 1 of process and mount namespaces of its
// own, as a container engine does: when it ends, the kernel kills whatever else
// is in there.
func inContainer(cmd *exec.Cmd) {
	const script = `mount --make-rprivate / && mount -t proc proc /proc && exec "$0" "$@"`
	cmd.Args = append([]string{"sh", "-c", script}, cmd.Args...)
	cmd.Path = "/bin/sh"
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
}

// needContainers leaves a test out where namespaces are forbidden.
func needContainers(t *testing.T) {
	t.Helper()
	cmd := exec.Command("sh", "-c", `test "$$" = 1`)
	inContainer(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("no process and mount namespaces can be made here (%v: %s): run the test as root, or where unprivileged user namespaces are allowed", err, out)
	}
}

// processesIn lists the processes of this machine that are at work beneath a folder.
func processesIn(t *testing.T, dir string) (pids []int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if at, err := os.Readlink(filepath.Join(p, "cwd")); err == nil && strings.HasPrefix(at, dir+"/") {
			pid, _ := strconv.Atoi(filepath.Base(p))
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestContainersThatStop stops containers in the middle of applies in the ways in
// which that happens. An apply that has the time ends well; one that is cut off
// is unknown, for another instance to see, and is not repeated.
func TestContainersThatStop(t *testing.T) {
	needContainers(t)
	f := newFleet(t, 2, "")
	f.remote.Commit(f.countsApplies("0"))
	for _, r := range f.all { // the same services, each in a container now
		r.stop()
		r.contain = inContainer
		r.start()
	}
	f.ask(f.all[0])
	for i, c := range []struct {
		how  string
		stop func(r *replica, letGo func())
		want release.State
	}{
		{"killed", func(r *replica, _ func()) { r.kill() }, release.Unknown},
		{"stopped for longer than the grace", func(r *replica, _ func()) { r.stop() }, release.Unknown},
		{"stopped for less than the grace", f.stopInTime, release.Succeeded},
		{"drained, then killed", f.drainAndKill, release.Succeeded},
	} {
		t.Log(c.how)
		tag := []string{fleetTag, "dev_eu-central-1/research/1.0", "dev_us-east-1/risk/1.0", "dev_eu-central-1/risk/1.0"}[i]
		before := f.sum()
		f.hold("apply")
		f.push(tag)
		r := f.ranOn(fmt.Sprintf("%d/1/tree/began", i+1))
		if len(processesIn(t, r.dir)) == 0 {
			t.Fatal("no process is at work on the apply; does this test still see them?")
		}
		f.ask(f.other(r))
		letGo := sync.OnceFunc(func() { f.letGo("apply") })
		c.stop(r, letGo)
		f.await("the end of the container's last process", func() bool { return len(processesIn(t, r.dir)) == 0 })
		f.until(tag, c.want)
		letGo()
		r.start() // on the same volume
		f.ask(r)
		f.until(tag, c.want)
		if got, want := f.sum()-before, map[release.State]int{release.Succeeded: 1}[c.want]; got != want {
			t.Errorf("%s: %d applies were carried out, want %d", c.how, got, want)
		}
	}
	wantText(t, f.mustCLI("audit", "verify"), "verified:")
}

// stopInTime stops a service whose apply ends within the grace.
func (f *fleet) stopInTime(r *replica, letGo func()) {
	stop, stopped, said := r.stop, make(chan struct{}), len(r.log.String())
	go func() { stop(); close(stopped) }()
	f.await("the signal to be heard", func() bool { return strings.Contains(r.log.String()[said:], "stopping: nothing new is taken up") })
	letGo()
	<-stopped
}

// drainAndKill is a container engine with a stop hook: it runs the hook in the
// container and waits for it.
func (f *fleet) drainAndKill(r *replica, letGo func()) {
	hook := exec.CommandContext(f.t.Context(), "nsenter", "--target", strconv.Itoa(r.pid()), "--pid", "--mount")
	if os.Geteuid() != 0 {
		hook.Args = append(hook.Args, "--user", "--preserve-credentials")
	}
	hook.Args = append(hook.Args, os.Args[0], "drain", "--wait", "--reason", "the container stops", "--server", r.server)
	ended := make(chan string, 1)
	go func() {
		out, err := hook.CombinedOutput()
		ended <- fmt.Sprintf("%v: %s", err, out)
	}()
	f.await("the instance to drain", func() bool {
		list, err := r.client.Instances(f.t.Context())
		if err != nil {
			f.t.Fatal(err)
		}
		for _, i := range list.Instances {
			if i.ID == list.Self && i.State == api.InstanceDraining {
				return true
			}
		}
		return false
	})
	select {
	case said := <-ended:
		f.t.Errorf("drain --wait did not wait: %s", said)
	default:
	}
	letGo()
	wantText(f.t, <-ended, "<nil>: ", "1 run in hand", "is draining, 0 runs in hand")
	r.kill()
}

// sum counts all applies that were carried out.
func (f *fleet) sum() (n int) {
	for _, applies := range f.applied() {
		n += applies
	}
	return n
}
