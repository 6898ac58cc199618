package tagparse

import (
	"errors"
	"strings"
	"testing"
)

// TestParseAccepts is the list of what is a deployment tag.
func TestParseAccepts(t *testing.T) {
	long := "a" + strings.Repeat("b", 31)
	for name, want := range map[string][4]string{
		"dev_us-east-1/research/1.0":                {"dev", "us-east-1", "research", "1.0"},
		"dev_global/research/1.0":                   {"dev", "global", "research", "1.0"},
		"prod-2_ap-southeast-1/risk-team/v1.2.3.4":  {"prod-2", "ap-southeast-1", "risk-team", "v1.2.3.4"},
		"all_global/all/0":                          {"all", "global", "all", "0"},
		"dev_us-gov-west-1/research/1":              {"dev", "us-gov-west-1", "research", "1"},
		"dev_us-iso-east-1/research/1":              {"dev", "us-iso-east-1", "research", "1"},
		"dev_us-isob-east-1/research/1":             {"dev", "us-isob-east-1", "research", "1"},
		"dev_eu-isoe-west-1/research/1":             {"dev", "eu-isoe-west-1", "research", "1"},
		"dev_cn-northwest-1/research/1":             {"dev", "cn-northwest-1", "research", "1"},
		"dev_eusc-de-east-1/research/1":             {"dev", "eusc-de-east-1", "research", "1"},
		"dev_mx-central-1/research/1":               {"dev", "mx-central-1", "research", "1"},
		"dev_il-central-1/research/1":               {"dev", "il-central-1", "research", "1"},
		"dev_eu-west-12/research/1":                 {"dev", "eu-west-12", "research", "1"},
		"d_global/r/1.0-rc.1+build.007":             {"d", "global", "r", "1.0-rc.1+build.007"},
		"d_global/r/1.0--":                          {"d", "global", "r", "1.0--"},
		"d_global/r/1.0+a-b":                        {"d", "global", "r", "1.0+a-b"},
		"d_global/r/20260131235959.1":               {"d", "global", "r", "20260131235959.1"},
		"d_global/r/99999999999999999999999999.1":   {"d", "global", "r", "99999999999999999999999999.1"},
		long + "_global/" + long + "/1":             {long, "global", long, "1"},
		"d_global/r/1+" + strings.Repeat("a", 242):  {"d", "global", "r", "1+" + strings.Repeat("a", 242)},
		"d1-a-1_global/r-1/1.0-alpha.1.x-y-z.0-a.0": {"d1-a-1", "global", "r-1", "1.0-alpha.1.x-y-z.0-a.0"},
	} {
		tag, err := Parse(name)
		if err != nil {
			t.Errorf("Parse(%q): %v", name, err)
			continue
		}
		if got := [4]string{tag.Env, tag.Scope, tag.Team, tag.Version.String()}; got != want {
			t.Errorf("Parse(%q) = %q, want %q", name, got, want)
		}
		if tag.String() != name {
			t.Errorf("Parse(%q) prints %q", name, tag)
		}
	}
}

// TestParseRefuses is the list of what is none, and of what people are told.
func TestParseRefuses(t *testing.T) {
	long := "a" + strings.Repeat("b", 32)
	for name, want := range map[string]string{
		"":                       `"" is empty: write <env>_<scope>/<team>/<version>, or`,
		"v1.0":                   `"v1.0" has no slash before the team: write <env>_`,
		"dev/research/1.0":       `"dev/research/1.0" has no underscore between environment and scope: write <env>_`,
		"dev_us-east-1/research": `version in "dev_us-east-1/research" is missing: end the tag with a slash and a version, such as "/1.0"`,
		"dev/us-east-1/r/1.0":    `has more than two slashes: write <env>_`,
		"dev_us-east-1/r/1.0/":   `has more than two slashes`,

		"_us-east-1/r/1":             `environment in "_us-east-1/r/1" is empty: begin with a lower-case letter`,
		"Dev_us-east-1/r/1":          `environment "Dev" in "Dev_us-east-1/r/1" has an upper-case letter: write "dev"`,
		"1dev_us-east-1/r/1":         `environment "1dev" in "1dev_us-east-1/r/1" does not begin with a letter`,
		"-dev_us-east-1/r/1":         `environment "-dev" in "-dev_us-east-1/r/1" does not begin with a letter`,
		"dev-_us-east-1/r/1":         `ends with a hyphen: end with a letter or a digit`,
		"de--v_us-east-1/r/1":        `has two hyphens in a row: write one`,
		long + "_global/r/1":         `is longer than 32 characters: shorten it`,
		"refs/tags/dev_global/r/1":   `has more than two slashes`,
		" dev_us-east-1/r/1":         `environment " dev" in " dev_us-east-1/r/1" has a space: use lower-case`,
		"\u202edev_us-east-1/r/1":    `environment "\u202edev" in "\u202edev_us-east-1/r/1" has the non-ASCII character '\u202e'`,
		"d\u0435v_us-east-1/r/1":     `has the non-ASCII character '\u0435'`,
		"$(id)_us-east-1/r/1":        `has the character "$"`,
		"\xff_us-east-1/r/1":         `has a byte that is not text`,
		"dev;rm -rf_us-east-1/r/1":   `environment "dev;rm -rf" in`,
		"my_dev_us-east-1/r/1":       `scope "dev_us-east-1" in "my_dev_us-east-1/r/1" has an underscore: write hyphens; the one underscore stands`,
		"dev_/r/1":                   `scope in "dev_/r/1" is empty: write "global" or an AWS Region such as us-east-1`,
		"dev_all/r/1":                `scope "all" in "dev_all/r/1" is reserved for rollouts over many Regions: push one tag per Region`,
		"dev_US-EAST-1/r/1":          `scope "US-EAST-1" in "dev_US-EAST-1/r/1" has an upper-case letter: write "us-east-1"`,
		"dev_Global/r/1":             `has an upper-case letter: write "global"`,
		"dev_us_east_1/r/1":          `scope "us_east_1" in "dev_us_east_1/r/1" has an underscore: write hyphens`,
		"dev_us-east-1a/r/1":         `is an availability zone, not a Region: write "us-east-1"`,
		"dev_useast1/r/1":            `is not in the form of a Region: write "global" or`,
		"dev_us-east/r/1":            `is not in the form of a Region`,
		"dev_us-east-0/r/1":          `is not in the form of a Region`,
		"dev_us-east-01/r/1":         `is not in the form of a Region`,
		"dev_us-east-100/r/1":        `is not in the form of a Region`,
		"dev_us--east-1/r/1":         `is not in the form of a Region`,
		"dev_us-east-1-/r/1":         `is not in the form of a Region`,
		"dev_us-a-b-c-1/r/1":         `is not in the form of a Region`,
		"dev_global-1/r/1":           `is not in the form of a Region`,
		"dev_us-east-\uff11/r/1":     `has the full-width character '\uff11' for "1"`,
		"dev_us-east-1\uff0fr\uff0f": `"dev_us-east-1\uff0fr\uff0f" has the full-width character '\uff0f' for "/"`,

		"dev_global//1":            `team in "dev_global//1" is empty: begin with a lower-case letter`,
		"dev_global/risk_team/1":   `team "risk_team" in "dev_global/risk_team/1" has an underscore: write hyphens`,
		"dev_global/--help/1":      `team "--help" in "dev_global/--help/1" does not begin with a letter`,
		"dev_global/../1":          `team ".." in "dev_global/../1" has the character "."`,
		"dev_global/Risk/1":        `team "Risk" in "dev_global/Risk/1" has an upper-case letter: write "risk"`,
		"dev_global/Ri$k/1":        `has an upper-case letter: use lower-case letters, digits and single hyphens`,
		"dev_global/r\x00/1":       `has a control character`,
		"dev_global/" + long + "/": `is longer than 32 characters`,

		"dev_global/r/":            `version in "dev_global/r/" is empty: write one to four numbers`,
		"dev_global/r/latest":      `version "latest" in "dev_global/r/latest" does not begin with a number`,
		"dev_global/r/v":           `does not begin with a number`,
		"dev_global/r/V1":          `does not begin with a number`,
		"dev_global/r/vv1":         `does not begin with a number`,
		"dev_global/r/-1":          `does not begin with a number`,
		"dev_global/r/--version":   `does not begin with a number`,
		"dev_global/r/.1":          `does not begin with a number`,
		"dev_global/r/1.":          `has an empty number`,
		"dev_global/r/1..2":        `has an empty number`,
		"dev_global/r/1.2.3.4.5":   `version "1.2.3.4.5" in "dev_global/r/1.2.3.4.5" has more than four numbers: write one to four numbers`,
		"dev_global/r/1.02":        `has a number with a leading zero: write "2" for "02"`,
		"dev_global/r/1.00":        `has a number with a leading zero: write "0" for "00"`,
		"dev_global/r/v01":         `has a number with a leading zero: write "1" for "01"`,
		"dev_global/r/1.0rc1":      `has the character "r" among its numbers: write one to four numbers joined by dots, such as 1.2.3 or 1.2.3-rc1`,
		"dev_global/r/1.0_1":       `has the character "_" among its numbers`,
		"dev_global/r/1.0\n":       `has a control character among its numbers`,
		"dev_global/r/\uff11.0":    `has the full-width character '\uff11' for "1" among its numbers`,
		"dev_global/r/1.\u0661":    `has the non-ASCII character '\u0661' among its numbers`,
		"dev_global/r/1.0-":        `has an empty group in its pre-release part: use letters, digits and hyphens`,
		"dev_global/r/1.0-a..b":    `has an empty group in its pre-release part`,
		"dev_global/r/1.0-rc.01":   `has a number with a leading zero in its pre-release part: write "1" for "01"`,
		"dev_global/r/1.0-rc;id":   `has the character ";" in its pre-release part`,
		"dev_global/r/1.0+":        `has an empty group in its build part`,
		"dev_global/r/1.0+a+b":     `has the character "+" in its build part`,
		"dev_global/r/1.0-a\u200f": `has the non-ASCII character '\u200f' in its pre-release part`,
	} {
		refuses(t, name, want)
	}
}

func refuses(t *testing.T, name, want string) {
	t.Helper()
	tag, err := Parse(name)
	var e *Error
	if !errors.As(err, &e) {
		t.Errorf("Parse(%q) = %v, %v, want an *Error", name, tag, err)
		return
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("Parse(%q):\n  %s\nwant\n  %s", name, err, want)
	}
	if tag != (Tag{}) || e.Name != name || e.Part == "" || e.Hint == "" {
		t.Errorf("Parse(%q) = %+v, %+v", name, tag, e)
	}
}

// A megabyte of hostile text is refused without being looked into or repeated.
func TestParseRefusesLongNames(t *testing.T) {
	for _, name := range []string{
		strings.Repeat("\x00", 1<<20),
		"dev_global/r/1." + strings.Repeat("9", MaxLength),
	} {
		_, err := Parse(name)
		if err == nil || len(err.Error()) > 500 || !strings.HasSuffix(err.Error(), "is longer than 255 bytes: shorten it") {
			t.Errorf("Parse of %d bytes: %v", len(name), err)
		}
		if _, _, _, err := ParseTarget(name); err == nil {
			t.Errorf("ParseTarget of %d bytes: no error", len(name))
		}
		if _, err := ParseVersion(name); err == nil {
			t.Errorf("ParseVersion of %d bytes: no error", len(name))
		}
	}
}

func TestParseTarget(t *testing.T) {
	env, scope, team, err := ParseTarget("dev_us-east-1/research")
	if env != "dev" || scope != "us-east-1" || team != "research" || err != nil {
		t.Errorf("got %q %q %q %v", env, scope, team, err)
	}
	for s, want := range map[string]string{
		"":                           `"" is empty`,
		"dev_us-east-1":              `"dev_us-east-1" has no slash before the team`,
		"dev_us-east-1/":             `team in "dev_us-east-1/" is empty`,
		"dev_us-east-1/research/":    `"dev_us-east-1/research/" has more than one slash: write <env>_<scope>/<team>`,
		"dev_us-east-1/research/1.0": `is a tag, not a target: leave the version off: dev_us-east-1/research`,
		"dev_us-east-1/a/b/1.0":      `has more than one slash`,
		"dev-us-east-1/research":     `has no underscore`,
		"Dev_us-east-1/research":     `environment "Dev" in "Dev_us-east-1/research" has an upper-case letter: write "dev"`,
		"dev_all/research":           `is reserved`,
	} {
		if env, scope, team, err := ParseTarget(s); err == nil || env+scope+team != "" || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseTarget(%q) = %q %q %q\n  %v\nwant\n  %s", s, env, scope, team, err, want)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for name, tag := range map[string]string{
		"accepted":   "dev_us-east-1/research/1.2.3-rc1",
		"no-slash":   "v1.2.3",
		"upper-case": "Dev_us-east-1/research/1.0",
		"hostile":    "dev_us-east-1/$(id)/1.0",
		"full-width": "dev_us-east-1/research/\uff11",
		"megabyte":   strings.Repeat("a", 1<<20),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Parse(tag)
			}
		})
	}
}

// Most tags of a repository are no deployment tags: refusing one costs its
// error and, where the hint quotes, that string.
func TestRefusalIsCheap(t *testing.T) {
	for name, most := range map[string]float64{
		"v1.2.3": 1, "dev_us-east-1/r/latest": 1, "dev_us-east-1/r": 1, "Dev_us-east-1/r/1": 5, "dev_us-east-1/$(id)/1": 3,
	} {
		if got := testing.AllocsPerRun(100, func() { Parse(name) }); got > most {
			t.Errorf("Parse(%q) makes %v allocations, want at most %v", name, got, most)
		}
	}
}
