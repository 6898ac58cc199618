package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"
)

const (
	progressAfter = 500 * time.Millisecond // shorter work is not spoken of
	progressEvery = 200 * time.Millisecond
	forecastAfter = 3 * time.Second // what is left is told once the pace is known
)

// progress says on a terminal how far long work has come, in one line that is
// written over and, at the end, taken away. What is no terminal is told nothing:
// a log has no use for it. One goroutine uses it.
type progress struct {
	w       io.Writer // nil: nobody looks
	columns int
	doing   string
	text    func(done, total int64) string
	now     func() time.Time

	began, said time.Time
	first       int64 // done when it began
	shown       bool
}

// newProgress begins work on which progress is shown where standard error is a
// terminal that can write over a line; it begins when it is first told how far.
func (g *globals) newProgress(doing string, text func(done, total int64) string) *progress {
	p := &progress{doing: doing, text: text, now: time.Now}
	if f, ok := g.stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) && g.env("TERM") != "dumb" {
		p.w, p.columns = f, columnsOf(f)
	}
	return p
}

// beside leaves the progress out where out is a terminal too: its lines and that
// one would be mixed.
func (p *progress) beside(out io.Writer) *progress {
	if columnsOf(out) > 0 {
		p.w = nil
	}
	return p
}

// at says how far it is.
func (p *progress) at(done, total int64) {
	now := p.now()
	if p.began.IsZero() {
		p.first, p.began, p.said = done, now, now.Add(progressAfter-progressEvery)
	}
	if p.w == nil || total <= 0 || now.Sub(p.said) < progressEvery {
		return
	}
	p.said, p.shown = now, true
	line := fmt.Sprintf("%s: %s, %d%%", p.doing, p.text(done, total), min(100, done*100/total))
	if took := now.Sub(p.began); took >= forecastAfter && done > p.first && done < total {
		left := time.Duration(float64(took) / float64(done-p.first) * float64(total-done))
		line += ", " + forecast(left) + " left"
	}
	fmt.Fprint(p.w, "\r", cutTo(line, max(1, p.columns-1)), "\x1b[K")
}

// end takes the line away.
func (p *progress) end() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}

// forecast says how long something is going to take, about.
func forecast(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds())+1)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// entriesOf says how many entries of how many.
func entriesOf(done, total int64) string { return grouped(done) + " of " + grouped(total) + " entries" }

// megabytesOf says how many bytes of how many.
func megabytesOf(done, total int64) string { return megabytes(done) + " of " + megabytes(total) }

// grouped writes a number with its digits in threes.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	var out strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			out.WriteByte(',')
		}
		out.WriteRune(d)
	}
	return out.String()
}

func megabytes(n int64) string { return strconv.FormatFloat(float64(n)/1e6, 'f', 1, 64) + " MB" }
