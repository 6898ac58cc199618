package notify_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/notify"
	"github.com/waymark-cd/waymark/release"
)

// ledger is an audit log and its positions, in memory: what the store is to a
// Courier, made small.
type ledger struct {
	mu       sync.Mutex
	events   []notify.Event
	runs     map[int64]release.Run
	position int64
	steps    []notify.Step
	failures []string
	away     error // the database is away
	reads    int
}

func newLedger() *ledger { return &ledger{runs: map[int64]release.Run{}} }

// happen writes entries about a run that takes states one after the other.
func (l *ledger) happen(id int64, states ...release.State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range states {
		l.events = append(l.events, notify.Event{Index: int64(len(l.events)), RunID: id})
		l.runs[id] = notice(id, s).Run
	}
}

func (l *ledger) Open(context.Context, string) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.position, l.away
}

func (l *ledger) Read(_ context.Context, from int64, limit int) ([]notify.Event, int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	next := min(from+int64(limit), int64(len(l.events)))
	return slices.Clone(l.events[from:next]), next, l.away
}

func (l *ledger) Tell(_ context.Context, _ string, s notify.Step) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away != nil {
		return l.away
	}
	if s.From != l.position {
		return fmt.Errorf("at %d: %w", l.position, release.ErrConflict)
	}
	l.position, l.steps = s.To, append(l.steps, s)
	return nil
}

func (l *ledger) Fail(_ context.Context, _, reason string, _ time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = append(l.failures, reason)
	return l.away
}

func (l *ledger) look(_ context.Context, e notify.Event) (notify.Notice, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok := l.runs[e.RunID]
	return notify.Notice{Run: r}, ok && r.State != release.Running, nil // running is wanted by nobody here
}

func (l *ledger) at() (position, end int64, told, dropped int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.steps {
		told += s.Told
		dropped += s.Dropped
	}
	return l.position, int64(len(l.events)), told, dropped
}

// run starts a courier until the test ends, or stop is called.
func (l *ledger) run(t *testing.T, send func(context.Context, []notify.Notice) error, change ...func(*notify.CourierConfig)) (stop func()) {
	t.Helper()
	cfg := notify.CourierConfig{Name: "ops", Record: l, Look: l.look, Send: send, Every: 2 * time.Millisecond, Retry: time.Millisecond}
	for _, c := range change {
		c(&cfg)
	}
	c, err := notify.NewCourier(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// toEnd waits until everything in the log was told or passed over.
func (l *ledger) toEnd(t *testing.T) {
	t.Helper()
	eventually(t, "the end of the log", func() bool { p, end, _, _ := l.at(); return p == end })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("waited 20 seconds for %s", what)
		case <-tick.C:
		}
	}
}

// said collects what was sent.
type said struct {
	mu  sync.Mutex
	all [][]string
}

func (s *said) send(_ context.Context, notices []notify.Notice) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var message []string
	for _, n := range notices {
		message = append(message, fmt.Sprintf("%d %s", n.Run.ID, n.Run.State))
	}
	s.all = append(s.all, message)
	return nil
}

func (s *said) messages() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, m := range s.all {
		out = append(out, strings.Join(m, ", "))
	}
	return out
}

func TestACourierTellsTheNewestStateOnce(t *testing.T) {
	l, s := newLedger(), &said{}
	l.happen(1, release.Queued, release.Running, release.Succeeded)
	l.happen(2, release.Queued)
	l.happen(3, release.Queued, release.Running)
	l.happen(1, release.Succeeded) // an entry that changes nothing
	l.run(t, s.send, func(c *notify.CourierConfig) { c.Most = 1 })
	l.toEnd(t)
	l.happen(2, release.Queued, release.Running)
	l.toEnd(t)
	l.happen(2, release.Failed)
	l.happen(1, release.Succeeded)
	l.toEnd(t)
	if got := s.messages(); !slices.Equal(got, []string{"2 queued", "1 succeeded", "2 failed"}) {
		t.Errorf("it said %q", got)
	}
}

func TestABatchIsOneMessage(t *testing.T) {
	l, s := newLedger(), &said{}
	l.run(t, s.send, func(c *notify.CourierConfig) { c.Batch = 300 * time.Millisecond })
	start := time.Now()
	for i := range int64(1500) { // more than fit into one
		l.happen(i+1, release.Queued, release.Running, release.Succeeded)
	}
	l.happen(1501, release.Running)
	l.toEnd(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.all); n > 3 || time.Since(start) < 300*time.Millisecond {
		t.Errorf("%d messages after %s", n, time.Since(start))
	}
	seen := map[string]bool{}
	for _, m := range s.all {
		for _, line := range m {
			if !strings.HasSuffix(line, " succeeded") || seen[line] {
				t.Errorf("it said %s", line)
			}
			seen[line] = true
		}
	}
	if len(seen) != 1500 {
		t.Errorf("%d runs were told of", len(seen))
	}
}

// TestADeadPlaceBlocksNothingAndIsToldLater: a place answers 500 while a thousand
// runs go by; what it hears in the end is how they ended.
func TestADeadPlaceBlocksNothingAndIsToldLater(t *testing.T) {
	l, r, other := newLedger(), testkit.NewInbox(t), &said{}
	r.Break(500, "down")
	registry := prometheus.NewRegistry()
	results, err := notify.NewResults(registry)
	if err != nil {
		t.Fatal(err)
	}
	count := func(c *notify.CourierConfig) { c.Results = results }
	stop := l.run(t, chat(t, notify.Slack, r.URL).Send, count)
	twin := newLedger() // the same events for a place that lives
	twin.run(t, other.send)
	for i := range int64(1000) {
		l.happen(i+1, release.Queued)
		twin.happen(i+1, release.Queued)
	}
	twin.toEnd(t)
	eventually(t, "five failures", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.failures) >= 5 })
	if p, _, told, dropped := l.at(); p != 0 || told != 0 || dropped != 0 {
		t.Errorf("position %d, %d told, %d dropped", p, told, dropped)
	}
	if !strings.HasPrefix(l.failures[0], "500 Internal Server Error: down") {
		t.Errorf("the reason is %q", l.failures[0])
	}
	stop() // the service is restarted meanwhile
	for i := range int64(1000) {
		l.happen(i+1, release.Running, release.Succeeded)
	}
	before := len(r.Received())
	r.Mend()
	l.run(t, chat(t, notify.Slack, r.URL).Send, count)
	l.toEnd(t)
	got := r.Received()[before:]
	if len(got) != 1 || !strings.Contains(string(got[0].Body), "1000 runs: 1000 succeeded") {
		t.Errorf("it heard %d messages", len(got))
	}
	if n := counted(t, registry, "told"); n != 1000 {
		t.Errorf("%v were counted as told", n)
	}
	if n := counted(t, registry, "failed"); n < 5 {
		t.Errorf("%v failures were counted", n)
	}
}

// counted reads what a place's results were counted as.
func counted(t *testing.T, registry *prometheus.Registry, result string) (n float64) {
	t.Helper()
	all, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range all {
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "result" && l.GetValue() == result {
					n += m.GetCounter().GetValue()
				}
			}
		}
	}
	return n
}

func TestRefusalsAreDroppedAndTheRestGoesOn(t *testing.T) {
	l, s := newLedger(), &said{}
	attempts := map[int64]int{}
	send := func(ctx context.Context, notices []notify.Notice) error {
		id := notices[0].Run.ID
		attempts[id]++
		switch id {
		case 2:
			return &notify.Refusal{Err: errors.New("no such commit")}
		case 3:
			return &notify.Refusal{Patience: 4, Err: errors.New("not found")}
		case 4:
			if attempts[id] < 3 {
				return errors.New("500")
			}
		}
		return s.send(ctx, notices)
	}
	for i := range int64(5) {
		l.happen(i+1, release.Queued)
	}
	stop := l.run(t, send, func(c *notify.CourierConfig) { c.Most = 1 })
	l.toEnd(t)
	stop()
	if got := s.messages(); !slices.Equal(got, []string{"1 queued", "4 queued", "5 queued"}) {
		t.Errorf("it said %q", got)
	}
	if _, _, told, dropped := l.at(); told != 3 || dropped != 2 || attempts[2] != 1 || attempts[3] != 5 {
		t.Errorf("%d told, %d dropped, attempts %v", told, dropped, attempts)
	}
}

// TestAPlaceIsLeftAloneWhileItAsksForIt: nothing is sent before Retry-After.
func TestAPlaceIsLeftAloneWhileItAsksForIt(t *testing.T) {
	l, r := newLedger(), testkit.NewInbox(t)
	r.AnswerNext(429, "slow down", "Retry-After", "1")
	l.happen(1, release.Failed)
	l.run(t, chat(t, notify.Webhook, r.URL).Send)
	l.toEnd(t)
	got := r.Received()
	if len(got) != 2 || got[1].At.Sub(got[0].At) < 900*time.Millisecond {
		t.Errorf("%d requests, the second after %s", len(got), got[len(got)-1].At.Sub(got[0].At))
	}
	if len(l.failures) != 1 || !strings.Contains(l.failures[0], "429") || !strings.Contains(l.failures[0], "wait for 1s") {
		t.Errorf("failures %q", l.failures)
	}
}

// TestFaultsOfTheRecord: a database that is away, and another process that told
// meanwhile, delay and repeat; they lose nothing.
func TestFaultsOfTheRecord(t *testing.T) {
	l, s := newLedger(), &said{}
	l.away = release.ErrUnavailable
	l.happen(1, release.Failed)
	l.run(t, s.send, func(c *notify.CourierConfig) { c.Logger = slog.New(slog.DiscardHandler) })
	eventually(t, "attempts to read", func() bool { return true })
	l.mu.Lock()
	l.away = nil
	l.mu.Unlock()
	l.toEnd(t)
	// Another process tells of run 2, and this one finds that out.
	l.mu.Lock()
	l.events = append(l.events, notify.Event{Index: 1, RunID: 2})
	l.runs[2] = notice(2, release.Failed).Run
	l.position = 2
	l.mu.Unlock()
	l.happen(3, release.Failed)
	l.toEnd(t)
	got := strings.Join(s.messages(), "; ")
	if !strings.HasPrefix(got, "1 failed") || !strings.Contains(got, "3 failed") {
		t.Errorf("it said %s", got)
	}
}

func TestCouriersThatCannotWork(t *testing.T) {
	if _, err := notify.NewCourier(notify.CourierConfig{Name: "ops"}); !errors.Is(err, release.ErrInvalid) {
		t.Error(err)
	}
}
