package tagparse

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// shown is the most bytes of a hostile value that an error repeats.
const shown = 64

// Error says why a name is no deployment tag, target or version.
type Error struct {
	// Name is the whole input, as it came in. It is hostile: print it through
	// Error or quoted, never raw.
	Name string
	// Part is what is wrong: "environment", "scope", "team", "version",
	// "separators" or "length".
	Part string
	// Value is the part as written, hostile as Name is. Empty where the part is
	// missing or the whole name is meant.
	Value string
	// Problem is what is wrong with it, such as "is empty".
	Problem string
	// Hint is what to write instead.
	Hint string
}

// Error prints the part, its value, the problem and the hint in one line of
// printable ASCII. Long values are cut.
func (e *Error) Error() string {
	subject := quote(e.Name)
	switch {
	case e.Part == "separators" || e.Part == "length":
	case e.Value == e.Name:
		subject = e.Part + " " + subject
	case e.Value == "":
		subject = e.Part + " in " + subject
	default:
		subject = e.Part + " " + quote(e.Value) + " in " + subject
	}
	return subject + " " + e.Problem + ": " + e.Hint
}

// quote quotes at most the first 64 bytes of s as printable ASCII.
func quote(s string) string {
	if len(s) <= shown {
		return strconv.QuoteToASCII(s)
	}
	return strconv.QuoteToASCII(s[:shown]) + "..."
}

// checkLength refuses an input that is too long before anything looks into it.
func checkLength(name string) error {
	if len(name) <= MaxLength {
		return nil
	}
	return &Error{Name: name, Part: "length", Problem: "is longer than 255 bytes", Hint: "shorten it"}
}

// slashError says that a tag has a number of slashes other than two.
func slashError(name string) error {
	if strings.Count(name, "/") == 1 {
		return &Error{Name: name, Part: "version", Problem: "is missing",
			Hint: `end the tag with a slash and a version, such as "/1.0"`}
	}
	return &Error{Name: name, Part: "separators", Problem: "has more than two slashes",
		Hint: "write <env>_<scope>/<team>/<version>"}
}

// targetSlashError says that a target has more than one slash.
func targetSlashError(s string) error {
	if tag, err := Parse(s); err == nil {
		return &Error{Name: s, Part: "separators", Problem: "is a tag, not a target",
			Hint: "leave the version off: " + tag.Env + "_" + tag.Scope + "/" + tag.Team}
	}
	return &Error{Name: s, Part: "separators", Problem: "has more than one slash",
		Hint: "write <env>_<scope>/<team>"}
}

// formError says which separator is missing.
func formError(name string, slash bool) error {
	e := &Error{Name: name, Part: "separators",
		Hint: "write <env>_<scope>/<team>/<version>, or <env>_<scope>/<team> for a target"}
	odd := strings.IndexFunc(name, func(r rune) bool { return r >= utf8.RuneSelf })
	switch {
	case name == "":
		e.Problem = "is empty"
	case odd >= 0:
		e.Problem = badByte(name[odd:])
	case slash:
		e.Problem = "has no underscore between environment and scope"
	default:
		e.Problem = "has no slash before the team"
	}
	return e
}

// judgeBytes finds the first byte of s that is neither a lower-case letter, a
// digit nor a hyphen, and says which it is. allowed is the hint where there is
// no nearer fix.
func judgeBytes(s, allowed string) (problem, hint string) {
	for i := range len(s) {
		switch c := s[i]; {
		case isLower(c) || isDigit(c) || c == '-':
		case isUpper(c):
			if fixed := strings.ToLower(s); onlyLower(fixed) {
				return "has an upper-case letter", "write " + quote(fixed)
			}
			return "has an upper-case letter", allowed
		case c == '_':
			return "has an underscore", "write hyphens; the one underscore stands between environment and scope"
		default:
			return badByte(s[i:]), allowed
		}
	}
	return "", ""
}

// onlyLower reports whether s holds only lower-case letters, digits and hyphens.
func onlyLower(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isLower(c) && !isDigit(c) && c != '-' {
			return false
		}
	}
	return true
}

// badByte describes the character at the head of s. The text is constant for
// ASCII that prints and for the classes of the rest, so that refusing a hostile
// name costs little.
func badByte(s string) string {
	r, _ := utf8.DecodeRuneInString(s)
	switch {
	case r == ' ':
		return "has a space"
	case r < ' ' || r == 0x7f:
		return "has a control character"
	case r == utf8.RuneError:
		return "has a byte that is not text"
	case 0xff01 <= r && r <= 0xff5e:
		return "has the full-width character " + strconv.QuoteRuneToASCII(r) + " for " + strconv.Quote(string(r-0xfee0))
	case r > 0x7f:
		return "has the non-ASCII character " + strconv.QuoteRuneToASCII(r)
	default:
		return "has the character " + strconv.Quote(string(r))
	}
}
