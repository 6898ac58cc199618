package runner

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/waymark-cd/waymark/release"
)

// KillLeftovers kills what a runner that died left running: programs that its
// engine had started, which nothing else ends. It returns how many it killed. A
// runner that lives, or a folder that no runner of this boot owned, has none.
//
// They are told by their session, which is the runner's own: the kernel gives a
// dead leader's number to nobody while its session has members.
func KillLeftovers(dir string) (killed int, err error) {
	c, err := readClaim(dir)
	if errors.Is(err, release.ErrNotFound) || err == nil && (c.byService() || alive(c)) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if boot, err := bootID(); err != nil || boot != c.BootID {
		return 0, err
	}
	if _, ticks, err := processStat(c.PID); err == nil && ticks != c.StartTicks {
		return 0, nil // another process has the number, so the session is its own
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, fmt.Errorf("looking for what a runner left: %w", err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || sessionOf(pid) != c.PID {
			continue
		}
		if err := unix.Kill(pid, unix.SIGKILL); err == nil {
			killed++
		}
	}
	return killed, nil
}

// sessionOf is field 6 of /proc/pid/stat; 0 for a process that is gone.
func sessionOf(pid int) int {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 4 {
		return 0
	}
	session, err := strconv.Atoi(string(fields[3]))
	if err != nil {
		return 0
	}
	return session
}
