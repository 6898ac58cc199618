package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/waymark-cd/waymark/release"
)

const (
	maxMessage = 8 << 10  // of one event, in bytes
	maxEvents  = 64 << 20 // of all log lines, in bytes; stage events are always written
	minSecret  = 4        // shorter values are no secrets, and would mask everything
)

// journal writes events.jsonl: one write per line, forced to the disk at the
// end of a stage by a goroutine of its own, so that no stage waits for a disk.
// It masks secrets. It is safe for concurrent use.
type journal struct {
	mask *strings.Replacer

	mu     sync.Mutex
	file   *os.File
	size   int64
	limit  int64
	full   bool
	torn   bool  // the last write ended within a line
	err    error // the first failure to write
	denied map[release.StageName]bool

	sync   chan struct{}
	synced chan struct{}
}

// newJournal makes the event file of a folder.
func newJournal(dir string, secrets []string) (*journal, error) {
	f, err := os.OpenFile(filepath.Join(dir, eventsFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("making the event file: %w", err)
	}
	j := &journal{mask: newMask(secrets), file: f, limit: maxEvents, denied: map[release.StageName]bool{},
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

// stage records that a stage began or ended.
func (j *journal) stage(s release.Stage) {
	at := s.StartedAt
	if s.State != release.StageRunning {
		at = s.FinishedAt
	}
	j.write(release.Event{At: at, Type: release.EventStage, Stage: s.Name, State: s.State, Message: s.Summary})
	if s.State != release.StageRunning {
		select {
		case j.sync <- struct{}{}:
		default: // a sync that has not begun will cover this line too
		}
	}
}

// log records one line of a stage's output.
func (j *journal) log(stage release.StageName, line string) {
	j.write(release.Event{At: time.Now().UTC(), Type: release.EventLog, Stage: stage, Message: j.clean(line)})
}

// clean masks secrets and makes one printable line of bounded length.
func (j *journal) clean(line string) string {
	line = j.mask.Replace(strings.ToValidUTF8(line, "?"))
	line = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\t' {
			return ' '
		}
		return r
	}, line)
	if len(line) > maxMessage {
		cut := maxMessage
		for !utf8.RuneStart(line[cut]) {
			cut--
		}
		line = line[:cut] + " … (cut)"
	}
	return line
}

// write appends one event. A failure is kept for close: a full disk must not
// stop an apply.
func (j *journal) write(event release.Event) {
	event.Format = release.ProtocolFormat
	j.mu.Lock()
	defer j.mu.Unlock()
	if event.Type == release.EventLog {
		if strings.Contains(strings.ToLower(event.Message), "permission denied") {
			j.denied[event.Stage] = true
		}
		if j.full {
			return
		}
		if j.size > j.limit {
			j.full = true
			event.Message = fmt.Sprintf("the log has reached %d MiB; further lines are not kept", j.limit>>20)
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

// secretsOf lists what must not appear in a log: the values of variables whose
// names say so, line by line, and the key of the saved plan.
func secretsOf(spec *release.Spec) []string {
	secrets := []string{spec.PlanIdentity}
	for name, value := range spec.Env {
		upper := strings.ToUpper(name)
		for _, mark := range []string{"KEY", "SECRET", "TOKEN", "PASSWORD"} {
			if strings.Contains(upper, mark) {
				secrets = append(secrets, strings.Split(value, "\n")...)
				break
			}
		}
	}
	return secrets
}

// newMask replaces every secret, the longest first, by "(masked)".
func newMask(secrets []string) *strings.Replacer {
	var pairs []string
	sorted := slices.Clone(secrets)
	slices.SortFunc(sorted, func(a, b string) int { return len(b) - len(a) })
	for _, s := range slices.Compact(sorted) {
		if s = strings.TrimSpace(s); len(s) >= minSecret {
			pairs = append(pairs, s, "(masked)")
		}
	}
	return strings.NewReplacer(pairs...)
}
