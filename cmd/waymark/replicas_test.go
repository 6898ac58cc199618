package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

// testHeartbeat is how soon the services of these tests declare one another dead.
const testHeartbeat = 3 * time.Second

// fleet is several services on one Postgres and one S3, each a process and a
// data folder of its own.
type fleet struct {
	*world // asks the first that is up
	all    []*replica
	engine string // a wrapper around OpenTofu
	shared string // a folder that all runs may write to
}

// replica is one of them.
type replica struct {
	*world
	kill func()
	pid  func() int
}

// newFleet starts n services. extra is added to the configuration, of which
// replaced says what stands for what.
func newFleet(t *testing.T, n int, extra string, replaced ...string) *fleet {
	t.Helper()
	return newFleetWith(t, n, testHeartbeat, extra, replaced...)
}

func newFleetWith(t *testing.T, n int, heartbeat time.Duration, extra string, replaced ...string) *fleet {
	t.Helper()
	first, _ := newAWSWorld(t, "tofu", fileLock, "")
	f := &fleet{world: first, shared: t.TempDir()}
	f.engine = filepath.Join(f.shared, "engine")
	wrapper := fmt.Sprintf("#!/bin/sh\nif [ \"$1\" = plan ]; then while [ -e %s/hold-plan ]; do sleep 0.05; done; fi\nexec %s \"$@\"\n", f.shared, first.env["WORLD_ENGINE"])
	if err := os.WriteFile(f.engine, []byte(wrapper), 0o700); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(first.file)
	if err != nil {
		t.Fatal(err)
	}
	replace := append(replaced, `data_dir       = "data"`, "data_dir = env(\"WORLD_DATA\")\n  database = env(\"WORLD_DATABASE\")\n  heartbeat = env(\"WORLD_HEARTBEAT\")",
		`shutdown_grace = "100ms"`, `shutdown_grace = "5s"`)
	config := strings.NewReplacer(replace...).Replace(string(text)) +
		fmt.Sprintf("blobs { folder = %q }\nrunner {\n  writable = [%[1]q]\n  readable = [%q]\n}\n", f.shared, filepath.Dir(first.env["WORLD_ENGINE"])) + extra
	database := testkit.Postgres(t)
	for range n {
		r := &replica{world: &world{t: t, remote: first.remote, dir: t.TempDir(), log: &syncBuffer{}, env: map[string]string{}}}
		for k, v := range first.env {
			r.env[k] = v
		}
		r.env["WORLD_ENGINE"], r.env["WORLD_DATABASE"], r.env["WORLD_DATA"] = f.engine, database, filepath.Join(r.dir, "data")
		r.env["WORLD_HEARTBEAT"] = heartbeat.String()
		r.file = filepath.Join(r.dir, "waymark.hcl")
		if err := os.WriteFile(r.file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		f.all = append(f.all, r)
		t.Cleanup(func() {
			if r.stop != nil {
				r.entriesFit()
				r.stop()
			}
			if t.Failed() {
				t.Logf("a service's log:\n%s", r.log.String())
			}
		})
		r.start()
	}
	f.ask(f.all[0])
	f.contact()
	return f
}

func (r *replica) start() { r.kill, r.pid = r.spawnPID() }

// ask makes the fleet's questions go to one service.
func (f *fleet) ask(r *replica) { f.client, f.server = r.client, r.server }

// ranOn waits until a run is at work on one of the services, and returns it.
func (f *fleet) ranOn(folder string) *replica {
	f.t.Helper()
	var found *replica
	f.await("a runner in "+folder, func() bool {
		for _, r := range f.all {
			if _, err := os.Stat(filepath.Join(r.dir, "data/runs", folder)); err == nil {
				found = r
			}
		}
		return found != nil
	})
	return found
}

func (f *fleet) other(than *replica) *replica {
	for _, r := range f.all {
		if r != than && r.stop != nil {
			return r
		}
	}
	f.t.Fatal("no other service is up")
	return nil
}

// countsApplies is code whose apply takes a while, and writes a line to a file
// that is shared when it has run.
func (f *fleet) countsApplies(seconds string) map[string]string {
	return changed(map[string]string{"modules/regional/main.tf": worldModule + `
resource "terraform_data" "slow" {
  triggers_replace = [timestamp()]
  input            = var.place
  provisioner "local-exec" {
    command = "touch began; sleep ` + seconds + `; while [ -e ` + f.shared + `/hold-apply ]; do sleep 0.05; done; echo ${self.input} >> ` + f.shared + `/applied"
  }
}
`})
}

func (f *fleet) hold(what string) {
	if err := os.WriteFile(filepath.Join(f.shared, "hold-"+what), nil, 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) letGo(what string) {
	if err := os.Remove(filepath.Join(f.shared, "hold-"+what)); err != nil {
		f.t.Fatal(err)
	}
}

// applied counts the applies that were carried out, by place.
func (f *fleet) applied() map[string]int {
	out := map[string]int{}
	text, _ := os.ReadFile(filepath.Join(f.shared, "applied"))
	for _, line := range strings.Fields(string(text)) {
		out[line]++
	}
	return out
}

const fleetTag = "dev_us-east-1/research/1.0"

// TestAPlanGoesOnElsewhere kills a worker, its runner and all, in the middle of
// a plan: another starts the run over within the heartbeat and two seconds.
func TestAPlanGoesOnElsewhere(t *testing.T) {
	f := newFleet(t, 2, "")
	f.hold("plan")
	f.push(fleetTag)
	dead := f.ranOn("1/1/plan/events.jsonl")
	f.ask(f.other(dead))
	died := time.Now()
	dead.kill()
	killRunner(t, filepath.Join(dead.dir, "data/runs/1/1/plan/runner.json"))
	f.ranOn("1/2/plan/events.jsonl")
	took := time.Since(died)
	f.letGo("plan")
	f.until(fleetTag, release.Succeeded)
	if took > testHeartbeat+2*time.Second {
		t.Errorf("the run started over after %s, want at most %s", took, testHeartbeat+2*time.Second)
	}
	wantText(t, f.mustCLI("audit", "verify"), "verified:")
	wantText(t, strings.Join(f.actions(), " "), "run.taken_over")
}

// TestAnApplyThatNobodySawTheEndOf kills a worker and its runner in the middle of
// an apply: the run is unknown, and stays so until a person decides.
func TestAnApplyThatNobodySawTheEndOf(t *testing.T) {
	f := newFleet(t, 2, "")
	f.hold("apply")
	f.remote.Commit(f.countsApplies("0"))
	f.push(fleetTag)
	dead := f.ranOn("1/1/tree/began")
	f.ask(f.other(dead))
	dead.kill()
	killRunner(t, filepath.Join(dead.dir, "data/runs/1/1/apply-1/runner.json"))
	run := f.until(fleetTag, release.Unknown)
	wantText(t, run.Reason, "shows no sign of life", "waymark runs resolve 1")
	if code, _, errs := f.cli("backend", "unlock", "dev_us-east-1/research"); code != exitConflict && code != exitRefused {
		t.Errorf("a lock of a run that is dead elsewhere, as far as anybody knows: exit %d %s", code, errs)
	}
	f.letGo("apply")
	dead.start() // its machine comes back, and knows that the runner is gone
	f.ask(dead)
	f.mustCLI("backend", "unlock", "dev_us-east-1/research")
	f.mustCLI("runs", "resolve", run.ID, "--replan")
	f.until(fleetTag, release.Succeeded)
}

// TestAStoppedWorkerIsFenced stops a worker in the middle of an apply for longer
// than a heartbeat: the run is taken from it, applied once, and what its runner
// came to is told when it is back.
func TestAStoppedWorkerIsFenced(t *testing.T) {
	f := newFleet(t, 2, "")
	f.fenced(0)
}

// TestAWorkerStoppedForAMinuteIsFenced is the same with the heartbeat that
// services have by default.
func TestAWorkerStoppedForAMinuteIsFenced(t *testing.T) {
	if testing.Short() {
		t.Skip("takes more than a minute")
	}
	f := newFleetWith(t, 2, 30*time.Second, "")
	f.fenced(time.Minute)
}

// fenced stops a worker in the middle of an apply until others took its run, and
// for at least so long.
func (f *fleet) fenced(atLeast time.Duration) {
	t := f.t
	t.Helper()
	f.hold("apply")
	f.remote.Commit(f.countsApplies("0"))
	f.push(fleetTag)
	stopped := f.ranOn("1/1/tree/began")
	f.ask(f.other(stopped))
	if err := syscall.Kill(stopped.pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	over := time.After(atLeast)
	f.until(fleetTag, release.Unknown)
	f.letGo("apply")
	f.await("the end of the apply", func() bool { return len(f.applied()) == 1 })
	<-over
	if err := syscall.Kill(stopped.pid(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	f.until(fleetTag, release.Succeeded)
	for place, n := range f.applied() {
		if n != 1 {
			t.Errorf("%s was applied %d times", place, n)
		}
	}
	for _, e := range f.entries() {
		if e.Action == "run.resolved" && e.Details["as"] == "evidence" {
			return
		}
	}
	t.Errorf("the end is not told as evidence: %v", f.actions())
}

// TestRollingUpgrade replaces three services one after the other while thirty
// applies go on: each ends well, each ran once.
func TestRollingUpgrade(t *testing.T) {
	regions := []string{"us-east-1", "us-east-2", "us-west-2", "eu-central-1", "eu-west-1", "ap-southeast-1", "ap-northeast-1", "sa-east-1"}
	quoted, err := json.Marshal(regions)
	if err != nil {
		t.Fatal(err)
	}
	f := newFleet(t, 3, "", "max_runs       = 4", "max_runs = 10", `["us-east-1", "eu-central-1"]`, string(quoted))
	f.remote.Commit(f.countsApplies("5"))
	var tags []string
	for _, region := range regions {
		for _, cell := range []string{"dev_%s/research", "dev_%s/risk", "prod_%s/research", "prod_%s/risk"} {
			tags = append(tags, fmt.Sprintf(cell, region)+"/1.0")
		}
	}
	tags = tags[:30]
	for _, tag := range tags {
		f.push(tag)
	}
	f.ranOn("1/1/tree/began")
	for _, r := range f.all {
		f.ask(f.other(r))
		r.stop()
		r.start()
	}
	for _, tag := range tags {
		f.until(tag, release.Succeeded)
	}
	applied := f.applied()
	for place, n := range applied {
		if n != 1 {
			t.Errorf("%s was applied %d times", place, n)
		}
	}
	if len(applied) != len(tags) {
		t.Errorf("%d of %d targets were applied", len(applied), len(tags))
	}
	for _, action := range f.actions() {
		if action == "run.unknown" {
			t.Error("an upgrade left a run unknown")
		}
	}
	wantText(t, f.mustCLI("audit", "verify"), "verified:")
}

// TestAPlanIsAppliedByAnotherWorker approves a plan when the worker that made it
// is gone, reads its log through another, and has the lead change hands.
func TestAPlanIsAppliedByAnotherWorker(t *testing.T) {
	f := newFleet(t, 2, "")
	f.remote.Commit(awsFiles())
	for _, r := range f.all { // one environment asks for an approval
		r.stop()
		text, err := os.ReadFile(r.file)
		if err != nil {
			t.Fatal(err)
		}
		text = []byte(strings.Replace(string(text), "environment \"prod\" {", "environment \"prod\" {\n  approvals = 1", 1))
		if err := os.WriteFile(r.file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		r.start()
	}
	f.ask(f.all[0])
	const tag = "prod_us-east-1/risk/1.0"
	f.push(tag)
	planner := f.ranOn("1/1/plan/events.jsonl")
	f.ask(f.other(planner))
	run := f.until(tag, release.AwaitingApproval)
	wantText(t, f.runLog(run.ID), "plan     == passed")
	planner.kill()
	f.mustCLI("runs", "approve", run.ID)
	f.until(tag, release.Succeeded)
	log := f.runLog(run.ID)
	wantText(t, log, "plan     == passed", "apply    == passed", "run 1 succeeded")
	f.push(fleetTag) // whoever led before, somebody does now
	f.until(fleetTag, release.Succeeded)
}

// TestEveryInstanceIsReady asks each of two instances, of which one leads, and
// then has the other take the lead.
func TestEveryInstanceIsReady(t *testing.T) {
	f := newFleet(t, 2, "")
	ready := func(r *replica, want string) {
		t.Helper()
		said := ""
		f.await("an instance that is ready and says "+want, func() bool {
			var b strings.Builder
			if err := getBody(t.Context(), r.server+"/readyz", &b); err != nil {
				t.Fatal(err)
			}
			said = b.String()
			return strings.HasPrefix(said, `{"ok":true`) && strings.Contains(said, want)
		})
		wantText(t, said, `"name":"database","ok":true`, `"name":"instance","ok":true`)
	}
	leader := f.all[0]
	if !strings.Contains(leader.log.String(), "this instance leads") {
		leader = f.all[1]
	}
	other := f.other(leader)
	ready(leader, "last looked at")
	ready(other, "looked at by the instance that leads")
	leader.kill()
	ready(other, "last looked at")
}
