package release

import (
	"cmp"
	"slices"
)

// Severity of a finding.
type Severity string

// The severities, most severe first.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
	SeverityNotice  Severity = "notice"
)

// rank orders severities; an unknown one counts as the most severe.
func (s Severity) rank() int {
	switch s {
	case SeverityNotice:
		return 2
	case SeverityWarning:
		return 1
	default:
		return 0
	}
}

// AtLeast reports whether s is as severe as floor or more.
func (s Severity) AtLeast(floor Severity) bool { return s.rank() <= floor.rank() }

// Finding is what a gate or a policy reports.
type Finding struct {
	Source   string   `json:"source"` // such as "tflint", or "policy"
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	File     string   `json:"file,omitempty"` // relative to the repository, slashes
	Line     int      `json:"line,omitempty"` // from 1; 0 where unknown
	Message  string   `json:"message"`
	Resource string   `json:"resource,omitempty"` // address in the configuration
	Link     string   `json:"link,omitempty"`
	// Suppressed is the comment by which the code itself skips the rule. Such a
	// finding is listed and does not count.
	Suppressed string `json:"suppressed,omitempty"`
	// Waived is the waiver of the configuration that covers the finding. Such a
	// finding is listed and does not count.
	Waived Waived `json:"waived,omitzero"`
}

// Waived says by whose word, and until when, a finding does not count.
type Waived struct {
	Name    string `json:"name"` // of the waiver
	Owner   string `json:"owner"`
	Reason  string `json:"reason"`
	Expires string `json:"expires"` // the last day, such as "2027-01-31"
}

// Counts reports whether a finding is neither suppressed nor waived.
func (f Finding) Counts() bool { return f.Suppressed == "" && f.Waived == Waived{} }

// FindingCount counts findings that are neither suppressed nor waived.
type FindingCount struct {
	Error   int `json:"error"`
	Warning int `json:"warning"`
	Notice  int `json:"notice"`
}

// CountFindings counts what is neither suppressed nor waived.
func CountFindings(findings []Finding) FindingCount {
	var c FindingCount
	for _, f := range findings {
		switch {
		case !f.Counts():
		case f.Severity == SeverityWarning:
			c.Warning++
		case f.Severity == SeverityNotice:
			c.Notice++
		default:
			c.Error++
		}
	}
	return c
}

// Failing returns the findings that are at least as severe as floor and neither
// suppressed nor waived.
func Failing(findings []Finding, floor Severity) []Finding {
	var out []Finding
	for _, f := range findings {
		if f.Counts() && f.Severity.AtLeast(floor) {
			out = append(out, f)
		}
	}
	return out
}

// SortFindings orders findings by severity, file, line, rule and message, so
// that two runs of one scanner compare equal.
func SortFindings(findings []Finding) {
	slices.SortFunc(findings, func(a, b Finding) int {
		return cmp.Or(a.Severity.rank()-b.Severity.rank(), cmp.Compare(a.File, b.File),
			a.Line-b.Line, cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Message, b.Message))
	})
}
