package config

import "github.com/waymark-cd/waymark/mask"

// checkMask judges a pattern of what must not be shown.
func checkMask(s string) (summary, detail string) {
	if err := mask.CheckPattern(s); err != nil {
		return "is no pattern: " + err.Error(), `write a regular expression of RE2, such as "corp-[0-9a-f]{32}"`
	}
	return "", ""
}
