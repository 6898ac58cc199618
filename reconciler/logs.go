package reconciler

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/release"
)

const (
	// logPoll is how often a followed log is looked at again.
	logPoll = 100 * time.Millisecond
	// statePoll is how often the run's state is, where nobody tells that it changed.
	statePoll = 2 * time.Second
)

// Logs hands a run's log to each, line by line and numbered from 1, in the order in
// which its runners wrote it; lines before from are left out. With follow it goes
// on until the run has ended and all is handed on, or ctx ends. It returns the run
// as it was when its log had been read.
func (r *Reconciler) Logs(ctx context.Context, id, from int64, follow bool, each func(release.LogLine) error) (release.Run, error) {
	changed := r.Store.Watch()
	defer changed.Close()
	out := &logReader{r: r, id: id, from: from, each: each, read: map[string]int64{}}
	shipped, asked := time.Time{}, time.Time{}
	var run release.Run
	for {
		ask := time.Since(asked) > statePoll
		select {
		case <-changed.C():
			c := changed.Take()
			ask = ask || c.All || slices.Contains(c.Runs, id)
		default:
		}
		// The state is read before the files: what an ended run wrote is all there.
		if ask {
			var err error
			if run, err = r.Store.Run(ctx, id); err != nil {
				return run, err
			}
			asked = time.Now()
		}
		last := !follow || run.State.Ended()
		kept := last || time.Since(shipped) > shipEvery
		if kept {
			shipped = time.Now()
		}
		if err := out.copy(ctx, kept); err != nil {
			return run, err
		}
		if last {
			if text := r.goneLog(run); run.State.Ended() && len(out.read) == 0 && text != "" {
				return run, each(release.LogLine{Text: text})
			}
			return run, nil
		}
		select {
		case <-ctx.Done():
			return run, ctx.Err()
		case <-time.After(logPoll):
		}
	}
}

// logReader hands on what it has not yet read of a run's log.
type logReader struct {
	r    *Reconciler
	id   int64
	from int64
	each func(release.LogLine) error
	read map[string]int64 // bytes, by file or key
	n    int64            // lines so far
}

// copy reads on in the files on this disk and, with kept, in what is in the blob
// store alone: another worker has, or had, the run.
func (l *logReader) copy(ctx context.Context, kept bool) error {
	files, err := l.r.eventFiles(l.id)
	if err != nil {
		return err
	}
	sources := files
	if kept {
		keys, err := l.r.keptLog(ctx, l.id)
		if err != nil {
			return err
		}
		sources = append(sources, keys...)
		slices.SortStableFunc(sources, l.r.compareSources)
	}
	for _, source := range sources {
		if filepath.IsAbs(source) {
			l.read[source], err = l.file(source, l.read[source])
		} else if _, done := l.read[source]; !done {
			l.read[source], err = l.piece(ctx, source)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// compareSources orders files and keys: by attempt, planning before applying.
func (r *Reconciler) compareSources(a, b string) int {
	key := func(s string) string {
		if rel, err := filepath.Rel(r.runsDir(), s); err == nil && filepath.IsAbs(s) {
			return path.Join("runs", filepath.ToSlash(rel))
		}
		return s
	}
	return compareLogKeys(key(a), key(b))
}

// piece reads a piece that is kept, which is whole.
func (l *logReader) piece(ctx context.Context, key string) (int64, error) {
	blob, err := l.r.Blobs.Get(ctx, key)
	if err != nil {
		return 0, fmt.Errorf("reading the log of run %d: %w", l.id, err)
	}
	defer blob.Close()
	return l.lines(blob)
}

// file reads the whole lines of an event file from offset on, and returns where it
// stopped. A file that is not there yet is empty.
func (l *logReader) file(path string, offset int64) (int64, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return offset, nil
	}
	if err != nil {
		return offset, fmt.Errorf("reading a run's log: %w", err)
	}
	defer f.Close()
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return offset, fmt.Errorf("reading a run's log: %w", err)
	}
	n, err := l.lines(f)
	return offset + n, err
}

// lines hands on the whole lines of events, and returns how many bytes they had.
func (l *logReader) lines(events io.Reader) (n int64, err error) {
	in := bufio.NewReader(events)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("reading a run's log: %w", err)
		}
		n += int64(len(line))
		var e release.Event
		if json.Unmarshal(line, &e) != nil {
			continue // torn by a kill
		}
		if l.n++; l.n < l.from {
			continue
		}
		if err := l.each(release.LogLine{N: l.n, At: e.At, Stage: e.Stage, State: e.State, Text: strings.TrimRight(e.Message, "\n")}); err != nil {
			return n, err
		}
	}
}

// eventFiles lists the event files of a run: by attempt, planning before applying.
func (r *Reconciler) eventFiles(id int64) ([]string, error) {
	root := r.path(release.FormatID(id))
	attempts, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the log of run %d: %w", id, err)
	}
	var numbers []int
	for _, a := range attempts {
		if n, err := strconv.Atoi(a.Name()); err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	var out []string
	for _, n := range numbers {
		applies, err := filepath.Glob(filepath.Join(root, strconv.Itoa(n), "apply-*", "events.jsonl"))
		pushes, err2 := filepath.Glob(filepath.Join(root, strconv.Itoa(n), "push-*", "events.jsonl"))
		if err := errors.Join(err, err2); err != nil {
			return nil, err
		}
		applies = append(applies, pushes...)
		slices.Sort(applies)
		out = append(append(out, filepath.Join(root, strconv.Itoa(n), "plan", "events.jsonl")), applies...)
	}
	return out, nil
}
