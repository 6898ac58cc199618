package server_test

import (
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

func TestReportsAndSoftGates(t *testing.T) {
	w := newWorld(t, nil)
	id := w.admit("dev_us-east-1/research/1.0")
	w.drive(id, release.Running)
	_, err := w.store.Update(t.Context(), id, store.Update{
		Change: func(r *store.Record) error { r.SoftGates = []string{"trivy" + evil}; return nil },
		Findings: []release.Finding{{Source: "checkov", Rule: "R", Severity: release.SeverityError, Message: "m",
			Waived: release.Waived{Name: "w", Owner: evil, Reason: evil, Expires: "2027-01-31"}}},
		Reports: map[string]release.Report{"test": {Format: "junit", Content: "<testsuites>" + evil + "</testsuites>"}, "own": {Format: "sarif", Content: "{}"}}})
	if err != nil {
		t.Fatal(err)
	}
	list, err := w.client.Reports(t.Context(), "1")
	if err != nil || len(list.Reports) != 2 || list.Reports[0].Gate != "own" || list.Reports[0].Bytes != 2 || list.Reports[1].Format != "junit" {
		t.Errorf("reports %+v, %v", list, err)
	}
	var report strings.Builder
	if err := w.client.Report(t.Context(), "1", "test", &report); err != nil || report.String() != "<testsuites>"+evil+"</testsuites>" {
		t.Errorf("report %q, %v", report.String(), err)
	}
	resp, _ := w.do("GET", "/api/v1/runs/1/reports/own", "")
	if h := resp.Header; h.Get("Content-Type") != "application/sarif+json" || h.Get("Content-Disposition") != `attachment; filename="run-1-own.sarif"` || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers %v", h)
	}
	for path, want := range map[string]string{"1/reports/trivy": "there are those of own, test", "99/reports": "99", "99/reports/test": "99", "1/reports/..%2F..%2Fx": "has no report"} {
		if resp, body := w.do("GET", "/api/v1/runs/"+path, ""); resp.StatusCode != 404 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s, want %q", path, resp.StatusCode, body, want)
		}
	}
	run, err := w.client.Run(t.Context(), "1")
	if err != nil || len(run.SoftGates) != 1 {
		t.Errorf("run %+v, %v", run, err)
	}
	findings, err := w.client.Findings(t.Context(), "1")
	if err != nil || len(findings.Findings) != 1 || findings.Findings[0].Waived == nil || findings.Findings[0].Waived.Expires != "2027-01-31" {
		t.Errorf("findings %+v, %v", findings, err)
	}
	_, body := w.do("GET", "/runs/1", "")
	for _, want := range []string{"would have failed this run", ">waived</span>", "waiver w of ", "until 2027-01-31", `href="/api/v1/runs/1/reports/test"`} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	harmless(t, body)
}
