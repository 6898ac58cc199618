package testkit

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// OIDC is a small issuer of OpenID Connect: discovery, keys, the authorization
// code flow with PKCE, and ID tokens. Whoever comes to its login is the person
// that SignIn has named.
type OIDC struct {
	URL          string
	ClientID     string
	ClientSecret string
	CAFile       string // of its certificate; empty where it is reached by http

	transport http.RoundTripper
	t         testing.TB
	mu        sync.Mutex
	now       func() time.Time
	key       *rsa.PrivateKey
	kid       string
	person    map[string]any       // claims of whoever logs in; nil: nobody is let in
	codes     map[string]oidcGrant // that were given and not taken yet
	down      map[string]bool      // paths that answer 503
	asked     map[string]int       // requests by path
}

// oidcGrant is what one code stands for.
type oidcGrant struct {
	redirect, challenge, nonce string
	person                     map[string]any
}

// StartOIDC starts an issuer on loopback, by https where secure.
func StartOIDC(t testing.TB, secure bool) *OIDC {
	t.Helper()
	o := &OIDC{ClientID: "waymark", ClientSecret: "client-s3cret", t: t, now: time.Now,
		codes: map[string]oidcGrant{}, down: map[string]bool{}, asked: map[string]int{}}
	o.Rotate()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", o.discovery)
	mux.HandleFunc("GET /keys", o.keys)
	mux.HandleFunc("GET /authorize", o.authorize)
	mux.HandleFunc("POST /token", o.token)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		o.asked[r.URL.Path]++
		down := o.down[r.URL.Path]
		o.mu.Unlock()
		if down {
			http.Error(w, "down for repairs", http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	if secure {
		server.StartTLS()
		o.CAFile = filepath.Join(t.TempDir(), "issuer-ca.pem")
		cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		if err := os.WriteFile(o.CAFile, cert, 0o600); err != nil {
			t.Fatal(err)
		}
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	o.URL, o.transport = server.URL, server.Client().Transport
	return o
}

// Transport is for a browser that trusts the issuer's certificate.
func (o *OIDC) Transport() http.RoundTripper { return o.transport }

// SetNow gives the issuer another clock.
func (o *OIDC) SetNow(now func() time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.now = now
}

// SignIn names who logs in from now on, by the claims that an ID token is to
// hold beside those of every token; nil: the issuer lets nobody in.
func (o *OIDC) SignIn(claims map[string]any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.person = claims
}

// Rotate gives the issuer a new key, which it signs with from now on. The old one
// is no longer among its keys.
func (o *OIDC) Rotate() {
	key := nextRSAKey(o.t)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.key, o.kid = key, rand.Text()
}

// rsaKeys are made once each, because that takes long, and go round: a key that
// was rotated out is another than the next ones.
var rsaKeys struct {
	sync.Mutex
	all  [6]*rsa.PrivateKey
	next int
}

func nextRSAKey(t testing.TB) *rsa.PrivateKey {
	rsaKeys.Lock()
	defer rsaKeys.Unlock()
	at := rsaKeys.next % len(rsaKeys.all)
	rsaKeys.next++
	if rsaKeys.all[at] == nil {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		rsaKeys.all[at] = key
	}
	return rsaKeys.all[at]
}

// Down makes a path answer 503, or again as it should.
func (o *OIDC) Down(path string, down bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.down[path] = down
}

// Asked is how often a path was asked for.
func (o *OIDC) Asked(path string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked[path]
}

// Token makes an ID token for the client, valid for ten minutes. The claims come
// on top of those of every token; one that is nil takes its name out.
func (o *OIDC) Token(claims map[string]any) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sign(claims)
}

// sign makes a token; the lock is held.
func (o *OIDC) sign(claims map[string]any) string {
	now := o.now()
	all := map[string]any{"iss": o.URL, "aud": o.ClientID, "sub": "subject-1", "iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix()}
	maps.Copy(all, claims)
	maps.DeleteFunc(all, func(_ string, value any) bool { return value == nil })
	return JWT(o.t, map[string]any{"alg": "RS256", "kid": o.kid, "typ": "JWT"}, all, o.key)
}

// Forge makes a token with another header, or another key, than the issuer would.
// A header that is nil is taken out. The
// claims are those of Token. A key of []byte signs with HMAC, as do the bytes of
// the issuer's public key where key is "public"; nil leaves the signature empty.
func (o *OIDC) Forge(header, claims map[string]any, key any) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	parts := strings.Split(o.sign(claims), ".")
	var all map[string]any
	payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
	if err := json.Unmarshal(payload, &all); err != nil {
		o.t.Fatal(err)
	}
	head := map[string]any{"alg": "RS256", "kid": o.kid, "typ": "JWT"}
	maps.Copy(head, header)
	maps.DeleteFunc(head, func(_ string, value any) bool { return value == nil })
	if key == "public" {
		der, err := x509.MarshalPKIXPublicKey(&o.key.PublicKey)
		if err != nil {
			o.t.Fatal(err)
		}
		key = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}
	if key == "own" {
		key = o.key
	}
	return JWT(o.t, head, all, key)
}

// NewECKey makes a key for ES256.
func NewECKey(t testing.TB) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// JWT makes a token in compact form, signed by the kind of key: RSA as RS256,
// ECDSA as ES256, bytes as HS256, nil not at all; whatever the header says.
func JWT(t testing.TB, header, claims map[string]any, key any) string {
	t.Helper()
	part := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(data)
	}
	text := part(header) + "." + part(claims)
	sum := sha256.Sum256([]byte(text))
	var signature []byte
	var err error
	switch key := key.(type) {
	case nil:
	case []byte:
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(text))
		signature = mac.Sum(nil)
	case *rsa.PrivateKey:
		signature, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	case *ecdsa.PrivateKey:
		var r, s *big.Int
		if r, s, err = ecdsa.Sign(rand.Reader, key, sum[:]); err == nil {
			signature = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		}
	default:
		err = fmt.Errorf("no way to sign with %T", key)
	}
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func (o *OIDC) discovery(w http.ResponseWriter, _ *http.Request) {
	answerJSON(w, map[string]any{"issuer": o.URL, "authorization_endpoint": o.URL + "/authorize", "token_endpoint": o.URL + "/token",
		"jwks_uri": o.URL + "/keys", "id_token_signing_alg_values_supported": []string{"RS256", "ES256", "HS256", "none"},
		"response_types_supported": []string{"code"}, "code_challenge_methods_supported": []string{"S256"}})
}

// keys serves the public key, and beside it what must never verify a token: a
// secret, and a key for encryption.
func (o *OIDC) keys(w http.ResponseWriter, _ *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	public := map[string]string{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": o.kid,
		"n": base64.RawURLEncoding.EncodeToString(o.key.N.Bytes()), "e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(o.key.E)).Bytes())}
	secret := map[string]string{"kty": "oct", "kid": "secret", "k": base64.RawURLEncoding.EncodeToString([]byte("secret"))}
	other := maps.Clone(public)
	other["use"], other["kid"], other["alg"] = "enc", "encryption", "RSA-OAEP"
	answerJSON(w, map[string]any{"keys": []any{secret, other, map[string]string{"kty": "future"}, public}})
}

// authorize is the login page of whoever SignIn has named, who agrees at once.
func (o *OIDC) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	redirect, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || redirect.Host == "" || q.Get("client_id") != o.ClientID {
		http.Error(w, "no such client or redirect_uri", http.StatusBadRequest)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	back := url.Values{"state": {q.Get("state")}, "iss": {o.URL}}
	switch {
	case q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") == "" ||
		!strings.Contains(" "+q.Get("scope")+" ", " openid ") || q.Get("state") == "" || q.Get("nonce") == "":
		back.Set("error", "invalid_request")
	case o.person == nil:
		back.Set("error", "access_denied")
	default:
		code := rand.Text()
		o.codes[code] = oidcGrant{redirect: q.Get("redirect_uri"), challenge: q.Get("code_challenge"), nonce: q.Get("nonce"), person: o.person}
		back.Set("code", code)
	}
	redirect.RawQuery = back.Encode()
	http.Redirect(w, r, redirect.String(), http.StatusFound)
}

// token gives the ID token of a code, once.
func (o *OIDC) token(w http.ResponseWriter, r *http.Request) {
	id, secret, basic := r.BasicAuth()
	if !basic {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	grant, there := o.codes[r.PostFormValue("code")]
	delete(o.codes, r.PostFormValue("code"))
	challenge := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	fail := func(status int, code string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": code})
	}
	switch {
	case id != o.ClientID || secret != o.ClientSecret:
		fail(http.StatusUnauthorized, "invalid_client")
	case !there || r.PostFormValue("grant_type") != "authorization_code" || r.PostFormValue("redirect_uri") != grant.redirect ||
		base64.RawURLEncoding.EncodeToString(challenge[:]) != grant.challenge:
		fail(http.StatusBadRequest, "invalid_grant")
	default:
		claims := map[string]any{"nonce": grant.nonce}
		maps.Copy(claims, grant.person)
		answerJSON(w, map[string]any{"access_token": rand.Text(), "token_type": "Bearer", "expires_in": 600, "id_token": o.sign(claims)})
	}
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}
