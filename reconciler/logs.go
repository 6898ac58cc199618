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
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/release"
)

// logPoll is how often a followed log is looked at again.
const logPoll = 100 * time.Millisecond

// Logs writes a run's log as text, one line an event, in the order in which its
// runners wrote them. With follow it goes on until the run has ended and all is
// written, or ctx ends.
func (r *Reconciler) Logs(ctx context.Context, id int64, follow bool, w io.Writer) error {
	read := map[string]int64{}
	looked := time.Time{}
	for {
		run, err := r.Store.Run(ctx, id)
		if err != nil {
			return err
		}
		// The state is read before the files: what an ended run wrote is all there.
		files, err := r.eventFiles(id)
		if err != nil {
			return err
		}
		for _, f := range files {
			if read[f], err = copyEvents(w, f, read[f]); err != nil {
				return err
			}
		}
		if ended := !follow || run.State.Ended(); ended || time.Since(looked) > shipEvery {
			looked = time.Now()
			if err := r.copyKept(ctx, id, w, read); err != nil {
				return err
			}
		}
		if !follow || run.State.Ended() {
			if run.State.Ended() {
				if len(read) == 0 {
					if _, err := io.WriteString(w, r.goneLog(run)); err != nil {
						return err
					}
				}
				_, err = fmt.Fprintf(w, "run %d %s%s\n", run.ID, run.State, because("", run.Reason))
			}
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(logPoll):
		}
	}
}

// copyKept writes what of a run's log is kept in the blob store alone: another
// worker has, or had, the run.
func (r *Reconciler) copyKept(ctx context.Context, id int64, w io.Writer, read map[string]int64) error {
	keys, err := r.keptLog(ctx, id)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if _, done := read[key]; done {
			continue
		}
		blob, err := r.Blobs.Get(ctx, key)
		if err != nil {
			return fmt.Errorf("reading the log of run %d: %w", id, err)
		}
		n, err := copyLines(w, blob)
		blob.Close()
		if err != nil {
			return err
		}
		read[key] = n
	}
	return nil
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

// copyEvents writes the whole lines of an event file from offset as text, and
// returns where it stopped. A file that is not there yet is empty.
func copyEvents(w io.Writer, path string, offset int64) (int64, error) {
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
	n, err := copyLines(w, f)
	return offset + n, err
}

// copyLines writes the whole lines of events as text, and returns how many bytes
// they had.
func copyLines(w io.Writer, events io.Reader) (n int64, err error) {
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadBytes('\n')
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
		if _, err := io.WriteString(w, eventLine(e)); err != nil {
			return n, err
		}
	}
}

// eventLine prints one event: time, stage, text.
func eventLine(e release.Event) string {
	text := e.Message
	if e.Type == release.EventStage {
		text = "== " + string(e.State)
		if e.Message != "" {
			text += ": " + e.Message
		}
	}
	return fmt.Sprintf("%s %-8s %s\n", e.At.UTC().Format("15:04:05.000"), e.Stage, strings.TrimRight(text, "\n"))
}
