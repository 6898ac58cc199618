package server

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

type locksInput struct {
	Target string `query:"target" maxLength:"100" doc:"Only this target" example:"dev_us-east-1/research"`
}

func (s *Server) listLocks(ctx context.Context, in *locksInput) (api.LockList, error) {
	target, err := parseFilter(in.Target)
	if err != nil {
		return api.LockList{}, err
	}
	within, err := s.narrowed(ctx, target)
	if err != nil {
		return api.LockList{}, err
	}
	if s.cfg.Locks == nil {
		return api.LockList{}, fmt.Errorf("%w: this service cannot look at locks", release.ErrUnavailable)
	}
	held, err := s.cfg.Locks(ctx, target)
	held = slices.DeleteFunc(slices.Clone(held), func(l release.HeldLock) bool { return !store.InSight(within, l.Target) })
	return api.LockList{Locks: mapped(held, wireLock)}, err
}

type unlockInput struct {
	Env   string      `path:"env" maxLength:"32" example:"dev"`
	Scope string      `path:"scope" maxLength:"32" example:"us-east-1"`
	Team  string      `path:"team" maxLength:"32" example:"research"`
	Body  *api.Unlock // may be left out
}

func (s *Server) unlock(ctx context.Context, in *unlockInput) (api.LockList, error) {
	target, err := release.ParseTarget(release.Target{Env: in.Env, Scope: in.Scope, Team: in.Team}.String())
	if err != nil {
		return api.LockList{}, err
	}
	if err := s.may(ctx, identity.Unlock, target); err != nil {
		return api.LockList{}, err
	}
	if s.cfg.Unlock == nil {
		return api.LockList{}, fmt.Errorf("%w: this service cannot look at locks", release.ErrUnavailable)
	}
	u := release.Unlock{Target: target, Actor: s.actor(ctx)}
	if in.Body != nil {
		u.ID, u.Force, u.Reason = in.Body.ID, in.Body.Force, strings.TrimSpace(in.Body.Reason)
	}
	freed, err := s.cfg.Unlock(ctx, u)
	return api.LockList{Locks: mapped(freed, wireLock)}, err
}

func wireLock(l release.HeldLock) api.Lock {
	out := api.Lock{Target: api.TargetRef{Env: l.Target.Env, Scope: l.Target.Scope, Team: l.Target.Team},
		Kind: l.Kind, Where: l.Where, ID: l.ID, Who: l.Who, Operation: l.Operation, Created: utc(l.Created), Alive: l.Alive, Elsewhere: l.Elsewhere}
	if l.Run != nil {
		out.RunID, out.Target.Account = release.FormatID(l.Run.ID), l.Run.Account
	}
	if l.Err != nil {
		out.Error = l.Err.Error()
	}
	return out
}
