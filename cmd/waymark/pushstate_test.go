package main

import (
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

// replanRule makes an environment of a world's configuration plan its unknown
// runs again by itself.
func (w *world) replanRule(env string) {
	w.t.Helper()
	text, err := os.ReadFile(w.file)
	if err != nil {
		w.t.Fatal(err)
	}
	changed := strings.Replace(string(text), "environment \""+env+"\" {", "environment \""+env+"\" {\n  unknown = \"replan\"\n ", 1)
	changed = strings.Replace(changed, "  regions = [\"us-east-1\", \"eu-central-1\"] }", "regions = [\"us-east-1\", \"eu-central-1\"]\n}", 1)
	if err := os.WriteFile(w.file, []byte(changed), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// evidence waits until a run's evidence is as ok wants it, and returns the run.
func (w *world) evidence(id string, ok func(*api.Evidence) bool) api.Run {
	w.t.Helper()
	var run api.Run
	w.await("evidence of run "+id, func() bool {
		var err error
		if run, err = w.client.Run(w.t.Context(), id); err != nil {
			w.t.Fatal(err)
		}
		return run.Evidence != nil && ok(run.Evidence)
	})
	return run
}

const pushTarget = "dev_us-east-1/research"

// unwritten is an installation whose second run of pushTarget applied and could
// not write its state: the session had ended.
func unwritten(t *testing.T) (*world, *testkit.AWS, api.Run) {
	t.Helper()
	w, cloud := newAWSWorld(t, "tofu", fileLock, "")
	w.replanRule("dev")
	w.serve()
	w.contact()
	w.push(pushTarget + "/1.0")
	w.until(pushTarget+"/1.0", release.Succeeded)
	w.remote.Commit(changed(map[string]string{"modules/regional/main.tf": worldModule + strings.Replace(holdsLock, "triggers_replace = [timestamp()]", "", 1)}))
	w.push(pushTarget + "/1.1")
	tree := w.dir + "/data/runs/2/1/tree"
	w.await("an apply", func() bool { _, err := os.Stat(tree + "/began"); return err == nil })
	cloud.ExpireSessions()
	if err := os.WriteFile(tree+"/go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.until(pushTarget+"/1.1", release.Unknown)
	run := w.evidence("2", func(*api.Evidence) bool { return true })
	wantText(t, run.Reason, "session of the run has expired", "kept encrypted", "--push-state")
	return w, cloud, run
}

// wantStateFiles waits until exactly these files of a run hold a state, in the
// clear or not.
func (w *world) wantStateFiles(run string, want ...string) {
	w.t.Helper()
	w.await(fmt.Sprintf("run %s to keep %v", run, want), func() bool {
		var found []string
		for _, pattern := range []string{"*/errored.tfstate*", "*/*/errored.tfstate*", "*/*/*.private"} {
			paths, err := filepath.Glob(filepath.Join(w.dir, "data/runs", run, pattern))
			if err != nil {
				w.t.Fatal(err)
			}
			for _, path := range paths {
				found = append(found, filepath.Base(path))
			}
		}
		return slices.Equal(found, want)
	})
}

// TestAStateThatCouldNotBeWrittenIsPushed has an apply make a resource that no
// state knows. The state is kept encrypted, the run waits for a person although
// its environment plans again by itself, and a push settles it.
func TestAStateThatCouldNotBeWrittenIsPushed(t *testing.T) {
	w, cloud, run := unwritten(t)
	e := run.Evidence
	if !e.ErroredState || e.Runner != "ended" || e.EventsEnd != "failed" || len(e.Unread) > 0 || !e.Lock.Held || !e.Lock.Ours || e.Lock.Alive ||
		*e.State.SerialBefore != *e.State.SerialNow || *e.State.SerialKept <= *e.State.SerialNow || e.State.LineageKept != e.State.LineageNow || e.State.LineageNow != e.State.LineageBefore {
		t.Errorf("evidence %+v", e)
	}
	w.wantStateFiles("2", "errored.tfstate.age")
	wantText(t, w.mustCLI("runs", "show", run.ID), "Evidence", "it ended by itself", "this run's, dead", "lineage "+e.State.LineageNow, "could not write it", "--push-state")
	before, _ := cloud.Object("org-awesome-tf-state-dev", stateKey)

	for name, c := range map[string]struct{ from, to string }{
		"another lineage": {e.State.LineageNow, "11111111-2222-3333-4444-555555555555"},
		"a newer state":   {fmt.Sprintf(`"serial":%d,`, *e.State.SerialNow), `"serial":99,`},
	} {
		text := strings.ReplaceAll(strings.ReplaceAll(string(before), `"serial": `, `"serial":`), c.from, c.to)
		cloud.PutObject("org-awesome-tf-state-dev", stateKey, []byte(text))
		code, _, errs := w.cli("runs", "resolve", run.ID, "--push-state")
		if code != exitRefused {
			t.Errorf("a push over %s: exit %d", name, code)
		}
		wantText(t, errs, "lineage "+e.State.LineageKept, fmt.Sprintf("serial %d", *e.State.SerialKept), strings.Trim(c.to, `",:serial`))
		w.until(pushTarget+"/1.1", release.Unknown)
	}
	cloud.PutObject("org-awesome-tf-state-dev", stateKey, before)

	w.mustCLI("runs", "resolve", run.ID, "--push-state", "--reason", "looked at it")
	run = w.until(pushTarget+"/1.1", release.Succeeded)
	wantText(t, run.Reason, "resolved by local")
	after, _ := cloud.Object("org-awesome-tf-state-dev", stateKey)
	wantText(t, string(after), "terraform_data", `"slow"`, e.State.LineageNow)
	wantText(t, w.runLog(run.ID), "push     == passed")
	if last := run.Stages[len(run.Stages)-1]; last.Name != "push" || last.State != "passed" {
		t.Errorf("stages %+v", run.Stages)
	}
	w.wantStateFiles("2")
	w.wantInOrder("run.unknown", "run.evidence", "state.unlocked", "run.push_requested", "run.push_started", "run.resolved")
	if n := len(w.runs()); n != 2 {
		t.Errorf("%d runs, want 2: a rule planned again what only a person can settle", n)
	}
	w.push(pushTarget + "/1.2") // nothing is left to do
	again := w.until(pushTarget+"/1.2", release.Succeeded)
	if again.Changes != (api.Changes{}) {
		t.Errorf("the next run changes %+v", again.Changes)
	}
	wantText(t, w.mustCLI("audit", "verify"), "verified:")
}

// wantInOrder holds that the audit log has these actions, in this order.
func (w *world) wantInOrder(actions ...string) {
	w.t.Helper()
	all := w.actions()
	for _, want := range actions {
		i := slices.Index(all, want)
		if i < 0 {
			w.t.Errorf("%s is not in its place in %v", want, w.actions())
			return
		}
		all = all[i+1:]
	}
}

// TestAPushThatFailsLeavesTheRunUnknown has the push of a state fail, and then be
// asked for again and outlive the service that began it.
func TestAPushThatFailsLeavesTheRunUnknown(t *testing.T) {
	w, cloud, run := unwritten(t)
	cloud.Fail("s3", "PutObject", "AccessDenied", 403, 1)
	w.mustCLI("runs", "resolve", run.ID, "--push-state")
	w.await("the end of the push", func() bool {
		return strings.Contains(w.states()[pushTarget+"/1.1"], "unknown the kept state was not pushed: push")
	})
	w.wantStateFiles("2", "errored.tfstate.age")
	w.mustCLI("runs", "resolve", run.ID, "--push-state")
	w.stop()
	w.serve()
	w.until(pushTarget+"/1.1", release.Succeeded)
	for _, args := range [][]string{{"runs", "resolve", run.ID, "--push-state"}, {"runs", "evidence", run.ID}} {
		if code, _, errs := w.cli(args...); code != exitConflict {
			t.Errorf("%v of a run that is settled: exit %d %s", args, code, errs)
		}
	}
}

// TestTheFirstStateOfATargetIsPushed has the first apply of all for a target fail
// to write its state, which has no lineage yet.
func TestTheFirstStateOfATargetIsPushed(t *testing.T) {
	w, cloud := newAWSWorld(t, "tofu", fileLock, "")
	w.remote.Commit(changed(map[string]string{"modules/regional/main.tf": worldModule + holdsLock}))
	w.serve()
	w.contact()
	w.push(pushTarget + "/1.0")
	tree := w.dir + "/data/runs/1/1/tree"
	w.await("an apply", func() bool { _, err := os.Stat(tree + "/began"); return err == nil })
	cloud.ExpireSessions()
	if err := os.WriteFile(tree+"/go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	run := w.until(pushTarget+"/1.0", release.Unknown)
	w.evidence(run.ID, func(e *api.Evidence) bool { return e.ErroredState })
	wantText(t, w.mustCLI("runs", "show", run.ID), "there was none", "the first of its target")
	w.mustCLI("runs", "resolve", run.ID, "--push-state")
	w.until(pushTarget+"/1.0", release.Succeeded)
	state, ok := cloud.Object("org-awesome-tf-state-dev", stateKey)
	if !ok {
		t.Fatal("there is no state")
	}
	wantText(t, string(state), `"slow"`, `"lineage"`)
}
