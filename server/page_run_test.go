package server_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/server"
	"github.com/waymark-cd/waymark/store"
)

func TestRunPage(t *testing.T) {
	w := newWorld(t, func(c *server.Config) {
		c.Source = func(repository, commit, file string, line int) string {
			return fmt.Sprintf("https://git.example.org/%s/%s/%s#%d", repository, commit[:4], file, line)
		}
	})
	w.drive(w.admit("dev_us-east-1/research/1.0"), release.AwaitingApproval)
	resp, body := w.do("GET", "/runs/1", "")
	for _, want := range []string{"waymark runs approve 1", "2 to add, 0 to change, 1 to destroy", "main.tf:12",
		`href="https://git.example.org/infra/cccc/main.tf#12"`, `href="https://git.example.org/infra/cccc/#0"`,
		"terraform_typed_variables", "log of run 1", `id="L1"`, "awaiting approval", "111122223333", `class="gantt good"`,
		`sse-connect="/live?after=`, `data-url="/api/v1/runs/1/logs"`, `/log.js" defer`} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if resp.StatusCode != 200 {
		t.Errorf("status %d", resp.StatusCode)
	}
	if live, log := strings.Index(body, `id="live"`), strings.Index(body, `id="log"`); live < 0 || log < live || strings.Contains(body[live:log], "log of run") {
		t.Error("the log is within what is fetched anew")
	}
	harmless(t, body)
	w.drive(w.admit("dev_us-east-1/risk/1.0"), release.Running)
	if _, body := w.do("GET", "/runs/2", ""); strings.Contains(body, "/runs/2/approve") || !strings.Contains(body, "/runs/2/cancel") {
		t.Error("the page of a run that goes on asks for an approval, or cannot cancel it")
	}
	for _, path := range []string{"/runs/99", "/runs/x", "/runs/%3Cscript%3E"} {
		resp, body := w.do("GET", path, "")
		if resp.StatusCode != 404 || !strings.Contains(body, "Back to the board") {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
		harmless(t, body)
	}
}

// The page asks for itself again and keeps the log that it has.
func TestRunPageIsFetchedAnewWithoutItsLog(t *testing.T) {
	w := newWorld(t, nil)
	w.admit("dev_us-east-1/research/1.0")
	if _, body := w.do("GET", "/runs/1", "", "HX-Request", "true"); strings.Contains(body, "log of run") || !strings.Contains(body, `id="live"`) {
		t.Error("the page reads its log again")
	}
}

func TestRunPageActs(t *testing.T) {
	w := newWorld(t, nil)
	for _, action := range []release.VerdictAction{release.Cancel, release.Retry, release.Resolve, release.Override} {
		w.drive(w.admit("dev_us-east-1/"+string(action)+"/1.0"), release.AwaitingApproval)
	}
	form := func(id, action string, values url.Values) (int, string) {
		resp, body := w.do("POST", "/runs/"+id+"/"+action, values.Encode(), "Content-Type", "application/x-www-form-urlencoded")
		return resp.StatusCode, body
	}
	for _, c := range []struct {
		id, action string
		values     url.Values
		status     int
	}{
		{"1", "cancel", url.Values{"plan_digest": {"sha256:00"}}, 303},
		{"2", "retry", url.Values{"reason": {"again"}, "as": {"accept"}}, 303},
		{"3", "resolve", nil, 422},
		{"3", "resolve", url.Values{"as": {"accept"}}, 303},
		{"4", "override", nil, 422},
		{"4", "override", url.Values{"reason": {strings.Repeat("x", 1001)}}, 422},
		{"4", "override", url.Values{"reason": {"the fix"}}, 303},
		{"99", "cancel", nil, 404},
	} {
		if status, _ := form(c.id, c.action, c.values); status != c.status {
			t.Errorf("%s of run %s with %v: %d, want %d", c.action, c.id, c.values, status, c.status)
		}
	}
	var did []release.VerdictAction
	for _, v := range w.verdicts {
		did = append(did, v.Action)
	}
	if want := []release.VerdictAction{release.Cancel, release.Retry, release.Resolve, release.Override}; !slices.Equal(did, want) {
		t.Errorf("decided %v, want %v", did, want)
	}
	resp, _ := w.do("POST", "/runs/1/cancel", "", "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "cross-site")
	if resp.StatusCode != 403 {
		t.Errorf("a form of another site: %d", resp.StatusCode)
	}
}

func TestRunPageShowsTheEndOfALongLog(t *testing.T) {
	w := newWorld(t, func(c *server.Config) {
		c.Logs = func(_ context.Context, _ int64, _ release.LogRange, each func(release.LogLine) error) (release.Run, error) {
			for i := range 20000 {
				text := fmt.Sprintf("line %05d", i)
				if i == 19990 {
					text += strings.Repeat("long", 1<<20)
				}
				if err := each(release.LogLine{N: int64(i) + 1, Text: text}); err != nil {
					return release.Run{}, err
				}
			}
			return release.Run{}, errors.New("and then it broke")
		}
	})
	w.admit("dev_us-east-1/research/1.0")
	_, body := w.do("GET", "/runs/1", "")
	if !strings.Contains(body, "line 19999") || strings.Contains(body, "line 00000") || !strings.Contains(body, "The end of it.") || !strings.Contains(body, "line 19990") {
		t.Error("the page does not show the end of the log")
	}
	if len(body) > 300<<10 {
		t.Errorf("the page has %d bytes", len(body))
	}
}

// What one plan did replace, one who asks whether a person decides must see.
func TestRunPageTellsWhoDecided(t *testing.T) {
	w := newWorld(t, nil)
	id := w.admit("dev_us-east-1/research/1.0")
	w.drive(id, release.AwaitingApproval)
	_, err := w.store.Update(t.Context(), id, store.Update{Entry: audit.Entry{Action: "run.driven"}, Change: func(r *store.Record) error {
		r.Requirements = []release.Requirement{{Count: 2, From: []string{"group:dba"}, Why: "environment dev"}}
		r.Approvals = []release.Approval{{Actor: "eve@example.org" + evil, PlanDigest: "sha256:00", At: testNow}, {Actor: "gil@example.org", PlanDigest: "sha256:ff", At: testNow}}
		r.SoftGates = []string{"checkov"}
		r.OverriddenBy = "ops@example.org"
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	_, body := w.do("GET", "/runs/1", "")
	for _, want := range []string{"eve@example.org", "gil@example.org", "a plan that was replaced", "group:dba", "because of environment dev",
		"checkov would have failed this run", "ops@example.org, outside of its time"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	harmless(t, body)
}
