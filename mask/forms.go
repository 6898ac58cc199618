package mask

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"strings"
)

const (
	minEncoded = 8   // bytes of a value that is looked for in encoded forms too
	maxNeedle  = 256 // bytes of a form that are looked for; what follows on its line goes with it
)

// forms adds to set how a value may appear: as it is, escaped, and encoded.
func forms(set map[string]bool, value string) {
	for line := range strings.SplitSeq(value, "\n") {
		line = strings.TrimSpace(line)
		if len(line) < MinValue {
			continue
		}
		set[line] = true
		for _, escaped := range []string{jsonText(line, true), jsonText(line, false), jsonText(jsonText(line, false), false),
			strings.NewReplacer("${", "$${", "%{", "%%{").Replace(line), strings.ReplaceAll(line, "'", `'\''`),
			url.QueryEscape(line), url.PathEscape(line)} {
			set[escaped] = true
		}
	}
	for _, whole := range []string{value, strings.TrimSpace(value)} {
		if len(whole) < minEncoded {
			continue
		}
		set[hex.EncodeToString([]byte(whole))] = true
		set[strings.ToUpper(hex.EncodeToString([]byte(whole)))] = true
		for _, alphabet := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
			baseForms(set, alphabet, whole)
		}
	}
}

// baseForms adds a value in base 64: by itself, broken into lines as tools do, and
// as a part of a longer text, whose other bytes decide about its edges.
func baseForms(set map[string]bool, alphabet *base64.Encoding, value string) {
	full := alphabet.EncodeToString([]byte(value))
	set[full] = true
	for _, width := range []int{64, 76} {
		for at := 0; len(full) > width && at+minToken <= len(full); at += width {
			set[full[at:min(at+width, len(full))]] = true
		}
	}
	for before := range 3 {
		text := alphabet.EncodeToString(append(make([]byte, before), value...))
		from, to := (before*8+5)/6, (before+len(value))*8/6
		set[text[from:to]] = true
	}
}

// jsonText is a string as JSON writes it, without the quotes.
func jsonText(s string, html bool) string {
	var out strings.Builder
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(html)
	if enc.Encode(s) != nil {
		return s // never reached with a string
	}
	text := strings.TrimSuffix(out.String(), "\n")
	return text[1 : len(text)-1]
}
