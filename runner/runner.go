// Package runner owns the process that executes one phase of a run
// (`waymark runner`) and the service's side of it: start, find, follow,
// interrupt.
//
// The two sides share one folder, Spec.Dir, which only the runner writes to:
//
//	runner.json   who owns the folder: pid, start time, boot id; made once, by link
//	events.jsonl  what happens, appended line by line
//	result.json   how it ended; written by rename, as the runner's last act
//	stderr.log    what the process itself prints, such as a panic
//	plan.private, state.private
//	              the plan, or a state to be pushed, in clear while the engine
//	              needs it; removed at the end
//	errored.tfstate.age
//	              the state that an apply could not write, encrypted
//
// The runner outlives the service. A service that starts again asks Find, then
// follows what runs, takes what is done, and calls Claim where nothing began:
// whoever makes runner.json owns the folder for ever, so that a phase is never
// executed twice.
//
// Tools (engine, providers, gates) run on threads of their own that Landlock
// restricts before the tool starts; they can write to the working directory and
// to the tools folder beside it, never to Spec.Dir, and what they leave behind
// is killed at the end of their stage.
//
// The package must never read an environment variable of the service on behalf
// of a tool, write the Spec to a disk, or report an apply as ended whose end it
// did not see.
package runner

import "errors"

// Status says how far the runner of a folder has come.
type Status string

// The states of a runner's folder.
const (
	// Absent: no runner has taken the folder. One may still be on its way, so
	// take the folder with Claim before deciding that nothing will run.
	Absent Status = "absent"
	// Running: a runner owns the folder and lives.
	Running Status = "running"
	// Done: the result is there; Follow returns it.
	Done Status = "done"
	// Gone: a runner owned the folder and died without a result. Of an apply
	// nobody knows the end. The folder may hold plan.private or state.private: remove it.
	Gone Status = "gone"
)

// ErrGone is returned by Follow where the process died without a result.
var ErrGone = errors.New("the runner ended without a result")

// The files in Spec.Dir.
const (
	claimFile  = "runner.json"
	eventsFile = "events.jsonl"
	resultFile = "result.json"
	stderrFile = "stderr.log"
	plainPlan  = "plan.private"
	plainState = "state.private"
	keptState  = "errored.tfstate.age"

	reserveFile = ".reserve" // room for the result, given back before it is written
)
