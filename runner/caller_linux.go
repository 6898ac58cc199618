package runner

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// CalledByRun reports whether a TCP connection on this machine, from client to
// service, was opened by what a run executes: an engine, a provider, a
// provisioner. Such code has the service's user and reaches its open port, and
// must not decide about runs. While a run is at work, a connection of that user
// whose holder cannot be found counts as a run's. The error says that /proc
// cannot be read.
func CalledByRun(client, service netip.AddrPort) (bool, error) {
	tools, others, err := processes()
	if err != nil || len(tools) == 0 {
		return false, err
	}
	socket, uid, err := findSocket(client, service)
	if err != nil || socket == "" || socket == "socket:[0]" { // closed: whoever asked is gone
		return true, err
	}
	if uid != os.Geteuid() {
		return false, nil
	}
	for _, pid := range tools {
		if holds, err := holdsFile(pid, socket); holds || errors.Is(err, fs.ErrPermission) {
			return true, nil
		}
	}
	for _, pid := range others {
		if holds, _ := holdsFile(pid, socket); holds {
			return false, nil
		}
	}
	return true, nil
}

// processes lists the runners of this machine with all that is beneath them,
// and all other processes.
func processes() (tools, others []int, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, nil, fmt.Errorf("looking for the caller: %w", err)
	}
	found := map[int]bool{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		others = append(others, pid)
		if isRunner(pid) {
			found[pid] = true
			for _, below := range descendants(pid) {
				found[below] = true
			}
		}
	}
	for pid := range found {
		tools = append(tools, pid)
	}
	return tools, others, nil
}

// isRunner tells a runner by the arguments that a Launcher gives it.
func isRunner(pid int) bool {
	own, _ := ownExecutable()
	args, err := readLimited("/proc/"+strconv.Itoa(pid)+"/cmdline", 1<<10)
	return err == nil && string(args) == own+"\x00runner\x00"
}

// holdsFile reports whether a process has a file open, named as /proc names it.
func holdsFile(pid int, name string) (bool, error) {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	fds, err := os.ReadDir(dir)
	for _, fd := range fds {
		if at, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && at == name {
			return true, nil
		}
	}
	return false, err
}

// findSocket gives the socket of a connection's client as /proc/pid/fd names
// it, and its user; "" where there is none.
func findSocket(client, service netip.AddrPort) (name string, uid int, err error) {
	for _, path := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return "", 0, fmt.Errorf("looking for the caller: %w", err)
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			// sl local remote st queues timer retransmits uid timeout inode
			field := strings.Fields(lines.Text())
			if len(field) < 10 || !isAddress(field[1], client) || !isAddress(field[2], service) {
				continue
			}
			uid, err := strconv.Atoi(field[7])
			return "socket:[" + field[9] + "]", uid, err
		}
	}
	return "", 0, nil
}

// isAddress compares an address of /proc/net/tcp, words in the machine's byte
// order, with one of Go.
func isAddress(text string, want netip.AddrPort) bool {
	host, port, _ := strings.Cut(text, ":")
	number, err := strconv.ParseUint(port, 16, 16)
	raw, hexErr := hex.DecodeString(host)
	if err != nil || hexErr != nil || uint16(number) != want.Port() || len(raw)%4 != 0 {
		return false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	ip, ok := netip.AddrFromSlice(raw)
	return ok && ip.Unmap() == want.Addr().Unmap()
}
