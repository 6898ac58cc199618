package api

import "time"

// TargetRef names the cell that a run belongs to.
type TargetRef struct {
	Env     string `json:"env" doc:"Environment" example:"dev"`
	Scope   string `json:"scope" doc:"AWS Region, or global" example:"us-east-1"`
	Team    string `json:"team" doc:"Team" example:"research"`
	Account string `json:"account" doc:"AWS account id, empty where not known yet" example:"111122223333"`
}

// String prints the target as its tags begin: <env>_<scope>/<team>.
func (t TargetRef) String() string { return t.Env + "_" + t.Scope + "/" + t.Team }

// Target is one line of the board: a cell, where its state lives, what is
// deployed there and what happened last.
type Target struct {
	Env       string    `json:"env" doc:"Environment" example:"dev"`
	Scope     string    `json:"scope" doc:"AWS Region, or global" example:"us-east-1"`
	Team      string    `json:"team" doc:"Team" example:"research"`
	Account   string    `json:"account" doc:"AWS account id, empty where not known yet"`
	Region    string    `json:"region" doc:"Region that it is deployed from"`
	Backend   Backend   `json:"backend" doc:"Where the state lives"`
	Deployed  *Deployed `json:"deployed,omitempty" doc:"The last deployment that succeeded; absent where there is none"`
	Destroyed *Deployed `json:"destroyed,omitempty" doc:"What was removed last, where nothing came after it"`
	LatestRun *Run      `json:"latest_run,omitempty" doc:"The newest run that may change it; absent where there is none"`
}

// String prints the target as its tags begin: <env>_<scope>/<team>.
func (t Target) String() string { return t.Env + "_" + t.Scope + "/" + t.Team }

// Backend says where a target's state lives.
type Backend struct {
	Kind   string `json:"kind" doc:"Terraform backend type" example:"s3"`
	Bucket string `json:"bucket" doc:"Bucket, or folder of a local backend"`
	Key    string `json:"key" doc:"Path of the state in the bucket"`
	Lock   string `json:"lock" doc:"What holds the lock"`
}

// Deployed is the deployment that a target shows now.
type Deployed struct {
	Version string    `json:"version" example:"1.2"`
	Tag     string    `json:"tag" example:"dev_us-east-1/research/1.2"`
	Commit  string    `json:"commit" doc:"Commit id, 40 or 64 hexadecimal digits"`
	RunID   string    `json:"run_id" doc:"The run that deployed it"`
	At      time.Time `json:"at" doc:"When that run ended"`
}

// Run is one execution for a target.
type Run struct {
	ID                string            `json:"id" doc:"Decimal id" example:"42"`
	Kind              string            `json:"kind" enum:"deploy,drift,rollback,destroy,plan"`
	Repository        string            `json:"repository" doc:"Name of the repository in the configuration"`
	Tag               string            `json:"tag" example:"dev_us-east-1/research/1.2" doc:"Empty for a plan of a ref"`
	Ref               string            `json:"ref,omitempty" doc:"The branch or commit that a plan without a tag is of" example:"main"`
	Version           string            `json:"version" example:"1.2"`
	Commit            string            `json:"commit"`
	Target            TargetRef         `json:"target"`
	State             string            `json:"state" enum:"queued,running,awaiting_approval,succeeded,failed,denied,rejected,cancelled,superseded,unknown"`
	Stages            []Stage           `json:"stages" nullable:"false" doc:"In the order in which they are shown"`
	Changes           Changes           `json:"changes" doc:"What the plan does, in resources"`
	Findings          FindingCount      `json:"findings" doc:"Findings that are neither suppressed nor waived"`
	SoftGates         []string          `json:"soft_gates,omitempty" nullable:"false" doc:"Gates that would have failed the run but for their soft mode"`
	Reason            string            `json:"reason" doc:"Why it waits or how it ended, for people"`
	Attempt           int               `json:"attempt" doc:"How often it was started from its beginning"`
	PlanDigest        string            `json:"plan_digest,omitempty" doc:"SHA-256 of the plan that was checked" example:"sha256:9f86d0…"`
	ApprovalsRequired int               `json:"approvals_required" doc:"How many at least; requirements says from whom"`
	Approvals         []Approval        `json:"approvals" nullable:"false"`
	Requirements      []Requirement     `json:"requirements" nullable:"false" doc:"The approvals that the plan needs; those that the plan itself is the reason for are there once it is"`
	ApproveBy         time.Time         `json:"approve_by,omitzero" doc:"Until when the plan may be approved and applied; absent for ever"`
	WaitUntil         time.Time         `json:"wait_until,omitzero" doc:"Until when it waits for a window, the end of a freeze or of a soak, at the earliest; absent where it waits for none"`
	OverriddenBy      string            `json:"overridden_by,omitempty" doc:"Who let it go on outside of its time"`
	ApproversMissing  string            `json:"approvers_missing,omitempty" doc:"Whose approvals a plan that waits still needs, for people"`
	Outputs           map[string]string `json:"outputs,omitempty" doc:"Outputs of the applied code, sensitive ones masked"`
	Evidence          *Evidence         `json:"evidence,omitempty" doc:"Of a run that is, or was, unknown: what can be told of its apply"`
	CreatedBy         string            `json:"created_by" doc:"Who asked for it"`
	TraceID           string            `json:"trace_id,omitempty" doc:"Id of its trace, as a collector of OpenTelemetry knows it; absent where it is not traced, and in events and lists of targets" example:"4bf92f3577b34da6a3ce929d0e0e4736"`
	CreatedAt         time.Time         `json:"created_at"`
	StartedAt         time.Time         `json:"started_at,omitzero" doc:"Absent before it started"`
	FinishedAt        time.Time         `json:"finished_at,omitzero" doc:"Absent before it ended"`
}

// The states of a run, as on the wire.
const (
	StateQueued           = "queued"
	StateRunning          = "running"
	StateAwaitingApproval = "awaiting_approval"
	StateSucceeded        = "succeeded"
	StateFailed           = "failed"
	StateDenied           = "denied"     // a gate or a policy said no
	StateRejected         = "rejected"   // a person said no
	StateCancelled        = "cancelled"  // a person stopped it
	StateSuperseded       = "superseded" // a later run of the target overtook it
	StateUnknown          = "unknown"    // an apply whose end was not seen
)

// Ended reports whether the run is over. An unknown run is over, and waits for
// a person to resolve it.
func (r Run) Ended() bool {
	return r.State != StateQueued && r.State != StateRunning && r.State != StateAwaitingApproval
}

// Stage is one step of a run.
type Stage struct {
	Name       string    `json:"name" example:"plan"`
	State      string    `json:"state" enum:"pending,running,passed,failed,skipped"`
	StartedAt  time.Time `json:"started_at,omitzero"`
	FinishedAt time.Time `json:"finished_at,omitzero"`
	Summary    string    `json:"summary"`
}

// Changes counts what a plan does to resources.
type Changes struct {
	Add     int `json:"add"`
	Change  int `json:"change"`
	Destroy int `json:"destroy"`
}

// FindingCount counts findings by severity.
type FindingCount struct {
	Error   int `json:"error"`
	Warning int `json:"warning"`
	Notice  int `json:"notice"`
}

// Approval is one person's yes, bound to the plan it was given for.
type Approval struct {
	Actor      string    `json:"actor"`
	PlanDigest string    `json:"plan_digest"`
	At         time.Time `json:"at"`
}

// Requirement is how many people, and which, must approve a plan. One approval
// counts for every requirement that it fits.
type Requirement struct {
	Count   int      `json:"count"`
	From    []string `json:"from" nullable:"false" doc:"Users and, as group:NAME, groups; empty: everyone who may approve runs of the target" example:"[\"group:release\"]"`
	Why     string   `json:"why" doc:"Who asks for it" example:"environment prod"`
	Missing int      `json:"missing" doc:"How many approvals of the present plan it lacks"`
}

// Finding is what a gate or a policy reports.
type Finding struct {
	Source     string  `json:"source" example:"tflint"`
	Rule       string  `json:"rule"`
	Severity   string  `json:"severity" enum:"error,warning,notice"`
	File       string  `json:"file,omitempty" doc:"Relative to the repository"`
	Line       int     `json:"line,omitempty" doc:"From 1; absent where unknown"`
	Message    string  `json:"message"`
	Resource   string  `json:"resource,omitempty"`
	Link       string  `json:"link,omitempty"`
	Suppressed string  `json:"suppressed,omitempty" doc:"The comment by which the code skips the rule; such a finding does not count"`
	Waived     *Waived `json:"waived,omitempty" doc:"The waiver of the configuration that covers the finding; such a finding does not count"`
}

// Waived says by whose word, and until when, a finding does not count.
type Waived struct {
	Name    string `json:"name" doc:"Of the waiver"`
	Owner   string `json:"owner" example:"alice@example.org"`
	Reason  string `json:"reason"`
	Expires string `json:"expires" doc:"The last day, in UTC" example:"2027-01-31"`
}

// Plan is the masked summary of a run's plan. Values are compact JSON, or one
// of "(sensitive)" and "(known after apply)".
type Plan struct {
	Digest    string           `json:"digest"`
	Changes   Changes          `json:"changes"`
	Resources []ResourceChange `json:"resources" nullable:"false"`
	Outputs   []OutputChange   `json:"outputs" nullable:"false"`
	Drift     []ResourceChange `json:"drift" nullable:"false" doc:"What changed outside of Waymark"`
	Truncated bool             `json:"truncated" doc:"Whether the summary was cut for its size"`
}

// ResourceChange is what a plan does to one resource.
type ResourceChange struct {
	Address    string            `json:"address"`
	Type       string            `json:"type"`
	Provider   string            `json:"provider,omitempty"`
	Action     string            `json:"action" doc:"create, update, delete, replace, read, forget or import"`
	Attributes []AttributeChange `json:"attributes" nullable:"false"`
	Reason     string            `json:"reason,omitempty" doc:"Why it is replaced"`
}

// AttributeChange is one attribute before and after.
type AttributeChange struct {
	Path   string `json:"path"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// OutputChange is what a plan does to one output.
type OutputChange struct {
	Name   string `json:"name"`
	Action string `json:"action"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// Release is a tag as it was first seen, and what became of it.
type Release struct {
	Repository string    `json:"repository"`
	Tag        string    `json:"tag"`
	Version    string    `json:"version" doc:"Empty where the name is no deployment tag"`
	ObjectID   string    `json:"object_id" doc:"Of the tag object, or of the commit for a lightweight tag"`
	Commit     string    `json:"commit"`
	Tagger     string    `json:"tagger" doc:"Empty for a lightweight tag"`
	Message    string    `json:"message"`
	SeenAt     time.Time `json:"seen_at"`
	Decision   string    `json:"decision" enum:"admitted,adopted,refused"`
	Reason     string    `json:"reason"`
}

// AuditEntry is one line of the audit log. Leaf is the exact text that was
// hashed into the Merkle log; the other fields repeat it for convenience.
type AuditEntry struct {
	Index      int64          `json:"index" doc:"Position in the log, from 0"`
	At         time.Time      `json:"at"`
	Actor      string         `json:"actor"`
	Action     string         `json:"action"`
	Repository string         `json:"repository,omitempty"`
	Target     string         `json:"target,omitempty" example:"dev_us-east-1/research"`
	RunID      string         `json:"run_id,omitempty"`
	Tag        string         `json:"tag,omitempty"`
	ObjectID   string         `json:"object_id,omitempty"`
	Commit     string         `json:"commit,omitempty"`
	Reason     string         `json:"reason,omitempty"`
	Details    map[string]any `json:"details,omitempty"`
	Leaf       string         `json:"leaf" doc:"The exact text that was hashed into the Merkle log"`
}

// AuditHead is the size of the audit log and its Merkle root, base64 of SHA-256.
type AuditHead struct {
	Size int64  `json:"size"`
	Root string `json:"root"`
}

// TargetList is the answer to GET targets.
type TargetList struct {
	Targets []Target `json:"targets" nullable:"false"`
}

// RunList is one page of runs, newest first.
type RunList struct {
	Runs []Run  `json:"runs" nullable:"false"`
	Next string `json:"next" doc:"Cursor of the next page; empty on the last one"`
}

// ReleaseList is one page of releases, newest first.
type ReleaseList struct {
	Releases []Release `json:"releases" nullable:"false"`
	Next     string    `json:"next" doc:"Cursor of the next page; empty on the last one"`
}

// FindingList holds the findings of a run, most severe first.
type FindingList struct {
	Findings []Finding `json:"findings" nullable:"false"`
}

// AuditPage holds entries in order.
type AuditPage struct {
	Entries []AuditEntry `json:"entries" nullable:"false"`
	Next    int64        `json:"next" doc:"Pass it as after to read on"`
	Head    AuditHead    `json:"head" doc:"The log as a whole, as of this answer"`
}

// Decision is the body of approve, reject, cancel, retry, resolve and override.
type Decision struct {
	_      struct{} `additionalProperties:"false"` // a misspelt member is an error
	Reason string   `json:"reason,omitempty" maxLength:"1000" doc:"Why; reject needs one"`
	As     string   `json:"as,omitempty" enum:"replan,accept,abandon,push_state" doc:"How an unknown run is resolved; for resolve alone"`
	// PlanDigest binds an approval or a rejection to the plan that was looked at.
	PlanDigest string `json:"plan_digest,omitempty" maxLength:"100" doc:"Of the plan that was looked at: if it is not the run's any more, nothing is decided; for approve and reject alone"`
}

// Lock is a held lock on a target's state.
type Lock struct {
	Target    TargetRef `json:"target"`
	Kind      string    `json:"kind,omitempty" doc:"dynamodb, s3 or local"`
	Where     string    `json:"where,omitempty" doc:"Table and item, object, or file"`
	ID        string    `json:"id,omitempty" doc:"The engine's id of the lock"`
	Who       string    `json:"who,omitempty" doc:"user@host, as the engine wrote it"`
	Operation string    `json:"operation,omitempty" example:"OperationTypeApply"`
	Created   time.Time `json:"created,omitzero"`
	RunID     string    `json:"run_id,omitempty" doc:"The run of this service that took it; absent for a stranger's"`
	Alive     bool      `json:"alive" doc:"Whether that run is still at work"`
	Elsewhere string    `json:"elsewhere,omitempty" doc:"The instance that alone can tell whether it is, where another was asked"`
	Error     string    `json:"error,omitempty" doc:"Why the locks of this target cannot be told"`
}

// LockList holds the held locks.
type LockList struct {
	Locks []Lock `json:"locks" nullable:"false"`
}

// Unlock is the body of unlock.
type Unlock struct {
	_      struct{} `additionalProperties:"false"` // a misspelt member is an error
	ID     string   `json:"id,omitempty" maxLength:"200" doc:"Of the lock; left out for whatever a dead run of this service holds"`
	Force  bool     `json:"force,omitempty" doc:"Release it although it is not our own dead run's; needs id"`
	Reason string   `json:"reason,omitempty" maxLength:"1000" doc:"Why; it goes into the audit log"`
}

// Health is the answer to /healthz and /readyz.
type Health struct {
	OK      bool    `json:"ok"`
	Version string  `json:"version,omitempty"`
	Checks  []Check `json:"checks,omitempty" nullable:"false"`
}

// Check is one part that the service needs. Detail is shown to callers that are
// allowed to use the API, and left out for others.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}
