package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/server"
)

func TestTokensByCommandLine(t *testing.T) {
	w := newCLIWorld(t, func(c *server.Config) {
		c.Token, c.Environments, c.Teams = "tok", []string{"dev", "prod"}, []string{"research"}
	})
	w.env["WAYMARK_TOKEN"] = "tok"
	id := w.add("dev_us-east-1/research@1.0", release.AwaitingApproval)
	if out, _, code := w.run("tokens", "list"); code != 0 || !strings.HasPrefix(out, "No tokens.") {
		t.Errorf("none: exit %d, %q", code, out)
	}
	out, errs, code := w.run("tokens", "create", "nightly", "--user", "ci@example.org", "--role", "operator", "--env", "dev", "--team", "research", "--group", "bots", "--expires", "1d")
	secret := strings.TrimSuffix(out, "\n")
	if _, err := identity.TokenHash(secret); code != 0 || err != nil || !strings.Contains(errs, "stands for ci@example.org until") || strings.Contains(errs, secret) {
		t.Fatalf("exit %d, stdout %q, stderr %q", code, out, errs)
	}
	out, _, _ = w.run("tokens", "list")
	for _, want := range []string{"nightly", "ci@example.org", "operator (dev; research)", "valid", "never", "token"} {
		if !strings.Contains(out, want) {
			t.Errorf("the list lacks %q: %s", want, out)
		}
	}
	w.env["WAYMARK_TOKEN"] = secret
	if out, _, code := w.run("whoami"); code != 0 || !strings.HasPrefix(out, "ci@example.org, by the token nightly\ngroups: bots\nROLE") || !strings.Contains(out, "operator  dev           research") {
		t.Errorf("whoami: exit %d, %q", code, out)
	}
	out, _, _ = w.run("whoami", "-o", "json")
	var who api.Whoami
	if err := json.Unmarshal([]byte(out), &who); err != nil || who.Name != "ci@example.org" || who.Kind != "api_token" {
		t.Errorf("%v in %s", err, out)
	}
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"runs show " + id, exitDone, ""},
		{"runs approve " + id, exitRefused, "ci@example.org is operator for dev_us-east-1/research; approving needs the role approver there"},
		{"tokens list", exitRefused, "keeping tokens needs the role admin"},
		{"audit list", exitRefused, "reading the audit log"},
		{"instances", exitRefused, "the whole service"},
	} {
		if _, errs, code := w.run(strings.Fields(c.args)...); code != c.code || !strings.Contains(errs, c.says) {
			t.Errorf("%s: exit %d, %q", c.args, code, errs)
		}
	}
	w.env["WAYMARK_TOKEN"] = "tok"
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"tokens create", exitUsage, "takes NAME"},
		{"tokens create x", exitUsage, "needs --role"},
		{"tokens create x --role wizard", exitUsage, "write one of viewer"},
		{"tokens create x --role viewer --expires 2y", exitUsage, "12h or 90d"},
		{"tokens create x --role viewer --expires 367d", exitUsage, "366d"},
		{"tokens create x --role viewer --expires -5d", exitUsage, "12h or 90d"},
		{"tokens create x --role viewer --env prd", exitUsage, "it is not configured; there are dev, prod"},
		{"tokens create Token --role viewer", exitUsage, "the service's own callers"},
		{"tokens create nightly --role viewer", exitConflict, `there is a token "nightly"`},
		{"tokens revoke nightli", exitNotFound, `did you mean "nightly"`},
		{"tokens revoke nightly --reason leaked", exitDone, ""},
		{"tokens revoke nightly", exitNotFound, "not found"},
		{"tokens revoke 1", exitConflict, "has revoked token 1 already"},
	} {
		if _, errs, code := w.run(strings.Fields(c.args)...); code != c.code || !strings.Contains(errs, c.says) {
			t.Errorf("%s: exit %d, %q", c.args, code, errs)
		}
	}
	for token, says := range map[string]string{secret: `the token "nightly" was revoked`, secret[:20]: "cut or mistyped", "": "set WAYMARK_TOKEN"} {
		w.env["WAYMARK_TOKEN"] = token
		if _, errs, code := w.run("whoami"); code != exitRefused || !strings.Contains(errs, says) {
			t.Errorf("with %q: exit %d, %q", token, code, errs)
		}
	}
}

func TestLifetimes(t *testing.T) {
	for text, want := range map[string]time.Duration{"90d": 90 * 24 * time.Hour, "12h": 12 * time.Hour, "1m": time.Minute, "366d": maxLifetime, "1h30m": 90 * time.Minute,
		"": 0, "d": 0, "1.5d": 0, "59s": 0, "8785h": 0, "99999999999999d": 0, "90 d": 0} {
		if got, err := parseLifetime(text); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
}
