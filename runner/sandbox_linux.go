package runner

import (
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/waymark-cd/waymark/release"
)

// Landlock's rights, in the kernel's groups: what a rule gives to files, to
// folders, and what devices need on top.
const (
	readRights = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR |
		unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX
	// No tool makes devices, so MakeChar and MakeBlock are in no rule.
	writeRights = readRights | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_DIR |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_REFER
	deviceRights = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	fileRights = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV | unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX
)

// sandbox restricts threads by Landlock, as far as this kernel can.
type sandbox struct {
	mode  string
	abi   int  // of Landlock; 0 for none
	scope bool // signals can be scoped without harm to the Go runtime
	// namespaces reports whether a process of ours can get a network of its own.
	namespaces func() bool
}

// newSandbox looks at the kernel. note, where not empty, says what tools can do
// that they should not. The error wraps release.ErrUnavailable where the mode
// is "require" and the kernel has no Landlock, and release.ErrInvalid for a
// mode that does not exist.
func newSandbox(mode string) (box *sandbox, note string, err error) {
	box = &sandbox{mode: mode, namespaces: sync.OnceValue(canUnshareNetwork)}
	switch mode {
	case "off":
		return box, "sandbox: off by configuration", nil
	case "", "auto", "require":
	default:
		return nil, "", fmt.Errorf("%w: sandbox %q: want auto, require or off", release.ErrInvalid, mode)
	}
	abi, err := createRuleset(nil, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if err == nil && abi > 0 {
		box.abi = abi
		// Before this repair a thread with scoped signals could not signal the
		// other threads of its own process, which the Go runtime does.
		errata, _ := createRuleset(nil, unix.LANDLOCK_CREATE_RULESET_ERRATA)
		box.scope = abi >= 6 && errata > 0 && errata&(1<<1) != 0
		return box, "", nil
	}
	if mode == "require" {
		return nil, "", fmt.Errorf("%w: this kernel has no Landlock, and the configuration requires a sandbox; use a kernel of 5.13 or later with Landlock enabled, or sandbox = \"auto\"", release.ErrUnavailable)
	}
	return box, "sandbox: this kernel has no Landlock; tools can reach every file that the service's user can", nil
}

// on reports whether threads are restricted.
func (b *sandbox) on() bool { return b.abi > 0 }

// restrict binds the calling thread, and all that it starts, for ever. The
// thread must be locked to its goroutine and die with it.
func (b *sandbox) restrict(a access) error {
	if !b.on() {
		return nil
	}
	attr := b.handled(a)
	fd, err := createRuleset(&attr, 0)
	if err != nil {
		return fmt.Errorf("sandbox: making a ruleset: %w", err)
	}
	defer unix.Close(fd)
	for _, group := range []struct {
		paths  []string
		rights uint64
	}{
		{a.read, readRights},
		{a.write, writeRights},
		{devicePaths(), deviceRights},
	} {
		for _, path := range group.paths {
			if err := allow(fd, path, group.rights&attr.Handled_access_fs); err != nil {
				return fmt.Errorf("sandbox: allowing %s: %w", path, err)
			}
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("sandbox: forgoing new privileges: %w", err)
	}
	if err := dropCapabilities(); err != nil {
		return err
	}
	if err := forbidLimits(); err != nil {
		return err
	}
	if _, _, errno := syscall.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(fd), 0, 0); errno != 0 {
		return fmt.Errorf("sandbox: restricting the thread: %w", errno)
	}
	return nil
}

// handled lists the rights that are refused where no rule gives them: all that
// this kernel knows.
func (b *sandbox) handled(a access) unix.LandlockRulesetAttr {
	attr := unix.LandlockRulesetAttr{Handled_access_fs: unix.LANDLOCK_ACCESS_FS_REFER - 1}
	for _, later := range []struct {
		abi    int
		rights uint64
	}{{2, unix.LANDLOCK_ACCESS_FS_REFER}, {3, unix.LANDLOCK_ACCESS_FS_TRUNCATE}, {5, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV}, {9, unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX}} {
		if b.abi >= later.abi {
			attr.Handled_access_fs |= later.rights
		}
	}
	if a.noNetwork && b.abi >= 4 {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if a.noNetwork && b.abi >= 10 {
		attr.Handled_access_net |= unix.LANDLOCK_ACCESS_NET_BIND_UDP | unix.LANDLOCK_ACCESS_NET_CONNECT_SEND_UDP
	}
	if b.scope {
		attr.Scoped = unix.LANDLOCK_SCOPE_SIGNAL | unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	}
	return attr
}

// allow adds a rule for a path. A path that does not exist needs none.
func allow(ruleset int, path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EACCES) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= fileRights
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, errno := syscall.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// createRuleset makes a ruleset, or answers one of the questions that flags ask.
func createRuleset(attr *unix.LandlockRulesetAttr, flags int) (int, error) {
	size := uintptr(0)
	if attr != nil {
		size = unsafe.Sizeof(*attr)
	}
	n, _, errno := syscall.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(attr)), size, uintptr(flags))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// cutsNetwork reports whether gates can be kept from the network in one way at
// least.
func (b *sandbox) cutsNetwork() bool { return b.abi >= 4 || b.mode != "off" && b.namespaces() }

// isolate has a gate's process killed with the thread that starts it, and gives
// it a network of its own, without any interface, where the system lets us. The user namespace has no map: writing one takes
// rights in /proc that the restricted thread does not have, and without one the
// process keeps its files, because the kernel compares real ids.
func (b *sandbox) isolate(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if b.mode == "off" || !b.namespaces() {
		return
	}
	cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER | unix.CLONE_NEWNET
}

// canUnshareNetwork tries the namespaces with a program that does not exist:
// the error tells whether the clone or the exec failed.
func canUnshareNetwork() bool {
	_, err := syscall.ForkExec("/proc/self/no-such-program", []string{"probe"}, &syscall.ProcAttr{
		Sys: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET}})
	return errors.Is(err, syscall.ENOENT)
}
