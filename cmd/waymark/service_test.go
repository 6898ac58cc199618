package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

func TestDemoDeploysFourTargets(t *testing.T) {
	for _, tool := range []string{"tofu", "tflint"} {
		t.Setenv("PATH", filepath.Dir(testkit.Tool(t, tool))+":"+os.Getenv("PATH"))
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"demo"}, os.Getenv, &out, &errs); code != 0 {
		t.Fatalf("exit %d\n%s%s", code, out.String(), errs.String())
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for i, target := range []string{"dev_global/research", "dev_ap-southeast-1/research", "dev_eu-central-1/research", "dev_us-east-1/research"} {
		fields := strings.Fields(lines[len(lines)-4+i])
		if len(fields) < 6 || fields[0] != target || fields[1] != "1.0" || len(fields[2]) != 10 || fields[len(fields)-1] != "succeeded" {
			t.Errorf("line %d of the board: %v", i, fields)
		}
	}
}

func TestOneTagOneApply(t *testing.T) {
	w := newWorld(t, "")
	w.push("dev_us-east-1/research/0.9") // there before: adopted
	w.serve()
	w.contact()
	w.push("dev_us-east-1/research/1.0")
	r := w.until("dev_us-east-1/research/1.0", release.Succeeded)
	if r.Changes.Add != 1 || r.Commit == "" || r.StartedAt.IsZero() || r.FinishedAt.IsZero() {
		t.Errorf("run %+v", r)
	}
	for _, s := range r.Stages {
		want := release.StagePassed
		if slices.Contains([]string{"lint", "scan", "approval"}, s.Name) {
			want = release.StageSkipped
		}
		if s.State != string(want) {
			t.Errorf("stage %s is %s: %s", s.Name, s.State, s.Summary)
		}
	}
	state, err := os.ReadFile(filepath.Join(w.dir, "data/state/infra/research/dev-us-east-1/terraform.tfstate"))
	if err != nil || !bytes.Contains(state, []byte("dev/us-east-1/research")) {
		t.Errorf("state: %v\n%s", err, state)
	}
	left, _ := filepath.Glob(filepath.Join(w.dir, "data/runs/*/*/*"))
	for _, path := range left {
		if name := filepath.Base(path); name == "tree" || name == "tfplan.age" {
			t.Errorf("%s was left behind", path)
		}
	}
	wantText(t, w.mustCLI("status"), "dev_us-east-1/research", "1.0", r.Commit[:10], "succeeded")
	wantText(t, w.mustCLI("runs", "logs", r.ID), "plan", "Creation complete")
	all := strings.Split(w.mustCLI("runs", "logs", r.ID), "\n")
	if last := strings.Split(w.mustCLI("runs", "logs", r.ID, "--tail", "2"), "\n"); !slices.Equal(last, all[len(all)-len(last):]) || len(last) != 4 { // two lines, how it ended, and nothing
		t.Errorf("the last two lines: %q", last)
	}
	if found := w.mustCLI("runs", "logs", r.ID, "--search", "CREATION complete"); strings.Count(found, "\n") == 0 || strings.Count(found, "Creation complete") != strings.Count(found, "\n") {
		t.Errorf("searched: %q", found)
	}
	wantText(t, w.mustCLI("audit", "verify"), "verified:")
	if code, _, _ := w.cli("runs", "wait", r.ID); code != 0 {
		t.Errorf("wait: exit %d", code)
	}
	want := []string{"repository.adopted", "run.queued", "run.started", "run.apply_started", "run.succeeded"}
	if got := w.actions(); !slices.Equal(got, want) {
		t.Errorf("entries %v", got)
	}

	// The same code again for a new version: nothing to do, and no apply.
	w.push("dev_us-east-1/research/1.1")
	again := w.until("dev_us-east-1/research/1.1", release.Succeeded)
	if last := again.Stages[len(again.Stages)-1]; last.Name != "apply" || last.Summary != "no changes" {
		t.Errorf("stages %+v", again.Stages)
	}
}

func TestRefusedTagsSayWhyAndRunNothing(t *testing.T) {
	w := newWorld(t, "")
	w.serve()
	w.contact()
	first := w.remote.Rev("main")
	w.remote.CommitFiles("side", "main", testkit.File{Path: "main.tf", Content: "# elsewhere"})
	w.push("dev_us-east-1/research/2.0")
	w.until("dev_us-east-1/research/2.0", release.Succeeded)

	w.remote.SetTag("dev_us-east-1/risk/1.0", first)
	w.push("dev_us-east-1/risk/1.1", "side")
	w.push("dev_us-west-2/risk/1.0")
	w.push("devv_us-east-1/risk/1.0")
	w.push("dev_us-east-1/reserch/1.0")
	w.push("dev_us-east-1/risk/one")
	w.push("dev_us-east-1/risk/$(reboot)")
	w.push("v1.0.0")
	w.push("dev_us-east-1/research/1.9")
	w.push("prod_us-east-1/risk/1.0")
	for tag, says := range map[string][]string{
		"dev_us-east-1/risk/1.0":       {"lightweight", "git tag -a"},
		"dev_us-east-1/risk/1.1":       {"not on branch", "main"},
		"dev_us-west-2/risk/1.0":       {"us-west-2", "us-east-1"},
		"devv_us-east-1/risk/1.0":      {"devv", "dev"},
		"dev_us-east-1/reserch/1.0":    {"reserch", "research"},
		"dev_us-east-1/risk/one":       {"version"},
		"dev_us-east-1/risk/$(reboot)": {"version"},
		"v1.0.0":                       {"v1.0.0"},
		"dev_us-east-1/research/1.9":   {"older", "2.0"},
		"prod_us-east-1/risk/1.0":      {"promotes from dev"},
	} {
		wantText(t, w.refused(tag), says...)
	}
	w.remote.MoveTag("dev_us-east-1/research/2.0", "side")
	wantText(t, w.refused("dev_us-east-1/research/2.0"), "moved", "new version")
	w.remote.DeleteTag("dev_us-east-1/research/2.0")
	w.await("the deletion on record", func() bool { return slices.Contains(w.actions(), "tag.deleted") })
	if n := len(w.runs()); n != 1 {
		t.Errorf("%d runs, want 1: %v", n, w.states())
	}
	wantText(t, w.mustCLI("audit", "verify"), "verified:")
}

func TestApprovalsAndVerdicts(t *testing.T) {
	w := newWorld(t, "")
	w.serve()
	w.contact()
	tag := func(v string) string { return "staging_us-east-1/research/" + v }
	w.push(tag("1.0"))
	r := w.until(tag("1.0"), release.AwaitingApproval)
	if code, _, errs := w.cli("runs", "reject", r.ID); code != 2 || !strings.Contains(errs, "reason") {
		t.Errorf("reject without a reason: exit %d %s", code, errs)
	}
	w.push(tag("1.1"))
	w.await("1.1 in line", func() bool { return strings.Contains(w.states()[tag("1.1")], "awaits approval") })
	w.push(tag("1.2")) // overtakes 1.1, which has not started
	w.until(tag("1.1"), release.Superseded)
	w.mustCLI("runs", "approve", r.ID)
	w.until(tag("1.0"), release.Succeeded)
	if code, _, _ := w.cli("runs", "approve", r.ID); code != 5 {
		t.Errorf("approving twice: exit %d, want 5", code)
	}
	// Nothing changed since 1.0, so 1.2 has nothing to approve.
	w.until(tag("1.2"), release.Succeeded)

	w.remote.Commit(map[string]string{"more.tf": `resource "terraform_data" "more" {}` + "\n"})
	w.push(tag("1.3"))
	r = w.until(tag("1.3"), release.AwaitingApproval)
	w.mustCLI("runs", "reject", r.ID, "--reason", "not today")
	wantText(t, w.until(tag("1.3"), release.Rejected).Reason, "not today")
	w.mustCLI("runs", "retry", r.ID)
	again := w.until(tag("1.3"), release.AwaitingApproval)
	if again.ID == r.ID {
		t.Error("the retry is the same run")
	}
	w.mustCLI("runs", "cancel", again.ID)
	w.until(tag("1.3"), release.Cancelled)
	if plans, _ := filepath.Glob(filepath.Join(w.dir, "data/runs/*/*/tfplan.age")); len(plans) > 0 {
		t.Errorf("plans were left behind: %v", plans)
	}
	for _, action := range []string{"run.approval_requested", "run.approved", "run.rejected", "run.retried", "run.cancelled", "run.superseded"} {
		if !slices.Contains(w.actions(), action) {
			t.Errorf("no entry %s", action)
		}
	}
}

func TestApprovedPlanIsAppliedAfterARestart(t *testing.T) {
	w := newWorld(t, "")
	w.serve()
	w.contact()
	w.push("staging_us-east-1/research/1.0")
	r := w.until("staging_us-east-1/research/1.0", release.AwaitingApproval)
	w.stop()
	w.serve()
	w.mustCLI("runs", "approve", r.ID)
	w.until("staging_us-east-1/research/1.0", release.Succeeded)
}

func TestFailuresSayWhatToDo(t *testing.T) {
	w := newWorld(t, `policy { allowed_providers = ["hashicorp/time"] }`)
	w.serve()
	w.contact()
	n := 0
	try := func(code string, state release.State, says ...string) api.Run {
		t.Helper()
		n++
		w.remote.Commit(map[string]string{"extra.tf": code})
		tag := fmt.Sprintf("dev_us-east-1/research/1.%d", n)
		w.push(tag)
		r := w.until(tag, state)
		wantText(t, r.Reason, says...)
		return r
	}
	try("resource \"terraform_data\" {", release.Failed, "extra.tf:1")
	try(`locals { x = var.nowhere }`+"\n", release.Failed, "extra.tf:1", "nowhere")
	try(`resource "aws_instance" "x" {}`+"\n", release.Denied, "hashicorp/aws")
	try("terraform {\n  backend \"s3\" {}\n}\n", release.Denied, "s3")
	failed := try(`resource "terraform_data" "broken" {
  depends_on = [terraform_data.it]
  provisioner "local-exec" { command = "echo no room; exit 3" }
}`, release.Failed, "terraform_data.broken", "exit status 3")
	state, err := os.ReadFile(filepath.Join(w.dir, "data/state/infra/research/dev-us-east-1/terraform.tfstate"))
	if err != nil || !bytes.Contains(state, []byte(`"it"`)) {
		t.Errorf("the state lost what was created: %v\n%s", err, state)
	}
	wantText(t, w.runLog(failed.ID), "no room")
	// A later release of mended code goes on from there.
	try("", release.Succeeded)
}

func TestGlobalGoesFirstAndPromotionFollows(t *testing.T) {
	w := newWorld(t, "")
	w.serve()
	w.contact()
	w.stop()
	w.push("dev_eu-central-1/research/1.0")
	w.push("dev_us-east-1/research/1.0")
	w.push("dev_global/research/1.0")
	w.serve()
	global := w.until("dev_global/research/1.0", release.Succeeded)
	for _, tag := range []string{"dev_eu-central-1/research/1.0", "dev_us-east-1/research/1.0"} {
		if r := w.until(tag, release.Succeeded); r.StartedAt.Before(global.FinishedAt) {
			t.Errorf("%s began at %s, before the global run ended at %s", tag, r.StartedAt, global.FinishedAt)
		}
	}
	w.push("prod_us-east-1/research/1.0")
	w.until("prod_us-east-1/research/1.0", release.Succeeded)
}

func TestOneCommitIsScannedOnce(t *testing.T) {
	w := newWorld(t, fmt.Sprintf("gate \"tflint\" {\n  path = %q\n}\n", testkit.Tool(t, "tflint")))
	w.remote.Commit(map[string]string{"main.tf": "terraform {\n  required_version = \">= 1.5\"\n}\n" + strings.ReplaceAll(worldCode,
		`"${var.env}/`, `"${var.release_version}/${var.env}/`)})
	w.serve()
	w.contact()
	w.push("dev_us-east-1/research/1.0")
	w.until("dev_us-east-1/research/1.0", release.Succeeded)
	w.push("dev_eu-central-1/risk/1.0")
	r := w.until("dev_eu-central-1/risk/1.0", release.Succeeded)
	lint := r.Stages[slices.IndexFunc(r.Stages, func(s api.Stage) bool { return s.Name == "lint" })]
	wantText(t, lint.Summary, "kept")
	if lint.State != "passed" {
		t.Errorf("lint %+v", lint)
	}
}

func TestServeRefusesWhatCannotWork(t *testing.T) {
	w := newWorld(t, "")
	w.serve()
	code, _, errs := w.cliServe()
	if code != 5 || !strings.Contains(errs, "in use by another waymark") {
		t.Errorf("a data folder in use: exit %d %s", code, errs)
	}
	w.stop()
	for name, tt := range map[string]struct{ extra, says string }{
		"a misspelt name":      {"polcy {}", "did you mean"},
		"no such engine":       {"gate \"checkov\" {\n  path = \"/no/such/checkov\"\n}", "checkov"},
		"out of reach":         {"environment \"qa\" {\n  regions   = [\"us-east-1\"]\n  approvals = 2\n}", "can never be reached"},
		"out of reach by name": {"environment \"qa\" {\n  regions   = [\"us-east-1\"]\n  approvals = 1\n  approvers = [\"alice@example.org\"]\n}", "knows nobody by name"},
		"two mistakes":         {"teams = 3\nbackend {}", "waymark.hcl:"},
	} {
		w.configure(tt.extra)
		if code, _, errs := w.cliServe(); code != 2 || !strings.Contains(errs, tt.says) {
			t.Errorf("%s: exit %d %s", name, code, errs)
		}
	}
}

// cliServe runs `waymark serve` where it is expected to refuse.
func (w *world) cliServe() (int, string, string) {
	w.t.Helper()
	for k, v := range w.env {
		w.t.Setenv(k, v)
	}
	return w.cli("serve", "--config", w.file)
}

func TestAnUnreachableRemoteIsSaidAndMended(t *testing.T) {
	w := newWorld(t, "")
	h := w.remote.ServeHTTP("", "")
	w.env["WORLD_REMOTE"] = h.URL
	w.serve()
	w.contact()
	h.Stop()
	ready := func() string {
		var out bytes.Buffer
		if err := getBody(t.Context(), w.server+"/readyz", &out); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	w.await("readyz to say so", func() bool { return strings.Contains(ready(), `"ok":false`) && strings.Contains(ready(), "infra") })
	w.push("dev_us-east-1/research/1.0")
	h.Start()
	w.until("dev_us-east-1/research/1.0", release.Succeeded)
	w.await("readyz to be well", func() bool { return !strings.Contains(ready(), `"ok":false`) })
}

func TestExplainAnswersWithoutAService(t *testing.T) {
	w := newWorld(t, "")
	for k, v := range w.env {
		t.Setenv(k, v)
	}
	out := w.mustCLI("explain", "dev_us-east-1/research/1.0", "--config", w.file, "--repo", w.remote.Dir)
	wantText(t, out, "research", "us-east-1", "local", "research/dev-us-east-1/terraform.tfstate", "approvals")
	var e explanation
	text := w.mustCLI("explain", "staging_us-east-1/risk/2.0", "--config", w.file, "-o", "json")
	if err := json.Unmarshal([]byte(text), &e); err != nil || !e.Valid || e.Env.Approvals != 1 || e.Targets[0].Backend.Kind != "local" {
		t.Errorf("%v %s", err, text)
	}
	code, out, _ := w.cli("explain", "dev_us-east-1/reserch/1.0", "--config", w.file)
	if code != 4 {
		t.Errorf("exit %d", code)
	}
	wantText(t, out, "refused", "dev_us-east-1/research/1.0")
	code, out, _ = w.cli("explain", "Dev_us-east-1/research/1.0", "--config", w.file)
	if code != 4 {
		t.Errorf("exit %d", code)
	}
	wantText(t, out, "dev_us-east-1/research/1.0")
}

func TestConfigCheck(t *testing.T) {
	w := newWorld(t, "nonsense = 1\n")
	for k, v := range w.env {
		t.Setenv(k, v)
	}
	if code, _, errs := w.cli("config", "check", w.file); code != 2 || !strings.Contains(errs, "waymark.hcl:") {
		t.Errorf("exit %d %s", code, errs)
	}
	w.configure("")
	wantText(t, w.mustCLI("config", "check", w.file), "is good")
}
