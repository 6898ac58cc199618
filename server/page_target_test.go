package server_test

import (
	"bufio"
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/server"
)

const cell = "/targets/dev/us-east-1/research"

// wants checks that a page has all of these, and nothing that harms.
func wants(t *testing.T, page string, all ...string) {
	t.Helper()
	for _, want := range all {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	harmless(t, page)
}

func TestTheBoardShowsWhoIsBehind(t *testing.T) {
	w := newWorld(t, nil)
	w.drive(w.admit("dev_us-east-1/research/1.9"), release.Succeeded)
	w.drive(w.admit("dev_eu-central-1/research/1.10"), release.Succeeded)
	w.drive(w.admit("dev_global/research/1.2"), release.Succeeded)
	w.drive(w.admit("prod_us-east-1/risk/3"), release.Failed)
	_, page := w.do("GET", "/", "")
	wants(t, page, "behind 1.10", "Needs a person", `id="env-dev"`, `id="env-prod"`, `data-label="eu-central-1"`)
	if strings.Count(page, "behind 1.10") != 1 {
		t.Error("one Region is behind, and what is global never is")
	}
	for query, tt := range map[string]struct{ has, lacks string }{
		"env=prod":                      {"env-prod", `id="env-dev"`},
		"team=research":                 {`id="env-dev"`, `id="env-prod"`},
		"state=behind":                  {">1.9", `data-label="eu-central-1"`},
		"state=failed":                  {"env-prod", `id="env-dev"`},
		"state=needs":                   {"env-prod", `id="env-dev"`},
		"text=1.10":                     {"eu-central-1", `data-label="us-east-1"`},
		"state=%3Cscript%3E":            {`id="env-dev"`, "<script>"},
		"text=" + url.QueryEscape(evil): {"No target is like that", `id="env-dev"`},
	} {
		_, page := w.do("GET", "/?"+query, "")
		matrix := page[:strings.Index(page, "Latest runs")]
		wants(t, page, tt.has)
		if strings.Contains(ownScript.ReplaceAllString(matrix, ""), tt.lacks) {
			t.Errorf("%s: the page holds %q", query, tt.lacks)
		}
	}
}

func TestTargetPage(t *testing.T) {
	var asked []string
	w := newWorld(t, func(c *server.Config) {
		c.Changes = func(_ context.Context, repository, from, to string, _ int) ([]server.Commit, bool, error) {
			asked = append(asked, repository+" "+from[:1]+" "+to[:1])
			return []server.Commit{{ID: strings.Repeat("e", 40), Author: "Eve " + evil, Subject: "subject " + evil}}, true, nil
		}
		c.Opening = func(release.Target, time.Time) (bool, time.Time, string) { return false, time.Time{}, "window nightly" }
		c.Order = func(context.Context, release.Order) (release.Run, error) { return release.Run{}, nil }
		c.Locks = func(context.Context, *release.Target) ([]release.HeldLock, error) {
			return []release.HeldLock{{Target: release.Target{Env: "dev", Scope: "us-east-1", Team: "research"},
				StateLock: release.StateLock{Kind: "s3", Who: evil, ID: "l1"}, Run: &release.Run{ID: 1}}}, nil
		}
		c.Unlock = func(context.Context, release.Unlock) ([]release.HeldLock, error) { return nil, nil }
	})
	w.drive(w.admit("dev_us-east-1/research/1.0"), release.Succeeded)
	w.drive(w.admit("dev_us-east-1/research/1.1"), release.Succeeded)
	_, page := w.do("GET", cell, "")
	wants(t, page, "1.1", "Roll back", "Destroy", "Look for drift", "Freeze", "states/research/dev.tfstate", "window nightly", `sse-connect="/live?`)
	_, page = w.do("GET", cell+"/lock", "")
	wants(t, page, "which is dead", "Release the lock of our dead run")
	if len(asked) != 0 {
		t.Errorf("asked for the commits between one and the same: %v", asked)
	}
	for path, status := range map[string]int{"/targets/dev/us-east-1/none": 404, "/targets/dev/us-east-1/%3Cscript%3E": 422, cell + "?cursor=x": 422} {
		if resp, page := w.do("GET", path, ""); resp.StatusCode != status {
			t.Errorf("%s: %d %s", path, resp.StatusCode, page)
		} else {
			harmless(t, page)
		}
	}
}

func TestTheFormsOfATargetAsk(t *testing.T) {
	var orders []release.Order
	w := newWorld(t, func(c *server.Config) {
		c.Order = func(_ context.Context, o release.Order) (release.Run, error) {
			orders = append(orders, o)
			return release.Run{ID: 7, Target: o.Target}, nil
		}
	})
	w.drive(w.admit("dev_us-east-1/research/1.0"), release.Succeeded)
	form := func(path string, header []string, pairs ...string) *http.Response {
		t.Helper()
		v := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			v.Set(pairs[i], pairs[i+1])
		}
		resp, _ := w.do("POST", cell+path, v.Encode(), append(header, asForm...)...)
		return resp
	}
	for name, resp := range map[string]*http.Response{
		"another site":    form("/drift", []string{"Sec-Fetch-Site", "cross-site"}),
		"no reason":       form("/rollback", nil, "to", "1.0"),
		"nothing typed":   form("/destroy", nil, "reason", "x"),
		"another typed":   form("/destroy", nil, "reason", "x", "confirm", "dev_us-east-1/risk"),
		"no plan of what": form("/plan", nil),
		"a long reason":   form("/drift", nil, "reason", strings.Repeat("x", 1001)),
		"no such freeze":  form("/thaw", nil, "id", "9"),
		"an endless one":  form("/freeze", nil, "for", "x", "reason", "y"),
	} {
		if resp.StatusCode < 400 || resp.StatusCode > 499 || len(orders) > 0 {
			t.Errorf("%s: %d, %d orders", name, resp.StatusCode, len(orders))
		}
	}
	for _, tt := range []struct {
		path  string
		pairs []string
		want  release.Order
	}{
		{"/plan", []string{"what", "main"}, release.Order{Kind: release.PlanOnly, Ref: "main"}},
		{"/plan", []string{"what", "dev_us-east-1/research/1.1"}, release.Order{Kind: release.PlanOnly, Tag: "dev_us-east-1/research/1.1"}},
		{"/drift", nil, release.Order{Kind: release.Drift}},
		{"/rollback", []string{"to", "1.0", "reason", "r"}, release.Order{Kind: release.Rollback, Version: "1.0", Reason: "r"}},
		{"/destroy", []string{"confirm", "dev_us-east-1/research", "reason", "r"}, release.Order{Kind: release.Destroy, Confirm: "dev_us-east-1/research", Reason: "r"}},
	} {
		orders = nil
		resp := form(tt.path, []string{"Sec-Fetch-Site", "same-origin"}, tt.pairs...)
		tt.want.Target, tt.want.Actor = release.Target{Env: "dev", Scope: "us-east-1", Team: "research"}, "local"
		if resp.StatusCode != 303 || resp.Header.Get("Location") != "/runs/7" || len(orders) != 1 || orders[0] != tt.want {
			t.Errorf("%s: %d to %s: %+v", tt.path, resp.StatusCode, resp.Header.Get("Location"), orders)
		}
	}
	if resp := form("/freeze", nil, "for", "4h", "reason", evil); resp.StatusCode != 303 || resp.Header.Get("Location") != cell {
		t.Errorf("a freeze: %d", resp.StatusCode)
	}
	_, page := w.do("GET", cell, "")
	wants(t, page, "Frozen: dev_us-east-1/research", "Lift it")
	_, page = w.do("GET", "/", "")
	wants(t, page, "Frozen: dev_us-east-1/research")
	if resp := form("/thaw", nil, "id", "1"); resp.StatusCode != 303 {
		t.Errorf("a thaw: %d", resp.StatusCode)
	}
	if _, page := w.do("GET", cell, ""); strings.Contains(page, "Frozen") {
		t.Error("the freeze is still shown")
	}
}

func TestReleasesPage(t *testing.T) {
	w := newWorld(t, nil)
	for range 51 {
		w.refuse("dev_us-east-1/resaerch/1."+strings.Repeat("1", 1+len(w.hints)), evil)
		w.hints = append(w.hints, "")
	}
	w.admit("dev_us-east-1/research/1.0")
	_, page := w.do("GET", "/releases", "")
	wants(t, page, "admitted", "refused", "Ada", `href="`+cell+`"`, `rel="next"`)
	_, page = w.do("GET", "/releases?decision=admitted", "")
	wants(t, page, "research/1.0")
	if strings.Contains(page, "resaerch") {
		t.Error("the filter keeps what it should not")
	}
	if resp, page := w.do("GET", "/releases?decision=%3Cscript%3E", ""); resp.StatusCode != 422 {
		t.Errorf("a decision that there is not: %d", resp.StatusCode)
	} else {
		harmless(t, page)
	}
}

func TestPublicLinks(t *testing.T) {
	w := newWorld(t, func(c *server.Config) {
		c.Token = "tok"
		c.Public = func(env string) bool { return env == "dev" }
	})
	w.drive(w.admit("dev_us-east-1/research/1.0"), release.AwaitingApproval)
	w.drive(w.admit("prod_us-east-1/research/1.0"), release.Succeeded)
	w.needs(1)
	resp, page := w.do("GET", "/public/runs/1", "")
	wants(t, page, "dev_us-east-1/research/1.0", "awaiting approval", "log of run 1")
	if resp.StatusCode != 200 || !strings.Contains(resp.Header.Get("Cache-Control"), "max-age=") {
		t.Errorf("%d %q", resp.StatusCode, resp.Header.Get("Cache-Control"))
	}
	for _, bad := range []string{"@example.org", "<form", "/releases", "group:"} {
		if strings.Contains(page, bad) {
			t.Errorf("the public page holds %q", bad)
		}
	}
	resp, svg := w.do("GET", "/badge/dev/us-east-1/research.svg", "")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "image/svg+xml; charset=utf-8" || !strings.Contains(svg, "awaiting approval") {
		t.Errorf("the badge: %d %s", resp.StatusCode, svg)
	}
	alike := map[string]bool{}
	for _, path := range []string{"/public/runs/2", "/public/runs/99", "/public/runs/x", "/badge/prod/us-east-1/research.svg",
		"/badge/dev/us-east-1/none.svg", "/badge/dev/us-east-1/research", "/badge/none/x/y.svg", "/badge/dev/%3Cscript%3E/y.svg"} {
		resp, page := w.do("GET", path, "")
		if resp.StatusCode != 404 || strings.Contains(page, "research") {
			t.Errorf("%s: %d %s", path, resp.StatusCode, page)
		}
		_, after, _ := strings.Cut(page, "<h1>")
		before, _, _ := strings.Cut(after, "Request <code>")
		alike[before] = true
	}
	if len(alike) != 1 {
		t.Errorf("%d different answers tell what is there", len(alike))
	}
}

func TestAPageIsToldToLookAgain(t *testing.T) {
	w := newWorld(t, func(c *server.Config) { c.Token = "tok" })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- w.server.Run(ctx) }()
	id := w.admit("dev_us-east-1/research/1.0")
	if resp, _ := w.do("GET", "/live?run=1", ""); resp.StatusCode != 401 {
		t.Errorf("nobody gets a stream: %d", resp.StatusCode)
	}
	if resp, _ := w.do("GET", "/live?run=99", "", "Authorization", "Bearer tok"); resp.StatusCode != 404 {
		t.Errorf("a run that there is not: %d", resp.StatusCode)
	}
	req, err := http.NewRequestWithContext(ctx, "GET", w.http.URL+"/live?run=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer tok")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() && lines.Text() != "retry: 2000" {
	}
	w.drive(id, release.Succeeded)
	for lines.Scan() && lines.Text() != "event: change" {
	}
	if lines.Text() != "event: change" || !lines.Scan() || !strings.HasPrefix(lines.Text(), "id: ") || !lines.Scan() || !strings.HasPrefix(lines.Text(), "data: ") {
		t.Errorf("the stream ends with %q: %v", lines.Text(), lines.Err())
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
