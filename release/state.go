package release

import (
	"fmt"
	"slices"
)

// State is how far a run has come. docs/concepts.md draws the machine; the
// schema repeats the names in a CHECK constraint.
type State string

// The states of a run.
const (
	Queued           State = "queued"
	Running          State = "running"
	AwaitingApproval State = "awaiting_approval"
	Succeeded        State = "succeeded"
	Failed           State = "failed"
	Denied           State = "denied"     // a gate or a policy said no
	Rejected         State = "rejected"   // a person said no
	Cancelled        State = "cancelled"  // a person stopped it
	Superseded       State = "superseded" // a later run of the target overtook it
	Unknown          State = "unknown"    // an apply whose end was not seen
)

// transitions holds every step that a run may take. Running to queued is a run
// that starts over because its runner was lost before the apply; unknown is
// left only by a person's (or the environment's) resolution, and runs once more
// while the state that its apply left is pushed.
var transitions = map[State][]State{
	Queued:           {Running, Cancelled, Superseded, Failed, Denied},
	Running:          {AwaitingApproval, Succeeded, Failed, Denied, Cancelled, Unknown, Queued},
	AwaitingApproval: {Running, Rejected, Cancelled, Superseded, Failed},
	Unknown:          {Running, Succeeded, Failed},
}

// States lists every state.
func States() []State {
	return []State{Queued, Running, AwaitingApproval, Succeeded, Failed, Denied,
		Rejected, Cancelled, Superseded, Unknown}
}

// Transition is the one function that moves a run between states. It returns
// next, or an error that wraps ErrConflict where the step does not exist.
func Transition(from, next State) (State, error) {
	if !slices.Contains(transitions[from], next) {
		return from, fmt.Errorf("%w: a run that is %s cannot become %s", ErrConflict, from, next)
	}
	return next, nil
}

// Ended reports whether the run is over; an unknown run is over but still
// holds its target until it is resolved.
func (s State) Ended() bool {
	return s != Queued && s != Running && s != AwaitingApproval
}

// HoldsTarget reports whether no other run of the same target may start.
func (s State) HoldsTarget() bool {
	return s == Running || s == AwaitingApproval || s == Unknown
}
