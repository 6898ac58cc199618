package release

import "time"

// SpanOfRun is the key of a run's own span, which all others are parts of.
const SpanOfRun = "run"

// Span is one part of a run's time, as traces show it. It holds no context of any
// tracing system: a span is told from others by its run and its key, so that
// instances which have the run one after the other tell of the same trace.
type Span struct {
	RunID int64
	// Key names the span within its run. Whoever tells of the same thing uses the
	// same key.
	Key string
	// Parent is the key of the span that this one is a part of; empty for that of
	// the run alone.
	Parent     string
	Name       string // one of few, without names of targets or tags
	Start, End time.Time
	Attributes map[string]string
	// Failed is why it did not end well, for people; empty where it did.
	Failed string
}

// Command is one process that a runner has run for a stage: of the engine, or a gate.
type Command struct {
	Name       string    `json:"name"` // such as "plan" or "tflint"
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`
	Failed     bool      `json:"failed,omitempty"`
}
