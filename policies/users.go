package policies

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/release"
)

// Bounds of the process that evaluates users' rules, where the configuration
// names no others, and of what it may say.
const (
	DefaultTimeout = 30 * time.Second
	DefaultMemory  = 1 << 30

	graceTime = 2 * time.Second // beyond the time allowed, until it is killed
	maxAnswer = 16 << 20
	maxStderr = 64 << 10
)

// users are the rules of the operator's folders. They are evaluated in a process
// of their own: one that loops, or takes memory without end, takes nothing with it.
type users struct {
	files    []release.PolicyFile
	points   map[string]bool
	settings map[string]any
	timeout  time.Duration
	memory   int64
	command  []string // starts the evaluator
}

// newUsers looks which decision points users' files are for.
func newUsers(spec release.PolicySpec, settings map[string]any) (users, error) {
	u := users{files: spec.Files, settings: settings, timeout: cmp.Or(spec.Timeout, DefaultTimeout), memory: cmp.Or(spec.Memory, DefaultMemory)}
	if len(u.files) == 0 {
		return u, nil
	}
	lib := readLibrary(u.files)
	if problems := lib.sorted(); len(problems) > 0 {
		return u, fmt.Errorf("%w policy: %s (%d problems in all)", release.ErrInvalid, problems[0], len(problems))
	}
	u.points = lib.points
	own, err := ownExecutable()
	if err != nil {
		return u, fmt.Errorf("finding waymark's own executable: %w", err)
	}
	u.command = []string{own, EvaluatorCommand}
	return u, nil
}

// has reports whether there are rules for a decision point.
func (u *users) has(point string) bool { return u.points[point] }

// evaluate asks the users' rules of one decision point. What they do wrong is an
// error that wraps release.ErrRefused: in doubt the answer is no. Any other error
// is no fault of theirs, and nobody's yes either.
func (u *users) evaluate(ctx context.Context, point string, input any, trace bool) (answer, error) {
	head, err := json.Marshal(request{Point: point, Files: u.files, Settings: u.settings, Timeout: u.timeout, Memory: u.memory, Trace: trace})
	if err != nil {
		return answer{}, err
	}
	body, err := json.Marshal(input)
	if err != nil {
		return answer{}, fmt.Errorf("writing the rules' input: %w", err)
	}
	within, cancel := context.WithTimeout(ctx, u.timeout+graceTime)
	defer cancel()
	stdout, stderr := &bounded{most: maxAnswer}, &bounded{most: maxStderr}
	cmd := exec.CommandContext(within, u.command[0], u.command[1:]...)
	cmd.Stdin = io.MultiReader(bytes.NewReader(head), bytes.NewReader(body))
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.Env = []string{} // nothing of the service's, or the run's, is for rules
	cmd.Dir, cmd.SysProcAttr = os.TempDir(), apart()
	cmd.WaitDelay = graceTime
	if err := cmd.Start(); err != nil {
		return answer{}, fmt.Errorf("starting the evaluation of policies: %w", err)
	}
	err = cmd.Wait()
	if ctx.Err() != nil {
		return answer{}, context.Cause(ctx)
	}
	if err != nil {
		return answer{}, u.whyEnded(point, err, within.Err() != nil, stderr.String())
	}
	var a answer
	if stdout.over {
		return a, denial("the rules of package %s say more than %d MiB", point, maxAnswer>>20)
	}
	if err := strictly(stdout.Bytes(), &a); err != nil {
		return a, fmt.Errorf("reading the answer of the rules of package %s: %w", point, err)
	}
	if a.Error != "" {
		return a, denial("%s", oneLine(a.Error))
	}
	if a.Late != "" {
		return a, lateError(a.Late, u.timeout)
	}
	return a, nil
}

var (
	// Go ends by a signal where the system refuses memory that it counts on. A
	// binary built with the race detector may hear of it from that first.
	outOfMemory = regexp.MustCompile(`(?m)^(fatal error|fatal|runtime): .*(out of memory|cannot allocate memory|failed to (reserve|allocate|create new OS thread)|cannot map pages)|^(SIGSEGV|SIGBUS|SIGABRT): |ThreadSanitizer: .*(failed to .*allocate|out of memory|unable to mmap)`)
	panicked    = regexp.MustCompile(`(?m)^(panic|fatal error|runtime): .*`)
)

// whyEnded says why the evaluator gave no answer, and what it was at.
func (u *users) whyEnded(point string, err error, late bool, said string) error {
	at, last := "the rules of package "+point, ""
	for line := range strings.SplitSeq(strings.TrimSpace(said), "\n") {
		last = line
		if step, ok := strings.CutPrefix(line, stepPrefix); ok {
			at, last = step, ""
		}
	}
	exit, ended := errors.AsType[*exec.ExitError](err)
	switch {
	case outOfMemory.MatchString(said):
		return denial("%s needed more than %d MiB of memory: write the rules so that they need less, or raise policy { memory }", at, u.memory>>20)
	case late, ended && exit.ExitCode() == lateExit:
		return lateError(at, u.timeout)
	case ended && exit.ExitCode() < 0: // by a signal, which is nobody's rule
		return fmt.Errorf("%s could not be evaluated: the process that did it was ended from outside (%w)", at, err)
	}
	why := cmp.Or(panicked.FindString(said), last, err.Error())
	return denial("%s could not be evaluated: %s", at, oneLine(why))
}

// denial is an error that says no, and wraps release.ErrRefused.
func denial(format string, args ...any) error { return &denied{fmt.Sprintf(format, args...)} }

type denied struct{ text string }

// Error says why.
func (d *denied) Error() string { return d.text }

// Unwrap gives release.ErrRefused.
func (d *denied) Unwrap() error { return release.ErrRefused }

func lateError(at string, timeout time.Duration) error {
	return denial("%s did not end within %s: write the rules so that they take less time, or raise policy { timeout }", at, timeout)
}

// strictly decodes JSON without members that nobody reads.
func strictly(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

// bounded keeps the first bytes of what is written to it.
type bounded struct {
	bytes.Buffer
	most int
	over bool // there was more
}

// Write never fails, so that the writer goes on to its end.
func (b *bounded) Write(p []byte) (int, error) {
	if room := b.most - b.Len(); len(p) > room {
		b.over = true
		b.Buffer.Write(p[:room])
		return len(p), nil
	}
	return b.Buffer.Write(p)
}
