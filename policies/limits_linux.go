package policies

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// limitMemory bounds the memory of this process for good: what it asks for
// beyond ends it.
func limitMemory(most int64) error {
	limit := unix.Rlimit{Cur: uint64(most), Max: uint64(most)}
	return unix.Setrlimit(unix.RLIMIT_DATA, &limit)
}

// apart keeps the signals of a terminal from a child: who stops the service does
// not mean the evaluator, whose end would be taken for an answer.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// ownExecutable is this program, also after its file was replaced.
func ownExecutable() (string, error) { return "/proc/self/exe", nil }
