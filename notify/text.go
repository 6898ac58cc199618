package notify

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Plain makes one line of a hostile text: no control characters, nothing
// invisible or that turns the direction of what follows, and n runes at most.
func Plain(s string, n int) string {
	s = s[:min(len(s), 8*n+64)] // what is cut off anyway is not looked at
	line := strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError:
			return '?'
		case unicode.IsControl(r), r == '\u2028', r == '\u2029':
			return ' '
		case !unicode.IsPrint(r) && !unicode.IsSpace(r):
			return -1 // format characters such as U+202E and U+200B, private use
		}
		return r
	}, s)
	line = strings.Join(strings.Fields(line), " ")
	if utf8.RuneCountInString(line) <= n {
		return line
	}
	return strings.TrimSpace(string([]rune(line)[:n-1])) + "…"
}

// slackText is text that Slack, and what takes Slack's messages, shows as it is:
// without markup, and with an @ that addresses nobody.
func slackText(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "@", "@\u200b").Replace(s)
}
