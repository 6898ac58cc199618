package runner

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/mask"
	"github.com/waymark-cd/waymark/release"
)

func readEvents(t *testing.T, dir string) []release.Event {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, eventsFile))
	if err != nil {
		t.Fatal(err)
	}
	var events []release.Event
	for line := range strings.Lines(string(data)) {
		var e release.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		events = append(events, e)
	}
	return events
}

func TestJournalMasksAndCleans(t *testing.T) {
	dir := t.TempDir()
	spec := &release.Spec{PlanIdentity: "AGE-SECRET-KEY-1", Env: map[string]string{
		"AWS_SECRET_ACCESS_KEY": "abcd/efgh", "A_TOKEN": "abcd", "db_password": "line one\nline two", "NAME": "plain", "TINY_KEY": "x"}}
	hide, err := newMask(spec)
	if err != nil {
		t.Fatal(err)
	}
	j, err := newJournal(dir, hide)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ in, want string }{
		{"key abcd/efgh, token abcd", "key (masked), token (masked)"},
		{"line two AGE-SECRET-KEY-1 plain x", "(masked) (masked) plain x"},
		{"a\x1b[31mb\r\x00\xffc", "ab  ?c"},
		{strings.Repeat("é", maxMessage), strings.Repeat("é", maxMessage/2) + " … (cut)"},
	} {
		if got := j.clean(tt.in); got != tt.want {
			t.Errorf("clean(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
}

func TestJournalIsBounded(t *testing.T) {
	dir := t.TempDir()
	j, err := newJournal(dir, &mask.Mask{})
	if err != nil {
		t.Fatal(err)
	}
	j.limit = 300
	for range 100 {
		j.log(release.StagePlan, "a line")
	}
	j.stage(release.Stage{Name: release.StagePlan, State: release.StagePassed})
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	events := readEvents(t, dir)
	if n := len(events); n < 3 || n > 10 {
		t.Fatalf("%d events", n)
	}
	if last := events[len(events)-1]; last.Type != release.EventStage {
		t.Errorf("the stage's end is missing: %+v", last)
	}
	if note := events[len(events)-2].Message; !strings.Contains(note, "not kept") {
		t.Errorf("no note of what is left out: %q", note)
	}
}

func TestLinesAreNeverTooLongToFollow(t *testing.T) {
	dir := t.TempDir()
	j, err := newJournal(dir, &mask.Mask{})
	if err != nil {
		t.Fatal(err)
	}
	for _, worst := range []string{"<", "\u2028", "\"", "\t", "\U0001F600"} {
		j.log(release.StagePlan, strings.Repeat(worst, maxMessage))
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	n := 0
	events := &tail{path: filepath.Join(dir, eventsFile)}
	defer events.close()
	if err := events.drain(func(release.Event, int64) { n++ }); err != nil || n != 5 {
		t.Errorf("%d of 5 lines came through, %v", n, err)
	}
}
