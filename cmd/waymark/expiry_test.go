package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

// TestAPlanThatWaitsForItsTimeExpires: nobody has to approve it, and it is as old as
// one that somebody has to.
func TestAPlanThatWaitsForItsTimeExpires(t *testing.T) {
	dir, tofu := t.TempDir(), testkit.Tool(t, "tofu")
	w := newWorld(t, fmt.Sprintf(`
environment "hasty" {
  regions         = ["us-east-1"]
  approval_expiry = "2s"
}
runner { readable = [%q, %q] }
`, dir, filepath.Dir(tofu)))
	hold, engine := filepath.Join(dir, "hold-plan"), filepath.Join(dir, "engine")
	script := fmt.Sprintf("#!/bin/sh\nif [ \"$1\" = plan ]; then while [ -e %s ]; do sleep 0.05; done; fi\nexec %s \"$@\"\n", hold, tofu)
	for file, text := range map[string]string{hold: "", engine: script} {
		if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.env["WORLD_TOFU"] = engine
	w.serve()
	w.contact()
	const tag = "hasty_us-east-1/research/1.0"
	w.push(tag)
	r := w.until(tag, release.Running)
	w.await("the plan", func() bool {
		now, err := w.client.Run(t.Context(), r.ID)
		for _, s := range now.Stages {
			if err == nil && s.Name == string(release.StagePlan) && s.State == string(release.StageRunning) {
				return true
			}
		}
		return false
	})
	w.mustCLI("freeze", "hasty", "--until", "1h", "--reason", "an incident")
	if err := os.Remove(hold); err != nil {
		t.Fatal(err)
	}
	const why = "the plan waited for longer than 2s, within which it may be applied"
	if r = w.until(tag, release.Rejected); r.Reason != why || r.ApproveBy.IsZero() || len(r.Requirements) > 0 {
		t.Errorf("the run ends: %+v", r)
	}
	if e := w.entry("run.approval_expired"); e.RunID != r.ID || e.Reason != why || e.Details["plan_digest"] != r.PlanDigest {
		t.Errorf("entry %+v", e)
	}
	w.entry("run.waiting")

	w.mustCLI("thaw", "hasty", "--reason", "over")
	w.mustCLI("runs", "retry", r.ID)
	w.until(tag, release.Succeeded)
}
