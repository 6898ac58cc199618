package reconciler

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// The functions of this file count what happens to runs, and tell of it as spans
// of the run's trace: each at one place, once it is over and on record. A span is
// part of the run's own, which whoever ends the run tells of last, or of one that
// is told in the same breath; so a trace hangs together whoever has the run.

// trace hands on spans, where anybody wants them.
func (r *Reconciler) trace(spans ...release.Span) {
	if r.Trace == nil {
		return
	}
	for _, s := range spans {
		r.Trace(s)
	}
}

// noteAdmission tells how long a tag was looked at until its run was queued. That
// lies before the run, which is not there yet meanwhile.
func (r *Reconciler) noteAdmission(ctx context.Context, a store.Admission, run int64, began time.Time) {
	if run == 0 {
		return
	}
	r.trace(release.Span{RunID: run, Key: "admission", Parent: release.SpanOfRun, Name: "admission", Start: began, End: r.Now(),
		Attributes: map[string]string{"repository": a.Release.Repository, "tag": a.Release.Tag}})
	if a.Supersede {
		overtaken := fmt.Sprintf("overtaken by run %d ", run)
		r.noteEnded(ctx, a.Release.Target, release.Superseded, func(run release.Run) bool { return strings.HasPrefix(run.Reason, overtaken) })
	}
}

// noteStopped tells of the runs that ended because their tag moved or is gone.
func (r *Reconciler) noteStopped(ctx context.Context, s store.Sight, since time.Time) {
	if s.Target == (release.Target{}) {
		return
	}
	for _, state := range []release.State{release.Denied, release.Cancelled} {
		r.noteEnded(ctx, s.Target, state, func(run release.Run) bool {
			return run.Tag == s.Tag && !run.FinishedAt.Before(since.Truncate(time.Millisecond))
		})
	}
}

// noteEnded tells of the latest runs of a target that the store ended by itself.
func (r *Reconciler) noteEnded(ctx context.Context, t release.Target, state release.State, is func(release.Run) bool) {
	runs, _, err := r.Store.Runs(ctx, store.RunFilter{Target: &t, State: state, Limit: 20})
	if err != nil {
		r.log.Warn("runs that ended cannot be counted", "target", t.String(), "error", err)
	}
	for _, run := range runs {
		if is(run) {
			r.noteEnd(store.Record{Run: run})
		}
	}
}

// noteStart tells how long a run waited before its first start.
func (r *Reconciler) noteStart(rec store.Record) {
	r.metrics.began(rec.Run)
	if rec.Attempt == 1 {
		r.trace(release.Span{RunID: rec.ID, Key: "queue", Parent: release.SpanOfRun, Name: "queue wait", Start: rec.CreatedAt, End: rec.StartedAt,
			Attributes: map[string]string{"pool": rec.Pool}})
	}
}

// noteCheckout tells of the stage that the service itself does.
func (r *Reconciler) noteCheckout(rec store.Record, err error) {
	s := rec.Stage(release.StageCheckout)
	if err != nil {
		s.State, s.FinishedAt, s.Summary = release.StageFailed, r.Now().UTC(), reason(err)
	}
	r.metrics.stage(rec.Target.Env, s, nil)
	r.trace(r.spanOf(rec, attemptDir(rec.ID, rec.Attempt), release.SpanOfRun, s))
}

// spanOf is the span of a stage.
func (r *Reconciler) spanOf(rec store.Record, in, parent string, s release.Stage) release.Span {
	span := release.Span{RunID: rec.ID, Key: filepath.Join(in, string(s.Name)), Parent: parent, Name: string(s.Name),
		Start: s.StartedAt, End: s.FinishedAt, Attributes: map[string]string{"stage.state": string(s.State), "stage.summary": s.Summary}}
	if s.State == release.StageFailed {
		span.Failed = s.Summary
	}
	return span
}

// notePhase tells of a runner that has ended: its stages, and the commands that
// ran for them, from the times that the runner wrote down.
func (r *Reconciler) notePhase(rec store.Record, ended []endedStage, res release.Result) {
	whole := release.Span{RunID: rec.ID, Key: rec.RunnerDir, Parent: release.SpanOfRun, Name: "runner",
		Attributes: map[string]string{"phase": string(res.Phase), "attempt": fmt.Sprint(rec.Attempt), "worker": r.Instance.ID}}
	var spans []release.Span
	for _, s := range ended {
		r.metrics.stage(rec.Target.Env, s.Stage, s.commands)
		if s.StartedAt.IsZero() {
			continue // it was never begun
		}
		if whole.Start.IsZero() || s.StartedAt.Before(whole.Start) {
			whole.Start = s.StartedAt
		}
		if s.FinishedAt.After(whole.End) {
			whole.End = s.FinishedAt
		}
		stage := r.spanOf(rec, rec.RunnerDir, whole.Key, s.Stage)
		spans = append(spans, stage)
		for i, c := range s.commands {
			spans = append(spans, commandSpan(stage, r.Engine.Kind, s.Name, i, c))
		}
	}
	switch {
	case len(spans) == 0:
		return // it ended before any stage
	case res.Phase == "":
		whole.Failed = "the runner is gone without a result"
	case res.Outcome != release.OutcomePassed:
		whole.Failed = res.Reason
	}
	if res.Phase != "" {
		whole.Name += " " + string(res.Phase)
	}
	r.trace(append([]release.Span{whole}, spans...)...)
}

// commandSpan is the span of one process that ran for a stage.
func commandSpan(of release.Span, engine string, stage release.StageName, i int, c release.Command) release.Span {
	name, failed := engine+" "+c.Name, ""
	if judges(stage) {
		name = "gate " + c.Name
	}
	if c.Failed {
		failed = "it did not end well: the stage and the log say why"
	}
	return release.Span{RunID: of.RunID, Key: fmt.Sprintf("%s/%d", of.Key, i), Parent: of.Key, Name: name,
		Start: c.StartedAt, End: c.FinishedAt, Failed: failed}
}

// noteApproval tells how long people took over a plan.
func (r *Reconciler) noteApproval(rec store.Record) {
	s := rec.Stage(release.StageApproval)
	r.metrics.stage(rec.Target.Env, s, nil)
	r.trace(r.spanOf(rec, attemptDir(rec.ID, rec.Attempt), release.SpanOfRun, s))
}

// noteEnd tells of a run that has ended, with what people did not decide.
func (r *Reconciler) noteEnd(rec store.Record) {
	r.metrics.end(rec.Run)
	if s := rec.Stage(release.StageApproval); s.State == release.StageFailed && !s.StartedAt.IsZero() {
		r.noteApproval(rec)
	}
	span := release.Span{RunID: rec.ID, Key: release.SpanOfRun, Name: "run " + string(rec.Kind), Start: rec.CreatedAt, End: rec.FinishedAt,
		Attributes: map[string]string{"run.kind": string(rec.Kind), "run.state": string(rec.State), "run.reason": rec.Reason,
			"run.attempt": fmt.Sprint(rec.Attempt), "repository": rec.Repository, "tag": rec.Tag, "version": rec.Version, "commit": rec.Commit,
			"target": rec.Target.String(), "env": rec.Target.Env, "scope": rec.Target.Scope, "team": rec.Target.Team, "account": rec.Account}}
	switch rec.State {
	case release.Failed, release.Denied, release.Unknown:
		span.Failed = rec.Reason
	}
	r.trace(span)
}

// leadsNow is 1 while this instance leads.
func (r *Reconciler) leadsNow() float64 {
	if r.leads.Load() {
		return 1
	}
	return 0
}
