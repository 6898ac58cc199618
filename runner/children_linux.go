package runner

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// threads runs tools on OS threads of their own and knows which are at work.
//
// Every tool is started by its own thread, so /proc/self/task/<tid>/children
// lists the root process of every tool that is at work, and nothing else. What
// is not beneath one of those threads was left behind by a tool that has ended:
// the runner is a subreaper, so an orphan, also one that has made a session of
// its own, becomes a child of the runner's first thread.
type threads struct {
	mu     sync.Mutex
	active map[int]bool // by thread id
}

// run calls fn on a thread of its own and returns when fn has. The thread is
// never used again: what fn does to it, such as a sandbox, ends with it.
func (t *threads) run(fn func() error) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		tid := unix.Gettid()
		if tid == os.Getpid() {
			// The first thread adopts orphans: keep it busy, take another.
			err = t.run(fn)
			runtime.UnlockOSThread()
			return
		}
		t.mu.Lock()
		t.active[tid] = true
		t.mu.Unlock()
		defer func() {
			t.mu.Lock()
			delete(t.active, tid)
			t.mu.Unlock()
		}()
		err = guard(fn)
	}()
	<-done
	return err
}

// killTime bounds how long killed processes may take to disappear. Only one
// that hangs in the kernel can reach it.
const killTime = 5 * time.Second

// killLeftovers kills every descendant of this process that is not beneath a
// thread at work, until there is none. No tool can start meanwhile.
func (t *threads) killLeftovers() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	deadline := time.Now().Add(killTime)
	for {
		orphans, err := t.orphans()
		if err != nil || len(orphans) == 0 {
			return err
		}
		for _, pid := range orphans {
			for _, p := range append(descendants(pid), pid) {
				_ = unix.Kill(p, unix.SIGKILL)
			}
		}
		for _, pid := range orphans {
			if !reap(pid, deadline) {
				return fmt.Errorf("process %d, left behind by a tool, does not end", pid)
			}
		}
	}
}

// orphans lists the runner's own children that no thread at work has started.
func (t *threads) orphans() ([]int, error) {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil, fmt.Errorf("looking for processes left behind: %w", err)
	}
	var found []int
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil || t.active[tid] {
			continue
		}
		found = append(found, children("/proc/self/task/"+task.Name())...)
	}
	return found, nil
}

// descendants lists all processes below pid, deepest first.
func descendants(pid int) []int {
	var found []int
	base := "/proc/" + strconv.Itoa(pid) + "/task/"
	tasks, _ := os.ReadDir(base)
	for _, task := range tasks {
		for _, child := range children(base + task.Name()) {
			found = append(append(found, descendants(child)...), child)
		}
	}
	return found
}

// children lists the processes that one thread has started or adopted. A thread
// that has ended has none: they have passed to another one of its process.
func children(task string) []int {
	data, err := os.ReadFile(task + "/children")
	if err != nil {
		return nil
	}
	var pids []int
	for field := range strings.FieldsSeq(string(data)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// reap waits for one child by its pid, so that nobody else's wait is disturbed.
func reap(pid int, deadline time.Time) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return errors.Is(err, unix.ESRCH)
	}
	defer unix.Close(fd)
	for {
		left := time.Until(deadline).Milliseconds()
		if left <= 0 {
			return false
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left))
		if n == 1 || err != nil && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
	return true
}

// checkChildren says whether the kernel tells whose child a process is.
func checkChildren() error {
	if _, err := os.Stat("/proc/self/task/" + strconv.Itoa(os.Getpid()) + "/children"); err != nil {
		return errors.New("this kernel does not list the children of a thread (CONFIG_PROC_CHILDREN): processes that tools leave behind cannot be found")
	}
	return nil
}
