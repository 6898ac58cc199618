package terraform

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLine is the length at which a line is cut before it goes to the log, in
// bytes: far more than a log shows, so that who masks sees a secret whole.
const maxLine = 64 << 10

var escapeSequence = regexp.MustCompile(`\x1b\[[0-9;?]*[ -/]*[@-~]`)

// neutral makes text from outside safe to show: colours and cursor movements
// are taken out, every other control character and every character that turns
// the direction of writing becomes U+FFFD. Tabs and newlines stay.
func neutral(s string) string {
	if plain(s) {
		return s
	}
	s = strings.ToValidUTF8(escapeSequence.ReplaceAllString(s, ""), "\uFFFD")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n':
			return r
		case unicode.IsControl(r), r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0x2028, r == 0x2029:
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// plain reports whether s is of printable ASCII, tabs and newlines alone.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' && c != '\n' || c >= 0x7f {
			return false
		}
	}
	return true
}

// cut shortens s to at most max bytes, whole characters, with an ellipsis.
func cut(s string, max int) string {
	if len(s) <= max {
		return s
	}
	end := max - len("…")
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}

// oneLine is s without line breaks, neutral and cut.
func oneLine(s string, max int) string {
	return cut(strings.Join(strings.Fields(neutral(s)), " "), max)
}

// log writes texts to the caller's log, line by line.
func (e *Engine) log(texts ...string) {
	e.logMu.Lock()
	defer e.logMu.Unlock()
	for _, text := range texts {
		for line := range strings.SplitSeq(neutral(strings.ReplaceAll(text, "\r\n", "\n")), "\n") {
			e.cfg.Log(cut(strings.TrimRight(line, " "), maxLine))
		}
	}
}

// maxHeld bounds the diagnostics that are held back, in bytes.
const maxHeld = 4 << 20

// hold keeps texts for Release.
func (e *Engine) hold(texts ...string) {
	e.logMu.Lock()
	defer e.logMu.Unlock()
	for _, text := range texts {
		if e.heldSize > maxHeld {
			return
		}
		if e.heldSize += len(text); e.heldSize > maxHeld {
			text = "(further diagnostics are not shown)"
		}
		e.held = append(e.held, text)
	}
}

// Held reports whether Plan or Apply held diagnostics back. They repeat whatever
// a provider says, secrets too, and are not in the log before Release.
func (e *Engine) Held() bool {
	e.logMu.Lock()
	defer e.logMu.Unlock()
	return len(e.held) > 0
}

// Release logs the diagnostics that were held back, once the caller knows what
// must not be shown of them.
func (e *Engine) Release() {
	e.logMu.Lock()
	held := e.held
	e.held, e.heldSize = nil, 0
	e.logMu.Unlock()
	e.log(held...)
}
