package page

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/a-h/templ"

	"github.com/waymark-cd/waymark/api"
)

// Frame is what every page has.
type Frame struct {
	Title   string
	Assets  *Assets
	Here    string // path of the section that is shown, such as "/" or "/audit"
	Who     string // who is signed in; empty: nobody
	Session bool   // whether there is a session to end
	Public  bool   // whether anybody may see it, and it leads nowhere else
	Version string
	// Live is the address of the stream whose "change" events make the page ask
	// for itself again; empty: the page stays as it is.
	Live string
	// Beneath is drawn beneath the live content, and stays when that is fetched anew.
	Beneath templ.Component
	Scripts []string // names of the assets that this page runs beside its own frame's
	Now     time.Time
}

// Ago says how long ago t was, in words.
func (f Frame) Ago(t time.Time) string {
	switch d := f.Now.Sub(t); {
	case t.IsZero():
		return ""
	case d < 5*time.Second:
		return "just now"
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	default:
		return t.UTC().Format(time.DateOnly)
	}
}

// Since is Ago for an age in milliseconds.
func (f Frame) Since(age int64) string {
	return f.Ago(f.Now.Add(-time.Duration(age) * time.Millisecond))
}

// Took says how long something took, or has taken so far.
func (f Frame) Took(from, to time.Time) string {
	if from.IsZero() {
		return ""
	}
	if to.IsZero() {
		to = f.Now
	}
	d := max(to.Sub(from), 0)
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// exact gives t for machines and for whoever points at it.
func exact(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// minute gives t for people, who plan by it.
func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func shortCommit(id string) string { return cmp.Or(id[:min(len(id), 10)], "–") }

// shortDigest leaves the algorithm out.
func shortDigest(digest string) string {
	_, hash, ok := strings.Cut(digest, ":")
	if !ok {
		hash = digest
	}
	return shortCommit(hash)
}

// words makes a state readable: awaiting_approval is "awaiting approval".
func words(state string) string { return strings.ReplaceAll(state, "_", " ") }

// list joins names for people.
func list(names []string) string { return visible(strings.Join(names, ", ")) }

// count says how many there are of something.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// tone groups states of runs and instances, severities and actions into the
// colours of the page.
func tone(word string) string {
	switch word {
	case "succeeded", "passed", "create", "import", api.InstanceAlive:
		return "good"
	case "failed", "denied", "rejected", "unknown", "error", "delete", "replace", api.InstanceDead:
		return "bad"
	case "awaiting_approval", "waiting", "warning", "update", api.InstanceDraining:
		return "wait"
	case "running":
		return "busy"
	default:
		return "calm"
	}
}

// visible replaces what escaping rightly lets through and what still deceives a
// reader: controls, and characters that turn the direction of text.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
