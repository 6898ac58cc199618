package runner

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// limitCall is prlimit(2) as one architecture numbers it.
type limitCall struct{ arch, number uint32 }

// limitCalls gives the machine's own number and that of its 32-bit programs.
func limitCalls() []limitCall {
	switch runtime.GOARCH {
	case "amd64":
		return []limitCall{{unix.AUDIT_ARCH_X86_64, 302}, {unix.AUDIT_ARCH_I386, 340}}
	case "arm64":
		return []limitCall{{unix.AUDIT_ARCH_AARCH64, 261}, {unix.AUDIT_ARCH_ARM, 369}}
	}
	return nil
}

// forbidLimits has prlimit(2) on any other process fail with EPERM in what the
// calling thread starts, for ever. Landlock does not know this call, by which a
// tool could set the service, or another run's runner, a limit that kills it.
// The thread must have forgone new privileges. On a machine whose numbers are
// not known here nothing is done.
func forbidLimits() error {
	calls := limitCalls()
	if calls == nil {
		return nil
	}
	// Offsets in struct seccomp_data; a pid is the low half of the first argument.
	const number, arch, pid = 0, 4, 16
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	equal := func(value uint32, yes, no uint8) unix.SockFilter { // how many lines to skip
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jt: yes, Jf: no}
	}
	end := func(action uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
	}
	filter := []unix.SockFilter{
		load(arch),
		equal(calls[0].arch, 0, 2),
		load(number),
		equal(calls[0].number, 3, 5),
		equal(calls[1].arch, 0, 4),
		load(number),
		equal(calls[1].number, 0, 2),
		load(pid),
		equal(0, 0, 1), // 0 is the caller itself
		end(unix.SECCOMP_RET_ALLOW),
		end(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)),
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
	runtime.KeepAlive(filter)
	if err != nil {
		return fmt.Errorf("sandbox: filtering calls: %w", err)
	}
	return nil
}
