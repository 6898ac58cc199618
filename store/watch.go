package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/waymark-cd/waymark/release"
)

// Changes say what was committed since they were last asked for. They are a hint
// to look: nothing is in them that the rows do not say.
type Changes struct {
	Entries bool    // the audit log has grown
	Runs    []int64 // runs that have changed, in order
	All     bool    // anything may have changed: announcements may have been missed
}

// maxChanged bounds the runs that are remembered for who does not ask: then
// anything may have changed.
const maxChanged = 1000

// Watch hears of what is committed, by this process and by all that share the
// database; of the others only while Listen is at work. It remembers what changed
// and not how often, so that one who is slow costs nothing. One goroutine asks.
type Watch struct {
	of     *changes
	signal chan struct{}

	mu      sync.Mutex
	entries bool
	all     bool
	runs    map[int64]bool
}

// Watch begins to listen. Close it.
func (s *Store) Watch() *Watch {
	w := &Watch{of: s.changes, signal: make(chan struct{}, 1), runs: map[int64]bool{}}
	s.changes.mu.Lock()
	defer s.changes.mu.Unlock()
	s.changes.watches[w] = true
	return w
}

// Close ends the watch.
func (w *Watch) Close() {
	w.of.mu.Lock()
	defer w.of.mu.Unlock()
	delete(w.of.watches, w)
}

// C holds a token when Take has something to say.
func (w *Watch) C() <-chan struct{} { return w.signal }

// Take gives what has changed since it was last called.
func (w *Watch) Take() Changes {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := Changes{Entries: w.entries, All: w.all}
	for id := range w.runs {
		c.Runs = append(c.Runs, id)
	}
	slices.Sort(c.Runs)
	w.entries, w.all = false, false
	clear(w.runs)
	return c
}

func (w *Watch) add(c Changes) {
	w.mu.Lock()
	w.entries = w.entries || c.Entries || c.All
	w.all = w.all || c.All
	for _, id := range c.Runs {
		w.runs[id] = true
	}
	if w.all || len(w.runs) > maxChanged {
		w.all, w.entries = true, true
		clear(w.runs)
	}
	w.mu.Unlock()
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

// changes hands announcements to all who watch in this process.
type changes struct {
	mu      sync.Mutex
	watches map[*Watch]bool
}

func newChanges() *changes { return &changes{watches: map[*Watch]bool{}} }

func (c *changes) tell(what Changes) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.watches {
		w.add(what)
	}
}

// told gathers what one transaction changes.
type told struct {
	entries bool
	runs    []int64
}

func (t *told) tellEntries() { t.entries = true }

func (t *told) tellRun(id int64) {
	if !slices.Contains(t.runs, id) {
		t.runs = append(t.runs, id)
	}
}

func (t *told) changes() Changes { return Changes{Entries: t.entries, Runs: t.runs} }

func (t *told) any() bool { return t.entries || len(t.runs) > 0 }

// The channel on which processes that share Postgres tell each other of changes,
// and the longest message that it takes.
const (
	changesChannel = "waymark_changes"
	maxNotice      = 7900
)

// notice is what changed as text: "a" for the audit log, the ids of runs, or "*"
// for anything.
func (t *told) notice() string {
	var parts []string
	if t.entries {
		parts = append(parts, "a")
	}
	for _, id := range t.runs {
		parts = append(parts, strconv.FormatInt(id, 10))
	}
	if text := strings.Join(parts, ","); len(text) <= maxNotice {
		return text
	}
	return "*"
}

func parseNotice(text string) Changes {
	var c Changes
	for part := range strings.SplitSeq(text, ",") {
		id, err := strconv.ParseInt(part, 10, 64)
		switch {
		case part == "a":
			c.Entries = true
		case err == nil:
			c.Runs = append(c.Runs, id)
		default:
			c.All = true
		}
	}
	return c
}

// listenAgain is how long it takes from the loss of a connection to the next try;
// whoever watches is told meanwhile to look at everything as often.
const listenAgain = time.Second

// Listen hears, until ctx ends, what other processes commit. Postgres sends it on a
// connection of its own; SQLite has no other processes. It returns ctx's error.
func (s *Store) Listen(ctx context.Context) error {
	db, shared := s.db.(*postgresDB)
	for warned := false; shared && ctx.Err() == nil; {
		err := s.listen(ctx, db.pool, func() { warned = false })
		if ctx.Err() == nil && !warned {
			s.log.Warn("changes of other instances cannot be heard, looking for them instead", "error", err)
			warned = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(listenAgain):
		}
		s.changes.tell(Changes{All: true})
	}
	<-ctx.Done()
	return ctx.Err()
}

func (s *Store) listen(ctx context.Context, pool *pgxpool.Pool, up func()) error {
	conn, err := pgx.ConnectConfig(ctx, pool.Config().ConnConfig)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), listenAgain)
		defer cancel()
		_ = conn.Close(closing) // it holds nothing
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+changesChannel); err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	up()
	s.changes.tell(Changes{All: true}) // what was committed before was not heard
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("listening: %w", err)
		}
		s.changes.tell(parseNotice(n.Payload))
	}
}

// maxActive bounds ActiveRuns.
const maxActive = 1000

// ActiveRuns returns the runs that have not ended, or whose end is unknown, the
// newest 1,000 of them, in order.
func (s *Store) ActiveRuns(ctx context.Context) ([]release.Run, error) {
	rs, err := s.db.query(ctx, "SELECT "+runColumns+` FROM runs WHERE state IN ('queued', 'running', 'awaiting_approval', 'unknown')
		ORDER BY id DESC LIMIT `+strconv.Itoa(maxActive))
	if err != nil {
		return nil, fmt.Errorf("listing active runs: %w", err)
	}
	runs, err := collect(rs, func(r rows) (release.Run, error) { rec, err := scanRun(r); return rec.Run, err })
	slices.Reverse(runs)
	return runs, err
}

// RunsByID returns those of the runs that are there, in order.
func (s *Store) RunsByID(ctx context.Context, ids []int64) ([]release.Run, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	condition, list := s.db.oneOf("id", 1, ids)
	rs, err := s.db.query(ctx, "SELECT "+runColumns+" FROM runs WHERE "+condition+" ORDER BY id", list)
	if err != nil {
		return nil, fmt.Errorf("reading runs: %w", err)
	}
	return collect(rs, func(r rows) (release.Run, error) { rec, err := scanRun(r); return rec.Run, err })
}
