package server

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// freshFor is how far the time of a signed webhook may be from ours.
const freshFor = 5 * time.Minute

// signingPrefix marks the signing token of a GitLab webhook: what follows is the
// key in base64, as in the Standard Webhooks specification.
const signingPrefix = "whsec_"

// proof is how a webhook shows that its sender knows the secret: by an HMAC over
// its raw body or, with older GitLabs, by the secret itself.
type proof struct {
	before   string   // what is hashed ahead of the body
	standard bool     // the key is that of a signing token
	sums     [][]byte // any of which must be the HMAC-SHA256
	token    string   // the secret itself; empty: sums count
}

// proofOf reads the strongest proof that a webhook's header has: a wrong one is
// not mended by a weaker one beside it. What is wrong with it already is the reason.
func proofOf(h http.Header, now time.Time) (p proof, reason string) {
	for _, scheme := range []struct {
		header string
		read   func(p *proof, value string) string
	}{
		{"Webhook-Signature", func(p *proof, v string) string { return p.readStandard(h, v, now) }},
		{"X-Hub-Signature-256", func(p *proof, v string) string { return p.readHex(v, "sha256=") }},
		{"X-Forgejo-Signature", func(p *proof, v string) string { return p.readHex(v, "") }},
		{"X-Gitea-Signature", func(p *proof, v string) string { return p.readHex(v, "") }},
		{"X-Hub-Signature", func(p *proof, v string) string { return p.readHex(v, "sha256=") }},
		{"X-Gitlab-Token", func(p *proof, v string) string { p.token = v; return "" }},
	} {
		if v := h.Get(scheme.header); v != "" {
			return p, scheme.read(&p, v)
		}
	}
	return p, "unsigned"
}

// readHex reads an HMAC in hexadecimal.
func (p *proof) readHex(value, prefix string) (reason string) {
	digits, ok := strings.CutPrefix(value, prefix)
	sum, err := hex.DecodeString(digits)
	if !ok || err != nil || len(sum) != sha256.Size {
		return "signature"
	}
	p.sums = [][]byte{sum}
	return ""
}

// readStandard reads what the Standard Webhooks specification says, as GitLab
// sends it for a signing token: the id and the time are signed with the body.
func (p *proof) readStandard(h http.Header, value string, now time.Time) (reason string) {
	id, at := h.Get("Webhook-Id"), h.Get("Webhook-Timestamp")
	p.before, p.standard = id+"."+at+".", true
	for one := range strings.FieldsSeq(value) {
		if encoded, ok := strings.CutPrefix(one, "v1,"); ok && len(p.sums) < 8 {
			if sum, err := base64.StdEncoding.DecodeString(encoded); err == nil {
				p.sums = append(p.sums, sum)
			}
		}
	}
	seconds, err := strconv.ParseInt(at, 10, 64)
	switch {
	case err != nil || id == "" || len(p.sums) == 0:
		return "signature"
	case now.Sub(time.Unix(seconds, 0)).Abs() > freshFor:
		return "stale"
	}
	return ""
}

// mac is the hash that the body is written to.
func (p proof) mac(secret string) hash.Hash {
	key := []byte(secret)
	if encoded, ok := strings.CutPrefix(secret, signingPrefix); ok && p.standard {
		if decoded, err := base64.StdEncoding.DecodeString(encoded); err == nil {
			key = decoded
		}
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(p.before))
	return mac
}

// holds compares in constant time, whatever the lengths.
func (p proof) holds(secret string, mac hash.Hash) bool {
	if p.token != "" {
		sent, want := sha256.Sum256([]byte(p.token)), sha256.Sum256([]byte(secret))
		return subtle.ConstantTimeCompare(sent[:], want[:]) == 1
	}
	sum, ok := mac.Sum(nil), 0
	for _, sent := range p.sums {
		ok |= subtle.ConstantTimeCompare(sum, sent)
	}
	return ok == 1
}
