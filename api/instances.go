package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// Instance is one process of the service, of those that share a database. Its
// times are of the database's clock.
type Instance struct {
	ID           string    `json:"id" doc:"The same after a restart" example:"host-0123456789abcdef"`
	Name         string    `json:"name" doc:"As people call it; need not be of one instance alone" example:"worker-1"`
	Host         string    `json:"host"`
	Roles        []string  `json:"roles" nullable:"false" doc:"api, controller and worker" example:"[\"worker\"]"`
	Pools        []string  `json:"pools" nullable:"false" doc:"Whose runs it serves as a worker" example:"[\"default\"]"`
	Version      string    `json:"version"`
	ConfigDigest string    `json:"config_digest" doc:"SHA-256 of its configuration file in hexadecimal"`
	State        string    `json:"state" enum:"alive,draining,dead,stopped"`
	RunsInHand   int       `json:"runs_in_hand" doc:"Runs that it drives now; of a dead or stopped one, those that nobody has taken over yet"`
	StartedAt    time.Time `json:"started_at"`
	BeatAt       time.Time `json:"beat_at" doc:"Its last sign of life"`
	BeatAge      int64     `json:"beat_age_ms" doc:"Milliseconds since then, as of this answer"`
	StoppedAt    time.Time `json:"stopped_at,omitzero" doc:"Absent before it stopped by itself"`
}

// The states of an instance, as on the wire.
const (
	InstanceAlive    = "alive"
	InstanceDraining = "draining" // alive, and takes no new work
	InstanceDead     = "dead"     // without a sign of life for too long
	InstanceStopped  = "stopped"  // it left by itself
)

// Lives reports whether the instance is at work, draining or not.
func (i Instance) Lives() bool { return i.State == InstanceAlive || i.State == InstanceDraining }

// InstanceList is the answer to GET instances: by name, with those that died or
// stopped until they are forgotten.
type InstanceList struct {
	Instances    []Instance `json:"instances" nullable:"false"`
	Self         string     `json:"self" doc:"Id of the instance that answers"`
	ConfigDigest string     `json:"config_digest" doc:"SHA-256 of the configuration file of the instance that answers, in hexadecimal"`
}

// Drain is the body of drain.
type Drain struct {
	_      struct{} `additionalProperties:"false"` // a misspelt member is an error
	Undo   bool     `json:"undo,omitempty" doc:"Take work again"`
	Reason string   `json:"reason,omitempty" maxLength:"1000" doc:"Why; it goes into the audit log"`
}

// Instances lists the processes of the service.
func (c *Client) Instances(ctx context.Context) (InstanceList, error) {
	return get[InstanceList](ctx, c, "instances", nil)
}

// Drain tells an instance to take no new work, or to take work again, and gives
// the instance after it. The instance hears of it at its next sign of life.
func (c *Client) Drain(ctx context.Context, id string, d Drain) (Instance, error) {
	body, err := json.Marshal(d)
	if err != nil {
		return Instance{}, fmt.Errorf("encoding the request: %w", err)
	}
	return call[Instance](ctx, c, http.MethodPost, "instances/"+escape(id, "drain"), nil, body)
}
