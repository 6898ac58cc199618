package server

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// caller is who a request comes from. A nameless one has shown nothing.
type caller struct {
	identity.Person
	bySession bool // whether a cookie told, which a browser sends by itself
}

// withCaller makes room in a request's context for who it comes from. The guard
// fills it: it cannot put a context of its own, because then what is outside of
// it would not see which route matched.
func withCaller(ctx context.Context) context.Context {
	return context.WithValue(ctx, keyCaller, new(caller))
}

// recognise says who a request comes from.
func recognise(ctx context.Context, c caller) {
	if known, ok := ctx.Value(keyCaller).(*caller); ok {
		*known = c
	}
}

func callerOf(ctx context.Context) caller {
	if known, ok := ctx.Value(keyCaller).(*caller); ok {
		return *known
	}
	return caller{}
}

// person is who a request comes from: nobody, who may do nothing, where the guard
// has not said.
func (s *Server) person(ctx context.Context) identity.Person { return callerOf(ctx).Person }

// actor is the person's name, as it goes into the record.
func (s *Server) actor(ctx context.Context) string { return s.person(ctx).Name }

// may is nil where the person of the request may do this to the target: the zero
// target for the whole service, one without a team for all of its teams. The error
// says what is missing. Every operation and page asks it before it acts.
func (s *Server) may(ctx context.Context, action identity.Action, t release.Target) error {
	return s.person(ctx).May(action, t)
}

// sight is where the person of the request may look. One who may look nowhere is
// told so, as may does it.
func (s *Server) sight(ctx context.Context) ([]store.Scope, error) {
	scopes := []store.Scope{}
	for _, g := range s.person(ctx).Scopes(identity.View) {
		scopes = append(scopes, store.Scope{Environments: g.Environments, Teams: g.Teams})
	}
	if len(scopes) == 0 {
		return nil, s.may(ctx, identity.View, release.Target{})
	}
	return scopes, nil
}

// door counts who is not let in, and who may not do what.
type door struct {
	failures *prometheus.CounterVec
	denials  *prometheus.CounterVec
}

func newDoor(registry *prometheus.Registry) (door, error) {
	d := door{
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_identity_failures_total",
			Help: "Tokens, sessions and logins that did not count, by reason."}, []string{"reason"}),
		denials: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_denials_total",
			Help: "Requests of people who lack the role for it, by action."}, []string{"action"}),
	}
	for _, why := range []identity.Why{identity.Unknown, identity.Signature, identity.Limited, identity.Unavailable} {
		d.failures.WithLabelValues(string(why)) // counted from 0: an alert sees the first one too
	}
	return d, errors.Join(registry.Register(d.failures), registry.Register(d.denials))
}

// denied counts and logs an answer that says whose role is missing.
func (s *Server) denied(ctx context.Context, err error) {
	if d := new(identity.Denial); errors.As(err, &d) {
		s.door.denials.WithLabelValues(string(d.Action)).Inc()
		s.log.InfoContext(ctx, "somebody lacks a role", "request_id", requestID(ctx), "actor", s.actor(ctx), "action", string(d.Action), "denial", d.Detail)
	}
}
