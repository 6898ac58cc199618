package release

import (
	"strconv"
	"time"
)

// Kind is what a run is for.
type Kind string

// The kinds of run.
const (
	Deploy   Kind = "deploy"
	Drift    Kind = "drift"
	Rollback Kind = "rollback"
	Destroy  Kind = "destroy"
	PlanOnly Kind = "plan" // speculative: never applies
)

// ChangesTarget reports whether runs of the kind may change their target. Those
// that never do hold no target and wait for nobody.
func (k Kind) ChangesTarget() bool { return k != PlanOnly && k != Drift }

// StageName names a step of a run.
type StageName string

// The stages of a run, in the order in which they are shown.
const (
	StageCheckout StageName = "checkout"
	StageConfig   StageName = "config"
	StageLint     StageName = "lint"
	StageScan     StageName = "scan"
	StageInit     StageName = "init"
	StagePlan     StageName = "plan"
	StagePolicy   StageName = "policy"
	StageApproval StageName = "approval"
	StageApply    StageName = "apply"
	StagePush     StageName = "push" // only of a run that ended as unknown and left a state to push
)

// StageNames lists every stage in the order in which they are shown.
func StageNames() []StageName {
	return []StageName{StageCheckout, StageConfig, StageLint, StageScan, StageInit,
		StagePlan, StagePolicy, StageApproval, StageApply, StagePush}
}

// StageState is how far one stage has come.
type StageState string

// The states of a stage.
const (
	StagePending StageState = "pending"
	StageRunning StageState = "running" // for approval: waiting for a person
	StagePassed  StageState = "passed"
	StageFailed  StageState = "failed"
	StageSkipped StageState = "skipped"
)

// Stage is one step of a run and what came of it.
type Stage struct {
	Name       StageName  `json:"name"`
	State      StageState `json:"state"`
	StartedAt  time.Time  `json:"started_at,omitzero"`
	FinishedAt time.Time  `json:"finished_at,omitzero"`
	Summary    string     `json:"summary,omitempty"`
}

// Changes counts what a plan does to resources.
type Changes struct {
	Add     int `json:"add"`
	Change  int `json:"change"`
	Destroy int `json:"destroy"`
}

// Any reports whether anything changes.
func (c Changes) Any() bool { return c != Changes{} }

// Run is one execution for a target.
type Run struct {
	ID         int64
	Kind       Kind
	Repository string
	ReleaseID  int64
	Tag        string
	Version    string
	Commit     string
	Target     Target
	Account    string
	State      State
	Stages     []Stage
	Changes    Changes
	Findings   FindingCount
	Reason     string // why it waits or how it ended; for people
	// Attempt counts how often the run was started from its beginning; it names
	// the run's folder and fences off runners of earlier attempts.
	Attempt int
	// PlanDigest is the SHA-256 of the plan that was checked, "sha256:<hex>".
	PlanDigest        string
	ApprovalsRequired int
	Approvals         []Approval
	// Requirements are what ApprovalsRequired was made from: the environment's own
	// and those of policies on the plan. Empty for runs from before there were any.
	Requirements []Requirement
	// ApproveBy is until when the plan may be approved and applied; zero for ever.
	ApproveBy time.Time
	// WaitUntil is until when a run that may not go on now waits at the earliest,
	// for a window or the end of a freeze. Zero: it waits for neither.
	WaitUntil time.Time
	// OverriddenBy is who let the run go on outside of the windows; empty: nobody.
	OverriddenBy string
	// SoftGates are gates that found what would have failed the run, in their soft mode.
	SoftGates []string
	// Ref is what a speculative plan without a tag was asked for, such as a branch.
	Ref string
	// Outputs of the applied code; sensitive ones are masked.
	Outputs    map[string]string
	Evidence   *Evidence // of a run that is, or was, unknown; nil before it is gathered
	CreatedBy  string    // who asked: the tagger, or the actor of a retry
	CreatedAt  time.Time
	StartedAt  time.Time
	FinishedAt time.Time
}

// DefaultPool is the worker pool of runs for which the configuration names none.
const DefaultPool = "default"

// FormatID prints a run's id as people and programs write it.
func FormatID(id int64) string { return strconv.FormatInt(id, 10) }

// Stage returns the named stage, or a pending one where it has not begun.
func (r *Run) Stage(name StageName) Stage {
	for _, s := range r.Stages {
		if s.Name == name {
			return s
		}
	}
	return Stage{Name: name, State: StagePending}
}

// SetStage replaces the stage of the same name, or adds it in its order.
func (r *Run) SetStage(stage Stage) {
	for i := range r.Stages {
		if r.Stages[i].Name == stage.Name {
			r.Stages[i] = stage
			return
		}
	}
	r.Stages = append(r.Stages, stage)
	order := map[StageName]int{}
	for i, n := range StageNames() {
		order[n] = i
	}
	for i := len(r.Stages) - 1; i > 0 && order[r.Stages[i].Name] < order[r.Stages[i-1].Name]; i-- {
		r.Stages[i], r.Stages[i-1] = r.Stages[i-1], r.Stages[i]
	}
}

// Verdict is what a person, or a program in a person's name, says of a run.
type Verdict struct {
	Action VerdictAction
	Actor  string // as authenticated; "local" on an open loopback service
	// Emails and Groups are what else is known of the actor.
	Emails, Groups []string
	Reason         string
	// PlanDigest is the plan that the actor saw; empty: whichever there is.
	PlanDigest string
	// As says how an unknown run is resolved; empty for every other action.
	As Resolution
}

// VerdictAction is what a verdict asks for.
type VerdictAction string

// The verdicts.
const (
	Approve VerdictAction = "approve"
	Reject  VerdictAction = "reject"
	Cancel  VerdictAction = "cancel"
	Retry   VerdictAction = "retry"
	Resolve VerdictAction = "resolve"
	// Override lets a run go on that waits for a window or the end of a freeze.
	Override VerdictAction = "override"
)

// Resolution is how an unknown run is settled.
type Resolution string

// The resolutions of an unknown run.
const (
	Replan  Resolution = "replan"  // end it as failed and queue a fresh run of the same release
	Accept  Resolution = "accept"  // a person saw that the change is there: succeeded
	Abandon Resolution = "abandon" // a person saw that it is not: failed
	// PushState pushes the state that the apply could not write, and then accepts;
	// until it is there the run goes on.
	PushState Resolution = "push_state"
)
