package server

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// ConsumerConfig is what people may see of a consumer of the configuration.
type ConsumerConfig struct {
	Name   string
	To     string // where it is, without what may be secret
	Events []string
}

// moveConsumer is an action of admins alone, on the whole service.
const moveConsumer identity.Action = "move_consumer"

func (s *Server) registerConsumers(a huma.API) {
	register(s, a, get("consumers", "list-consumers", "Who is handed the audit log entry by entry, and how far"), s.listConsumers)
	register(s, a, post("consumers/{name}/move", "move-consumer", "Let a webhook leave out an entry, or go on somewhere else in the audit log"), s.moveConsumer)
}

func (s *Server) listConsumers(ctx context.Context, _ *noInput) (api.ConsumerList, error) {
	if err := s.may(ctx, identity.Watch, release.Target{}); err != nil {
		return api.ConsumerList{}, err
	}
	all, err := s.cfg.Store.Consumers(ctx)
	return api.ConsumerList{Consumers: mapped(all, s.wireConsumer)}, err
}

func (s *Server) wireConsumer(c store.Consumer) api.Consumer {
	out := api.Consumer{Name: c.Name, Kind: c.Kind, Events: []string{}, Position: c.Position, LagEntries: c.Lag,
		LagSeconds: int64(c.LagAge.Seconds()), SentAt: utc(c.SentAt), Failures: c.Failures,
		FailingSince: utc(c.FailingSince), RetryAt: utc(c.RetryAt), Trouble: c.Trouble}
	i := slices.IndexFunc(s.cfg.Audit.Consumers, func(k ConsumerConfig) bool { return k.Name == c.Name })
	if i >= 0 {
		k := s.cfg.Audit.Consumers[i]
		out.Configured, out.To, out.Events = true, k.To, append(out.Events, k.Events...)
	}
	return out
}

type moveInput struct {
	Name string            `path:"name" maxLength:"64" doc:"Of the consumer" example:"siem"`
	Body *api.MoveConsumer // may be left out, which moves nothing
}

func (s *Server) moveConsumer(ctx context.Context, in *moveInput) (api.Consumer, error) {
	if err := s.may(ctx, moveConsumer, release.Target{}); err != nil {
		return api.Consumer{}, err
	}
	var m api.MoveConsumer
	if in.Body != nil {
		m = *in.Body
	}
	to, err := destination(m)
	if err != nil {
		return api.Consumer{}, err
	}
	c, err := s.cfg.Store.Consumer(ctx, in.Name)
	if err != nil {
		return api.Consumer{}, err
	}
	if c.Kind == store.CopyConsumer {
		return api.Consumer{}, fmt.Errorf("%w: the copy goes on behind what is there: to have it made anew, give it another folder or prefix", release.ErrConflict)
	}
	entry := audit.Entry{Actor: s.actor(ctx), Action: "consumer.moved", Reason: strings.TrimSpace(m.Reason)}
	if m.Skip {
		entry.Action = "consumer.skipped"
	}
	c, err = s.cfg.Store.MoveConsumer(ctx, in.Name, to, entry)
	return s.wireConsumer(c), err
}

// destination is where a consumer is to go, given where it is and the log's size.
func destination(m api.MoveConsumer) (func(position, size int64) int64, error) {
	switch {
	case m.Skip && !m.End && m.To == nil:
		return func(position, _ int64) int64 { return position + 1 }, nil
	case m.End && !m.Skip && m.To == nil:
		return func(_, size int64) int64 { return size }, nil
	case m.To != nil && !m.Skip && !m.End:
		return func(int64, int64) int64 { return *m.To }, nil
	}
	return nil, fmt.Errorf("%w move: give exactly one of skip, end and to", release.ErrInvalid)
}
