package tagparse

import "strings"

// Global is the scope of resources that exist once per account.
const Global = "global"

// MaxLength is the most bytes that a tag, a target or a version may have: as
// much as common file systems allow for one name, and far more than people use.
const MaxLength = 255

// maxName is the most bytes of an environment or a team.
const maxName = 32

// reservedScope is kept for rollouts over many Regions.
const reservedScope = "all"

// Tag is a deployment tag. A Tag from Parse is wholly valid, and == on two of
// them is equality of their names.
type Tag struct {
	Env     string
	Scope   string // Global or a Region
	Team    string
	Version Version
}

// String prints the tag's name, the one that Parse read.
func (t Tag) String() string {
	return t.Env + "_" + t.Scope + "/" + t.Team + "/" + t.Version.String()
}

// Parse reads the whole name of a tag, without refs/tags/. Its error is an
// *Error that names the first part that is wrong.
func Parse(name string) (Tag, error) {
	if err := checkLength(name); err != nil {
		return Tag{}, err
	}
	target, version, team := name, "", strings.IndexByte(name, '/')
	if team >= 0 {
		end := strings.IndexByte(name[team+1:], '/')
		if end >= 0 {
			target, version = name[:team+1+end], name[team+end+2:]
		}
		if end < 0 || strings.IndexByte(version, '/') >= 0 {
			return Tag{}, slashError(name)
		}
	}
	t, err := parseTarget(name, target)
	if err != nil {
		return Tag{}, err
	}
	if t.Version, err = parseVersion(name, version); err != nil {
		return Tag{}, err
	}
	return t, nil
}

// ParseTarget reads a tag without its version, such as
// "dev_us-east-1/research". Its error is an *Error as Parse gives.
func ParseTarget(s string) (env, scope, team string, err error) {
	if err := checkLength(s); err != nil {
		return "", "", "", err
	}
	if strings.Count(s, "/") > 1 {
		return "", "", "", targetSlashError(s)
	}
	t, err := parseTarget(s, s)
	if err != nil {
		return "", "", "", err
	}
	return t.Env, t.Scope, t.Team, nil
}

// parseTarget reads <env>_<scope>/<team>, the target part of name.
func parseTarget(name, target string) (Tag, error) {
	cell, team, slash := strings.Cut(target, "/")
	env, scope, underscore := strings.Cut(cell, "_")
	if !slash || !underscore {
		return Tag{}, formError(name, slash)
	}
	if problem, hint := judgeName(env); problem != "" {
		return Tag{}, &Error{Name: name, Part: "environment", Value: env, Problem: problem, Hint: hint}
	}
	if problem, hint := judgeScope(scope); problem != "" {
		return Tag{}, &Error{Name: name, Part: "scope", Value: scope, Problem: problem, Hint: hint}
	}
	if problem, hint := judgeName(team); problem != "" {
		return Tag{}, &Error{Name: name, Part: "team", Value: team, Problem: problem, Hint: hint}
	}
	return Tag{Env: env, Scope: scope, Team: team}, nil
}

// judgeName holds an environment's or a team's name against the grammar. An
// empty problem means that it fits.
func judgeName(s string) (problem, hint string) {
	const allowed = "use lower-case letters, digits and single hyphens"
	if s == "" {
		return "is empty", "begin with a lower-case letter"
	}
	if problem, hint = judgeBytes(s, allowed); problem != "" {
		return problem, hint
	}
	switch {
	case !isLower(s[0]):
		return "does not begin with a letter", "begin with a lower-case letter"
	case s[len(s)-1] == '-':
		return "ends with a hyphen", "end with a letter or a digit"
	case strings.Contains(s, "--"):
		return "has two hyphens in a row", "write one"
	case len(s) > maxName:
		return "is longer than 32 characters", "shorten it"
	}
	return "", ""
}

// judgeScope holds a scope against the grammar.
func judgeScope(s string) (problem, hint string) {
	const allowed = `write "global" or an AWS Region such as us-east-1`
	switch {
	case s == Global || isRegion(s):
		return "", ""
	case s == reservedScope:
		return "is reserved for rollouts over many Regions", "push one tag per Region"
	case s == "":
		return "is empty", allowed
	}
	if problem, hint = judgeBytes(s, allowed); problem != "" {
		return problem, hint
	}
	if last := len(s) - 1; isLower(s[last]) && isRegion(s[:last]) {
		return "is an availability zone, not a Region", "write " + quote(s[:last])
	}
	return "is not in the form of a Region", allowed
}

// isRegion reports whether s is in the form of an AWS Region's name, such as
// us-east-1, us-gov-west-1 or eusc-de-east-1. The form outlives any list.
func isRegion(s string) bool {
	partition, rest, ok := strings.Cut(s, "-")
	if !ok || !isWord(partition, 2, 4) {
		return false
	}
	word, rest, ok := strings.Cut(rest, "-")
	if !ok || !isWord(word, 2, 12) {
		return false
	}
	if word, number, more := strings.Cut(rest, "-"); more {
		return isWord(word, 2, 12) && isRegionNumber(number)
	}
	return isRegionNumber(rest)
}

// isWord reports whether s is shortest to longest lower-case letters.
func isWord(s string, shortest, longest int) bool {
	if len(s) < shortest || len(s) > longest {
		return false
	}
	for i := range len(s) {
		if !isLower(s[i]) {
			return false
		}
	}
	return true
}

// isRegionNumber reports whether s is a number from 1 to 99.
func isRegionNumber(s string) bool {
	return (len(s) == 1 || len(s) == 2 && isDigit(s[1])) && isDigit(s[0]) && s[0] != '0'
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }

func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
