package tagparse

import (
	"cmp"
	"errors"
	"testing"
)

// ascending is the order of versions; spellings of one version share a line.
var ascending = [][]string{
	{"0", "0.0.0.0", "v0"},
	{"0.0.0.1"},
	{"1-0", "1.0-0"},
	{"1-9", "1.0.0-9"},
	{"1-10"},
	{"1-18446744073709551616"},
	{"1-1a"},
	{"1-9a"},
	{"1-10a"},
	{"1--"},
	{"1-RC1"},
	{"1-alpha"},
	{"1-alpha.1"},
	{"1-alpha.beta"},
	{"1-beta"},
	{"1-beta.2"},
	{"1-beta.11"},
	{"1-rc"},
	{"1-rc.1"},
	{"1-rc1"},
	{"1-rc1.1"},
	{"1-rc9", "v1.0-rc9"},
	{"1-rc09"},
	{"1-rc009"},
	{"1-rc9-x"},
	{"1-rc10"},
	{"1-rc10+a"},
	{"1-rc10+b"},
	{"1-rc-1"},
	{"1", "1.0", "v1.0", "v1.0.0.0"},
	{"1+1"},
	{"1+001"},
	{"1+2"},
	{"1+a", "1.0.0+a"},
	{"1+a9"},
	{"1+a10"},
	{"1+b"},
	{"1.0.0.1"},
	{"1.0.1-rc1"},
	{"1.9"},
	{"1.10-a"},
	{"1.10"},
	{"2-rc1"},
	{"2"},
	{"10"},
	{"18446744073709551615"},
	{"18446744073709551616"},
	{"100000000000000000000"},
}

func TestCompare(t *testing.T) {
	for i, spellings := range ascending {
		for _, a := range spellings {
			for j, others := range ascending {
				for _, b := range others {
					if got := Compare(version(t, a), version(t, b)); sign(got) != cmp.Compare(i, j) {
						t.Errorf("Compare(%s, %s) = %d, want %d", a, b, got, cmp.Compare(i, j))
					}
				}
			}
		}
	}
	if zero := (Version{}); Compare(zero, version(t, "0-0")) >= 0 || Compare(version(t, "0"), zero) <= 0 || Compare(zero, zero) != 0 {
		t.Error("the zero Version is not lower than all")
	}
}

func TestParseVersionNamesThePart(t *testing.T) {
	_, err := ParseVersion("1.x")
	var e *Error
	if !errors.As(err, &e) || e.Part != "version" || err.Error() !=
		`version "1.x" has the character "x" among its numbers: write one to four numbers joined by dots, such as 1.2.3 or 1.2.3-rc1` {
		t.Errorf("got %v", err)
	}
	if _, err := ParseVersion(""); err == nil || err.Error() !=
		`version "" is empty: write one to four numbers joined by dots, such as 1.2.3` {
		t.Errorf("got %v", err)
	}
}

func BenchmarkCompare(b *testing.B) {
	x, y := version(b, "1.10.3-rc9+build.7"), version(b, "v1.10.3-rc9+build.8")
	b.ReportAllocs()
	for b.Loop() {
		Compare(x, y)
	}
}

func version(t testing.TB, s string) Version {
	t.Helper()
	v, err := ParseVersion(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func sign(n int) int { return cmp.Compare(n, 0) }
