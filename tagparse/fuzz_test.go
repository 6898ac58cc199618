package tagparse

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// The oracle states the grammar a second time, by other means. RE2's \z is the
// end of the text: unlike $ in other engines it matches before no newline.
const (
	oracleName    = `[a-z][a-z0-9]*(?:-[a-z0-9]+)*`
	oracleScope   = `global|[a-z]{2,4}(?:-[a-z]{2,12}){1,2}-[1-9][0-9]?`
	oracleNumber  = `(?:0|[1-9][0-9]*)`
	oraclePre     = `(?:` + oracleNumber + `|[0-9]*[A-Za-z-][0-9A-Za-z-]*)`
	oracleVersion = `v?` + oracleNumber + `(?:\.` + oracleNumber + `){0,3}` +
		`(?:-` + oraclePre + `(?:\.` + oraclePre + `)*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?`
)

var (
	tagOracle     = regexp.MustCompile(`\A(` + oracleName + `)_(` + oracleScope + `)/(` + oracleName + `)/(` + oracleVersion + `)\z`)
	versionOracle = regexp.MustCompile(`\A` + oracleVersion + `\z`)
)

// seeds are good names, near misses and what git lets into a tag's name.
var seeds = []string{
	"dev_us-east-1/research/1.0", "dev_global/risk/v1.2.3.4-rc.1+b.01", "prod_eusc-de-east-1/a-b-1/0",
	"dev_us-gov-west-1/r/2026.1.31", "dev_all/r/1", "dev_us-east-1a/r/1", "Dev_us-east-1/r/1",
	"dev_us-east-1/r/1;reboot", "dev_us-east-1/$(id)/1", "dev_us-east-1/`id`/1", "dev_us-east-1/r/1|cat",
	"dev_us-east-1/r/'1'", `dev_us-east-1/r/"1"`, "dev_us-east-1/--upload-pack=x/1", "--dev_us-east-1/r/1",
	"dev_us-east-1/r/--version", "dev_us-east-1/r/\uff11.\uff10", "\uff44ev_us-east-1/r/1", "dev\uff3fus-east-1/r/1",
	"dev_us-east-1/r/1\n", "dev_us-east-1/r/1\r\n", "\ndev_us-east-1/r/1", "dev_us-east-1/r/1\x00", "dev_us-east-1/r\x00/1",
	"dev_us-east-1/\u202er/1", "dev_us-east-1/r/1\u200f", "dev_us-east-1/r\u200d/1", "d\u0435v_us-east-1/r/1",
	"dev_us-east-1/../1", "../dev_us-east-1/r/1", "dev_us-east-1/r/..", "dev_us-east-1/r/1..0", "dev_us-east-1//1",
	"/dev_us-east-1/r/1", "dev_us-east-1/r/1/", "dev_us-east-1\\r\\1", "dev_us-east-1/r/1~1", "dev_us-east-1/r/1^{}",
	"dev_us-east-1/r/1:x", "dev_us-east-1/r/1*", "dev_us-east-1/r/<b>1</b>", "dev_us-east-1/r/${env}", "dev_us-east-1/r/%2e",
	"dev_us-east-1/r/1.0-01", "dev_us-east-1/r/01", "dev_us-east-1/r/1.2.3.4.5", "dev_us-east-1/r/1-a.-.0a", "\xff\xfe", "",
}

// FuzzParse holds that what is printed is what was parsed, that nothing outside
// the grammar gets in and nothing inside is kept out, and that errors are one
// line of printable ASCII, whatever the name holds.
func FuzzParse(f *testing.F) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		tag, err := Parse(name)
		parts := tagOracle.FindStringSubmatch(name)
		valid := parts != nil && len(name) <= MaxLength && len(parts[1]) <= 32 && len(parts[3]) <= 32
		if valid != (err == nil) {
			t.Fatalf("Parse(%q): %v, the oracle says %v", name, err, valid)
		}
		target := name
		if i := strings.LastIndexByte(name, '/'); i >= 0 {
			target = name[:i]
		}
		env, scope, team, targetErr := ParseTarget(target)
		if err != nil {
			checkMessage(t, err)
			if targetErr != nil {
				checkMessage(t, targetErr)
			}
			return
		}
		if tag.String() != name {
			t.Errorf("Parse(%q) prints %q", name, tag)
		}
		if env != parts[1] || scope != parts[2] || team != parts[3] || targetErr != nil {
			t.Errorf("ParseTarget(%q) = %q %q %q %v", target, env, scope, team, targetErr)
		}
		if tag.Env != env || tag.Scope != scope || tag.Team != team || tag.Version.String() != parts[4] {
			t.Errorf("Parse(%q) = %+v, want %q", name, tag, parts[1:])
		}
	})
}

func checkMessage(t *testing.T, err error) {
	t.Helper()
	s := err.Error()
	bad := strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
	if bad >= 0 || !utf8.ValidString(s) || len(s) > 1200 {
		t.Errorf("not one line of ASCII: %q", s)
	}
}

// FuzzCompare holds that the order is antisymmetric and transitive, that a
// release follows its pre-releases, and that only a leading v and zeros at the
// end of the numbers make two spellings of one version.
func FuzzCompare(f *testing.F) {
	f.Add("1.0", "v1", "1.0.0.0")
	f.Add("1-rc9", "1-rc10", "1-rc09")
	f.Add("1-a.1", "1-a.b", "1-a")
	f.Add("1+a", "1+b", "1")
	f.Add("1-1a", "1-9", "1-10")
	f.Add("1-a01b1", "1-a1b01", "1-a1b1")
	for i := 2; i < len(ascending); i += 3 {
		f.Add(ascending[i-2][0], ascending[i-1][0], ascending[i][0])
	}
	f.Fuzz(func(t *testing.T, a, b, c string) {
		v := make([]Version, 3)
		for i, s := range []string{a, b, c} {
			var err error
			if v[i], err = ParseVersion(s); (err == nil) != (len(s) <= 255 && versionOracle.MatchString(s)) {
				t.Fatalf("ParseVersion(%q): %v, the oracle disagrees", s, err)
			}
			if err != nil {
				checkMessage(t, err)
				return
			}
		}
		checkOrder(t, v)
	})
}

func checkOrder(t *testing.T, v []Version) {
	t.Helper()
	for _, x := range v {
		for _, y := range v {
			xy := sign(Compare(x, y))
			if xy != -sign(Compare(y, x)) {
				t.Errorf("Compare(%v, %v) is not antisymmetric", x, y)
			}
			if (xy == 0) != (meaning(x) == meaning(y)) {
				t.Errorf("Compare(%v, %v) = %d against the meanings %q, %q", x, y, xy, meaning(x), meaning(y))
			}
			for _, z := range v {
				if xy <= 0 && Compare(y, z) <= 0 && Compare(x, z) > 0 {
					t.Errorf("not transitive: %v, %v, %v", x, y, z)
				}
				if xy == 0 && sign(Compare(x, z)) != sign(Compare(y, z)) {
					t.Errorf("%v and %v are the same but compare differently with %v", x, y, z)
				}
			}
		}
		if numbers, _, ok := strings.Cut(x.String(), "-"); ok && !strings.Contains(numbers, "+") {
			if r, err := ParseVersion(numbers); err != nil || Compare(x, r) >= 0 {
				t.Errorf("%v is not before its release %v (%v)", x, r, err)
			}
		}
	}
}

// meaning is the one spelling that all spellings of a version share.
func meaning(v Version) string {
	s := strings.TrimPrefix(v.String(), "v")
	end := strings.IndexAny(s, "-+")
	if end < 0 {
		end = len(s)
	}
	numbers, rest := s[:end], s[end:]
	for strings.HasSuffix(numbers, ".0") {
		numbers = strings.TrimSuffix(numbers, ".0")
	}
	return numbers + rest
}
