package release

import "time"

// MaxResources bounds the resources that are kept of one state.
const MaxResources = 20_000

// Resource is one resource of a state, without anything of what it holds.
type Resource struct {
	Address  string `json:"address"` // with the instance, such as aws_instance.web[0]
	Type     string `json:"type"`
	Provider string `json:"provider"` // such as registry.opentofu.org/hashicorp/aws
	Mode     string `json:"mode"`     // "managed" or "data"
}

// StateContent is what a state has.
type StateContent struct {
	Resources []Resource `json:"resources"`
	Cut       bool       `json:"cut,omitempty"` // whether there are more than MaxResources
}

// InventoryItem is a resource, where it is, and the run that last changed it.
type InventoryItem struct {
	Target Target
	Resource
	RunID     int64
	Tag       string
	ChangedAt time.Time
}
