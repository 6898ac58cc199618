package identity_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/internal/testkit"
)

// clock is a clock that tests set.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

var releaseRule = identity.Rules{{Groups: []string{"release"}, Grant: identity.Grant{Role: identity.Approver}}}

// issuer is the service's view of an issuer; change edits it first.
func issuer(t *testing.T, o *testkit.OIDC, c *clock, change func(*identity.IssuerConfig)) *identity.Issuer {
	t.Helper()
	o.SetNow(c.now)
	cfg := identity.IssuerConfig{Name: "corp", URL: o.URL, ClientID: o.ClientID, ClientSecret: o.ClientSecret,
		UserClaim: "email", GroupsClaim: "groups", Rules: releaseRule, Now: c.now}
	if change != nil {
		change(&cfg)
	}
	i, err := identity.NewIssuer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

var alice = map[string]any{"email": "alice@example.org", "groups": []string{"release", "staff"}}

// with is alice with other claims.
func with(pairs ...any) map[string]any {
	out := map[string]any{}
	for name, value := range alice {
		out[name] = value
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		out[pairs[i].(string)] = pairs[i+1]
	}
	return out
}

// why is the reason of a refusal, or what else became of it.
func why(err error) identity.Why {
	var f *identity.Failure
	if errors.As(err, &f) {
		return f.Why
	}
	if err != nil {
		return identity.Why(err.Error())
	}
	return "let in"
}

func TestIDTokens(t *testing.T) {
	for _, secure := range []bool{false, true} {
		o, c := testkit.StartOIDC(t, secure), newClock()
		i := issuer(t, o, c, func(cfg *identity.IssuerConfig) {
			if secure {
				pem, err := os.ReadFile(o.CAFile)
				if err != nil {
					t.Fatal(err)
				}
				cfg.CAs = x509.NewCertPool()
				cfg.CAs.AppendCertsFromPEM(pem)
			}
		})
		got, err := i.Verify(t.Context(), o.Token(alice))
		want := identity.Person{Name: "alice@example.org", Kind: identity.KindOIDC, Via: "corp", Subject: "subject-1", Decides: true,
			Emails: []string{"alice@example.org"}, Groups: []string{"release", "staff"}, Grants: []identity.Grant{{Role: identity.Approver}}}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	o, c := testkit.StartOIDC(t, true), newClock()
	if _, err := issuer(t, o, c, nil).Verify(t.Context(), o.Token(alice)); why(err) != identity.Unavailable {
		t.Errorf("an issuer whose certificate nobody vouches for: %v", err)
	}
}

// TestIDTokensThatAreRefused holds the claims and signatures that must not pass.
func TestIDTokensThatAreRefused(t *testing.T) {
	o, other, c := testkit.StartOIDC(t, false), testkit.StartOIDC(t, false), newClock()
	other.SetNow(c.now)
	i := issuer(t, o, c, func(cfg *identity.IssuerConfig) { cfg.Audiences = []string{"ci"} })
	at := func(d time.Duration) int64 { return c.now().Add(d).Unix() }
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	var many []string
	for n := range 1001 {
		many = append(many, strconv.Itoa(n))
	}
	good := o.Token(alice)
	parts := strings.Split(good, ".")
	for name, tt := range map[string]struct {
		token string
		want  identity.Why
	}{
		"as it should be":              {good, "let in"},
		"for a further audience":       {o.Token(with("aud", []string{"x", "ci"})), "let in"},
		"expired within the leeway":    {o.Token(with("exp", at(-59*time.Second))), "let in"},
		"issued within the leeway":     {o.Token(with("iat", at(59*time.Second), "nbf", at(59*time.Second))), "let in"},
		"without a type":               {o.Forge(map[string]any{"typ": nil}, alice, "own"), "let in"},
		"another issuer's":             {other.Token(alice), identity.Unknown},
		"in this issuer's name":        {other.Token(with("iss", o.URL)), identity.Signature},
		"in another issuer's name":     {o.Token(with("iss", other.URL)), identity.Unknown},
		"the issuer with a slash":      {o.Token(with("iss", o.URL+"/")), identity.Unknown},
		"no issuer":                    {o.Token(with("iss", nil)), identity.Unknown},
		"for another service":          {o.Token(with("aud", "elsewhere")), identity.Audience},
		"for nobody":                   {o.Token(with("aud", nil)), identity.Audience},
		"for an empty list":            {o.Token(with("aud", []string{})), identity.Audience},
		"for a number":                 {o.Token(with("aud", 7)), identity.Signature}, // the library does not read it
		"expired":                      {o.Token(with("exp", at(-time.Minute))), identity.Expired},
		"without an end":               {o.Token(with("exp", nil)), identity.Malformed},
		"with an end out of time":      {o.Token(with("exp", 1e300)), identity.Malformed},
		"with a negative end":          {o.Token(with("exp", -1)), identity.Malformed},
		"of the future":                {o.Token(with("iat", at(2*time.Minute))), identity.TooEarly},
		"not valid yet":                {o.Token(with("nbf", at(2*time.Minute))), identity.TooEarly},
		"no algorithm":                 {o.Forge(map[string]any{"alg": "none"}, alice, nil), identity.Signature},
		"no algorithm, signed":         {o.Forge(map[string]any{"alg": "none"}, alice, "own"), identity.Signature},
		"HMAC with the public key":     {o.Forge(map[string]any{"alg": "HS256"}, alice, "public"), identity.Signature},
		"HMAC with a published secret": {o.Forge(map[string]any{"alg": "HS256", "kid": "secret"}, alice, []byte("secret")), identity.Signature},
		"RSA in name, HMAC in truth":   {o.Forge(nil, alice, "public"), identity.Signature},
		"another key's, by name":       {o.Forge(nil, alice, stranger), identity.Signature},
		"an unknown key":               {o.Forge(map[string]any{"kid": "strange"}, alice, stranger), identity.Signature},
		"no key named":                 {o.Forge(map[string]any{"kid": nil}, alice, "own"), "let in"},
		"no key named, another's":      {o.Forge(map[string]any{"kid": nil}, alice, stranger), identity.Signature},
		"a key of its own":             {o.Forge(map[string]any{"jwk": map[string]string{"kty": "EC"}, "kid": "strange"}, alice, stranger), identity.Signature},
		"a key for encryption":         {o.Forge(map[string]any{"kid": "encryption"}, alice, "own"), identity.Signature},
		"ES256 with a key of RSA":      {o.Forge(map[string]any{"alg": "ES256"}, alice, testkit.NewECKey(t)), identity.Signature},
		"a critical extension":         {o.Forge(map[string]any{"crit": []string{"b64"}, "b64": false}, alice, "own"), identity.Signature},
		"an access token":              {o.Forge(map[string]any{"typ": "at+jwt"}, alice, "own"), identity.Malformed},
		"a logout token":               {o.Forge(map[string]any{"typ": "logout+jwt"}, alice, "own"), identity.Malformed},
		"another payload":              {parts[0] + "." + strings.Split(o.Token(with("email", "root@example.org")), ".")[1] + "." + parts[2], identity.Signature},
		"no signature":                 {parts[0] + "." + parts[1] + ".", identity.Signature},
		"as JSON":                      {`{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, identity.Signature},
		"too long":                     {good + strings.Repeat("A", 16<<10), identity.Malformed},
		"empty":                        {"", identity.Signature},
		"dots":                         {"..", identity.Signature},

		"no name":                  {o.Token(with("email", nil)), identity.Claims},
		"no subject":               {o.Token(with("sub", nil)), identity.Claims},
		"a number for a name":      {o.Token(with("email", 42)), identity.Claims},
		"a list for a name":        {o.Token(with("email", []string{"alice@example.org"})), identity.Claims},
		"the service's own caller": {o.Token(with("email", "Token")), identity.Claims},
		"a group for a name":       {o.Token(with("email", "group:release")), identity.Claims},
		"everyone for a name":      {o.Token(with("email", "*")), identity.Claims},
		"a name with a line end":   {o.Token(with("email", "alice@example.org\n")), identity.Claims},
		"a name that turns":        {o.Token(with("email", "alice\u202e@example.org")), identity.Claims},
		"a name that joins":        {o.Token(with("email", "al\u200dice@example.org")), identity.Claims},
		"a name without end":       {o.Token(with("email", strings.Repeat("a", 257))), identity.Claims},
		"an address not verified":  {o.Token(with("email_verified", false)), identity.Claims},
		"verified by a number":     {o.Token(with("email_verified", 1)), identity.Claims},
		"verified by null":         {o.Token(with("email_verified", []any{})), identity.Claims},
		"groups by a number":       {o.Token(with("groups", 3)), identity.Claims},
		"groups of numbers":        {o.Token(with("groups", []any{"release", 3})), identity.Claims},
		"groups as an object":      {o.Token(with("groups", map[string]any{"release": true})), identity.Claims},
		"groups without end":       {o.Token(with("groups", many)), identity.Claims},
		"a nonce that is none":     {o.Token(with("nonce", 5)), identity.Signature}, // the library does not read it
	} {
		got, err := i.Verify(t.Context(), tt.token)
		if why(err) != tt.want {
			t.Errorf("%s: %v: %v, want %q", name, why(err), err, tt.want)
		}
		if err != nil && (got.Name != "" || len(got.Grants) > 0) {
			t.Errorf("%s: refused, and %+v", name, got)
		}
	}
}

func TestGroupsOfHostileShapes(t *testing.T) {
	o, c := testkit.StartOIDC(t, false), newClock()
	i := issuer(t, o, c, nil)
	for name, tt := range map[string]struct {
		groups any
		want   []string
	}{
		"none":        {nil, nil},
		"empty":       {[]string{}, nil},
		"null":        {json.RawMessage("null"), nil},
		"one alone":   {"release", []string{"release"}},
		"no commas":   {"staff,release", []string{"staff,release"}},
		"twice":       {[]string{"release", "release"}, []string{"release"}},
		"not a group": {[]string{"", " release", "release\x00", "rel\u202eease", strings.Repeat("x", 257), "staff"}, []string{"staff"}},
	} {
		p, err := i.Verify(t.Context(), o.Token(with("groups", tt.groups)))
		if err != nil || !slices.Equal(p.Groups, tt.want) {
			t.Errorf("%s: %q, %v", name, p.Groups, err)
		}
		if mapped := len(p.Grants) > 0; mapped != slices.Contains(tt.want, "release") {
			t.Errorf("%s: grants %+v", name, p.Grants)
		}
	}
}

// TestGroupsCountForTheirIssuerAlone: with two issuers the same name of a group,
// or of a person, is another one at each.
func TestGroupsCountForTheirIssuerAlone(t *testing.T) {
	a, b, c := testkit.StartOIDC(t, false), testkit.StartOIDC(t, false), newClock()
	rules := identity.Rules{
		{Groups: []string{"corp/release"}, Grant: identity.Grant{Role: identity.Approver}},
		{Users: []string{"corp/alice@example.org"}, Grant: identity.Grant{Role: identity.Operator}},
		{Users: []string{"partner/*"}, Grant: identity.Grant{Role: identity.Viewer}},
	}
	corp := issuer(t, a, c, func(cfg *identity.IssuerConfig) { cfg.Prefix, cfg.Rules = "corp/", rules })
	partner := issuer(t, b, c, func(cfg *identity.IssuerConfig) { cfg.Name, cfg.Prefix, cfg.Rules = "partner", "partner/", rules })
	got, err := corp.Verify(t.Context(), a.Token(alice))
	if err != nil || got.Name != "corp/alice@example.org" || len(got.Grants) != 2 || !slices.Equal(got.Emails, []string{"alice@example.org"}) {
		t.Errorf("of corp: %+v, %v", got, err)
	}
	for _, claims := range []map[string]any{alice, with("groups", []string{"corp/release", "release"}), with("email", "corp/alice@example.org")} {
		got, err = partner.Verify(t.Context(), b.Token(claims))
		if err != nil || len(got.Grants) != 1 || got.Grants[0].Role != identity.Viewer || !strings.HasPrefix(got.Name, "partner/") {
			t.Errorf("of partner, with %v: %+v, %v", claims, got, err)
		}
		for _, g := range got.Groups {
			if !strings.HasPrefix(g, "partner/") {
				t.Errorf("partner gave the group %q", g)
			}
		}
	}
	if _, err := corp.Verify(t.Context(), b.Token(alice)); why(err) != identity.Unknown {
		t.Errorf("a token of partner for corp: %v", err)
	}
}

func TestClockJumps(t *testing.T) {
	o, c := testkit.StartOIDC(t, false), newClock()
	i := issuer(t, o, c, nil)
	token := o.Token(alice)
	for _, step := range []struct {
		by   time.Duration
		want identity.Why
	}{
		{0, "let in"},
		{-2 * time.Hour, identity.TooEarly}, // set back: what was believed is of the future now
		{2 * time.Hour, "let in"},
		{30 * time.Hour, identity.Expired},
		{-30 * time.Hour, "let in"},
		{-50 * 365 * 24 * time.Hour, identity.TooEarly},
	} {
		c.advance(step.by)
		if _, err := i.Verify(t.Context(), token); why(err) != step.want {
			t.Errorf("after a jump of %s: %v, want %q", step.by, err, step.want)
		}
	}
}

func TestKeysRotateAndFail(t *testing.T) {
	o, c := testkit.StartOIDC(t, false), newClock()
	i := issuer(t, o, c, nil)
	verify := func(when string, token string, want identity.Why) {
		t.Helper()
		if _, err := i.Verify(t.Context(), token); why(err) != want {
			t.Errorf("%s: %v, want %q", when, err, want)
		}
	}
	o.Down("/.well-known/openid-configuration", true)
	verify("the issuer is down", o.Token(alice), identity.Unavailable)
	o.Down("/.well-known/openid-configuration", false)
	verify("it is asked again after a pause alone", o.Token(alice), identity.Unavailable)
	c.advance(21 * time.Second)
	o.Down("/keys", true)
	verify("its keys are down", o.Token(alice), identity.Unavailable)
	o.Down("/keys", false)
	c.advance(21 * time.Second)
	verify("all is up", o.Token(alice), "let in")

	o.Down("/keys", true)
	c.advance(2 * time.Hour)
	verify("keys that cannot be fetched again count on", o.Token(alice), "let in")
	c.advance(23 * time.Hour)
	verify("and not for ever", o.Token(alice), identity.Unavailable)
	o.Down("/keys", false)
	c.advance(21 * time.Second)
	verify("until they can be", o.Token(alice), "let in")

	old := o.Token(alice)
	o.Rotate()
	c.advance(21 * time.Second)
	verify("a new key is fetched when a token names it", o.Token(alice), "let in")
	verify("and the old one is gone", old, identity.Signature)
	before := o.Asked("/keys")
	for range 50 {
		verify("unknown keys", o.Forge(map[string]any{"kid": rand.Text()}, alice, "own"), identity.Signature)
	}
	if asked := o.Asked("/keys") - before; asked > 1 {
		t.Errorf("50 tokens with unknown keys made %d requests", asked)
	}
	c.advance(-10 * time.Hour)
	verify("a clock that was set back makes keys due, not young", o.Token(alice), "let in")
	if asked := o.Asked("/keys") - before; asked == 0 {
		t.Error("the keys were not fetched again")
	}
}

func TestDiscoveryMustBeTheIssuers(t *testing.T) {
	for name, answer := range map[string]string{
		"another issuer":   `{"issuer":"https://evil.example","authorization_endpoint":"https://x/a","token_endpoint":"https://x/t","jwks_uri":"https://x/k"}`,
		"keys by http":     `{"issuer":"ISSUER","authorization_endpoint":"https://x/a","token_endpoint":"https://x/t","jwks_uri":"http://keys.example/k"}`,
		"token elsewhere":  `{"issuer":"ISSUER","authorization_endpoint":"https://x/a","token_endpoint":"file:///t","jwks_uri":"https://x/k"}`,
		"no endpoints":     `{"issuer":"ISSUER"}`,
		"no JSON":          `<html>`,
		"a script for one": `{"issuer":"ISSUER","authorization_endpoint":"javascript:alert(1)","token_endpoint":"https://x/t","jwks_uri":"https://x/k"}`,
		"without end":      `{"issuer":"ISSUER","x":"` + strings.Repeat("x", 2<<20) + `"}`,
	} {
		var server *httptest.Server
		server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(strings.ReplaceAll(answer, "ISSUER", server.URL)))
		}))
		i, err := identity.NewIssuer(identity.IssuerConfig{Name: "corp", URL: server.URL, ClientID: "waymark", UserClaim: "email"})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := i.Begin(t.Context(), "http://127.0.0.1/callback"); why(err) != identity.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
		server.Close()
	}
	for _, bad := range []string{"http://login.example.org", "ftp://login.example.org", "https://", "login.example.org", "http://127.0.0.1.evil.example"} {
		if _, err := identity.NewIssuer(identity.IssuerConfig{Name: "corp", URL: bad, ClientID: "waymark", UserClaim: "email"}); err == nil {
			t.Errorf("%q is an issuer", bad)
		}
	}
}

// signIn takes a browser through the issuer and gives what it brings back.
func signIn(t *testing.T, address string) url.Values {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := browser.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	back, err := resp.Location()
	if err != nil {
		t.Fatalf("the issuer answered %s: %v", resp.Status, err)
	}
	return back.Query()
}

func TestLogin(t *testing.T) {
	o, c := testkit.StartOIDC(t, false), newClock()
	i := issuer(t, o, c, func(cfg *identity.IssuerConfig) { cfg.Audiences, cfg.Scopes = []string{"ci"}, []string{"groups"} })
	const redirect = "http://127.0.0.1:9/login/callback/corp"
	o.SignIn(alice)
	begin := func() (string, identity.Attempt, url.Values) {
		t.Helper()
		address, a, err := i.Begin(t.Context(), redirect)
		if err != nil {
			t.Fatal(err)
		}
		return address, a, signIn(t, address)
	}
	address, a, back := begin()
	u, _ := url.Parse(address)
	for name, want := range map[string]string{"client_id": o.ClientID, "scope": "openid email profile groups", "code_challenge_method": "S256", "state": a.State, "nonce": a.Nonce} {
		if got := u.Query().Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if strings.Contains(address, a.Verifier) || strings.Contains(address, o.ClientSecret) || a.State == a.Nonce {
		t.Error("the address holds a secret")
	}
	if p, err := i.Finish(t.Context(), redirect, back.Get("code"), a); err != nil || p.Name != "alice@example.org" || len(p.Grants) != 1 {
		t.Errorf("got %+v, %v", p, err)
	}
	if _, err := i.Finish(t.Context(), redirect, back.Get("code"), a); why(err) != identity.Login {
		t.Errorf("a code for the second time: %v", err)
	}
	for name, tt := range map[string]struct {
		person map[string]any
		change func(*identity.Attempt)
		want   identity.Why
	}{
		"another verifier":          {alice, func(a *identity.Attempt) { a.Verifier += "x" }, identity.Login},
		"another nonce":             {alice, func(a *identity.Attempt) { a.Nonce += "x" }, identity.Login},
		"no nonce":                  {with("nonce", nil), func(a *identity.Attempt) { a.Nonce = "" }, identity.Login},
		"a token without a nonce":   {with("nonce", nil), nil, identity.Login},
		"for the pipeline":          {with("aud", "ci"), nil, identity.Audience},
		"given to somebody else":    {with("aud", []string{"waymark", "x"}, "azp", "x"), nil, identity.Audience},
		"given to us among others":  {with("aud", []string{"waymark", "x"}, "azp", "waymark"), nil, "let in"},
		"in another issuer's name":  {with("iss", "https://evil.example"), nil, identity.Unknown},
		"expired on arrival":        {with("exp", c.now().Add(-time.Hour).Unix()), nil, identity.Expired},
		"somebody without any name": {with("email", ""), nil, identity.Claims},
	} {
		o.SignIn(tt.person)
		_, a, back := begin()
		if tt.change != nil {
			tt.change(&a)
		}
		if p, err := i.Finish(t.Context(), redirect, back.Get("code"), a); why(err) != tt.want {
			t.Errorf("%s: %+v, %v, want %q", name, p, err, tt.want)
		}
	}
	o.SignIn(alice)
	_, a, back = begin()
	o.Down("/token", true)
	if _, err := i.Finish(t.Context(), redirect, back.Get("code"), a); why(err) != identity.Unavailable {
		t.Errorf("the issuer is down: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := i.Finish(gone, redirect, back.Get("code"), a); err == nil {
		t.Error("a login whose browser has left was finished")
	}
}
