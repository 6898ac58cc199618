package release

import (
	"slices"
	"time"
)

// The decision points at which policies are asked.
const (
	PointTag    = "tag"    // before a tag is admitted
	PointConfig = "config" // before anything of the code is executed
	PointPlan   = "plan"   // after the plan, before anything is applied
)

// PolicyPoints lists the decision points in the order in which they are asked.
func PolicyPoints() []string { return []string{PointTag, PointConfig, PointPlan} }

// PolicyLevel is what it leads to that a rule finds something.
type PolicyLevel string

// The levels, weakest first.
const (
	PolicyOff      PolicyLevel = "off"
	PolicyNotice   PolicyLevel = "notice"   // it is listed; no switch sets this level
	PolicyWarn     PolicyLevel = "warn"     // it is listed as a warning
	PolicyApproval PolicyLevel = "approval" // people have to approve the plan
	PolicyDeny     PolicyLevel = "deny"
)

func (l PolicyLevel) rank() int {
	return slices.Index([]PolicyLevel{PolicyOff, PolicyNotice, PolicyWarn, PolicyApproval, PolicyDeny}, l)
}

// Below reports whether l asks for less than other.
func (l PolicyLevel) Below(other PolicyLevel) bool { return l.rank() < other.rank() }

// PolicyRule is one of the bundled rules. Its id is stable.
type PolicyRule struct {
	ID     string
	Points []string
	Level  PolicyLevel // without a switch
	// Fixed: no switch can weaken it, because other parts refuse the same.
	Fixed bool
	About string // what it finds, for people
}

// DefaultMaxDestroys is the cap on destroys where none is configured.
const DefaultMaxDestroys = 50

// PolicyRules lists the bundled rules by id.
func PolicyRules() []PolicyRule {
	config, plan, both := []string{PointConfig}, []string{PointPlan}, []string{PointConfig, PointPlan}
	return []PolicyRule{
		{ID: "allowed-modules", Points: config, Level: PolicyDeny,
			About: "A module whose source `allowed_modules` does not have, leads out of the repository, or is computed."},
		{ID: "allowed-providers", Points: both, Level: PolicyDeny,
			About: "A provider that `allowed_providers` does not have: declared, used without a declaration, or in the plan."},
		{ID: "backend-in-code", Points: config, Level: PolicyDeny, Fixed: true,
			About: "A `backend` or `cloud` block of another type than the configured one in the root module, override files included."},
		{ID: "data-bearing", Points: plan, Level: PolicyApproval,
			About: "A destroy or replacement of a resource that holds data, by the list of types and `data_bearing_types`."},
		{ID: "engine-folder", Points: config, Level: PolicyDeny, Fixed: true,
			About: "A `.terraform` or `terraform.d` folder in the repository, from which the engine would load plug-ins or modules."},
		{ID: "max-destroys", Points: plan, Level: PolicyDeny,
			About: "More destroys, replacements included, than `max_destroys`. Runs of the kind destroy are exempt."},
		{ID: "protected-program", Points: both, Level: PolicyDeny,
			About: "In an environment with `protected = true`: what starts a program, such as the data source `external` or the provisioners `local-exec` and `remote-exec`."},
		{ID: "required-tags", Points: plan, Level: PolicyDeny,
			About: "A resource that is created or changed, can have tags, and lacks one of `required_tags`."},
		{ID: "runs-program", Points: config, Level: PolicyNotice,
			About: "The same as `protected-program`, in environments that are not protected."},
		{ID: "symlink-outside", Points: config, Level: PolicyDeny, Fixed: true,
			About: "A symbolic link in the repository that leads out of it."},
		{ID: "team-account", Points: plan, Level: PolicyDeny,
			About: "A resource, an identity or a provider of another account than the target's and those of `accounts`. Silent where the target has no account."},
	}
}

// PolicySwitch sets the level of one bundled rule.
type PolicySwitch struct {
	Rule  string      `json:"rule"`
	Level PolicyLevel `json:"level"`
	// Approvals and Approvers are what the level PolicyApproval asks for; zero: one
	// approval by whoever may approve.
	Approvals int      `json:"approvals,omitempty"`
	Approvers []string `json:"approvers,omitempty"`
}

// PolicyFile is one file of users' rules or data, as the service read it.
type PolicyFile struct {
	Name string `json:"name"` // as people find it, for messages
	Path string `json:"path"` // relative to its policy folder, with slashes
	Text string `json:"text"`
}

// PolicySpec configures the policy engine for one target.
type PolicySpec struct {
	AllowedProviders []string `json:"allowed_providers,omitempty"` // patterns; empty: all
	AllowedModules   []string `json:"allowed_modules,omitempty"`   // patterns of sources; empty: all; local paths always

	Switches         []PolicySwitch `json:"switches,omitempty"`           // of bundled rules, where they are not as bundled
	DataBearingTypes []string       `json:"data_bearing_types,omitempty"` // beyond the bundled list, "*" for any letters
	MaxDestroys      *int           `json:"max_destroys,omitempty"`       // nil: DefaultMaxDestroys
	RequiredTags     []string       `json:"required_tags,omitempty"`
	Accounts         []string       `json:"accounts,omitempty"` // that resources may be in beside the target's

	// What the rules are told of the target and the run.
	Target    Target `json:"target,omitzero"`
	Account   string `json:"account,omitempty"`
	Protected bool   `json:"protected,omitempty"`
	Backend   string `json:"backend,omitempty"` // the configured type
	Kind      Kind   `json:"kind,omitempty"`

	// Files are the users' rules and data. The process that evaluates them is
	// stopped after Timeout, and when it takes more than Memory bytes; zero: the
	// engine's own bounds.
	Files   []PolicyFile  `json:"files,omitempty"`
	Timeout time.Duration `json:"timeout,omitempty"`
	Memory  int64         `json:"memory,omitempty"`
}

// PolicyVerdict is what the policies say at one decision point. A finding of
// SeverityError is a denial.
type PolicyVerdict struct {
	Findings     []Finding
	Requirements []Requirement
}

// TagFacts are what is known of a tag when its policies are asked.
type TagFacts struct {
	Repository string
	Tag        string // the whole name
	Target     Target
	Version    string // as written in the tag
	ObjectID   string
	Commit     string
	Annotated  bool
	Reachable  bool   // from the configured branch
	Tagger     string // "Name <address>"; empty for a lightweight tag
	TaggedAt   time.Time
	Message    string
	Signed     bool   // there is a signature, whatever it is worth
	SignedBy   Signer // zero where the signer is not known
	Account    string
	Deployed   *TagVersion  // nil: nothing is
	Earlier    []TagVersion // what was seen of the target before, newest first
	Now        time.Time
}

// TagVersion is an earlier version of a target.
type TagVersion struct {
	Version  string
	Tag      string
	Commit   string
	RunID    int64    // of a deployed one
	Decision Decision // on the tag; empty for a deployed one
	At       time.Time
}
