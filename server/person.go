package server

import (
	"context"

	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/release"
)

// withCaller makes room in a request's context for who it comes from. The guard
// fills it: it cannot put a context of its own, because then what is outside of
// it would not see which route matched.
func withCaller(ctx context.Context) context.Context {
	return context.WithValue(ctx, keyPerson, new(identity.Person))
}

// recognise says who a request comes from.
func recognise(ctx context.Context, p identity.Person) {
	if caller, ok := ctx.Value(keyPerson).(*identity.Person); ok {
		*caller = p
	}
}

// person is who a request comes from: nobody, who may do nothing, where the guard
// has not said.
func (s *Server) person(ctx context.Context) identity.Person {
	if caller, ok := ctx.Value(keyPerson).(*identity.Person); ok {
		return *caller
	}
	return identity.Person{}
}

// actor is the person's name, as it goes into the record.
func (s *Server) actor(ctx context.Context) string { return s.person(ctx).Name }

// may is nil where the person of the request may do this to the target: the zero
// target for the whole service, one without a team for all of its teams. The error
// says what is missing. Every operation and page asks it before it acts.
func (s *Server) may(ctx context.Context, action identity.Action, t release.Target) error {
	return s.person(ctx).May(action, t)
}
