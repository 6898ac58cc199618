// Package notify tells the outside what happens to runs: commit statuses at
// forges, messages in chats, and webhooks.
//
// It is told of changes by the audit log, one place after the other at its own
// pace and with a durable position, so that a place that is slow or away delays
// neither a run nor another place, and is told when it is back. What is told of
// a run is its state as of then: of changes that follow each other quickly the
// last one counts. Every place is told at least once, and may be told twice.
//
// The package must never decide on a run, never log an address or a token, and
// never hand on text of tags, commits or tools other than as plain text of a
// bounded length.
package notify

import (
	"context"
	"fmt"
	"time"

	"github.com/waymark-cd/waymark/release"
)

// Event is an entry of the audit log that tells of a run.
type Event struct {
	Index int64
	RunID int64
}

// Notice is a run as it is now.
type Notice struct {
	Index int64 // of the entry that told of it
	Run   release.Run
	URL   string // of the run's page; empty: none is known
}

// Record is the audit log and the positions of places in it.
type Record interface {
	// Open gives the index of the first entry that a place was not told of.
	Open(ctx context.Context, name string) (position int64, err error)
	// Read gives events from an index on, of so many entries at most, and the
	// index that comes after them.
	Read(ctx context.Context, from int64, limit int) (events []Event, next int64, err error)
	// Tell moves a place's position. One that is not where it was thought to be is
	// release.ErrConflict.
	Tell(ctx context.Context, name string, step Step) error
	// Fail says that a place could not be told, and how long until the next attempt.
	Fail(ctx context.Context, name, reason string, again time.Duration) error
}

// Step is how far a place was told.
type Step struct {
	From, To      int64
	Told, Dropped int64
	Reason        string // why runs were dropped
}

// Later is the answer of a place that wants to be left alone for a while.
type Later struct {
	After time.Duration
	Err   error
}

// Error says what the place answered.
func (e *Later) Error() string {
	return fmt.Sprintf("%v; it asks to wait for %s", e.Err, e.After.Round(time.Second))
}

// Unwrap gives the answer.
func (e *Later) Unwrap() error { return e.Err }

// Refusal is the answer of a place that will not take a notice, however often it
// comes.
type Refusal struct {
	// Patience is after how many attempts the answer is believed; 0 is the first.
	Patience int
	Err      error
}

// Error says what the place answered.
func (e *Refusal) Error() string { return e.Err.Error() }

// Unwrap gives the answer.
func (e *Refusal) Unwrap() error { return e.Err }
