package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

// telemetryBlock configures traces.
func telemetryBlock(url, extra string) string {
	return fmt.Sprintf("telemetry {\n  otlp_endpoint = %q\n  %s\n}\n", url, extra)
}

// quietGate is a gate that finds nothing.
const quietGate = `#!/bin/sh
echo '{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"quiet"}},"results":[]}]}'
`

// traced waits until the span of a run itself has come, and returns its whole
// trace: by name, with the names of parents.
func traced(w *world, c *testkit.Collector, trace string) (spans map[string]testkit.OTLPSpan, parents map[string]string) {
	w.t.Helper()
	w.await("the end of trace "+trace, func() bool {
		return slices.ContainsFunc(c.Spans(), func(s testkit.OTLPSpan) bool { return s.Trace == trace && s.Parent == "" })
	})
	byID := c.TraceOf(trace)
	spans, parents = map[string]testkit.OTLPSpan{}, map[string]string{}
	for _, s := range byID {
		spans[s.Name], parents[s.Name] = s, byID[s.Parent].Name
	}
	return spans, parents
}

// TestOneRunIsOneTrace has a run with a gate and an approval, and looks at what the
// collector, the API, the page and the log know of its trace.
func TestOneRunIsOneTrace(t *testing.T) {
	c := testkit.NewCollector(t)
	w := newWorld(t, "")
	quiet := filepath.Join(w.dir, "bin", "quiet")
	if err := os.Mkdir(filepath.Dir(quiet), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(quiet, []byte(quietGate), 0o755); err != nil {
		t.Fatal(err)
	}
	w.configure(telemetryBlock(c.URL, `headers = { Authorization = "Bearer of-the-collector" }`) +
		fmt.Sprintf("gate \"quiet\" {\n  command = [%q]\n  stage = \"scan\"\n}\n", quiet))
	w.serve()
	w.contact()
	const tag = "staging_us-east-1/research/1.0"
	w.push(tag)
	w.mustCLI("runs", "approve", w.until(tag, release.AwaitingApproval).ID)
	run := w.until(tag, release.Succeeded)
	if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(run.TraceID) {
		t.Fatalf("the run's trace is %q", run.TraceID)
	}
	spans, parents := traced(w, c, run.TraceID)
	for name, parent := range map[string]string{
		"run deploy": "", "admission": "run deploy", "queue wait": "run deploy", "checkout": "run deploy", "approval": "run deploy",
		"runner plan": "run deploy", "config": "runner plan", "scan": "runner plan", "init": "runner plan", "plan": "runner plan", "policy": "runner plan",
		"gate quiet": "scan", "tofu init": "init", "tofu plan": "plan",
		"runner apply": "run deploy", "apply": "runner apply", "tofu apply": "apply",
	} {
		s, there := spans[name]
		if !there || parents[name] != parent {
			t.Errorf("span %q: there %t, part of %q, want %q", name, there, parents[name], parent)
		}
		if s.Failed != "" {
			t.Errorf("span %q failed: %s", name, s.Failed)
		}
		if of := spans[parent]; parent != "" && name != "admission" && (s.Start.Before(of.Start.Add(-time.Millisecond)) || s.End.After(of.End.Add(time.Millisecond))) {
			t.Errorf("span %q, %s to %s, is not within %q, %s to %s", name, s.Start, s.End, parent, of.Start, of.End)
		}
	}
	root := spans["run deploy"]
	if root.Attributes["waymark.tag"] != tag || root.Attributes["waymark.run.state"] != "succeeded" || root.Attributes["waymark.run.id"] != run.ID {
		t.Errorf("the run's own span: %+v", root)
	}
	if auth := c.Headers()[0].Get("Authorization"); auth != "Bearer of-the-collector" {
		t.Errorf("header %q", auth)
	}
	wantText(t, w.log.String(), "trace_id="+run.TraceID, `msg="a run ended" run=`+run.ID)
	if strings.Contains(w.log.String(), "of-the-collector") {
		t.Error("the log has the collector's token")
	}
	wantText(t, w.get("/runs/"+run.ID), run.TraceID)
}

// TestTracesOfRunsThatEndOtherwise looks at runs that nobody drove to their end.
func TestTracesOfRunsThatEndOtherwise(t *testing.T) {
	c := testkit.NewCollector(t)
	w := newWorld(t, telemetryBlock(c.URL, ""))
	w.serve()
	w.contact()
	const first, second, third = "staging_us-east-1/research/1.0", "staging_us-east-1/research/1.1", "staging_us-east-1/research/1.2"
	w.push(first)
	one := w.until(first, release.AwaitingApproval)
	w.push(second)
	w.until(second, release.Queued)
	w.push(third)
	overtaken := w.until(second, release.Superseded)
	spans, _ := traced(w, c, overtaken.TraceID)
	if s := spans["run deploy"]; s.Attributes["waymark.run.state"] != "superseded" || s.Failed != "" {
		t.Errorf("the overtaken run: %+v", s)
	}
	w.mustCLI("runs", "reject", one.ID, "--reason", "not today")
	w.until(first, release.Rejected)
	spans, parents := traced(w, c, one.TraceID)
	if s := spans["approval"]; s.Failed == "" || parents["approval"] != "run deploy" {
		t.Errorf("the rejected approval: %+v", s)
	}
	last := w.until(third, release.AwaitingApproval)
	w.remote.DeleteTag(third)
	stopped := w.until(third, release.Cancelled)
	if spans, _ = traced(w, c, stopped.TraceID); len(spans) < 10 || stopped.ID != last.ID {
		t.Errorf("the run whose tag is gone has %d spans", len(spans))
	}
}

// TestTracesAreCarriedOnElsewhere has one worker plan and another apply.
func TestTracesAreCarriedOnElsewhere(t *testing.T) {
	c := testkit.NewCollector(t)
	f := newFleet(t, 2, telemetryBlock(c.URL, ""), "environment \"prod\" {", "environment \"prod\" {\n  approvals = 1")
	f.remote.Commit(awsFiles())
	const tag = "prod_us-east-1/risk/1.0"
	f.push(tag)
	planner := f.ranOn("1/1/plan/events.jsonl")
	f.ask(f.other(planner))
	run := f.until(tag, release.AwaitingApproval)
	f.await("the plan's spans", func() bool {
		return slices.ContainsFunc(c.Spans(), func(s testkit.OTLPSpan) bool { return s.Trace == run.TraceID && s.Name == "runner plan" })
	})
	planner.kill()
	f.mustCLI("runs", "approve", run.ID)
	if again := f.until(tag, release.Succeeded); again.TraceID != run.TraceID {
		t.Errorf("the trace was %s and is %s", run.TraceID, again.TraceID)
	}
	spans, _ := traced(f.world, c, run.TraceID)
	plan, apply := spans["tofu plan"], spans["tofu apply"]
	if plan.ID == "" || apply.ID == "" || plan.Instance == apply.Instance || spans["run deploy"].Instance != apply.Instance {
		t.Errorf("planned by %q, applied by %q, ended by %q", plan.Instance, apply.Instance, spans["run deploy"].Instance)
	}
	planner.start() // and one whose worker is lost in the middle of its plan
	f.hold("plan")
	f.push(fleetTag)
	dead := f.ranOn("2/1/plan/events.jsonl")
	f.ask(f.other(dead))
	dead.kill()
	killRunner(t, filepath.Join(dead.dir, "data/runs/2/1/plan/runner.json"))
	f.ranOn("2/2/plan/events.jsonl")
	f.letGo("plan")
	again := f.until(fleetTag, release.Succeeded)
	if spans, parents := traced(f.world, c, again.TraceID); parents["tofu apply"] != "apply" || spans["run deploy"].Attributes["waymark.run.attempt"] != "2" {
		t.Errorf("a run that was taken over: %+v", spans["run deploy"])
	}
}

// TestADeadCollectorHoldsUpNoRun has one that takes connections and says nothing.
func TestADeadCollectorHoldsUpNoRun(t *testing.T) {
	c := testkit.NewCollector(t)
	c.Hold()
	w := newWorld(t, telemetryBlock(c.URL, "sample = 1.0"))
	w.serve()
	w.contact()
	for _, tag := range []string{"dev_us-east-1/research/1.0", "dev_eu-central-1/research/1.0"} {
		w.push(tag)
		w.until(tag, release.Succeeded)
	}
	w.await("a request to the collector", func() bool { return len(c.Headers()) > 0 })
	began := time.Now()
	w.stop()
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("the service took %s to stop", took)
	}
	if len(c.Spans()) > 0 {
		t.Error("the collector took spans")
	}
}
