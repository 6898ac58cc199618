package gates

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

// runCommand lets a command of the operator's judge the tree. It works in the
// root of the tree and prints its report. What counts is the report: the command
// may end with any exit code where the report holds a finding, and with 0 where
// it holds none. A code that nothing in the report explains, a report that
// cannot be read and one that says itself that it is not whole are errors.
func runCommand(ctx context.Context, cfg Config) (release.GateResult, error) {
	read := readSARIF
	switch cfg.Spec.Format {
	case "sarif":
	case "junit":
		read = readJUnit
	default:
		return release.GateResult{}, fmt.Errorf("%w: format %q is none of sarif and junit", release.ErrInvalid, cfg.Spec.Format)
	}
	out, err := cfg.start(ctx, cfg.Spec.Args...)
	if err != nil {
		return release.GateResult{}, err
	}
	result, err := read(out.stdout, func(name string) string { return treeFile(cfg.Tree, cfg.Tree, name) })
	if err == nil && out.exit != 0 && !slices.ContainsFunc(result.Findings, explains) {
		err = errors.New("its report holds no finding that explains the exit code")
	}
	if err != nil {
		return release.GateResult{}, fmt.Errorf("%w, exit %d%s", err, out.exit, out.tail())
	}
	result.Report = report(cfg.Spec.Format, out.stdout)
	if result.Report == nil {
		result.Findings = append(result.Findings, release.Finding{Rule: "waymark_report_left_out", Severity: release.SeverityNotice,
			Message: fmt.Sprintf("its report is larger than %d KiB and not kept; the findings are here", release.MaxReport>>10)})
	}
	return result, nil
}

// explains reports whether a finding is the tool's own and counts.
func explains(f release.Finding) bool { return f.Counts() && !strings.HasPrefix(f.Rule, "waymark_") }

// report keeps what a gate printed; nil where that is too large.
func report(format string, content []byte) *release.Report {
	if len(content) > release.MaxReport {
		return nil
	}
	return &release.Report{Format: format, Content: string(content)}
}

// judgedNothing is the warning of a report that judges nothing, so that
// fail_on = "warning" stops it.
func judgedNothing(why string) release.Finding {
	return release.Finding{Rule: "waymark_nothing_evaluated", Severity: release.SeverityWarning, Message: why + ", so this gate says nothing about it"}
}
