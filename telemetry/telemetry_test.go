package telemetry_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/telemetry"
)

// fixture is an exporter at work, and what it counts.
type fixture struct {
	*telemetry.Exporter
	t        *testing.T
	registry *prometheus.Registry
	stop     func()
}

func start(t *testing.T, cfg telemetry.Config) *fixture {
	t.Helper()
	f := &fixture{t: t, registry: prometheus.NewRegistry()}
	cfg.Metrics = f.registry
	var err error
	if f.Exporter, err = telemetry.New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { f.Run(ctx) })
	f.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(f.stop)
	return f
}

func (f *fixture) count(result string) float64 {
	f.t.Helper()
	all, err := f.registry.Gather()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, family := range all {
		for _, m := range family.GetMetric() {
			if m.GetLabel()[0].GetValue() == result {
				return m.GetCounter().GetValue()
			}
		}
	}
	f.t.Fatalf("spans are not counted by the result %q", result)
	return 0
}

func (f *fixture) await(what string, ok func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("waited a minute for %s", what)
		}
	}
}

// span is one of a second, a while ago.
func span(run int64, key, parent string) release.Span {
	at := time.UnixMilli(1_700_000_000_000)
	return release.Span{RunID: run, Key: key, Parent: parent, Name: "some " + key, Start: at, End: at.Add(time.Second)}
}

// TestSpansOfSeveralInstancesAreOneTrace has two exporters tell of one run.
func TestSpansOfSeveralInstancesAreOneTrace(t *testing.T) {
	c := testkit.NewCollector(t)
	secret := "Bearer of-the-collector"
	one := start(t, telemetry.Config{Endpoint: c.URL, Sample: 1, Installation: "here", Instance: "one", Headers: map[string]string{"Authorization": secret}})
	two := start(t, telemetry.Config{Endpoint: c.URL + "/v1/traces", Sample: 1, Installation: "here", Instance: "two"})
	other := start(t, telemetry.Config{Endpoint: c.URL + "/", Sample: 1, Installation: "elsewhere"})
	failed := span(7, "plan", release.SpanOfRun)
	failed.Failed, failed.Attributes = "it did not work", map[string]string{"tag": "dev_x/y/1", "none": ""}
	one.Span(failed)
	two.Span(span(7, "plan/0", "plan"))
	two.Span(span(7, release.SpanOfRun, ""))
	other.Span(span(7, release.SpanOfRun, ""))
	for _, e := range []*fixture{one, two, other} {
		e.stop()
	}
	if len(c.Spans()) != 4 || one.count("sent") != 1 || two.count("sent") != 2 {
		t.Fatalf("%d spans came: %+v", len(c.Spans()), c.Spans())
	}
	if one.TraceID(7) != two.TraceID(7) || one.TraceID(7) == other.TraceID(7) || one.TraceID(7) == one.TraceID(8) || len(one.TraceID(7)) != 32 {
		t.Errorf("trace ids %s %s %s %s", one.TraceID(7), two.TraceID(7), other.TraceID(7), one.TraceID(8))
	}
	trace := c.TraceOf(one.TraceID(7))
	if len(trace) != 3 {
		t.Errorf("the trace has %d spans", len(trace))
	}
	for _, s := range trace {
		if s.Name != "some plan" {
			continue
		}
		if s.Failed != "it did not work" || s.Instance != "one" || s.Attributes["waymark.tag"] != "dev_x/y/1" || s.Attributes["waymark.run.id"] != "7" ||
			!s.Start.Equal(failed.Start) || !s.End.Equal(failed.End) {
			t.Errorf("span %+v", s)
		}
		if _, is := s.Attributes["waymark.none"]; is {
			t.Error("an attribute without a value was sent")
		}
	}
	if got := c.Headers()[0].Get("Authorization"); got != secret {
		t.Errorf("header %q", got)
	}
}

// TestSamplingIsByTheRun holds that the part of the runs is about right, and that
// a run has all its spans or none.
func TestSamplingIsByTheRun(t *testing.T) {
	c := testkit.NewCollector(t)
	for _, x := range []struct {
		share      float64
		least, max int
	}{{0, 0, 0}, {0.1, 50, 160}, {0.5, 420, 580}, {1, 1000, 1000}} {
		e := start(t, telemetry.Config{Endpoint: c.URL, Sample: x.share, Installation: "here"})
		traced := 0
		for run := int64(1); run <= 1000; run++ {
			if e.TraceID(run) != "" {
				traced++
			}
		}
		if traced < x.least || traced > x.max {
			t.Errorf("of 1000 runs %d are traced at %v", traced, x.share)
		}
	}
	e := start(t, telemetry.Config{Endpoint: c.URL, Sample: 0.5, Installation: "here"})
	want := 0
	for run := int64(1); run <= 20; run++ {
		if e.TraceID(run) != "" {
			want += 2
		}
		e.Span(span(run, "plan", release.SpanOfRun))
		e.Span(span(run, release.SpanOfRun, ""))
	}
	e.stop()
	if got := len(c.Spans()); got != want || want == 0 || want == 40 {
		t.Errorf("%d spans came, want %d", got, want)
	}
}

// TestACollectorThatIsAwayHoldsUpNothing hands over more than fits while nothing
// takes it.
func TestACollectorThatIsAwayHoldsUpNothing(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "http://" + gone.Addr().String()
	gone.Close()
	var log bytes.Buffer
	e := start(t, telemetry.Config{Endpoint: address, Sample: 1, Installation: "here", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	const spans = 20_000
	began := time.Now()
	for i := range spans {
		e.Span(span(int64(i), release.SpanOfRun, ""))
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("%d spans held up whoever handed them over for %s", spans, took)
	}
	if e.count("dropped") == 0 || e.count("sent") != 0 {
		t.Errorf("dropped %v, sent %v", e.count("dropped"), e.count("sent"))
	}
	e.stop()
	if got := e.count("dropped") + e.count("failed"); got != spans {
		t.Errorf("%v of %d spans are accounted for", got, spans)
	}
}

// TestWhatACollectorRefusesIsCounted has it say no for good, and then yes.
func TestWhatACollectorRefusesIsCounted(t *testing.T) {
	c := testkit.NewCollector(t)
	c.Refuses(400)
	log := &lines{}
	e := start(t, telemetry.Config{Endpoint: c.URL, Sample: 1, Installation: "here", Logger: slog.New(slog.NewTextHandler(log, nil))})
	e.Span(span(1, release.SpanOfRun, ""))
	e.await("the refusal", func() bool { return e.count("failed") == 1 })
	if text := log.String(); !strings.Contains(text, "the collector of traces does not take them") {
		t.Errorf("the log: %s", text)
	}
	c.Refuses(0)
	e.Span(span(2, release.SpanOfRun, ""))
	e.await("the next span", func() bool { return e.count("sent") == 1 })
}

// TestWrongConfigurations are found before anything starts.
func TestWrongConfigurations(t *testing.T) {
	_, err := telemetry.New(telemetry.Config{Endpoint: "http://127.0.0.1:4318", CAFile: "/nowhere/ca.pem"})
	if err == nil || !strings.Contains(fmt.Sprint(err), "ca_file") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// lines is a log that a test reads while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
