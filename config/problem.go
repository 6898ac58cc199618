package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/waymark-cd/waymark/release"
)

// Problem is one mistake in a configuration file.
type Problem struct {
	File    string
	Line    int    // from 1
	Column  int    // from 1, in characters
	Summary string // what is wrong
	Detail  string // what to write instead; may be empty

	cause error // what a function said, for callers that branch on it
}

// String prints the problem on one line: file:line:column: summary: detail.
func (p Problem) String() string {
	s := fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Summary)
	if p.Detail != "" {
		s += ": " + p.Detail
	}
	return s
}

// Problems are all mistakes in a configuration file, in the order of the file.
// As an error they wrap release.ErrInvalid.
type Problems []Problem

// Error prints one problem per line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns release.ErrInvalid.
func (ps Problems) Unwrap() error { return release.ErrInvalid }

// problemAt makes a problem of a place in the file.
func problemAt(r hcl.Range, summary, detail string) Problem {
	return Problem{File: r.Filename, Line: max(r.Start.Line, 1), Column: max(r.Start.Column, 1),
		Summary: summary, Detail: detail}
}

// problemsOf turns the diagnostics of the HCL library into problems. fallback
// is the place of those that name none.
func problemsOf(diags hcl.Diagnostics, fallback hcl.Range) Problems {
	var out Problems
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		at := fallback
		if d.Subject != nil {
			at = *d.Subject
		}
		if err := callError(d); err != nil {
			p := problemAt(at, err.Error(), "")
			p.cause = err
			out = append(out, p)
			continue
		}
		out = append(out, problemAt(at, lowerFirst(strings.TrimSuffix(d.Summary, ".")), lowerFirst(strings.TrimSuffix(d.Detail, "."))))
	}
	return out
}

// callError returns what a function of ours said, or nil where the diagnostic
// is HCL's own.
func callError(d *hcl.Diagnostic) error {
	extra, ok := hcl.DiagnosticExtra[hclsyntax.FunctionCallDiagExtra](d)
	if !ok {
		return nil
	}
	err := extra.FunctionCallError()
	var said callProblem
	if errors.As(err, &said) {
		return said.error
	}
	return nil
}

// sortProblems puts problems in the order of the file and drops repetitions.
func sortProblems(ps Problems) Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(a.Line-b.Line, a.Column-b.Column)
	})
	return slices.CompactFunc(ps, func(a, b Problem) bool { return a.String() == b.String() })
}

// lowerFirst writes the first letter of a sentence in lower case, unless the
// first word is an abbreviation.
func lowerFirst(s string) string {
	r := []rune(s)
	if len(r) < 2 || !unicode.IsUpper(r[0]) || unicode.IsUpper(r[1]) {
		return s
	}
	r[0] = unicode.ToLower(r[0])
	return string(r)
}
