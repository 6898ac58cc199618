package runner_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/runner"
)

// TestStaticSaysWhatTheConfigStageSays: the same code, judged by a runner and
// without one, ends the same way with the same words.
func TestStaticSaysWhatTheConfigStageSays(t *testing.T) {
	for name, tt := range map[string]struct {
		code    string
		change  func(*release.Spec)
		outcome release.Outcome
	}{
		"good code":           {`resource "terraform_data" "x" {}`, nil, release.OutcomePassed},
		"a provider unknown":  {`resource "aws_instance" "x" {}`, func(s *release.Spec) { s.Policy.AllowedProviders = []string{"hashicorp/time"} }, release.OutcomeDenied},
		"another backend":     {`resource "terraform_data" "x" {}`, func(s *release.Spec) { s.Backend.Values["refuse"] = "yes" }, release.OutcomeDenied},
		"code that is broken": {`resource "terraform_data" {`, nil, release.OutcomeFailed},
		"no such folder":      {`resource "terraform_data" "x" {}`, func(s *release.Spec) { s.Stack.Path = "nowhere" }, release.OutcomeFailed},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "plain")
			if err := os.WriteFile(filepath.Join(s.path("run/tree"), "extra.tf"), []byte(tt.code), 0o600); err != nil {
				t.Fatal(err)
			}
			spec := s.plan()
			if tt.change != nil {
				tt.change(&spec)
			}
			alone := spec
			alone.Dir = t.TempDir()
			got, err := runner.Static(t.Context(), alone, runner.Config{PrepareBackend: localBackend})
			if err != nil {
				t.Fatal(err)
			}
			by, log := run(t, spec)
			stage := release.Stage{}
			if i := slices.IndexFunc(by.Stages, func(s release.Stage) bool { return s.Name == release.StageConfig }); i >= 0 {
				stage = by.Stages[i]
			}
			if got.Outcome != tt.outcome || got.Stages[0].State != stage.State || got.Stages[0].Summary != stage.Summary {
				t.Errorf("%s: %+v, and by a runner %+v\n%s", got.Outcome, got.Stages, stage, log)
			}
			if tt.outcome != release.OutcomePassed && (got.Reason == "" || got.Reason != by.Reason || got.Outcome != by.Outcome) {
				t.Errorf("%s %q, and by a runner %s %q", got.Outcome, got.Reason, by.Outcome, by.Reason)
			}
		})
	}
}
