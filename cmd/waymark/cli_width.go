package main

import (
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"
	"golang.org/x/text/width"
)

// columnsOf gives how many columns a line of w has; 0 for what is no terminal,
// where nobody cuts lines.
func columnsOf(w io.Writer) int {
	if sized, ok := w.(interface{ columns() int }); ok {
		return sized.columns()
	}
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return columns
}

// textWidth gives how many columns of a terminal a cleaned text takes: two for the
// wide characters of East Asia, none for marks that stand above others.
func textWidth(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

func runeWidth(r rune) int {
	switch {
	case r < unicode.MaxASCII:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// cutTo gives as much of a text as so many columns take, with … for what is left out.
func cutTo(s string, columns int) string {
	if textWidth(s) <= columns {
		return s
	}
	room := columns - 1 // for the …
	for i, r := range s {
		if room -= runeWidth(r); room < 0 {
			return strings.TrimRight(s[:i], " ") + "…"
		}
	}
	return s
}

// leastRoom is how few columns a text is still wrapped into beside what stands
// before it.
const leastRoom = 24

// wrapped adds a text to a line of a terminal, over several lines of it and between
// words. Behind the first they begin at the column at or, where the room there
// would be too small, all at less. A word that is longer than a line stays whole,
// to be copied.
func wrapped(before string, c cell, at, columns, less int, colour bool) string {
	if columns-at < leastRoom && at > less {
		at = less
		if before = strings.TrimRight(before, " "); before != "" {
			before += "\n"
		}
		before += strings.Repeat(" ", at)
	}
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(c.text) {
		if line != "" && textWidth(line)+1+textWidth(word) > columns-at {
			lines = append(lines, c.paint.on(line, colour))
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return before + strings.Join(append(lines, c.paint.on(line, colour)), "\n"+strings.Repeat(" ", at))
}
