package storm

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// process is one process of the storm: a replica, a runner, an engine or what an
// engine started.
type process struct {
	pid  int
	exe  string
	cwd  string
	args []string
}

// processes lists what executes a file of dir or works in a folder of it,
// zombies apart. The harness itself does neither.
func processes(dir string) []process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		exe, _ := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		cwd, _ := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
		if !beneath(dir, exe) && !beneath(dir, cwd) {
			continue
		}
		if _, ok := startTicks(pid); !ok {
			continue
		}
		line, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		out = append(out, process{pid, exe, cwd, strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")})
	}
	return out
}

func beneath(dir, path string) bool { return strings.HasPrefix(path, dir+string(filepath.Separator)) }

// isRunner reports whether the process is the one that owns a phase of a run.
func (p process) isRunner() bool {
	return len(p.args) > 1 && p.args[1] == "runner" && strings.Contains(p.exe, "waymark")
}

// signalAll sends a signal to each.
func signalAll(all []process, signal syscall.Signal) {
	for _, p := range all {
		_ = syscall.Kill(p.pid, signal) // it may have ended by now
	}
}
