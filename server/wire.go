package server

import (
	"strings"
	"time"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// The functions of this file turn what the store gives into wire types: ids
// into strings, times into UTC, absent lists into empty ones.

// mapped applies f to every element; the result is never nil.
func mapped[A, B any](in []A, f func(A) B) []B {
	out := make([]B, 0, len(in))
	for _, a := range in {
		out = append(out, f(a))
	}
	return out
}

// utc leaves the zero time as it is, so that JSON leaves it out.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}

// wireRun is what is told of a run, with the id of its trace.
func (s *Server) wireRun(r release.Run) api.Run {
	out := wireRun(r)
	if s.cfg.TraceID != nil {
		out.TraceID = s.cfg.TraceID(r.ID)
	}
	return out
}

func wireRun(r release.Run) api.Run {
	return api.Run{
		ID: release.FormatID(r.ID), Kind: string(r.Kind), Repository: r.Repository,
		Tag: r.Tag, Ref: r.Ref, Version: r.Version, Commit: r.Commit,
		Target: api.TargetRef{Env: r.Target.Env, Scope: r.Target.Scope, Team: r.Target.Team, Account: r.Account},
		State:  string(r.State), Stages: mapped(r.Stages, wireStage),
		Changes: api.Changes(r.Changes), Findings: api.FindingCount(r.Findings),
		SoftGates: r.SoftGates, Reason: r.Reason, Attempt: r.Attempt, PlanDigest: r.PlanDigest,
		ApprovalsRequired: r.ApprovalsRequired, Approvals: mapped(r.Approvals, wireApproval),
		Requirements: wireRequirements(r), ApproveBy: utc(r.ApproveBy), WaitUntil: utc(r.WaitUntil), OverriddenBy: r.OverriddenBy, ApproversMissing: missing(r),
		Outputs: r.Outputs, Evidence: wireEvidence(r.Evidence), CreatedBy: r.CreatedBy,
		CreatedAt: utc(r.CreatedAt), StartedAt: utc(r.StartedAt), FinishedAt: utc(r.FinishedAt),
	}
}

func wireStage(s release.Stage) api.Stage {
	return api.Stage{Name: string(s.Name), State: string(s.State), StartedAt: utc(s.StartedAt),
		FinishedAt: utc(s.FinishedAt), Summary: s.Summary}
}

func wireApproval(a release.Approval) api.Approval {
	return api.Approval{Actor: a.Actor, PlanDigest: a.PlanDigest, At: utc(a.At)}
}

func wireRequirements(r release.Run) []api.Requirement {
	return mapped(r.Requirements, func(q release.Requirement) api.Requirement {
		return api.Requirement{Count: q.Count, From: mapped(q.From, func(s string) string { return s }), Why: q.Why,
			Missing: q.Missing(r.Approvals, r.PlanDigest)}
	})
}

// missing says what a plan that waits still needs; empty for any other run.
func missing(r release.Run) string {
	if r.State != release.AwaitingApproval {
		return ""
	}
	var open []string
	for _, q := range r.Open() {
		open = append(open, q.String())
	}
	return strings.Join(open, " and ")
}

func wireTarget(t store.TargetStatus) api.Target {
	out := api.Target{
		Env: t.Target.Env, Scope: t.Target.Scope, Team: t.Target.Team, Account: t.Account, Region: t.Region,
		Backend: api.Backend{Kind: t.Backend.Kind, Bucket: t.Backend.Bucket, Key: t.Backend.Key, Lock: t.Backend.Lock},
	}
	out.Deployed, out.Destroyed = wireDeployed(t.Deployed), wireDeployed(t.Destroyed)
	if t.Latest != nil {
		latest := wireRun(*t.Latest)
		out.LatestRun = &latest
	}
	return out
}

func wireDeployed(r *release.Run) *api.Deployed {
	if r == nil {
		return nil
	}
	return &api.Deployed{Version: r.Version, Tag: r.Tag, Commit: r.Commit, RunID: release.FormatID(r.ID), At: utc(r.FinishedAt)}
}

func wireRelease(r release.Release) api.Release {
	return api.Release{Repository: r.Repository, Tag: r.Tag, Version: r.Version, ObjectID: r.ObjectID,
		Commit: r.Commit, Tagger: r.Tagger, Message: r.Message, SeenAt: utc(r.SeenAt),
		Decision: string(r.Decision), Reason: r.Reason}
}

func wireFinding(f release.Finding) api.Finding {
	out := api.Finding{Source: f.Source, Rule: f.Rule, Severity: string(f.Severity), File: f.File, Line: f.Line,
		Message: f.Message, Resource: f.Resource, Link: f.Link, Suppressed: f.Suppressed}
	if f.Waived != (release.Waived{}) {
		waived := api.Waived(f.Waived)
		out.Waived = &waived
	}
	return out
}

func wirePlan(p release.PlanSummary) api.Plan {
	return api.Plan{Digest: p.Digest, Changes: api.Changes(p.Changes), Resources: mapped(p.Resources, wireResource),
		Outputs: mapped(p.Outputs, func(o release.OutputChange) api.OutputChange { return api.OutputChange(o) }),
		Drift:   mapped(p.Drift, wireResource), Truncated: p.Truncated}
}

func wireResource(r release.ResourceChange) api.ResourceChange {
	return api.ResourceChange{Address: r.Address, Type: r.Type, Provider: r.Provider, Action: r.Action, Reason: r.Reason,
		Attributes: mapped(r.Attributes, func(a release.AttributeChange) api.AttributeChange { return api.AttributeChange(a) })}
}

func wireEntry(e audit.Entry) api.AuditEntry {
	out := api.AuditEntry{Index: e.Index, At: utc(e.At), Actor: e.Actor, Action: e.Action, Repository: e.Repository,
		Target: e.Target, Tag: e.Tag, ObjectID: e.ObjectID, Commit: e.Commit, Reason: e.Reason,
		Details: e.Details, Leaf: string(e.Leaf)}
	if e.RunID != 0 {
		out.RunID = release.FormatID(e.RunID)
	}
	return out
}
