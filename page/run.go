package page

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/api"
)

// Run is one run with all that is known of it.
type Run struct {
	api.Run
	Plan     *api.Plan // nil before there is one
	Findings []api.Finding
	Reports  []api.Report
	May      Decisions
	// Source is where the forge shows a file of the run's commit at a line, or the
	// commit itself for an empty name; nil, or an empty answer, where nobody knows.
	Source func(file string, line int) string
}

// Decisions are those that the run's state asks for, and that whoever looks may take.
type Decisions struct{ Approve, Cancel, Retry, Resolve, Override bool }

// Any reports whether there is one.
func (d Decisions) Any() bool { return d != Decisions{} }

// Log is the end of a run's log.
type Log struct {
	RunID string
	Lines []api.LogLine
	Cut   bool // whether there are lines before
}

// maxAuto is how many changed resources of a plan are shown with their attributes
// at once.
const maxAuto = 8

func (r Run) source(file string, line int) string {
	if r.Source == nil {
		return ""
	}
	return r.Source(file, line)
}

// sign is an action as a diff writes it.
func sign(action string) string {
	switch action {
	case "create":
		return "+"
	case "update":
		return "~"
	case "delete":
		return "−"
	case "replace":
		return "−/+"
	case "read":
		return "≤"
	case "import":
		return "⇐"
	default:
		return "·"
	}
}

// done says what becomes of a resource, for people.
func done(action string) string {
	switch action {
	case "create":
		return "is created"
	case "update":
		return "is changed"
	case "delete":
		return "is destroyed"
	case "replace":
		return "is replaced"
	case "read":
		return "is read"
	case "import":
		return "is imported"
	case "forget":
		return "is forgotten, and stays as it is"
	default:
		return visible(action)
	}
}

// bar is where a stage lies in its run's time, in thousandths.
type bar struct{ x, width int }

// bars gives each stage's bar; of one that did not start the width is 0.
func bars(f Frame, r api.Run) []bar {
	var from, to time.Time
	end := func(s api.Stage) time.Time {
		if s.FinishedAt.IsZero() {
			return f.Now
		}
		return s.FinishedAt
	}
	for _, s := range r.Stages {
		if s.StartedAt.IsZero() {
			continue
		}
		if from.IsZero() || s.StartedAt.Before(from) {
			from = s.StartedAt
		}
		if end(s).After(to) {
			to = end(s)
		}
	}
	out := make([]bar, len(r.Stages))
	whole := max(to.Sub(from), time.Millisecond)
	for i, s := range r.Stages {
		if s.StartedAt.IsZero() {
			continue
		}
		x := int(1000 * s.StartedAt.Sub(from) / whole)
		width := int(1000 * max(end(s).Sub(s.StartedAt), 0) / whole)
		width = max(width, 8)
		out[i] = bar{min(x, 1000-width), min(width, 1000)}
	}
	return out
}

// lineText is a line of the log without its time and stage.
func lineText(l api.LogLine) string {
	if l.State == "" {
		return plain(l.Text)
	}
	if l.Text == "" {
		return "== " + l.State
	}
	return "== " + l.State + ": " + plain(l.Text)
}

// plain takes the sequences out that colour text on a terminal.
func plain(s string) string {
	for {
		i := strings.Index(s, "\x1b[")
		if i < 0 {
			return visible(s)
		}
		n := strings.IndexFunc(s[i+2:], func(r rune) bool { return r >= '@' && r <= '~' })
		if n < 0 {
			return visible(s[:i])
		}
		s = s[:i] + s[i+2+n+1:]
	}
}

// serial prints a state's serial.
func serial(n *int64) string {
	if n == nil {
		return "not read"
	}
	return fmt.Sprintf("serial %d", *n)
}

// holder says whose a lock is.
func holder(l api.LockEvidence) string {
	switch {
	case !l.Held:
		return "free, as far as could be read"
	case !l.Ours:
		return "a stranger's"
	case l.Alive:
		return "this run's, not known dead"
	default:
		return "this run's, dead"
	}
}

// from names the people of a requirement.
func from(q api.Requirement) string {
	if len(q.From) == 0 {
		return "whoever may approve here"
	}
	return list(q.From)
}

// compareFindings orders findings: what counts first, then by file and line.
func compareFindings(a, b api.Finding) int {
	skipped := func(x api.Finding) int {
		if x.Suppressed != "" || x.Waived != nil {
			return 1
		}
		return 0
	}
	return cmp.Or(skipped(a)-skipped(b), cmp.Compare(a.File, b.File), a.Line-b.Line)
}

// sorted gives the names of a map in order.
func sorted(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// escape makes a name a part of a path.
func escape(name string) string { return url.PathEscape(name) }
