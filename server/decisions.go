package server

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/release"
)

type decideInput struct {
	ID   string        `path:"id" maxLength:"20" doc:"Decimal id" example:"42"`
	Body *api.Decision // may be left out
}

// decide gives the handler of one action.
func (s *Server) decide(action release.VerdictAction) handler[decideInput, api.Run] {
	return func(ctx context.Context, in *decideInput) (api.Run, error) {
		var d api.Decision
		if in.Body != nil {
			d = *in.Body
		}
		run, err := s.decideRun(ctx, in.ID, action, d)
		return s.wireRun(run), err
	}
}

// decideRun carries out a decision of the request's person. What the action needs
// is asked for here; whether the run allows it is for Decide to say.
func (s *Server) decideRun(ctx context.Context, id string, action release.VerdictAction, d api.Decision) (release.Run, error) {
	p := s.person(ctx)
	v := release.Verdict{Action: action, Actor: p.Name, Emails: p.Emails, Groups: p.Groups,
		Reason: strings.TrimSpace(d.Reason), PlanDigest: d.PlanDigest, As: release.Resolution(d.As)}
	approval := action == release.Approve || action == release.Reject
	switch {
	case action == release.Reject && v.Reason == "":
		return release.Run{}, fmt.Errorf("%w: reject needs a reason", release.ErrInvalid)
	case action == release.Override && v.Reason == "":
		return release.Run{}, fmt.Errorf("%w: override needs a reason", release.ErrInvalid)
	case action == release.Resolve && v.As == "":
		return release.Run{}, fmt.Errorf("%w: resolve needs as, one of replan, accept, abandon and push_state", release.ErrInvalid)
	case action != release.Resolve && v.As != "":
		return release.Run{}, fmt.Errorf("%w: as belongs to resolve alone", release.ErrInvalid)
	case !approval && v.PlanDigest != "":
		return release.Run{}, fmt.Errorf("%w: plan_digest belongs to approve and reject alone", release.ErrInvalid)
	case s.cfg.Decide == nil:
		return release.Run{}, fmt.Errorf("%w: this service takes no decisions", release.ErrUnavailable)
	}
	run, err := s.run(ctx, id)
	if err == nil {
		err = s.may(ctx, identity.Action(action), run.Target)
	}
	if err != nil {
		return release.Run{}, err
	}
	return s.cfg.Decide(ctx, run.ID, v)
}

// decideByForm gives the handler of a form on a run's page. The guard has asked
// whether the request comes from a page of this service.
func (s *Server) decideByForm(action release.VerdictAction) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		if err := r.ParseForm(); err != nil {
			s.showError(w, r, fmt.Errorf("%w form: %w", release.ErrInvalid, err))
			return
		}
		d := api.Decision{Reason: r.PostForm.Get("reason"), PlanDigest: r.PostForm.Get("plan_digest")}
		switch {
		case d.PlanDigest == "": // whoever decides by the page has seen a plan on it
			s.showError(w, r, fmt.Errorf("%w form: it does not say which plan is meant: open the run's page again", release.ErrInvalid))
			return
		case len(d.Reason) > maxReason:
			s.showError(w, r, fmt.Errorf("%w form: the reason has more than %d characters", release.ErrInvalid, maxReason))
			return
		}
		if _, err := s.decideRun(r.Context(), id, action, d); err != nil {
			s.showError(w, r, err)
			return
		}
		http.Redirect(w, r, "/runs/"+id, http.StatusSeeOther) // an id that was not one did not come so far
	}
}

// maxReason is how long a reason may be, in bytes.
const maxReason = 1000
