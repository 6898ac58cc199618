package cloudevents_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/notify/cloudevents"
	"github.com/waymark-cd/waymark/release"
)

const (
	secret = "0123456789abcdef"
	source = "waymark.example.org/audit"
	// hostile is what a tag may be called.
	hostile = "dev_us-east-1/\r\nX-Evil: 1/\"größe\" 100%\x1b\u202e\u0000"
)

func newSender(t *testing.T, address, mode string, change ...func(*cloudevents.SenderConfig)) *cloudevents.Sender {
	t.Helper()
	cfg := cloudevents.SenderConfig{URL: address, Secret: secret, Mode: mode, Timeout: 5 * time.Second, Agent: "waymark/1.2.3"}
	for _, c := range change {
		c(&cfg)
	}
	s, err := cloudevents.NewSender(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func entry(index int64, action, subject string) cloudevents.Entry {
	leaf, _ := json.Marshal(map[string]any{"version": 1, "action": action, "tag": subject, "run_id": "7"})
	return cloudevents.Entry{Index: index, At: time.Date(2026, 3, 1, 12, 0, 0, 7e6, time.UTC), Action: action, Subject: subject, Leaf: leaf}
}

// read has the SDK read a message, as a receiver would.
func read(t *testing.T, m testkit.SinkMessage) event.Event {
	t.Helper()
	e, err := binding.ToEvent(t.Context(), cehttp.NewMessage(m.Header, readCloser(m.Body)))
	if err == nil {
		err = e.Validate()
	}
	if err != nil {
		t.Fatalf("%v in %v %s", err, m.Header, m.Body)
	}
	return *e
}

func TestMessagesAreCloudEvents(t *testing.T) {
	for _, mode := range []string{cloudevents.Structured, cloudevents.Binary} {
		t.Run(mode, func(t *testing.T) {
			r := testkit.NewEventSink(t)
			s := newSender(t, r.URL+"?token=1", mode, func(c *cloudevents.SenderConfig) { c.Headers = map[string]string{"Authorization": "Splunk 1"} })
			subjects := []string{"dev_us-east-1/research/1.0", hostile, ""}
			for i, subject := range subjects {
				if err := s.Send(t.Context(), source, entry(int64(41+i), "run.succeeded", subject)); err != nil {
					t.Fatal(err)
				}
			}
			for i, m := range r.Messages() {
				want := entry(int64(41+i), "run.succeeded", subjects[i])
				e := read(t, m)
				subject := e.Subject()
				if mode == cloudevents.Binary {
					// The SDK leaves the decoding of headers to its user.
					var err error
					if subject, err = url.PathUnescape(subject); err != nil {
						t.Fatal(err)
					}
				}
				if e.ID() != fmt.Sprint(41+i) || e.Source() != source || e.Type() != "io.github.waymark-cd.run.succeeded" || subject != subjects[i] ||
					!e.Time().Equal(want.At) || e.DataContentType() != "application/json" || e.DataSchema() != cloudevents.EntrySchema ||
					e.Extensions()["sequence"] != fmt.Sprintf("%019d", 41+i) || string(e.Data()) != string(want.Leaf) {
					t.Errorf("event %s", e)
				}
				if !m.Signed(secret) || m.Signed("another secret") || m.Header.Get("Authorization") != "Splunk 1" ||
					m.Header.Get("X-Evil") != "" || m.Header.Get("User-Agent") != "waymark/1.2.3" {
					t.Errorf("header %v", m.Header)
				}
				if m.Body[len(m.Body)-2]++; m.Signed(secret) {
					t.Error("another body has the same signature")
				}
			}
		})
	}
}

func TestATamperedLeafIsToldAsItIs(t *testing.T) {
	r := testkit.NewEventSink(t)
	e := cloudevents.Entry{Index: 3, At: time.Now(), Action: "unreadable", Leaf: []byte(`{"torn`)}
	if err := newSender(t, r.URL, cloudevents.Structured).Send(t.Context(), source, e); err != nil {
		t.Fatal(err)
	}
	if got := read(t, r.Messages()[0]); string(got.Data()) != `"{\"torn"` {
		t.Errorf("data %s", got.Data())
	}
}

func TestRefusals(t *testing.T) {
	r := testkit.NewEventSink(t)
	elsewhere := testkit.NewEventSink(t)
	for _, c := range []struct {
		status int
		header map[string]string
		says   string
		wait   time.Duration
	}{
		{500, nil, "it answered 500 Internal Server Error", 0},
		{429, map[string]string{"Retry-After": "120"}, "it answered 429 Too Many Requests", 2 * time.Minute},
		{503, map[string]string{"Retry-After": "-7"}, "it answered 503", 0},
		{302, map[string]string{"Location": elsewhere.URL}, "redirects are not followed", 0},
		{404, nil, "it answered 404", 0},
	} {
		r.Answers(func(testkit.SinkMessage) (int, map[string]string) { return c.status, c.header })
		err := newSender(t, r.URL+"?token=hunter2", cloudevents.Structured).Send(t.Context(), source, entry(1, "run.queued", ""))
		var refusal *cloudevents.Refusal
		if !errors.As(err, &refusal) || refusal.Wait != c.wait || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%d: %v", c.status, err)
		}
	}
	if n := len(elsewhere.Messages()); n != 0 {
		t.Errorf("a redirect was followed %d times", n)
	}
	// One that does not answer, one that is not there, and one that never ends.
	hold := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/endless" {
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}
		<-hold
	}))
	defer silent.Close()
	defer close(hold)
	short := func(c *cloudevents.SenderConfig) { c.Timeout = 200 * time.Millisecond }
	for _, address := range []string{silent.URL + "/?token=hunter2", "http://127.0.0.1:1/?token=hunter2"} {
		err := newSender(t, address, cloudevents.Structured, short).Send(t.Context(), source, entry(1, "run.queued", ""))
		if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "cannot be reached") {
			t.Errorf("%s: %v", address, err)
		}
	}
	if err := newSender(t, silent.URL+"/endless", cloudevents.Structured).Send(t.Context(), source, entry(1, "run.queued", "")); err != nil {
		t.Errorf("an endless answer: %v", err)
	}
	for _, cfg := range []cloudevents.SenderConfig{{}, {URL: "x", Secret: secret, Mode: "binary"}, {URL: r.URL, Mode: "binary"}, {URL: r.URL, Secret: secret}} {
		if _, err := cloudevents.NewSender(cfg); !errors.Is(err, release.ErrInvalid) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

// place is a consumer's place as a database keeps it.
type place struct {
	mu       sync.Mutex
	position int64
	size     int64
	failures int64
	until    time.Time
	why      string
	waits    []time.Duration
	moved    chan struct{}
}

func (p *place) where(context.Context) (cloudevents.Place, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return cloudevents.Place{Position: p.position, Behind: p.size - p.position, Failures: p.failures, Due: !time.Now().Before(p.until)}, nil
}

func (p *place) read(_ context.Context, from int64, limit int) (string, []cloudevents.Entry, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []cloudevents.Entry
	for i := from; i < p.size && len(out) < limit; i++ {
		out = append(out, entry(i, []string{"run.queued", "tag.refused"}[i%2], fmt.Sprint(i)))
	}
	return source, out, nil
}

func (p *place) move(_ context.Context, from, to int64, sent bool) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.position != from {
		return false, nil
	}
	p.position = to
	if sent {
		p.failures, p.why = 0, ""
	}
	select {
	case p.moved <- struct{}{}:
	default:
	}
	return true, nil
}

func (p *place) fail(_ context.Context, at int64, why string, wait time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.position == at {
		p.failures++
		p.why, p.waits = why, append(p.waits, wait)
	}
	return nil
}

// deliver runs a delivery until the test ends.
func deliver(t *testing.T, p *place, r *testkit.EventSink, change ...func(*cloudevents.DeliveryConfig)) (stop func()) {
	t.Helper()
	p.moved = make(chan struct{}, 1)
	cfg := cloudevents.DeliveryConfig{Name: "siem", Where: p.where, Read: p.read, Moved: p.move, Failed: p.fail,
		Send: newSender(t, r.URL, cloudevents.Structured).Send, Every: time.Millisecond}
	for _, c := range change {
		c(&cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { cloudevents.Deliver(ctx, cfg) })
	stop = func() { cancel(); done.Wait() }
	t.Cleanup(stop)
	return stop
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(30 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited 30 s for %s", what)
		}
	}
}

func ids(t *testing.T, messages []testkit.SinkMessage) (out []string) {
	t.Helper()
	for _, m := range messages {
		out = append(out, read(t, m).ID())
	}
	return out
}

// TestInOrderAtLeastOnce: whatever the receiver answers in between, it takes every
// entry in the log's order, one at a time.
func TestInOrderAtLeastOnce(t *testing.T) {
	r, p := testkit.NewEventSink(t), &place{size: 100}
	n := 0
	r.Answers(func(testkit.SinkMessage) (int, map[string]string) {
		n++
		return []int{204, 500, 200, 429}[n%4], nil
	})
	deliver(t, p, r)
	await(t, "100 entries", func() bool { return len(r.Taken()) >= 100 })
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprint(i))
	}
	if got := ids(t, r.Taken()); !slices.Equal(got, want) {
		t.Errorf("taken %v", got)
	}
	if r.AtOnce() != 1 {
		t.Errorf("%d at once", r.AtOnce())
	}
}

func TestOnlyWhatItWants(t *testing.T) {
	r, p := testkit.NewEventSink(t), &place{size: 101}
	deliver(t, p, r, func(c *cloudevents.DeliveryConfig) { c.Events = []string{"tag.*"} })
	await(t, "the log's end", func() bool { w, _ := p.where(t.Context()); return w.Behind == 0 })
	got := ids(t, r.Messages())
	if len(got) != 50 || got[0] != "1" || got[49] != "99" {
		t.Errorf("got %v", got)
	}
}

// TestADeadConsumerCostsLittle: hours of refusals are a bounded number of attempts
// and a bounded memory, and the first success goes on where it was.
func TestADeadConsumerCostsLittle(t *testing.T) {
	r, p := testkit.NewEventSink(t), &place{size: 1_000_000}
	r.Refuses(500)
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	deliver(t, p, r) // a place that never lets it wait: as if each back-off were over at once
	await(t, "400 attempts", func() bool { return len(r.Messages()) >= 400 })
	runtime.GC()
	runtime.ReadMemStats(&after)
	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("after 400 refusals of a log with 1,000,000 entries behind: heap grew by %d KiB, the messages that the receiver keeps included", grown>>10)
	if grown > 8<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	p.mu.Lock()
	waits, day := slices.Clone(p.waits), time.Duration(0)
	p.mu.Unlock()
	attempts := 0
	for _, w := range waits {
		if day < 24*time.Hour {
			day, attempts = day+w, attempts+1
		}
	}
	t.Logf("a day of 500 is %d attempts, the first waits %v, the last %v", attempts, waits[:3], waits[len(waits)-1])
	if waits[0] > time.Second || waits[1] < waits[0] || waits[len(waits)-1] < 4*time.Minute || waits[len(waits)-1] > 5*time.Minute || attempts > 400 {
		t.Errorf("waits %v, %d attempts in a day", waits[:20], attempts)
	}
	if got := ids(t, r.Messages()[:3]); !slices.Equal(got, []string{"0", "0", "0"}) {
		t.Errorf("it tried %v", got)
	}
	r.Answers(nil)
	await(t, "what was held up", func() bool { return len(r.Taken()) >= 1000 })
	for i, id := range ids(t, r.Taken()[:1000]) {
		if id != fmt.Sprint(i) {
			t.Fatalf("entry %s is the one with number %d that was taken", id, i)
		}
	}
}

// TestSomebodyMovesIt: while an entry is refused or on its way a person moves the
// consumer, and that word holds.
func TestSomebodyMovesIt(t *testing.T) {
	r, p := testkit.NewEventSink(t), &place{size: 10}
	r.Answers(func(m testkit.SinkMessage) (int, map[string]string) {
		if strings.Contains(string(m.Body), `"id":"3"`) {
			p.mu.Lock()
			p.position = 8 // while it is being sent
			p.mu.Unlock()
		}
		return 200, nil
	})
	deliver(t, p, r)
	await(t, "the log's end", func() bool { w, _ := p.where(t.Context()); return w.Behind == 0 })
	if got := ids(t, r.Messages()); !slices.Equal(got, []string{"0", "1", "2", "3", "8", "9"}) {
		t.Errorf("got %v", got)
	}
}

func TestWhatAReceiverAsksFor(t *testing.T) {
	for asked, want := range map[string]time.Duration{"600": 10 * time.Minute, "86400": time.Hour, "0": time.Second} {
		r, p := testkit.NewEventSink(t), &place{size: 1}
		r.Answers(func(testkit.SinkMessage) (int, map[string]string) {
			return 429, map[string]string{"Retry-After": asked}
		})
		stop := deliver(t, p, r)
		await(t, "a refusal", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.waits) > 0 })
		stop()
		if got := p.waits[0]; got > want || got < want*4/5 {
			t.Errorf("asked for %s s it waits %s", asked, got)
		}
	}
}

// TestStoppedInTheMiddle: what was on its way when the delivery stopped is sent
// again, and is not counted as a failure.
func TestStoppedInTheMiddle(t *testing.T) {
	r, p := testkit.NewEventSink(t), &place{size: 2}
	began, goOn := make(chan struct{}), make(chan struct{})
	r.Answers(func(testkit.SinkMessage) (int, map[string]string) { close(began); <-goOn; return 200, nil })
	stop := deliver(t, p, r)
	<-began
	stop()
	close(goOn)
	if len(p.waits) != 0 || p.position != 0 {
		t.Errorf("at %d, failures %v %s", p.position, p.waits, p.why)
	}
	r.Answers(nil)
	deliver(t, p, r)
	await(t, "the log's end and the late answer", func() bool { return len(r.Messages()) == 3 })
	got := ids(t, r.Messages())
	slices.Sort(got)
	if !slices.Equal(got, []string{"0", "0", "1"}) {
		t.Errorf("got %v", got)
	}
}

func readCloser(body []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(body)) }
