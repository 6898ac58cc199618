package release

import "time"

// StateLock is a held lock on a state, as its backend tells of it.
type StateLock struct {
	Kind      string // "dynamodb", "s3" or "local"
	Where     string // table and item, object, or file
	ID        string // the engine's; empty where the lock does not tell
	Who       string // user@host
	Operation string // such as "OperationTypeApply"
	Created   time.Time
}

// HeldLock is a lock with whom it belongs to.
type HeldLock struct {
	Target Target
	StateLock
	Run   *Run // the run of ours that took it; nil for a stranger's
	Alive bool // the run is still at work
	// Elsewhere is the instance that alone can tell whether the run is at work,
	// where it is not the one that was asked; empty where that is known.
	Elsewhere string
	Err       error // why the target's locks cannot be told; the lock is empty then
}

// Unlock is a person's wish to free a state.
type Unlock struct {
	Target Target
	ID     string // of the lock; empty for all that are ours to free
	Force  bool   // free it although it is not our own dead run's; needs ID
	Actor  string
	Reason string
}
