package gates

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/waymark-cd/waymark/release"
)

const (
	maxOutput   = 64 << 20        // bytes of standard output
	maxLine     = 4 << 10         // bytes of one line of standard error
	maxLogLines = 1000            // lines of standard error that are passed on
	tailLines   = 5               // lines of standard error that an error repeats
	pipeGrace   = 5 * time.Second // for pipes that a stray grandchild holds open

	// maxSocketDir is the longest TMPDIR, in bytes, in which tflint's rules can
	// open their socket: 108 less the end mark and "/plugin" with ten digits. A
	// longer one is handed down as an open folder.
	maxSocketDir = 108 - 1 - 17
)

var versionPattern = regexp.MustCompile(`^\d{1,6}\.\d{1,6}\.\d{1,6}$`)

// output is what one process left behind.
type output struct {
	stdout []byte
	stderr []string // its last lines, cleaned
	exit   int
}

// tail repeats the last of standard error for an error message.
func (o output) tail() string {
	if len(o.stderr) == 0 {
		return ""
	}
	return "; it said: " + strings.Join(o.stderr, " | ")
}

// command builds the process: an environment made of nothing, the scratch folder
// to work in, a process group of its own unless the caller makes it a session.
// The function that comes with it closes what it holds open for the child.
func (cfg Config) command(ctx context.Context, args []string) (*exec.Cmd, func() error, error) {
	cmd := exec.CommandContext(ctx, cfg.Spec.Path, args...)
	cmd.Dir = cfg.Scratch
	if cfg.kind.inTree {
		cmd.Dir = cfg.Tree
	}
	tmp, closeDir := cfg.Scratch, func() error { return nil }
	if len(tmp) > maxSocketDir {
		dir, err := os.Open(tmp)
		if err != nil {
			return nil, nil, fmt.Errorf("opening the scratch folder: %w", err)
		}
		closeDir = dir.Close
		cmd.ExtraFiles, tmp = []*os.File{dir}, "/proc/self/fd/3" // the first extra file, in every descendant
	}
	cmd.Env = append([]string{"PATH=" + cfg.Path, "HOME=" + cfg.Scratch, "TMPDIR=" + tmp,
		"LANG=C.UTF-8"}, cfg.kind.env(cfg.Scratch)...)
	cmd.WaitDelay = pipeGrace
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if cfg.Prepare != nil {
		cfg.Prepare(cmd)
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = !cmd.SysProcAttr.Setsid
	return cmd, closeDir, nil
}

// start runs the gate's executable with args in the scratch folder and waits.
// Any exit code is an answer; a signal, an overflow and an end of ctx are errors.
func (cfg Config) start(ctx context.Context, args ...string) (output, error) {
	cmd, closeDir, err := cfg.command(ctx, args)
	if err != nil {
		return output{}, err
	}
	defer closeDir()
	stdout, stderr := &limited{left: maxOutput}, &lines{log: cfg.Log, watch: cfg.watch}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	killGroup := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel = killGroup

	if err = cmd.Start(); err != nil {
		return output{}, fmt.Errorf("%w: starting %s: %w", release.ErrUnavailable, cfg.Spec.Path, err)
	}
	err = cmd.Wait()
	_ = killGroup() // what the gate itself left running; mostly nothing
	stderr.flush()
	out := output{stdout: stdout.buf.Bytes(), stderr: stderr.last, exit: cmd.ProcessState.ExitCode()}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return out, fmt.Errorf("stopped before it had judged: %w", context.Cause(ctx))
	case stdout.left < 0:
		return out, fmt.Errorf("it printed more than %d MiB; scan a smaller tree", maxOutput>>20)
	case err != nil && (!errors.As(err, &exit) || out.exit < 0):
		return out, fmt.Errorf("it did not end by itself: %w%s", err, out.tail())
	}
	return out, nil
}

// limited keeps what is written to it, up to a size. Past that it fails, which
// closes the pipe and so ends the process.
type limited struct {
	buf  bytes.Buffer
	left int // bytes; below zero once there was too much
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, errors.New("too much output")
	}
	return l.buf.Write(p)
}

// lines passes whole lines on and remembers the last few.
type lines struct {
	log     func(string)
	watch   func(string) // gets every line as it is; may be nil
	partial []byte
	count   int
	last    []string
}

func (l *lines) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		line, rest, ended := bytes.Cut(p, []byte("\n"))
		l.partial = append(l.partial, line[:min(len(line), maxLine-len(l.partial))]...)
		if ended {
			l.flush()
		}
		p = rest
	}
	return n, nil
}

func (l *lines) flush() {
	if l.watch != nil && len(l.partial) > 0 {
		l.watch(string(l.partial))
	}
	line := clean(string(l.partial), maxLine)
	l.partial = l.partial[:0]
	if line == "" {
		return
	}
	if l.last = append(l.last, line); len(l.last) > tailLines {
		l.last = l.last[1:]
	}
	switch l.count++; {
	case l.count <= maxLogLines:
		l.log(line)
	case l.count == maxLogLines+1:
		l.log("further lines are not shown")
	}
}

// clean makes one printable line of at most limit runes out of hostile text.
func clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if runes := []rune(s); len(runes) > limit {
		s = string(runes[:limit-1]) + "…"
	}
	return s
}

// decode reads a gate's output as exactly one JSON value.
func decode(out output, into any) error {
	if err := decodeOne(out.stdout, into); err != nil {
		return fmt.Errorf("%w, exit %d%s", err, out.exit, out.tail())
	}
	return nil
}

// decodeOne reads src as exactly one JSON value.
func decodeOne(src []byte, into any) error {
	if len(bytes.TrimSpace(src)) == 0 {
		return errors.New("it printed nothing")
	}
	dec := json.NewDecoder(bytes.NewReader(src))
	err := dec.Decode(into)
	if err == nil {
		if _, more := dec.Token(); more != io.EOF {
			err = errors.New("something follows the JSON")
		}
	}
	if err != nil {
		return fmt.Errorf("its output is not the JSON that was asked for (%w)", err)
	}
	return nil
}
