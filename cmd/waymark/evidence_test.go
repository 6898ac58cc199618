package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/release"
)

// TestEvidenceOfALostApply holds what is told of an apply whose runner was killed,
// by itself and on demand.
func TestEvidenceOfALostApply(t *testing.T) {
	w := lostInApply(t)
	w.spawn()
	run := w.until("dev_us-east-1/research/1.0", release.Unknown)
	run = w.evidence(run.ID, func(*api.Evidence) bool { return true })
	e := run.Evidence
	if e.Runner != "died" || e.EventsEnd != "running" || !strings.Contains(e.LastEvent, "ran") || e.LastEventAt.IsZero() || e.Lock.Held || e.ErroredState || len(e.Unread) > 0 ||
		*e.State.SerialBefore != 0 || e.State.LineageBefore != "" {
		t.Errorf("evidence %+v, state %+v", e, e.State)
	}
	shown := w.mustCLI("runs", "show", run.ID)
	wantText(t, shown, "Evidence", "it died without a result", "break off", "there was none", "free", "resolve 1 --replan")
	var page strings.Builder
	if err := getBody(t.Context(), w.server+"/runs/"+run.ID, &page); err != nil {
		t.Fatal(err)
	}
	wantText(t, page.String(), ">Evidence</h2>", "break off")

	if err := os.RemoveAll(filepath.Join(w.dir, "data/runs")); err != nil {
		t.Fatal(err)
	}
	wantText(t, w.mustCLI("runs", "evidence", run.ID), "nobody can tell", "not read", "the folder of the run is gone")
	if code, _, errs := w.cli("runs", "resolve", run.ID, "--push-state"); code != exitConflict || !strings.Contains(errs, "no state to push") {
		t.Errorf("pushing nothing: exit %d %s", code, errs)
	}
	w.until("dev_us-east-1/research/1.0", release.Unknown)
}

// TestUnknownRunsArePlannedAgainByRule kills the runner of each run of an
// environment that plans its unknown runs again, until the service stops doing
// so and a person decides.
func TestUnknownRunsArePlannedAgainByRule(t *testing.T) {
	w := newWorld(t, "")
	w.replanRule("dev")
	w.remote.Commit(map[string]string{"main.tf": slowCode})
	w.serve()
	w.contact()
	const tag = "dev_us-east-1/research/1.0"
	w.push(tag)
	began := func(id int) string { return filepath.Join(w.dir, "data/runs", fmt.Sprint(id), "1/tree/ran") }
	for id := 1; id <= 4; id++ {
		w.await(fmt.Sprintf("the apply of run %d", id), func() bool { _, err := os.Stat(began(id)); return err == nil })
		killRunner(t, filepath.Join(w.dir, "data/runs", fmt.Sprint(id), "1/apply-1/runner.json"))
		if id < 4 {
			w.await("the next run", func() bool { return len(w.runs()) == id+1 })
			if old := w.runs()[id-1]; old.State != string(release.Failed) || !strings.Contains(old.Reason, "resolved by waymark") {
				t.Errorf("run %d is %s: %s", id, old.State, old.Reason)
			}
		}
	}
	run := w.until(tag, release.Unknown)
	w.evidence(run.ID, func(e *api.Evidence) bool { return e.Runner == "died" })
	w.mustCLI("runs", "resolve", run.ID, "--replan")
	w.await("the apply of run 5", func() bool { _, err := os.Stat(began(5)); return err == nil })
	if err := os.WriteFile(filepath.Join(filepath.Dir(began(5)), "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.until(tag, release.Succeeded)
	by := map[string]int{}
	for _, entry := range w.entries() {
		if entry.Action == "run.resolved" && entry.Details["as"] == "replan" {
			by[entry.Actor]++
		}
	}
	if by["waymark"] != 3 || by["local"] != 1 {
		t.Errorf("resolved by %v", by)
	}
}

// TestARuleFreesNoLockThatMayBeAlive has an instance die for good in the middle
// of an apply. Another plans the run again when that is certain, and leaves the
// lock of the dead one alone: who knows whether its engine still works.
func TestARuleFreesNoLockThatMayBeAlive(t *testing.T) {
	f := newFleet(t, 2, "")
	for _, r := range f.all {
		r.stop()
		r.replanRule("dev")
		r.start()
	}
	f.ask(f.all[0])
	f.hold("apply")
	f.remote.Commit(f.countsApplies("0"))
	f.push(fleetTag)
	dead := f.ranOn("1/1/tree/began")
	f.ask(f.other(dead))
	f.await("its log with all", func() bool {
		found, _ := filepath.Glob(filepath.Join(f.shared, "runs/1/1/apply-1/*.jsonl"))
		return len(found) > 0
	})
	dead.kill()
	f.until(fleetTag, release.Unknown)
	run := f.evidence("1", func(*api.Evidence) bool { return true })
	if e := run.Evidence; e.Runner != "elsewhere" || !e.Lock.Ours || !e.Lock.Alive || e.LastEvent == "" {
		t.Errorf("evidence %+v", e)
	}
	wantText(t, f.mustCLI("runs", "show", "1"), "not known dead", "break off", "only instance "+dead.instance())
	code, _, errs := f.cli("runs", "resolve", "1", "--push-state")
	if code != exitConflict || !strings.Contains(errs, dead.instance()) {
		t.Errorf("a push where the state is not: exit %d %s", code, errs)
	}
	f.await("another run", func() bool { return len(f.runs()) == 2 })
	second := f.until(fleetTag, release.Failed)
	wantText(t, second.Reason, "locked by")
	if slices.Contains(f.actions(), "state.unlocked") {
		t.Error("the lock of a runner that is alive was released")
	}
	f.letGo("apply")
	f.await("the end of the first apply", func() bool { return len(f.applied()) == 1 })
}

// instance is the id of a replica.
func (r *replica) instance() string {
	r.t.Helper()
	id, err := os.ReadFile(filepath.Join(r.dir, "data/instance-id"))
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.TrimSpace(string(id))
}
