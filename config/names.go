package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// few is how many known names a message lists.
const few = 8

// nearest returns the known name that is most like name, or "" where none is
// like it.
func nearest(name string, known []string) string {
	best, least := "", max(2, len(name)/3)+1
	for _, k := range slices.Sorted(slices.Values(known)) {
		distance := levenshtein.Distance(strings.ToLower(name), k, nil)
		if distance < least && distance < max(len(name), len(k)) {
			best, least = k, distance
		}
	}
	return best
}

// Choose says what to write instead of name, which is none of known: the nearest
// one, and all of them where they are few.
func Choose(name string, known []string) string {
	var parts []string
	if near := nearest(name, known); near != "" {
		parts = append(parts, fmt.Sprintf("did you mean %q?", near))
	}
	if len(known) > 0 && len(known) <= few {
		parts = append(parts, "known: "+strings.Join(known, ", "))
	}
	if len(parts) == 0 {
		return "take it out, or see docs/configuration.md for every name"
	}
	return strings.Join(parts, " ")
}
