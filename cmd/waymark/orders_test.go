package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

// waits waits until a tag's newest run waits for its time, and returns it.
func (w *world) waits(tag string) api.Run {
	w.t.Helper()
	var got api.Run
	w.await(tag+" waits for its time", func() bool {
		runs := w.runs()
		slices.Reverse(runs)
		i := slices.IndexFunc(runs, func(r api.Run) bool { return r.Tag == tag })
		if i >= 0 {
			got = runs[i]
		}
		return i >= 0 && got.WaitsForTime()
	})
	return got
}

// entry finds the newest audit entry of an action.
func (w *world) entry(action string) api.AuditEntry {
	w.t.Helper()
	all := w.entries()
	slices.Reverse(all)
	i := slices.IndexFunc(all, func(e api.AuditEntry) bool { return e.Action == action })
	if i < 0 {
		w.t.Fatalf("no entry %s", action)
	}
	return all[i]
}

func (w *world) wantExit(code int, says string, args ...string) {
	w.t.Helper()
	got, out, errs := w.cli(args...)
	if got != code || !strings.Contains(errs, says) {
		w.t.Errorf("waymark %s: exit %d, want %d and %q\n%s%s", strings.Join(args, " "), got, code, says, out, errs)
	}
}

const newYear = `
environment "calm" {
  regions = ["us-east-1"]
  window {
    cron     = "0 0 1 1 *"
    duration = "1m"
  }
}
environment "strict" {
  regions = ["us-east-1"]
  outside = "refuse"
  freeze "for-ever" {
    from   = "2020-01-01"
    to     = "2999-12-31"
    reason = "closed down"
  }
}
`

func TestRunsWaitForTheirWindow(t *testing.T) {
	w := newWorld(t, newYear)
	w.serve()
	w.contact()
	tag := func(v string) string { return "calm_us-east-1/research/" + v }
	w.push(tag("1.0"))
	r := w.waits(tag("1.0"))
	next := time.Date(time.Now().UTC().Year()+1, 1, 1, 0, 0, 0, 0, time.UTC)
	if !r.WaitUntil.Equal(next) || r.State != api.StateQueued || r.Attempt != 0 {
		t.Errorf("it waits until %v, %s, attempt %d", r.WaitUntil, r.State, r.Attempt)
	}
	wantText(t, r.Reason, "waits until "+next.Format(time.RFC3339), `window "0 0 1 1 *" for 1m (UTC)`)
	wantText(t, w.mustCLI("runs", "list"), "queued until "+next.Format(time.RFC3339))
	wantText(t, w.mustCLI("runs", "show", r.ID), "waits until", "waymark runs override "+r.ID)
	wantText(t, w.mustCLI("status"), "queued until")
	if e := w.entry("run.waiting"); e.RunID != r.ID || e.Details["until"] != next.Format(time.RFC3339) {
		t.Errorf("entry %+v", e)
	}
	w.wantExit(2, "--reason", "runs", "override", r.ID)
	w.mustCLI("runs", "override", r.ID, "--reason", "a leak")
	if r = w.until(tag("1.0"), release.Succeeded); r.OverriddenBy != "local" || !r.WaitUntil.IsZero() {
		t.Errorf("overridden: %+v", r)
	}
	if e := w.entry("run.overridden"); e.Actor != "local" || e.Reason != "a leak" || !strings.Contains(fmt.Sprint(e.Details["waited_for"]), "window") {
		t.Errorf("entry %+v", e)
	}
	w.wantExit(5, "waits for no window", "runs", "override", r.ID, "--reason", "again")

	// A line stays in its order; and other windows are judged at once at a start.
	w.push(tag("1.1"))
	w.waits(tag("1.1"))
	w.push(tag("1.2"))
	w.await("1.2 in line", func() bool { return strings.Contains(w.states()[tag("1.2")], "waits for run") })
	w.stop()
	w.configure(strings.Replace(newYear, `"0 0 1 1 *"`, `"* * * * *"`, 1))
	w.serve()
	first, second := w.until(tag("1.1"), release.Succeeded), w.until(tag("1.2"), release.Succeeded)
	if first.FinishedAt.After(second.StartedAt) {
		t.Error("the second began before the first had ended")
	}

	w.push("strict_us-east-1/research/1.0")
	wantText(t, w.refused("strict_us-east-1/research/1.0"), `freeze "for-ever": closed down`, "it may from 3000-01-01T00:00:00Z on", "new version")
}

func TestAFreezeStopsAtOnce(t *testing.T) {
	w := newWorld(t, "")
	w.serve()
	w.contact()
	w.wantExit(2, "--until", "freeze", "staging", "--reason", "x")
	w.wantExit(2, "--reason", "freeze", "staging", "--until", "1h")
	w.wantExit(2, "write an environment", "freeze", "staging/", "--until", "1h", "--reason", "x")
	w.wantExit(3, "these are configured: dev, staging", "freeze", "stagin", "--until", "1h", "--reason", "x")
	w.wantExit(2, "has passed", "freeze", "staging", "--until", "2020-01-01T00:00:00Z", "--reason", "x")

	// A plan that is approved in a freeze waits, with its approval, for the very plan.
	tag := "staging_us-east-1/research/1.0"
	w.push(tag)
	r := w.until(tag, release.AwaitingApproval)
	wantText(t, w.mustCLI("freeze", "staging", "--until", "1h", "--reason", "an incident"), "froze staging until", "waymark thaw 1")
	w.mustCLI("runs", "approve", r.ID)
	parked := w.waits(tag)
	if parked.State != api.StateAwaitingApproval || parked.PlanDigest != r.PlanDigest || len(parked.Approvals) != 1 || parked.ApproversMissing != "" {
		t.Errorf("put aside: %+v", parked)
	}
	wantText(t, parked.Reason, "freeze 1 of staging by local: an incident")
	wantText(t, w.mustCLI("freezes"), "staging", "an incident", "in force")
	w.wantExit(3, "no freeze is set for dev", "thaw", "dev")
	w.mustCLI("runs", "override", r.ID, "--reason", "nothing to do with it")
	if done := w.until(tag, release.Succeeded); done.PlanDigest != r.PlanDigest || done.Attempt != 1 {
		t.Errorf("another plan was applied: %s, %s", done.PlanDigest, r.PlanDigest)
	}

	// A thaw wakes what waits, and a time that is over does.
	next := "staging_us-east-1/risk/1.0"
	w.push(next)
	w.waits(next)
	wantText(t, w.mustCLI("thaw", "staging", "--reason", "over"), "thawed staging")
	w.mustCLI("runs", "approve", w.until(next, release.AwaitingApproval).ID)
	w.until(next, release.Succeeded)
	w.wantExit(5, "lifted by local", "thaw", "1")
	wantText(t, w.mustCLI("freezes"), "Nothing is frozen")
	wantText(t, w.mustCLI("freezes", "--all"), "lifted by local")
	w.mustCLI("freeze", "dev_us-east-1/research", "--until", "3s", "--reason", "a moment")
	w.push("dev_us-east-1/research/1.0")
	w.push("dev_us-east-1/risk/1.0")
	w.until("dev_us-east-1/risk/1.0", release.Succeeded)
	w.waits("dev_us-east-1/research/1.0")
	w.until("dev_us-east-1/research/1.0", release.Succeeded)
	for _, action := range []string{"freeze.set", "freeze.lifted", "run.waiting"} {
		w.entry(action)
	}
	wantText(t, w.mustCLI("audit", "verify"), "verified:")
}

func TestPromotionNeedsProofsAndTime(t *testing.T) {
	w := newWorld(t, `
environment "gold" {
  regions          = ["us-east-1"]
  promotes_from    = "dev"
  promotion_scopes = "all"
  soak             = "5s"
}
environment "stone" {
  regions       = ["us-east-1"]
  promotes_from = "dev"
  soak          = "1000h"
}
`)
	w.serve()
	w.contact()
	w.push("dev_us-east-1/research/1.0")
	proof := w.until("dev_us-east-1/research/1.0", release.Succeeded)
	w.push("gold_us-east-1/research/1.0")
	wantText(t, w.refused("gold_us-east-1/research/1.0"), "gold promotes from dev", "dev_eu-central-1/research (never succeeded there)")

	w.push("stone_us-east-1/research/1.0")
	r := w.waits("stone_us-east-1/research/1.0")
	wantText(t, r.Reason, "the commit must soak for 1000h", "dev_us-east-1/research since "+proof.FinishedAt.Truncate(time.Second).Format(time.RFC3339), "(run "+proof.ID+")")
	w.wantExit(4, "nobody can override", "runs", "override", r.ID, "--reason", "hurry")

	w.push("dev_eu-central-1/research/1.0")
	w.until("dev_eu-central-1/research/1.0", release.Succeeded)
	w.push("gold_us-east-1/research/1.1")
	w.waits("gold_us-east-1/research/1.1")
	w.until("gold_us-east-1/research/1.1", release.Succeeded)
	i := slices.IndexFunc(w.entries(), func(e api.AuditEntry) bool { return e.Action == "run.queued" && e.Tag == "gold_us-east-1/research/1.1" })
	wantText(t, fmt.Sprint(w.entries()[i].Details["promotion"]), "from:dev", "run:"+proof.ID, "dev_eu-central-1/research", "ripe:")
}

// versions deploys two releases whose code differs.
func versions(w *world, target string) (before, after api.Run) {
	w.push(target + "/1.0")
	before = w.until(target+"/1.0", release.Succeeded)
	w.remote.Commit(map[string]string{"main.tf": strings.Replace(worldCode, "${var.env}/", "second/${var.env}/", 1)})
	w.push(target + "/1.1")
	return before, w.until(target+"/1.1", release.Succeeded)
}

func (w *world) state(name string) string {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, "data/state/infra", name, "terraform.tfstate"))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

func TestRollback(t *testing.T) {
	w := newWorld(t, "")
	w.serve()
	w.contact()
	const target = "dev_us-east-1/research"
	w.wantExit(5, "nothing is deployed", "rollback", target, "--reason", "x")
	before, after := versions(w, target)
	w.wantExit(2, "--reason", "rollback", target)
	w.wantExit(3, "never succeeded", "rollback", target, "--to", "0.1", "--reason", "x")
	w.wantExit(5, "is what is deployed", "rollback", target, "--to", "1.1", "--reason", "x")
	wantText(t, w.mustCLI("rollback", target, "--reason", "it is slow", "--wait"), "succeeded")
	runs := w.runs()
	back := runs[len(runs)-1]
	if back.Kind != "rollback" || back.Version != "1.0" || back.Commit != before.Commit || back.CreatedBy != "local" {
		t.Errorf("rollback %+v", back)
	}
	if s := w.state("research/dev-us-east-1"); strings.Contains(s, "second/") {
		t.Errorf("the later version's state is still there:\n%s", s)
	}
	wantText(t, w.mustCLI("status", target), "1.0 (commit "+before.Commit[:10])
	if e := w.entry("run.rollback_requested"); e.Reason != "it is slow" || e.Details["from"] != "1.1" || e.Details["of"] != before.ID || e.Tag != before.Tag {
		t.Errorf("entry %+v", e)
	}
	w.wantExit(5, "before version 1.0 nothing", "rollback", target, "--reason", "x")
	w.mustCLI("rollback", target, "--to", "1.1", "--reason", "it was not that", "--wait")
	if s := w.state("research/dev-us-east-1"); !strings.Contains(s, "second/") {
		t.Error("the later version is not there again")
	}
	w.remote.DeleteTag(before.Tag)
	w.await("the deletion on record", func() bool { return slices.Contains(w.actions(), "tag.deleted") })
	w.wantExit(4, "has moved or was deleted", "rollback", target, "--to", "1.0", "--reason", "x")
	_ = after
}

func TestDestroy(t *testing.T) {
	w := newWorld(t, `
environment "scrap" {
  regions = ["us-east-1"]
  destroy = "allow"
}
`)
	w.serve()
	w.contact()
	const target = "scrap_us-east-1/research"
	w.push("dev_us-east-1/research/1.0")
	w.push(target + "/1.0")
	w.until("dev_us-east-1/research/1.0", release.Succeeded)
	deployed := w.until(target+"/1.0", release.Succeeded)
	w.wantExit(4, `set destroy = "allow"`, "destroy", "dev_us-east-1/research", "--confirm", "dev_us-east-1/research", "--reason", "x")
	w.wantExit(2, "--reason", "destroy", target, "--confirm", target)
	w.wantExit(2, "not confirmed", "destroy", target, "--reason", "x")
	w.wantExit(2, "not confirmed", "destroy", target, "--confirm", "scrap", "--reason", "x")
	w.mustCLI("destroy", target, "--confirm", target, "--reason", "the project is over")
	runs := w.runs()
	r := runs[len(runs)-1]
	w.await("the removal awaits approval", func() bool {
		r, _ = w.client.Run(t.Context(), r.ID)
		return r.State == api.StateAwaitingApproval
	})
	if r.Kind != "destroy" || r.Changes != (api.Changes{Destroy: 1}) || r.ApprovalsRequired != 1 || r.Requirements[0].Why != "environment scrap, destroy" {
		t.Errorf("the removal: %+v", r)
	}
	w.mustCLI("runs", "approve", r.ID)
	w.await("the removal", func() bool { r, _ = w.client.Run(t.Context(), r.ID); return r.Ended() })
	if s := w.state("research/scrap-us-east-1"); r.State != api.StateSucceeded || !strings.Contains(s, `"resources": []`) {
		t.Errorf("%s: %s\n%s", r.State, r.Reason, s)
	}
	wantText(t, w.mustCLI("status"), target, "destroyed")
	wantText(t, w.mustCLI("status", target), "destroyed", "1.0 (run "+r.ID)
	if got, err := w.client.Target(t.Context(), "scrap", "us-east-1", "research"); err != nil || got.Deployed != nil || got.Destroyed == nil || got.Destroyed.RunID != r.ID {
		t.Errorf("target %+v, %v", got, err)
	}
	w.wantExit(5, "is destroyed already", "destroy", target, "--confirm", target, "--reason", "x")
	w.wantExit(5, "nothing is deployed", "rollback", target, "--reason", "x")
	if e := w.entry("run.destroy_requested"); e.Actor != "local" || e.Reason != "the project is over" || e.Details["of"] != deployed.ID {
		t.Errorf("entry %+v", e)
	}
	w.push(target + "/1.1")
	w.until(target+"/1.1", release.Succeeded)
	wantText(t, w.mustCLI("status", target), "1.1 (commit")
}

func TestPlansAndDriftChangeNothing(t *testing.T) {
	w := newWorld(t, `
environment "lab" {
  regions     = ["us-east-1"]
  speculative = "any"
}
environment "vault" {
  regions     = ["us-east-1"]
  speculative = "off"
}
`)
	w.push("staging_us-east-1/research/0.9") // there before: adopted
	w.serve()
	w.contact()
	const target = "staging_us-east-1/research"
	w.push(target + "/1.0")
	held := w.until(target+"/1.0", release.AwaitingApproval)
	side := w.remote.CommitFiles("side", "main", testkit.File{Path: "more.tf", Content: "resource \"terraform_data\" \"more\" {}\n"})

	// Beside a run that awaits approval, of a tag that was never admitted.
	wantText(t, w.mustCLI("plan", target+"/0.9", "--wait"), "succeeded: planned only", "1 to add", "terraform_data.it")
	wantText(t, w.mustCLI("plan", "--ref", "main", "--target", target, "--wait"), target+" at main", "1 to add")
	w.wantExit(4, "not on branch", "plan", "--ref", "side", "--target", target)
	w.wantExit(4, "not on branch", "plan", "--ref", side, "--target", target)
	w.wantExit(4, "tags alone", "plan", "--ref", "main", "--target", "vault_us-east-1/research")
	w.wantExit(3, "no branch", "plan", "--ref", "nowhere", "--target", target)
	w.wantExit(3, "no repository shows it", "plan", target+"/7.7")
	w.wantExit(4, "us-west-2", "plan", "--ref", "main", "--target", "lab_us-west-2/research")
	w.wantExit(2, "--target", "plan", "--ref", "main")
	w.wantExit(2, "TAG, or --ref", "plan")
	wantText(t, w.mustCLI("plan", "--ref", "side", "--target", "lab_us-east-1/research", "--wait"), "2 to add", "terraform_data.more")
	if r, err := w.client.Run(t.Context(), held.ID); err != nil || r.State != api.StateAwaitingApproval {
		t.Errorf("the run that awaits approval is %s, %v", r.State, err)
	}
	if strings.Contains(w.mustCLI("status"), "lab_us-east-1") {
		t.Error("a plan put its target on the board")
	}
	w.wantExit(5, "nothing is deployed", "drift", target)
	w.mustCLI("runs", "approve", held.ID)
	w.until(target+"/1.0", release.Succeeded)
	wantText(t, w.mustCLI("drift", target, "--wait"), "nothing has changed outside")
	runs := w.runs()
	for _, r := range runs {
		if kind := release.Kind(r.Kind); !kind.ChangesTarget() {
			if left, _ := filepath.Glob(filepath.Join(w.dir, "data/runs", r.ID, "*/tfplan.age")); len(left) > 0 {
				t.Errorf("run %s left its plan: %v", r.ID, left)
			}
			w.wantExit(5, "changes nothing", "runs", "retry", r.ID)
		}
	}
	got, err := w.client.Target(t.Context(), "staging", "us-east-1", "research")
	if err != nil || got.Deployed.RunID != held.ID || got.LatestRun.ID != held.ID {
		t.Errorf("the board shows %+v, %v", got, err)
	}
	for _, action := range []string{"run.plan_requested", "run.drift_requested"} {
		w.entry(action)
	}
}

// What is there is looked at beside an unknown run, which holds its target.
func TestEvidenceIsRefreshed(t *testing.T) {
	w := lostInApply(t)
	w.spawn()
	const tag = "dev_us-east-1/research/1.0"
	run := w.until(tag, release.Unknown)
	w.evidence(run.ID, func(*api.Evidence) bool { return true })
	wantText(t, w.mustCLI("runs", "evidence", run.ID, "--refresh"), "what is there", "looks at it")
	var look api.Run
	w.await("the look", func() bool {
		run, _ = w.client.Run(t.Context(), run.ID)
		look, _ = w.client.Run(t.Context(), run.Evidence.Refresh.RunID)
		return look.Ended()
	})
	if look.Kind != "drift" || look.State != api.StateSucceeded || look.Commit != run.Commit || run.State != api.StateUnknown {
		t.Errorf("the look: %+v", look)
	}
	if r := run.Evidence.Refresh; r.Changes != look.Changes {
		t.Errorf("linked: %+v", r)
	}
	run, _ = w.client.Run(t.Context(), run.ID)
	wantText(t, w.mustCLI("runs", "show", run.ID), "as the state says (run "+look.ID+")")
	wantText(t, w.mustCLI("runs", "evidence", run.ID), "as the state says (run "+look.ID+")") // gathered again, it stays
	w.mustCLI("runs", "resolve", run.ID, "--abandon")
	w.wantExit(5, "only a run that is unknown", "runs", "evidence", run.ID, "--refresh")
}
