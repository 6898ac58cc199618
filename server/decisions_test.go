package server_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/server"
	"github.com/waymark-cd/waymark/store"
)

var asForm = []string{"Content-Type", "application/x-www-form-urlencoded"}

// needs gives a run that waits the requirements of a governed environment.
func (w *world) needs(id int64) {
	w.t.Helper()
	_, err := w.store.Update(w.t.Context(), id, store.Update{Entry: audit.Entry{Action: "run.x"}, Change: func(r *store.Record) error {
		r.Requirements = []release.Requirement{{Count: 2, From: []string{"group:release", evil}, Why: "environment dev"}, {Count: 1, Why: "policy " + evil}}
		r.Approvals = []release.Approval{{Actor: "eve@example.org", Groups: []string{"release"}, PlanDigest: "sha256:00", At: testNow}}
		r.ApproveBy = testNow.Add(72 * 3600e9)
		return nil
	}})
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestARunTellsWhoseApprovalItNeeds(t *testing.T) {
	w := newWorld(t, nil)
	id := w.admit("dev_us-east-1/research/1.0")
	w.drive(id, release.AwaitingApproval)
	w.needs(id)
	run, err := w.client.Run(t.Context(), release.FormatID(id))
	if err != nil {
		t.Fatal(err)
	}
	if len(run.Requirements) != 2 || run.Requirements[0].Missing != 1 || run.Requirements[1].Missing != 0 || run.Requirements[1].From == nil ||
		!run.ApproveBy.Equal(testNow.Add(72*3600e9)) || run.ApproversMissing != "1 approval from group:release or "+evil+" (environment dev)" {
		t.Errorf("run %+v", run)
	}
	_, page := w.do("GET", "/runs/"+run.ID, "")
	for _, want := range []string{"1 approval from group:release", "eve@example.org", "2026-03-04T12:00:00Z", `action="/runs/1/approve"`, `value="sha256:00"`, `formaction="/runs/1/reject"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	harmless(t, page)
	if strings.Contains(page, "http-equiv=\"refresh\"") {
		t.Error("the page loads itself anew under what somebody types")
	}
}

func TestTheFormsOfARunDecide(t *testing.T) {
	w := newWorld(t, nil)
	form := func(path string, header []string, pairs ...string) (*http.Response, string) {
		t.Helper()
		v := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			v.Set(pairs[i], pairs[i+1])
		}
		return w.do("POST", path, v.Encode(), append(header, asForm...)...)
	}
	id := w.admit("dev_us-east-1/research/1.0")
	w.drive(id, release.AwaitingApproval)
	for name, tt := range map[string]struct {
		path   string
		header []string
		pairs  []string
		status int
		says   string
	}{
		"another site":          {"/runs/1/approve", []string{"Sec-Fetch-Site", "cross-site"}, []string{"plan_digest", "sha256:00"}, 403, "another site"},
		"another site's origin": {"/runs/1/approve", []string{"Origin", "https://evil.example"}, []string{"plan_digest", "sha256:00"}, 403, "another site"},
		"no plan":               {"/runs/1/approve", nil, []string{"reason", "x"}, 422, "which plan is meant"},
		"no reason":             {"/runs/1/reject", nil, []string{"plan_digest", "sha256:00"}, 422, "reject needs a reason"},
		"a long reason":         {"/runs/1/reject", nil, []string{"plan_digest", "sha256:00", "reason", strings.Repeat("x", 1001)}, 422, "more than 1000"},
		"no such run":           {"/runs/9/approve", nil, []string{"plan_digest", "sha256:00"}, 404, "run 9"},
		"no run at all":         {"/runs/..%2Fx/approve", nil, []string{"plan_digest", "sha256:00"}, 404, ""},
		"in the address":        {"/runs/1/approve?plan_digest=sha256:00", nil, nil, 422, "which plan is meant"},
	} {
		resp, page := form(tt.path, tt.header, tt.pairs...)
		if resp.StatusCode != tt.status || !strings.Contains(page, tt.says) || len(w.verdicts) > 0 {
			t.Errorf("%s: %d, %d verdicts: %s", name, resp.StatusCode, len(w.verdicts), page)
		}
	}
	resp, _ := form("/runs/1/reject", []string{"Sec-Fetch-Site", "same-origin"}, "plan_digest", "sha256:00", "reason", " "+evil)
	if resp.StatusCode != 303 || resp.Header.Get("Location") != "/runs/1" || len(w.verdicts) != 1 {
		t.Fatalf("%d to %q, %d verdicts", resp.StatusCode, resp.Header.Get("Location"), len(w.verdicts))
	}
	if v := w.verdicts[0]; v.Action != release.Reject || v.Actor != "local" || v.PlanDigest != "sha256:00" || v.Reason != evil {
		t.Errorf("verdict %+v", v)
	}
	if resp, page := form("/runs/1/approve", nil, "plan_digest", "sha256:00"); resp.StatusCode != 409 || !strings.Contains(page, "rejected") {
		t.Errorf("a run that has ended: %d %s", resp.StatusCode, page)
	}
}

func TestAFormNeedsTheTokenToo(t *testing.T) {
	w := newWorld(t, func(c *server.Config) { c.Token = "s3cret" })
	id := w.admit("dev_us-east-1/research/1.0")
	w.drive(id, release.AwaitingApproval)
	if resp, _ := w.do("POST", "/runs/1/approve", "plan_digest=sha256%3A00", asForm...); resp.StatusCode != 401 || len(w.verdicts) > 0 {
		t.Errorf("%d, %d verdicts", resp.StatusCode, len(w.verdicts))
	}
}

func TestADecisionNamesItsPlan(t *testing.T) {
	w := newWorld(t, nil)
	id := w.admit("dev_us-east-1/research/1.0")
	w.drive(id, release.AwaitingApproval)
	run := release.FormatID(id)
	if _, err := w.client.Decide(t.Context(), run, "cancel", api.Decision{PlanDigest: "sha256:00"}); err == nil || len(w.verdicts) > 0 {
		t.Errorf("a cancel of a plan: %v", err)
	}
	if _, err := w.client.Decide(t.Context(), run, "approve", api.Decision{PlanDigest: "sha256:00"}); err != nil || w.verdicts[0].PlanDigest != "sha256:00" {
		t.Errorf("verdicts %+v: %v", w.verdicts, err)
	}
}
