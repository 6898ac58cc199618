package runner

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// keptCapabilities is what tools keep where the service runs as root: what the
// usual container runtimes leave, less the making of devices. The others would
// undo the sandbox: with CAP_PERFMON or CAP_SYS_ADMIN the kernel shows every
// process's environment, whatever Landlock says.
func keptCapabilities() []uintptr {
	return []uintptr{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_KILL,
		unix.CAP_SETGID, unix.CAP_SETUID, unix.CAP_SETPCAP, unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_RAW,
		unix.CAP_SYS_CHROOT, unix.CAP_SETFCAP}
}

// dropCapabilities takes every other capability from what the calling thread
// starts, for ever. Without root there is nothing that could be taken.
func dropCapabilities() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("sandbox: clearing ambient capabilities: %w", err)
	}
	kept := keptCapabilities()
	for c := uintptr(0); ; c++ {
		held, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			return nil // past the kernel's last one
		}
		if err != nil {
			return fmt.Errorf("sandbox: reading capabilities: %w", err)
		}
		if held == 0 || slices.Contains(kept, c) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); errors.Is(err, unix.EPERM) {
			return nil // not root, or root without the right: what it starts gains none either
		} else if err != nil {
			return fmt.Errorf("sandbox: dropping capability %d: %w", c, err)
		}
	}
}
