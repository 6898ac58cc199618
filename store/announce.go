package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"sync"

	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riversqlite"
)

// insertTopic is the job engine's topic for new jobs.
const insertTopic = "river_insert"

// announcer tells the job engine of new calls inside this process. SQLite is
// used by one process alone, so a call that was committed here need not be
// looked for in the database every 50 ms, as the engine's own listener does.
type announcer struct {
	mu      sync.Mutex
	pending map[string]bool // queues with calls that nobody was told of yet
	signal  chan struct{}
}

func newAnnouncer() *announcer {
	return &announcer{pending: map[string]bool{}, signal: make(chan struct{}, 1)}
}

// announce says that calls were committed to these queues.
func (a *announcer) announce(queues []string) {
	if len(queues) == 0 {
		return
	}
	a.mu.Lock()
	for _, q := range queues {
		a.pending[q] = true
	}
	a.mu.Unlock()
	a.wake()
}

func (a *announcer) wake() {
	select {
	case a.signal <- struct{}{}:
	default:
	}
}

// next waits for a queue with new calls.
func (a *announcer) next(ctx context.Context) (string, error) {
	for {
		a.mu.Lock()
		for q := range a.pending {
			delete(a.pending, q)
			a.mu.Unlock()
			a.wake() // there may be more
			return q, nil
		}
		a.mu.Unlock()
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-a.signal:
		}
	}
}

// sqliteDriver is the engine's SQLite driver with the announcer as its listener.
type sqliteDriver struct {
	*riversqlite.Driver
	announcer *announcer
}

var _ riverdriver.Driver[*sql.Tx] = sqliteDriver{}

// GetListener returns a listener for announcements of this process. The
// engine's other topics steer several processes and have no use here.
func (d sqliteDriver) GetListener(p *riverdriver.GetListenenerParams) riverdriver.Listener {
	return &listener{announcer: d.announcer, schema: p.Schema}
}

type listener struct {
	announcer *announcer
	schema    string
}

func (l *listener) Close(context.Context) error            { return nil }
func (l *listener) Connect(context.Context) error          { return nil }
func (l *listener) Listen(context.Context, string) error   { return nil }
func (l *listener) Unlisten(context.Context, string) error { return nil }
func (l *listener) Ping(context.Context) error             { return nil }
func (l *listener) Schema() string                         { return l.schema }
func (l *listener) SetAfterConnectExec(string)             {}

// WaitForNotification returns the next announcement, or ctx's error.
func (l *listener) WaitForNotification(ctx context.Context) (*riverdriver.Notification, error) {
	queue, err := l.announcer.next(ctx)
	if err != nil {
		return nil, err
	}
	payload, err := json.Marshal(map[string]string{"queue": queue})
	if err != nil {
		return nil, err
	}
	return &riverdriver.Notification{Topic: insertTopic, Payload: string(payload)}, nil
}
