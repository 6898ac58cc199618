package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/waymark-cd/waymark/mask"
	"github.com/waymark-cd/waymark/release"
)

// Config is what `waymark runner` gives to Main.
type Config struct {
	// PrepareBackend makes the root module in dir use the backend of spec and
	// returns the further arguments for init by engine. Errors that wrap
	// release.ErrRefused say that the code wants another backend.
	PrepareBackend func(dir string, engine release.EngineSpec, spec release.BackendSpec) (initArgs []string, err error)
	// Stdin holds the Spec as JSON, and ends after it. Nil: os.Stdin.
	Stdin io.Reader
	// Path is the PATH of the tools. Empty: that of this process.
	Path string
}

// The causes by which a phase is stopped.
var (
	errInterrupted = errors.New("stopped on request")
	errTimeout     = errors.New("the time allowed for it is over")
	errUnseen      = errors.New("the end of the apply was not seen")
)

// maxSpec bounds the Spec in bytes.
const maxSpec = 16 << 20

// Main is the runner process: it reads a Spec, takes its folder, executes the
// phase and writes the result. It changes the whole process (signals, umask,
// orphans), so it is called once and from a program that does nothing else.
//
// SIGINT, SIGTERM and the end of ctx stop the phase gracefully: gates are
// killed, the engine is interrupted once and waited for. A second signal
// changes nothing, because an engine that is interrupted twice gives up on its
// state. Spec.Timeout stops the phase in the same way.
//
// Nil means that a result was written, whatever its outcome. An error means
// that there is none: the folder belongs to another runner (wraps
// release.ErrConflict; nothing was done), the Spec cannot be read (wraps
// release.ErrInvalid), or the disk refuses the result.
func Main(ctx context.Context, cfg Config) error {
	if cfg.PrepareBackend == nil {
		return fmt.Errorf("%w runner: PrepareBackend is missing", release.ErrInvalid)
	}
	debug.SetGCPercent(100) // the launcher had put it off
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		for range signals {
			cancel(errInterrupted)
		}
	}()
	defer close(signals)
	defer signal.Stop(signals)

	ready := readyFile()
	if ready != nil {
		defer ready.Close()
	}
	if err := becomeRunner(); err != nil {
		return err
	}
	if cfg.Stdin == nil {
		cfg.Stdin = os.Stdin
	}
	if cfg.Path == "" {
		cfg.Path = os.Getenv("PATH")
	}
	spec, err := readSpec(cfg.Stdin)
	if err != nil {
		return err
	}
	if err := own(spec); err != nil {
		return err
	}
	if ready != nil {
		_, _ = ready.Write([]byte{1}) // who started us may be gone by now
		ready.Close()
	}
	if spec.Timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, spec.Timeout, errTimeout)
		defer stop()
	}
	return execute(ctx, cfg, spec)
}

// own takes the folder of a Spec for this process.
func own(spec *release.Spec) error {
	c, err := self()
	if err != nil {
		return err
	}
	c.Format, c.At = release.ProtocolFormat, time.Now().UTC()
	c.RunID, c.Attempt, c.Phase = spec.RunID, spec.Attempt, spec.Phase
	return takeClaim(spec.Dir, c)
}

// execute runs the phase and writes the result as the last act.
func execute(ctx context.Context, cfg Config, spec *release.Spec) error {
	hide, err := newMask(spec)
	if err != nil {
		return err
	}
	log, err := newJournal(spec.Dir, hide)
	if err != nil {
		return err
	}
	defer learnSession(hide, spec.SessionDir)()
	p := newPhase(spec, cfg, log)
	reserve := filepath.Join(spec.Dir, reserveFile)
	if err = reserveSpace(reserve); err == nil {
		err = guard(func() error { return p.run(ctx) })
	}
	// Neither changes what the phase came to.
	if tidyErr := errors.Join(removeFile(p.own(plainPlan)), removeFile(p.own(plainState)), removeFile(reserve), log.close()); tidyErr != nil {
		fmt.Fprintln(os.Stderr, "waymark runner:", tidyErr)
	}
	data, err := json.Marshal(p.result(err))
	if err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return replaceFile(filepath.Join(spec.Dir, resultFile), data)
}

// reserved is how much room is kept for the result, in bytes.
const reserved = 256 << 10

// reserveSpace keeps room on the disk, so that one which fills up during an
// apply still takes its result.
func reserveSpace(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		err = errors.Join(allocate(f, reserved), f.Close())
	}
	if err != nil {
		return fmt.Errorf("keeping room for the result, nothing has been done; free space on the disk and retry: %w", err)
	}
	return nil
}

// guard turns a panic into an error; the stack goes to standard error.
func guard(fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(os.Stderr, "waymark runner: panic: %s\n%s", new(mask.Mask).Text(fmt.Sprint(r)), debug.Stack())
			err = fmt.Errorf("waymark itself failed: %v (the stack is in the runner's %s)", r, stderrFile)
		}
	}()
	return fn()
}

// guarded is fn for a goroutine of its own, where nobody else would catch a panic.
func guarded(fn func() error) func() error { return func() error { return guard(fn) } }

// readyFile is where the launcher waits for our claim; nil where nobody does.
func readyFile() *os.File {
	fd, err := strconv.Atoi(os.Getenv(readyVariable))
	if err != nil || fd < 3 {
		return nil
	}
	f := os.NewFile(uintptr(fd), "ready")
	closeOnExec(f)
	return f
}

// readSpec reads one whole Spec. A launcher that died while it was writing
// leaves half a Spec, which is an error here: nothing is done.
func readSpec(r io.Reader) (*release.Spec, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxSpec+1))
	if err != nil {
		return nil, fmt.Errorf("reading the task from standard input: %w", err)
	}
	if len(data) > maxSpec {
		return nil, fmt.Errorf("%w: the task on standard input is larger than %d MiB", release.ErrInvalid, maxSpec>>20)
	}
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	dec.UseNumber() // a variable's number must not lose digits
	spec := new(release.Spec)
	if err := dec.Decode(spec); err != nil {
		return nil, fmt.Errorf("%w: the task on standard input is no Spec (this command is started by the service): %w", release.ErrInvalid, err)
	}
	if dec.More() {
		return nil, fmt.Errorf("%w: something follows the Spec on standard input", release.ErrInvalid)
	}
	if spec.Format != release.ProtocolFormat {
		return nil, fmt.Errorf("%w: the Spec has format %d, this program reads %d", release.ErrInvalid, spec.Format, release.ProtocolFormat)
	}
	if !filepath.IsAbs(spec.Dir) {
		return nil, fmt.Errorf("%w: the Spec's dir %q is not absolute", release.ErrInvalid, spec.Dir)
	}
	return spec, nil
}

var gateName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// checkSpec refuses a Spec that would make a tool write where it must not.
func checkSpec(spec *release.Spec) error {
	var wrong []string
	check := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	check(slices.Contains([]release.Phase{release.PhasePlan, release.PhaseApply, release.PhasePush}, spec.Phase), "phase %q: want plan, apply or push", spec.Phase)
	for _, p := range append([]string{spec.WorkDir, spec.Engine.Path}, append(spec.Writable, spec.Readable...)...) {
		check(filepath.IsAbs(p), "path %q is not absolute", p)
	}
	for _, p := range append([]string{spec.WorkDir, toolsDir(spec)}, spec.Writable...) {
		check(!inside(p, spec.Dir), "tools may write to %s, so the runner's folder %s must not lie in it", p, spec.Dir)
	}
	for _, p := range append([]string{orDot(spec.Stack.Path)}, spec.Stack.VarFiles...) {
		check(filepath.IsLocal(p), "path %q leaves the repository", p)
	}
	for _, g := range spec.Gates {
		check(gateName.MatchString(g.Name), "gate %q: want a short lower-case name", g.Name)
	}
	saved := spec.Phase == release.PhaseApply || spec.PlanRecipient != ""
	check(!saved || filepath.IsAbs(spec.PlanFile), "plan_file %q is not absolute", spec.PlanFile)
	check(spec.Phase != release.PhaseApply || spec.PlanIdentity != "" && spec.PlanDigest != "", "an apply needs plan_identity and plan_digest")
	check(spec.Phase != release.PhasePush || filepath.IsAbs(spec.StateFile) && spec.PlanIdentity != "", "a push needs state_file, an absolute path, and plan_identity")
	check(spec.Phase != release.PhasePlan || spec.PlanRecipient != "" || spec.Kind == release.PlanOnly || spec.Kind == release.Drift,
		"a plan that is to be applied needs plan_recipient")
	if len(wrong) > 0 {
		return fmt.Errorf("%w task for the runner: %s", release.ErrInvalid, strings.Join(wrong, "; "))
	}
	return nil
}

// inside reports whether path is dir or lies in it.
func inside(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

func orDot(path string) string {
	if path == "" {
		return "."
	}
	return path
}

// removeFile removes a file that may be missing.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing %s: %w", path, err)
	}
	return nil
}
