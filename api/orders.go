package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// Rollback is the body of rollback.
type Rollback struct {
	_      struct{} `additionalProperties:"false"` // a misspelt member is an error
	To     string   `json:"to,omitempty" maxLength:"64" doc:"The version to go back to; absent: what was deployed before" example:"1.2"`
	Reason string   `json:"reason" minLength:"1" maxLength:"1000" doc:"Why; it goes into the audit log"`
}

// Destroy is the body of destroy.
type Destroy struct {
	_       struct{} `additionalProperties:"false"` // a misspelt member is an error
	Confirm string   `json:"confirm,omitempty" maxLength:"100" doc:"The target once more, as a person types it" example:"dev_us-east-1/research"`
	Reason  string   `json:"reason" minLength:"1" maxLength:"1000" doc:"Why; it goes into the audit log"`
}

// PlanOrder is the body of plan: a tag, or a ref.
type PlanOrder struct {
	_          struct{} `additionalProperties:"false"` // a misspelt member is an error
	Tag        string   `json:"tag,omitempty" maxLength:"200" doc:"A tag of the target, whether it was admitted or not" example:"dev_us-east-1/research/1.3"`
	Ref        string   `json:"ref,omitempty" maxLength:"200" doc:"A branch, or a commit by its 40 digits" example:"main"`
	Repository string   `json:"repository,omitempty" maxLength:"64" doc:"Where it is, where there are several"`
	Reason     string   `json:"reason,omitempty" maxLength:"1000" doc:"Why; it goes into the audit log"`
}

// Drift is the body of drift.
type Drift struct {
	_      struct{} `additionalProperties:"false"` // a misspelt member is an error
	Reason string   `json:"reason,omitempty" maxLength:"1000" doc:"Why; it goes into the audit log"`
}

// Freeze stops every change to some targets until a time.
type Freeze struct {
	ID        string    `json:"id" doc:"Decimal id" example:"7"`
	Where     string    `json:"where" doc:"An environment, with or without a scope and a team" example:"prod_us-east-1/research"`
	Until     time.Time `json:"until"`
	Reason    string    `json:"reason"`
	CreatedBy string    `json:"created_by"`
	CreatedAt time.Time `json:"created_at"`
	LiftedBy  string    `json:"lifted_by,omitempty" doc:"Absent while it was not lifted"`
	LiftedAt  time.Time `json:"lifted_at,omitzero"`
	InForce   bool      `json:"in_force" doc:"Whether it stops changes now"`
}

// FreezeList holds freezes.
type FreezeList struct {
	Freezes []Freeze `json:"freezes" nullable:"false"`
}

// FreezeSet is the body that sets a freeze.
type FreezeSet struct {
	_      struct{}  `additionalProperties:"false"` // a misspelt member is an error
	Where  string    `json:"where" maxLength:"100" doc:"prod, prod_us-east-1, prod/research or prod_us-east-1/research" example:"prod"`
	Until  time.Time `json:"until,omitzero" doc:"When it ends; or say for"`
	For    string    `json:"for,omitempty" maxLength:"32" doc:"How long it lasts from now on, such as 2h30m" example:"2h"`
	Reason string    `json:"reason" minLength:"1" maxLength:"1000" doc:"Why; whoever has to wait is told"`
}

// Thaw is the body that lifts a freeze.
type Thaw struct {
	_      struct{} `additionalProperties:"false"` // a misspelt member is an error
	Reason string   `json:"reason,omitempty" maxLength:"1000" doc:"Why; it goes into the audit log"`
}

// Name is what a run is called for people: its tag or, where it has none, its
// target and what was planned there.
func (r Run) Name() string {
	if r.Tag != "" {
		return r.Tag
	}
	return r.Target.String() + " at " + r.Ref
}

// WaitsForTime reports whether nothing but time, or an override, is missing for the
// run to go on.
func (r Run) WaitsForTime() bool {
	return !r.WaitUntil.IsZero() && (r.State == StateQueued || r.State == StateAwaitingApproval)
}

// Rollback queues a run for an earlier release of a target.
func (c *Client) Rollback(ctx context.Context, t TargetRef, o Rollback) (Run, error) {
	return c.order(ctx, t, "rollback", o)
}

// Destroy queues the removal of what is deployed to a target.
func (c *Client) Destroy(ctx context.Context, t TargetRef, o Destroy) (Run, error) {
	return c.order(ctx, t, "destroy", o)
}

// PlanOnly queues a plan that is never applied.
func (c *Client) PlanOnly(ctx context.Context, t TargetRef, o PlanOrder) (Run, error) {
	return c.order(ctx, t, "plan", o)
}

// Drift queues a look at what changed outside of Waymark.
func (c *Client) Drift(ctx context.Context, t TargetRef, o Drift) (Run, error) {
	return c.order(ctx, t, "drift", o)
}

func (c *Client) order(ctx context.Context, t TargetRef, what string, o any) (Run, error) {
	body, err := json.Marshal(o)
	if err != nil {
		return Run{}, fmt.Errorf("encoding the order: %w", err)
	}
	return call[Run](ctx, c, http.MethodPost, "targets/"+escape(t.Env, t.Scope, t.Team, what), nil, body)
}

// Refresh is Evidence, and queues a run that compares what is there with the state.
func (c *Client) Refresh(ctx context.Context, id string) (Run, error) {
	return call[Run](ctx, c, http.MethodPost, "runs/"+escape(id, "evidence"), nil, []byte(`{"refresh":true}`))
}

// Freezes lists the freezes in force that the caller may see; with all also the
// latest of those that are over.
func (c *Client) Freezes(ctx context.Context, all bool) (FreezeList, error) {
	q := query()
	if all {
		q.Set("all", "true")
	}
	return get[FreezeList](ctx, c, "freezes", q)
}

// Freeze stops changes to some targets.
func (c *Client) Freeze(ctx context.Context, f FreezeSet) (Freeze, error) {
	body, err := json.Marshal(f)
	if err != nil {
		return Freeze{}, fmt.Errorf("encoding the freeze: %w", err)
	}
	return call[Freeze](ctx, c, http.MethodPost, "freezes", nil, body)
}

// Thaw lifts a freeze before its time.
func (c *Client) Thaw(ctx context.Context, id string, t Thaw) (Freeze, error) {
	body, err := json.Marshal(t)
	if err != nil {
		return Freeze{}, fmt.Errorf("encoding the request: %w", err)
	}
	return call[Freeze](ctx, c, http.MethodPost, "freezes/"+escape(id)+"/thaw", nil, body)
}
