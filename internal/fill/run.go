package fill

import (
	"fmt"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
)

// run is one run as it is made.
type run struct {
	id        int64
	cell      *cell
	kind      release.Kind
	state     release.State
	release   int64
	tag       string
	version   string
	object    string
	commit    string
	by        string
	reason    string
	digest    string
	created   time.Time
	began     time.Time
	ended     time.Time // of one that goes on: its newest entry
	approvals []release.Approval
	changes   release.Changes
	findings  release.FindingCount
}

// newRun decides what the next run is.
func (w *world) newRun() *run {
	r := &run{id: int64(w.runs), cell: w.pick(), by: w.person(), state: release.Succeeded}
	r.created = w.began.Add(w.step * time.Duration(w.runs))
	r.began = r.created.Add(time.Duration(200+w.random.IntN(4000)) * time.Millisecond)
	r.ended = r.began.Add(time.Duration(3000+w.random.IntN(240_000)) * time.Millisecond)
	c := r.cell
	r.release, r.tag, r.version, r.commit, r.object = c.release, c.tag, c.version, c.commit, digest("tag", int(c.release))
	switch n := w.random.IntN(1000); {
	case n < 400 || c.deployed == 0:
		r.kind = release.Deploy
		c.deploys++
		r.version = fmt.Sprintf("1.%d", c.deploys)
		r.tag = c.String() + "/" + r.version
		r.commit = w.commits[min(len(w.commits)-1, w.runs*len(w.commits)/w.size.Runs)]
		r.object = digest("tag", int(w.tags)+1)
	case n < 900:
		r.kind, r.by = release.Drift, "waymark"
	case n < 975:
		r.kind = release.PlanOnly
	case n < 998:
		r.kind = release.Rollback
	default:
		r.kind = release.Destroy
	}
	return r
}

// settle decides how a run ends, or that it has not, and what that does to its target.
func (w *world) settle(r *run) {
	c := r.cell
	changes := r.kind.ChangesTarget()
	switch n := w.random.IntN(1000); {
	case w.runs > w.size.Runs-min(openRuns, w.size.Runs/25):
		r.leaveOpen(n)
	case n < 70:
		r.state, r.reason = release.Failed, "plan: the engine failed: Error: creating EC2 Instance: operation error EC2: RunInstances, https response error StatusCode: 403"
	case n < 95:
		r.state, r.reason = release.Denied, "checkov found 2 errors"
		r.findings = release.FindingCount{Error: 2, Warning: 1}
	case n < 105 && changes:
		r.state, r.reason = release.Rejected, "not before the audit"
	case n < 125:
		r.state, r.reason = release.Cancelled, "cancelled by "+r.by
	case n < 140 && r.kind == release.Deploy:
		r.state, r.reason = release.Superseded, fmt.Sprintf("overtaken by run %d before it started", r.id+1)
	}
	if r.state == release.Succeeded || r.state == release.AwaitingApproval || r.state == release.Unknown {
		r.digest = "sha256:" + digest("plan", int(r.id)) + digest("plan", int(r.id))[:24]
		r.changes = release.Changes{Add: w.random.IntN(5), Change: w.random.IntN(3), Destroy: w.random.IntN(2)}
		r.findings = release.FindingCount{Warning: w.random.IntN(4), Notice: w.random.IntN(6)}
		if changes && c.Env == "prod" && r.state == release.Succeeded {
			r.approvals = []release.Approval{{Actor: w.person(), Groups: []string{"leads"}, PlanDigest: r.digest, At: r.began.Add(time.Minute)}}
		}
	}
	if !changes {
		return
	}
	c.last = r.id
	if r.state != release.Succeeded {
		return
	}
	if c.deployed, c.release, c.tag, c.version, c.commit = r.id, r.release, r.tag, r.version, r.commit; r.kind == release.Destroy {
		c.deployed = 0
	}
}

// leaveOpen makes a run that has not ended: one of a target holds it, the others wait.
func (r *run) leaveOpen(n int) {
	holds := r.kind.ChangesTarget()
	switch {
	case holds && r.cell.held || n < 100:
		r.state, r.began = release.Queued, time.Time{}
		if holds {
			r.reason = "waits for its turn"
		}
	case n < 500 && holds:
		r.state = release.AwaitingApproval
	case n < 520 && holds:
		r.state, r.reason = release.Unknown, "its runner is gone, and nobody saw how its apply ended"
	default:
		r.state = release.Running
	}
	r.cell.held = r.cell.held || holds && r.state != release.Queued
}

// stages gives the run's stages as far as it came.
func (r *run) stages() []release.Stage {
	if r.began.IsZero() || r.state == release.Superseded {
		return nil
	}
	names := release.StageNames()[:9] // the push of a kept state is left out
	last := len(names)
	end := release.StagePassed
	switch {
	case r.state == release.AwaitingApproval:
		last, end = 8, release.StageRunning
	case r.state == release.Running:
		last, end = 6, release.StageRunning
	case r.state == release.Rejected:
		last, end = 8, release.StageFailed
	case r.state == release.Denied:
		last, end = 4, release.StageFailed
	case r.state != release.Succeeded:
		last, end = 6, release.StageFailed
	case !r.kind.ChangesTarget():
		last = 7
	}
	var out []release.Stage
	each := r.ended.Sub(r.began) / time.Duration(last)
	for i, name := range names[:last] {
		s := release.Stage{Name: name, State: release.StagePassed, StartedAt: r.began.Add(each * time.Duration(i))}
		if i == last-1 {
			s.State = end
		}
		if s.State != release.StageRunning {
			s.FinishedAt = s.StartedAt.Add(each)
		}
		if name == release.StagePlan && r.digest != "" {
			s.Summary = fmt.Sprintf("%d to add, %d to change, %d to destroy", r.changes.Add, r.changes.Change, r.changes.Destroy)
		}
		out = append(out, s)
	}
	return out
}

const runColumns = `id, kind, repository, release_id, tag, version, object_id, commit_id, env, scope, team, account,
	state, stages, changes, findings, reason, attempt, step, runner_dir, applying, plan_digest, plan_key,
	approvals_required, approvals, outputs, cancelled_by, created_by, created_at, started_at, finished_at, lock_owner,
	worker, epoch, handed_back, pool, config_digest, ran_on, state_before, evidence, pushed_by,
	requirements, approve_by, wait_until, overridden_by, soft_gates, ref`

func (r *run) insert(b *batch) {
	ended, worker, pool, requirements, approveBy := millis(r.ended), "", release.DefaultPool, "null", int64(0)
	applying, outputs, epoch := 0, "null", int64(1)
	if !r.state.Ended() || r.state == release.Unknown {
		pool = Pool
	}
	switch r.state {
	case release.Queued, release.Running, release.AwaitingApproval:
		ended = 0
	case release.Unknown:
		applying = 1
	case release.Succeeded:
		outputs = `{"endpoint":"https://` + r.cell.Team + `.example.org","instances":"3"}`
	}
	if r.state == release.Running || r.state.Ended() {
		worker = "worker-1-0123456789abcdef"
	}
	needs := 0
	if r.cell.Env == "prod" && r.kind.ChangesTarget() {
		needs, requirements = 1, `[{"count":1,"from":["leads"],"why":"environment prod"}]`
		approveBy = millis(r.created.AddDate(farYears, 0, 0))
	}
	b.add("runs", runColumns, r.id, string(r.kind), Repository, r.release, r.tag, r.version, r.object, r.commit, r.cell.Env, r.cell.Scope, r.cell.Team, r.cell.account,
		string(r.state), text(r.stages()), text(r.changes), text(r.findings), r.reason, 1, 3, "", applying, r.digest, "",
		needs, text(r.approvals), outputs, "", r.by, millis(r.created), millis(r.began), ended, "waymark@worker-1",
		worker, epoch, 0, pool, "", "", "null", "null", "",
		requirements, approveBy, int64(0), "", "null", "")
}

// insertDetails keeps a plan and findings beside a run.
func (r *run) insertDetails(b *batch, w *world) {
	plan, findings := "", "null"
	if r.digest != "" {
		p := release.PlanSummary{Digest: r.digest, Changes: r.changes}
		for i := range r.changes.Add + r.changes.Change + r.changes.Destroy {
			x := resource(w.random.IntN(1000))
			p.Resources = append(p.Resources, release.ResourceChange{Address: x.Address, Type: x.Type, Provider: x.Provider, Action: []string{"create", "update", "delete"}[i%3],
				Attributes: []release.AttributeChange{{Path: "tags.version", Before: `"1.0"`, After: `"` + r.version + `"`}, {Path: "arn", After: "(known after apply)"}}})
		}
		plan = text(p)
	}
	if n := r.findings.Error + r.findings.Warning + r.findings.Notice; n > 0 {
		var all []release.Finding
		for i := range n {
			all = append(all, release.Finding{Source: "checkov", Rule: fmt.Sprintf("CKV_AWS_%d", 10+w.random.IntN(300)), Severity: release.SeverityWarning, File: "modules/regional/main.tf",
				Line: 10 + i, Message: "Ensure that the volume is encrypted with a key of the account", Resource: resource(i).Address})
		}
		findings = text(all)
	}
	reports := ""
	if r.kind == release.Deploy && r.digest != "" {
		reports = text(map[string]release.Report{Gate: {Format: "sarif", Content: `{"version":"2.1.0","runs":[]}`}})
	}
	b.add("run_details", "run_id, plan, findings, reports", r.id, plan, findings, reports)
}

// about fills in what an entry says of its run, as the store does.
func (r *run) about(e audit.Entry) audit.Entry {
	e.Repository, e.Target, e.RunID, e.Tag, e.ObjectID, e.Commit = Repository, r.cell.String(), r.id, r.tag, r.object, r.commit
	return e
}

// entries are those of the run's own steps.
func (r *run) entries(w *world) []audit.Entry {
	var out []audit.Entry
	step := func(at time.Time, actor, action, reason string, details map[string]any) {
		out = append(out, r.about(audit.Entry{At: at, Actor: actor, Action: action, Reason: reason, Details: details}))
	}
	switch r.kind {
	case release.Deploy:
		step(r.created, "waymark", "run.queued", "", map[string]any{"decision": "admitted", "tagger": r.by})
	default:
		step(r.created, r.by, "run."+string(r.kind)+"_requested", "", map[string]any{"kind": string(r.kind)})
	}
	if r.began.IsZero() {
		return out
	}
	step(r.began, "waymark", "run.started", "", map[string]any{"attempt": 1, "worker": worker(w.runs), "epoch": 1})
	if r.cell.Env == "prod" && r.digest != "" && r.kind.ChangesTarget() {
		step(r.began.Add(time.Minute), "waymark", "run.approval_requested", "", map[string]any{"plan_digest": r.digest, "approvals": 1,
			"changes": map[string]any{"add": r.changes.Add, "change": r.changes.Change, "destroy": r.changes.Destroy}})
	}
	for _, a := range r.approvals {
		step(a.At, a.Actor, "run.approved", "", map[string]any{"groups": a.Groups, "plan_digest": a.PlanDigest, "requested_by": r.by})
	}
	if r.kind.ChangesTarget() && (r.state == release.Succeeded || r.state == release.Unknown) {
		step(r.ended, "waymark", "run.apply_started", "", map[string]any{"plan_digest": r.digest, "attempt": 1})
	}
	if r.state.Ended() {
		actor := "waymark"
		if r.state == release.Rejected || r.state == release.Cancelled {
			actor = r.by
		}
		step(r.ended, actor, "run."+string(r.state), r.reason, map[string]any{"attempt": 1, "worker": worker(w.runs),
			"changes": map[string]any{"add": r.changes.Add, "change": r.changes.Change, "destroy": r.changes.Destroy}})
	}
	return out
}
