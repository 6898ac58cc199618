package server

import (
	"context"
	"slices"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// handler answers one operation: parsed input in, wire type or error out.
type handler[I, T any] = func(context.Context, *I) (T, error)

type noInput struct{}

// huma reads the fields of input types by reflection, and not those of embedded
// types that are unexported: what inputs share is written out.

func (s *Server) listTargets(ctx context.Context, _ *noInput) (api.TargetList, error) {
	within, err := s.sight(ctx)
	if err != nil {
		return api.TargetList{}, err
	}
	all, err := s.cfg.Store.Targets(ctx)
	return api.TargetList{Targets: mapped(inSight(within, all), wireTarget)}, err
}

// inSight leaves the targets of these scopes.
func inSight(within []store.Scope, all []store.TargetStatus) []store.TargetStatus {
	return slices.DeleteFunc(all, func(t store.TargetStatus) bool { return !store.InSight(within, t.Target) })
}

type targetInput struct {
	Env   string `path:"env" maxLength:"32" example:"dev"`
	Scope string `path:"scope" maxLength:"32" example:"us-east-1"`
	Team  string `path:"team" maxLength:"32" example:"research"`
}

func (s *Server) getTarget(ctx context.Context, in *targetInput) (api.Target, error) {
	target, err := release.ParseTarget(release.Target{Env: in.Env, Scope: in.Scope, Team: in.Team}.String())
	if err != nil {
		return api.Target{}, err
	}
	if err := s.may(ctx, identity.View, target); err != nil {
		return api.Target{}, err
	}
	status, err := s.cfg.Store.Target(ctx, target)
	if err != nil {
		return api.Target{}, err
	}
	return wireTarget(status), nil
}

// parseFilter reads the target of a list's query; nil where none is asked for.
func parseFilter(target string) (*release.Target, error) {
	if target == "" {
		return nil, nil
	}
	t, err := release.ParseTarget(target)
	return &t, err
}

// narrowed is sight for a list that may be of one target alone: to ask for one
// that is out of sight is denied, and not answered by an empty list.
func (s *Server) narrowed(ctx context.Context, target *release.Target) ([]store.Scope, error) {
	if target != nil {
		if err := s.may(ctx, identity.View, *target); err != nil {
			return nil, err
		}
	}
	return s.sight(ctx)
}

type releasesInput struct {
	Limit    int    `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"How many, at most"`
	Cursor   string `query:"cursor" maxLength:"200" doc:"next of the page before"`
	Target   string `query:"target" maxLength:"100" doc:"Only this target" example:"dev_us-east-1/research"`
	Decision string `query:"decision" enum:"admitted,adopted,refused" doc:"Only this decision"`
}

func (s *Server) listReleases(ctx context.Context, in *releasesInput) (api.ReleaseList, error) {
	target, err := parseFilter(in.Target)
	if err != nil {
		return api.ReleaseList{}, err
	}
	within, err := s.narrowed(ctx, target)
	if err != nil {
		return api.ReleaseList{}, err
	}
	releases, next, err := s.cfg.Store.Releases(ctx, store.ReleaseFilter{Target: target, Within: within,
		Decision: release.Decision(in.Decision), Limit: in.Limit, Cursor: in.Cursor})
	return api.ReleaseList{Releases: mapped(releases, wireRelease), Next: next}, err
}

type runsInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"How many, at most"`
	Cursor string `query:"cursor" maxLength:"200" doc:"next of the page before"`
	Target string `query:"target" maxLength:"100" doc:"Only this target" example:"dev_us-east-1/research"`
	State  string `query:"state" enum:"queued,running,awaiting_approval,succeeded,failed,denied,rejected,cancelled,superseded,unknown" doc:"Only this state"`
	Kind   string `query:"kind" enum:"deploy,drift,rollback,destroy,plan" doc:"Only this kind"`
}

func (s *Server) listRuns(ctx context.Context, in *runsInput) (api.RunList, error) {
	target, err := parseFilter(in.Target)
	if err != nil {
		return api.RunList{}, err
	}
	within, err := s.narrowed(ctx, target)
	if err != nil {
		return api.RunList{}, err
	}
	runs, next, err := s.cfg.Store.Runs(ctx, store.RunFilter{Target: target, Within: within, State: release.State(in.State),
		Kind: release.Kind(in.Kind), Limit: in.Limit, Cursor: in.Cursor})
	return api.RunList{Runs: mapped(runs, s.wireRun), Next: next}, err
}

type runInput struct {
	ID string `path:"id" maxLength:"20" doc:"Decimal id" example:"42"`
}

// run reads the run that a path names, for whoever may look at its target.
func (s *Server) run(ctx context.Context, id string) (release.Run, error) {
	n, err := validRunID(id)
	if err != nil {
		return release.Run{}, err
	}
	run, err := s.cfg.Store.Run(ctx, n)
	if err == nil {
		err = s.may(ctx, identity.View, run.Target)
	}
	if err != nil {
		return release.Run{}, err
	}
	return run, nil
}

func (s *Server) getRun(ctx context.Context, in *runInput) (api.Run, error) {
	run, err := s.run(ctx, in.ID)
	return s.wireRefreshed(ctx, run), err
}

func (s *Server) getPlan(ctx context.Context, in *runInput) (api.Plan, error) {
	run, err := s.run(ctx, in.ID)
	if err != nil {
		return api.Plan{}, err
	}
	plan, err := s.cfg.Store.Plan(ctx, run.ID)
	return wirePlan(plan), err
}

func (s *Server) listFindings(ctx context.Context, in *runInput) (api.FindingList, error) {
	run, err := s.run(ctx, in.ID)
	if err != nil {
		return api.FindingList{}, err
	}
	findings, err := s.cfg.Store.Findings(ctx, run.ID)
	return api.FindingList{Findings: mapped(findings, wireFinding)}, err
}

type auditInput struct {
	After int64 `query:"after" minimum:"0" doc:"Index of the first entry"`
	Limit int   `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"How many, at most"`
}

func (s *Server) listAudit(ctx context.Context, in *auditInput) (api.AuditPage, error) {
	if err := s.may(ctx, identity.Audit, release.Target{}); err != nil {
		return api.AuditPage{}, err
	}
	entries, err := s.cfg.Store.Entries(ctx, in.After, in.Limit)
	if err != nil {
		return api.AuditPage{}, err
	}
	head, err := s.cfg.Store.AuditHead(ctx) // after the entries: it covers them all
	next := in.After
	if len(entries) > 0 {
		next = entries[len(entries)-1].Index + 1
	}
	return api.AuditPage{Entries: mapped(entries, wireEntry), Next: next, Head: api.AuditHead(head)}, err
}
