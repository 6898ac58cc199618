package config_test

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/config"
)

const corp = `
oidc "corp" {
  issuer    = "https://login.example.org"
  client_id = "waymark"
}
`

const partner = `
oidc "partner" {
  issuer    = "https://id.partner.example"
  client_id = "waymark"
}
`

func TestAccessAndOIDC(t *testing.T) {
	c := parse(t, minimal+corp+`
server {
  listen          = "0.0.0.0:80"
  url             = "https://waymark.example.org"
  trusted_proxies = ["10.0.0.7", "fd00::/8"]
}
access "release-managers" {
  users        = ["alice@example.org", "bob"]
  groups       = ["release"]
  role         = "approver"
  environments = ["dev"]
  teams        = ["risk"]
}
access "everyone" {
  users = ["*"]
  role  = "viewer"
}
`)
	want := []config.Access{
		{Name: "release-managers", Users: []string{"alice@example.org", "bob"}, Groups: []string{"release"}, Role: "approver",
			Environments: []string{"dev"}, Teams: []string{"risk"}},
		{Name: "everyone", Users: []string{"*"}, Role: "viewer"},
	}
	if !reflect.DeepEqual(c.Access, want) {
		t.Errorf("access %+v", c.Access)
	}
	if o := c.OIDC[0]; o.UserClaim != "email" || o.GroupsClaim != "groups" || o.ClientSecret.IsSet() || o.Issuer != "https://login.example.org" {
		t.Errorf("oidc %+v", o)
	}
	if c.OIDCPrefix("corp") != "" {
		t.Error("one issuer needs no prefix")
	}
	var proxies []netip.Prefix
	for _, s := range c.Server.TrustedProxies {
		p, err := config.ParseProxy(s)
		if err != nil {
			t.Fatal(err)
		}
		proxies = append(proxies, p)
	}
	if !proxies[0].Contains(netip.MustParseAddr("10.0.0.7")) || proxies[0].Contains(netip.MustParseAddr("10.0.0.8")) || !proxies[1].Contains(netip.MustParseAddr("fd12::1")) {
		t.Errorf("proxies %v", proxies)
	}
	both := parse(t, minimal+corp+partner+`access "a" {
  users  = ["corp/alice@example.org", "partner/*"]
  groups = ["corp/release"]
  role   = "viewer"
}`)
	if both.OIDCPrefix("corp") != "corp/" || both.OIDCPrefix("partner") != "partner/" {
		t.Error("several issuers need a prefix each")
	}
}

func TestAccessIsChecked(t *testing.T) {
	const someone = "access \"a\" {\n users = [\"u\"]\n role = \"viewer\"\n}\n"
	for name, tt := range map[string]struct{ text, says string }{
		"nobody can come in":    {someone, "there is no oidc block"},
		"nobody may anything":   {corp, "there is no access block"},
		"names nobody":          {corp + `access "a" { role = "viewer" }`, "names nobody"},
		"no role":               {corp + `access "a" { users = ["u"] }`, "access.a.role is missing"},
		"unknown role":          {corp + "access \"a\" {\n users = [\"u\"]\n role = \"approvr\"\n}", `did you mean "approver"`},
		"unknown environment":   {corp + "access \"a\" {\n users = [\"u\"]\n role = \"viewer\"\n environments = [\"prod\"]\n}", "not configured"},
		"unknown team":          {corp + "access \"a\" {\n users = [\"u\"]\n role = \"viewer\"\n teams = [\"reserch\"]\n}", `did you mean "research"`},
		"empty environments":    {corp + "access \"a\" {\n users = [\"u\"]\n role = \"admin\"\n environments = []\n}", "access.a.environments is empty"},
		"a service's own name":  {corp + "access \"a\" {\n users = [\"Token\"]\n role = \"viewer\"\n}", "the service's own callers"},
		"a prefix of approvers": {corp + "access \"a\" {\n groups = [\"group:x\"]\n role = \"viewer\"\n}", `groups = ["x"]`},
		"every group":           {corp + "access \"a\" {\n groups = [\"*\"]\n role = \"viewer\"\n}", "everyone whom the issuer lets in"},
		"a name with a space":   {corp + "access \"a\" {\n users = [\"u \"]\n role = \"viewer\"\n}", "is no person"},
		"plain http":            {strings.ReplaceAll(corp, "https://", "http://") + someone, "not reached by https"},
		"issuer with query":     {strings.ReplaceAll(corp, ".org", ".org?x=y") + someone, "is no issuer"},
		"the same issuer twice": {corp + strings.ReplaceAll(corp, `"corp"`, `"two"`) + strings.ReplaceAll(someone, `"u"`, `"corp/u"`), "are the same issuer"},
		"whose user":            {corp + partner + someone, `such as "corp/u"`},
		"another's prefix":      {corp + partner + strings.ReplaceAll(someone, `"u"`, `"crp/u"`), "whose is it"},
		"open without a url":    {corp + someone + `server { listen = "0.0.0.0:80" }`, "server.url is missing"},
		"a url with a path":     {corp + someone + `server { url = "https://a.example/waymark" }`, "without a path"},
		"no proxy":              {`server { trusted_proxies = ["proxy.example.org"] }`, "is no address"},
		"a bad claim":           {strings.Replace(corp, "}", "user_claim = \"e mail\"\n}", 1) + someone, "is no claim"},
		"a bad scope":           {strings.Replace(corp, "}", "scopes = [\"a b\"]\n}", 1) + someone, "is no scope"},
	} {
		_, err := config.Parse("waymark.hcl", []byte(minimal+tt.text), nil)
		if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := config.Parse("waymark.hcl", []byte(minimal+strings.ReplaceAll(corp, "https://login.example.org", "http://127.0.0.1:5556/dex")+someone), nil); err != nil {
		t.Errorf("an issuer on loopback: %v", err)
	}
}
