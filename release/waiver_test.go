package release_test

import (
	"testing"
	"time"

	"github.com/waymark-cd/waymark/release"
)

func TestMatchPath(t *testing.T) {
	for _, tt := range []struct {
		pattern, file string
		want          bool
	}{
		{"stacks/**", "stacks/a/main.tf", true},
		{"stacks/**", "stacks/main.tf", true},
		{"stacks/**", "stacks", true},
		{"stacks/**", "stacksother/main.tf", false},
		{"stacks/**", "other/stacks/main.tf", false},
		{"**/main.tf", "main.tf", true},
		{"**/main.tf", "a/b/main.tf", true},
		{"**/b/**/*.tf", "a/b/main.tf", true},
		{"**/b/**/*.tf", "a/b/c/d/main.tf", true},
		{"**/b/**/*.tf", "a/c/main.tf", false},
		{"*.tf", "main.tf", true},
		{"*.tf", "a/main.tf", false},
		{"a/*/main.tf", "a/b/main.tf", true},
		{"a/*/main.tf", "a/b/c/main.tf", false},
		{"a/**.tf", "a/b/c.tf", false}, // "**" is a whole element
		{"a/[", "a/[", false},          // not well-formed
		{"", "main.tf", false},
		{"**/**/**/**/**/**/**/**/**/**/**/x", "a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a", false},
	} {
		if got := release.MatchPath(tt.pattern, tt.file); got != tt.want {
			t.Errorf("MatchPath(%q, %q) = %v", tt.pattern, tt.file, got)
		}
	}
}

func TestWaiver(t *testing.T) {
	w := release.Waiver{Rule: "R1", Paths: []string{"a/**"}, Expires: "2027-01-31"}
	if want := time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC); !w.Ends().Equal(want) {
		t.Errorf("it ends at %v, want %v", w.Ends(), want)
	}
	if !(release.Waiver{Expires: "soon"}).Ends().IsZero() {
		t.Error("a day that cannot be read has not ended")
	}
	for f, want := range map[release.Finding]bool{
		{Rule: "R1", File: "a/main.tf"}: true,
		{Rule: "R1", File: "b/main.tf"}: false,
		{Rule: "R1"}:                    false,
		{Rule: "r1", File: "a/main.tf"}: false,
		{Rule: "R12", File: "a/x.tf"}:   false,
	} {
		if w.Covers(f) != want {
			t.Errorf("covers %+v: %v", f, !want)
		}
	}
	w.Paths = nil
	if !w.Covers(release.Finding{Rule: "R1"}) {
		t.Error("a waiver for everywhere leaves out a finding without a file")
	}
	waived := release.Finding{Severity: release.SeverityError, Waived: w.Waived()}
	if waived.Counts() || len(release.Failing([]release.Finding{waived}, release.SeverityNotice)) > 0 || release.CountFindings([]release.Finding{waived}).Error > 0 {
		t.Error("a waived finding counts")
	}
}
