package server

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/release"
)

type freezesInput struct {
	All bool `query:"all" doc:"Also the latest of those that are over"`
}

func (s *Server) listFreezes(ctx context.Context, in *freezesInput) (api.FreezeList, error) {
	if _, err := s.sight(ctx); err != nil {
		return api.FreezeList{}, err
	}
	all, err := s.cfg.Store.Freezes(ctx, in.All)
	if err != nil {
		return api.FreezeList{}, err
	}
	now, err := s.cfg.Store.Clock(ctx)
	grants := s.person(ctx).Scopes(identity.View)
	all = slices.DeleteFunc(slices.Clone(all), func(f release.Freeze) bool { return !concerns(grants, f.Where) })
	return api.FreezeList{Freezes: mapped(all, func(f release.Freeze) api.Freeze { return wireFreeze(f, now) })}, err
}

// concerns reports whether a freeze is for any target that somebody with these
// grants may see.
func concerns(grants []identity.Grant, where release.Target) bool {
	covers := func(names []string, name string) bool {
		return len(names) == 0 || name == "" || slices.Contains(names, name)
	}
	return slices.ContainsFunc(grants, func(g identity.Grant) bool {
		return covers(g.Environments, where.Env) && covers(g.Teams, where.Team)
	})
}

type freezeInput struct {
	Body api.FreezeSet
}

func (s *Server) setFreeze(ctx context.Context, in *freezeInput) (api.Freeze, error) {
	where, err := release.ParsePlace(in.Body.Where)
	if err != nil {
		return api.Freeze{}, err
	}
	if err := s.may(ctx, identity.Freeze, where); err != nil {
		return api.Freeze{}, err
	}
	if s.cfg.Environments != nil && !slices.Contains(s.cfg.Environments, where.Env) {
		return api.Freeze{}, fmt.Errorf("environment %q: %w: these are configured: %s", where.Env, release.ErrNotFound, strings.Join(s.cfg.Environments, ", "))
	}
	long, err := lasting(in.Body)
	if err != nil {
		return api.Freeze{}, err
	}
	f, err := s.cfg.Store.SetFreeze(ctx, release.Freeze{Where: where, Until: in.Body.Until, CreatedBy: s.actor(ctx), Reason: strings.TrimSpace(in.Body.Reason)}, long)
	return wireFreeze(f, f.CreatedAt), err
}

// lasting reads how long a freeze lasts; 0 where its end is told.
func lasting(f api.FreezeSet) (time.Duration, error) {
	if f.Until.IsZero() == (f.For == "") {
		return 0, fmt.Errorf("%w freeze: say until when, or for how long, one of the two", release.ErrInvalid)
	}
	if strings.TrimSpace(f.Reason) == "" {
		return 0, fmt.Errorf("%w freeze: say why, for whoever has to wait", release.ErrInvalid)
	}
	if f.For == "" {
		return 0, nil
	}
	long, err := time.ParseDuration(f.For)
	if err != nil || long <= 0 {
		return 0, fmt.Errorf("%w freeze: %.32q is no duration: write a number with a unit, such as 2h30m", release.ErrInvalid, f.For)
	}
	return long, nil
}

type thawInput struct {
	ID   string    `path:"id" maxLength:"20" doc:"Decimal id" example:"7"`
	Body *api.Thaw // may be left out
}

func (s *Server) thaw(ctx context.Context, in *thawInput) (api.Freeze, error) {
	id, err := validRunID(in.ID)
	if err != nil {
		return api.Freeze{}, fmt.Errorf("freeze %.20q: %w: an id is a number, such as those of waymark freezes", in.ID, release.ErrNotFound)
	}
	if _, err := s.sight(ctx); err != nil {
		return api.Freeze{}, err
	}
	f, err := s.cfg.Store.Freeze(ctx, id)
	if err != nil {
		return api.Freeze{}, err
	}
	action := identity.Thaw
	if f.CreatedBy != s.actor(ctx) {
		action = identity.ThawOther
	}
	if err := s.may(ctx, action, f.Where); err != nil {
		if !concerns(s.person(ctx).Scopes(identity.View), f.Where) {
			err = fmt.Errorf("freeze %d: %w", id, release.ErrNotFound)
		}
		return api.Freeze{}, err
	}
	reason := ""
	if in.Body != nil {
		reason = strings.TrimSpace(in.Body.Reason)
	}
	f, err = s.cfg.Store.LiftFreeze(ctx, id, s.actor(ctx), reason)
	return wireFreeze(f, f.LiftedAt), err
}

func wireFreeze(f release.Freeze, now time.Time) api.Freeze {
	return api.Freeze{ID: release.FormatID(f.ID), Where: f.Where.Place(), Until: utc(f.Until), Reason: f.Reason, CreatedBy: f.CreatedBy,
		CreatedAt: utc(f.CreatedAt), LiftedBy: f.LiftedBy, LiftedAt: utc(f.LiftedAt), InForce: f.InForce(now)}
}
