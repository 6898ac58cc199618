package triggers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/internal/testkit"
)

type testkitMessage = testkit.QueueMessage

func wantError(t *testing.T, err, sentinel error, says string) {
	t.Helper()
	if !errors.Is(err, sentinel) || !strings.Contains(err.Error(), says) {
		t.Errorf("error %v, want %q that says %q", err, sentinel, says)
	}
}

// aside is a file of the folder, as people find it.
type aside struct {
	Reason, Queue, Body string
	MessageID           string `json:"message_id"`
	Received            int
	BodyBytes           int `json:"body_bytes"`
}

// asides reads all files of the folder.
func (w *world) asides() []aside {
	w.t.Helper()
	var out []aside
	entries, err := os.ReadDir(w.cfg.SetAside)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode() != 0o600 || !strings.HasSuffix(e.Name(), ".message.json") {
			w.t.Errorf("%s: %v, %v", e.Name(), info.Mode(), err)
		}
		text, err := os.ReadFile(filepath.Join(w.cfg.SetAside, e.Name()))
		var a aside
		if err == nil {
			err = json.Unmarshal(text, &a)
		}
		if err != nil {
			w.t.Errorf("%s: %v", e.Name(), err)
		}
		out = append(out, a)
	}
	return out
}

func TestWhatCannotBeUnderstoodIsSetAside(t *testing.T) {
	for _, tt := range []struct{ name, body, reason string }{
		{"text", "hello", "not JSON"},
		{"half an event", tagPushed()[:100], "not JSON"},
		{"two events", tagPushed() + tagPushed(), "not JSON"},
		{"a list", "[" + tagPushed() + "]", "no event"},
		{"wrong types", `{"source":1}`, "no event"},
		{"nothing", `{}`, `an event "" of source ""`},
		{"other event", strings.Replace(tagPushed(), "Repository State", "Pull Request State", 1), "narrow the EventBridge rule"},
		{"other source", strings.Replace(tagPushed(), "aws.codecommit", "aws.s3", 1), `of source "aws.s3"`},
		{"no detail", `{"source":"aws.codecommit","detail-type":"CodeCommit Repository State Change"}`, "detail has another form"},
		{"detail of text", `{"source":"aws.codecommit","detail-type":"CodeCommit Repository State Change","detail":"x"}`, "detail has another form"},
		{"other kind", event("referenceEaten", "tag", "cc-infra"), `of kind "referenceEaten"`},
		{"other reference", event("referenceCreated", "note", "cc-infra"), `about a "note"`},
		{"not configured", event("referenceCreated", "tag", "secrets"), `repository "secrets" is not configured`},
		{"our name is not theirs", event("referenceCreated", "tag", "infra"), `repository "infra" is not configured`},
		{"SNS confirmation", `{"Type":"SubscriptionConfirmation","Message":"visit","SubscribeURL":"http://127.0.0.1:1/"}`, "only notifications are read"},
		{"SNS with text", inSNS(t, "hello"), "cannot be read: not JSON"},
		{"SNS in SNS", inSNS(t, inSNS(t, tagPushed())), `an event "" of source ""`},
		{"hostile", "\x1b]0;x\x07<script>../../etc/passwd\nlevel=ERROR", "not JSON"},
		{"long", `{"x":"` + strings.Repeat("é", 100<<10) + `"}`, `an event ""`},
		{"long name", event("referenceCreated", "tag", strings.Repeat("x", 10_000)), "is not configured"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.cfg.Visibility = 3 * time.Second // an answer that is lost on the way comes back soon
			w.run()
			id := w.aws.Send(w.url, tt.body)
			w.untilEmpty()
			files := w.asides()
			if len(files) != 1 {
				t.Fatalf("%d files", len(files))
			}
			a := files[0]
			if !strings.Contains(a.Reason, tt.reason) || len(a.Reason) > 600 || a.Queue != w.url || a.MessageID != id || a.Received < 1 || a.BodyBytes != len(tt.body) {
				t.Errorf("file %+v, want reason %q", a, tt.reason)
			}
			if len(tt.body) < 32<<10 && a.Body != tt.body || len(a.Body) > 33<<10 {
				t.Errorf("body of %d bytes: %.100q", len(a.Body), a.Body)
			}
			if len(w.looked()) != 0 {
				t.Error("it looked")
			}
			if w.log.count() != 1 || w.log.count("a message was set aside", "level=WARN") != 1 {
				t.Errorf("log:\n%s", w.log)
			}
			w.untilReady(true, "set aside since the start: 1", w.cfg.SetAside)
		})
	}
}

func TestMessagesThatFailAgainAndAgainAreSetAside(t *testing.T) {
	w := newWorld(t, func(context.Context, int) error { return errors.New("no") }).run()
	w.aws.Send(w.url, tagPushed())
	w.until("it is given up", func() bool { w.aws.Reappear(w.url); return len(w.aws.Queue(w.url)) == 0 })
	files := w.asides()
	if len(files) != 1 || files[0].Received < 6 || !strings.Contains(files[0].Reason, `times, and no look at repository "infra" succeeded`) {
		t.Errorf("files %+v", files)
	}
	// Fewer where it came again before the look at work had ended.
	if n := len(w.looked()); n < 1 || n > 5 {
		t.Errorf("looked %d times, want 5 at most", n)
	}
}

func TestTheFolderIsBounded(t *testing.T) {
	w := newWorld(t, nil)
	if err := os.Mkdir(w.cfg.SetAside, 0o700); err != nil {
		t.Fatal(err)
	}
	for n := range 505 {
		name := fmt.Sprintf("20200101T000000.%03dZ-0123456789abcdef.message.json", n)
		if err := os.WriteFile(filepath.Join(w.cfg.SetAside, name), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"19990101T000000.000Z-0123456789abcdef.123.message.tmp", "00-notes-of-a-person.txt"} {
		if err := os.WriteFile(filepath.Join(w.cfg.SetAside, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.run()
	w.aws.Send(w.url, "junk")
	w.untilEmpty()
	entries, err := os.ReadDir(w.cfg.SetAside)
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	if len(names) != 501 || names[0] != "00-notes-of-a-person.txt" || names[1] != "20200101T000000.006Z-0123456789abcdef.message.json" {
		t.Errorf("%d files, from %s, %s to %s", len(names), names[0], names[1], names[len(names)-1])
	}
	if i := slices.IndexFunc(names, func(n string) bool { return strings.HasPrefix(n, "202") && !strings.HasPrefix(n, "20200101") }); i != 500 {
		t.Errorf("the new one is at %d", i)
	}
}

func TestWhatCannotBeSetAsideStays(t *testing.T) {
	w := newWorld(t, nil).run()
	// A file where the folder should be: no privilege gets around that.
	if err := errors.Join(os.Remove(w.cfg.SetAside), os.WriteFile(w.cfg.SetAside, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	w.aws.Send(w.url, "junk")
	w.untilReady(false, "cannot be set aside", "make room in "+w.cfg.SetAside)
	if n := len(w.aws.Queue(w.url)); n != 1 {
		t.Errorf("%d messages", n)
	}
	if err := os.Remove(w.cfg.SetAside); err != nil {
		t.Fatal(err)
	}
	w.aws.Reappear(w.url)
	w.untilEmpty()
	w.untilReady(true)
	if info, err := os.Stat(w.cfg.SetAside); err != nil || info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("the folder: %v, %v", info, err)
	}
}
