package release

import "time"

// ProtocolFormat is the version of Spec, Event and Result. A newer service
// reads the files that an older runner left.
const ProtocolFormat = 1

// Phase is the half of a run that one runner process executes. Approval lies
// between the two, and the audit entry of the apply is written before it.
type Phase string

// The phases.
const (
	PhasePlan  Phase = "plan"  // config, lint, scan, init, plan, policy
	PhaseApply Phase = "apply" // apply of the saved plan
	PhasePush  Phase = "push"  // push of the state that an apply could not write
)

// SecretsSuffix is added to the name of a saved plan for the file beside it that
// holds, encrypted with the same key, what the plan marks as sensitive.
const SecretsSuffix = ".secrets"

// Spec is all that a runner process is told. It goes to the runner's standard
// input, never to disk, because it holds the run's credentials.
type Spec struct {
	Format  int    `json:"format"`
	RunID   int64  `json:"run_id"`
	Attempt int    `json:"attempt"`
	Kind    Kind   `json:"kind"`
	Phase   Phase  `json:"phase"`
	Tag     string `json:"tag"`
	Target  Target `json:"target"`

	Dir      string `json:"dir"`       // the runner's own files: events.jsonl, result.json
	WorkDir  string `json:"work_dir"`  // the commit's tree; the only place that tools may write to
	PlanFile string `json:"plan_file"` // the encrypted plan: written in PhasePlan, read in PhaseApply

	Engine   EngineSpec  `json:"engine"`
	Backend  BackendSpec `json:"backend"`
	Stack    StackSpec   `json:"stack"`
	Gates    []GateSpec  `json:"gates,omitempty"`
	Policy   PolicySpec  `json:"policy"`
	Writable []string    `json:"writable,omitempty"` // further folders tools may write to
	Readable []string    `json:"readable,omitempty"` // further folders tools may read
	Sandbox  string      `json:"sandbox"`            // "auto", "require" or "off"
	Mask     []string    `json:"mask,omitempty"`     // patterns of what must not be shown, in the syntax of RE2

	// Env is the environment of engine and providers: the run's credentials and
	// what the configuration adds. Gates never get it.
	Env map[string]string `json:"env,omitempty"`
	// SessionDir is the folder that the service keeps session files in while the
	// phase goes on; tools may read it. Empty: there is none.
	SessionDir string `json:"session_dir,omitempty"`

	PlanRecipient string `json:"plan_recipient,omitempty"` // age recipient, PhasePlan
	PlanIdentity  string `json:"plan_identity,omitempty"`  // age identity, PhaseApply and PhasePush
	PlanDigest    string `json:"plan_digest,omitempty"`    // what PhaseApply must find
	StateFile     string `json:"state_file,omitempty"`     // the encrypted state that PhasePush pushes

	Timeout time.Duration `json:"timeout"` // of the whole phase; 0 for none
	// BeginBefore is until when PhaseApply and PhasePush may begin to change anything; zero: any
	// time. Later, the run may be in somebody else's hand.
	BeginBefore time.Time `json:"begin_before,omitzero"`
}

// EngineSpec names the engine's executable.
type EngineSpec struct {
	Kind        string `json:"kind"`                   // "tofu" or "terraform"
	Path        string `json:"path"`                   // absolute
	Version     string `json:"version,omitempty"`      // such as "1.12.6"; empty: not known
	PluginDir   string `json:"plugin_dir,omitempty"`   // a filesystem mirror of providers; empty: the registry
	PluginCache string `json:"plugin_cache,omitempty"` // one cache for all runs
}

// BackendSpec says where the target's state lives.
type BackendSpec struct {
	Type   string            `json:"type"`
	Values map[string]string `json:"values"` // backend arguments, such as bucket and key
}

// StackSpec says how the target maps onto the code.
type StackSpec struct {
	Path      string         `json:"path"`      // root module, relative to WorkDir
	VarFiles  []string       `json:"var_files"` // relative to WorkDir, in order, all existing
	Variables map[string]any `json:"variables"` // JSON values
	Module    string         `json:"module"`    // -target address; empty for all
}

// GateSpec is one outside scanner.
type GateSpec struct {
	Name   string            `json:"name"`            // such as "tflint"
	Path   string            `json:"path"`            // absolute path of the executable
	Stage  StageName         `json:"stage,omitempty"` // StageLint or StageScan; empty: the gate's own
	FailOn Severity          `json:"fail_on"`
	Soft   bool              `json:"soft,omitempty"`   // what it finds is listed and never fails the run
	Config map[string]string `json:"config,omitempty"` // the gate's own settings
	// Args and Format are of a gate that Waymark knows nothing of but its command:
	// the arguments, and what it prints, "sarif" or "junit".
	Args    []string    `json:"args,omitempty"`
	Format  string      `json:"format,omitempty"`
	Waivers []Waiver    `json:"waivers,omitempty"` // applied to fresh and to kept results
	Cached  *GateResult `json:"cached,omitempty"`  // an earlier result for the same tree, version and settings
}

// GateResult is what a gate said of one tree.
type GateResult struct {
	Gate     string    `json:"gate"`
	Version  string    `json:"version"`
	Summary  string    `json:"summary"`
	Findings []Finding `json:"findings"`
	Report   *Report   `json:"report,omitempty"` // for people's own tools; nil where the gate has none
}

// Report is a gate's own report, as it is kept beside the findings.
type Report struct {
	Format  string `json:"format"`  // "sarif" or "junit"
	Content string `json:"content"` // at most MaxReport bytes
}

// MaxReport is the most bytes of one gate's report that are kept.
const MaxReport = 1 << 20

// EventType says what an Event tells.
type EventType string

// The events of a runner.
const (
	EventStage EventType = "stage" // a stage began or ended
	EventLog   EventType = "log"   // one line of output, masked
)

// Event is one line of events.jsonl.
type Event struct {
	Format  int        `json:"format"`
	N       int64      `json:"n,omitempty"` // which line of the file it is, from 1; older runners do not say it
	At      time.Time  `json:"at"`
	Type    EventType  `json:"type"`
	Stage   StageName  `json:"stage,omitempty"`
	State   StageState `json:"state,omitempty"`
	Message string     `json:"message,omitempty"` // the stage's summary, or the log line
	// Commands are what ran for a stage that has ended.
	Commands []Command `json:"commands,omitempty"`
}

// Outcome is how a phase ended.
type Outcome string

// The outcomes of a phase.
const (
	OutcomePassed    Outcome = "passed"    // planned, or applied
	OutcomeFailed    Outcome = "failed"    // a stage failed; Reason says which and why
	OutcomeDenied    Outcome = "denied"    // a gate or a policy said no
	OutcomeCancelled Outcome = "cancelled" // stopped by request, gracefully
	OutcomeUnknown   Outcome = "unknown"   // an apply whose end was not seen, or whose state could not be saved
)

// Result is the one result file of a runner, written by rename as its last act.
type Result struct {
	Format   int          `json:"format"`
	RunID    int64        `json:"run_id"`
	Attempt  int          `json:"attempt"`
	Phase    Phase        `json:"phase"`
	Outcome  Outcome      `json:"outcome"`
	Reason   string       `json:"reason,omitempty"`
	Stages   []Stage      `json:"stages"`
	Findings []Finding    `json:"findings,omitempty"`
	Gates    []GateResult `json:"gates,omitempty"` // fresh results, for the cache
	Plan     *PlanSummary `json:"plan,omitempty"`
	// Requirements are the approvals that policies on the code and on the plan ask for.
	Requirements []Requirement `json:"requirements,omitempty"`
	// SoftGates would have failed the phase but for their soft mode.
	SoftGates []string          `json:"soft_gates,omitempty"`
	Applied   Changes           `json:"applied"`
	Outputs   map[string]string `json:"outputs,omitempty"`
	// Content is what the state has after an apply; nil where it was not read.
	Content    *StateContent `json:"content,omitempty"`
	FinishedAt time.Time     `json:"finished_at"`
}
