package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

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
// no command can forget it.
type table struct {
	indent string
	header []string // none: no header line
	rows   [][]cell
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
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	for _, row := range rows {
		line, width := t.indent, 0
		for i, c := range row {
			if c.text == "" {
				width += widths[i] + 2
				continue
			}
			// Gaps are written before a text, so that no line ends in spaces.
			line += strings.Repeat(" ", width) + c.paint.on(c.text, colour)
			width = widths[i] - utf8.RuneCountInString(c.text) + 2
		}
		fmt.Fprintln(w, line)
	}
}
