package reconciler

import (
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
	// pollsAtOnce is how many followers are served that often: more of them wait
	// longer, so that they do not cost more together.
	pollsAtOnce = 64
	// statePoll is how often the run's state is, where nobody tells that it changed.
	statePoll = 2 * time.Second
)

// Logs hands the lines of a run's log that are asked for to each, numbered from 1,
// in the order in which its runners wrote them. Lines before them are not read. It
// returns the run as it was when its log had been read; on errors of ctx, the
// record, the files and each, that error.
func (r *Reconciler) Logs(ctx context.Context, id int64, q release.LogRange, each func(release.LogLine) error) (release.Run, error) {
	changed := r.Store.Watch()
	defer changed.Close()
	r.logReaders.Add(1)
	defer r.logReaders.Add(-1)
	out, err := r.newLogReader(ctx, id, q, each)
	if err != nil {
		return release.Run{}, err
	}
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
			if run, err = r.Store.Run(ctx, id); err != nil {
				return run, err
			}
			asked = time.Now()
		}
		last := !q.Follow || run.State.Ended()
		kept := last || time.Since(shipped) > shipEvery
		if kept {
			shipped = time.Now()
		}
		err := out.copy(ctx, kept)
		if errors.Is(err, errLogRead) {
			return run, nil
		}
		if err != nil {
			return run, err
		}
		if last {
			if text := r.goneLog(run); run.State.Ended() && out.at.key == "" && text != "" {
				return run, each(release.LogLine{Text: text})
			}
			return run, nil
		}
		select {
		case <-ctx.Done():
			return run, ctx.Err()
		case <-time.After(logPoll * time.Duration(1+r.logReaders.Load()/pollsAtOnce)):
		}
	}
}

// errLogRead ends the reading of a log at the last line that is asked for.
var errLogRead = errors.New("the lines that were asked for are read")

// logReader hands on what it has not yet read of a run's log. It holds one line at
// a time.
type logReader struct {
	r        *Reconciler
	id       int64
	from, to int64
	each     func(release.LogLine) error

	base   int64   // lines of the parts before the one that is being read
	at     logPart // which that is
	line   int64   // lines of it that are read, or passed over
	offset int64   // where the next one begins, in a file on this disk
	plain  int     // pieces without numbers that are read
}

func (r *Reconciler) newLogReader(ctx context.Context, id int64, q release.LogRange, each func(release.LogLine) error) (*logReader, error) {
	l := &logReader{r: r, id: id, from: q.From, to: q.To, each: each}
	if q.From == 0 && q.Tail > 0 {
		n, err := l.count(ctx)
		if err != nil {
			return nil, err
		}
		l.from = n - q.Tail + 1
	}
	return l, nil
}

// copy reads on in the files on this disk and, with kept, in what is in the blob
// store alone: another worker has, or had, the run.
func (l *logReader) copy(ctx context.Context, kept bool) error {
	parts, err := l.r.logParts(ctx, l.id, kept)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if l.at.key != "" && compareLogKeys(p.key, l.at.key) < 0 {
			continue
		}
		if p.key != l.at.key {
			if !kept && l.r.Blobs != nil { // another worker's part may lie between the two
				return l.copy(ctx, true)
			}
			l.base += l.line
			l.at, l.line, l.offset, l.plain = p, 0, 0, 0
		}
		if p.file != "" {
			err = l.file(p.file)
		} else {
			err = l.pieces(ctx, p.pieces)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// file reads on in an event file. One that is not there yet is empty.
func (l *logReader) file(path string) error {
	f, events, err := openEvents(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading a run's log: %w", err)
	}
	defer f.Close()
	if wanted := l.from - l.base; l.line+1 < wanted {
		if l.offset, l.line, err = events.seek(l.offset, l.line, wanted); err != nil {
			return fmt.Errorf("reading a run's log: %w", err)
		}
	}
	if _, err := f.Seek(l.offset, io.SeekStart); err != nil {
		return fmt.Errorf("reading a run's log: %w", err)
	}
	n, err := l.lines(f, l.line)
	l.offset += n
	return err
}

// pieces reads on in pieces. Those that are before the first line that is asked for
// are not fetched.
func (l *logReader) pieces(ctx context.Context, keys []string) error {
	for i, key := range keys {
		first, last, numbered := pieceLines(key)
		switch {
		case !numbered && i < l.plain, numbered && last <= l.line:
			continue
		case numbered && last < l.from-l.base:
			l.line = last
			continue
		case !numbered:
			first = l.line + 1
			l.plain = i + 1
		}
		blob, err := l.r.Blobs.Get(ctx, key)
		if err != nil {
			return fmt.Errorf("reading the log of run %d: %w", l.id, err)
		}
		_, err = l.lines(blob, first-1)
		blob.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// lines hands on the whole lines of events, before which the part has so many
// others, and returns how many bytes they had.
func (l *logReader) lines(events io.Reader, before int64) (n int64, err error) {
	in := newEventLines(events)
	for {
		line, size, err := in.next()
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("reading a run's log: %w", err)
		}
		n += size
		if before++; before <= l.line {
			continue // in a piece that overlaps the last
		}
		l.line = before
		number := l.base + l.line
		var e release.Event
		if number < l.from || json.Unmarshal(line, &e) != nil { // or torn by a kill
			continue
		}
		if l.to > 0 && number > l.to {
			return n, errLogRead
		}
		if err := l.each(release.LogLine{N: number, At: e.At, Stage: e.Stage, State: e.State, Text: strings.TrimRight(e.Message, "\n")}); err != nil {
			return n, err
		}
		if number == l.to {
			return n, errLogRead
		}
	}
}

// count gives how many lines a run's log has now.
func (l *logReader) count(ctx context.Context) (n int64, err error) {
	parts, err := l.r.logParts(ctx, l.id, true)
	if err != nil {
		return 0, err
	}
	for _, p := range parts {
		var lines int64
		if p.file != "" {
			lines, err = countFile(p.file)
		} else {
			lines, err = l.countPieces(ctx, p.pieces)
		}
		if err != nil {
			return 0, fmt.Errorf("reading the log of run %d: %w", l.id, err)
		}
		n += lines
	}
	return n, nil
}

func (l *logReader) countPieces(ctx context.Context, keys []string) (n int64, err error) {
	for _, key := range keys {
		if _, last, numbered := pieceLines(key); numbered {
			n = max(n, last)
			continue
		}
		blob, err := l.r.Blobs.Get(ctx, key)
		if err != nil {
			return 0, err
		}
		lines, err := countLines(blob)
		if err := errors.Join(err, blob.Close()); err != nil {
			return 0, err
		}
		n += lines
	}
	return n, nil
}

// logPart is what one runner wrote: an event file on this disk or, where another
// worker had the run, pieces in the blob store.
type logPart struct {
	key    string   // runs/<id>/<attempt>/<folder>
	file   string   // empty: pieces
	pieces []string // keys, in order
}

// logParts lists the parts of a run's log in order: by attempt, planning before
// applying. Of a part that is on this disk and in the blob store the file says more.
func (r *Reconciler) logParts(ctx context.Context, id int64, kept bool) ([]logPart, error) {
	files, err := r.eventFiles(id)
	if err != nil {
		return nil, err
	}
	var parts []logPart
	here := map[string]bool{}
	for _, file := range files {
		rel, err := filepath.Rel(r.runsDir(), filepath.Dir(file))
		if err != nil {
			return nil, fmt.Errorf("reading the log of run %d: %w", id, err)
		}
		p := logPart{key: path.Join("runs", filepath.ToSlash(rel)), file: file}
		parts, here[p.key] = append(parts, p), true
	}
	var keys []string
	if kept {
		if keys, err = r.keptLog(ctx, id); err != nil {
			return nil, err
		}
	}
	for len(keys) > 0 {
		p := logPart{key: path.Dir(keys[0])}
		n := 1
		for n < len(keys) && path.Dir(keys[n]) == p.key {
			n++
		}
		if p.pieces, keys = newestPieces(keys[:n]), keys[n:]; !here[p.key] {
			parts = append(parts, p)
		}
	}
	slices.SortFunc(parts, func(a, b logPart) int { return compareLogKeys(a.key, b.key) })
	return parts, nil
}

// eventFiles lists the event files of a run that are on this disk. What the code of
// a run put into its working copy is none, however it is called.
func (r *Reconciler) eventFiles(id int64) ([]string, error) {
	root := r.path(release.FormatID(id))
	attempts, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the log of run %d: %w", id, err)
	}
	var out []string
	for _, a := range attempts {
		if _, err := strconv.Atoi(a.Name()); err != nil {
			continue
		}
		folders, err := os.ReadDir(filepath.Join(root, a.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("reading the log of run %d: %w", id, err)
		}
		for _, f := range folders {
			if name := f.Name(); name != "plan" && !strings.HasPrefix(name, "apply-") && !strings.HasPrefix(name, "push-") {
				continue
			}
			file := filepath.Join(root, a.Name(), f.Name(), "events.jsonl")
			if _, err := os.Lstat(file); err == nil {
				out = append(out, file)
			}
		}
	}
	return out, nil
}
