package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/release"
)

// typed runs a whole command line as main does.
func (w *cliWorld) typed(line string) (stdout, stderr string, code int) {
	w.t.Helper()
	var out, errs bytes.Buffer
	code = run(w.t.Context(), strings.Fields(line), func(name string) string { return w.env[name] }, &out, &errs)
	return out.String(), errs.String(), code
}

// TestErrorsSayWhatToDoNext: what is mistyped or missing, one of each kind.
func TestErrorsSayWhatToDoNext(t *testing.T) {
	w := newCLIWorld(t, nil)
	w.add("dev_us-east-1/research@1.0", release.Succeeded)
	for _, c := range []struct {
		line string
		code int
		says string
	}{
		{"stats", exitUsage, `waymark has no command "stats": did you mean "status"?`},
		{"runs lst", exitUsage, `waymark runs has no command "lst": did you mean "list"?`},
		{"consumers x", exitUsage, `waymark consumers has no command "x": known: move, skip`},
		{"help nope", exitUsage, `waymark has no command "nope"`},
		{"help runs lst", exitUsage, `did you mean "list"?`},
		{"status --wach", exitUsage, "waymark status has no flag --wach: did you mean --watch? waymark status --help lists"},
		{"runs list --qqqqqqqq", exitUsage, "waymark runs list has no flag --qqqqqqqq: waymark runs list --help lists those that there are"},
		{"runs list -z", exitUsage, "waymark runs list has no flag -z: waymark runs list --help lists"},
		{"runs list --limit", exitUsage, "flag needs an argument: --limit: see waymark runs list --help"},
		{"runs list --limit abc", exitUsage, `--limit "abc" is no whole number`},
		{"runs list --limit 0", exitUsage, "give 1 to 500"},
		{"runs list --limit 501", exitUsage, "give 1 to 500"},
		{"runs list --state done", exitUsage, `--state "done": write one of queued, running, awaiting_approval`},
		{"runs list --kind x", exitUsage, `--kind "x": write one of deploy, drift`},
		{"runs list -o yaml", exitUsage, `--output: "yaml" is no output format: use table or json`},
		{"runs list --watch=maybe", exitUsage, `--watch "maybe": leave the value out`},
		{"runs show 99", exitNotFound, "waymark runs list shows which there are"},
		{"status dev_global/research", exitNotFound, "waymark status shows which there are"},
		{"audit list --after -1", exitUsage, "counted from 0"},
		{"audit export --after -1", exitUsage, "counted from 0"},
		{"audit export --from 1 --after 1", exitUsage, "leave --after out"},
		{"audit list --after 99", exitDone, ""},
		{"watch --after x", exitUsage, "the index of an entry"},
		{"drain nope", exitNotFound, "waymark instances lists which there are"},
		{"tokens revoke nope", exitNotFound, "waymark tokens list shows which there are"},
		{"tokens create x --role wizard", exitUsage, `--role "wizard": write one of viewer, operator`},
		{"config check /no/such/file", exitUsage, `there is no file "/no/such/file"`},
		{"completion tcsh", exitUsage, "known: bash"},
		{"man", exitUsage, "man needs --dir"},
		{"--server http://127.0.0.1:1 runs list", exitUnreachable, "is this its address? --server or WAYMARK_SERVER names another one"},
	} {
		stdout, stderr, code := w.typed(c.line)
		if code != c.code || !strings.Contains(stderr, c.says) || code != 0 && stdout != "" {
			t.Errorf("waymark %s: exit %d, want %d, saying %q: %s%s", c.line, code, c.code, c.says, stdout, stderr)
		}
	}
	for _, line := range []string{"help", "help runs list", "runs", "runs list --help", "audit", "completion --help"} {
		if stdout, stderr, code := w.typed(line); code != 0 || !strings.Contains(stdout, "Usage:") || stderr != "" {
			t.Errorf("waymark %s: exit %d, %s%s", line, code, stdout, stderr)
		}
	}
}

// TestWhatAnswersIsNoWaymark: an address that is somebody else's is no run that is
// not there.
func TestWhatAnswersIsNoWaymark(t *testing.T) {
	for _, status := range []int{http.StatusNotFound, http.StatusMovedPermanently, http.StatusOK} {
		other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(status)
		}))
		w := &cliWorld{t: t, env: map[string]string{"WAYMARK_SERVER": other.URL}}
		for _, line := range []string{"runs show 1", "status", "runs wait 1", "runs approve 1 --digest sha256:1"} {
			if _, stderr, code := w.typed(line); code != exitUnreachable || !strings.Contains(stderr, "no waymark") || !strings.Contains(stderr, "WAYMARK_SERVER") {
				t.Errorf("%d, %s: exit %d, %s", status, line, code, stderr)
			}
		}
		other.Close()
	}
}

// TestEveryCommandRefusesWhatItDoesNotTake: a word too many is never ignored.
func TestEveryCommandRefusesWhatItDoesNotTake(t *testing.T) {
	w := &cliWorld{t: t, env: map[string]string{"WAYMARK_SERVER": "http://127.0.0.1:1"}}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, below := range shownCommands(cmd) {
			walk(below)
		}
		if path := cmd.CommandPath(); path != "waymark policy test" { // any number of folders
			line := strings.TrimPrefix(path, "waymark") + " a b c d e"
			if _, stderr, code := w.typed(line); code != exitUsage {
				t.Errorf("waymark%s: exit %d: %s", line, code, stderr)
			}
		}
	}
	walk(newRootCommand(&globals{env: func(string) string { return "" }}))
}

func TestHelpFitsTheTerminal(t *testing.T) {
	const text = "One two three four.\nFive six seven eight nine ten.\n\nshort\n\nwaymark x        stands above\nwaymark something else"
	want := "One two three four. Five\nsix seven eight nine ten.\n\nshort\n\nwaymark x        stands above\nwaymark something else"
	if got := filled(text, 25); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := filled(text, 80); got != text {
		t.Errorf("what fits is changed:\n%s", got)
	}
}

// TestInterruptedIsSaidInAWord: whoever pressed Ctrl-C knows what a context is not.
func TestInterruptedIsSaidInAWord(t *testing.T) {
	w := newCLIWorld(t, nil)
	id := w.add("dev_us-east-1/research@1.0", release.Queued)
	ctx, stop := context.WithCancel(t.Context())
	var errs bytes.Buffer
	said := writerFunc(func() { stop() }) // it says first that the run is queued
	code := run(ctx, []string{"runs", "wait", id}, func(name string) string { return w.env[name] }, io.Discard, io.MultiWriter(&errs, said))
	if want := "run " + id + " is queued\nwaymark: interrupted\n"; code != exitInterrupted || errs.String() != want {
		t.Errorf("exit %d, %q, want %q", code, errs.String(), want)
	}
}
