package runner

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waymark-cd/waymark/release"
)

// Interrupt asks the runner of a folder to stop gracefully: the engine is
// interrupted, saves its state and frees its lock, and the result is
// release.OutcomeCancelled. It returns once the signal is sent. Asking again
// changes nothing: an apply is never stopped harder. Errors wrap
// release.ErrNotFound where no runner has taken the folder, and
// release.ErrConflict where the runner has ended.
func Interrupt(dir string) error {
	c, err := readClaim(dir)
	if err != nil {
		return err
	}
	fd, err := openProcess(c)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGINT, nil, 0); err != nil {
		return fmt.Errorf("interrupting the runner: %w", err)
	}
	return nil
}

// self is the claim of this very process.
func self() (claim, error) {
	pid := os.Getpid()
	_, ticks, err := processStat(pid)
	if err != nil {
		return claim{}, err
	}
	boot, err := bootID()
	if err != nil {
		return claim{}, err
	}
	return claim{PID: pid, StartTicks: ticks, BootID: boot}, nil
}

// alive reports whether the process of a claim still executes. A zombie does not.
func alive(c claim) bool {
	fd, err := openProcess(c)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// errEnded: the process of a claim is no more.
var errEnded = fmt.Errorf("%w: the runner has ended", release.ErrConflict)

// openProcess gives a pidfd of a claim's process. The start time is read after
// the pidfd is open, so that a pid in second hands is noticed. Where the
// process has ended the error wraps errEnded.
func openProcess(c claim) (int, error) {
	if boot, err := bootID(); err != nil {
		return -1, err
	} else if c.byService() || boot != c.BootID {
		return -1, errEnded
	}
	fd, err := unix.PidfdOpen(c.PID, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return -1, errEnded
	}
	if err != nil {
		return -1, fmt.Errorf("opening the runner's process %d: %w", c.PID, err)
	}
	state, ticks, err := processStat(c.PID)
	if err != nil || ticks != c.StartTicks || state == 'Z' || state == 'X' {
		unix.Close(fd)
		return -1, errEnded
	}
	return fd, nil
}

// bootID names the running kernel's boot.
func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("reading the boot id: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// processStat reads state (field 3) and start time (field 22, in clock ticks
// since boot) of /proc/pid/stat. The command, field 2, may hold anything, so
// counting begins after its last parenthesis.
func processStat(pid int) (state byte, startTicks uint64, err error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, err
	}
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 20 {
		return 0, 0, fmt.Errorf("reading /proc/%d/stat: %d fields", pid, len(fields))
	}
	startTicks, err = strconv.ParseUint(string(fields[19]), 10, 64)
	return fields[0][0], startTicks, err
}

// processWatch tells when a process ends, be it a child or not.
type processWatch struct {
	ended  <-chan struct{}
	file   *os.File
	joined <-chan struct{}
}

// watchProcess watches the process behind a pidfd, which it takes over. The
// pidfd sits in the Go runtime's poller: waiting costs no thread.
func watchProcess(pidfd int) (*processWatch, error) {
	file := os.NewFile(uintptr(pidfd), "pidfd")
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("watching a process: %w", err)
	}
	ended, joined := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(joined)
		if raw.Read(pidfdEnded) == nil {
			close(ended)
		}
	}()
	return &processWatch{ended: ended, file: file, joined: joined}, nil
}

// pidfdEnded reports whether the process behind a pidfd has ended.
func pidfdEnded(fd uintptr) bool {
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return n == 1
}

// Close stops watching and joins the goroutine that did.
func (w *processWatch) Close() {
	_ = w.file.SetReadDeadline(time.Unix(1, 0))
	<-w.joined
	w.file.Close()
}

// watchClaim watches the process of a claim. The error wraps errEnded where it
// has ended already.
func watchClaim(c claim) (*processWatch, error) {
	fd, err := openProcess(c)
	if err != nil {
		return nil, err
	}
	return watchProcess(fd)
}

// watchChild watches a child of this process that is not yet waited for.
func watchChild(pid int) (*processWatch, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watching the runner's process %d: %w", pid, err)
	}
	return watchProcess(fd)
}

// ownExecutable is this very program, also where its file was replaced since.
func ownExecutable() (string, error) { return "/proc/self/exe", nil }

// ownSession makes a child leader of a session of its own: no terminal, no
// signal to the service's group and no end of the service reaches it.
func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// becomeRunner prepares this process: files private, no core dump (memory holds
// credentials), and parent of every orphan that its tools leave.
func becomeRunner() error {
	unix.Umask(0o077)
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("switching core dumps off: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("becoming the parent of orphaned processes: %w", err)
	}
	return nil
}

// allocate takes room on the disk, where the file system can.
func allocate(f *os.File, size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}

// closeOnExec keeps a file that this process was given from its tools.
func closeOnExec(f *os.File) { unix.CloseOnExec(int(f.Fd())) }
