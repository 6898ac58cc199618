package server_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/server"
)

// accessRules are what the tests' people may do.
var accessRules = identity.Rules{
	{Groups: []string{"release"}, Grant: identity.Grant{Role: identity.Approver, Environments: []string{"prod"}}},
	{Users: []string{"bob@example.org"}, Grant: identity.Grant{Role: identity.Operator, Teams: []string{"risk"}}},
	{Users: []string{"root@example.org"}, Grant: identity.Grant{Role: identity.Admin}},
}

var (
	alice = map[string]any{"email": "alice@example.org", "sub": "alice", "groups": []string{"release", "staff"}}
	bob   = map[string]any{"email": "bob@example.org", "sub": "bob"}
	carol = map[string]any{"email": "carol@example.org", "sub": "carol"} // whom no rule names
	root  = map[string]any{"email": "root@example.org", "sub": "root"}
)

// withIssuer lets people log in by an issuer, beside the service's token.
func withIssuer(t *testing.T, o *testkit.OIDC) func(*server.Config) {
	return func(c *server.Config) {
		c.Token = "tok"
		o.SetNow(c.Now)
		i, err := identity.NewIssuer(identity.IssuerConfig{Name: "corp", URL: o.URL, ClientID: o.ClientID, ClientSecret: o.ClientSecret,
			UserClaim: "email", GroupsClaim: "groups", Rules: accessRules, Now: c.Now})
		if err != nil {
			t.Fatal(err)
		}
		c.Issuers, c.Environments, c.Teams = []*identity.Issuer{i}, []string{"dev", "prod"}, []string{"research", "risk"}
	}
}

// as is a client with a token of any kind.
func (w *world) as(token string) *api.Client {
	w.t.Helper()
	c, err := api.NewClient(api.ClientConfig{Server: w.http.URL, Token: token})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// status is the status of a problem, 200 for none.
func status(err error) int {
	var p *api.Problem
	if errors.As(err, &p) {
		return p.Status
	}
	if err != nil {
		return -1
	}
	return 200
}

// counted reads one figure from /metrics.
func (w *world) counted(line string) bool {
	w.t.Helper()
	_, body := w.do("GET", "/metrics", "", "Authorization", "Bearer tok")
	return strings.Contains(body, line)
}

func TestPeopleSeeAndDoWhatTheirRolesSay(t *testing.T) {
	o := testkit.StartOIDC(t, false)
	w := newWorld(t, withIssuer(t, o))
	prod := release.FormatID(w.admit("prod_us-east-1/research/1.0"))
	risk := release.FormatID(w.admit("dev_us-east-1/risk/1.0"))
	w.refuse("nonsense", "no target")
	w.drive(1, release.AwaitingApproval)
	for who, tt := range map[string]struct {
		claims   map[string]any
		runs     []string // that are listed
		tags     int
		statuses map[string]int // by what is asked
	}{
		"alice": {alice, []string{prod}, 1, map[string]int{"run " + prod: 200, "run " + risk: 403, "cancel " + prod: 403, "target dev": 403, "target prod": 200,
			"runs of dev": 403, "audit": 403, "instances": 403, "tokens": 403, "drain": 403, "targets": 200, "plan " + prod: 200, "plan " + risk: 403, "whoami": 200}},
		"bob":   {bob, []string{risk}, 1, map[string]int{"run " + prod: 403, "run " + risk: 200, "approve " + risk: 403, "target dev": 200, "target prod": 403, "audit": 403}},
		"carol": {carol, nil, -1, map[string]int{"run " + prod: 403, "targets": 403, "runs of dev": 403, "whoami": 200, "tokens": 403}},
		"root":  {root, []string{risk, prod}, 3, map[string]int{"run " + prod: 200, "audit": 200, "instances": 200, "tokens": 200, "targets": 200}},
	} {
		c := w.as(o.Token(tt.claims))
		list, err := c.Runs(t.Context(), api.RunQuery{})
		var got []string
		for _, r := range list.Runs {
			got = append(got, r.ID)
		}
		if !slices.Equal(got, tt.runs) || (status(err) != 200) != (tt.runs == nil) {
			t.Errorf("%s sees the runs %q, want %q: %v", who, got, tt.runs, err)
		}
		if tags, err := c.Releases(t.Context(), api.ReleaseQuery{}); err == nil && len(tags.Releases) != tt.tags {
			t.Errorf("%s sees %d tags, want %d", who, len(tags.Releases), tt.tags)
		}
		for what, want := range tt.statuses {
			verb, arg, _ := strings.Cut(what, " ")
			var err error
			switch verb {
			case "run":
				_, err = c.Run(t.Context(), arg)
			case "plan":
				if _, err = c.Plan(t.Context(), arg); status(err) == 404 {
					err = nil
				}
			case "approve", "cancel":
				_, err = c.Decide(t.Context(), arg, verb, api.Decision{})
			case "target":
				team := map[string]string{"dev": "risk", "prod": "research"}[arg]
				_, err = c.Target(t.Context(), arg, "us-east-1", team)
			case "runs":
				_, err = c.Runs(t.Context(), api.RunQuery{Target: "dev_us-east-1/research"})
			case "audit":
				_, err = c.Audit(t.Context(), 0, 1)
			case "instances":
				_, err = c.Instances(t.Context())
			case "tokens":
				_, err = c.Tokens(t.Context())
			case "drain":
				_, err = c.Drain(t.Context(), "a", api.Drain{})
			case "targets":
				_, err = c.Targets(t.Context())
			case "whoami":
				_, err = c.Whoami(t.Context())
			}
			if got := status(err); got != want {
				t.Errorf("%s asks for %s: %d, want %d: %v", who, what, got, want, err)
			}
		}
	}
	_, err := w.as(o.Token(alice)).Decide(t.Context(), prod, "cancel", api.Decision{})
	if want := "alice@example.org is approver for prod_us-east-1/research; cancelling needs the role operator there"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the denial says %v, want %q", err, want)
	}
	if len(w.verdicts) != 0 {
		t.Errorf("denied verdicts came through: %+v", w.verdicts)
	}
	if _, err := w.as(o.Token(alice)).Decide(t.Context(), prod, "approve", api.Decision{}); err != nil {
		t.Error(err)
	}
	if v := w.verdicts[0]; v.Actor != "alice@example.org" || !slices.Equal(v.Emails, []string{"alice@example.org"}) || !slices.Equal(v.Groups, []string{"release", "staff"}) {
		t.Errorf("the verdict is %+v", v)
	}
	if !w.counted(`waymark_denials_total{action="cancel"} 2`) {
		t.Error("denials are not counted")
	}
}

// TestNoOperationForgetsToAsk sends a request to every operation in the name of
// somebody without a role: each must say what is missing, also those that are
// added later.
func TestNoOperationForgetsToAsk(t *testing.T) {
	o := testkit.StartOIDC(t, false)
	w := newWorld(t, withIssuer(t, o))
	w.drive(w.admit("prod_us-east-1/research/1.0"), release.AwaitingApproval)
	_, text := w.do("GET", "/openapi.json", "")
	var doc struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	bodies := map[string]string{"/api/v1/tokens": `{"name":"n","role":"viewer","expires_in":60}`, "/api/v1/runs/{id}/resolve": `{"as":"accept"}`,
		"/api/v1/freezes": `{"where":"prod","for":"1h","reason":"why"}`}
	fill := strings.NewReplacer("{env}", "prod", "{scope}", "us-east-1", "{team}", "research", "{id}", "1", "/logs/search", "/logs/search?text=x")
	count := 0
	for path, methods := range doc.Paths {
		for method := range methods {
			if !strings.HasPrefix(path, "/api/") || path == "/api/v1/whoami" {
				continue
			}
			body := `{"reason":"why"}`
			if b, ok := bodies[path]; ok {
				body = b
			}
			if strings.HasSuffix(path, "/evidence") {
				body = "{}"
			}
			resp, answer := w.do(strings.ToUpper(method), fill.Replace(path), body, "Content-Type", "application/json", "Authorization", "Bearer "+o.Token(carol))
			if count++; resp.StatusCode != 403 || !strings.Contains(answer, "carol@example.org") {
				t.Errorf("%s %s in the name of somebody without a role: %d %s", method, path, resp.StatusCode, answer)
			}
		}
	}
	if count < 20 {
		t.Errorf("only %d operations were asked", count)
	}
	for _, path := range []string{"/", "/runs/1", "/metrics"} {
		if resp, body := w.do("GET", path, "", "Authorization", "Bearer "+o.Token(carol)); resp.StatusCode != 403 || !strings.Contains(body, "carol@example.org") {
			t.Errorf("GET %s: %d", path, resp.StatusCode)
		}
	}
	if _, body := w.do("GET", "/readyz", "", "Authorization", "Bearer "+o.Token(carol)); strings.Contains(body, "detail") {
		t.Errorf("readyz tells %s", body)
	}
}

func TestIDTokensOnTheAPI(t *testing.T) {
	o, other := testkit.StartOIDC(t, false), testkit.StartOIDC(t, false)
	w := newWorld(t, withIssuer(t, o))
	other.SetNow(w.clock)
	w.admit("prod_us-east-1/research/1.0")
	who, err := w.as(o.Token(alice)).Whoami(t.Context())
	if err != nil || who.Name != "alice@example.org" || who.Kind != "oidc" || who.Via != "corp" || who.Subject != "alice" || !who.Decides ||
		len(who.Grants) != 1 || who.Grants[0].Role != "approver" || !slices.Equal(who.Groups, []string{"release", "staff"}) {
		t.Errorf("whoami: %+v, %v", who, err)
	}
	for name, tt := range map[string]struct {
		token, reason, says string
		status              int
	}{
		"another issuer's":   {other.Token(alice), "unknown", "no issuer that this service knows", 401},
		"in the issuer's":    {other.Token(map[string]any{"iss": o.URL, "email": "root@example.org"}), "signature", "none of the issuer's", 401},
		"another audience's": {o.Token(map[string]any{"email": "root@example.org", "aud": "x"}), "audience", "another service", 401},
		"expired":            {o.Token(map[string]any{"email": "root@example.org", "exp": w.clock().Add(-time.Hour).Unix()}), "expired", "get a new one", 401},
		"of the future":      {o.Token(map[string]any{"email": "root@example.org", "iat": w.clock().Add(time.Hour).Unix()}), "too_early", "compare the clocks", 401},
		"unsigned":           {o.Forge(map[string]any{"alg": "none"}, root, nil), "signature", "no ID token that is signed", 401},
		"by the public key":  {o.Forge(map[string]any{"alg": "HS256"}, root, "public"), "signature", "no ID token that is signed", 401},
		"a group of another": {other.Token(map[string]any{"groups": []string{"release"}, "email": "eve@example.org"}), "unknown", "no issuer", 401},
		"nobody's":           {o.Token(map[string]any{"email": nil}), "claims", "names nobody", 401},
	} {
		_, err := w.as(tt.token).Runs(t.Context(), api.RunQuery{})
		if status(err) != tt.status || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
		if !w.counted(`waymark_identity_failures_total{reason="` + tt.reason + `"}`) {
			t.Errorf("%s: not counted as %s", name, tt.reason)
		}
		w.advance(time.Minute) // so that one address may fail so often
	}
	if strings.Contains(w.log.String(), o.Token(alice)[:40]) {
		t.Error("the log holds a token")
	}
}

func TestAnIssuerThatDoesNotAnswer(t *testing.T) {
	o := testkit.StartOIDC(t, false)
	w := newWorld(t, withIssuer(t, o))
	o.Down("/.well-known/openid-configuration", true)
	if _, err := w.as(o.Token(alice)).Whoami(t.Context()); status(err) != 503 {
		t.Errorf("an ID token: %v", err)
	}
	if resp, body := w.do("GET", "/login/start/corp", ""); resp.StatusCode != 503 || !strings.Contains(body, "does not answer") {
		t.Errorf("a login: %d", resp.StatusCode)
	}
	if _, err := w.client.Whoami(t.Context()); err != nil {
		t.Errorf("the service's own token: %v", err)
	}
	o.Down("/.well-known/openid-configuration", false)
	w.advance(21 * time.Second)
	if _, err := w.as(o.Token(alice)).Whoami(t.Context()); err != nil {
		t.Errorf("once it answers: %v", err)
	}
}

func TestAPITokens(t *testing.T) {
	o := testkit.StartOIDC(t, false)
	w := newWorld(t, withIssuer(t, o))
	dev, prod := release.FormatID(w.admit("dev_us-east-1/research/1.0")), release.FormatID(w.admit("prod_us-east-1/research/1.0"))
	made, err := w.client.CreateToken(t.Context(), api.NewToken{Name: "deploys", User: "ci@example.org", Role: "operator", Environments: []string{"dev"},
		Groups: []string{"bots"}, ExpiresIn: 3600})
	if err != nil || !strings.HasPrefix(made.Secret, "wm_") || made.Token.State != "valid" || made.Token.CreatedBy != "token" {
		t.Fatalf("%+v, %v", made, err)
	}
	c := w.as(made.Secret)
	who, err := c.Whoami(t.Context())
	if err != nil || who.Name != "ci@example.org" || who.Kind != "api_token" || who.Via != "deploys" || !slices.Equal(who.Groups, []string{"bots"}) ||
		!slices.Equal(who.Emails, []string{"ci@example.org"}) || !slices.Equal(who.Grants[0].Environments, []string{"dev"}) {
		t.Errorf("whoami: %+v, %v", who, err)
	}
	w.drive(1, release.AwaitingApproval)
	if _, err := c.Decide(t.Context(), dev, "retry", api.Decision{}); len(w.verdicts) != 1 || w.verdicts[0].Actor != "ci@example.org" {
		t.Errorf("%v, verdicts %+v", err, w.verdicts)
	}
	if _, err := c.Decide(t.Context(), dev, "approve", api.Decision{}); status(err) != 403 || !strings.Contains(err.Error(), "waymark tokens create") {
		t.Errorf("an operator approves: %v", err)
	}
	if _, err := c.Run(t.Context(), prod); status(err) != 403 {
		t.Errorf("a run elsewhere: %v", err)
	}
	if _, err := c.CreateToken(t.Context(), api.NewToken{Name: "more", Role: "admin", ExpiresIn: 3600}); status(err) != 403 {
		t.Errorf("an operator makes an admin: %v", err)
	}
	scoped, err := w.client.CreateToken(t.Context(), api.NewToken{Name: "dev-admin", Role: "admin", Environments: []string{"dev"}, ExpiresIn: 3600})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.as(scoped.Secret).CreateToken(t.Context(), api.NewToken{Name: "more", Role: "admin", ExpiresIn: 3600}); status(err) != 403 {
		t.Errorf("an admin of dev makes an admin of everything: %v", err)
	}
	for _, bad := range []api.NewToken{
		{Name: "deploys", Role: "viewer", ExpiresIn: 3600}, {Name: "token", Role: "viewer", ExpiresIn: 3600}, {Name: "x", User: "group:release", Role: "viewer", ExpiresIn: 3600},
		{Name: "x", Role: "viewer", ExpiresIn: 59}, {Name: "x", Role: "viewer", ExpiresIn: 1 << 40}, {Name: "x", Role: "wizard", ExpiresIn: 3600},
		{Name: "x", Role: "viewer", Environments: []string{"prd"}, ExpiresIn: 3600}, {Name: "x", Role: "viewer", Teams: []string{"risky"}, ExpiresIn: 3600},
		{Name: "x\n", Role: "viewer", ExpiresIn: 3600}, {Name: "x", Role: "viewer", Groups: []string{""}, ExpiresIn: 3600}, {Name: "x", User: "*", Role: "viewer", ExpiresIn: 3600},
	} {
		if _, err := w.client.CreateToken(t.Context(), bad); status(err) != 422 && status(err) != 409 {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	list, err := w.client.Tokens(t.Context())
	if err != nil || len(list.Tokens) != 2 || list.Tokens[1].UsedAt.IsZero() || list.Tokens[1].Groups[0] != "bots" {
		t.Errorf("listed %+v, %v", list, err)
	}
	if _, body := w.do("GET", "/api/v1/tokens", "", "Authorization", "Bearer tok"); strings.Contains(body, made.Secret) || strings.Contains(body, "hash") {
		t.Errorf("the list tells %s", body)
	}
	if _, err := w.client.RevokeToken(t.Context(), made.Token.ID, api.Revocation{Reason: "leaked"}); err != nil {
		t.Error(err)
	}
	swapped := made.Secret[:10] + strings.ToLower(made.Secret[10:11]) + strings.ToUpper(made.Secret[11:12]) + made.Secret[12:]
	for _, tt := range []struct{ token, says string }{
		{made.Secret, `the token "deploys" was revoked`}, {made.Secret[:30], "cut or mistyped"}, {swapped + "x", "cut or mistyped"},
		{"wm_" + strings.Repeat("0", 49), "cut or mistyped"}, {"", "who you are"}, {"tok2", "no token of this service"},
	} {
		if _, err := w.as(tt.token).Whoami(t.Context()); status(err) != 401 || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q: %v", tt.token, err)
		}
	}
	if strings.Contains(w.log.String(), made.Secret) || strings.Contains(w.log.String(), scoped.Secret) {
		t.Error("the log holds a token")
	}
}

func TestTokensOnAnOpenService(t *testing.T) {
	w := newWorld(t, nil)
	w.admit("dev_us-east-1/research/1.0")
	made, err := w.client.CreateToken(t.Context(), api.NewToken{Name: "look", Role: "viewer", ExpiresIn: 3600})
	if err != nil {
		t.Fatal(err)
	}
	if who, err := w.as(made.Secret).Whoami(t.Context()); err != nil || who.Name != "look" || who.Kind != "api_token" {
		t.Errorf("whoami: %+v, %v", who, err)
	}
	if who, err := w.as("anything").Whoami(t.Context()); err != nil || who.Name != "local" {
		t.Errorf("another text is nobody's token here: %+v, %v", who, err)
	}
	if _, err := w.as(made.Secret[:20]).Whoami(t.Context()); status(err) != 401 {
		t.Errorf("a token that was cut: %v", err)
	}
	if _, err := w.as(made.Secret).Decide(t.Context(), "1", "cancel", api.Decision{}); status(err) != 403 {
		t.Errorf("a viewer cancels: %v", err)
	}
}

func TestFailuresAreLimited(t *testing.T) {
	o := testkit.StartOIDC(t, false)
	w := newWorld(t, func(c *server.Config) {
		withIssuer(t, o)(c)
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	try := func(token, from string) *http.Response {
		t.Helper()
		resp, _ := w.do("GET", "/api/v1/whoami", "", "Authorization", "Bearer "+token, "X-Forwarded-For", from)
		return resp
	}
	late := o.Token(alice)
	if got := try("tok", "198.51.100.7").StatusCode; got != 200 {
		t.Fatalf("the token: %d", got)
	}
	statuses := map[int]int{}
	for i := range 15 {
		statuses[try("guess"+strings.Repeat("x", i), "203.0.113.9, 198.51.100.7").StatusCode]++
	}
	if statuses[401] != 10 || statuses[429] != 5 {
		t.Errorf("15 guesses: %v", statuses)
	}
	resp := try(late, "198.51.100.7")
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" || resp.Header.Get("Retry-After") == "0" {
		t.Errorf("what was not good before, from there: %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	if got := try("tok", "198.51.100.7").StatusCode; got != 200 {
		t.Errorf("what was good before, from there: %d", got)
	}
	if got := try(late, "203.0.113.9").StatusCode; got != 200 {
		t.Errorf("from elsewhere, which the first one only said to be: %d", got)
	}
	w.advance(-24 * time.Hour) // a clock that was set back forgives nothing
	if got := try("guess", "198.51.100.7").StatusCode; got != 429 {
		t.Errorf("after a jump of the clock: %d", got)
	}
	w.advance(24*time.Hour + time.Minute)
	if got := try("guess", "198.51.100.7").StatusCode; got != 401 {
		t.Errorf("after a while: %d", got)
	}
	if resp, body := w.do("POST", "/login", "token=x", "Content-Type", "application/x-www-form-urlencoded", "X-Forwarded-For", "198.51.100.9"); resp.StatusCode != 401 {
		t.Errorf("the page: %d %s", resp.StatusCode, body)
	}
	for range 12 {
		resp, _ = w.do("POST", "/login", "token=x", "Content-Type", "application/x-www-form-urlencoded", "X-Forwarded-For", "198.51.100.9")
	}
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("the page after 13 guesses: %d", resp.StatusCode)
	}
	if !w.counted(`waymark_identity_failures_total{reason="limited"}`) {
		t.Error("limited ones are not counted")
	}
}

// browser is one that keeps cookies, follows redirects and says where a form
// comes from.
type browser struct {
	t    *testing.T
	http *http.Client
	base string
}

func (w *world) browser() *browser {
	w.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return &browser{w.t, &http.Client{Jar: jar}, w.http.URL}
}

func (b *browser) get(address string) (*http.Response, string) {
	b.t.Helper()
	if strings.HasPrefix(address, "/") {
		address = b.base + address
	}
	resp, err := b.http.Get(address)
	return b.read(resp, err)
}

func (b *browser) post(path, form string, header ...string) (*http.Response, string) {
	b.t.Helper()
	req, err := http.NewRequest(http.MethodPost, b.base+path, strings.NewReader(form))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := b.http.Do(req)
	return b.read(resp, err)
}

func (b *browser) read(resp *http.Response, err error) (*http.Response, string) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp, string(data)
}

// cookie gives what the browser keeps for a path.
func (b *browser) cookie(path, name string) string {
	u, _ := url.Parse(b.base + path)
	for _, c := range b.http.Jar.Cookies(u) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// signIn takes somebody through the issuer.
func (w *world) signIn(o *testkit.OIDC, claims map[string]any) *browser {
	w.t.Helper()
	b := w.browser()
	o.SignIn(claims)
	if resp, body := b.get("/login/start/corp"); resp.StatusCode != 200 && resp.StatusCode != 403 || b.cookie("/", "waymark_session") == "" {
		w.t.Fatalf("the login ended with %d %s", resp.StatusCode, body)
	}
	return b
}

func TestSignInWithAnIssuer(t *testing.T) {
	o := testkit.StartOIDC(t, false)
	w := newWorld(t, withIssuer(t, o))
	w.drive(w.admit("prod_us-east-1/research/1.0"), release.AwaitingApproval)
	w.admit("dev_us-east-1/risk/1.0")
	o.SignIn(alice)
	b := w.browser()
	resp, body := b.get("/runs/1")
	if resp.StatusCode != 401 || !strings.Contains(body, "Sign in with corp") || !strings.Contains(body, `href="/login/start/corp?next=%2Fruns%2F1"`) {
		t.Fatalf("nobody sees a run: %d %s", resp.StatusCode, body)
	}
	resp, body = b.get("/login/start/corp?next=%2Fruns%2F1")
	if resp.StatusCode != 200 || resp.Request.URL.Path != "/runs/1" || !strings.Contains(body, "alice@example.org") || !strings.Contains(body, "Approve this plan") {
		t.Fatalf("after the login: %d at %s: %s", resp.StatusCode, resp.Request.URL, body)
	}
	if b.cookie("/login/", "waymark_login") != "" {
		t.Error("the attempt's cookie is still there")
	}
	if _, body := b.get("/"); !strings.Contains(body, "prod_us-east-1/research") || strings.Contains(body, "dev_us-east-1/risk") {
		t.Error("the board does not show what alice may see, or more")
	}
	page, err := w.client.Audit(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	last := page.Entries[len(page.Entries)-1]
	if last.Action != "session.started" || last.Actor != "alice@example.org" {
		t.Errorf("the last entry is %+v", last)
	}
	form := url.Values{"plan_digest": {"sha256:00"}}.Encode()
	for _, header := range [][]string{nil, {"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "null"}, {"Sec-Fetch-Site", "none"}} {
		if resp, _ := b.post("/runs/1/approve", form, header...); resp.StatusCode != 403 || len(w.verdicts) != 0 {
			t.Errorf("with %q: %d", header, resp.StatusCode)
		}
	}
	if resp, body := b.post("/runs/1/approve", form, "Origin", w.http.URL); resp.StatusCode != 200 || len(w.verdicts) != 1 {
		t.Errorf("on her own page: %d %s", resp.StatusCode, body)
	} else if v := w.verdicts[0]; v.Actor != "alice@example.org" || !slices.Contains(v.Groups, "release") || v.PlanDigest != "sha256:00" {
		t.Errorf("the verdict is %+v", v)
	}
	if resp, _ := b.post("/logout", "", "Origin", w.http.URL); resp.StatusCode != 401 || b.cookie("/", "waymark_session") != "" {
		t.Errorf("after the logout: %d", resp.StatusCode)
	}
}

func TestSessionsEnd(t *testing.T) {
	o := testkit.StartOIDC(t, false)
	w := newWorld(t, withIssuer(t, o))
	w.admit("prod_us-east-1/research/1.0")
	b := w.signIn(o, alice)
	value := b.cookie("/", "waymark_session")
	body, mac, _ := strings.Cut(value, ".")
	other := w.signIn(o, root).cookie("/", "waymark_session")
	otherBody, _, _ := strings.Cut(other, ".")
	show := func(value string) int {
		t.Helper()
		resp, _ := w.do("GET", "/", "", "Cookie", "waymark_session="+value)
		return resp.StatusCode
	}
	for name, forged := range map[string]string{"another's body": otherBody + "." + mac, "no mac": body + ".", "no body": "." + mac, "longer": value + "A", "an attempt": "e30." + mac,
		"other letters for the same bytes": body + "." + mac[:len(mac)-1] + "-"} {
		if got := show(forged); got != 401 {
			t.Errorf("%s: %d", name, got)
		}
	}
	if show(value) != 200 || show(other) != 200 {
		t.Error("the sessions themselves do not count")
	}
	w.advance(12*time.Hour - time.Second)
	if show(value) != 200 {
		t.Error("a session ends before its end")
	}
	w.advance(time.Second)
	if show(value) != 401 {
		t.Error("a session goes on after its end")
	}
	w.advance(-48 * time.Hour)
	if show(value) != 401 {
		t.Error("a clock that was set back prolongs a session")
	}
}

// TestSessionsOfOtherInstances: a session counts on every instance of the same
// configuration, and on none where its person would be another.
func TestSessionsOfOtherInstances(t *testing.T) {
	o := testkit.StartOIDC(t, false)
	w := newWorld(t, withIssuer(t, o))
	w.admit("prod_us-east-1/research/1.0")
	person, master := w.signIn(o, alice).cookie("/", "waymark_session"), ""
	b := w.browser()
	if resp, _ := b.post("/login", "token=tok", "Origin", w.http.URL); resp.StatusCode != 200 {
		t.Fatalf("the login by token: %d", resp.StatusCode)
	}
	master = b.cookie("/", "waymark_session")
	for name, tt := range map[string]struct {
		change         func(*server.Config)
		person, master int
	}{
		"the same":               {nil, 200, 200},
		"another token":          {func(c *server.Config) { c.Token = "tok2" }, 200, 401},
		"no token":               {func(c *server.Config) { c.Token = "" }, 200, 401},
		"no issuer":              {func(c *server.Config) { c.Issuers = nil }, 401, 200},
		"another issuer by name": {func(c *server.Config) { c.Issuers[0] = otherIssuer(t, c, "corp", "https://login.example.org", "") }, 401, 200},
		"two issuers":            {func(c *server.Config) { c.Issuers[0] = otherIssuer(t, c, "corp", o.URL, "corp/") }, 401, 200},
	} {
		next := newWorld(t, func(c *server.Config) {
			withIssuer(t, o)(c)
			c.Store = w.store
			if tt.change != nil {
				tt.change(c)
			}
		})
		for cookie, want := range map[string]int{person: tt.person, master: tt.master} {
			if resp, _ := next.do("GET", "/", "", "Cookie", "waymark_session="+cookie); resp.StatusCode != want {
				t.Errorf("%s: %d, want %d", name, resp.StatusCode, want)
			}
		}
	}
	fresh := newWorld(t, withIssuer(t, o)) // another database, the same configuration
	for _, cookie := range []string{person, master} {
		if resp, _ := fresh.do("GET", "/", "", "Cookie", "waymark_session="+cookie); resp.StatusCode != 401 {
			t.Errorf("on another database: %d", resp.StatusCode)
		}
	}
}

func otherIssuer(t *testing.T, c *server.Config, name, address, prefix string) *identity.Issuer {
	i, err := identity.NewIssuer(identity.IssuerConfig{Name: name, Prefix: prefix, URL: address, ClientID: "waymark", ClientSecret: "client-s3cret",
		UserClaim: "email", GroupsClaim: "groups", Rules: accessRules, Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestASessionEndsWithItsToken(t *testing.T) {
	o := testkit.StartOIDC(t, false)
	w := newWorld(t, withIssuer(t, o))
	w.admit("prod_us-east-1/research/1.0")
	made, err := w.client.CreateToken(t.Context(), api.NewToken{Name: "page", User: "dave", Role: "viewer", ExpiresIn: 3600})
	if err != nil {
		t.Fatal(err)
	}
	b := w.browser()
	if resp, body := b.post("/login", url.Values{"token": {made.Secret}, "next": {"/runs/1"}}.Encode(), "Origin", w.http.URL); resp.StatusCode != 200 ||
		resp.Request.URL.Path != "/runs/1" || !strings.Contains(body, "dave") {
		t.Fatalf("the login: %d at %s", resp.StatusCode, resp.Request.URL)
	}
	if strings.Contains(b.cookie("/", "waymark_session"), made.Secret) {
		t.Error("the cookie holds the token")
	}
	if resp, body := b.post("/login", url.Values{"token": {o.Token(alice)}}.Encode(), "Origin", w.http.URL); resp.StatusCode != 401 || !strings.Contains(body, "sign in with corp") {
		t.Errorf("an ID token begins a session: %d", resp.StatusCode)
	}
	if _, err := w.client.RevokeToken(t.Context(), made.Token.ID, api.Revocation{}); err != nil {
		t.Fatal(err)
	}
	if resp, body := b.get("/"); resp.StatusCode != 401 || !strings.Contains(body, "was revoked") {
		t.Errorf("the session goes on after its token: %d", resp.StatusCode)
	}
	if resp, _ := b.get("/login"); resp.StatusCode != 200 {
		t.Errorf("the login page with a session that ended: %d", resp.StatusCode)
	}
}

func TestLoginsThatAreRefused(t *testing.T) {
	o := testkit.StartOIDC(t, false)
	w := newWorld(t, withIssuer(t, o))
	o.SignIn(alice)
	// begin starts a login without following it, and gives where it leads.
	begin := func(b *browser) url.Values {
		t.Helper()
		b.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		resp, _ := b.get("/login/start/corp")
		address, err := resp.Location()
		if err != nil || address.Host != strings.TrimPrefix(o.URL, "http://") {
			t.Fatalf("a login leads to %s: %v", address, err)
		}
		resp, _ = b.get(address.String())
		back, err := resp.Location()
		if err != nil || !strings.HasPrefix(back.String(), w.http.URL+"/login/callback/corp?") {
			t.Fatalf("the issuer leads to %s: %v", back, err)
		}
		return back.Query()
	}
	finish := func(b *browser, q url.Values) (int, string) {
		t.Helper()
		resp, body := b.get("/login/callback/corp?" + q.Encode())
		if cookie := b.cookie("/", "waymark_session"); (cookie != "") != (resp.StatusCode == 303) {
			t.Errorf("%v: %d, session %q", q, resp.StatusCode, cookie)
		}
		return resp.StatusCode, body
	}
	b := w.browser()
	q := begin(b)
	if got, _ := finish(w.browser(), q); got != 401 {
		t.Errorf("another browser ends the login: %d", got)
	}
	if got, _ := finish(b, q); got != 303 {
		t.Errorf("the browser itself: %d", got)
	}
	second := w.browser()
	begin(second)
	if got, _ := finish(second, q); got != 401 {
		t.Errorf("with the code and state of another login: %d", got)
	}
	for name, change := range map[string]func(url.Values){
		"another state":  func(q url.Values) { q.Set("state", "x") },
		"no state":       func(q url.Values) { q.Del("state") },
		"another code":   func(q url.Values) { q.Set("code", "x") },
		"no code":        func(q url.Values) { q.Del("code") },
		"another issuer": func(q url.Values) { q.Set("iss", "https://evil.example") },
		"an error":       func(q url.Values) { q.Set("error", "access_denied<script>") },
		"a late return":  func(url.Values) { w.advance(10*time.Minute + time.Second) },
	} {
		b := w.browser()
		q := begin(b)
		change(q)
		got, body := finish(b, q)
		if got != 401 || !strings.Contains(body, "Sign in with corp") {
			t.Errorf("%s: %d", name, got)
		}
		harmless(t, body)
	}
	b = w.browser()
	o.SignIn(nil)
	if got, body := finish(b, begin(b)); got != 401 || !strings.Contains(body, "access_denied") {
		t.Errorf("whom the issuer lets not in: %d", got)
	}
	o.SignIn(carol)
	if got, body := func() (int, string) { b := w.signIn(o, carol); resp, body := b.get("/"); return resp.StatusCode, body }(); got != 403 || !strings.Contains(body, "carol@example.org has no role") {
		t.Errorf("somebody without a role: %d %s", got, body)
	}
	for _, path := range []string{"/login/start/other", "/login/start/", "/login/callback/other?state=x&code=y"} {
		if resp, _ := w.do("GET", path, ""); resp.StatusCode != 404 && resp.StatusCode != 401 {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	for _, next := range []string{"https://evil.example/", "//evil.example", "/\\evil.example", "/runs/1/../../login", "javascript:alert(1)", "/runs/1?x=y"} {
		if resp, _ := w.do("POST", "/login", url.Values{"token": {"tok"}, "next": {next}}.Encode(), "Content-Type", "application/x-www-form-urlencoded"); resp.Header.Get("Location") != "/" {
			t.Errorf("next %q leads to %q", next, resp.Header.Get("Location"))
		}
	}
	if resp, body := w.do("GET", "/login/start/corp", "", "Host", "evil.example"); resp.StatusCode != 503 || !strings.Contains(body, "server { url }") {
		t.Errorf("an address that a caller made up: %d", resp.StatusCode)
	}
}

// TestManyGroups: a session of somebody in more groups than a cookie holds keeps
// those that rules name.
func TestManyGroups(t *testing.T) {
	o := testkit.StartOIDC(t, false)
	w := newWorld(t, withIssuer(t, o))
	w.admit("prod_us-east-1/research/1.0")
	groups := []string{"release"}
	for i := range 200 {
		groups = append(groups, strings.Repeat("g", 20)+release.FormatID(int64(i)))
	}
	b := w.signIn(o, map[string]any{"email": "alice@example.org", "groups": groups})
	if value := b.cookie("/", "waymark_session"); len(value) > 4000 {
		t.Errorf("the cookie has %d bytes", len(value))
	}
	if resp, body := b.get("/"); resp.StatusCode != 200 || !strings.Contains(body, "prod_us-east-1/research") {
		t.Errorf("the board: %d", resp.StatusCode)
	}
}
