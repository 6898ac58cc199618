package config_test

import (
	"slices"
	"strings"
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

// TestApproversWhomNobodyCanBe: they are no error, because API tokens may be made for
// any name, and whoever keeps the file is told.
func TestApproversWhomNobodyCanBe(t *testing.T) {
	const issuer = "oidc \"corp\" {\n  issuer = \"https://login.example.org\"\n  client_id = \"waymark\"\n}\n"
	const second = "oidc \"forge\" {\n  issuer = \"https://forge.example.org\"\n  client_id = \"waymark\"\n}\n"
	access := func(users, rest string) string {
		return "access \"a\" {\n  users = [" + users + "]\n" + rest + "}\n"
	}
	prod := func(approvers string) string {
		return "environment \"prod\" {\n  regions = [\"us-east-1\"]\n  approvals = 1\n  approvers = [" + approvers + "]\n}\n"
	}
	const everywhere, elsewhere = "  role = \"approver\"\n", "  role = \"admin\"\n  environments = [\"dev\"]\n"
	for name, c := range map[string]struct {
		text string
		want []string // parts of the warnings, in order
	}{
		"nobody is told apart":      {prod(`"group:release"`), nil},
		"one issuer":                {issuer + access(`"*"`, everywhere) + prod(`"group:release", "alice@example.org"`), nil},
		"the service's own callers": {issuer + access(`"*"`, everywhere) + prod(`"Token", "local", "group:token"`), []string{`approver "Token" is nobody`, `approver "local" is nobody`}},
		"two issuers": {issuer + second + access(`"corp/*"`, everywhere) + prod(`"group:release", "corp/alice@example.org", "group:forge/ops", "bob"`),
			[]string{`"group:release" is nobody who logs in: there are several oidc blocks`, `"bob" is nobody who logs in`}},
		"nobody may approve there": {issuer + access(`"*"`, elsewhere) + prod(`"group:release"`), []string{`environment "prod" needs approvals, and no access block`}},
		"of a rule": {issuer + access(`"*"`, everywhere) + "policy {\n  rule \"data-bearing\" {\n    level = \"approval\"\n    approvers = [\"token\"]\n  }\n}\n",
			[]string{`approver "token" is nobody`}},
	} {
		cfg, err := config.Parse("waymark.hcl", []byte(minimal+c.text), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := cfg.Warnings(time.Now())
		if len(got) != len(c.want) {
			t.Errorf("%s: it warns of %v", name, got)
			continue
		}
		for i, want := range c.want {
			if !strings.Contains(got[i].String(), want) || !strings.HasPrefix(got[i].String(), "waymark.hcl:") {
				t.Errorf("%s: it warns of %q, want %q", name, got[i], want)
			}
		}
	}
}
