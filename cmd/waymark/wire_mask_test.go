package main

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/config"
)

// TestServiceLogIsMasked: whatever of the configuration is secret, wherever in a
// record it stands.
func TestServiceLogIsMasked(t *testing.T) {
	cfg, err := config.Parse("/etc/waymark/waymark.hcl", []byte(`
server {
  token    = "the-token-itself"
  database = "postgres://waymark:pass-of-db@db.example.org/waymark"
}
repository "infra" {
  url      = "https://git.example.org/infra.git"
  username = "bot"
  password = "pass-of-git"
  webhook { secret = "hook-secret" }
}
engine { env = { NEUTRAL = "value-of-env", HTTPS_PROXY = "http://user:pass-of-proxy@proxy:3128", AWS_REGION = "us-east-1" } }
runner { mask = ["corp-[0-9]+"] }
teams = ["research"]
environment "dev" { regions = ["us-east-1"] }
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	hide, err := serviceMask(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	log := slog.New(maskedHandler{slog.NewJSONHandler(&out, nil), hide}).With("always", "hook-secret").WithGroup("in")
	log.Warn("pass-of-git refused", "error", errors.New("login with pass-of-git at wJalrXUtnFEMIpK7MDENGbPxRfiCYEXAMPLEKEY"), "said", "value-of-env",
		slog.Group("g", "token", "the-token-itself"), "list", []string{"corp-12345"}, "url", "postgres://waymark:pass-of-db@db.example.org/waymark",
		"proxy", "pass-of-proxy", "host", "db.example.org", "region", "us-east-1", "run", 7)
	text := out.String()
	for _, secret := range []string{"the-token-itself", "pass-of-", "hook-secret", "value-of-env", "corp-12345", "wJalrXUtn"} {
		if strings.Contains(text, secret) {
			t.Errorf("the log shows %s: %s", secret, text)
		}
	}
	wantText(t, text, "db.example.org", "us-east-1", `"run":7`, `"always":"(masked)"`, `"in":{`)
}
