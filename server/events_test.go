package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/server"
	"github.com/waymark-cd/waymark/store"
)

// live feeds the events of a world's server.
func live(t *testing.T, change func(*server.Config)) *world {
	t.Helper()
	w := newWorld(t, change)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.server.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return w
}

// errEnough ends a stream from within.
var errEnough = errors.New("enough")

// collect reads events until ok says so.
func collect(t *testing.T, c *api.Client, q api.EventQuery, ok func(api.Event) bool) []api.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var all []api.Event
	err := c.Events(ctx, q, func(e api.Event) error {
		all = append(all, e)
		if ok(e) {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatalf("the stream ended with %v after %d events", err, len(all))
	}
	return all
}

func kinds(events []api.Event) string {
	var out []string
	for _, e := range events {
		out = append(out, e.Kind())
	}
	return strings.Join(out, " ")
}

// written logs an entry about a target, and gives its index.
func (w *world) written(target, action string) int64 {
	w.t.Helper()
	if err := w.store.Log(w.t.Context(), audit.Entry{Action: action, Target: target, Actor: "ann", Reason: evil}); err != nil {
		w.t.Fatal(err)
	}
	size, err := w.store.AuditSize(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return size - 1
}

func TestEventsAreCloudEvents(t *testing.T) {
	w := live(t, func(c *server.Config) { c.URL = "https://waymark.example.org/" })
	id := w.admit("dev_us-east-1/research/1.0")
	all := collect(t, w.client, api.EventQuery{Last: "-1"}, func(e api.Event) bool { return e.Kind() == api.RunChanged })
	first := all[0]
	if first.SpecVersion != "1.0" || first.ID != "0" || first.Source != "https://waymark.example.org/api/v1/audit" ||
		first.Type != release.CloudEventPrefix+"run.queued" || first.Subject != "dev_us-east-1/research" || first.Time.IsZero() ||
		first.DataContentType != "application/json" || first.Last != "0" {
		t.Errorf("the first event: %s %s %s %s %s %q", first.ID, first.Source, first.Type, first.Subject, first.Data, first.Last)
	}
	if api.EventTypePrefix != release.CloudEventPrefix {
		t.Error("the client knows another prefix")
	}
	entry, err := first.Entry()
	if err != nil || entry.Tag != "dev_us-east-1/research/1.0" || entry.Leaf != "" {
		t.Errorf("its entry: %+v, %v", entry, err)
	}
	run, err := all[len(all)-1].Run()
	if err != nil || run.ID != release.FormatID(id) || run.State != "queued" {
		t.Errorf("the run: %+v, %v", run, err)
	}
	resp, err := http.Get(w.http.URL + "/api/v1/events?last_event_id=-1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for _, want := range []string{"retry: 2000", "", "id: 0", "event: audit", `data: {"specversion":"1.0","id":"0",`} {
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), want) {
			t.Errorf("got line %q, want %q", lines.Text(), want)
		}
	}
	if resp.Header.Get("Content-Type") != "text/event-stream; charset=utf-8" {
		t.Errorf("content type %q", resp.Header.Get("Content-Type"))
	}
}

func TestEventsGoOnWhereTheyEnded(t *testing.T) {
	w := live(t, nil)
	for i := range 450 { // more than one page, and nobody listens
		w.written("dev_us-east-1/research", fmt.Sprintf("test.number_%d", i))
	}
	last := ""
	next := 0
	for _, upTo := range []int{3, 200, 449, 452} {
		if upTo == 452 {
			for i := 450; i <= 452; i++ {
				w.written("dev_us-east-1/research", fmt.Sprintf("test.number_%d", i))
			}
		}
		q := api.EventQuery{Last: last, Types: []string{"test.*"}}
		if last == "" {
			q.Last = "-1"
		}
		for _, e := range collect(t, w.client, q, func(e api.Event) bool { return e.Kind() == fmt.Sprintf("test.number_%d", upTo) }) {
			if e.Kind() != fmt.Sprintf("test.number_%d", next) {
				t.Fatalf("got %s, want number %d", e.Kind(), next)
			}
			next++
			last = e.Last
		}
	}
}

// TestALiveReaderHearsAtOnce: from now on, entries and runs, in order.
func TestALiveReaderHearsAtOnce(t *testing.T) {
	w := live(t, nil)
	w.written("", "test.before")
	began := make(chan bool)
	go func() {
		<-began
		w.drive(w.admit("dev_us-east-1/research/1.0"), release.Succeeded)
	}()
	resp, err := http.Get(w.http.URL + "/api/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	told := time.Time{}
	for lines.Scan() {
		if lines.Text() == "id: 0" { // where it begins
			told = time.Now()
			close(began)
		}
		text, ok := strings.CutPrefix(lines.Text(), "data: ")
		var e api.Event
		if ok && json.Unmarshal([]byte(text), &e) != nil {
			t.Fatalf("%q", text)
		}
		if e.Kind() == "test.before" {
			t.Error("what was before is told")
		}
		if run, err := e.Run(); e.Kind() == api.RunChanged && err == nil && run.State == "succeeded" {
			t.Logf("heard after %s", time.Since(told).Round(time.Millisecond))
			return
		}
	}
	t.Fatalf("the stream ended: %v", lines.Err())
}

func TestEventsAreFiltered(t *testing.T) {
	w := live(t, nil)
	w.written("", "test.service")
	w.written("dev_us-east-1/research", "test.one")
	w.written("dev_eu-central-1/research", "test.two")
	w.written("prod_us-east-1/risk", "test.three")
	end := w.written("prod_us-east-1/research", "other.four")
	for query, want := range map[string]string{
		"":                              "test.service test.one test.two test.three other.four",
		"target=dev_us-east-1/research": "test.one",
		"env=prod":                      "test.three other.four",
		"team=research":                 "test.one test.two other.four",
		"env=prod&type=test.*":          "test.three",
		"type=" + release.CloudEventPrefix + "test.two,other.*": "test.two other.four",
		"env=staging": "",
	} {
		if got := w.told(query, end); got != want {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
	for path, status := range map[string]int{"target=x": 422, "last_event_id=x": 422, "last_event_id=-2": 422, "tipe=x": 422} {
		if resp, body := w.do("GET", "/api/v1/events?"+path, ""); resp.StatusCode != status {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
}

// told gives the kinds of events up to the place end, which the service tells also
// where it sends nothing else.
func (w *world) told(query string, end int64) string {
	w.t.Helper()
	resp, err := http.Get(w.http.URL + "/api/v1/events?last_event_id=-1&" + query)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	var all []api.Event
	lines, here := bufio.NewScanner(resp.Body), false
	for lines.Scan() {
		var e api.Event
		if text, ok := strings.CutPrefix(lines.Text(), "data: "); ok && json.Unmarshal([]byte(text), &e) == nil {
			all = append(all, e)
		}
		if here && lines.Text() == fmt.Sprintf("id: %d", end) {
			return kinds(all)
		}
		here = lines.Text() == ": here"
	}
	w.t.Fatalf("%s: the stream ended: %v", query, lines.Err())
	return ""
}

// TestReadersSeeWhatTheyMay: whoever sees a team hears of that team alone.
func TestReadersSeeWhatTheyMay(t *testing.T) {
	w := live(t, func(c *server.Config) { c.Token = "master" })
	made, err := w.client.CreateToken(t.Context(), api.NewToken{Name: "research", Role: "viewer", Teams: []string{"research"}, ExpiresIn: 3600})
	if err != nil {
		t.Fatal(err)
	}
	w.written("", "test.service")
	w.written("dev_us-east-1/risk", "test.theirs")
	w.written("dev_us-east-1/research", "test.ours")
	got := collect(t, w.as(made.Secret), api.EventQuery{Last: "-1"}, func(e api.Event) bool { return e.Kind() == "test.ours" })
	if kinds(got) != "test.ours" {
		t.Errorf("a viewer of research hears %s", kinds(got))
	}
	all := collect(t, w.client, api.EventQuery{Last: "-1", Types: []string{"test.*"}}, func(e api.Event) bool { return e.Kind() == "test.ours" })
	if kinds(all) != "test.service test.theirs test.ours" {
		t.Errorf("who holds the token hears %s", kinds(all))
	}
	var refused *api.Problem
	if err := w.as(made.Secret).Events(t.Context(), api.EventQuery{Target: "dev_us-east-1/risk"}, nil); !errors.As(err, &refused) || refused.Status != 403 {
		t.Errorf("another team's target: %v", err)
	}
	if err := w.as("wrong").Events(t.Context(), api.EventQuery{}, nil); !errors.As(err, &refused) || refused.Status != 401 {
		t.Errorf("a wrong token: %v", err)
	}
}

// TestAThousandSlowReaders: readers that take nothing hold a bounded amount of
// memory, slow nobody, are cut off, and lose nothing when they come back.
func TestAThousandSlowReaders(t *testing.T) {
	const readers = 1000
	w := live(t, nil)
	w.admit("dev_us-east-1/research/1.0")
	before := memory()
	open := runtime.NumGoroutine()
	address := strings.TrimPrefix(w.http.URL, "http://")
	conns := make([]net.Conn, readers)
	for i := range conns {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		fmt.Fprintf(conn, "GET /api/v1/events?last_event_id=-1 HTTP/1.1\r\nHost: %s\r\n\r\n", address)
		conns[i] = conn
	}
	await(t, "all readers", func() bool { return w.metric("waymark_event_readers") == "1000" })
	joined := memory()

	// One who reads hears everything, and writing is as fast as ever.
	var heard atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		_ = w.client.Events(ctx, api.EventQuery{Last: "-1"}, func(e api.Event) error { heard.Add(1); return nil })
	}()
	const events = 3600
	began, most := time.Now(), uint64(0)
	large := strings.Repeat("x", 3000)
	for i := range events {
		if err := w.store.Log(t.Context(), audit.Entry{Action: "test.some", Target: "dev_us-east-1/research", Reason: large}); err != nil {
			t.Fatal(err)
		}
		if i%400 == 0 {
			most = max(most, memory())
		}
	}
	took := time.Since(began)
	end := w.written("dev_us-east-1/research", "test.end")
	await(t, "the reader that reads", func() bool { return heard.Load() > events })
	most = max(most, memory())
	t.Logf("%d readers: %d KiB each; after %d events of 3 KB more (%s a write): %d KiB each, %d goroutines",
		readers, (joined-min(before, joined))/readers>>10, events, (took / events).Round(time.Microsecond),
		(most-min(before, most))/readers>>10, runtime.NumGoroutine()-open)
	if grown := most - min(most, before); grown > 300<<20 {
		t.Errorf("slow readers hold %d MiB", grown>>20)
	}
	await(t, "the slow ones to be cut off", func() bool {
		return w.metric("waymark_event_readers_cut_off_total") == "1000"
	})
	got := collect(t, w.client, api.EventQuery{Last: "-1", Types: []string{"test.*"}}, func(e api.Event) bool { return e.Last == fmt.Sprint(end) })
	if len(got) != events+1 {
		t.Errorf("who comes back hears %d of %d", len(got), events+1)
	}
}

// await polls until ok says so.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	within := time.After(time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-within:
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

// memory is how much is in use after a collection.
func memory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// TestServiceThatStopsEndsStreams: a stream must not hold a shutdown up.
func TestServiceThatStopsEndsStreams(t *testing.T) {
	w := live(t, nil)
	resp, err := http.Get(w.http.URL + "/api/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	began := time.Now()
	if err := w.http.Config.Shutdown(ctx); err != nil || time.Since(began) > 4*time.Second {
		t.Errorf("Shutdown took %s: %v", time.Since(began), err)
	}
}

// TestEventsOfEveryInstance: what one instance commits, readers of another hear, and
// an id of one is good on the other.
func TestEventsOfEveryInstance(t *testing.T) {
	url := testkit.Postgres(t)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	instance := func() (*store.Store, *api.Client) {
		s, err := store.Open(t.Context(), store.Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		srv, err := server.New(server.Config{Store: s})
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() { _ = s.Listen(ctx) })
		running.Go(func() { _ = srv.Run(ctx) })
		h := httptest.NewServer(srv.Handler())
		t.Cleanup(h.Close)
		c, err := api.NewClient(api.ClientConfig{Server: h.URL})
		if err != nil {
			t.Fatal(err)
		}
		return s, c
	}
	a, atA := instance()
	_, atB := instance()
	write := func(action string) {
		if err := a.Log(t.Context(), audit.Entry{Action: action, Target: "dev_us-east-1/research"}); err != nil {
			t.Error(err)
		}
	}
	write("test.zero")
	began := time.Now()
	last := ""
	all := collect(t, atB, api.EventQuery{Last: "-1"}, func(e api.Event) bool {
		if e.Kind() == "test.zero" { // from here on it is live
			began = time.Now()
			running.Go(func() { write("test.one") })
		}
		last = e.Last
		return e.Kind() == "test.one"
	})
	t.Logf("heard from another instance after %s", time.Since(began).Round(time.Millisecond))
	write("test.two")
	all = append(all, collect(t, atA, api.EventQuery{Last: last}, func(e api.Event) bool { return e.Kind() == "test.two" })...)
	if kinds(all) != "test.zero test.one test.two" {
		t.Errorf("heard %s", kinds(all))
	}
}
