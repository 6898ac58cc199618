package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// lines gives what a table prints in a terminal of so many columns; 0: in a pipe.
func (t *table) printed(columns int) string {
	s := &sheet{width: columns}
	t.write(s, false)
	return s.String()
}

func TestTablesFitTheTerminal(t *testing.T) {
	table := table{header: []string{"RUN", "TARGET", "KIND", "STATE", "REASON"}, cut: []string{"REASON", "KIND", "STATE"}}
	table.row("41", "dev_us-east-1/research", "deploy", "awaiting_approval", "two of the team of the place have to say yes")
	table.row("42", "dev_global/research", "rollback", "succeeded", "")
	whole := "" +
		"RUN  TARGET                  KIND      STATE              REASON\n" +
		"41   dev_us-east-1/research  deploy    awaiting_approval  two of the team of the place have to say yes\n" +
		"42   dev_global/research     rollback  succeeded\n"
	for columns, want := range map[int]string{
		0:    whole,
		1000: whole,
		100: "" +
			"RUN  TARGET                  KIND      STATE              REASON\n" +
			"41   dev_us-east-1/research  deploy    awaiting_approval  two of the team of the place have to say…\n" +
			"42   dev_global/research     rollback  succeeded\n",
		70: "" +
			"RUN  TARGET                  KIND      STATE              REASON\n" +
			"41   dev_us-east-1/research  deploy    awaiting_approval  two of the…\n" +
			"42   dev_global/research     rollback  succeeded\n",
		62: "" +
			"RUN  TARGET                  KIND      STATE  …\n" +
			"41   dev_us-east-1/research  deploy    awaiting_approval\n",
		57: "" +
			"RUN  TARGET                  KIND    STATE  …\n" +
			"41   dev_us-east-1/research  deploy  awaiting_approval\n" +
			"42   dev_global/research     rollb…  succeeded\n",
		40: "" +
			"RUN  TARGET                  STATE  …\n" +
			"41   dev_us-east-1/research  awaitin…\n" +
			"42   dev_global/research     succeed…\n",
	} {
		got := table.printed(columns)
		if !strings.HasPrefix(got, want) {
			t.Errorf("%d columns:\n%swant\n%s", columns, got, want)
		}
		for line := range strings.Lines(got) {
			if columns > 0 && textWidth(strings.TrimSuffix(line, "\n")) > columns {
				t.Errorf("%d columns: this line has %d: %s", columns, textWidth(line), line)
			}
		}
	}
}

// TestNoTableIsWiderThanItsTerminal tries every width: nothing but the columns that
// are never cut may stand out, and the order of cut is kept.
func TestNoTableIsWiderThanItsTerminal(t *testing.T) {
	table := table{indent: " ", header: []string{"A", "B", "C", "D"}}
	table.row("0123456789", strings.Repeat("b", 70), "界界界界界界界界界界", strings.Repeat("d", 33))
	for columns := 16; columns < 200; columns++ {
		for line := range strings.Lines(table.printed(columns)) {
			if n := textWidth(strings.TrimSuffix(line, "\n")); n > columns {
				t.Fatalf("%d columns: %d in %q", columns, n, line)
			}
			if strings.HasSuffix(line, " \n") {
				t.Fatalf("%d columns: %q ends in a space", columns, line)
			}
		}
	}
}

// TestColumnsThatAreCutAreThere reads the source: a name in cut that is none of the
// header would only be met on a narrow terminal.
func TestColumnsThatAreCutAreThere(t *testing.T) {
	files, err := filepath.Glob("c*_*.go")
	if err != nil {
		t.Fatal(err)
	}
	tables := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range tableWithCut.FindAllStringSubmatch(string(text), -1) {
			tables++
			header := quoted.FindAllString(found[1], -1)
			for _, name := range quoted.FindAllString(found[2], -1) {
				if !slices.Contains(header, name) {
					t.Errorf("%s: column %s of %s is cut", file, name, found[1])
				}
			}
		}
	}
	if tables < 10 {
		t.Errorf("%d tables", tables)
	}
}

var (
	tableWithCut = regexp.MustCompile(`header: \[\]string\{([^}]*)\},\s+cut: \[\]string\{([^}]*)\}`)
	quoted       = regexp.MustCompile(`"[^"]*"`)
)

func TestFactsAreWrappedAndNeverCut(t *testing.T) {
	facts := table{indent: "  "}
	facts.row("kind", "deploy")
	facts.row("reason", cell{"the apply was not seen to end, and nobody knows what it did", red})
	facts.row("plan digest", "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
	for columns, want := range map[int]string{
		0: "  kind         deploy\n" +
			"  reason       the apply was not seen to end, and nobody knows what it did\n" +
			"  plan digest  sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n",
		50: "  kind         deploy\n" +
			"  reason       the apply was not seen to end, and\n" +
			"               nobody knows what it did\n" +
			"  plan digest  sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n",
		30: "  kind         deploy\n" +
			"  reason\n" +
			"      the apply was not seen\n" +
			"      to end, and nobody knows\n" +
			"      what it did\n" +
			"  plan digest\n" +
			"      sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n",
	} {
		if got := facts.printed(columns); got != want {
			t.Errorf("%d columns:\n%swant\n%s", columns, got, want)
		}
	}
	s := &sheet{width: 50}
	facts.write(s, true)
	if !strings.Contains(s.String(), "\x1b[31mthe apply was not seen to end, and\x1b[0m\n               \x1b[31mnobody") {
		t.Errorf("the colour of a text is not that of each of its lines: %q", s.String())
	}
}

func TestWidthsAndCuts(t *testing.T) {
	for text, want := range map[string]int{"": 0, "abc": 3, "größe": 5, "e\u0301": 1, "界": 2, "✓": 1, "🚀": 2, "a\u200db": 2} {
		if got := textWidth(text); got != want {
			t.Errorf("%q takes %d columns, got %d", text, want, got)
		}
	}
	for _, c := range []struct {
		text    string
		columns int
		want    string
	}{{"abc", 3, "abc"}, {"abcd", 3, "ab…"}, {"abcd", 1, "…"}, {"a bcd", 3, "a…"}, {"界界界", 4, "界…"}, {"界界", 4, "界界"}, {"e\u0301xyz", 3, "e\u0301x…"}} {
		if got := cutTo(c.text, c.columns); got != c.want {
			t.Errorf("%q cut to %d columns: %q, want %q", c.text, c.columns, got, c.want)
		}
	}
}

func TestProgressIsOneLineThatGoesAway(t *testing.T) {
	var out bytes.Buffer
	at := time.Unix(0, 0)
	p := &progress{w: &out, columns: 60, doing: "copying", text: megabytesOf, now: func() time.Time { return at }}
	for i := range 5 {
		p.at(int64(i)*10e6, 40e6)
		at = at.Add(450 * time.Millisecond)
	}
	at = at.Add(2 * time.Second)
	p.at(40e6, 80e6)
	p.end()
	p.end()
	want := "\rcopying: 20.0 MB of 40.0 MB, 50%\x1b[K" +
		"\rcopying: 30.0 MB of 40.0 MB, 75%\x1b[K" +
		"\rcopying: 40.0 MB of 40.0 MB, 100%\x1b[K" +
		"\rcopying: 40.0 MB of 80.0 MB, 50%, 5s left\x1b[K" +
		"\r\x1b[K"
	if out.String() != want {
		t.Errorf("got\n%q\nwant\n%q", out.String(), want)
	}
	out.Reset()
	quick := &progress{w: &out, columns: 60, text: entriesOf, now: time.Now}
	quick.at(1, 2)
	quick.end()
	if out.Len() != 0 {
		t.Errorf("short work is spoken of: %q", out.String())
	}
	if got := entriesOf(999, 1234567); got != "999 of 1,234,567 entries" {
		t.Error(got)
	}
	g := &globals{stderr: &out, env: func(string) string { return "" }}
	long := g.newProgress("copying", megabytesOf)
	long.now = func() time.Time { at = at.Add(time.Minute); return at }
	for i := range int64(4) {
		long.at(i, 4)
	}
	if long.end(); out.Len() != 0 {
		t.Errorf("what is no terminal is told: %q", out.String())
	}
}
