package gates

import (
	"cmp"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

const (
	maxFindings = 5000 // of one result
	maxText     = 1000 // runes of a message
	maxName     = 300  // runes of every other text
)

// finish cleans the texts of findings, sorts, and cuts a list
// that is too long: suppressed and mild findings go first, and a notice counts them.
func finish(gate string, findings []release.Finding) []release.Finding {
	for i := range findings {
		f := &findings[i]
		suppressed := f.Suppressed != ""
		f.Source = gate
		f.Rule = clean(f.Rule, maxName)
		f.Message = clean(f.Message, maxText)
		f.File = clean(f.File, maxName)
		f.Resource = clean(f.Resource, maxName)
		f.Suppressed = clean(f.Suppressed, maxName)
		if suppressed && f.Suppressed == "" {
			f.Suppressed = "no reason given"
		}
		if f.Link = clean(f.Link, maxName); !strings.HasPrefix(f.Link, "https://") {
			f.Link = ""
		}
		f.Line = max(f.Line, 0)
	}
	findings = order(findings)
	if extra := len(findings) - maxFindings; extra > 0 {
		slices.SortStableFunc(findings, func(a, b release.Finding) int {
			return btoi(a.Suppressed != "") - btoi(b.Suppressed != "")
		})
		findings = append(findings[:maxFindings:maxFindings], release.Finding{Source: gate,
			Rule: "waymark_truncated", Severity: release.SeverityNotice,
			Message: fmt.Sprintf("%d further findings are left out", extra)})
		findings = order(findings)
	}
	return findings
}

// order sorts as release.SortFindings does, and by the remaining fields, so that
// two runs of one gate compare equal, and drops repetitions.
func order(findings []release.Finding) []release.Finding {
	slices.SortFunc(findings, func(a, b release.Finding) int {
		return cmp.Or(btoi(b.Severity.AtLeast(a.Severity))-btoi(a.Severity.AtLeast(b.Severity)),
			cmp.Compare(a.File, b.File), a.Line-b.Line, cmp.Compare(a.Rule, b.Rule),
			cmp.Compare(a.Message, b.Message), cmp.Compare(a.Resource, b.Resource),
			cmp.Compare(a.Suppressed, b.Suppressed), cmp.Compare(a.Link, b.Link))
	})
	return slices.Compact(findings)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// countText says how many findings there are, for people: "2 errors, 1 notice".
func countText(findings []release.Finding) string {
	c := release.CountFindings(findings)
	var parts []string
	for _, p := range []struct {
		n    int
		word string
	}{{c.Error, "error"}, {c.Warning, "warning"}, {c.Notice, "notice"}} {
		switch {
		case p.n == 1:
			parts = append(parts, "1 "+p.word)
		case p.n > 1:
			parts = append(parts, fmt.Sprintf("%d %ss", p.n, p.word))
		}
	}
	if len(parts) == 0 {
		return "no findings"
	}
	return strings.Join(parts, ", ")
}

// treeFile turns a path that a gate printed into one relative to the tree, with
// slashes; base is the folder that a relative one starts from. A path outside
// the tree becomes its last element.
func treeFile(tree, base, name string) string {
	if name == "" {
		return ""
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(base, name)
	}
	rel, err := filepath.Rel(tree, name)
	if err != nil || !filepath.IsLocal(rel) {
		return filepath.Base(name)
	}
	return path.Clean(filepath.ToSlash(rel))
}
