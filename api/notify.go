package api

import (
	"context"
	"time"
)

// WebhookAnswer is what became of a webhook that was believed.
type WebhookAnswer struct {
	Outcome string `json:"outcome" enum:"taken,ignored,ping,replayed" doc:"taken: the remote is looked at now"`
}

// Notification is one place that the service tells of runs: the commit statuses
// of a repository, or a notification block of the configuration.
type Notification struct {
	Name     string    `json:"name" example:"notification ops"`
	State    string    `json:"state" enum:"idle,behind,failing" doc:"failing: what was sent last was not taken"`
	Position int64     `json:"position" doc:"Index of the first audit entry that has not been told"`
	Behind   int64     `json:"behind" doc:"Audit entries that have not been looked at or told"`
	Told     int64     `json:"told" doc:"Runs told of since it is on record"`
	Dropped  int64     `json:"dropped" doc:"Runs that the other side refused to hear of for good"`
	Failures int64     `json:"failures" doc:"Attempts in a row that failed"`
	Error    string    `json:"error,omitempty" doc:"Why the last attempt failed, or the last run was dropped"`
	ToldAt   time.Time `json:"told_at,omitzero"`
	FailedAt time.Time `json:"failed_at,omitzero" doc:"When the last attempt failed"`
	RetryAt  time.Time `json:"retry_at,omitzero" doc:"When the next attempt is due"`
}

// NotificationList holds every place that the service tells of runs.
type NotificationList struct {
	Notifications []Notification `json:"notifications" nullable:"false"`
}

// Notifications lists the places that the service tells of runs, and how far it
// has come with each.
func (c *Client) Notifications(ctx context.Context) (NotificationList, error) {
	return get[NotificationList](ctx, c, "notifications", nil)
}
