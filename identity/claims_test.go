package identity

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"

	"github.com/waymark-cd/waymark/release"
)

var fuzzNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// FuzzClaims: whatever an issuer signs, what comes out of it can be shown,
// compared and kept, and is nobody else's name.
func FuzzClaims(f *testing.F) {
	for _, s := range []string{
		`{"sub":"1","aud":"waymark","exp":1772370000,"email":"alice@example.org","groups":["release","staff"]}`,
		`{"sub":"1","aud":["a","b"],"exp":1772370000.5,"iat":1,"nbf":1e3,"email":"a","groups":"release","email_verified":"true"}`,
		`{"sub":"","aud":[],"exp":-1,"email":["x"],"groups":{"a":1}}`,
		`{"sub":"1","aud":"w","exp":1e400,"email":"group:release"}`,
		`{"sub":"1","aud":"w","exp":9223372036854775808,"email":"\u202eadmin","groups":[null,1,true,[]]}`,
		`{"sub":"1","aud":"w","exp":2,"email":"local","email_verified":false}`,
		`{"sub":"1","sub":"2","aud":"w","exp":2,"email":"a","email":"b"}`,
		`[]`, `null`, `{}`, `"x"`, ``, "{\"email\":\"\xff\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		c, err := readClaims(payload, "email", "groups")
		if err != nil {
			return
		}
		var all map[string]any
		if json.Unmarshal(payload, &all) != nil {
			t.Fatalf("%q is no JSON, and names %q", payload, c.user)
		}
		if CheckName(c.user) != nil || !wellFormed(c.subject) || strings.HasPrefix(c.user, release.GroupPrefix) {
			t.Fatalf("%q names %q", payload, c.user)
		}
		if said, ok := all["email_verified"]; ok && said != true && said != "true" {
			t.Fatalf("%q names %q, which is not verified", payload, c.user)
		}
		if c.expires.IsZero() || c.expires.Year() > 9999 || len(c.audience) == 0 || len(c.groups) > maxGroups {
			t.Fatalf("%q gives %+v", payload, c)
		}
		if !slices.IsSorted(c.groups) || slices.ContainsFunc(c.groups, func(g string) bool { return CheckGroup(g) != nil || !utf8.ValidString(g) }) {
			t.Fatalf("%q gives groups %q", payload, c.groups)
		}
		now := c.expires.Add(leeway)
		if c.inTime(now) == nil {
			t.Fatalf("%q counts at %s", payload, now)
		}
		i := Issuer{cfg: IssuerConfig{Name: "corp", Prefix: "corp/", Rules: Rules{{Users: []string{"alice@example.org"}, Groups: []string{"release"}, Grant: Grant{Role: Admin}}}}}
		if p := i.person(c); len(p.Grants) > 0 || !strings.HasPrefix(p.Name, "corp/") {
			t.Fatalf("%q got %+v of a rule for another issuer", payload, p)
		}
	})
}

// signedBy makes a token with a fixed key.
func signedBy(key ed25519.PrivateKey, header, payload string) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	signature, err := key.Sign(nil, []byte(text), crypto.Hash(0))
	if err != nil {
		panic(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// FuzzIDToken: no text is let in but what the issuer has signed, byte for byte.
func FuzzIDToken(f *testing.F) {
	seed := sha256.Sum256([]byte("waymark"))
	key := ed25519.NewKeyFromSeed(seed[:])
	const payload = `{"iss":"https://login.example.org","sub":"1","aud":"waymark","exp":1772370000,"email":"alice@example.org","groups":["release"]}`
	good := signedBy(key, `{"alg":"EdDSA","kid":"k"}`, payload)
	keys := newKeySet("https://login.example.org/keys", nil, func() time.Time { return fuzzNow })
	keys.keys, keys.fetched, keys.tried = []jose.JSONWebKey{{Key: key.Public(), KeyID: "k"}}, fuzzNow, fuzzNow
	i, err := NewIssuer(IssuerConfig{Name: "corp", URL: "https://login.example.org", ClientID: "waymark", UserClaim: "email", GroupsClaim: "groups",
		Now: func() time.Time { return fuzzNow }})
	if err != nil {
		f.Fatal(err)
	}
	i.meta, i.tried = &metadata{keys: keys, algorithms: []string{"EdDSA", "RS256", "ES256"}, read: fuzzNow}, fuzzNow
	if p, err := i.Verify(f.Context(), good); err != nil || p.Name != "alice@example.org" {
		f.Fatalf("the token itself: %+v, %v", p, err)
	}
	parts := strings.Split(good, ".")
	for _, s := range []string{good, parts[0] + "." + parts[1] + ".", "." + parts[1] + "." + parts[2], good + ".", "..", "",
		signedBy(key, `{"alg":"none","kid":"k"}`, payload), signedBy(key, `{"alg":"EdDSA","kid":"x"}`, payload),
		signedBy(key, `{"alg":"EdDSA","typ":"at+jwt"}`, payload), signedBy(key, `{"alg":"EdDSA","crit":["x"],"x":1}`, payload),
		`{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`} {
		f.Add(s)
	}
	signed := map[string]bool{parts[0] + "." + parts[1]: true}
	f.Fuzz(func(t *testing.T, token string) {
		IssuerOf(token)
		p, err := i.Verify(t.Context(), token)
		if err != nil {
			if p.Name != "" {
				t.Fatalf("%q is refused, and names %q", token, p.Name)
			}
			return
		}
		if end := strings.LastIndexByte(token, '.'); end < 0 || !signed[token[:end]] {
			t.Fatalf("%q is let in as %q", token, p.Name)
		}
	})
}
