package gitrepo

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// allowedSigner is one line of a file of allowed signers.
type allowedSigner struct {
	list       string   // the principals as they are written
	principals []string // patterns
	namespaces []string // patterns; none: every namespace
	after      time.Time
	before     time.Time
	key        ssh.PublicKey
}

// parseAllowedSigners reads a file of allowed signers: on each line principals,
// options, a key and a comment. Empty lines, and those that begin with #, say
// nothing.
func parseAllowedSigners(file string, data []byte) (keys []allowedSigner, problems []KeyProblem) {
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, err := parseAllowedSigner(line)
		if err != nil {
			problems = append(problems, KeyProblem{File: file, Line: number, Text: err.Error()})
			continue
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 && len(problems) == 0 {
		problems = append(problems, KeyProblem{File: file, Text: "there is no key: write lines such as jane@example.org ssh-ed25519 AAAA..."})
	}
	return keys, problems
}

func parseAllowedSigner(line string) (allowedSigner, error) {
	var a allowedSigner
	list, rest, err := firstField(line)
	if err != nil {
		return a, err
	}
	a.list = list
	if a.principals, err = patterns(list); err != nil {
		return a, fmt.Errorf("the principals %q: %w", clip(list), err)
	}
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(rest))
	if err != nil {
		return a, errors.New("there is no key that can be read after the principals: write principals, options if any, and the key as in the .pub file")
	}
	if err := checkSSHKey(key); err != nil {
		return a, err
	}
	a.key = key
	seen := map[string]bool{}
	for _, option := range options {
		name, value, hasValue := strings.Cut(option, "=")
		name = strings.ToLower(name)
		if seen[name] {
			return a, fmt.Errorf("the option %s is there twice: take one out", clip(name))
		}
		seen[name] = true
		if err := a.option(name, value, hasValue); err != nil {
			return a, err
		}
	}
	if !a.after.IsZero() && !a.before.IsZero() && !a.before.After(a.after) {
		return a, errors.New("valid-before is not later than valid-after, so that the key is never valid: correct one of them")
	}
	return a, nil
}

// firstField takes the first field off a line; it may stand in quotes.
func firstField(line string) (field, rest string, err error) {
	if quoted, ok := strings.CutPrefix(line, `"`); ok {
		field, rest, ok = strings.Cut(quoted, `"`)
		if !ok {
			return "", "", errors.New("the quotes around the principals do not end: close them")
		}
		return field, strings.TrimLeft(rest, " \t"), nil
	}
	i := strings.IndexAny(line, " \t")
	if i < 0 {
		return "", "", errors.New("there is no key: write principals, options if any, and the key as in the .pub file")
	}
	return line[:i], strings.TrimLeft(line[i:], " \t"), nil
}

// checkSSHKey refuses keys whose signatures do not count.
func checkSSHKey(key ssh.PublicKey) error {
	if _, ok := key.(*ssh.Certificate); ok {
		return errors.New("this is a certificate: write the plain key")
	}
	switch key.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKECDSA256:
		return nil
	case ssh.KeyAlgoRSA:
		if public, ok := key.(ssh.CryptoPublicKey); ok {
			if k, ok := public.CryptoPublicKey().(*rsa.PublicKey); ok && k.N.BitLen() >= leastRSABits {
				return nil
			}
		}
		return fmt.Errorf("RSA keys need %d bits: make a new key with ssh-keygen -t ed25519", leastRSABits)
	}
	return fmt.Errorf("signatures by a key of the type %s are not verified: make a new key with ssh-keygen -t ed25519", clip(key.Type()))
}

// option takes one option of a line.
func (a *allowedSigner) option(name, value string, hasValue bool) error {
	if name == "cert-authority" {
		return errors.New("cert-authority is not supported: write the signers' own keys, one on each line")
	}
	if !slices.Contains([]string{"namespaces", "valid-after", "valid-before"}, name) {
		return fmt.Errorf("there is no option %q: known: namespaces, valid-after, valid-before", clip(name))
	}
	text, err := dequote(value)
	if err != nil || !hasValue {
		return fmt.Errorf("the option %s needs a value in quotes, such as %s=\"...\"", name, name)
	}
	switch name {
	case "namespaces":
		if a.namespaces, err = patterns(text); err != nil {
			return fmt.Errorf("the option namespaces: %w", err)
		}
	case "valid-after":
		a.after, err = parseTimestamp(text)
	case "valid-before":
		a.before, err = parseTimestamp(text)
	}
	if err != nil {
		return fmt.Errorf("the option %s: %w", name, err)
	}
	return nil
}

// dequote takes the quotes off a value; inside, a backslash before a quote stands
// for the quote.
func dequote(s string) (string, error) {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return "", errors.New("no quotes")
	}
	return strings.ReplaceAll(s[1:len(s)-1], `\"`, `"`), nil
}

// parseTimestamp reads YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, in UTC where a Z
// follows and otherwise in the time zone of this machine, as ssh-keygen does.
func parseTimestamp(s string) (time.Time, error) {
	text, zone := s, time.Local
	if n := len(s) - 1; n > 0 && (s[n] == 'Z' || s[n] == 'z') {
		text, zone = s[:n], time.UTC
	}
	layout, ok := map[int]string{8: "20060102", 12: "200601021504", 14: "20060102150405"}[len(text)]
	if ok {
		if at, err := time.ParseInLocation(layout, text, zone); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time: write one such as 20261231Z or 20261231235959Z", clip(s))
}

// patterns splits a list at its commas.
func patterns(list string) ([]string, error) {
	all := strings.Split(list, ",")
	if slices.Contains(all, "") || slices.Contains(all, "!") {
		return nil, errors.New("a part is empty: write names or patterns with commas between them")
	}
	return all, nil
}

// isPlain reports whether a pattern stands for itself alone.
func isPlain(pattern string) bool {
	return !strings.ContainsAny(pattern, "*?") && pattern[0] != '!'
}

// listMatch is what a list of patterns says of a name.
type listMatch int

const (
	unmatched listMatch = iota
	matched
	excluded // by a pattern that begins with an exclamation mark, whatever else matches
)

// matchList matches a name against a list of patterns, as ssh_config(5) describes
// under PATTERNS.
func matchList(list []string, name string) listMatch {
	result := unmatched
	for _, pattern := range list {
		positive, negated := strings.CutPrefix(pattern, "!")
		if !matchPattern(positive, name) {
			continue
		}
		if negated {
			return excluded
		}
		result = matched
	}
	return result
}

// matchPattern matches a name against a pattern with * for any text and ? for any
// one byte. It takes no more steps than the product of both lengths.
func matchPattern(pattern, name string) bool {
	p, n, star, from := 0, 0, -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p++
			n++
		case star >= 0:
			from++
			p, n = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
