package server_test

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/server"
)

// TestPeopleGetPages: whoever looks with a browser gets a page where a program gets
// a problem, also for what is not there and before they have logged in.
func TestPeopleGetPages(t *testing.T) {
	const browser = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"
	open, closed := newWorld(t, nil), newWorld(t, func(c *server.Config) { c.Token = "tok" })
	for _, tt := range []struct {
		w            *world
		path, accept string
		status       int
		says, not    string
	}{
		{open, "/no/such/page", browser, 404, "there is no page at this address", `"type"`},
		{open, "/no/such/page", "*/*", 404, `"nothing answers`, "<html"},
		{open, "/api/v1/nothing", browser, 404, "nothing answers GET", "<html"},
		{open, "/runs/99", browser, 404, "run 99: not found", `"type"`},
		{closed, "/no/such/page", browser, 401, "Log in", `"type"`},
		{closed, "/targets/dev/us-east-1/research/lock", browser, 401, "Log in", `href="/releases"`},
		{closed, "/api/v1/runs", browser, 401, `"unauthorized"`, "<html"},
	} {
		resp, body := tt.w.do("GET", tt.path, "", "Accept", tt.accept)
		if says := strings.TrimPrefix(tt.says, `"`); resp.StatusCode != tt.status || !strings.Contains(body, says) || strings.Contains(body, tt.not) {
			t.Errorf("%s for %s: %d %s", tt.path, tt.accept, resp.StatusCode, body)
		}
	}
}

// TestPlansOfSeveralRepositories: the form asks which one is meant, and proposes the
// one that the target was last deployed from.
func TestPlansOfSeveralRepositories(t *testing.T) {
	var asked release.Order
	order := func(_ context.Context, o release.Order) (release.Run, error) {
		asked = o
		return release.Run{ID: 7, Target: o.Target}, nil
	}
	one := newWorld(t, func(c *server.Config) { c.Order, c.Repositories = order, []string{"infra"} })
	several := newWorld(t, func(c *server.Config) { c.Order, c.Repositories = order, []string{"apps", "infra"} })
	const cell = "/targets/dev/us-east-1/research"
	for _, w := range []*world{one, several} {
		w.drive(w.admit("dev_us-east-1/research/1.0"), release.Succeeded)
	}
	if _, body := one.do("GET", cell, ""); strings.Contains(body, `name="repository"`) {
		t.Error("with one repository there is nothing to choose")
	}
	_, body := several.do("GET", cell, "")
	wants(t, body, `name="repository"`, `<option value="apps">`, `<option value="infra" selected>`)
	form := url.Values{"what": {"main"}, "repository": {"apps"}}
	if resp, body := several.do("POST", cell+"/plan", form.Encode(), asForm...); resp.StatusCode >= 400 || asked.Repository != "apps" || asked.Ref != "main" {
		t.Errorf("%d %+v %s", resp.StatusCode, asked, body)
	}
	form.Set("repository", strings.Repeat("x", 65))
	if resp, _ := several.do("POST", cell+"/plan", form.Encode(), asForm...); resp.StatusCode != 422 {
		t.Errorf("a name that is too long: %d", resp.StatusCode)
	}
}

// TestTheBoardSaysWhetherAllIsRight: in its first line, which leads to what is not.
func TestTheBoardSaysWhetherAllIsRight(t *testing.T) {
	w := newWorld(t, nil)
	board := func(parts ...string) {
		t.Helper()
		_, body := w.do("GET", "/", "")
		wants(t, body, parts...)
	}
	w.drive(w.admit("dev_us-east-1/research/1.1"), release.Succeeded)
	board("Nothing needs a person", "1 target")
	w.drive(w.admit("dev_eu-central-1/research/1.0"), release.Succeeded)
	board("Nothing needs a person", `href="/?state=behind">1 behind a Region`, "behind 1.1")
	w.admit("dev_eu-central-1/risk/1.0")
	board(`href="/?state=active">1 going on`)
	w.drive(w.admit("dev_us-east-1/risk/1.0"), release.AwaitingApproval)
	board(`<a class="state wait" href="/?state=needs">1 needs a person`, `href="/?state=active">1 going on`)
	w.drive(w.admit("prod_us-east-1/risk/1.0"), release.Failed)
	board(`<a class="state bad" href="/?state=needs">2 need a person`)
	_, body := w.do("GET", "/?state=active", "")
	if !strings.Contains(body, `title="dev_eu-central-1/risk"`) || strings.Contains(body, `title="dev_us-east-1/risk"`) {
		t.Error("what goes on is not what the first line counts")
	}
}
