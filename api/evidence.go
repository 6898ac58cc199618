package api

import "time"

// Evidence is what can be told of an apply whose end was not seen, as of one
// moment.
type Evidence struct {
	GatheredAt   time.Time     `json:"gathered_at"`
	Instance     string        `json:"instance" doc:"Id of the instance that looked"`
	Runner       string        `json:"runner" enum:"ended,died,never,alive,elsewhere,untold" doc:"What became of the process that applied; elsewhere: only the instance runner_on can tell"`
	RunnerOn     string        `json:"runner_on,omitempty" doc:"Id of the instance that had started it"`
	EventsEnd    string        `json:"events_end" doc:"State of the last stage that the runner's events tell of; running: they break off in the middle of it; empty: there are none"`
	LastEvent    string        `json:"last_event,omitempty" doc:"The last of them"`
	LastEventAt  time.Time     `json:"last_event_at,omitzero"`
	Lock         LockEvidence  `json:"lock"`
	State        StateEvidence `json:"state"`
	ErroredState bool          `json:"errored_state" doc:"Whether a state that the apply could not write is kept, which resolve can push"`
	Refresh      *Refresh      `json:"refresh,omitempty" doc:"The run that compares what is there with the state, where somebody asked for one"`
	Unread       []string      `json:"unread" nullable:"false" doc:"What could not be read, and why"`
}

// Refresh is a run of kind drift that belongs to evidence.
type Refresh struct {
	RunID   string  `json:"run_id"`
	State   string  `json:"state,omitempty" doc:"Of that run; absent in lists, and once it is forgotten"`
	Changes Changes `json:"changes" doc:"What has changed outside of the state, once it succeeded"`
}

// EvidenceOrder is the body of evidence.
type EvidenceOrder struct {
	_       struct{} `additionalProperties:"false"` // a misspelt member is an error
	Refresh bool     `json:"refresh,omitempty" doc:"Also queue a run that compares what is there with the state, and changes nothing"`
}

// LockEvidence is whether a state is locked, and by whom.
type LockEvidence struct {
	Held      bool      `json:"held"`
	ID        string    `json:"id,omitempty" doc:"The engine's id of the lock"`
	Who       string    `json:"who,omitempty" doc:"user@host, as the engine wrote it"`
	Operation string    `json:"operation,omitempty" example:"OperationTypeApply"`
	Created   time.Time `json:"created,omitzero"`
	Ours      bool      `json:"ours" doc:"Whether the run itself took it"`
	Alive     bool      `json:"alive" doc:"Whether the run, as far as is known, is still at work"`
}

// StateEvidence is which version of the state there was just before the apply,
// is now, and is kept because the apply could not write it. One that was not
// read, or that is not kept, is absent. A state that did not exist has serial 0
// and no lineage.
type StateEvidence struct {
	SerialBefore  *int64 `json:"serial_before,omitempty"`
	LineageBefore string `json:"lineage_before,omitempty"`
	SerialNow     *int64 `json:"serial_now,omitempty"`
	LineageNow    string `json:"lineage_now,omitempty"`
	SerialKept    *int64 `json:"serial_kept,omitempty"`
	LineageKept   string `json:"lineage_kept,omitempty"`
}
