package terraform

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// After the engine's end its output is read until it ends, or until nothing
// came for drainQuiet, or for drainMax at most. Only a process that the engine
// left behind with the same output can reach these.
const (
	drainQuiet = time.Second
	drainMax   = time.Minute
)

// maxNotes bounds how much of the engine's plain text is kept for the reason of
// a failure, in bytes.
const maxNotes = 256 << 10

// run starts the engine once and returns when it has ended. stdout is called
// on a goroutine of its own and need not read to the end; standard error goes
// to the log. extraEnv adds to the engine's environment. A failure is an *Error
// whose diagnostics are those that standard error holds, after those
// that diags (which may be nil) returns once all output has been read.
func (e *Engine) run(ctx context.Context, name string, args, extraEnv []string,
	stdout func(io.Reader), diags func() []Diagnostic) (err error) {

	// The child is killed when the thread that started it ends; so nobody else
	// may use this thread, and end it, until the child is gone.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	if ctx.Err() != nil {
		return &Error{Command: name, Err: stopped(ctx)}
	}
	began := time.Now()
	defer func() { e.cfg.Command(name, began, err) }()
	cmd := exec.CommandContext(ctx, e.cfg.Path, args...)
	cmd.Dir = e.cfg.Dir
	cmd.Env = slices.Clone(extraEnv)
	for name, value := range e.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.SysProcAttr = processAttributes()
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = e.cfg.StopTimeout

	said := &notes{log: e.log}
	err = e.start(cmd, stdout, func(r io.Reader) { readLines(r, maxLine, said.take) })
	if cmd.ProcessState != nil && cmd.ProcessState.Success() {
		return nil
	}
	var found []Diagnostic
	if diags != nil {
		found = diags()
	}
	return failed(ctx, name, err, slices.Concat(found, parsePlain(string(said.text))), said.text)
}

// failed makes the *Error of a command that ended with err.
func failed(ctx context.Context, name string, err error, diags []Diagnostic, stderr []byte) error {
	failure := &Error{Command: name, Err: err}
	failure.add(diags...)
	if ctx.Err() != nil {
		failure.Err = stopped(ctx)
		if exit := killed(err); exit != nil { // the caller must know that nothing was saved
			failure.Err = fmt.Errorf("%w (%w)", failure.Err, exit)
		}
	} else if len(failure.Diagnostics) == 0 {
		failure.Err = withLastLine(err, stderr)
	}
	return failure
}

// notes takes what an engine says in plain text, line by line: all of it goes
// to the log, the beginning is kept.
type notes struct {
	log  func(...string)
	text []byte
}

func (n *notes) take(line []byte, isCut bool) {
	if text := string(line); text != "" {
		if isCut {
			text += "…"
		}
		n.log(text)
	}
	if len(n.text) < maxNotes {
		n.text = append(append(n.text, line...), '\n')
	}
}

// Write takes one whole line, which is how terraform-exec writes.
func (n *notes) Write(line []byte) (int, error) {
	text := bytes.TrimSuffix(line, []byte("\n"))
	n.take(text[:min(len(text), maxLine)], len(text) > maxLine)
	return len(line), nil
}

// start runs cmd to its end with its output read on two goroutines. The pipes
// are ours, not exec's: exec would wait for WaitDelay, a day, for a process
// that the engine left behind and that holds the output open.
func (e *Engine) start(cmd *exec.Cmd, stdout, stderr func(io.Reader)) error {
	outR, outW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer outR.Close()
	errR, errW, err := os.Pipe()
	if err != nil {
		outW.Close()
		return err
	}
	defer errR.Close()
	cmd.Stdout, cmd.Stderr = outW, errW
	err = cmd.Start()
	outW.Close()
	errW.Close()
	if err != nil {
		return err
	}
	var readers sync.WaitGroup
	var ended atomic.Pointer[time.Time]
	for _, r := range []struct {
		pipe *os.File
		read func(io.Reader)
	}{{outR, stdout}, {errR, stderr}} {
		readers.Go(func() {
			in := &pipeReader{r.pipe, &ended}
			r.read(in)
			_, _ = io.Copy(io.Discard, in) // the engine must not block on what nobody reads
		})
	}
	err = cmd.Wait()
	now := time.Now()
	ended.Store(&now)
	_ = outR.SetReadDeadline(now.Add(drainQuiet))
	_ = errR.SetReadDeadline(now.Add(drainQuiet))
	readers.Wait()
	return err
}

// pipeReader reads the output of a process, also when it has ended. What does
// not come any more is an end like any other.
type pipeReader struct {
	pipe  *os.File
	ended *atomic.Pointer[time.Time]
}

func (r *pipeReader) Read(p []byte) (int, error) {
	if end := r.ended.Load(); end != nil {
		if time.Since(*end) > drainMax {
			return 0, io.EOF
		}
		_ = r.pipe.SetReadDeadline(time.Now().Add(drainQuiet))
	}
	n, err := r.pipe.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = io.EOF
	}
	return n, err
}

// killed gives err as the end of a process by a signal other than the
// interrupt, which ends an engine only before it has begun; nil for any other.
func killed(err error) *exec.ExitError {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return nil
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() == syscall.SIGINT {
		return nil
	}
	return exit
}

// stopped is the error of a run whose context ended: the context's error and,
// where one was named, its cause.
func stopped(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, ctx.Err()) {
		return fmt.Errorf("%w: %w", ctx.Err(), cause)
	}
	return context.Cause(ctx)
}

// readLines calls line for every line of r, without its newline and cut at max
// bytes (then cut is true), until r ends or fails. The slice is reused.
func readLines(r io.Reader, max int, line func(b []byte, cut bool)) {
	in := bufio.NewReaderSize(r, 64<<10)
	var buf []byte
	short := false
	for {
		part, err := in.ReadSlice('\n')
		more := errors.Is(err, bufio.ErrBufferFull)
		if n := len(part); n > 0 && part[n-1] == '\n' {
			part = part[:n-1]
		} else if n == 0 && err != nil && len(buf) == 0 {
			return
		}
		if room := max - len(buf); len(part) > room {
			part, short = part[:room], true
		}
		buf = append(buf, part...)
		if more {
			continue
		}
		line(buf, short)
		if err != nil {
			return
		}
		buf, short = buf[:0], false
	}
}
