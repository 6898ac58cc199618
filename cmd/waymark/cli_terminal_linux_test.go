package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waymark-cd/waymark/release"
)

// terminal is a pseudo-terminal: programs have the one end, a person the other.
type terminal struct {
	t      *testing.T
	person *os.File
	tty    *os.File
	seen   *syncBuffer
}

func newTerminal(t *testing.T, columns, rows uint16) *terminal {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	x := &terminal{t: t, person: person, tty: tty, seen: &syncBuffer{}}
	x.resize(columns, rows)
	done := make(chan struct{})
	go func() {
		defer close(done)
		part := make([]byte, 4096)
		for {
			n, err := person.Read(part)
			_, _ = x.seen.Write(part[:n])
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { tty.Close(); person.Close(); <-done })
	return x
}

func (x *terminal) resize(columns, rows uint16) {
	x.t.Helper()
	if err := unix.IoctlSetWinsize(int(x.tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}); err != nil {
		x.t.Fatal(err)
	}
}

// settings are what stty shows.
func (x *terminal) settings() unix.Termios {
	x.t.Helper()
	s, err := unix.IoctlGetTermios(int(x.tty.Fd()), unix.TCGETS)
	if err != nil {
		x.t.Fatal(err)
	}
	return *s
}

// start runs a program in the terminal, as its controlling one.
func (x *terminal) start(cmd *exec.Cmd) *exec.Cmd {
	x.t.Helper()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = x.tty, x.tty, x.tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

func (x *terminal) types(keys string) {
	x.t.Helper()
	if _, err := x.person.WriteString(keys); err != nil {
		x.t.Fatal(err)
	}
}

// await waits until what was seen after the first from bytes has what is looked for.
func (x *terminal) await(from int, what string, there func(seen string) bool) string {
	x.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(time.Minute); ; {
		seen := x.seen.String()[from:]
		if there(seen) {
			return seen
		}
		if time.Now().After(limit) {
			x.t.Fatalf("%s was not seen: %q", what, seen)
		}
		<-tick.C
	}
}

// waymark is this binary as the command waymark of a service.
func (w *cliWorld) waymark(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), beWaymark+"=1", "WAYMARK_SERVER="+w.url, "WAYMARK_TOKEN=", "TERM=xterm")
	return cmd
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]")

// lastFrame is what was drawn last: between the last two homes of the cursor, or
// up to the end.
func lastFrame(seen string) []string {
	frames := strings.Split(seen, "\x1b[H")
	whole, _, _ := strings.Cut(frames[len(frames)-1], screenOff)
	lines := strings.Split(escapes.ReplaceAllString(whole, ""), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], "\r")
	}
	return lines
}

func TestWatchDrawsInPlace(t *testing.T) {
	w := newCLIWorld(t, nil)
	x := newTerminal(t, 100, 24)
	before := x.settings()
	cmd := x.start(w.waymark("status", "--watch"))
	x.await(0, "an empty board", func(s string) bool { return strings.Contains(s, "No targets yet") })
	w.add("dev_us-east-1/research@1.0", release.AwaitingApproval)
	seen := x.await(0, "the target", func(s string) bool {
		return strings.Contains(s, "awaiting_approval") && strings.Contains(s, "waits for a person: waymark runs show 1")
	})
	if !strings.HasPrefix(seen, screenOn) || strings.Count(seen, screenOn) != 1 || strings.Count(seen, "\x1b[2J") != 1 {
		t.Errorf("it is not drawn in place: %q", seen)
	}
	x.resize(40, 24)
	x.await(len(seen), "the narrow board", func(s string) bool {
		return slices.ContainsFunc(lastFrame(s), func(line string) bool { return strings.HasSuffix(line, "STATE  …") })
	})
	for _, line := range lastFrame(x.seen.String()) {
		if textWidth(line) > 40 {
			t.Errorf("wider than the terminal: %q", line)
		}
	}
	x.resize(100, 3)
	x.await(len(seen), "the flat board", func(s string) bool {
		return strings.Contains(s, "more lines than this terminal has") && lastFrame(s)[0] != ""
	})
	if lines := lastFrame(x.seen.String()); len(lines) > 3 {
		t.Errorf("%d lines in a terminal of three: %q", len(lines), lines)
	}
	x.types("\x03")
	if err := cmd.Wait(); err != nil {
		t.Errorf("Ctrl-C: %v", err)
	}
	x.await(0, "the end", func(s string) bool { return strings.HasSuffix(s, screenOff) })
	if after := x.settings(); after != before {
		t.Errorf("the terminal is not as it was: %+v, before %+v", after, before)
	}
}

func TestWatchGoesOnWhileTheServiceIsAway(t *testing.T) {
	w := newCLIWorld(t, nil)
	w.add("dev_us-east-1/research@1.0", release.Succeeded)
	line := newWire(t)
	line.lead(w.url)
	w.url = "http://" + line.listener.Addr().String()
	for _, args := range [][]string{{"runs", "list", "-w"}, {"instances", "--watch"}, {"status", "dev_us-east-1/research", "-w"}} {
		line.lead(strings.TrimPrefix(w.env["WAYMARK_SERVER"], "http://"))
		x := newTerminal(t, 100, 24)
		cmd := x.start(w.waymark(args...))
		x.await(0, "the first answer", func(s string) bool { return strings.Contains(s, "every 2s") })
		line.lead("127.0.0.1:1")
		line.cut()
		from := len(x.await(0, "the trouble", func(s string) bool { return strings.Contains(s, "no answer since") }))
		line.lead(strings.TrimPrefix(w.env["WAYMARK_SERVER"], "http://"))
		x.await(from, "the next answer", func(s string) bool { return strings.Contains(s, "every 2s") })
		x.types("\x03")
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: Ctrl-C: %v", args, err)
		}
	}
}

// TestWatchStopsAndContinues: Ctrl-Z gives the terminal back, and fg draws again.
func TestWatchStopsAndContinues(t *testing.T) {
	w := newCLIWorld(t, nil)
	x := newTerminal(t, 100, 24)
	cmd := x.start(w.waymark("status", "-w"))
	seen := x.await(0, "the board", func(s string) bool { return strings.Contains(s, "No targets yet") })
	x.types("\x1a")
	x.await(len(seen), "the terminal as it was", func(s string) bool { return strings.HasSuffix(s, screenOff) })
	from := len(x.seen.String())
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("it did not stop: %v, %v", status, err)
	}
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	x.await(from, "the board again", func(s string) bool {
		return strings.HasPrefix(s, screenOn) && strings.Contains(s, "No targets yet")
	})
	x.types("\x03")
	if err := cmd.Wait(); err != nil {
		t.Errorf("Ctrl-C: %v", err)
	}
}

func TestWatchIsForTerminals(t *testing.T) {
	w := newCLIWorld(t, nil)
	for _, line := range []string{"status -w", "status dev_us-east-1/research --watch", "runs list -w", "instances -w"} {
		if _, stderr, code := w.run(strings.Fields(line)...); code != exitUsage || !strings.Contains(stderr, "waymark watch") {
			t.Errorf("%s in a pipe: exit %d, %s", line, code, stderr)
		}
	}
	x := newTerminal(t, 80, 24)
	for _, c := range []struct{ term, more string }{{"dumb", ""}, {"xterm", "-ojson"}} {
		cmd := w.waymark("status", "--watch")
		if c.more != "" {
			cmd.Args = append(cmd.Args, c.more)
		}
		cmd.Env = append(cmd.Env, "TERM="+c.term)
		if err := x.start(cmd).Wait(); cmd.ProcessState.ExitCode() != exitUsage {
			t.Errorf("%v: %v", c, err)
		}
	}
	if strings.Contains(x.seen.String(), "\x1b") {
		t.Errorf("a dumb terminal gets %q", x.seen.String())
	}
	gone := w.waymark("status", "--watch")
	gone.Env = append(gone.Env, "WAYMARK_SERVER=http://127.0.0.1:1")
	from := len(x.seen.String())
	if err := x.start(gone).Wait(); gone.ProcessState.ExitCode() != exitUnreachable {
		t.Errorf("no service: %v", err)
	}
	if said := x.await(from, "the reason", func(s string) bool { return strings.Contains(s, "no answer from") }); strings.Contains(said, "\x1b") {
		t.Errorf("without a service there is a screen: %q", said)
	}
}

// TestTerminalAndPipe: the same list, cut on a terminal and whole in a pipe.
func TestTerminalAndPipe(t *testing.T) {
	w := newCLIWorld(t, nil)
	w.add("dev_us-east-1/research@1.0", release.AwaitingApproval)
	x := newTerminal(t, 60, 24)
	for _, line := range []string{"runs list", "status", "audit list", "runs show 1", "help runs list", "help drain"} {
		from := len(x.seen.String())
		if err := x.start(w.waymark(strings.Fields(line)...)).Wait(); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		seen := x.await(from, line, func(s string) bool { return strings.HasSuffix(s, "\r\n") })
		piped, _ := w.waymark(strings.Fields(line)...).Output()
		if strings.Contains(string(piped), "…") && !strings.Contains(line, "show") || strings.Contains(string(piped), "\x1b") {
			t.Errorf("%s in a pipe: %q", line, piped)
		}
		for l := range strings.Lines(escapes.ReplaceAllString(seen, "")) {
			if l = strings.TrimRight(l, "\r\n"); textWidth(l) > 60 && strings.Contains(strings.TrimSpace(l), " ") && !strings.Contains(l, "waits for a person") {
				t.Errorf("%s: %d columns in a terminal of 60: %s", line, textWidth(l), l)
			}
		}
	}
	if !strings.Contains(x.seen.String(), "…") {
		t.Error("nothing was cut")
	}
}

// TestProgressIsForTerminals: on standard error alone, where its line can be
// written over, and not among the lines of an export.
func TestProgressIsForTerminals(t *testing.T) {
	x := newTerminal(t, 80, 24)
	work := func(kind string, out io.Writer) {
		g := &globals{stdout: out, stderr: x.tty, env: func(string) string { return kind }}
		p := g.newProgress("copying", megabytesOf).beside(g.stdout)
		at := time.Now()
		p.now = func() time.Time { at = at.Add(time.Second); return at }
		for i := range int64(3) {
			p.at(i*1e6, 4e6)
		}
		p.end()
		fmt.Fprintf(x.tty, "done %s\n", kind)
	}
	work("dumb", io.Discard)
	work("xterm-beside", x.tty)
	work("xterm", io.Discard)
	seen := x.await(0, "the end", func(s string) bool { return strings.HasSuffix(s, "done xterm\r\n") })
	want := "done dumb\r\ndone xterm-beside\r\n\rcopying: 1.0 MB of 4.0 MB, 25%\x1b[K\rcopying: 2.0 MB of 4.0 MB, 50%\x1b[K\r\x1b[Kdone xterm\r\n"
	if seen != want {
		t.Errorf("got\n%q\nwant\n%q", seen, want)
	}
}

// shell is where shells find waymark, as this binary.
func (w *cliWorld) shell() []string {
	w.t.Helper()
	bin := w.t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\n%s=1 exec '%s' \"$@\"\n", beWaymark, os.Args[0])
	if err := os.WriteFile(filepath.Join(bin, "waymark"), []byte(script), 0o755); err != nil {
		w.t.Fatal(err)
	}
	env := []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + bin, "TERM=dumb", "LANG=C.UTF-8", "PS1=$ ", "PROMPT=$ ",
		"WAYMARK_SERVER=" + w.env["WAYMARK_SERVER"], "WAYMARK_TOKEN=" + w.env["WAYMARK_TOKEN"]}
	return env
}
