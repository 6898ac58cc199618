package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"

	"github.com/waymark-cd/waymark/release"
)

const (
	leeway    = time.Minute // by which clocks of issuer and service may differ
	maxToken  = 16 << 10    // bytes of an ID token
	staleMeta = 24 * time.Hour
)

// IssuerConfig is one issuer of OpenID Connect, as the configuration has it.
type IssuerConfig struct {
	Name         string
	Prefix       string // of the names of its users and groups; empty where it is the only issuer
	URL          string // exactly as its ID tokens say it
	ClientID     string
	ClientSecret string // empty: a public client
	UserClaim    string
	GroupsClaim  string
	Audiences    []string // whose ID tokens count beside those for ClientID
	Scopes       []string // of a login, beyond openid, email and profile
	CAs          *x509.CertPool
	Rules        Rules
	Now          func() time.Time // nil: time.Now
}

// Issuer verifies the ID tokens of one issuer and takes people through its
// login. It speaks to the issuer when it has to, and not before. It is safe for
// use by several goroutines.
type Issuer struct {
	cfg    IssuerConfig
	client *http.Client
	turn   chan struct{} // held by the one that asks for the metadata

	mu     sync.Mutex
	meta   *metadata // nil before the first
	tried  time.Time
	failed error
}

// metadata is what an issuer tells of itself.
type metadata struct {
	endpoint   oauth2.Endpoint
	keys       *keySet
	algorithms []string
	read       time.Time
}

// NewIssuer checks the configuration; nothing is sent yet. The error wraps
// release.ErrInvalid.
func NewIssuer(cfg IssuerConfig) (*Issuer, error) {
	if cfg.Name == "" || cfg.ClientID == "" || cfg.UserClaim == "" || !secureURL(cfg.URL) {
		return nil, fmt.Errorf("%w issuer %q: it needs a name, a client id, a claim that names people, and an https address", release.ErrInvalid, cfg.Name)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Issuer{cfg: cfg, turn: make(chan struct{}, 1), client: &http.Client{
		Timeout: fetchWithin,
		Transport: bounded{&http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: cfg.CAs, MinVersion: tls.VersionTLS12},
			DialContext: (&net.Dialer{Timeout: fetchWithin}).DialContext, IdleConnTimeout: 30 * time.Second, ForceAttemptHTTP2: true}},
		// What an issuer says of itself stands where it says, and a code is sent there alone.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// bounded cuts answers off that are longer than any of an issuer's.
type bounded struct{ http.RoundTripper }

// RoundTrip is part of http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

// secureURL reports whether nobody between here and there can answer for it.
func secureURL(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return false
	}
	host := u.Hostname()
	return u.Scheme == "https" || u.Scheme == "http" && (host == "localhost" || net.ParseIP(host).IsLoopback())
}

// Name is the issuer's name in the configuration.
func (i *Issuer) Name() string { return i.cfg.Name }

// URL is the issuer's own name of itself.
func (i *Issuer) URL() string { return i.cfg.URL }

// Fingerprint changes with whatever decides who is who at this issuer: a session
// that began under another one is none.
func (i *Issuer) Fingerprint() string {
	parts, _ := json.Marshal([]string{i.cfg.Name, i.cfg.Prefix, i.cfg.URL, i.cfg.ClientID, i.cfg.ClientSecret, i.cfg.UserClaim, i.cfg.GroupsClaim})
	return string(parts)
}

// IssuerOf reads which issuer a token claims to be of; nothing is verified.
// Empty: it is no ID token.
func IssuerOf(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || len(token) > maxToken {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var said struct {
		Issuer json.RawMessage `json:"iss"`
	}
	if json.Unmarshal(payload, &said) != nil {
		return ""
	}
	iss, _ := text(said.Issuer)
	return iss
}

// isCanonical reports whether each part of a token is base64 in the one way in
// which its bytes are written: a signature covers the bytes, and what is let in
// must be the text that was signed.
func isCanonical(token string) bool {
	strict := base64.RawURLEncoding.Strict()
	for part := range strings.SplitSeq(token, ".") {
		if _, err := strict.DecodeString(part); err != nil || strings.ContainsAny(part, "\r\n") {
			return false
		}
	}
	return true
}

// Issued reports whether a token claims to be of this issuer.
func (i *Issuer) Issued(token string) bool { return IssuerOf(token) == i.cfg.URL }

// Verify gives the person of an ID token that somebody sent to the API. The
// error is a *Failure.
func (i *Issuer) Verify(ctx context.Context, token string) (Person, error) {
	c, err := i.verify(ctx, token)
	if err != nil {
		return Person{}, err
	}
	if !slices.ContainsFunc(c.audience, func(a string) bool { return a == i.cfg.ClientID || slices.Contains(i.cfg.Audiences, a) }) {
		return Person{}, failf(Audience, nil, "the ID token is for another service: its aud is none of those of oidc %q", i.cfg.Name)
	}
	return i.person(c), nil
}

// verify checks what holds for every ID token: its issuer, its signature and its
// times. Whom it is for is left to the caller.
func (i *Issuer) verify(ctx context.Context, token string) (claims, error) {
	if len(token) > maxToken {
		return claims{}, failf(Malformed, nil, "the ID token is longer than %d bytes", maxToken)
	}
	if !isCanonical(token) {
		return claims{}, failf(Signature, nil, "this is no ID token as an issuer writes it")
	}
	jws, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil || len(jws.Signatures) != 1 {
		return claims{}, failf(Signature, err, "this is no ID token that is signed with a key of an issuer")
	}
	// RFC 8725, section 3.11: a token of another kind, such as an access or a
	// logout token, must not pass for one of this.
	if typ, there := jws.Signatures[0].Header.ExtraHeaders[jose.HeaderType]; there && typ != "JWT" {
		return claims{}, failf(Malformed, nil, "the token is of another type than an ID token's")
	}
	meta, err := i.metadata(ctx)
	if err != nil {
		return claims{}, err
	}
	keys := &told{keySet: meta.keys}
	verifier := oidc.NewVerifier(i.cfg.URL, keys, &oidc.Config{SupportedSigningAlgs: meta.algorithms,
		SkipClientIDCheck: true, SkipExpiryCheck: true}) // both are done here, strictly
	verified, err := verifier.Verify(ctx, token)
	var failure *Failure
	switch {
	case errors.As(keys.err, &failure):
		return claims{}, failure
	case err != nil && !i.Issued(token):
		return claims{}, failf(Unknown, err, "the ID token is not of the issuer of oidc %q", i.cfg.Name)
	case err != nil:
		return claims{}, failf(Signature, err, "the signature of the ID token is none of the issuer's")
	case verified.Issuer != i.cfg.URL: // the library takes two spellings of one issuer
		return claims{}, failf(Unknown, nil, "the ID token is not of the issuer of oidc %q", i.cfg.Name)
	}
	var payload json.RawMessage
	if err := verified.Claims(&payload); err != nil {
		return claims{}, failf(Malformed, err, "the ID token holds no claims")
	}
	c, err := readClaims(payload, i.cfg.UserClaim, i.cfg.GroupsClaim)
	if err != nil {
		return claims{}, err
	}
	return c, c.inTime(i.cfg.Now())
}

// inTime holds a token's times against a clock. One that was set back makes
// tokens of the future, which are not believed either.
func (c claims) inTime(now time.Time) error {
	switch {
	case !now.Before(c.expires.Add(leeway)):
		return failf(Expired, nil, "the ID token has expired at %s: get a new one", c.expires.Format(time.RFC3339))
	case c.issued.After(now.Add(leeway)) || c.notBefore.After(now.Add(leeway)):
		return failf(TooEarly, nil, "the ID token is of the future: it is %s here; compare the clocks of this service and of the issuer", now.UTC().Format(time.RFC3339))
	}
	return nil
}

// person is whom verified claims name, with what the rules grant.
func (i *Issuer) person(c claims) Person {
	p := Person{Name: i.cfg.Prefix + c.user, Kind: KindOIDC, Via: i.cfg.Name, Subject: c.subject, Decides: true}
	for _, address := range []string{c.user, c.email} {
		if isAddress(address) && !slices.Contains(p.Emails, address) {
			p.Emails = append(p.Emails, address)
		}
	}
	for _, g := range c.groups {
		p.Groups = append(p.Groups, i.cfg.Prefix+g)
	}
	return i.Granted(p)
}

// Granted gives a person of this issuer, known from before, what the rules grant
// now.
func (i *Issuer) Granted(p Person) Person {
	p.Grants = i.cfg.Rules.grantsFor(i.cfg.Prefix, p.Name, p.Groups)
	return p
}

// Named reports whether a rule names the group.
func (i *Issuer) Named(group string) bool { return i.cfg.Rules.names(group) }

// Attempt is a login that has begun. Its fields are for the browser that began
// it, and must come back from there.
type Attempt struct {
	State    string `json:"state"`
	Nonce    string `json:"nonce"`
	Verifier string `json:"verifier"` // of PKCE
}

// Begin starts a login and gives the address at the issuer to send the browser
// to. redirect is where it comes back. The error is a *Failure.
func (i *Issuer) Begin(ctx context.Context, redirect string) (address string, a Attempt, err error) {
	meta, err := i.metadata(ctx)
	if err != nil {
		return "", a, err
	}
	a = Attempt{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier()}
	return i.oauth(meta, redirect).AuthCodeURL(a.State, oidc.Nonce(a.Nonce), oauth2.S256ChallengeOption(a.Verifier)), a, nil
}

// Finish ends a login with the code that the issuer gave, and gives the person.
// redirect is that of Begin. The error is a *Failure.
func (i *Issuer) Finish(ctx context.Context, redirect, code string, a Attempt) (Person, error) {
	meta, err := i.metadata(ctx)
	if err != nil {
		return Person{}, err
	}
	tokens, err := i.oauth(meta, redirect).Exchange(oidc.ClientContext(ctx, i.client), code, oauth2.VerifierOption(a.Verifier))
	var refused *oauth2.RetrieveError
	switch {
	case errors.As(err, &refused) && refused.Response.StatusCode < http.StatusInternalServerError:
		return Person{}, failf(Login, err, "the issuer did not take the code of this login: log in again")
	case err != nil:
		return Person{}, failf(Unavailable, err, "the issuer of oidc %q does not answer: try again in a moment", i.cfg.Name)
	}
	token, _ := tokens.Extra("id_token").(string)
	if token == "" {
		return Person{}, failf(Login, nil, "the issuer gave no ID token")
	}
	c, err := i.verify(ctx, token)
	switch {
	case err != nil:
		return Person{}, err
	case !slices.Contains(c.audience, i.cfg.ClientID) || c.azp != "" && c.azp != i.cfg.ClientID:
		return Person{}, failf(Audience, nil, "the ID token of this login is for another service")
	case a.Nonce == "" || subtle.ConstantTimeCompare([]byte(c.nonce), []byte(a.Nonce)) != 1:
		return Person{}, failf(Login, nil, "the ID token is of another login: log in again")
	}
	return i.person(c), nil
}

func (i *Issuer) oauth(meta *metadata, redirect string) *oauth2.Config {
	return &oauth2.Config{ClientID: i.cfg.ClientID, ClientSecret: i.cfg.ClientSecret, RedirectURL: redirect, Endpoint: meta.endpoint,
		Scopes: append([]string{oidc.ScopeOpenID, "email", "profile"}, i.cfg.Scopes...)}
}
