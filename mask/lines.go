package mask

import (
	"regexp"
	"strings"
)

// Lines masks the lines of one output as they come: a private key goes over many
// of them. It is not safe for concurrent use.
type Lines struct {
	mask *Mask
	left int // lines of a private key that may still come
}

// maxKeyLines bounds a private key, for one whose end never comes: 200 lines of 64
// characters are a key of 70,000 bits.
const maxKeyLines = 200

// Lines returns a masker of one output.
func (m *Mask) Lines() *Lines { return &Lines{mask: m} }

var (
	keyBegins = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----`)
	// keyBody is what a line of a key ends with, after whatever the tool puts before.
	keyBody = regexp.MustCompile(`[A-Za-z0-9+/=]+[\s"',\\]*$`)
	keyHead = regexp.MustCompile(`^\s*(?:Proc-Type|DEK-Info|Version|Comment): `)
)

// Line masks one line, without its end. cut says that the line's end is missing.
func (l *Lines) Line(s string, cut bool) string {
	found := s
	if cut {
		found = l.mask.Cut(s)
	} else {
		found = l.mask.Text(s)
	}
	ends := strings.LastIndex(s, "-----END ")
	if at := keyBegins.FindStringIndex(s); at != nil && ends < at[1] {
		l.left = maxKeyLines
		return found // what follows on the line is masked by the shape
	}
	if l.left == 0 {
		return found
	}
	l.left--
	if ends >= 0 {
		l.left = 0
		return found
	}
	if at := keyBody.FindStringIndex(found); at != nil && !keyHead.MatchString(s) {
		return found[:at[0]] + Mark
	}
	return found
}
