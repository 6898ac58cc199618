package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/server"
)

// corpConfig lets people of a real issuer release to an environment of their own.
const corpConfig = `
oidc "corp" {
  issuer        = env("WORLD_ISSUER")
  client_id     = "waymark"
  client_secret = env("WORLD_CLIENT_SECRET")
  ca_file       = env("WORLD_ISSUER_CA")
}
access "everyone" {
  users        = ["*"]
  role         = "viewer"
  environments = ["guarded"]
}
access "release-managers" {
  groups       = ["release"]
  role         = "approver"
  environments = ["guarded"]
}
access "admins" {
  users = ["root@example.org"]
  role  = "admin"
}
environment "guarded" {
  regions   = ["us-east-1"]
  approvals = 2
  approvers = ["group:release"]
}
`

// person is somebody of the issuer with a client of their own.
func (w *world) person(o *testkit.OIDC, email string, groups ...string) *api.Client {
	w.t.Helper()
	c, err := api.NewClient(api.ClientConfig{Server: w.server, Token: o.Token(map[string]any{"email": email, "sub": "sub-" + email, "groups": groups})})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// TestPeopleApproveByTheirIssuer: a real deployment that two people of a real
// issuer approve, one by the API with an ID token and one on the page, and that
// nobody else can.
func TestPeopleApproveByTheirIssuer(t *testing.T) {
	o := testkit.StartOIDC(t, true)
	w := newWorld(t, corpConfig)
	w.env["WORLD_ISSUER"], w.env["WORLD_CLIENT_SECRET"], w.env["WORLD_ISSUER_CA"] = o.URL, o.ClientSecret, o.CAFile
	w.serve()
	root := w.person(o, "root@example.org")
	w.client = root
	w.contact()
	w.push("guarded_us-east-1/research/1.0")
	run := w.until("guarded_us-east-1/research/1.0", release.AwaitingApproval)

	for who, says := range map[*api.Client]string{
		w.person(o, "staff@example.org"):          "staff@example.org is viewer for guarded_us-east-1/research; approving needs the role approver there",
		w.person(o, "root@example.org"):           "", // an admin may, and yet is no member of the group
		w.person(o, "token", "release"):           "names nobody",
		w.person(o, "", "release"):                "names nobody",
		w.person(o, "waymark", "release"):         "names nobody",
		w.person(o, "group:release", "elsewhere"): "names nobody",
	} {
		if _, err := who.Decide(t.Context(), run.ID, "approve", api.Decision{}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("approved by one who may not: %v, want %q", err, says)
		}
	}
	alice := w.person(o, "alice@example.org", "release")
	if after, err := alice.Decide(t.Context(), run.ID, "approve", api.Decision{PlanDigest: run.PlanDigest}); err != nil || after.State != "awaiting_approval" {
		t.Fatalf("alice: %+v, %v", after, err)
	}
	if _, err := alice.Decide(t.Context(), run.ID, "approve", api.Decision{}); err == nil || !strings.Contains(err.Error(), "approved") {
		t.Errorf("alice a second time: %v", err)
	}

	o.SignIn(map[string]any{"email": "bob@example.org", "sub": "bob", "groups": []string{"release"}})
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	// The browser trusts the issuer; the service does by its ca_file.
	browser := &http.Client{Jar: jar, Transport: o.Transport()}
	resp, err := browser.Get(w.server + "/login/start/corp?next=%2Fruns%2F" + run.ID)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.Request.URL.Path != "/runs/"+run.ID || !strings.Contains(string(body), "bob@example.org") {
		t.Fatalf("bob's login ended at %s with %d: %s", resp.Request.URL, resp.StatusCode, body)
	}
	form := url.Values{"plan_digest": {run.PlanDigest}}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, w.server+"/runs/"+run.ID+"/approve", strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", w.server)
	if resp, err = browser.Do(req); err != nil || resp.StatusCode != 200 {
		t.Fatalf("bob's approval: %v, %v", resp, err)
	}
	resp.Body.Close()
	done := w.until("guarded_us-east-1/research/1.0", release.Succeeded)
	var who []string
	for _, a := range done.Approvals {
		who = append(who, a.Actor)
	}
	if !slices.Equal(who, []string{"alice@example.org", "bob@example.org"}) {
		t.Errorf("approved by %q", who)
	}
	var told []string
	for _, e := range w.entries() {
		if e.Action == "run.approved" || e.Action == "session.started" {
			told = append(told, e.Actor+" "+e.Action)
		}
	}
	if want := []string{"alice@example.org run.approved", "bob@example.org session.started", "bob@example.org run.approved"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

// TestTokensOfAService: the first token is made by an admin of the issuer, and
// works for the command line of a pipeline until it is revoked.
func TestTokensOfAService(t *testing.T) {
	o := testkit.StartOIDC(t, false)
	w := newWorld(t, strings.Replace(corpConfig, `  ca_file       = env("WORLD_ISSUER_CA")`, "", 1))
	w.env["WORLD_ISSUER"], w.env["WORLD_CLIENT_SECRET"] = o.URL, o.ClientSecret
	w.serve()
	admin := o.Token(map[string]any{"email": "root@example.org"})
	out := w.mustCLI("--token", admin, "tokens", "create", "pipeline", "--role", "viewer", "--env", "guarded")
	secret := strings.TrimSpace(out)
	wantText(t, w.mustCLI("--token", secret, "whoami"), "pipeline, by the token pipeline", "viewer", "guarded")
	if code, _, errs := w.cli("--token", secret, "runs", "list", "--target", "dev_us-east-1/research"); code != exitRefused || !strings.Contains(errs, "pipeline has no role for dev_us-east-1/research") {
		t.Errorf("a target that it is not for: exit %d, %s", code, errs)
	}
	if code, _, errs := w.cli("runs", "list"); code != exitRefused || !strings.Contains(errs, "set WAYMARK_TOKEN") {
		t.Errorf("nobody: exit %d, %s", code, errs)
	}
	w.stop()
	w.serve() // tokens are in the record
	wantText(t, w.mustCLI("--token", secret, "whoami"), "pipeline")
	w.mustCLI("--token", admin, "tokens", "revoke", "pipeline")
	if code, _, errs := w.cli("--token", secret, "whoami"); code != exitRefused || !strings.Contains(errs, "was revoked") {
		t.Errorf("a revoked one: exit %d, %s", code, errs)
	}
}

// TestTwoIssuersAreKeptApart: what the configuration grants to a group of one
// issuer is nothing to a group of the same name at the other.
func TestTwoIssuersAreKeptApart(t *testing.T) {
	a, b := testkit.StartOIDC(t, false), testkit.StartOIDC(t, false)
	cfg, err := config.Parse("waymark.hcl", fmt.Appendf(nil, `
repository "infra" { url = "https://git.example.org/infra.git" }
teams = ["research"]
environment "dev" { regions = ["us-east-1"] }
oidc "corp" {
  issuer    = %q
  client_id = "waymark"
}
oidc "partner" {
  issuer    = %q
  client_id = "waymark"
}
access "release" {
  groups = ["corp/release"]
  role   = "approver"
}
access "guests" {
  users = ["partner/*"]
  role  = "viewer"
  teams = ["research"]
}
`, a.URL, b.URL), nil)
	if err != nil {
		t.Fatal(err)
	}
	web, err := withIdentity(cfg, server.Config{})
	if err != nil || len(web.Issuers) != 2 || !slices.Equal(web.Environments, []string{"dev"}) {
		t.Fatalf("%+v, %v", web, err)
	}
	at, _ := release.ParseTarget("dev_us-east-1/research")
	claims := map[string]any{"email": "eve@example.org", "groups": []string{"release", "corp/release"}}
	for i, o := range []*testkit.OIDC{a, b} {
		p, err := web.Issuers[i].Verify(t.Context(), o.Token(claims))
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"corp/eve@example.org", "partner/eve@example.org"}[i]; p.Name != want {
			t.Errorf("%s is called %s", want, p.Name)
		}
		if err := p.May(identity.Approve, at); (err == nil) != (o == a) {
			t.Errorf("%s approves: %v", p.Name, err)
		}
		if err := p.May(identity.View, at); err != nil {
			t.Error(err)
		}
		other := web.Issuers[1-i]
		if _, err := other.Verify(t.Context(), o.Token(claims)); err == nil {
			t.Errorf("%s takes a token of the other issuer", other.Name())
		}
	}
}

// TestRolesOfTheConfigurationAreThoseOfIdentity: neither package imports the other.
func TestRolesOfTheConfigurationAreThoseOfIdentity(t *testing.T) {
	for _, role := range append(identity.Roles(), "wizard") {
		text := fmt.Sprintf(`
repository "infra" { url = "https://git.example.org/infra.git" }
teams = ["research"]
environment "dev" { regions = ["us-east-1"] }
oidc "corp" {
  issuer    = "https://login.example.org"
  client_id = "waymark"
}
access "a" {
  users = ["u"]
  role  = %q
}
`, role)
		if _, err := config.Parse("waymark.hcl", []byte(text), nil); (err == nil) == (role == "wizard") {
			t.Errorf("%s: %v", role, err)
		}
	}
}
