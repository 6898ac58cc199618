package gates

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

// checkovReport is what is read of one framework's report. Nothing else may be
// decoded: check_result.entity and code_block can hold the values of secrets.
type checkovReport struct {
	CheckType string `json:"check_type"`
	Results   struct {
		Failed  []checkovRecord `json:"failed_checks"`
		Skipped []checkovRecord `json:"skipped_checks"`
		Broken  []string        `json:"parsing_errors"`
	} `json:"results"`
	Summary *checkovSummary `json:"summary"`
}

type checkovSummary struct {
	Passed  int    `json:"passed"`
	Failed  int    `json:"failed"`
	Skipped int    `json:"skipped"`
	Broken  int    `json:"parsing_errors"`
	Version string `json:"checkov_version"`
}

type checkovRecord struct {
	ID     string `json:"check_id"`
	Name   string `json:"check_name"`
	Result struct {
		Comment string `json:"suppress_comment"`
	} `json:"check_result"`
	File        string `json:"file_path"`
	Lines       []int  `json:"file_line_range"`
	Resource    string `json:"resource"`
	CallerFile  string `json:"caller_file_path"`
	CallerLines []int  `json:"caller_file_line_range"`
	Severity    string `json:"severity"`
	Guideline   string `json:"guideline"`
}

func checkovEnv(string) []string {
	// A cache of compiled checks beside the operator's own would be a write
	// outside the scratch folder.
	return []string{"PYTHONDONTWRITEBYTECODE=1"}
}

// runCheckov judges the whole repository, so that one commit is scanned once for
// all its targets.
//
// Settings: "check" and "skip_check" (ids with *, comma-separated), "frameworks"
// (comma-separated, default terraform), "external_checks_dir" (the operator's,
// outside the repository), "severity" (of findings for which Checkov knows none:
// error, warning or notice; default error, as it knows none without a key).
func runCheckov(ctx context.Context, cfg Config) (release.GateResult, error) {
	args, err := checkovArgs(cfg)
	if err != nil {
		return release.GateResult{}, err
	}
	findings, err := checkovUnread(cfg)
	if err != nil {
		return release.GateResult{}, err
	}
	out, err := cfg.start(ctx, args...)
	if err != nil {
		return release.GateResult{}, err
	}
	result, err := readCheckov(out, defaultSeverity(cfg.Spec))
	result.Findings = append(result.Findings, findings...)
	return result, err
}

var (
	checkPattern     = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_*.-]{0,127}$`)
	frameworkPattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
)

// checkovArgs builds the command line. "--directory=" with its equals sign is
// what keeps Checkov from obeying a .checkov.yaml in that folder; "-d DIR" and
// "--directory DIR" do not.
func checkovArgs(cfg Config) ([]string, error) {
	settings := cfg.Spec.Config
	frameworks, err := list("frameworks", settings["frameworks"], frameworkPattern)
	if err != nil {
		return nil, err
	}
	if len(frameworks) == 0 {
		frameworks = []string{"terraform"}
	}
	if slices.Contains(frameworks, "terraform_plan") {
		return nil, fmt.Errorf("%w: framework terraform_plan wants a plan, which gates never see; leave it out", release.ErrInvalid)
	}
	args := append([]string{"--directory=" + cfg.Tree, "--framework"}, frameworks...)
	args = append(args, "--skip-download", "--compact", "--output", "json")
	for _, s := range []struct{ name, flag string }{{"check", "--check"}, {"skip_check", "--skip-check"}} {
		ids, err := list(s.name, settings[s.name], checkPattern)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			if slices.Contains([]string{"LOW", "MEDIUM", "HIGH", "CRITICAL"}, strings.ToUpper(id)) {
				return nil, fmt.Errorf("%w: setting %q: without a platform key checkov knows no severities and would run nothing for %q; name checks, such as CKV_AWS_26", release.ErrInvalid, s.name, id)
			}
		}
		if len(ids) > 0 {
			args = append(args, s.flag, strings.Join(ids, ","))
		}
	}
	if dir := settings["external_checks_dir"]; dir != "" {
		args = append(args, "--external-checks-dir="+dir)
	}
	switch defaultSeverity(cfg.Spec) {
	case release.SeverityError, release.SeverityWarning, release.SeverityNotice:
		return args, nil
	}
	return nil, fmt.Errorf("%w: setting \"severity\" must be error, warning or notice, not %q", release.ErrInvalid, settings["severity"])
}

func defaultSeverity(spec release.GateSpec) release.Severity {
	if s := spec.Config["severity"]; s != "" {
		return release.Severity(s)
	}
	return release.SeverityError
}

// list parts a comma-separated setting, each part matching pattern.
func list(name, value string, pattern *regexp.Regexp) ([]string, error) {
	var out []string
	for part := range strings.SplitSeq(value, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		if !pattern.MatchString(part) {
			return nil, fmt.Errorf("%w: setting %q: %q is no name; write names with commas between them", release.ErrInvalid, name, part)
		}
		out = append(out, part)
	}
	return out, nil
}

// readCheckov turns one run's output into a result. Its exit code alone says
// nothing: a missing folder and code that does not parse end with 0 as well.
func readCheckov(out output, severity release.Severity) (release.GateResult, error) {
	var result release.GateResult
	if out.exit != 0 && out.exit != 1 {
		return result, fmt.Errorf("exit %d%s", out.exit, out.tail())
	}
	reports, err := checkovReports(out)
	if err != nil {
		return result, err
	}
	var sum checkovSummary
	for _, r := range reports {
		if err := r.check(); err != nil {
			return result, err
		}
		sum.Passed += r.Summary.Passed
		sum.Failed += r.Summary.Failed
		sum.Skipped += r.Summary.Skipped
		result.Version = r.Summary.Version
		for _, rec := range r.Results.Failed {
			result.Findings = append(result.Findings, rec.finding(r.CheckType, severity, false))
		}
		for _, rec := range r.Results.Skipped {
			result.Findings = append(result.Findings, rec.finding(r.CheckType, severity, true))
		}
	}
	if failed := sum.Failed > 0; failed != (out.exit == 1) {
		return result, fmt.Errorf("exit %d with %d failed checks: something softens or hardens it; look for a configuration that it obeys%s", out.exit, sum.Failed, out.tail())
	}
	if !versionPattern.MatchString(result.Version) {
		return result, fmt.Errorf("its output names no version of checkov")
	}
	result.Summary = fmt.Sprintf("%d passed, %d failed, %d skipped", sum.Passed, sum.Failed, sum.Skipped)
	if sum.Passed+sum.Failed == 0 {
		result.Summary = nothingEvaluated
		if sum.Skipped > 0 {
			result.Summary += fmt.Sprintf(", %d skipped", sum.Skipped)
		}
		result.Findings = append(result.Findings, release.Finding{Rule: "waymark_nothing_evaluated",
			Severity: release.SeverityWarning,
			Message:  "no check applied to anything in this tree, so this gate says nothing about it"})
	}
	return result, nil
}

// nothingEvaluated is a summary and not the word passed: the gate ran and had
// nothing to say. It comes with a warning, so that fail_on = "warning" stops it.
const nothingEvaluated = "nothing evaluated"

// checkovReports reads the three shapes of its JSON: one framework's object, an
// array of them, and the bare counts where nothing was evaluated.
func checkovReports(out output) ([]checkovReport, error) {
	if bytes.HasPrefix(bytes.TrimSpace(out.stdout), []byte("[")) {
		var many []checkovReport
		err := decode(out, &many)
		if err == nil && len(many) == 0 {
			err = errors.New("its output holds no report")
		}
		return many, err
	}
	var raw json.RawMessage
	if err := decode(out, &raw); err != nil {
		return nil, err
	}
	var one struct {
		checkovReport
		checkovSummary
	}
	if err := json.Unmarshal(raw, &one); err != nil {
		return nil, fmt.Errorf("its output has an unknown shape: %w", err)
	}
	if one.CheckType == "" && one.checkovReport.Summary == nil {
		one.checkovReport.Summary = &one.checkovSummary
		if s := one.checkovSummary; s.Version == "" || s.Passed+s.Failed+s.Skipped != 0 {
			return nil, errors.New("its output has an unknown shape: counts without reports")
		}
		one.CheckType = "none"
	}
	return []checkovReport{one.checkovReport}, nil
}

// check refuses a report that is not whole.
func (r checkovReport) check() error {
	switch {
	case r.CheckType == "" || r.Summary == nil:
		return errors.New("its output has an unknown shape: a report without type or summary")
	case r.Summary.Broken > 0 || len(r.Results.Broken) > 0:
		files := make([]string, 0, len(r.Results.Broken))
		for _, f := range r.Results.Broken[:min(len(r.Results.Broken), 10)] {
			files = append(files, clean(f, maxName))
		}
		return fmt.Errorf("%d files could not be parsed and were not judged: %s; correct them, or make them readable to this version of checkov",
			max(r.Summary.Broken, len(r.Results.Broken)), strings.Join(files, ", "))
	case r.Summary.Failed != len(r.Results.Failed) || r.Summary.Skipped != len(r.Results.Skipped) || r.Summary.Passed < 0:
		return fmt.Errorf("its %s report is not whole: %d failed and %d skipped are counted, %d and %d are listed", clean(r.CheckType, 50),
			r.Summary.Failed, r.Summary.Skipped, len(r.Results.Failed), len(r.Results.Skipped))
	}
	return nil
}

// finding keeps rule, resource, file, line and message of a record.
func (r checkovRecord) finding(checkType string, severity release.Severity, skipped bool) release.Finding {
	f := release.Finding{Rule: r.ID, Message: r.Name, Resource: r.Resource, Link: r.Guideline,
		File: scannedFile(r.File), Line: firstLine(r.Lines), Severity: severity}
	switch strings.ToUpper(r.Severity) {
	case "CRITICAL", "HIGH":
		f.Severity = release.SeverityError
	case "MEDIUM", "MODERATE":
		f.Severity = release.SeverityWarning
	case "LOW", "INFO", "NONE":
		f.Severity = release.SeverityNotice
	}
	if checkType == "secrets" {
		f.Resource = "" // a plain hash of the secret, which a short secret does not survive
	}
	if r.CallerFile != "" {
		f.Message += fmt.Sprintf(" (module called at %s:%d)", scannedFile(r.CallerFile), firstLine(r.CallerLines))
	}
	if skipped {
		f.Suppressed = r.Result.Comment
		if strings.TrimSpace(f.Suppressed) == "" {
			f.Suppressed = "no reason given" // a skip must never read as a failure
		}
	}
	return f
}

// scannedFile makes Checkov's path, which is relative to the scanned folder with
// a leading slash, relative to the repository.
func scannedFile(p string) string {
	if p == "" {
		return ""
	}
	return strings.TrimPrefix(path.Clean("/"+p), "/")
}

func firstLine(lines []int) int {
	if len(lines) == 0 {
		return 0
	}
	return lines[0]
}
