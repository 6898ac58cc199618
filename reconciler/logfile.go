package reconciler

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"

	"github.com/waymark-cd/waymark/release"
)

const (
	// maxEventLine is longer than any line that a runner writes, in bytes. Of a
	// longer one nothing is kept in memory.
	maxEventLine = 128 << 10
	// seekNear is how near to a line a search comes by halves; from there it reads on.
	seekNear = 256 << 10
)

// eventLines reads the lines of events one by one. A line without its end is none
// yet.
type eventLines struct {
	in   *bufio.Reader
	line []byte
}

func newEventLines(r io.Reader) *eventLines { return &eventLines{in: bufio.NewReader(r)} }

// next gives a line, which is good until the next call, and how many bytes it has.
// One that is too long to be ours is empty. The error is io.EOF at the end.
func (l *eventLines) next() (line []byte, size int64, err error) {
	l.line = l.line[:0]
	for {
		part, err := l.in.ReadSlice('\n')
		size += int64(len(part))
		if len(l.line)+len(part) <= maxEventLine {
			l.line = append(l.line, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		if size > maxEventLine {
			return nil, size, nil
		}
		return l.line, size, nil
	}
}

// eventFile is the event file of a runner, in which lines are found without reading
// those before: an event says which line it is. Files of older versions say nothing,
// and are read from their beginning.
type eventFile struct {
	io.ReaderAt
	size int64
}

func openEvents(path string) (*os.File, eventFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, eventFile{}, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, eventFile{}, err
	}
	return f, eventFile{f, info.Size()}, nil
}

// seek goes on from an offset, before which the file has so many lines, to the line
// wanted, or to the end where that is not there yet. It gives the same two for the
// place that it found.
func (f eventFile) seek(offset, before, wanted int64) (int64, int64, error) {
	for low, high := offset, f.size; high-low > seekNear; {
		middle := low + (high-low)/2
		at, number, err := f.lineAfter(middle, high)
		switch {
		case err != nil:
			return offset, before, err
		case number == 0 || number > wanted:
			high = middle
		default:
			low, offset, before = at, at, number-1
		}
	}
	in := newEventLines(io.NewSectionReader(f, offset, f.size-offset))
	for before+1 < wanted {
		_, size, err := in.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return offset, before, err
		}
		offset += size
		before++
	}
	return offset, before, nil
}

// lineAfter gives the first line that begins after an offset, ends before another
// and says its number; 0 where there is none near.
func (f eventFile) lineAfter(offset, end int64) (at, number int64, err error) {
	in := newEventLines(io.NewSectionReader(f, offset, min(end-offset, seekNear)))
	_, size, err := in.next() // the rest of a line
	for at = offset + size; err == nil; at += size {
		var line []byte
		if line, size, err = in.next(); err != nil {
			break
		}
		if number := numberOf(line); number > 0 {
			return at, number, nil
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return 0, 0, err
}

// lines counts the lines of the file.
func (f eventFile) lines() (int64, error) {
	at, number, err := f.lineAfter(max(0, f.size-seekNear), f.size)
	if err != nil || number == 0 {
		at, number = 0, 1
	}
	n, err := countLines(io.NewSectionReader(f, at, f.size-at))
	return number - 1 + n, err
}

func countFile(path string) (int64, error) {
	f, events, err := openEvents(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return events.lines()
}

// countLines counts line ends.
func countLines(r io.Reader) (n int64, err error) {
	buf := make([]byte, 64<<10)
	for {
		size, err := r.Read(buf)
		n += int64(bytes.Count(buf[:size], []byte{'\n'}))
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// numberOf gives the number that a line says it has; 0 for none.
func numberOf(line []byte) int64 {
	var e release.Event
	if json.Unmarshal(line, &e) != nil {
		return 0
	}
	return e.N
}
