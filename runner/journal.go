package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/waymark-cd/waymark/mask"
	"github.com/waymark-cd/waymark/release"
)

const (
	maxMessage = 8 << 10  // of one event, in bytes
	maxEvents  = 64 << 20 // of all log lines, in bytes; stage events are always written
	maxUrgent  = 1 << 20  // beyond that, for the reasons of a failure, in bytes
)

// journal writes events.jsonl: one write per line, forced to the disk at the
// end of a stage by a goroutine of its own, so that no stage waits for a disk.
// It masks secrets. It is safe for concurrent use.
type journal struct {
	mask *mask.Mask

	cleaning sync.Mutex
	lines    map[release.StageName]*mask.Lines // of each stage's output; guarded by cleaning

	mu     sync.Mutex
	file   *os.File
	size   int64
	count  int64 // of lines, the torn ones too
	limit  int64
	full   bool
	torn   bool  // the last write ended within a line
	err    error // the first failure to write
	denied map[release.StageName]bool

	sync   chan struct{}
	synced chan struct{}
}

// newJournal makes the event file of a folder.
func newJournal(dir string, hide *mask.Mask) (*journal, error) {
	f, err := os.OpenFile(filepath.Join(dir, eventsFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("making the event file: %w", err)
	}
	j := &journal{mask: hide, lines: map[release.StageName]*mask.Lines{}, file: f, limit: maxEvents, denied: map[release.StageName]bool{},
		sync: make(chan struct{}, 1), synced: make(chan struct{})}
	go func() {
		defer close(j.synced)
		for range j.sync {
			j.failed(f.Sync())
		}
	}()
	return j, nil
}

// close forces everything to the disk and returns the first error of all.
func (j *journal) close() error {
	close(j.sync)
	<-j.synced
	return errors.Join(j.err, j.file.Sync(), j.file.Close())
}

// stage records that a stage began or ended, and then what ran for it.
func (j *journal) stage(s release.Stage, commands ...release.Command) {
	at := s.StartedAt
	if s.State != release.StageRunning {
		at = s.FinishedAt
	}
	j.write(release.Event{At: at, Type: release.EventStage, Stage: s.Name, State: s.State, Message: s.Summary, Commands: commands})
	if s.State != release.StageRunning {
		select {
		case j.sync <- struct{}{}:
		default: // a sync that has not begun will cover this line too
		}
	}
}

// log records one line of a stage's output.
func (j *journal) log(stage release.StageName, line string) { j.record(stage, line, false) }

// record is log; an urgent line is written even where the log is full.
func (j *journal) record(stage release.StageName, line string, urgent bool) {
	if j.takes(stage, urgent) { // masking costs more than all else, and a tool may print without end
		j.write(release.Event{At: time.Now().UTC(), Type: release.EventLog, Stage: stage, Message: j.cleanLine(stage, line)})
	}
}

// takes reports whether a log line would be kept, and says so in the log when the
// first one is not.
func (j *journal) takes(stage release.StageName, urgent bool) bool {
	j.mu.Lock()
	full, said := j.size > j.limit, j.full
	j.full = j.full || full
	over := j.size > j.limit+maxUrgent
	j.mu.Unlock()
	if full && !said {
		j.write(release.Event{At: time.Now().UTC(), Type: release.EventLog, Stage: stage,
			Message: fmt.Sprintf("the log has reached %d MiB; further lines are not kept", j.limit>>20)})
	}
	return !full || urgent && !over
}

// cleanLine is clean for a line of an output, which may be one of a private key.
func (j *journal) cleanLine(stage release.StageName, line string) string {
	line, isCut := wholeOf(line)
	j.cleaning.Lock()
	defer j.cleaning.Unlock()
	if j.lines[stage] == nil {
		j.lines[stage] = j.mask.Lines()
	}
	return printable(j.lines[stage].Line(line, isCut), isCut)
}

// clean masks secrets and makes one printable line of bounded length.
func (j *journal) clean(line string) string {
	line, isCut := wholeOf(line)
	if isCut {
		return printable(j.mask.Cut(line), true)
	}
	return printable(j.mask.Text(line), false)
}

var escapeSequence = regexp.MustCompile(`\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))`)

// wholeOf takes out what may stand between the letters of a secret, and tells
// whether the line's end was cut off.
func wholeOf(line string) (string, bool) {
	if strings.Contains(line, "\x1b") {
		line = escapeSequence.ReplaceAllString(line, "")
	}
	if len(line) > maxMessage {
		return strings.CutSuffix(line, "…")
	}
	return line, false
}

// printable makes one line of bounded length without control characters, nor those
// that turn the direction of text.
func printable(line string, isCut bool) string {
	line = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r) && r != '\t':
			return ' '
		case unicode.Is(unicode.Bidi_Control, r), r == '\u2028', r == '\u2029':
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(line, "?"))
	if len(line) > maxMessage {
		cut := maxMessage
		for !utf8.RuneStart(line[cut]) {
			cut--
		}
		line, isCut = line[:cut], true
	}
	if isCut {
		line += " … (cut)"
	}
	return line
}

// write appends one event. A failure is kept for close: a full disk must not
// stop an apply.
func (j *journal) write(event release.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	event.Format, event.N = release.ProtocolFormat, j.count+1
	if event.Type == release.EventLog {
		if strings.Contains(strings.ToLower(event.Message), "permission denied") {
			j.denied[event.Stage] = true
		}
	}
	line, err := json.Marshal(event)
	if err != nil {
		j.err = errors.Join(j.err, err)
		return
	}
	line = append(line, '\n')
	if j.torn {
		line = append([]byte{'\n'}, line...)
	}
	n, err := j.file.Write(line)
	j.size += int64(n)
	if n > 0 {
		j.count++
	}
	j.torn = n > 0 && n < len(line) || j.torn && n == 0
	if err != nil && j.err == nil {
		j.err = fmt.Errorf("writing events: %w", err)
	}
}

func (j *journal) failed(err error) {
	if err == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil {
		j.err = fmt.Errorf("forcing events to the disk: %w", err)
	}
}

// sawDenial reports whether a stage's log had "permission denied".
func (j *journal) sawDenial(stage release.StageName) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.denied[stage]
}
