package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// EventTypePrefix begins the type of every event.
const EventTypePrefix = "io.github.waymark-cd."

// RunChanged is the type of events that are no entry of the audit log, without the
// prefix: a run as it is now.
const RunChanged = "run.changed"

// Event is one CloudEvent (version 1.0, as JSON) of the stream of events.
type Event struct {
	SpecVersion     string          `json:"specversion" example:"1.0"`
	ID              string          `json:"id" doc:"Unique for its source"`
	Source          string          `json:"source" format:"uri-reference"`
	Type            string          `json:"type" doc:"The prefix io.github.waymark-cd. and an action of the audit log, or run.changed" example:"io.github.waymark-cd.run.approved"`
	Subject         string          `json:"subject,omitempty" doc:"The target" example:"dev_us-east-1/research"`
	Time            time.Time       `json:"time"`
	DataContentType string          `json:"datacontenttype" example:"application/json"`
	Data            json.RawMessage `json:"data" doc:"An entry of the audit log without its leaf or, for run.changed, the run"`

	// Last is the id to resume after this event: that of the last event which has one.
	Last string `json:"-"`
}

// Kind is the type without its prefix, such as run.approved.
func (e Event) Kind() string { return strings.TrimPrefix(e.Type, EventTypePrefix) }

// Entry gives the audit entry that an event tells of.
func (e Event) Entry() (AuditEntry, error) {
	var entry AuditEntry
	return entry, e.decode(&entry)
}

// Run gives the run that an event of the kind RunChanged shows.
func (e Event) Run() (Run, error) {
	var run Run
	return run, e.decode(&run)
}

func (e Event) decode(into any) error {
	if err := json.Unmarshal(e.Data, into); err != nil {
		return fmt.Errorf("reading the event %s: %w", e.ID, err)
	}
	return nil
}

// EventQuery narrows the stream of events; a zero field does not narrow.
type EventQuery struct {
	Target string   // <env>_<scope>/<team>
	Env    string   // an environment
	Team   string   // a team
	Types  []string // kinds such as run.approved, or run.* for all that begin so
	// Last is the id of the last event that is known: the stream goes on after it.
	// Empty: it begins now.
	Last string
}

func (q EventQuery) values() url.Values {
	return query("target", q.Target, "env", q.Env, "team", q.Team, "type", strings.Join(q.Types, ","))
}

// Events hands each event of the stream to each, in order, until ctx ends, each
// fails or the service refuses. A stream that breaks off, because this client was
// too slow or the service was restarted, is taken up again where it ended; events
// without an id, those of the kind RunChanged, are then told anew for runs that
// are at work.
func (c *Client) Events(ctx context.Context, q EventQuery, each func(Event) error) error {
	last := q.Last
	return c.resume(ctx, func(ctx context.Context, alive func()) error {
		header := http.Header{}
		if last != "" {
			header.Set("Last-Event-ID", last)
		}
		return c.stream(ctx, "events", q.values(), header, func(m streamMessage) error {
			alive()
			if last = m.id; m.data == "" {
				return nil
			}
			e := Event{Last: last}
			if err := json.Unmarshal([]byte(m.data), &e); err != nil {
				return &brokenError{fmt.Errorf("reading an event: %w", err)}
			}
			return stopped(each(e))
		})
	})
}

// LogLine is one line of a run's log.
type LogLine struct {
	N     int64     `json:"n" doc:"Number of the line, from 1; 0 for a line about the log itself"`
	At    time.Time `json:"at,omitzero"`
	Stage string    `json:"stage,omitempty" example:"plan"`
	State string    `json:"state,omitempty" doc:"Of a line that tells that the stage began or ended"`
	Text  string    `json:"text"`
}

// String prints a line as the log's text has it: time, stage, text.
func (l LogLine) String() string {
	text := l.Text
	if l.State != "" {
		text = "== " + l.State
		if l.Text != "" {
			text += ": " + l.Text
		}
	}
	if l.At.IsZero() {
		return text
	}
	return fmt.Sprintf("%s %-8s %s", l.At.UTC().Format("15:04:05.000"), l.Stage, text)
}

// LogEnd ends a log that was followed to its end.
type LogEnd struct {
	State  string `json:"state" doc:"Of the run"`
	Reason string `json:"reason,omitempty"`
}

// Line prints how a run ended, as the last line of its log's text.
func (e LogEnd) Line(id string) string {
	text := "run " + id + " " + e.State
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	return text
}

// LogMatches are lines of a log that hold a text.
type LogMatches struct {
	Lines []LogLine `json:"lines" nullable:"false"`
	Next  int64     `json:"next,omitempty" doc:"Number of the line to go on from, where the search came to its bound before the log's end"`
}

// SearchLog looks for a text in a run's log, from line number from on, whatever its
// case. One call looks at a bounded part of the log: go on at Next until it is 0.
func (c *Client) SearchLog(ctx context.Context, id, text string, from int64) (LogMatches, error) {
	return get[LogMatches](ctx, c, "runs/"+escape(id)+"/logs/search", query("text", text, "from", number(from)))
}

// errDone ends a stream that has told all.
var errDone = errors.New("done")

// FollowLog hands the lines of a run's log to each, until the run has ended; end is
// the state it ended in. A log that breaks off is taken up again where it ended.
func (c *Client) FollowLog(ctx context.Context, id string, q LogQuery, each func(LogLine) error) (end LogEnd, err error) {
	err = c.resume(ctx, func(ctx context.Context, alive func()) error {
		params := query("follow", "true", "from", number(q.From), "tail", number(q.Tail))
		return c.stream(ctx, "runs/"+escape(id)+"/logs", params, http.Header{}, func(m streamMessage) error {
			alive()
			var line LogLine
			var err error
			switch m.event {
			case "line":
				if err = json.Unmarshal([]byte(m.data), &line); err == nil {
					q.From = max(q.From, line.N+1) // which wins over Tail
					return stopped(each(line))
				}
			case "end":
				if err = json.Unmarshal([]byte(m.data), &end); err == nil {
					return stopped(errDone)
				}
			}
			if err != nil {
				return &brokenError{fmt.Errorf("reading the log of run %s: %w", id, err)}
			}
			return nil
		})
	})
	if errors.Is(err, errDone) {
		err = nil
	}
	return end, err
}

// How long a stream that broke off is tried again, in all.
const (
	resumeFirst = 500 * time.Millisecond
	resumeMost  = 10 * time.Second
	resumeTries = 40 // in a row, which is some six minutes
)

// stopError carries the error of a caller's function through resume.
type stopError struct{ err error }

func (s *stopError) Error() string { return s.err.Error() }

func stopped(err error) error {
	if err == nil {
		return nil
	}
	return &stopError{err}
}

// brokenError is a stream that is not what it should be.
type brokenError struct{ err error }

func (b *brokenError) Error() string { return b.err.Error() }
func (b *brokenError) Unwrap() error { return b.err }

// resume calls stream again and again until the caller has enough. A first try
// that fails is final; after one that succeeded the service may be away for a
// while. stream calls alive whenever something came.
func (c *Client) resume(ctx context.Context, stream func(ctx context.Context, alive func()) error) error {
	connected, tries := false, 0
	for {
		err := stream(ctx, func() { connected, tries = true, 0 })
		var stop *stopError
		var broken *brokenError
		var problem *Problem
		switch {
		case errors.As(err, &stop):
			return stop.err
		case ctx.Err() != nil:
			return gaveUp(ctx)
		case errors.As(err, &broken):
			return broken.err
		case errors.As(err, &problem) && problem.Status != http.StatusServiceUnavailable && problem.Status != http.StatusTooManyRequests:
			return err
		case err != nil && (!connected || tries >= resumeTries):
			return err
		case err == nil:
			connected = true
		}
		wait := min(resumeFirst<<min(tries, 10), resumeMost)
		tries++
		select {
		case <-ctx.Done():
			return gaveUp(ctx)
		case <-time.After(wait):
		}
	}
}
