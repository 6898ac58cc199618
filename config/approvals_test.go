package config_test

import (
	"slices"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
)

func TestApprovalsOfAnEnvironment(t *testing.T) {
	cfg, err := config.Parse("waymark.hcl", []byte(minimal+`environment "prod" {
  regions         = ["us-east-1"]
  approvals       = 2
  approvers       = ["group:release", "alice@example.org"]
  approval_expiry = "8h"
}
environment "qa" {
  regions         = ["us-east-1"]
  approval_expiry = "0s"
}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	prod, _ := cfg.Environment("prod")
	asks := prod.Requirements()
	if len(asks) != 1 || asks[0].String() != "2 approvals from group:release or alice@example.org (environment prod)" || asks[0].Of != release.OfEnvironment {
		t.Errorf("prod asks for %v", asks)
	}
	if prod.ApprovalExpiry != 8*time.Hour {
		t.Errorf("prod's plans expire after %s", prod.ApprovalExpiry)
	}
	dev, _ := cfg.Environment("dev")
	if dev.Requirements() != nil || dev.ApprovalExpiry != 72*time.Hour {
		t.Errorf("dev asks for %v within %s", dev.Requirements(), dev.ApprovalExpiry)
	}
	if qa, _ := cfg.Environment("qa"); qa.ApprovalExpiry != 0 {
		t.Errorf("qa's plans expire after %s", qa.ApprovalExpiry)
	}
	if slices.Contains(asks[0].From, "bob") || asks[0].Accepts("bob", []string{"releases"}) || !asks[0].Accepts("bob", []string{"release"}) {
		t.Error("who may approve is not judged by user and group")
	}
}
