package identity

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"time"
)

// claims is what counts in an ID token whose signature holds.
type claims struct {
	subject, user string
	email         string // empty where there is none that counts
	groups        []string
	audience      []string
	azp, nonce    string
	expires       time.Time
	issued        time.Time // zero where the token does not say
	notBefore     time.Time // zero where the token does not say
}

// readClaims reads a payload. Whatever is not of the shape that the
// specification has (OpenID Connect Core 1.0, section 2) is an error where it
// decides who somebody is, and left out where it could only give more rights.
func readClaims(payload []byte, userClaim, groupsClaim string) (claims, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(payload, &raw); err != nil || raw == nil {
		return claims{}, failf(Malformed, err, "the ID token holds no claims")
	}
	var c claims
	var ok bool
	if c.subject, ok = text(raw["sub"]); !ok || !wellFormed(c.subject) {
		return c, failf(Claims, nil, "the ID token has no subject")
	}
	if c.audience, ok = texts(raw["aud"]); !ok || len(c.audience) == 0 {
		return c, failf(Audience, nil, "the ID token is for nobody: it has no aud")
	}
	for name, at := range map[string]*string{"azp": &c.azp, "nonce": &c.nonce} {
		if value, there := raw[name]; there {
			if *at, ok = text(value); !ok {
				return c, failf(Malformed, nil, "the claim %s of the ID token is no text", name)
			}
		}
	}
	if c.expires, ok = instant(raw["exp"]); !ok || c.expires.IsZero() {
		return c, failf(Malformed, nil, "the ID token does not say when it expires")
	}
	for name, at := range map[string]*time.Time{"iat": &c.issued, "nbf": &c.notBefore} {
		if *at, ok = instant(raw[name]); !ok {
			return c, failf(Malformed, nil, "the claim %s of the ID token is no time", name)
		}
	}
	return c, c.readPerson(raw, userClaim, groupsClaim)
}

// readPerson reads who the token is about.
func (c *claims) readPerson(raw map[string]json.RawMessage, userClaim, groupsClaim string) error {
	var ok bool
	if c.user, ok = text(raw[userClaim]); !ok || CheckName(c.user) != nil {
		return failf(Claims, nil, "the claim %s of the ID token names nobody: the issuer must be told to give it, or oidc { user_claim } to name another", userClaim)
	}
	verified := true
	if value, there := raw["email_verified"]; there {
		said, isText := text(value)
		verified = bytes.Equal(value, []byte("true")) || isText && said == "true"
	}
	if userClaim == "email" && !verified {
		return failf(Claims, nil, "the issuer has not verified the e-mail address of %s: it names nobody", c.user)
	}
	// An address that is not verified counts against whoever claims it, as that of
	// somebody who tagged, and never for them.
	if email, ok := text(raw["email"]); ok && wellFormed(email) && isAddress(email) {
		c.email = email
	}
	groups, ok := texts(raw[groupsClaim])
	if value, there := raw[groupsClaim]; there && !ok && string(value) != "null" {
		return failf(Claims, nil, "the claim %s of the ID token is no list of names", groupsClaim)
	}
	if len(groups) > maxGroups {
		return failf(Claims, nil, "the ID token names %d groups, and %d are the most: let the issuer filter them", len(groups), maxGroups)
	}
	for _, g := range groups {
		if CheckGroup(g) == nil {
			c.groups = append(c.groups, g)
		}
	}
	slices.Sort(c.groups)
	c.groups = slices.Compact(c.groups)
	return nil
}

// text reads a JSON string.
func text(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// texts reads a list of JSON strings, or one of them alone.
func texts(raw json.RawMessage) ([]string, bool) {
	if one, ok := text(raw); ok {
		return []string{one}, true
	}
	var parts []json.RawMessage
	if len(raw) == 0 || raw[0] != '[' || json.Unmarshal(raw, &parts) != nil {
		return nil, false
	}
	out := make([]string, 0, len(parts))
	for _, part := range parts {
		s, ok := text(part)
		if !ok {
			return nil, false
		}
		out = append(out, s)
	}
	return out, true
}

// latest is the last second that can be printed with a year of four digits.
const latest = 253402300799

// instant reads a time in seconds since 1970; absent is the zero time. What is
// no number, or out of any calendar, is no time.
func instant(raw json.RawMessage) (time.Time, bool) {
	if len(raw) == 0 {
		return time.Time{}, true
	}
	seconds, err := strconv.ParseFloat(string(raw), 64) // JSON has neither NaN nor hexadecimal
	if err != nil || seconds < 1 || seconds > latest {
		return time.Time{}, false
	}
	return time.Unix(int64(seconds), 0).UTC(), true
}
