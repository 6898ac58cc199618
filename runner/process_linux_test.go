package runner_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/runner"
)

func wantStatus(t *testing.T, dir string, want runner.Status) {
	t.Helper()
	if got, err := runner.Find(dir); err != nil || got != want {
		t.Fatalf("Find: %q, %v; want %q", got, err, want)
	}
}

// pidOf reads who owns a folder.
func pidOf(t *testing.T, dir string) int {
	t.Helper()
	var c struct {
		PID int `json:"pid"`
	}
	data, err := os.ReadFile(filepath.Join(dir, "runner.json"))
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err != nil || c.PID == 0 {
		t.Fatalf("runner.json: %v: %s", err, data)
	}
	return c.PID
}

// held plans testdata/held and starts an apply that waits.
func held(t *testing.T) (*site, release.Spec) {
	t.Helper()
	s := newSite(t, "held")
	planned, log := run(t, s.plan())
	wantOutcome(t, planned, log, release.OutcomePassed)
	hold(t, s.path("run/tree/apply.fifo"))
	return s, s.apply(planned)
}

// letGo lets the held apply go on.
func letGo(t *testing.T, s *site) {
	t.Helper()
	f, err := os.OpenFile(s.path("run/tree/apply.fifo"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("go\n"); err != nil {
		t.Fatal(err)
	}
}

func appliedOnce(t *testing.T, s *site) {
	t.Helper()
	if data, err := os.ReadFile(s.path("run/tree/applied")); err != nil || string(data) != "once\n" {
		t.Errorf("applied %q times, %v", data, err)
	}
}

func TestRunnerOutlivesItsService(t *testing.T) {
	s, spec := held(t)
	service := exec.Command(os.Args[0], "service")
	input, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	service.Stdin = bytes.NewReader(input)
	out, err := service.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 64)
	if n, err := out.Read(said); err != nil || string(said[:n]) != "started\n" {
		t.Fatalf("the service said %q, %v", said[:n], err)
	}
	until(t, spec.Dir, "holding")
	if err := service.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = service.Wait()
	wantStatus(t, spec.Dir, runner.Running)
	letGo(t, s)
	result, log := follow(t, spec.Dir)
	wantOutcome(t, result, log, release.OutcomePassed)
	wantStatus(t, spec.Dir, runner.Done)
	appliedOnce(t, s)
}

func TestKilledInApply(t *testing.T) {
	_, spec := held(t)
	start(t, spec)
	until(t, spec.Dir, "holding")
	// The result is ErrGone, at once: nobody polls for the end of a process.
	ended := make(chan error, 1)
	go func() {
		_, err := runner.Follow(t.Context(), spec.Dir, 0, nil)
		ended <- err
	}()
	if err := syscall.Kill(pidOf(t, spec.Dir), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, runner.ErrGone) {
		t.Fatalf("Follow: %v, want ErrGone", err)
	}
	wantStatus(t, spec.Dir, runner.Gone)
	if err := runner.Claim(spec.Dir); !errors.Is(err, release.ErrConflict) {
		t.Errorf("Claim of a dead runner's folder: %v, want a conflict", err)
	}
	if err := launcher(t).Start(t.Context(), spec); !errors.Is(err, release.ErrConflict) {
		t.Errorf("a second start in the same folder: %v, want a conflict", err)
	}
}

func TestKilledInPlan(t *testing.T) {
	s := newSite(t, "plain")
	hold(t, s.path("run/tree/scan.fifo"))
	spec := s.plan()
	spec.Gates = []release.GateSpec{{Name: "checkov", Path: fakeGate(t, s,
		"echo $$ > $HOME/pid; echo waiting >&2; read line < "+s.path("run/tree/scan.fifo"))}}
	start(t, spec)
	until(t, spec.Dir, "waiting")
	pids := glob(t, s.path("run/tools/gates/*/pid"))
	if len(pids) != 1 {
		t.Fatalf("pid files: %v", pids)
	}
	gate, err := os.ReadFile(pids[0])
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	fmt.Sscan(string(gate), &pid)
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := syscall.Kill(pidOf(t, spec.Dir), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := runner.Follow(t.Context(), spec.Dir, 0, nil); !errors.Is(err, runner.ErrGone) {
		t.Errorf("Follow: %v, want ErrGone", err)
	}
	wantStatus(t, spec.Dir, runner.Gone)
	// The gate dies with its runner.
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000); n != 1 {
		t.Errorf("the gate outlives its runner: %v", err)
	}
}

func TestKilledEngineLeavesTheEndUnknown(t *testing.T) {
	_, spec := held(t)
	start(t, spec)
	until(t, spec.Dir, "holding")
	var pid int
	for _, task := range glob(t, fmt.Sprintf("/proc/%d/task/*/children", pidOf(t, spec.Dir))) {
		if engines, err := os.ReadFile(task); err == nil && len(engines) > 0 {
			fmt.Sscan(string(engines), &pid)
		}
	}
	if pid == 0 {
		t.Fatal("no engine is at work")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	res, err := runner.Follow(t.Context(), spec.Dir, 0, nil)
	if err != nil || res.Outcome != release.OutcomeUnknown {
		t.Errorf("Follow: %s %v, want unknown: nobody knows what the engine did", res.Outcome, err)
	}
}

// TestWhatADeadRunnerLeftIsKilled kills a runner whose engine had started a
// program: the engine dies with the runner, the program does not.
func TestWhatADeadRunnerLeftIsKilled(t *testing.T) {
	_, spec := held(t)
	start(t, spec)
	until(t, spec.Dir, "holding")
	if n, err := runner.KillLeftovers(spec.Dir); n != 0 || err != nil {
		t.Fatalf("of a runner that lives: %d %v", n, err)
	}
	pid := pidOf(t, spec.Dir)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := runner.Follow(t.Context(), spec.Dir, 0, nil); !errors.Is(err, runner.ErrGone) {
		t.Fatalf("Follow: %v, want ErrGone", err)
	}
	n, err := runner.KillLeftovers(spec.Dir)
	if n == 0 || err != nil {
		t.Errorf("killed %d, %v: the program of the engine goes on", n, err)
	}
	// A process that was killed may take a moment to go.
	left := []string{"?"}
	for end := time.Now().Add(10 * time.Second); len(left) > 0 && time.Now().Before(end); runtime.Gosched() {
		left = leftIn(t, pid)
	}
	if len(left) > 0 {
		t.Errorf("still in the runner's session: %q", left)
	}
}

// leftIn lists the processes of a session that have not ended.
func leftIn(t *testing.T, session int) (left []string) {
	t.Helper()
	for _, file := range glob(t, "/proc/[0-9]*/stat") {
		data, err := os.ReadFile(file)
		fields := strings.Fields(string(data[max(0, bytes.LastIndexByte(data, ')')+1):]))
		if err == nil && len(fields) > 3 && fields[3] == fmt.Sprint(session) && fields[0] != "Z" && fields[0] != "X" {
			left = append(left, string(data))
		}
	}
	return left
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestLateRunnerDoesNothing(t *testing.T) {
	s, spec := held(t)
	// A service that was killed between fork and claim: the next one takes the
	// folder, then the runner wakes up.
	wantStatus(t, spec.Dir, runner.Absent)
	for range 2 {
		if err := runner.Claim(spec.Dir); err != nil {
			t.Fatal(err)
		}
	}
	wantStatus(t, spec.Dir, runner.Absent)
	input, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	late := exec.Command(os.Args[0], "runner")
	late.Stdin = bytes.NewReader(input)
	if out, err := late.CombinedOutput(); err == nil || !strings.Contains(string(out), "another runner") {
		t.Errorf("the late runner: %v: %s", err, out)
	}
	if _, err := os.Stat(s.path("run/tree/applied")); err == nil {
		t.Error("the late runner applied")
	}
	if _, err := runner.Follow(t.Context(), spec.Dir, 0, nil); !errors.Is(err, release.ErrNotFound) {
		t.Errorf("Follow: %v, want not found", err)
	}
}

func TestHalfASpecDoesNothing(t *testing.T) {
	dir := t.TempDir()
	spec := release.Spec{Format: release.ProtocolFormat, Dir: dir, Phase: release.PhaseApply}
	input, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, half := range []string{"", string(input[:len(input)-1]), string(input) + "{}", `{"format":1,"dir":"x"}`, `{"format":99}`, "null"} {
		cmd := exec.Command(os.Args[0], "runner")
		cmd.Stdin = strings.NewReader(half)
		if out, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("%q was accepted: %s", half, out)
		}
	}
	wantStatus(t, dir, runner.Absent)
}

func TestOneOfManyOwnsTheFolder(t *testing.T) {
	s := newSite(t, "held")
	planned, log := run(t, s.plan())
	wantOutcome(t, planned, log, release.OutcomePassed)
	spec := s.apply(planned)
	input, err := json.Marshal(spec)
	if err == nil {
		err = os.MkdirAll(spec.Dir, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	var rivals sync.WaitGroup
	var lost atomic.Int32
	for range 4 {
		rivals.Go(func() {
			cmd := exec.Command(os.Args[0], "runner")
			cmd.Stdin = bytes.NewReader(input)
			if cmd.Run() != nil {
				lost.Add(1)
			}
		})
	}
	rivals.Wait()
	if n := lost.Load(); n != 3 {
		t.Errorf("%d of 4 runners lost, want 3", n)
	}
	appliedOnce(t, s)
}

func TestStartThatFailsTakesTheFolder(t *testing.T) {
	for _, command := range [][]string{{"/no/such/program"}, {"/bin/false"}} {
		l, err := runner.NewLauncher(runner.LauncherConfig{Command: command})
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "own")
		err = l.Start(t.Context(), release.Spec{Format: release.ProtocolFormat, Dir: dir})
		l.Close()
		if err == nil {
			t.Fatalf("%v: started", command)
		}
		wantStatus(t, dir, runner.Absent)
		if _, err := os.Stat(filepath.Join(dir, "runner.json")); err != nil {
			t.Errorf("%v: the folder is free for a late runner: %v", command, err)
		}
	}
}

func TestStartIsGivenUp(t *testing.T) {
	l, err := runner.NewLauncher(runner.LauncherConfig{Command: []string{"/bin/sh", "-c", "echo $$ > pid; exec sleep 300"}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := filepath.Join(t.TempDir(), "own")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := l.Start(ctx, release.Spec{Dir: dir}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Start: %v, want the deadline", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "runner.json")); err != nil {
		t.Errorf("the folder is free for a late runner: %v", err)
	}
	var pid int
	if data, err := os.ReadFile(filepath.Join(dir, "pid")); err == nil {
		fmt.Sscan(string(data), &pid)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

func TestFindKnowsASecondHandPid(t *testing.T) {
	dir := t.TempDir()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	claim := func(pid int, ticks int, boot string) {
		t.Helper()
		text := fmt.Sprintf(`{"format":1,"pid":%d,"start_ticks":%d,"boot_id":%q}`, pid, ticks, strings.TrimSpace(boot))
		if err := os.WriteFile(filepath.Join(dir, "runner.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	claim(os.Getpid(), 1, string(boot))
	wantStatus(t, dir, runner.Gone)
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	var ticks int
	fmt.Sscan(strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))[19], &ticks)
	claim(os.Getpid(), ticks, string(boot))
	wantStatus(t, dir, runner.Running)
	claim(os.Getpid(), ticks, "another boot")
	wantStatus(t, dir, runner.Gone)
	for _, text := range []string{"", "{", `{"format":99}`} {
		if err := os.WriteFile(filepath.Join(dir, "runner.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if status, err := runner.Find(dir); !errors.Is(err, release.ErrInvalid) {
			t.Errorf("Find with runner.json %q: %q, %v", text, status, err)
		}
	}
}

func TestFollowPassesTornLines(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{
		"runner.json":  `{"format":1,"run_id":7,"attempt":1,"phase":"plan","pid":1,"start_ticks":1,"boot_id":"gone"}`,
		"events.jsonl": "{\"format\":1,\"type\":\"log\",\"message\":\"a\"}\n{\"form\nnull\n" + strings.Repeat("x", 300<<10) + "\n{\"format\":1,\"type\":\"log\",\"message\":\"b\"}\n{\"format\":1,\"type\":\"log\",\"mess",
	}
	write := func() {
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	write()
	var got []string
	var at []int64
	read := func(offset int64) error {
		got = nil
		_, err := runner.Follow(t.Context(), dir, offset, func(e release.Event, next int64) {
			got, at = append(got, e.Message), append(at, next)
		})
		return err
	}
	if err := read(0); !errors.Is(err, runner.ErrGone) || strings.Join(got, "") != "ab" {
		t.Errorf("events %q, %v; want a, b, ErrGone", got, err)
	}
	if err := read(at[0]); !errors.Is(err, runner.ErrGone) || strings.Join(got, "") != "b" {
		t.Errorf("from %d: events %q, %v; want b, ErrGone", at[0], got, err)
	}
	files["result.json"] = `{"format":1,"run_id":8,"attempt":1,"phase":"plan","outcome":"passed"}`
	write()
	if err := read(0); !errors.Is(err, release.ErrInvalid) {
		t.Errorf("another run's result: %v, want invalid", err)
	}
	files["result.json"] = strings.Replace(files["result.json"], "8", "7", 1)
	write()
	if err := read(0); err != nil {
		t.Errorf("the result: %v", err)
	}
}

func TestFollowIsPrompt(t *testing.T) {
	s := newSite(t, "plain")
	spec := s.plan()
	start(t, spec)
	var late time.Duration
	if _, err := runner.Follow(t.Context(), spec.Dir, 0, func(e release.Event, _ int64) {
		late = max(late, time.Since(e.At))
	}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(spec.Dir, "result.json"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("events at most %v late, the result %v", late, time.Since(info.ModTime()))
	if late > time.Second {
		t.Errorf("an event came %v late", late)
	}
}
