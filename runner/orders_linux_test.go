package runner_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/waymark-cd/waymark/release"
)

const rotating = `
terraform {
  required_providers {
    time = { source = "hashicorp/time" }
  }
}
resource "time_rotating" "certificate" { rotation_years = 10 }
resource "terraform_data" "name" { input = "a" }
`

// deployed plans and applies code with a real provider.
func deployed(t *testing.T) (*site, release.Spec) {
	t.Helper()
	s := newSite(t, "plain")
	if err := os.Remove(s.path("run/tree/main.tf")); err != nil {
		t.Fatal(err)
	}
	s.write("main.tf", rotating)
	spec := s.plan()
	spec.Engine.PluginDir = s.mirror()
	planned, log := run(t, spec)
	wantOutcome(t, planned, log, release.OutcomePassed)
	apply := s.apply(planned)
	apply.Engine = spec.Engine
	applied, log := run(t, apply)
	wantOutcome(t, applied, log, release.OutcomePassed)
	return s, spec
}

// another makes the Spec of another run of the same target, in a tree of its own.
func (s *site) another(spec release.Spec, kind release.Kind) release.Spec {
	s.t.Helper()
	dir, err := os.MkdirTemp(s.base, string(kind)+"-")
	if err == nil {
		err = os.RemoveAll(s.path("run"))
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.write("main.tf", rotating)
	spec.Kind, spec.Dir = kind, filepath.Join(dir, "plan")
	if !kind.ChangesTarget() {
		spec.PlanRecipient = ""
	}
	return spec
}

func TestDriftIsWhatChangedOutside(t *testing.T) {
	s, spec := deployed(t)
	same, log := run(t, s.another(spec, release.Drift))
	wantOutcome(t, same, log, release.OutcomePassed)
	if same.Plan.Changes.Any() || len(same.Plan.Drift) != 0 || stateOf(same, release.StagePlan).Summary != "no changes" {
		t.Errorf("nothing has drifted: %+v, %s", same.Plan, stateOf(same, release.StagePlan).Summary)
	}
	// The certificate has expired meanwhile: the provider takes it for gone.
	file := s.path("state/terraform.tfstate")
	state, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	year := strings.SplitN(strings.SplitN(string(state), `"rotation_rfc3339": "`, 2)[1], "-", 2)[0]
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(state), year+"-", "2020-")), 0o600); err != nil {
		t.Fatal(err)
	}
	drifted, log := run(t, s.another(spec, release.Drift))
	wantOutcome(t, drifted, log, release.OutcomePassed)
	if want := (release.Changes{Destroy: 1}); drifted.Plan.Changes != want || len(drifted.Plan.Drift) != 1 || len(drifted.Plan.Resources) != 0 ||
		drifted.Plan.Drift[0].Address != "time_rotating.certificate" || stateOf(drifted, release.StagePlan).Summary != "0 added outside, 0 changed outside, 1 gone" {
		t.Errorf("drift %+v, %q\n%s", drifted.Plan, stateOf(drifted, release.StagePlan).Summary, log)
	}
	noPlanInClear(t, s)
}

func TestOnlyWhatIsAppliedLocksTheState(t *testing.T) {
	s, spec := deployed(t)
	f, err := os.OpenFile(s.path("state/terraform.tfstate"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	spec.PlanFile = s.path("another.age")
	for kind, want := range map[release.Kind]release.Outcome{release.PlanOnly: release.OutcomePassed, release.Drift: release.OutcomePassed,
		release.Rollback: release.OutcomeFailed, release.Destroy: release.OutcomeFailed} {
		got, log := run(t, s.another(spec, kind))
		wantOutcome(t, got, log, want)
		if want == release.OutcomeFailed && !strings.Contains(got.Reason, "state lock") {
			t.Errorf("%s: %s", kind, got.Reason)
		}
	}
	if _, err := os.Stat(spec.PlanFile); !os.IsNotExist(err) {
		t.Errorf("a plan that nobody applies was kept: %v", err)
	}
	noPlanInClear(t, s)
}

func TestDestroyPlansTheRemovalOfAll(t *testing.T) {
	s, spec := deployed(t)
	planned, log := run(t, s.another(spec, release.Destroy))
	wantOutcome(t, planned, log, release.OutcomePassed)
	if want := (release.Changes{Destroy: 2}); planned.Plan.Changes != want {
		t.Errorf("planned %+v", planned.Plan.Changes)
	}
	apply := s.apply(planned)
	apply.Kind, apply.Engine, apply.Dir = release.Destroy, spec.Engine, s.path("own/remove")
	applied, log := run(t, apply)
	wantOutcome(t, applied, log, release.OutcomePassed)
	if want := (release.Changes{Destroy: 2}); applied.Applied != want {
		t.Errorf("applied %+v", applied.Applied)
	}
}
