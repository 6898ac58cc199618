package mask

import (
	"math"
	"regexp"
	"strings"
)

// shape is a kind of secret that shows by its form. marks are texts of which one
// must be there for the expression to be tried; group is what of it is secret.
type shape struct {
	marks []string
	re    *regexp.Regexp
	group int
}

var shapes = []shape{
	{[]string{"AKIA", "ASIA"}, regexp.MustCompile(`\b(?:AKIA|ASIA)[A-Z0-9]{16}\b`), 0},
	{[]string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"}, regexp.MustCompile(`\b(?:gh[pousr]_[A-Za-z0-9]{30,255}|github_pat_[A-Za-z0-9_]{22,255})`), 0},
	{[]string{"glpat-", "gldt-", "glcbt-", "glptt-", "glft-", "glimt-", "glagent-", "glsoat-", "glrt-", "gloas-", "glffct-"}, regexp.MustCompile(`\bgl(?:pat|dt|cbt|ptt|ft|imt|agent|soat|rt|oas|ffct)-[A-Za-z0-9_.-]{20,}`), 0},
	{[]string{"xox", "xapp-", "xwfp-"}, regexp.MustCompile(`\b(?:xox[a-z]|xapp|xwfp)-[A-Za-z0-9-]{10,}`), 0},
	{[]string{"hooks.slack.com"}, regexp.MustCompile(`hooks\.slack\.com/[a-z]+/([A-Za-z0-9/_-]{20,})`), 1},
	{[]string{"eyJ"}, regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?`), 0},
	{[]string{"AGE-SECRET-KEY-"}, regexp.MustCompile(`AGE-SECRET-KEY-[0-9A-Za-z-]+`), 0},
	{[]string{"wm_"}, regexp.MustCompile(`\bwm_[A-Za-z0-9_-]{20,}`), 0},
	{[]string{"hvs.", "hvb.", "hvr."}, regexp.MustCompile(`\bhv[sbr]\.[A-Za-z0-9_-]{20,}`), 0},
	{[]string{".atlasv1."}, regexp.MustCompile(`\b[A-Za-z0-9]{10,}\.atlasv1\.[A-Za-z0-9_-]{40,}`), 0},
	{[]string{"sk_live_", "rk_live_", "sk_test_", "rk_test_"}, regexp.MustCompile(`\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,}`), 0},
	{[]string{"AIza"}, regexp.MustCompile(`\bAIza[A-Za-z0-9_-]{35}`), 0},
	{[]string{"npm_", "pypi-", "dop_v1_", "SG."}, regexp.MustCompile(`\b(?:npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,}|dop_v1_[a-f0-9]{64}|SG\.[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,})`), 0},
	{[]string{"://"}, regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^/\s:@"']*:([^/\s@"']+)@`), 1},
	{[]string{"uthorization", "UTHORIZATION"}, regexp.MustCompile(`(?i)\bauthorization["']?\s*[:=]\s*["']?(?:(?:basic|bearer|token)\s+)?([^\s"',]{6,})`), 1},
	{[]string{"PRIVATE KEY"}, regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(.*?)(?:-----END|\z)`), 1},
}

func findShapes(s string, found []span) []span {
	for _, shape := range shapes {
		there := false
		for _, mark := range shape.marks {
			there = there || strings.Contains(s, mark)
		}
		if !there {
			continue
		}
		for _, at := range shape.re.FindAllStringSubmatchIndex(s, -1) {
			found = append(found, span{at[2*shape.group], at[2*shape.group+1]})
		}
	}
	return found
}

// minToken is the length, in bytes, from which a token is judged by its looks.
const minToken = 24

// The classes of characters of a token.
const (
	lower = 1 << iota
	upper
	digit
	sign
)

func classOf(c byte) int {
	switch {
	case c >= 'a' && c <= 'z':
		return lower
	case c >= 'A' && c <= 'Z':
		return upper
	case c >= '0' && c <= '9':
		return digit
	case c == '+' || c == '/' || c == '=' || c == '-' || c == '_':
		return sign
	}
	return 0
}

// findRandom appends the tokens that look random: keys in base 64 and their like.
// Hexadecimal is left alone, for commits, digests and UUIDs are of it.
func findRandom(s string, found []span) []span {
	for i := 0; i < len(s); i++ {
		from := i
		for i < len(s) && classOf(s[i]) != 0 {
			i++
		}
		if i-from < minToken || public(s[:from], s[from:i]) {
			continue
		}
		// More of them than chance puts into a key make a path or an assignment.
		isPath := strings.Count(s[from:i], "/") > max(2, (i-from)/16) || strings.Contains(strings.TrimRight(s[from:i], "="), "=")
		if !isPath && random(s[from:i]) {
			found = append(found, span{from, i})
			continue
		}
		for at := from; at < i; { // a key may stand among the parts of a path
			end := at
			for end < i && s[end] != '/' && s[end] != '=' {
				end++
			}
			if random(s[at:end]) {
				found = append(found, span{at, end})
			}
			at = end + 1
		}
	}
	return found
}

// public reports whether a token is one that everybody may know: a digest that
// says so, or a public key.
func public(before, token string) bool {
	for _, kind := range []string{"h1:", "zh:", "sha1:", "sha256:", "sha512:", "SHA256:", "md5:"} {
		if strings.HasSuffix(before, kind) {
			return true
		}
	}
	for _, kind := range []string{"sha1-", "sha256-", "sha384-", "sha512-", "AAAAB3Nza", "AAAAC3Nza", "AAAAE2Vj", "AAAAGnNr", "age1"} {
		if strings.HasPrefix(token, kind) {
			return true
		}
	}
	return false
}

// random reports whether a token looks as if drawn by lot: many different
// characters, and of changing classes, as words and names do not have them.
func random(token string) bool {
	if len(token) < minToken {
		return false
	}
	var counts [256]int
	classes, changes, hex := 0, 0, true
	for i := range len(token) {
		c := token[i]
		counts[c]++
		class := classOf(c)
		classes |= class
		if i > 0 && class != classOf(token[i-1]) {
			changes++
		}
		hex = hex && (class == digit || c == '-' || c|0x20 >= 'a' && c|0x20 <= 'f')
	}
	if hex {
		return false
	}
	turns := float64(changes) / float64(len(token)-1)
	spread := entropy(counts[:], len(token)) / math.Log2(float64(min(len(token), 64)))
	switch classes &^ sign {
	case lower | upper | digit:
		return turns >= 0.36 && spread >= 0.78
	case lower | upper:
		return turns >= 0.4 && spread >= 0.86
	case lower | digit, upper | digit:
		return classes&sign == 0 && len(token) >= 32 && turns >= 0.28 && spread >= 0.8
	}
	return false
}

// entropy is Shannon's, in bits per character.
func entropy(counts []int, n int) float64 {
	bits := 0.0
	for _, c := range counts {
		if c > 0 {
			p := float64(c) / float64(n)
			bits -= p * math.Log2(p)
		}
	}
	return bits
}
