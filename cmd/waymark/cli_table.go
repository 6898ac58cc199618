package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/waymark-cd/waymark/api"
)

// paint is an ANSI colour; the empty one leaves text as it is.
type paint string

const (
	plain  paint = ""
	bold   paint = "1"
	faint  paint = "2"
	red    paint = "31"
	green  paint = "32"
	yellow paint = "33"
	blue   paint = "34"
)

// on wraps s in the colour where colour is wanted.
func (p paint) on(s string, colour bool) string {
	if !colour || p == plain || s == "" {
		return s
	}
	return "\x1b[" + string(p) + "m" + s + "\x1b[0m"
}

// paintOf gives the colour of a state of a run, a stage or an instance, of a
// severity, or of what a plan does to a resource.
func paintOf(word string) paint {
	switch word {
	case "succeeded", "passed", "create", "import", "admitted", api.InstanceAlive:
		return green
	case "failed", "denied", "rejected", "unknown", "error", "delete", "replace", "refused", api.InstanceDead:
		return red
	case "awaiting_approval", "warning", "update", "cancelled", api.InstanceDraining:
		return yellow
	case "running":
		return blue
	case "queued", "pending", "skipped", "superseded", "notice", api.InstanceStopped:
		return faint
	default:
		return plain
	}
}

// cell is one field of a table.
type cell struct {
	text  string
	paint paint
}

// table prints rows in aligned columns. Texts are cleaned here, once, so that
// no command can forget it. On a terminal a table with a header fits its width:
// the least important columns are cut, with … at the end of what is left. One
// without a header holds facts, of which nothing is cut: their last column goes
// on in the lines below. What is no terminal gets everything, on one line.
type table struct {
	indent string
	header []string // none: no header line
	// cut names columns of the header in the order in which they are cut; none: from
	// the last one to the second.
	cut  []string
	rows [][]cell
}

// row adds a row of uncoloured cells, except those that are cells already.
func (t *table) row(fields ...any) {
	row := make([]cell, len(fields))
	for i, f := range fields {
		c, ok := f.(cell)
		if !ok {
			c = cell{text: fmt.Sprint(f)}
		}
		c.text = clean(c.text)
		row[i] = c
	}
	t.rows = append(t.rows, row)
}

// write prints the table; the last column is not padded.
func (t *table) write(w io.Writer, colour bool) {
	rows := t.rows
	if len(t.header) > 0 {
		head := make([]cell, len(t.header))
		for i, h := range t.header {
			head[i] = cell{h, bold}
		}
		rows = append([][]cell{head}, rows...)
	}
	var widths []int
	for _, row := range rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], textWidth(c.text))
		}
	}
	columns := columnsOf(w)
	if columns > 0 && len(t.header) > 0 {
		t.fit(widths, columns)
	}
	for i, row := range rows {
		line := t.line(row, widths, columns, colour)
		if i == 0 && slices.Contains(widths, leftOut) {
			line += leftOutMark
		}
		fmt.Fprintln(w, line)
	}
}

// line is one row as it is printed; of a table of facts it may be several lines.
func (t *table) line(row []cell, widths []int, columns int, colour bool) string {
	line, at, gap := t.indent, len(t.indent), 0
	for i, c := range row {
		if widths[i] == leftOut {
			continue
		}
		if c.text == "" {
			gap += widths[i] + 2
			continue
		}
		// Gaps are written before a text, so that no line ends in spaces.
		line += strings.Repeat(" ", gap)
		at += gap
		text := c.text
		switch {
		case len(t.header) > 0:
			text = cutTo(text, widths[i])
		case i == len(row)-1 && columns > 0 && at+textWidth(text) > columns:
			return wrapped(line, c, at, columns, len(t.indent)+4, colour)
		}
		line += c.paint.on(text, colour)
		at, gap = at+textWidth(text), widths[i]-textWidth(text)+2
	}
	return line
}

const (
	narrow    = 20 // what columns of long texts are cut to before any is left out
	narrowest = 6  // what is shown of a column at least; one that would be narrower is left out
	leftOut   = -1 // the width of a column that is not shown

	leftOutMark = "  …" // behind the header, where columns are left out
)

// fit narrows widths until a line has at most so many columns: first the long
// texts, then one column after the other in the order of importance. Where one is
// left out, room is kept for the … that says so.
func (t *table) fit(widths []int, columns int) {
	over := len(t.indent) + 2*(len(widths)-1) - columns
	for _, width := range widths {
		over += width
	}
	for _, i := range t.order() {
		if less := min(over, widths[i]-narrow); less > 0 {
			widths[i] -= less
			over -= less
		}
	}
	marked := false
	for _, i := range t.order() {
		switch {
		case over <= 0:
			return
		case widths[i]-over >= narrowest:
			widths[i] -= over
			return
		case !marked:
			over, marked = over+textWidth(leftOutMark), true
		}
		over -= widths[i] + 2
		widths[i] = leftOut
	}
}

// order gives the columns that may be cut, the least important first.
func (t *table) order() []int {
	var out []int
	for _, name := range t.cut {
		out = append(out, slices.Index(t.header, name))
	}
	if t.cut == nil {
		for i := len(t.header) - 1; i > 0; i-- {
			out = append(out, i)
		}
	}
	return out
}
