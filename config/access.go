package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/waymark-cd/waymark/release"
)

// Access gives a role to people, and says where it holds. Empty environments or
// teams are all.
type Access struct {
	Name         string
	Users        []string // names as the issuer gives them; "*" is everyone who logs in
	Groups       []string
	Role         string
	Environments []string
	Teams        []string
}

// OIDC is an issuer of OpenID Connect by which people log in.
type OIDC struct {
	Name         string
	Issuer       string // URL, exactly as its ID tokens say it
	ClientID     string
	ClientSecret Secret // empty: a public client
	UserClaim    string
	GroupsClaim  string
	Audiences    []string // whose ID tokens the API takes beside those for ClientID
	Scopes       []string // beyond openid, email and profile
	CAFile       string   // absolute path, or empty
}

// everyone is the name of all whom an issuer lets in.
const everyone = "*"

// OIDCPrefix is what the names of an issuer's users and groups begin with: where
// there are several issuers, each has its own, so that no name of one passes for
// that of another.
func (c *Config) OIDCPrefix(name string) string {
	if len(c.OIDC) < 2 {
		return ""
	}
	return name + "/"
}

func accessBlock() block {
	return block{
		name: "access", label: "name", many: true, checkLabel: checkName,
		in: within(func(c *Config, name string) any {
			return added(&c.Access, Access{Name: name})
		}),
		about: "What people may do who log in through an `oidc` block. Roles add up; whom no block names may do nothing. See [Identity](identity.md).",
		fields: []field{
			{name: "users", at: of(func(a *Access) any { return &a.Users }), check: checkPerson, unset: "nobody", example: `["alice@example.org"]`,
				meaning: "People by name, as `user_claim` gives it. `\"*\"` is everyone whom the issuer lets in. Where there are several `oidc` blocks a name begins with that of its block: `\"corp/alice@example.org\"`, `\"corp/*\"`."},
			{name: "groups", at: of(func(a *Access) any { return &a.Groups }), check: checkGroup, unset: "none", example: `["release"]`,
				meaning: "Groups whose members are meant, as `groups_claim` gives them. Where there are several `oidc` blocks: `\"corp/release\"`."},
			{name: "role", required: true, at: of(func(a *Access) any { return &a.Role }),
				oneOf: []string{"viewer", "operator", "approver", "admin"}, example: `"approver"`,
				meaning: "`viewer` looks, and plans without applying. `operator` is viewer and cancels, retries, resolves, rolls back, unlocks and freezes. `approver` is viewer and approves and rejects. `admin` does everything."},
			{name: "environments", at: of(func(a *Access) any { return &a.Environments }), unset: "all", example: `["prod"]`,
				meaning: "Environments where the role holds."},
			{name: "teams", at: of(func(a *Access) any { return &a.Teams }), unset: "all", example: `["research"]`,
				meaning: "Teams for whose targets the role holds."},
		},
	}
}

func oidcBlock() block {
	return block{
		name: "oidc", label: "name", many: true, checkLabel: checkName,
		in: within(func(c *Config, name string) any {
			return added(&c.OIDC, OIDC{Name: name})
		}),
		about: "An issuer of OpenID Connect. The page offers to sign in with it, and the API takes its ID tokens. What its people may do is in the `access` blocks.",
		fields: []field{
			{name: "issuer", required: true, at: of(func(o *OIDC) any { return &o.Issuer }), check: checkIssuer, example: `"https://login.example.org"`,
				meaning: "Its URL, exactly as it stands in its ID tokens."},
			{name: "client_id", required: true, at: of(func(o *OIDC) any { return &o.ClientID }), check: checkNotEmpty, example: `"waymark"`,
				meaning: "Waymark's name at the issuer. Register the redirect URI `<server.url>/login/callback/<name>` there."},
			{name: "client_secret", at: of(func(o *OIDC) any { return &o.ClientSecret }), unset: "a public client", example: `env("OIDC_CLIENT_SECRET")`,
				meaning: "Waymark's secret at the issuer. PKCE is used with and without one."},
			{name: "user_claim", at: of(func(o *OIDC) any { return &o.UserClaim }), fallback: `"email"`, check: checkClaim, example: `"preferred_username"`,
				meaning: "The claim that names a person. It must be one that people cannot choose for themselves. A token whose `email_verified` is false names nobody by `email`."},
			{name: "groups_claim", at: of(func(o *OIDC) any { return &o.GroupsClaim }), fallback: `"groups"`, check: checkClaim, example: `"roles"`,
				meaning: "The claim that lists a person's groups."},
			{name: "audiences", at: of(func(o *OIDC) any { return &o.Audiences }), check: checkNotEmpty, unset: "`client_id` alone", example: `["ci"]`,
				meaning: "Further audiences whose ID tokens the API takes, such as those for a pipeline. The login of the page takes `client_id` alone."},
			{name: "scopes", at: of(func(o *OIDC) any { return &o.Scopes }), check: checkScopeName, unset: "none", example: `["groups"]`,
				meaning: "What the login asks for beyond `openid`, `email` and `profile`."},
			{name: "ca_file", at: of(func(o *OIDC) any { return &o.CAFile }), file: true, unset: "the system's", example: `"ca.pem"`,
				meaning: "Certificates of the authorities that vouch for the issuer's TLS, PEM."},
		},
	}
}

// serverIdentityFields are the attributes of the server block that logins need.
func serverIdentityFields() []field {
	return []field{
		{name: "url", at: of(func(s *Server) any { return &s.URL }), check: checkBaseURL, unset: "how a caller on loopback addresses it", example: `"https://waymark.example.org"`,
			meaning: "Address by which people reach the page, without a path. Required for `oidc` where `listen` is not loopback."},
		{name: "trusted_proxies", at: of(func(s *Server) any { return &s.TrustedProxies }), check: checkPrefixes, unset: "none", example: `["127.0.0.1", "10.0.0.0/8"]`,
			meaning: "Addresses of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed. Without them a caller's address is that of the connection, and all who come through one proxy share its limit on failed logins."},
	}
}

func checkPerson(s string) (summary, detail string) { return checkPrincipal(s, "person") }
func checkGroup(s string) (summary, detail string)  { return checkPrincipal(s, "group") }

// checkPrincipal judges the name of a person or a group.
func checkPrincipal(s, what string) (summary, detail string) {
	name := s[strings.LastIndexByte(s, '/')+1:]
	switch {
	case s == "" || len(s) > 256 || strings.TrimSpace(s) != s || strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Sprintf("is no %s: %q", what, short(s)), "write the name as the issuer gives it"
	case strings.HasPrefix(s, release.GroupPrefix):
		return fmt.Sprintf("is no %s: %q", what, short(s)), fmt.Sprintf("write groups = [%q]: the prefix is for approvers", strings.TrimPrefix(s, release.GroupPrefix))
	case what == "person" && slices.Contains([]string{"local", "token", "waymark"}, strings.ToLower(s)):
		return fmt.Sprintf("cannot be %q", s), "that name stands for the service's own callers"
	case what == "group" && name == everyone:
		return "cannot be \"*\"", `write users = ["*"] for everyone whom the issuer lets in`
	}
	return "", ""
}

// checkIssuer judges the URL of an issuer.
func checkIssuer(s string) (summary, detail string) {
	const write = "write it as the issuer does in its tokens, such as https://login.example.org"
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(s, "?#"):
		return fmt.Sprintf("is no issuer: %q", short(s)), write
	case u.Scheme == "http" && !isLoopbackHost(u.Hostname()) || u.Scheme != "https" && u.Scheme != "http":
		return fmt.Sprintf("is not reached by https: %q", short(s)), "whoever is between would decide who may deploy; http is for loopback alone"
	}
	return "", ""
}

// checkBaseURL judges the service's own address.
func checkBaseURL(s string) (summary, detail string) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || strings.ContainsAny(s, "?#") {
		return fmt.Sprintf("is no address of a service: %q", short(s)), "write one such as https://waymark.example.org, without a path"
	}
	return "", ""
}

// checkPrefixes judges one address, or range of addresses, of a proxy.
func checkPrefixes(s string) (summary, detail string) {
	if _, err := ParseProxy(s); err != nil {
		return fmt.Sprintf("is no address: %q", short(s)), `write one such as "10.0.0.7" or "10.0.0.0/8"`
	}
	return "", ""
}

// ParseProxy reads an address or a range of addresses.
func ParseProxy(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		return p.Masked(), err
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return a.WithZone("").Prefix(a.BitLen())
}

var (
	claimForm     = regexp.MustCompile(`^[A-Za-z0-9_.:/-]{1,128}$`)
	scopeNameForm = regexp.MustCompile(`^[!#-\[\]-~]{1,128}$`) // as RFC 6749 has it
)

func checkClaim(s string) (summary, detail string) {
	if claimForm.MatchString(s) {
		return "", ""
	}
	return fmt.Sprintf("is no claim: %q", short(s)), `write its name, such as "email"`
}

func checkScopeName(s string) (summary, detail string) {
	if scopeNameForm.MatchString(s) {
		return "", ""
	}
	return fmt.Sprintf("is no scope: %q", short(s)), `write one name each, such as "groups"`
}

func isLoopbackHost(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// checkAccess finds roles for nobody and nowhere, and issuers by which nobody
// could do anything.
func (d *decoder) checkAccess(cfg *Config) {
	issuers := map[string]string{}
	for _, o := range cfg.OIDC {
		if first, twice := issuers[o.Issuer]; twice && o.Issuer != "" {
			d.report(d.at("oidc", o.Name, "issuer"), fmt.Sprintf("oidc %q and %q are the same issuer", first, o.Name),
				"make one block of them, and name further clients in audiences")
		}
		issuers[o.Issuer] = o.Name
		if len(cfg.Access) == 0 {
			d.report(d.at("oidc", o.Name), fmt.Sprintf("nobody can do anything through oidc %q: there is no access block", o.Name),
				`write access "admins" { users = ["alice@example.org"], role = "admin" }`)
		}
	}
	if len(cfg.OIDC) > 0 && cfg.Server.URL == "" && cfg.Server.Listen != "" && !isLoopback(cfg.Server.Listen) && !d.broken["server.url"] {
		d.report(d.at("oidc", cfg.OIDC[0].Name), "server.url is missing, and an issuer must be told where people come back to", `write server { url = "https://waymark.example.org" }`)
	}
	for _, a := range cfg.Access {
		d.checkGrant(cfg, a)
	}
}

// checkGrant holds one access block against what is configured.
func (d *decoder) checkGrant(cfg *Config, a Access) {
	at := d.at("access", a.Name)
	if len(a.Users)+len(a.Groups) == 0 && d.intact("access."+a.Name) {
		d.report(at, fmt.Sprintf("access %q names nobody", a.Name), `write users = ["alice@example.org"] or groups = ["release"]`)
	}
	if len(cfg.OIDC) == 0 && d.intact("oidc") {
		d.report(at, fmt.Sprintf("nobody can use access %q: there is no oidc block by which to log in", a.Name),
			`write oidc "corp" { issuer = "https://...", client_id = "waymark" }`)
	}
	d.checkPrincipals(cfg, a, "users", a.Users)
	d.checkPrincipals(cfg, a, "groups", a.Groups)
	known := map[string][]string{"environments": cfg.environmentNames(), "teams": cfg.Teams}
	given := map[string][]string{"environments": a.Environments, "teams": a.Teams}
	for _, name := range []string{"environments", "teams"} {
		path := strings.Join([]string{"access", a.Name, name}, ".")
		if d.has(path) && len(given[name]) == 0 && d.intact(path) {
			d.report(d.at(path), path+" is empty", "name some, or leave it out for all")
		}
		for _, s := range given[name] {
			if !slices.Contains(known[name], s) && !d.broken["teams"] {
				d.report(d.at("access", a.Name, name), fmt.Sprintf("%s cannot name %q, which is not configured", path, short(s)), Choose(s, known[name]))
			}
		}
	}
}

// checkPrincipals finds names that could be of more than one issuer.
func (d *decoder) checkPrincipals(cfg *Config, a Access, attribute string, names []string) {
	if len(cfg.OIDC) < 2 {
		return
	}
	var prefixes []string
	for _, o := range cfg.OIDC {
		prefixes = append(prefixes, cfg.OIDCPrefix(o.Name))
	}
	for _, name := range names {
		if !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) && name != p }) {
			d.report(d.at("access", a.Name, attribute), fmt.Sprintf("access.%s.%s names %q, and there are several oidc blocks: whose is it?", a.Name, attribute, short(name)),
				fmt.Sprintf("write it with its block's name, such as %q", prefixes[0]+name))
		}
	}
}
