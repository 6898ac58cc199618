package tagparse

import (
	"cmp"
	"strings"
	"unicode/utf8"
)

// maxNumbers is the most numbers that a version may have.
const maxNumbers = 4

// Version is a version as a tag spells it. The zero Version is no version, and
// lower than all. == compares spellings; Compare compares meanings.
type Version struct {
	text string
}

// String prints the version byte for byte as it was read.
func (v Version) String() string { return v.text }

// ParseVersion reads a version alone. Its error is an *Error whose Part is
// "version" or "length".
func ParseVersion(s string) (Version, error) {
	if err := checkLength(s); err != nil {
		return Version{}, err
	}
	return parseVersion(s, s)
}

// parseVersion reads s, the version of name.
func parseVersion(name, s string) (Version, error) {
	problem, hint := judgeVersion(s)
	if problem != "" {
		return Version{}, &Error{Name: name, Part: "version", Value: s, Problem: problem, Hint: hint}
	}
	return Version{text: s}, nil
}

// judgeVersion holds a version against the grammar.
func judgeVersion(s string) (problem, hint string) {
	numbers, pre, build := split(s)
	if problem, hint = judgeNumbers(s, numbers); problem != "" {
		return problem, hint
	}
	if pre != "" {
		if problem, hint = judgeGroups("pre-release", pre[1:], true); problem != "" {
			return problem, hint
		}
	}
	if build != "" {
		return judgeGroups("build", build[1:], false)
	}
	return "", ""
}

// judgeNumbers holds the dot-separated numbers of version s against the grammar.
func judgeNumbers(s, numbers string) (problem, hint string) {
	const allowed = "write one to four numbers joined by dots, such as 1.2.3"
	if s == "" {
		return "is empty", allowed
	}
	if digits(numbers) == 0 && (numbers == "" || numbers[0] < utf8.RuneSelf) {
		return "does not begin with a number", allowed
	}
	for count := 1; ; count++ {
		number, rest, more := strings.Cut(numbers, ".")
		switch i := digits(number); {
		case count > maxNumbers:
			return "has more than four numbers", allowed
		case number == "":
			return "has an empty number", allowed
		case i < len(number):
			return badByte(number[i:]) + " among its numbers", allowed + " or 1.2.3-rc1"
		case i > 1 && number[0] == '0':
			return "has a number with a leading zero", "write " + quote(cmp.Or(strings.TrimLeft(number, "0"), "0")) + " for " + quote(number)
		}
		if !more {
			return "", ""
		}
		numbers = rest
	}
}

// judgeGroups holds a pre-release or build part, without its sign, against
// the grammar of SemVer 2.0.0, which forbids leading zeros in a pre-release's
// numbers and allows them in a build's.
func judgeGroups(part, s string, strictZeros bool) (problem, hint string) {
	const allowed = "use letters, digits and hyphens, in groups joined by dots"
	for {
		group, rest, more := strings.Cut(s, ".")
		if group == "" {
			return "has an empty group in its " + part + " part", allowed
		}
		for i := range len(group) {
			if c := group[i]; !isLower(c) && !isUpper(c) && !isDigit(c) && c != '-' {
				return badByte(group[i:]) + " in its " + part + " part", allowed
			}
		}
		if strictZeros && len(group) > 1 && group[0] == '0' && digits(group) == len(group) {
			return "has a number with a leading zero in its pre-release part",
				"write " + quote(cmp.Or(strings.TrimLeft(group, "0"), "0")) + " for " + quote(group)
		}
		if !more {
			return "", ""
		}
		s = rest
	}
}

// split cuts a version into its numbers without the leading v, its pre-release
// with the hyphen and its build with the plus; each may be empty.
func split(s string) (numbers, pre, build string) {
	if i := strings.IndexByte(s, '+'); i >= 0 {
		s, build = s[:i], s[i:]
	}
	if i := strings.IndexByte(s, '-'); i >= 0 {
		s, pre = s[:i], s[i:]
	}
	return strings.TrimPrefix(s, "v"), pre, build
}

// Compare orders versions by what they mean. It returns a negative number where
// a comes before b, 0 where both mean the same, a positive number otherwise.
//
//  1. The numbers are compared one by one, as numbers of any size; a missing
//     one counts as 0. A leading v means nothing. So 1, 1.0, v1 and v1.0.0 are
//     four spellings of one version, and Compare gives 0 for them.
//  2. A pre-release comes before its release: 1.0-rc1 before 1.0.
//  3. Pre-releases are compared group by group (the groups that dots make). A
//     group of digits alone comes before every other, as in SemVer. Otherwise,
//     unlike in SemVer, digits inside a group are compared as numbers: rc9
//     before rc10. What is left is compared byte by byte, upper case first.
//     A group that equals another in that sense but is spelt with other zeros
//     (rc9, rc09) is another version; the shorter spelling comes first. Where
//     all groups are equal, fewer groups come first.
//  4. Builds, unlike in SemVer, are compared too, and last: no build comes
//     first, then as in 3. So +a is before +b, and both are after none.
//
// The order is total: for any two versions exactly one of before, same, after
// holds, and all spellings of one version compare alike with every other.
func Compare(a, b Version) int {
	if a.text == b.text {
		return 0
	}
	if a.text == "" || b.text == "" {
		return cmp.Compare(len(a.text), len(b.text))
	}
	aNumbers, aPre, aBuild := split(a.text)
	bNumbers, bPre, bBuild := split(b.text)
	if c := compareNumbers(aNumbers, bNumbers); c != 0 {
		return c
	}
	if (aPre == "") != (bPre == "") {
		return cmp.Compare(len(bPre), len(aPre))
	}
	if c := compareGroups(aPre, bPre); c != 0 {
		return c
	}
	return compareGroups(aBuild, bBuild)
}

// compareNumbers compares dot-separated numbers; a missing one counts as 0.
func compareNumbers(a, b string) int {
	for a != "" || b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		if c := compareDigits(x, y); c != 0 {
			return c
		}
	}
	return 0
}

// compareDigits compares two runs of digits as numbers; the empty run is 0.
func compareDigits(x, y string) int {
	x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
	return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y))
}

// compareGroups compares two pre-release or build parts, each with its sign or empty.
func compareGroups(a, b string) int {
	for a != "" && b != "" {
		var x, y string
		x, a = nextGroup(a)
		y, b = nextGroup(b)
		if c := compareGroup(x, y); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

// nextGroup cuts the group after s's first byte, which is a sign or a dot.
func nextGroup(s string) (group, rest string) {
	s = s[1:]
	if i := strings.IndexByte(s, '.'); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// compareGroup compares two groups run by run, a run being digits or the rest.
func compareGroup(a, b string) int {
	if x, y := digits(a) == len(a), digits(b) == len(b); x != y {
		if x {
			return -1
		}
		return 1
	}
	x, y := a, b
	for x != "" && y != "" {
		i, j := digits(x), digits(y)
		c := 0
		switch {
		case i > 0 && j > 0:
			c = compareDigits(x[:i], y[:j])
		case i > 0 || j > 0:
			c = cmp.Compare(j, i) // digits come before letters
		default:
			i, j = nonDigits(x), nonDigits(y)
			c = cmp.Compare(x[:i], y[:j])
		}
		if c != 0 {
			return c
		}
		x, y = x[i:], y[j:]
	}
	return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

// digits counts the digits at the head of s.
func digits(s string) int {
	i := 0
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	return i
}

// nonDigits counts the bytes at the head of s that are no digits.
func nonDigits(s string) int {
	i := 0
	for i < len(s) && !isDigit(s[i]) {
		i++
	}
	return i
}
