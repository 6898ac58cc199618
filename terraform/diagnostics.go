package terraform

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	tfjson "github.com/hashicorp/terraform-json"
)

// maxDiagnostics bounds what one Error keeps; the log has all.
const maxDiagnostics = 100

// maxReason bounds the length of a reason, in bytes.
const maxReason = 400

// Diagnostic is one problem that the engine reports.
type Diagnostic struct {
	Severity string // "error" or "warning"
	Summary  string
	Detail   string
	Address  string // of the resource; empty where there is none
	File     string // relative to the root module; empty where unknown
	Line     int    // from 1; 0 where unknown
}

func diagnosticOf(d tfjson.Diagnostic) Diagnostic {
	out := Diagnostic{Severity: string(d.Severity), Summary: d.Summary, Detail: d.Detail, Address: d.Address}
	if d.Range != nil {
		out.File, out.Line = d.Range.Filename, d.Range.Start.Line
	}
	return out
}

// Error is a command of the engine that failed. Its text begins with one line
// that says what went wrong where; further problems follow, one line each.
type Error struct {
	Command     string // "init", "validate", "plan", "show", "apply", "state push" or "version"
	Diagnostics []Diagnostic
	Lock        *LockInfo // who holds the state, where that is the reason
	Err         error     // the process's own error, or the context's
}

// Unwrap gives the context's error where the command was stopped, otherwise
// the process's own.
func (e *Error) Unwrap() error { return e.Err }

// Error says on its first line what failed and where.
func (e *Error) Error() string {
	var lines []string
	for _, d := range e.Diagnostics {
		if d.Severity == "error" && len(lines) < 10 {
			lines = append(lines, e.Command+": "+d.reason())
		}
	}
	switch {
	case e.Lock != nil:
		lines = []string{e.Command + ": " + e.Lock.reason()}
	case e.stopped():
		lines = append([]string{e.Command + ": stopped: " + oneLine(e.Err.Error(), maxReason)}, lines...)
	case len(lines) == 0 && e.Err != nil:
		lines = []string{e.Command + ": " + oneLine(e.Err.Error(), maxReason)}
	case len(lines) == 0:
		lines = []string{e.Command + ": the engine failed and did not say why"}
	}
	return strings.Join(lines, "\n")
}

// Redact lets mask take secrets out of everything that the error says, before any
// of it is cut. It must be called before Error.
func (e *Error) Redact(mask func(string) string) {
	for i := range e.Diagnostics {
		d := &e.Diagnostics[i]
		d.Summary, d.Detail, d.Address, d.File = mask(d.Summary), mask(d.Detail), mask(d.Address), mask(d.File)
	}
	if e.Err != nil {
		if text := e.Err.Error(); mask(text) != text {
			e.Err = &redacted{mask(text), e.Err}
		}
	}
}

// redacted is an error without the secrets in its text.
type redacted struct {
	text string
	err  error
}

func (r *redacted) Error() string { return r.text }
func (r *redacted) Unwrap() error { return r.err }

// stopped reports whether the context, not the engine, ended the command.
func (e *Error) stopped() bool {
	return errors.Is(e.Err, context.Canceled) || errors.Is(e.Err, context.DeadlineExceeded)
}

// add keeps diagnostics within the bound and recognises a held lock.
func (e *Error) add(diags ...Diagnostic) {
	for _, d := range diags {
		if len(e.Diagnostics) < maxDiagnostics {
			e.Diagnostics = append(e.Diagnostics, d)
		}
		if e.Lock == nil && d.Severity == "error" {
			e.Lock = parseLock(d)
		}
	}
}

// localExec finds the end of a local-exec's command in the detail of its
// failure; the summary alone does not tell how it ended.
var localExec = regexp.MustCompile(`(?s)^Error running command '.*?': ([^'\n]*?)\. Output: `)

// reason is the diagnostic in one line: address, summary, the first sentence of
// the detail, and the place.
func (d Diagnostic) reason() string {
	what := d.Summary
	if m := localExec.FindStringSubmatch(d.Detail); m != nil {
		what = "local-exec: " + m[1]
	} else if first := firstSentence(d.Detail); first != "" {
		what += ": " + first
	}
	what = oneLine(what, maxReason)
	if hint := d.hint(); hint != "" {
		what = strings.TrimRight(oneLine(d.Summary, maxReason), ".") + ": " + hint
	}
	if d.Address != "" {
		what = oneLine(d.Address, maxReason) + ": " + what
	}
	if d.File != "" {
		what += " (" + d.place() + ")"
	}
	return what
}

func (d Diagnostic) place() string {
	file := oneLine(d.File, 200)
	if d.Line == 0 {
		return file
	}
	return file + ":" + strconv.Itoa(d.Line)
}

// lines is the diagnostic as the log shows it.
func (d Diagnostic) lines() []string {
	head := "Error: "
	if d.Severity != "error" {
		head = "Warning: "
	}
	head += d.Summary
	switch {
	case d.File != "" && d.Address != "":
		head += " (" + d.place() + ", " + d.Address + ")"
	case d.File != "":
		head += " (" + d.place() + ")"
	case d.Address != "":
		head += " (" + d.Address + ")"
	}
	out := []string{head}
	for _, l := range strings.Split(strings.TrimSpace(d.Detail), "\n") {
		if l != "" {
			out = append(out, "  "+l)
		}
	}
	return out
}

func firstSentence(detail string) string {
	paragraph, _, _ := strings.Cut(strings.TrimSpace(detail), "\n\n")
	paragraph = strings.Join(strings.Fields(paragraph), " ")
	sentence, _, _ := strings.Cut(paragraph, ". ")
	return strings.TrimSuffix(sentence, ".")
}

// LockInfo is who holds a state's lock, as the engine tells it.
type LockInfo struct {
	ID        string
	Who       string // user@host
	Operation string
	Path      string    // where the state is
	Created   time.Time // zero where it could not be read
}

func (l *LockInfo) reason() string {
	since := ""
	if !l.Created.IsZero() {
		since = " since " + l.Created.UTC().Format(time.RFC3339)
	}
	return oneLine(fmt.Sprintf("the state is locked by %s%s (%s, lock %s): wait for it to end; waymark backend locks tells whether it is one of our runs, and waymark backend unlock releases what a dead one left",
		l.Who, since, l.Operation, l.ID), maxReason)
}

var lockField = regexp.MustCompile(`(?m)^\s*(ID|Path|Operation|Who|Created):[ \t]+(.*?)[ \t]*$`)

// parseLock reads the lock's description out of a diagnostic; nil where it is
// about something else. The engine has no other form for it.
func parseLock(d Diagnostic) *LockInfo {
	if !strings.Contains(d.Summary, "state lock") && !strings.Contains(d.Summary, "locking state") {
		return nil
	}
	_, text, found := strings.Cut(d.Detail, "Lock Info:")
	if !found {
		return nil
	}
	lock := new(LockInfo)
	for _, m := range lockField.FindAllStringSubmatch(text, -1) {
		switch m[1] {
		case "ID":
			lock.ID = m[2]
		case "Path":
			lock.Path = m[2]
		case "Operation":
			lock.Operation = m[2]
		case "Who":
			lock.Who = m[2]
		case "Created":
			lock.Created, _ = time.Parse("2006-01-02 15:04:05.999999999 -0700 MST", m[2])
		}
	}
	if lock.ID == "" {
		return nil
	}
	return lock
}

var plainPlace = regexp.MustCompile(`^  on (\S.*) line (\d+)(?:, in (.*))?:$`)

var plainSource = regexp.MustCompile(`^ +\d+: `)

// parsePlain reads the diagnostics of a command without -json, as they are
// printed with -no-color or, by some versions, with a frame all the same.
func parsePlain(text string) []Diagnostic {
	var out []Diagnostic
	var cur *Diagnostic
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimRight(strings.TrimPrefix(strings.TrimPrefix(line, "│"), " "), "\r ")
		if line == "╷" || line == "╵" {
			continue
		}
		if severity, summary, ok := plainHead(line); ok {
			out = append(out, Diagnostic{Severity: severity, Summary: summary})
			cur = &out[len(out)-1]
			continue
		}
		if cur == nil {
			continue
		}
		if m := plainPlace.FindStringSubmatch("  " + strings.TrimLeft(line, " ")); m != nil && cur.File == "" {
			cur.File = m[1]
			cur.Line, _ = strconv.Atoi(m[2])
			continue
		}
		if plainSource.MatchString(" "+line) && cur.File != "" && cur.Detail == "" {
			continue
		}
		cur.Detail += line + "\n"
		if strings.TrimSpace(cur.Detail) == "" {
			cur.Detail = ""
		}
	}
	for i := range out {
		out[i].Detail = strings.TrimSpace(out[i].Detail)
	}
	// Some versions print their introduction to the list as its first error.
	slices.SortStableFunc(out, func(a, b Diagnostic) int {
		return cmp.Compare(min(len(b.File), 1), min(len(a.File), 1))
	})
	return out
}

func plainHead(line string) (severity, summary string, ok bool) {
	if s, found := strings.CutPrefix(line, "Error: "); found {
		return "error", s, true
	}
	if s, found := strings.CutPrefix(line, "Warning: "); found {
		return "warning", s, true
	}
	return "", "", false
}

// withLastLine adds the last line of standard error to a failure that has no
// diagnostic, such as that of a program that is no engine at all.
func withLastLine(err error, stderr []byte) error {
	lines := strings.Split(strings.TrimSpace(string(stderr)), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return fmt.Errorf("%w: %s", err, last)
	}
	return err
}
