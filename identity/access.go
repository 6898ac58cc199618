package identity

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/waymark-cd/waymark/release"
)

// Rule gives a grant to people.
type Rule struct {
	Users  []string // by name; Everyone, after an issuer's prefix, is all whom it lets in
	Groups []string
	Grant  Grant
}

// Everyone is the name that stands for all whom an issuer lets in.
const Everyone = "*"

// Rules are what the configuration grants.
type Rules []Rule

// grantsFor gives what the rules grant to somebody whom the issuer with this
// prefix has named.
func (rules Rules) grantsFor(prefix, name string, groups []string) []Grant {
	var out []Grant
	for _, r := range rules {
		named := slices.Contains(r.Users, name) || slices.Contains(r.Users, prefix+Everyone)
		if named || slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(r.Groups, g) }) {
			out = append(out, r.Grant)
		}
	}
	return out
}

// names reports whether a rule names the group.
func (rules Rules) names(group string) bool {
	return slices.ContainsFunc(rules, func(r Rule) bool { return slices.Contains(r.Groups, group) })
}

const (
	maxName   = 256  // bytes of a person's or a group's name
	maxGroups = 1000 // of one person
)

// CheckName judges the name of a person that an issuer or an admin gives. It
// must not pass for one of the service's own callers, nor for a group among the
// approvers of an environment, nor deceive who reads it. The error wraps
// release.ErrInvalid.
func CheckName(name string) error {
	switch {
	case !wellFormed(name):
		return fmt.Errorf("%w name %.80q: write 1 to %d bytes of text without controls and without spaces around it", release.ErrInvalid, name, maxName)
	case slices.Contains([]string{"local", "token", "waymark"}, strings.ToLower(name)):
		return fmt.Errorf("%w name %q: it stands for the service's own callers", release.ErrInvalid, name)
	case strings.HasPrefix(name, release.GroupPrefix):
		return fmt.Errorf("%w name %.80q: %q marks groups", release.ErrInvalid, name, release.GroupPrefix)
	case name == Everyone || strings.HasSuffix(name, "/"+Everyone):
		return fmt.Errorf("%w name %.80q: %q stands for everyone", release.ErrInvalid, name, Everyone)
	}
	return nil
}

// CheckGroup judges the name of a group. The error wraps release.ErrInvalid.
func CheckGroup(name string) error {
	if !wellFormed(name) {
		return fmt.Errorf("%w group %.80q: write 1 to %d bytes of text without controls and without spaces around it", release.ErrInvalid, name, maxName)
	}
	return nil
}

// wellFormed reports whether a name can be shown and compared.
func wellFormed(s string) bool {
	return s != "" && len(s) <= maxName && utf8.ValidString(s) && strings.TrimSpace(s) == s &&
		!strings.ContainsFunc(s, func(r rune) bool {
			return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) || r == utf8.RuneError
		})
}

// isAddress reports whether a name is an e-mail address, as far as it matters:
// who has it is compared with who tagged.
func isAddress(name string) bool {
	at := strings.IndexByte(name, '@')
	return at > 0 && at < len(name)-1
}
