package store_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// TestWhatIsStoredIsMasked: every text that tells of something, in both databases.
func TestWhatIsStoredIsMasked(t *testing.T) {
	hide := func(text string) string { return strings.ReplaceAll(text, "s3cret", "(masked)") }
	for name, url := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { return "sqlite://" + filepath.Join(t.TempDir(), "waymark.db") },
		"postgres": func(t *testing.T) string { return testkit.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			s, err := store.Open(t.Context(), store.Config{URL: url(t), Mask: hide})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			id := admit(t, s, "dev_us-east-1/research/1.0", func(a *store.Admission) { a.Release.Message = "message s3cret" })
			details := map[string]any{"a": "s3cret", "list": []string{"s3cret"}, "deep": map[string]any{"b": []any{"s3cret", 7}}, "n": 5}
			run, err := s.Update(t.Context(), id, store.Update{Entry: audit.Entry{Action: "run.test", Reason: "entry s3cret", Details: details},
				Change: func(r *store.Record) error {
					r.Reason = "run s3cret"
					r.SetStage(release.Stage{Name: release.StagePlan, State: release.StageFailed, Summary: "stage s3cret"})
					return nil
				}})
			if err != nil {
				t.Fatal(err)
			}
			if run.Reason != "run (masked)" || run.Stage(release.StagePlan).Summary != "stage (masked)" {
				t.Errorf("the run after it: %q, %q", run.Reason, run.Stage(release.StagePlan).Summary)
			}
			if details["a"] != "s3cret" {
				t.Error("the caller's details were changed")
			}
			kept, err := s.Run(t.Context(), id)
			if err != nil || kept.Reason != "run (masked)" {
				t.Errorf("the run: %q, %v", kept.Reason, err)
			}
			releases, _, err := s.Releases(t.Context(), store.ReleaseFilter{})
			if err != nil || releases[0].Message != "message (masked)" {
				t.Errorf("the release: %+v, %v", releases, err)
			}
			for _, e := range entries(t, s) {
				if strings.Contains(string(e.Leaf), "s3cret") {
					t.Errorf("an entry: %s", e.Leaf)
				}
			}
			verifyLog(t, s)
		})
	}
}
