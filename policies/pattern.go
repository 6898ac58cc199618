package policies

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

// maxPattern is the most bytes of a pattern.
const maxPattern = 512

// pattern is one entry of an allow-list, as the rules see it in
// data.waymark.settings.
type pattern struct {
	Text  string `json:"pattern"` // as configured
	Regex string `json:"regex"`   // anchored at both ends
	Query bool   `json:"query"`   // matches address and query, not the address alone
}

// providerPattern reads an entry of the allowed providers. Its error wraps
// release.ErrInvalid.
func providerPattern(text string) (pattern, error) {
	refuse := func(problem string) (pattern, error) {
		return pattern{}, fmt.Errorf("%w allowed provider %.80q: %s", release.ErrInvalid, text, problem)
	}
	if problem := judgePattern(text); problem != "" {
		return refuse(problem)
	}
	if text == "*" {
		return refuse(`"*" alone is unclear: write "**" for every provider, or "hashicorp/*"`)
	}
	s := strings.ToLower(text)
	if !strings.Contains(s, "/") && s != "**" {
		s = "hashicorp/" + s
	}
	empty := strings.Contains("/"+s+"/", "//")
	if empty || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789*/.:_-") != "" || strings.Count(s, "/") > 2 {
		return refuse(`write [host/]namespace/name, with "*" for any name`)
	}
	return pattern{Text: text, Regex: translate(withoutPublicRegistry(spellOut(s, "*/*")), false)}, nil
}

// modulePattern reads an entry of the allowed modules. Its error wraps
// release.ErrInvalid.
func modulePattern(text string) (pattern, error) {
	problem := judgePattern(text)
	switch {
	case isLocalSource(text):
		problem = "paths inside the repository are always allowed and others never: leave it out"
	case problem == "":
		return pattern{
			Text:  text,
			Regex: translate(withoutPublicRegistry(spellOut(foldHost(text), "*/**")), true),
			Query: strings.Contains(text, "?"),
		}, nil
	}
	return pattern{}, fmt.Errorf("%w allowed module %.80q: %s", release.ErrInvalid, text, problem)
}

// spellOut replaces a "**" that follows a public registry's host by all, so that
// taking the host off does not leave "**", which would mean every host.
func spellOut(s, all string) string {
	for _, host := range publicRegistries {
		if s == host+"**" {
			return host + all
		}
	}
	return s
}

// judgePattern says what is wrong with a pattern of either kind.
func judgePattern(text string) (problem string) {
	switch {
	case text == "":
		return "is empty: leave it out"
	case len(text) > maxPattern:
		return "is longer than 512 bytes: shorten it"
	case !isPrintableASCII(text):
		return "has a space or a character that is not plain ASCII: remove it"
	}
	segments := strings.Split(text, "/")
	for i, segment := range segments {
		switch {
		case segment == "." || segment == "..":
			return "has dots that climb: write the address itself"
		case strings.Contains(segment, "**") && (segment != "**" || i < len(segments)-1):
			return `"**" must be the last segment and stand alone: write "*" for one segment`
		}
	}
	return ""
}

// translate writes a pattern as an anchored regular expression. With
// namespaceFirst a first segment without a literal dot or colon stands for no
// host.
func translate(s string, namespaceFirst bool) string {
	segments := strings.Split(s, "/")
	for i, segment := range segments {
		class := `[A-Za-z0-9._~+-]`
		if namespaceFirst && i == 0 && len(segments) > 1 && !strings.ContainsAny(segment, ".:") {
			class = `[A-Za-z0-9_~+-]`
		}
		switch segment {
		case "**":
			segments[i] = `[A-Za-z0-9._~+/:-]+`
		case "*":
			segments[i] = class + "+"
		default:
			segments[i] = strings.ReplaceAll(regexp.QuoteMeta(segment), `\*`, class+"*")
		}
	}
	return "^" + strings.Join(segments, "/") + "$"
}
