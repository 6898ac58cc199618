package reconciler

import (
	"bytes"
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
	"sync"
	"time"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
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
	followed := r.followed(id)
	defer r.unfollow(followed)
	out, err := r.newLogReader(ctx, id, q, each)
	if err != nil {
		return release.Run{}, err
	}
	for shipped := (time.Time{}); ; {
		// The state is read before the files: what an ended run wrote is all there.
		run, err := followed.state(ctx, r.Store, !q.Follow)
		if err != nil {
			return run, err
		}
		last := !q.Follow || run.State.Ended()
		kept := last || time.Since(shipped) > shipEvery
		if kept {
			shipped = time.Now()
		}
		err = out.copy(ctx, kept)
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

// followedRun is a run whose log is being read: all its readers together ask for
// its state.
type followedRun struct {
	id      int64
	readers int // guarded by the reconciler's mu
	changed *store.Watch

	mu    sync.Mutex
	run   release.Run
	asked time.Time
}

func (r *Reconciler) followed(id int64) *followedRun {
	r.logReaders.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.following[id]
	if f == nil {
		f = &followedRun{id: id, changed: r.Store.Watch()}
		r.following[id] = f
	}
	f.readers++
	return f
}

func (r *Reconciler) unfollow(f *followedRun) {
	r.logReaders.Add(-1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.readers--; f.readers == 0 {
		f.changed.Close()
		delete(r.following, f.id)
	}
}

// state gives the run as it is or, without now, was a moment ago.
func (f *followedRun) state(ctx context.Context, from *store.Store, now bool) (release.Run, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ask := now || time.Since(f.asked) > statePoll
	select {
	case <-f.changed.C():
		c := f.changed.Take()
		ask = ask || c.All || slices.Contains(c.Runs, f.id)
	default:
	}
	if !ask {
		return f.run, nil
	}
	run, err := from.Run(ctx, f.id)
	if err != nil {
		f.asked = time.Time{} // what changed is asked for anew
		return run, err
	}
	f.run, f.asked = run, time.Now()
	return run, nil
}

// errLogRead ends the reading of a log at the last line that is asked for.
var errLogRead = errors.New("the lines that were asked for are read")

// logReader hands on what it has not yet read of a run's log. It holds a
// few lines at a time.
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
			err = l.file(ctx, p.file)
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
func (l *logReader) file(ctx context.Context, path string) error {
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
	n, err := l.lines(ctx, f, l.line)
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
		_, err = l.lines(ctx, blob, first-1)
		blob.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// lines hands on the whole lines of events, before which the part has so many
// others, and returns how many bytes they had.
func (l *logReader) lines(ctx context.Context, events io.Reader, before int64) (n int64, err error) {
	in := newEventLines(events)
	for ended := false; !ended; {
		var raw []rawLine
		for size := 0; size < logBatch; {
			line, long, err := in.next()
			if errors.Is(err, io.EOF) {
				ended = true
				break
			}
			if err != nil {
				return n, fmt.Errorf("reading a run's log: %w", err)
			}
			n += long
			size += rawCost
			if before++; before <= l.line {
				continue // in a piece that overlaps the last
			}
			l.line = before
			if number := l.base + l.line; number >= l.from && (l.to == 0 || number <= l.to) {
				raw = append(raw, rawLine{number, bytes.Clone(line)})
				size += len(line)
			}
			if l.to > 0 && l.base+l.line >= l.to {
				ended = true
				break
			}
		}
		if err := l.hand(ctx, raw); err != nil {
			return n, err
		}
	}
	if l.to > 0 && l.base+l.line >= l.to {
		return n, errLogRead
	}
	return n, nil
}

const (
	logBatch = 16 << 10 // bytes of a log that one reader has in memory
	rawCost  = 64       // what a line weighs beside its text
)

// rawLine is an event as it is kept, and the number of its line in the whole log.
type rawLine struct {
	number int64
	text   []byte
}

// hand hands lines on. Few readers at a time take them apart, so that a thousand of
// them leave the processors to the runs.
func (l *logReader) hand(ctx context.Context, raw []rawLine) error {
	if len(raw) == 0 {
		return nil
	}
	select {
	case l.r.unpacking <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	lines := make([]release.LogLine, 0, len(raw))
	for _, line := range raw {
		var e release.Event
		if json.Unmarshal(line.text, &e) == nil { // else torn by a kill
			lines = append(lines, release.LogLine{N: line.number, At: e.At, Stage: e.Stage, State: e.State, Text: strings.TrimRight(e.Message, "\n")})
		}
	}
	<-l.r.unpacking
	for _, line := range lines {
		if err := l.each(line); err != nil {
			return err
		}
	}
	return nil
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
