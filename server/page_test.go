package server_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/server"
)

func TestBoardPage(t *testing.T) {
	w := newWorld(t, nil)
	_, body := w.do("GET", "/", "")
	if !strings.Contains(body, "git push origin dev_us-east-1/research/1.0") {
		t.Error("an empty board does not say what to do")
	}
	id := w.admit("dev_us-east-1/research/1.0")
	w.refuse("dev_us-east-1/resaerch/1.0", evil)
	_, body = w.do("GET", "/", "")
	if !strings.Contains(body, `http-equiv="refresh"`) || !strings.Contains(body, "queued") {
		t.Error("the board does not refresh while a run is queued")
	}
	w.drive(id, release.Succeeded)
	resp, body := w.do("GET", "/", "")
	for _, want := range []string{"dev_us-east-1/research", "1.0", "cccccccccc", "succeeded", "just now", `href="/runs/1"`, "resaerch"} {
		if !strings.Contains(body, want) {
			t.Errorf("the board lacks %q", want)
		}
	}
	if strings.Contains(body, `http-equiv="refresh"`) {
		t.Error("the board refreshes while nothing runs")
	}
	harmless(t, body)
	if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("policy %q", csp)
	}
}

func TestRunPage(t *testing.T) {
	w := newWorld(t, nil)
	w.drive(w.admit("dev_us-east-1/research/1.0"), release.AwaitingApproval)
	resp, body := w.do("GET", "/runs/1", "")
	for _, want := range []string{"waymark runs approve 1", "2 to add, 0 to change, 1 to destroy", "main.tf:12",
		"terraform_typed_variables", "log of run 1", "awaiting approval", "111122223333"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if resp.StatusCode != 200 {
		t.Errorf("status %d", resp.StatusCode)
	}
	harmless(t, body)
	w.drive(w.admit("dev_us-east-1/risk/1.0"), release.Running)
	if _, body := w.do("GET", "/runs/2", ""); !strings.Contains(body, `http-equiv="refresh"`) || strings.Contains(body, "<h2>Decide") {
		t.Error("the page of a run that goes on does not look again, or asks for a decision")
	}
	for _, path := range []string{"/runs/99", "/runs/x", "/runs/%3Cscript%3E"} {
		resp, body := w.do("GET", path, "")
		if resp.StatusCode != 404 || !strings.Contains(body, "Back to the board") {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
		harmless(t, body)
	}
}

// harmless checks that nothing of evil got through as it was.
func harmless(t *testing.T, page string) {
	t.Helper()
	for _, bad := range []string{"<script", "\x1b", "\u202e", "javascript:", "ZgotmplZ"} {
		if strings.Contains(page, bad) {
			i := strings.Index(page, bad)
			t.Errorf("the page holds %q: …%q", bad, page[max(0, i-40):min(len(page), i+40)])
		}
	}
}

func TestRunPageShowsTheEndOfALongLog(t *testing.T) {
	w := newWorld(t, func(c *server.Config) {
		c.Logs = func(_ context.Context, _, _ int64, _ bool, each func(release.LogLine) error) (release.Run, error) {
			for i := range 20000 {
				if err := each(release.LogLine{Text: fmt.Sprintf("line %05d", i)}); err != nil {
					return release.Run{}, err
				}
			}
			return release.Run{}, errors.New("and then it broke")
		}
	})
	w.admit("dev_us-east-1/research/1.0")
	_, body := w.do("GET", "/runs/1", "")
	if !strings.Contains(body, "line 19999") || strings.Contains(body, "line 00000") || !strings.Contains(body, "The end of it.") {
		t.Error("the page does not show the end of the log")
	}
	if len(body) > 200<<10 {
		t.Errorf("the page has %d bytes", len(body))
	}
}
