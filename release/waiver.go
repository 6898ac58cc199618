package release

import (
	"path"
	"slices"
	"strings"
	"time"
)

// Waiver is the operator's word that findings of one rule of a gate do not
// count for a while.
type Waiver struct {
	Name   string   `json:"name"`
	Rule   string   `json:"rule"`            // exactly as the gate writes it
	Paths  []string `json:"paths,omitempty"` // patterns as for MatchPath; empty: everywhere
	Owner  string   `json:"owner"`
	Reason string   `json:"reason"`
	// Expires is the last day on which it counts, in UTC, such as "2027-01-31".
	Expires string `json:"expires"`
}

// ExpiresLayout is how Waiver.Expires is written.
const ExpiresLayout = time.DateOnly

// Ends is the moment from which on the waiver counts no longer: the end of its
// last day. A day that cannot be read has ended.
func (w Waiver) Ends() time.Time {
	day, err := time.Parse(ExpiresLayout, w.Expires)
	if err != nil {
		return time.Time{}
	}
	return day.AddDate(0, 0, 1)
}

// Covers reports whether the waiver, were it still valid, is about a finding. A
// finding without a file is covered by a waiver for everywhere alone.
func (w Waiver) Covers(f Finding) bool {
	if f.Rule != w.Rule {
		return false
	}
	return len(w.Paths) == 0 || f.File != "" && slices.ContainsFunc(w.Paths, func(p string) bool { return MatchPath(p, f.File) })
}

// Waived is what a finding says that is covered.
func (w Waiver) Waived() Waived {
	return Waived{Name: w.Name, Owner: w.Owner, Reason: w.Reason, Expires: w.Expires}
}

// MatchPath reports whether a file of the repository, with slashes, matches a
// pattern: "*", "?" and "[a-z]" as in path.Match, within one folder, and "**"
// as a whole element for any number of folders. A pattern that is not
// well-formed matches nothing.
func MatchPath(pattern, file string) bool {
	return matchParts(strings.Split(pattern, "/"), strings.Split(file, "/"))
}

// matchParts fills a table from the ends, so that many "**" cost no more than
// their number times the folders.
func matchParts(pattern, file []string) bool {
	matches := make([]bool, len(file)+1) // matches[j]: the pattern from here on matches file[j:]
	matches[len(file)] = true
	for _, part := range slices.Backward(pattern) {
		next := make([]bool, len(file)+1)
		for j := len(file); j >= 0; j-- {
			if part == "**" {
				next[j] = matches[j] || j < len(file) && next[j+1]
			} else if j < len(file) && matches[j+1] {
				next[j], _ = path.Match(part, file[j])
			}
		}
		matches = next
	}
	return matches[0]
}
