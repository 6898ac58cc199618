package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/waymark-cd/waymark/release"
)

// followEvery is how often the event file is looked at. The end of the process
// is seen at once, through its pidfd.
const followEvery = 25 * time.Millisecond

// maxEventLine is longer than any line that a runner writes, in bytes.
const maxEventLine = 128 << 10

// Follow hands on the events of a folder's runner from offset (in bytes; 0 for
// all) and returns its result when the process has ended. onEvent is called in
// order, on the calling goroutine, with the offset to continue from later; nil
// for no events. Lines that are no events, such as one torn by a kill, are
// passed over.
//
// The error is ErrGone where the process died without a result, wraps
// release.ErrNotFound where no runner has taken the folder and
// release.ErrInvalid where the result cannot be read; a cancelled ctx gives its
// cause and leaves the runner alone.
func Follow(ctx context.Context, dir string, offset int64, onEvent func(event release.Event, next int64)) (release.Result, error) {
	c, err := readClaim(dir)
	if err != nil {
		return release.Result{}, err
	}
	if c.byService() {
		return release.Result{}, fmt.Errorf("%w: no runner has taken %s", release.ErrNotFound, dir)
	}
	if onEvent == nil {
		onEvent = func(release.Event, int64) {}
	}
	events := &tail{path: filepath.Join(dir, eventsFile), offset: offset}
	defer events.close()
	if err := followProcess(ctx, c, func() error { return events.drain(onEvent) }); err != nil {
		return release.Result{}, err
	}
	if err := events.drain(onEvent); err != nil {
		return release.Result{}, err
	}
	return readResult(dir, c)
}

// followProcess calls tick now and then until the process of a claim has ended.
func followProcess(ctx context.Context, c claim, tick func() error) error {
	watch, err := watchClaim(c)
	if errors.Is(err, errEnded) {
		return nil
	}
	if err != nil {
		return err
	}
	defer watch.Close()
	ticker := time.NewTicker(followEvery)
	defer ticker.Stop()
	for {
		if err := tick(); err != nil {
			return err
		}
		select {
		case <-watch.ended:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// tail reads whole lines of a growing file.
type tail struct {
	path     string
	file     *os.File
	offset   int64
	buf      []byte
	skipping bool // within a line that is too long to be ours
}

func (t *tail) close() {
	if t.file != nil {
		t.file.Close()
	}
}

// drain hands on every whole line that is there.
func (t *tail) drain(onEvent func(release.Event, int64)) error {
	if t.file == nil {
		f, err := os.Open(t.path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the runner's events: %w", err)
		}
		t.file, t.buf = f, make([]byte, maxEventLine)
	}
	for {
		n, err := t.file.ReadAt(t.buf, t.offset)
		if err != nil && err != io.EOF {
			return fmt.Errorf("reading the runner's events: %w", err)
		}
		data := t.buf[:n]
		whole := bytes.LastIndexByte(data, '\n') + 1
		t.emit(data[:whole], onEvent)
		if whole == 0 && n == len(t.buf) {
			t.skipping = true
			t.offset += int64(n)
		} else if n < len(t.buf) {
			return nil
		}
	}
}

// emit hands on the events of whole lines and moves the offset past them.
func (t *tail) emit(lines []byte, onEvent func(release.Event, int64)) {
	for line := range bytes.Lines(lines) {
		t.offset += int64(len(line))
		var event release.Event
		if t.skipping {
			t.skipping = false
		} else if json.Unmarshal(line, &event) == nil && event.Format >= 1 && event.Format <= release.ProtocolFormat {
			onEvent(event, t.offset)
		}
	}
}

// maxResult bounds result.json in bytes.
const maxResult = 64 << 20

// readResult reads the result that belongs to a claim, or gives ErrGone.
func readResult(dir string, c claim) (release.Result, error) {
	var result release.Result
	path := filepath.Join(dir, resultFile)
	data, err := readLimited(path, maxResult)
	if errors.Is(err, fs.ErrNotExist) {
		return result, ErrGone
	}
	if err != nil {
		return result, err
	}
	if err := json.Unmarshal(data, &result); err != nil {
		return release.Result{}, fmt.Errorf("%w: %s: %w", release.ErrInvalid, path, err)
	}
	if result.Format < 1 || result.Format > release.ProtocolFormat || result.RunID != c.RunID || result.Attempt != c.Attempt || result.Phase != c.Phase {
		return release.Result{}, fmt.Errorf("%w: %s is not the result of the runner that owns the folder", release.ErrInvalid, path)
	}
	return result, nil
}
