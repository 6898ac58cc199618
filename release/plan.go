package release

// PlanSummary is the masked account of a plan: all that may leave the runner.
// A sensitive value never appears in it.
type PlanSummary struct {
	Digest    string           `json:"digest"` // "sha256:<hex>" of the saved plan
	Changes   Changes          `json:"changes"`
	Resources []ResourceChange `json:"resources"`
	Outputs   []OutputChange   `json:"outputs,omitempty"`
	Drift     []ResourceChange `json:"drift,omitempty"` // what changed outside
	Truncated bool             `json:"truncated,omitempty"`
}

// ResourceChange is what the plan does to one resource.
type ResourceChange struct {
	Address    string            `json:"address"`
	Type       string            `json:"type"`
	Provider   string            `json:"provider,omitempty"`
	Action     string            `json:"action"` // create, update, delete, replace, read, forget, import
	Attributes []AttributeChange `json:"attributes,omitempty"`
	Reason     string            `json:"reason,omitempty"` // why it is replaced
}

// AttributeChange is one attribute before and after, as compact JSON, or one
// of the words "(sensitive)" and "(known after apply)". Empty where absent.
type AttributeChange struct {
	Path   string `json:"path"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// OutputChange is what the plan does to one output; values as in AttributeChange.
type OutputChange struct {
	Name   string `json:"name"`
	Action string `json:"action"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}
