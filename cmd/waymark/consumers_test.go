package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

const sinkSecret = "0123456789abcdef"

// consumerBlock configures a webhook.
func consumerBlock(name, url, extra string) string {
	return fmt.Sprintf("consumer %q {\n  url    = %q\n  secret = %q\n  %s\n}\n", name, url, sinkSecret, extra)
}

// sinkEvent is what the tests read of a structured event.
type sinkEvent struct {
	ID, Source, Type, Subject string
	Data                      struct {
		Action  string
		RunID   string `json:"run_id"`
		Details map[string]any
	}
}

// taken reads what a sink took, and holds each signature.
func taken(t *testing.T, sink *testkit.EventSink) (out []sinkEvent) {
	t.Helper()
	for _, m := range sink.Taken() {
		var e sinkEvent
		if err := json.Unmarshal(m.Body, &e); err != nil || !m.Signed(sinkSecret) {
			t.Fatalf("%v, signed %t: %s", err, m.Signed(sinkSecret), m.Body)
		}
		fits(t, "audit-event.v1.json", string(m.Body))
		out = append(out, e)
	}
	return out
}

// inOrder holds that a sink took all entries from an index on, in order; the same
// one may come twice.
func inOrder(t *testing.T, sink *testkit.EventSink, from int) {
	t.Helper()
	next := from
	for _, e := range taken(t, sink) {
		if e.ID != fmt.Sprint(next) && e.ID != fmt.Sprint(next-1) {
			t.Fatalf("entry %s came after entry %d", e.ID, next-1)
		}
		if e.ID == fmt.Sprint(next) {
			next++
		}
	}
}

func (w *world) consumer(name string) api.Consumer {
	w.t.Helper()
	list, err := w.client.Consumers(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	i := slices.IndexFunc(list.Consumers, func(c api.Consumer) bool { return c.Name == name })
	if i < 0 {
		w.t.Fatalf("there is no consumer %s in %+v", name, list.Consumers)
	}
	return list.Consumers[i]
}

func (w *world) get(path string) string {
	w.t.Helper()
	var out bytes.Buffer
	if err := getBody(w.t.Context(), w.server+path, &out); err != nil {
		w.t.Fatal(err)
	}
	return out.String()
}

// TestConsumersGetTheLog: one webhook that is well gets every entry as it is
// written, whatever becomes of one that is dead, and neither holds up a run.
func TestConsumersGetTheLog(t *testing.T) {
	onBothDatabases(t, "", func(t *testing.T, w *world, _ string) {
		well, dead := testkit.NewEventSink(t), testkit.NewEventSink(t)
		dead.Refuses(500)
		w.configure(consumerBlock("siem", well.URL+"?token=hunter2", "") + consumerBlock("dead", dead.URL, `events = ["run.*"]`))
		w.serve()
		w.contact()
		w.push("dev_us-east-1/research/1.0")
		r := w.until("dev_us-east-1/research/1.0", release.Succeeded)
		w.await("the webhook to have all", func() bool {
			return w.consumer("siem").LagEntries == 0 && len(taken(t, well)) >= len(w.entries())
		})
		inOrder(t, well, 0)
		last := taken(t, well)[len(w.entries())-1]
		if last.Type != "io.github.waymark-cd.run.succeeded" || last.Subject != "dev_us-east-1/research/1.0" || last.Data.RunID != r.ID ||
			!strings.HasPrefix(w.key(), last.Source+"+") {
			t.Errorf("event %+v", last)
		}
		w.await("two refusals", func() bool { return w.consumer("dead").Failures >= 2 })
		c := w.consumer("dead")
		if c.Position != 1 || c.LagEntries < 3 || c.FailingSince.IsZero() || c.RetryAt.IsZero() || !strings.Contains(c.Trouble, "500") || !c.Configured {
			t.Errorf("the dead one: %+v", c) // entry 0 is none that it wants
		}
		if c := w.consumer("siem"); c.LagEntries != 0 || c.Failures != 0 || c.SentAt.IsZero() || c.To != well.URL {
			t.Errorf("the one that is well: %+v", c)
		}
		wantText(t, w.get("/metrics"), `waymark_consumer_lag_entries{consumer="siem",kind="webhook"} 0`, `waymark_consumer_failures{consumer="dead",kind="webhook"}`,
			`waymark_consumer_lag_seconds{consumer="dead",kind="webhook"}`, `waymark_consumer_messages_total{consumer="siem",result="sent"}`)
		if ready := w.get("/readyz"); !strings.Contains(ready, `"ok":true,"version"`) || !strings.Contains(ready, "failing since") {
			t.Errorf("ready: %s", ready)
		}
		shown := w.mustCLI("consumers")
		wantText(t, shown, "siem", well.URL, "dead", "it answered 500")
		if all := shown + w.get("/api/v1/consumers") + w.get("/readyz") + w.log.String(); strings.Contains(all, "hunter2") || strings.Contains(all, sinkSecret) {
			t.Error("a token or secret is told")
		}

		// After a restart it goes on where it was, with what is refused no sooner.
		w.stop()
		before := len(well.Messages())
		w.serve()
		w.push("dev_us-east-1/nobody/1.0")
		w.refused("dev_us-east-1/nobody/1.0")
		w.await("the webhook to have all", func() bool { return len(well.Messages()) >= len(w.entries()) })
		inOrder(t, well, 0)
		if n := len(well.Messages()); n > before+2 {
			t.Errorf("%d messages, and %d before the restart", n, before)
		}
		if code, _, errs := w.cli("consumers", "move", "siem"); code != 2 || !strings.Contains(errs, "--to") {
			t.Errorf("exit %d %s", code, errs)
		}
		if code, _, errs := w.cli("consumers", "skip", "nobody"); code != 3 {
			t.Errorf("exit %d %s", code, errs)
		}
		wantText(t, w.mustCLI("consumers", "skip", "dead", "--reason", "it chokes on it"), "dead goes on with entry 2")
		dead.Answers(nil)
		w.mustCLI("consumers", "move", "dead", "--to", "2")
		w.await("the dead one to have caught up", func() bool { return w.consumer("dead").LagEntries == 0 })
		if got := taken(t, dead); got[0].ID != "2" || slices.ContainsFunc(got, func(e sinkEvent) bool { return !strings.HasPrefix(e.Data.Action, "run.") }) {
			t.Errorf("got %+v", got)
		}
		entries := w.entries()
		skipped := entries[slices.IndexFunc(entries, func(e api.AuditEntry) bool { return e.Action == "consumer.skipped" })]
		if skipped.Actor != "local" || skipped.Reason != "it chokes on it" || skipped.Details["consumer"] != "dead" || skipped.Details["from"] != 1.0 || skipped.Details["to"] != 2.0 {
			t.Errorf("entry %+v", skipped)
		}
		if !slices.Contains(w.actions(), "consumer.moved") {
			t.Errorf("entries %v", w.actions())
		}
		w.stop()
		w.configure(consumerBlock("late", well.URL, `since = "now"`))
		w.serve()
		if c := w.consumer("late"); c.LagEntries != 0 {
			t.Errorf("one that begins now: %+v", c)
		}
		wantText(t, w.mustCLI("consumers"), "(not configured)")
	})
}

// TestOneInstanceSends: of several instances one sends to a webhook, and another
// goes on when that one is killed; the order holds, and nothing is missing.
func TestOneInstanceSends(t *testing.T) {
	sink := testkit.NewEventSink(t)
	f := newFleet(t, 2, consumerBlock("siem", sink.URL, ""))
	f.push("dev_us-east-1/nobody/1.0")
	f.refused("dev_us-east-1/nobody/1.0")
	f.await("the webhook to have all", func() bool { return len(taken(t, sink)) >= len(f.entries()) })
	f.all[0].kill()
	f.ask(f.all[1])
	for i := range 5 {
		f.push(fmt.Sprintf("dev_us-east-1/nobody/2.%d", i))
	}
	f.await("all entries", func() bool { return len(f.entries()) >= 7 })
	f.await("the webhook to have all", func() bool { return f.consumer("siem").LagEntries == 0 })
	inOrder(t, sink, 0)
	if n := len(sink.Messages()); n > len(f.entries())+2 {
		t.Errorf("%d messages for %d entries: both send", n, len(f.entries()))
	}
	if sink.AtOnce() != 1 {
		t.Errorf("%d at once", sink.AtOnce())
	}
}
