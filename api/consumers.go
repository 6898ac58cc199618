package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// The kinds of consumer.
const (
	ConsumerWebhook = "webhook" // is sent CloudEvents
	ConsumerCopy    = "copy"    // the copy of the audit log in a folder or bucket
)

// Consumer is who is handed the audit log entry by entry.
type Consumer struct {
	Name         string    `json:"name" example:"siem"`
	Kind         string    `json:"kind" enum:"webhook,copy"`
	Configured   bool      `json:"configured" doc:"Whether the configuration of the instance that answers names it; nothing is handed to one that no instance's does"`
	To           string    `json:"to,omitempty" doc:"Where it is, without what may be secret"`
	Events       []string  `json:"events" nullable:"false" doc:"Actions that it is sent; empty: all"`
	Position     int64     `json:"position" doc:"Index of the next entry"`
	LagEntries   int64     `json:"lag_entries" doc:"Entries from there to the log's end"`
	LagSeconds   int64     `json:"lag_seconds" doc:"How old the first of them is"`
	SentAt       time.Time `json:"sent_at,omitzero" doc:"When it last took one"`
	Failures     int64     `json:"failures" doc:"In a row"`
	FailingSince time.Time `json:"failing_since,omitzero"`
	RetryAt      time.Time `json:"retry_at,omitzero" doc:"When it is tried next"`
	Trouble      string    `json:"trouble,omitempty" doc:"What was wrong last, for people"`
}

// ConsumerList is the answer to GET consumers, by name.
type ConsumerList struct {
	Consumers []Consumer `json:"consumers" nullable:"false"`
}

// MoveConsumer is the body of consumers/{name}/move; exactly one of Skip, End and
// To says where to.
type MoveConsumer struct {
	_      struct{} `additionalProperties:"false"` // a misspelt member is an error
	Skip   bool     `json:"skip,omitempty" doc:"Leave out the entry that it is to take next"`
	End    bool     `json:"end,omitempty" doc:"Go on with what is not written yet"`
	To     *int64   `json:"to,omitempty" minimum:"0" doc:"Index of the entry that it is to take next"`
	Reason string   `json:"reason,omitempty" maxLength:"1000" doc:"Why; it goes into the audit log"`
}

// Consumers lists who is handed the audit log.
func (c *Client) Consumers(ctx context.Context) (ConsumerList, error) {
	return get[ConsumerList](ctx, c, "consumers", nil)
}

// MoveConsumer puts a consumer somewhere else in the log, and gives it.
func (c *Client) MoveConsumer(ctx context.Context, name string, m MoveConsumer) (Consumer, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return Consumer{}, fmt.Errorf("encoding the request: %w", err)
	}
	return call[Consumer](ctx, c, http.MethodPost, "consumers/"+escape(name, "move"), nil, body)
}
