package config

import "testing"

func TestMaskPatternsAreChecked(t *testing.T) {
	for pattern, ok := range map[string]bool{`corp-[0-9a-f]{32}`: true, `(?i)pin: \d+`: true, `a(`: false, `x*`: false, `(?<=a)b`: false} {
		if summary, _ := checkMask(pattern); (summary == "") != ok {
			t.Errorf("%q: %q", pattern, summary)
		}
	}
}
