package storm

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The ledger is the truth about applies: one line, forced to the disk, when an
// engine begins to apply and one when it has ended. It lies outside of all that
// the replicas own.

// The events of a line.
const (
	began  = "began"
	ended  = "ended"
	failed = "failed" // a real engine said that it did not succeed
)

// line is one event of the ledger.
type line struct {
	At          time.Time
	Event       string
	Target, Tag string
	PID         int
	Ticks       uint64 // when the process started, which tells it from a later one of the same id
	// Beside is, where this apply began, the process of another apply of the same
	// target that was alive and had not ended: what must never be.
	Beside int `json:",omitempty"`
}

// record appends an event of this process. Whether another apply is under way
// is looked up under the same lock, so that of two neither is missed.
func record(path, event, target, tag string) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	l := line{At: time.Now().UTC(), Event: event, Target: target, Tag: tag, PID: os.Getpid()}
	l.Ticks, _ = startTicks(l.PID)
	if event == began {
		all, err := readLines(f)
		if err != nil {
			return err
		}
		for _, other := range open(all) {
			if other.Target == target && other.alive() {
				l.Beside = other.PID
			}
		}
	}
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(text, '\n')); err != nil {
		return err
	}
	return f.Sync()
}

// alive reports whether the process that wrote the line still executes.
func (l line) alive() bool {
	ticks, ok := startTicks(l.PID)
	return ok && ticks == l.Ticks
}

// startTicks reads when a process started; false where it is gone or a zombie.
func startTicks(pid int) (uint64, bool) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 20 || fields[0][0] == 'Z' || fields[0][0] == 'X' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(fields[19]), 10, 64)
	return n, err == nil
}

// readLedger reads what is there so far.
func readLedger(path string) ([]line, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLines(f)
}

func readLines(r io.Reader) ([]line, error) {
	var out []line
	in := bufio.NewScanner(r)
	for in.Scan() {
		var l line
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("the ledger: %q: %w", in.Text(), err)
		}
		out = append(out, l)
	}
	return out, in.Err()
}

// open lists the applies that began and did not end.
func open(all []line) []line {
	var out []line
	for i, l := range all {
		if l.Event == began && endOf(all[i:], l) == "" {
			out = append(out, l)
		}
	}
	return out
}

// endOf gives the event by which an apply ended; empty where it did not.
func endOf(all []line, apply line) string {
	for _, l := range all {
		if l.PID == apply.PID && l.Ticks == apply.Ticks && l.Event != began {
			return l.Event
		}
	}
	return ""
}

// applies is what the ledger says of one tag.
type applies struct {
	began  int
	end    string // the last apply's
	last   line   // the last beginning
	beside int
}

// byTag sorts the ledger by tag.
func byTag(all []line) map[string]applies {
	out := map[string]applies{}
	for i, l := range all {
		if l.Event != began {
			continue
		}
		a := out[l.Tag]
		a.began++
		a.last, a.end = l, endOf(all[i:], l)
		if l.Beside != 0 {
			a.beside++
		}
		out[l.Tag] = a
	}
	return out
}

// findings are the invariants that a ledger shows to be broken, one sentence each.
type findings struct {
	doubled, overlapping, unordered []string
}

// judge holds a ledger against what must be: no tag is applied twice, no two
// applies of a target go on at once, and each target's go by their numbers.
func judge(all []line) (f findings) {
	times, last := map[string]int{}, map[string]line{}
	for _, l := range all {
		if l.Event != began {
			continue
		}
		if times[l.Tag]++; times[l.Tag] > 1 {
			f.doubled = append(f.doubled, fmt.Sprintf("%s was applied again at %s by process %d", l.Tag, l.At.Format(time.StampMilli), l.PID))
		}
		if l.Beside != 0 {
			f.overlapping = append(f.overlapping, fmt.Sprintf("%s began at %s while process %d applied to %s", l.Tag, l.At.Format(time.StampMilli), l.Beside, l.Target))
		}
		if before, ok := last[l.Target]; ok && number(l.Tag) < number(before.Tag) {
			f.unordered = append(f.unordered, fmt.Sprintf("%s was applied after %s", l.Tag, before.Tag))
		}
		last[l.Target] = l
	}
	return f
}

// number reads n from a tag that ends in 1.n, whatever follows the number.
func number(tag string) int {
	_, version, _ := strings.Cut(tag[strings.LastIndexByte(tag, '/')+1:], ".")
	version, _, _ = strings.Cut(version, "-")
	n, _ := strconv.Atoi(version)
	return n
}

// TestTheLedgerShowsWhatIsBroken holds that the judge sees each kind of harm.
func TestTheLedgerShowsWhatIsBroken(t *testing.T) {
	apply := func(tag string, pid, beside int) []line {
		target := tag[:strings.LastIndexByte(tag, '/')]
		return []line{{Event: began, Target: target, Tag: tag, PID: pid, Beside: beside}, {Event: ended, Target: target, Tag: tag, PID: pid}}
	}
	for name, c := range map[string]struct {
		lines                          [][]line
		doubled, overlapping, disorder int
	}{
		"nothing":        {nil, 0, 0, 0},
		"all well":       {[][]line{apply("a/1.9", 1, 0), apply("b/1.1", 2, 0), apply("a/1.10", 3, 0)}, 0, 0, 0},
		"twice":          {[][]line{apply("a/1.1", 1, 0), apply("a/1.1", 2, 0)}, 1, 0, 0},
		"side by side":   {[][]line{apply("a/1.1", 1, 0), apply("a/1.2", 2, 1)}, 0, 1, 0},
		"an older after": {[][]line{apply("a/1.10", 1, 0), apply("a/1.9-slow", 2, 0)}, 0, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var all []line
			for _, l := range c.lines {
				all = append(all, l...)
			}
			f := judge(all)
			if len(f.doubled) != c.doubled || len(f.overlapping) != c.overlapping || len(f.unordered) != c.disorder {
				t.Errorf("doubled %q, overlapping %q, unordered %q", f.doubled, f.overlapping, f.unordered)
			}
		})
	}
}

// TestTheLedgerNoticesALivingNeighbour records two applies of one target by this
// very process, and one by a process that is gone.
func TestTheLedgerNoticesALivingNeighbour(t *testing.T) {
	path := t.TempDir() + "/ledger"
	gone, err := json.Marshal(line{Event: began, Target: "b", Tag: "b/1.1", PID: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(gone, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"a/1.1", "a/1.2", "b/1.2"} {
		if err := record(path, began, tag[:1], tag); err != nil {
			t.Fatal(err)
		}
	}
	all, err := readLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	if f := judge(all); len(f.overlapping) != 1 || !strings.HasPrefix(f.overlapping[0], "a/1.2 began") || len(open(all)) != 4 {
		t.Errorf("%q, open: %v", f.overlapping, open(all))
	}
}
