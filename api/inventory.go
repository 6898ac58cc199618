package api

import (
	"context"
	"net/url"
	"time"
)

// Resource is a resource of a target's state as of the target's last apply.
type Resource struct {
	Target    TargetRef `json:"target"`
	Address   string    `json:"address" example:"aws_instance.web[0]"`
	Type      string    `json:"type" example:"aws_instance"`
	Provider  string    `json:"provider" example:"registry.opentofu.org/hashicorp/aws"`
	Mode      string    `json:"mode" enum:"managed,data"`
	RunID     string    `json:"run_id" doc:"The run that last changed it, or that was the first to see it"`
	Tag       string    `json:"tag" doc:"That run's"`
	ChangedAt time.Time `json:"changed_at"`
}

// ResourceList is one page of resources, by target and address.
type ResourceList struct {
	Resources []Resource `json:"resources" nullable:"false"`
	Next      string     `json:"next" doc:"Cursor of the next page; empty on the last one"`
}

// InventoryQuery narrows the inventory; a zero field does not narrow.
type InventoryQuery struct {
	Target   string // <env>_<scope>/<team>
	Type     string
	Provider string // or how it ends, such as aws
	Text     string // that the address holds
	Limit    int
	Cursor   string
}

// Inventory gives one page of the resources of all targets, or of one.
func (c *Client) Inventory(ctx context.Context, q InventoryQuery) (ResourceList, error) {
	return get[ResourceList](ctx, c, "inventory", q.values())
}

func (q InventoryQuery) values() url.Values {
	return query("target", q.Target, "type", q.Type, "provider", q.Provider, "text", q.Text,
		"limit", number(int64(q.Limit)), "cursor", q.Cursor)
}
