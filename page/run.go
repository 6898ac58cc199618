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

// stopped reports whether findings ended the run, so that they are what counts.
func (r Run) stopped() bool {
	return (r.State == api.StateFailed || r.State == api.StateDenied) && r.Run.Findings.Error > 0
}

// decideID names the form that asks for a decision on the plan that is shown.
func decideID(r Run) string { return "decide-" + shortDigest(r.PlanDigest) + "-" + r.State }

// stageWord is a stage's state; nothing runs while people are asked.
func stageWord(s api.Stage) string {
	if s.Name == "approval" && s.State == api.StateRunning {
		return "waiting"
	}
	return s.State
}

// bar is where a stage lies in its run's time, in thousandths.
type bar struct{ x, width int }

// bars gives each stage's bar; of one that did not start the width is 0. The time in
// which people were asked takes no room: next to hours, seconds cannot be seen.
func bars(f Frame, r api.Run) []bar {
	var asked api.Stage
	var from time.Time
	for _, s := range r.Stages {
		if s.Name == "approval" {
			asked = s
		}
		if from.IsZero() || !s.StartedAt.IsZero() && s.StartedAt.Before(from) {
			from = s.StartedAt
		}
	}
	end := func(s api.Stage) time.Time {
		if s.FinishedAt.IsZero() {
			return f.Now
		}
		return s.FinishedAt
	}
	at := func(t time.Time) time.Duration { // since the first stage began, without the asking
		if t.After(asked.StartedAt) && !asked.StartedAt.IsZero() {
			t = t.Add(-min(t.Sub(asked.StartedAt), end(asked).Sub(asked.StartedAt)))
		}
		return t.Sub(from)
	}
	whole := time.Millisecond
	for _, s := range r.Stages {
		if !s.StartedAt.IsZero() {
			whole = max(whole, at(end(s)))
		}
	}
	out := make([]bar, len(r.Stages))
	for i, s := range r.Stages {
		if s.StartedAt.IsZero() {
			continue
		}
		x := int(1000 * at(s.StartedAt) / whole)
		width := max(int(1000*(at(end(s))-at(s.StartedAt))/whole), 8)
		out[i] = bar{max(min(x, 1000-width), 0), min(width, 1000)}
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
