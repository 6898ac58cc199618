package server

import (
	"context"
	"fmt"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/release"
)

// registerOrders adds what people ask for: runs without a tag's push, and freezes.
func (s *Server) registerOrders(a huma.API) {
	const target = "targets/{env}/{scope}/{team}/"
	register(s, a, post(target+"rollback", "rollback-target", "Queue a run for an earlier release of the target"), s.rollback)
	register(s, a, post(target+"destroy", "destroy-target", "Queue the removal of what is deployed"), s.destroy)
	register(s, a, post(target+"plan", "plan-target", "Queue a plan of a tag, a branch or a commit that is never applied"), s.planOnly)
	register(s, a, post(target+"drift", "drift-target", "Queue a look at what changed outside"), s.drift)
	register(s, a, get("freezes", "list-freezes", "The freezes in force, the first to end first"), s.listFreezes)
	register(s, a, post("freezes", "set-freeze", "Stop every change to some targets, at once and for all instances"), s.setFreeze)
	register(s, a, post("freezes/{id}/thaw", "thaw-freeze", "Lift a freeze before its time"), s.thaw)
}

type rollbackInput struct {
	Env   string `path:"env" maxLength:"32" example:"dev"`
	Scope string `path:"scope" maxLength:"32" example:"us-east-1"`
	Team  string `path:"team" maxLength:"32" example:"research"`
	Body  api.Rollback
}

func (s *Server) rollback(ctx context.Context, in *rollbackInput) (api.Run, error) {
	return s.order(ctx, targetInput{in.Env, in.Scope, in.Team}, identity.Rollback,
		release.Order{Kind: release.Rollback, Version: in.Body.To, Reason: in.Body.Reason})
}

type destroyInput struct {
	Env   string `path:"env" maxLength:"32" example:"dev"`
	Scope string `path:"scope" maxLength:"32" example:"us-east-1"`
	Team  string `path:"team" maxLength:"32" example:"research"`
	Body  api.Destroy
}

func (s *Server) destroy(ctx context.Context, in *destroyInput) (api.Run, error) {
	return s.order(ctx, targetInput{in.Env, in.Scope, in.Team}, identity.Destroy,
		release.Order{Kind: release.Destroy, Confirm: in.Body.Confirm, Reason: in.Body.Reason})
}

type planInput struct {
	Env   string `path:"env" maxLength:"32" example:"dev"`
	Scope string `path:"scope" maxLength:"32" example:"us-east-1"`
	Team  string `path:"team" maxLength:"32" example:"research"`
	Body  api.PlanOrder
}

func (s *Server) planOnly(ctx context.Context, in *planInput) (api.Run, error) {
	return s.order(ctx, targetInput{in.Env, in.Scope, in.Team}, identity.Plan,
		release.Order{Kind: release.PlanOnly, Tag: in.Body.Tag, Ref: in.Body.Ref, Repository: in.Body.Repository, Reason: in.Body.Reason})
}

type driftInput struct {
	Env   string     `path:"env" maxLength:"32" example:"dev"`
	Scope string     `path:"scope" maxLength:"32" example:"us-east-1"`
	Team  string     `path:"team" maxLength:"32" example:"research"`
	Body  *api.Drift // may be left out
}

func (s *Server) drift(ctx context.Context, in *driftInput) (api.Run, error) {
	o := release.Order{Kind: release.Drift}
	if in.Body != nil {
		o.Reason = in.Body.Reason
	}
	return s.order(ctx, targetInput{in.Env, in.Scope, in.Team}, identity.Drift, o)
}

// order asks for a run in the name of the request's person.
func (s *Server) order(ctx context.Context, in targetInput, action identity.Action, o release.Order) (api.Run, error) {
	target, err := release.ParseTarget(release.Target{Env: in.Env, Scope: in.Scope, Team: in.Team}.String())
	if err != nil {
		return api.Run{}, err
	}
	if err := s.may(ctx, action, target); err != nil {
		return api.Run{}, err
	}
	if s.cfg.Order == nil {
		return api.Run{}, fmt.Errorf("%w: this service takes no orders", release.ErrUnavailable)
	}
	o.Target, o.Actor, o.Reason = target, s.actor(ctx), strings.TrimSpace(o.Reason)
	run, err := s.cfg.Order(ctx, o)
	return s.wireRun(run), err
}
