package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/server"
)

func TestBoardOverTheWire(t *testing.T) {
	w := newWorld(t, nil)
	id := w.admit("dev_us-east-1/research/1.0")
	w.drive(id, release.Succeeded)
	w.drive(w.admit("dev_us-east-1/research/1.1"), release.Failed)

	target, err := w.client.Target(t.Context(), "dev", "us-east-1", "research")
	if err != nil {
		t.Fatal(err)
	}
	if target.Deployed == nil || target.Deployed.Version != "1.0" || target.Deployed.RunID != release.FormatID(id) ||
		target.Deployed.Commit != strings.Repeat("c", 40) || target.Deployed.At.IsZero() {
		t.Errorf("deployed: %+v", target.Deployed)
	}
	if target.LatestRun == nil || target.LatestRun.State != "failed" || target.LatestRun.Version != "1.1" {
		t.Errorf("latest run: %+v", target.LatestRun)
	}
	list, err := w.client.Targets(t.Context())
	if err != nil || len(list.Targets) != 1 || list.Targets[0].String() != "dev_us-east-1/research" {
		t.Errorf("targets: %+v, %v", list, err)
	}
}

// TestContractNames holds the JSON names that programs outside rely on.
func TestContractNames(t *testing.T) {
	w := newWorld(t, nil)
	w.drive(w.admit("dev_us-east-1/research/1.0"), release.Succeeded)
	for _, c := range []struct{ path, at, names string }{
		{"targets/dev/us-east-1/research", "", "env scope team account region backend deployed latest_run"},
		{"targets/dev/us-east-1/research", "backend", "kind bucket key lock"},
		{"targets/dev/us-east-1/research", "deployed", "version tag commit run_id at"},
		{"releases", "releases.0", "tag object_id commit tagger seen_at decision reason"},
		{"runs", "", "runs next"},
		{"runs", "runs.0", "id kind tag version commit target state stages changes findings reason created_at started_at finished_at"},
		{"runs/1", "target", "env scope team account"},
		{"runs/1", "stages.0", "name state started_at finished_at summary"},
		{"runs/1", "changes", "add change destroy"},
		{"runs/1", "findings", "error warning notice"},
		{"audit", "entries.0", "index at actor action target run_id tag object_id commit"},
	} {
		_, body := w.do("GET", "/api/v1/"+c.path, "")
		var v any
		if err := json.Unmarshal([]byte(body), &v); err != nil {
			t.Fatalf("%s: %v in %s", c.path, err, body)
		}
		for _, step := range strings.Split(c.at, ".") {
			switch x := v.(type) {
			case map[string]any:
				if step != "" {
					v = x[step]
				}
			case []any:
				v = x[0]
			}
		}
		have, _ := v.(map[string]any)
		for _, name := range strings.Fields(c.names) {
			if _, ok := have[name]; !ok {
				t.Errorf("%s %s has no %q: %v", c.path, c.at, name, v)
			}
		}
	}
	_, body := w.do("GET", "/api/v1/runs/1", "")
	if !strings.Contains(body, `"id":"1"`) || !strings.Contains(body, `"created_at":"2026-03-01T12:00:00Z"`) {
		t.Errorf("ids are strings and times RFC 3339 in UTC: %s", body)
	}
}

func TestRunsPageByCursorAndFilter(t *testing.T) {
	w := newWorld(t, nil)
	var want []string
	for i := range 5 {
		id := w.admit(fmt.Sprintf("dev_us-east-1/research/1.%d", i))
		want = append([]string{release.FormatID(id)}, want...)
	}
	w.admit("dev_global/research/1.0")
	q := api.RunQuery{Target: "dev_us-east-1/research", Limit: 2}
	var got []string
	for {
		page, err := w.client.Runs(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Runs {
			got = append(got, r.ID)
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got runs %v, want %v", got, want)
	}
	if page, err := w.client.Runs(t.Context(), api.RunQuery{State: "failed"}); err != nil || len(page.Runs) != 0 {
		t.Errorf("no run failed: %+v, %v", page, err)
	}
}

func TestProblems(t *testing.T) {
	w := newWorld(t, nil)
	w.drive(w.admit("dev_us-east-1/research/1.0"), release.Succeeded)
	asJSON := []string{"Content-Type", "application/json"}
	for _, c := range []struct {
		method, path, body string
		header             []string
		status             int
		code, says         string
	}{
		{"GET", "/api/v1/runs/99", "", nil, 404, "not_found", "99"},
		{"GET", "/api/v1/runs/abc", "", nil, 404, "not_found", "abc"},
		{"GET", "/api/v1/runs/99/logs", "", nil, 404, "not_found", "99"},
		{"GET", "/api/v1/targets/dev/us-east-1/risk", "", nil, 404, "not_found", ""},
		{"GET", "/api/v1/targets/DEV/us-east-1/risk", "", nil, 422, "invalid", "DEV"},
		{"GET", "/api/v1/nothing", "", nil, 404, "not_found", "/docs"},
		{"DELETE", "/api/v1/runs/1", "", nil, 404, "not_found", "/docs"},
		{"GET", "/api/v1/runs?limit=0", "", nil, 422, "invalid", "limit"},
		{"GET", "/api/v1/runs?limit=501", "", nil, 422, "invalid", "limit"},
		{"GET", "/api/v1/runs?limit=x", "", nil, 422, "invalid", "limit"},
		{"GET", "/api/v1/runs?state=done", "", nil, 422, "invalid", "state"},
		{"GET", "/api/v1/runs?cursor=zzz", "", nil, 422, "invalid", "cursor"},
		{"GET", "/api/v1/runs?targt=x", "", nil, 422, "invalid", "targt"},
		{"GET", "/api/v1/audit?after=-1", "", nil, 422, "invalid", "after"},
		{"POST", "/api/v1/runs/1/reject", "{}", asJSON, 422, "invalid", "reason"},
		{"POST", "/api/v1/runs/1/resolve", "{}", asJSON, 422, "invalid", "replan"},
		{"POST", "/api/v1/runs/1/resolve", `{"as":"ignore"}`, asJSON, 422, "invalid", "as"},
		{"POST", "/api/v1/runs/1/approve", `{"as":"accept"}`, asJSON, 422, "invalid", "resolve"},
		{"POST", "/api/v1/runs/1/approve", `{"resaon":"x"}`, asJSON, 422, "invalid", "resaon"},
		{"POST", "/api/v1/runs/1/approve", `{"reason":"` + strings.Repeat("x", 1001) + `"}`, asJSON, 422, "invalid", "reason"},
		{"POST", "/api/v1/runs/1/approve", `{`, asJSON, 400, "invalid", ""},
		{"POST", "/api/v1/runs/1/approve", `{"reason":"` + strings.Repeat("x", 70<<10) + `"}`, asJSON, 413, "invalid", ""},
		{"POST", "/api/v1/runs/1/approve", "", asJSON, 409, "conflict", "succeeded"},
		{"POST", "/api/v1/runs/99/approve", "{}", asJSON, 404, "not_found", "99"},
	} {
		resp, body := w.do(c.method, c.path, c.body, c.header...)
		var p api.Problem
		if err := json.Unmarshal([]byte(body), &p); err != nil {
			t.Errorf("%s %s: %v in %s", c.method, c.path, err, body)
			continue
		}
		if resp.StatusCode != c.status || p.Status != c.status || p.Code != c.code || !strings.Contains(body, c.says) ||
			resp.Header.Get("Content-Type") != "application/problem+json" || p.RequestID == "" {
			t.Errorf("%s %s: want %d %s with %q, got %d %s", c.method, c.path, c.status, c.code, c.says, resp.StatusCode, body)
		}
	}
}

func TestEverySentinelHasItsStatus(t *testing.T) {
	var give error
	w := newWorld(t, func(c *server.Config) {
		c.Decide = func(context.Context, int64, release.Verdict) (release.Run, error) { return release.Run{}, give }
	})
	id := release.FormatID(w.admit("dev_us-east-1/research/1.0"))
	for err, want := range map[error]string{
		release.ErrNotFound: api.CodeNotFound, release.ErrConflict: api.CodeConflict, release.ErrRefused: api.CodeRefused,
		release.ErrInvalid: api.CodeInvalid, release.ErrUnavailable: api.CodeUnavailable,
	} {
		give = fmt.Errorf("the reason: %w", err)
		_, got := w.client.Decide(t.Context(), id, "approve", api.Decision{})
		var p *api.Problem
		if !errors.As(got, &p) || p.Code != want || p.Status < 400 || !strings.Contains(p.Detail, "the reason") {
			t.Errorf("%v: got %v", err, got)
		}
	}
	give = errors.New("password=hunter2")
	_, got := w.client.Decide(t.Context(), id, "approve", api.Decision{})
	var p *api.Problem
	if !errors.As(got, &p) || p.Status != 500 || p.Detail != "internal error" {
		t.Fatalf("an unknown error: got %v", got)
	}
	if log := w.log.String(); !strings.Contains(log, p.RequestID) || !strings.Contains(log, "hunter2") {
		t.Error("the log lacks the request or its error")
	}
}

func TestDecideCarriesTheVerdict(t *testing.T) {
	for _, c := range []struct{ token, actor string }{{"", "local"}, {"tok", "token"}} {
		w := newWorld(t, func(cfg *server.Config) { cfg.Token = c.token })
		id := w.admit("dev_us-east-1/research/1.0")
		w.drive(id, release.AwaitingApproval)
		run, err := w.client.Decide(t.Context(), release.FormatID(id), "reject", api.Decision{Reason: " too big "})
		if err != nil || run.State != "rejected" || run.Reason != "too big" {
			t.Errorf("got %+v, %v", run, err)
		}
		want := release.Verdict{Action: release.Reject, Actor: c.actor, Reason: "too big"}
		if len(w.verdicts) != 1 || !reflect.DeepEqual(w.verdicts[0], want) {
			t.Errorf("got verdicts %+v, want %+v", w.verdicts, want)
		}
	}
}

func TestAuditIsReadByIndex(t *testing.T) {
	w := newWorld(t, nil)
	w.drive(w.admit("dev_us-east-1/research/1.0"), release.Succeeded)
	var got []string
	var next int64
	for {
		page, err := w.client.Audit(t.Context(), next, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			if e.Leaf == "" || e.RunID != "1" || e.Target != "dev_us-east-1/research" {
				t.Errorf("entry %+v", e)
			}
			got = append(got, e.Action)
		}
		if next = page.Next; next == page.Head.Size {
			break
		}
	}
	if want := []string{"run.queued", "run.started", "run.driven"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestOpenAPIAndDocs(t *testing.T) {
	w := newWorld(t, func(c *server.Config) { c.Token = "tok" })
	resp, body := w.do("GET", "/openapi.json", "")
	var doc struct {
		OpenAPI    string                    `json:"openapi"`
		Paths      map[string]map[string]any `json:"paths"`
		Components struct {
			Schemas map[string]any `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal([]byte(body), &doc); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%d, %v", resp.StatusCode, err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("OpenAPI %q", doc.OpenAPI)
	}
	for _, path := range []string{"GET targets", "GET targets/{env}/{scope}/{team}", "GET releases", "GET runs", "GET runs/{id}",
		"GET runs/{id}/logs", "GET runs/{id}/plan", "GET runs/{id}/findings", "POST runs/{id}/approve", "POST runs/{id}/reject",
		"POST runs/{id}/cancel", "POST runs/{id}/retry", "POST runs/{id}/resolve", "GET instances", "POST instances/{id}/drain", "GET audit"} {
		method, path, _ := strings.Cut(path, " ")
		if doc.Paths["/api/v1/"+path][strings.ToLower(method)] == nil {
			t.Errorf("the document lacks %s %s", method, path)
		}
	}
	for _, ref := range strings.Split(body, `"$ref":"#/components/schemas/`)[1:] {
		if name, _, _ := strings.Cut(ref, `"`); doc.Components.Schemas[name] == nil {
			t.Errorf("the document refers to %q, which it lacks", name)
		}
	}
	if strings.Contains(body, `"null"`) {
		t.Error("the document allows null for a list, which is never sent")
	}
	if resp, again := w.do("GET", "/openapi.json", ""); resp.StatusCode != 200 || again != body {
		t.Error("the document is not the same twice")
	}
	resp, page := w.do("GET", "/docs", "")
	if resp.StatusCode != 200 || !strings.Contains(page, "/api/v1/runs/{id}/approve") || !strings.Contains(page, "limit") {
		t.Errorf("the page lacks operations: %d", resp.StatusCode)
	}
	for _, bad := range []string{"<script", "src=", "https://", "@import"} {
		if strings.Contains(ownScript.ReplaceAllString(page, ""), bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
}

func TestHealthReadyAndMetrics(t *testing.T) {
	ok := true
	w := newWorld(t, func(c *server.Config) {
		c.Token = "tok"
		c.Ready = func(context.Context) []server.Check {
			return []server.Check{{Name: "repository infra", OK: ok, Detail: "polled ssh://git@git.example.org"}}
		}
	})
	bearer := []string{"Authorization", "Bearer tok"}
	if resp, body := w.do("GET", "/healthz", ""); resp.StatusCode != 200 || !strings.Contains(body, `"ok":true`) {
		t.Errorf("healthz: %d %s", resp.StatusCode, body)
	}
	if resp, body := w.do("GET", "/readyz", ""); resp.StatusCode != 200 || strings.Contains(body, "example.org") {
		t.Errorf("readyz shows details to everybody: %d %s", resp.StatusCode, body)
	}
	if _, body := w.do("GET", "/readyz", "", bearer...); !strings.Contains(body, "example.org") {
		t.Errorf("readyz hides details from the token: %s", body)
	}
	ok = false
	if resp, _ := w.do("GET", "/readyz", ""); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("readyz when not ready: %d", resp.StatusCode)
	}
	w.do("GET", "/api/v1/runs/7", "", bearer...)
	w.do("GET", "/nowhere/7", "", bearer...)
	_, body := w.do("GET", "/metrics", "", bearer...)
	for _, line := range []string{`waymark_http_requests_total{route="GET /api/v1/runs/{id}",status="404"} 1`,
		`waymark_http_requests_total{route="other",status="404"} 1`} {
		if !strings.Contains(body, line) {
			t.Errorf("metrics lack %s:\n%s", line, body)
		}
	}
}
