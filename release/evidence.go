package release

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Evidence is what can be told of an apply whose end was not seen, as of one
// moment. What could not be read is named in Unread, with the reason.
type Evidence struct {
	GatheredAt time.Time `json:"gathered_at"`
	Instance   string    `json:"instance"` // that looked
	// Runner is what became of the process that applied; RunnerOn is the instance
	// that had started it.
	Runner   RunnerFate `json:"runner"`
	RunnerOn string     `json:"runner_on,omitempty"`
	// EventsEnd is how far the runner's events come: the state of the last stage
	// that they tell of, "running" where they break off in the middle of it, empty
	// where there are none. LastEvent is the last of them, masked.
	EventsEnd   StageState    `json:"events_end,omitempty"`
	LastEvent   string        `json:"last_event,omitempty"`
	LastEventAt time.Time     `json:"last_event_at,omitzero"`
	Lock        LockEvidence  `json:"lock"`
	State       StateEvidence `json:"state"`
	// ErroredState: a state that the apply could not write is kept, encrypted,
	// with the runner's instance. Kept names it.
	ErroredState bool       `json:"errored_state"`
	Kept         *StateMark `json:"kept,omitempty"`
	Unread       []string   `json:"unread,omitempty"`
	// Refresh is the run that compares what is there with the state; 0: nobody has
	// asked for one.
	Refresh int64 `json:"refresh,omitempty"`
}

// RunnerFate is what became of a run's runner.
type RunnerFate string

// What may have become of a runner.
const (
	RunnerEnded     RunnerFate = "ended"     // it ended by itself, with a result
	RunnerDied      RunnerFate = "died"      // it is gone without a result
	RunnerNever     RunnerFate = "never"     // it never began, and never will
	RunnerAlive     RunnerFate = "alive"     // it is at work
	RunnerElsewhere RunnerFate = "elsewhere" // only the instance that started it can tell
	RunnerUntold    RunnerFate = "untold"    // its folder is gone, or cannot be read
)

// Dead reports whether nothing of the runner is at work any more.
func (f RunnerFate) Dead() bool {
	return f == RunnerEnded || f == RunnerDied || f == RunnerNever
}

// LockEvidence is whether a state is locked, and by whom.
type LockEvidence struct {
	Held      bool      `json:"held"`
	ID        string    `json:"id,omitempty"`
	Who       string    `json:"who,omitempty"` // user@host
	Operation string    `json:"operation,omitempty"`
	Created   time.Time `json:"created,omitzero"`
	Ours      bool      `json:"ours"`  // the run itself took it
	Alive     bool      `json:"alive"` // as far as is known, the run's runner still works
}

// StateEvidence is the state as it was just before the apply began, and now. Nil
// is what was not read.
type StateEvidence struct {
	Before *StateMark `json:"before,omitempty"`
	Now    *StateMark `json:"now,omitempty"`
}

// StateMark tells one version of a state from every other. A state that does not
// exist has serial 0 and no lineage.
type StateMark struct {
	Serial  int64  `json:"serial"`
	Lineage string `json:"lineage"`
}

// String prints the mark of a state that exists. An engine gives the first one
// of all its lineage when it has been written.
func (m StateMark) String() string {
	if m.Lineage == "" {
		return fmt.Sprintf("serial %d, no lineage yet", m.Serial)
	}
	return fmt.Sprintf("serial %d, lineage %s", m.Serial, m.Lineage)
}

// MayReplace reports why a state must not be pushed over the one that is there
// now: it has another lineage, or a lower serial. Both are told. The error wraps
// ErrRefused.
func (m StateMark) MayReplace(now StateMark) error {
	switch {
	case now == (StateMark{}):
		return nil
	case m.Lineage != now.Lineage:
		return fmt.Errorf("%w: the kept state (%s) is of another lineage than the state now (%s): it does not belong to it", ErrRefused, m, now)
	case m.Serial < now.Serial:
		return fmt.Errorf("%w: the kept state (%s) is older than the state now (%s): somebody has written it since, and that would be lost", ErrRefused, m, now)
	}
	return nil
}

// ReadStateMark reads the mark of a whole state. Errors wrap ErrInvalid for what
// is no state.
func ReadStateMark(from io.Reader) (StateMark, error) {
	var doc struct {
		Version int    `json:"version"`
		Serial  int64  `json:"serial"`
		Lineage string `json:"lineage"`
	}
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	err := json.NewDecoder(from).Decode(&doc)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &syntax), errors.As(err, &kind):
		return StateMark{}, fmt.Errorf("%w state: %w", ErrInvalid, err)
	case err != nil:
		return StateMark{}, fmt.Errorf("reading a state: %w", err)
	case doc.Version == 0 && doc.Lineage == "": // an encrypted one has a lineage alone
		return StateMark{}, fmt.Errorf("%w state: it has neither version nor lineage", ErrInvalid)
	}
	return StateMark{Serial: doc.Serial, Lineage: doc.Lineage}, nil
}
