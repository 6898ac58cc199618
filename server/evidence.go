package server

import (
	"context"
	"fmt"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/release"
)

type evidenceInput struct {
	ID   string             `path:"id" maxLength:"20" doc:"Decimal id" example:"42"`
	Body *api.EvidenceOrder // may be left out
}

func (s *Server) gatherEvidence(ctx context.Context, in *evidenceInput) (api.Run, error) {
	run, err := s.run(ctx, in.ID)
	if err == nil {
		err = s.may(ctx, identity.Evidence, run.Target)
	}
	if err != nil {
		return api.Run{}, err
	}
	if s.cfg.Evidence == nil {
		return api.Run{}, fmt.Errorf("%w: this service cannot look into runs", release.ErrUnavailable)
	}
	if run, err = s.cfg.Evidence(ctx, run.ID, s.actor(ctx)); err != nil {
		return api.Run{}, err
	}
	if in.Body != nil && in.Body.Refresh {
		if s.cfg.Order == nil {
			return api.Run{}, fmt.Errorf("%w: this service takes no orders", release.ErrUnavailable)
		}
		_, err = s.cfg.Order(ctx, release.Order{Kind: release.Drift, Target: run.Target, Of: run.ID, Actor: s.actor(ctx)})
		if err == nil {
			run, err = s.cfg.Store.Run(ctx, run.ID)
		}
	}
	return s.wireRefreshed(ctx, run), err
}

// wireRefreshed is wireRun with what came of the look at what is there.
func (s *Server) wireRefreshed(ctx context.Context, r release.Run) api.Run {
	out := s.wireRun(r)
	if r.Evidence == nil || r.Evidence.Refresh == 0 {
		return out
	}
	if look, err := s.cfg.Store.Run(ctx, r.Evidence.Refresh); err == nil { // it may be forgotten
		out.Evidence.Refresh.State, out.Evidence.Refresh.Changes = string(look.State), api.Changes(look.Changes)
	}
	return out
}

// wireEvidence is nil where there is none.
func wireEvidence(e *release.Evidence) *api.Evidence {
	if e == nil {
		return nil
	}
	out := &api.Evidence{GatheredAt: utc(e.GatheredAt), Instance: e.Instance, Runner: string(e.Runner), RunnerOn: e.RunnerOn,
		EventsEnd: string(e.EventsEnd), LastEvent: e.LastEvent, LastEventAt: utc(e.LastEventAt), Lock: api.LockEvidence(e.Lock),
		ErroredState: e.ErroredState, Unread: append([]string{}, e.Unread...)}
	if e.Refresh != 0 {
		out.Refresh = &api.Refresh{RunID: release.FormatID(e.Refresh)}
	}
	mark := func(m *release.StateMark) (*int64, string) {
		if m == nil {
			return nil, ""
		}
		return &m.Serial, m.Lineage
	}
	out.State.SerialBefore, out.State.LineageBefore = mark(e.State.Before)
	out.State.SerialNow, out.State.LineageNow = mark(e.State.Now)
	out.State.SerialKept, out.State.LineageKept = mark(e.Kept)
	return out
}
