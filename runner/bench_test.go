package runner_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/waymark-cd/waymark/release"
)

// BenchmarkRun is a plan and an apply through the runner; BenchmarkByHand is
// init, plan and apply of the same code without it. Their difference is what a
// run costs on top.
func BenchmarkRun(b *testing.B) {
	for b.Loop() {
		s := newSite(b, "plain")
		planned, log := run(b, s.plan())
		wantOutcome(b, planned, log, release.OutcomePassed)
		applied, log := run(b, s.apply(planned))
		wantOutcome(b, applied, log, release.OutcomePassed)
	}
}

func BenchmarkByHand(b *testing.B) {
	for b.Loop() {
		s := newSite(b, "plain")
		spec := s.plan()
		if _, err := localBackend(spec.WorkDir, spec.Engine, spec.Backend); err != nil {
			b.Fatal(err)
		}
		for _, args := range [][]string{
			{"init", "-input=false", "-backend-config=path=" + spec.Backend.Values["path"]},
			{"plan", "-input=false", "-out=" + s.path("saved.plan")},
			{"apply", "-input=false", s.path("saved.plan")},
		} {
			cmd := exec.Command(spec.Engine.Path, args...)
			cmd.Dir, cmd.Env = spec.WorkDir, append(os.Environ(), "CHECKPOINT_DISABLE=1")
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%v: %v\n%s", args, err, out)
			}
		}
	}
}
