package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/waymark-cd/waymark/release"
)

// readyVariable tells the runner which file descriptor to write a byte to once
// it owns its folder.
const readyVariable = "WAYMARK_RUNNER_READY_FD"

// LauncherConfig configures a Launcher.
type LauncherConfig struct {
	// Command is the argument vector of `waymark runner`. Empty: this very
	// program, in the version that is running even where its file was replaced.
	Command []string
	// Path is the PATH of runner and tools. Empty: the service's own.
	Path string
	// Logger gets one line when a runner has ended. Nil: nothing is logged.
	Logger *slog.Logger
}

// Launcher starts runner processes. It is safe for concurrent use.
type Launcher struct {
	command []string
	path    string
	log     *slog.Logger
	closing chan struct{}
	close   sync.Once
	reapers sync.WaitGroup
}

// NewLauncher returns a Launcher. It starts nothing. The error says that this
// program's own file cannot be found.
func NewLauncher(cfg LauncherConfig) (*Launcher, error) {
	l := &Launcher{command: cfg.Command, path: cfg.Path, log: cfg.Logger, closing: make(chan struct{})}
	if len(l.command) == 0 {
		own, err := ownExecutable()
		if err != nil {
			return nil, fmt.Errorf("finding this program's file: %w", err)
		}
		l.command = []string{own, "runner"}
	}
	if l.path == "" {
		l.path = os.Getenv("PATH")
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	return l, nil
}

// Start makes Spec.Dir and starts a runner in a session and an environment of
// its own. Nil means that a runner owns the folder: Follow it. An error means
// that no runner ever will, because Start has taken the folder itself; it wraps
// release.ErrConflict where the folder belonged to somebody before.
//
// The runner does not end with this process. A service manager must not kill it
// either: under systemd, KillMode=process.
func (l *Launcher) Start(ctx context.Context, spec release.Spec) error {
	if !filepath.IsAbs(spec.Dir) {
		return fmt.Errorf("%w: the runner's folder %q is not absolute", release.ErrInvalid, spec.Dir)
	}
	input, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("%w: the runner's task: %w", release.ErrInvalid, err)
	}
	if err := os.MkdirAll(spec.Dir, 0o700); err != nil {
		return fmt.Errorf("making the runner's folder: %w", err)
	}
	if _, err := os.Stat(filepath.Join(spec.Dir, claimFile)); err == nil {
		return fmt.Errorf("%w: %s has had a runner already; start the phase in a new folder", release.ErrConflict, spec.Dir)
	}
	if err := syncDir(filepath.Dir(spec.Dir)); err != nil {
		return err
	}
	if err := l.launch(ctx, spec, input); err != nil {
		return l.settle(spec.Dir, err)
	}
	return nil
}

// settle decides what a failed start means: with the folder in our hands no
// runner can begin any more; in a runner's hands the start has succeeded.
func (l *Launcher) settle(dir string, cause error) error {
	err := Claim(dir)
	if errors.Is(err, release.ErrConflict) {
		l.log.Warn("runner began although its start was given up", "dir", dir, "cause", cause)
		return nil
	}
	return errors.Join(cause, err)
}

// launch starts the process, hands it the spec and waits for its claim.
func (l *Launcher) launch(ctx context.Context, spec release.Spec, input []byte) error {
	var pipes pipeSet
	defer pipes.close()
	stdin, feed := pipes.open()
	ready, readyChild := pipes.open()
	stderr := pipes.add(os.OpenFile(filepath.Join(spec.Dir, stderrFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600))
	if pipes.err != nil {
		return fmt.Errorf("starting the runner: %w", pipes.err)
	}
	// exec.Command without a context: the runner outlives whoever starts it.
	cmd := exec.Command(l.command[0], l.command[1:]...)
	cmd.Dir = spec.Dir
	// Without GOGC=off, which Main ends, a fifth of a start goes to collecting what
	// the packages' beginnings leave behind, and they leave next to nothing.
	cmd.Env = []string{"PATH=" + l.path, "GOGC=off", readyVariable + "=" + strconv.Itoa(3)}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stderr, stderr
	cmd.ExtraFiles = []*os.File{readyChild}
	cmd.SysProcAttr = ownSession()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the runner %q: %w", l.command[0], err)
	}
	l.reap(cmd, spec)
	// Only the child may hold its ends: their closing is how its death shows.
	stdin.Close()
	readyChild.Close()

	stop := context.AfterFunc(ctx, func() {
		feed.SetWriteDeadline(time.Unix(1, 0))
		ready.SetReadDeadline(time.Unix(1, 0))
	})
	defer stop()
	_, feedErr := feed.Write(input)
	feed.Close()
	if _, err := io.ReadFull(ready, make([]byte, 1)); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("starting the runner: %w", context.Cause(ctx))
		}
		return errors.Join(fmt.Errorf("the runner ended before it began; it said: %s", lastWords(spec.Dir)), feedErr)
	}
	return nil
}

// reap waits for a child in a goroutine that Close joins.
func (l *Launcher) reap(cmd *exec.Cmd, spec release.Spec) {
	watch, watchErr := watchChild(cmd.Process.Pid)
	l.reapers.Go(func() {
		if watchErr == nil {
			defer watch.Close()
			select {
			case <-watch.ended:
			case <-l.closing:
				_ = cmd.Process.Release() // it runs on; the next service finds it
				return
			}
		}
		attrs := []any{"run", spec.RunID, "attempt", spec.Attempt, "phase", spec.Phase}
		if err := cmd.Wait(); err != nil {
			l.log.Warn("runner ended badly", append(attrs, "err", err, "said", lastWords(spec.Dir))...)
			return
		}
		l.log.Debug("runner ended", attrs...)
	})
}

// Close joins the goroutines that wait for runners. Runners that live go on.
func (l *Launcher) Close() {
	l.close.Do(func() { close(l.closing) })
	l.reapers.Wait()
}

// lastWords gives the end of what a runner printed, on one line.
func lastWords(dir string) string {
	const keep = 1 << 10
	f, err := os.Open(filepath.Join(dir, stderrFile))
	if err != nil {
		return "nothing"
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > keep {
		_, _ = f.Seek(-keep, io.SeekEnd)
	}
	data, _ := io.ReadAll(io.LimitReader(f, keep))
	words := strings.Join(strings.Fields(strings.ToValidUTF8(string(data), "?")), " ")
	if words == "" {
		return "nothing"
	}
	return words
}

// pipeSet holds files that are closed together; the first error sticks.
type pipeSet struct {
	files []*os.File
	err   error
}

func (p *pipeSet) open() (r, w *os.File) {
	r, w, err := os.Pipe()
	p.add(r, err)
	p.add(w, err)
	return r, w
}

func (p *pipeSet) add(f *os.File, err error) *os.File {
	p.err = errors.Join(p.err, err)
	if err == nil {
		p.files = append(p.files, f)
	}
	return f
}

func (p *pipeSet) close() {
	for _, f := range p.files {
		f.Close()
	}
}
