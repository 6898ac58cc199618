package gates

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

// What is read of SARIF 2.1.0 (OASIS, sarif-v2.1.0-os). Names in the comments
// are those of its properties. Snippets are left out: they repeat the code.
type sarifLog struct {
	Version string     `json:"version"`
	Runs    []sarifRun `json:"runs"`
}

type sarifRun struct {
	Tool struct {
		Driver     sarifTool   `json:"driver"`
		Extensions []sarifTool `json:"extensions"`
	} `json:"tool"`
	Results     *[]sarifResult `json:"results"` // null: the scan failed before it had any
	Invocations []struct {
		Successful    *bool               `json:"executionSuccessful"`
		Notifications []sarifNotification `json:"toolExecutionNotifications"`
		Configuration []sarifNotification `json:"toolConfigurationNotifications"`
	} `json:"invocations"`
	Artifacts []struct {
		Location sarifArtifact `json:"location"`
	} `json:"artifacts"`
	Bases map[string]sarifArtifact `json:"originalUriBaseIds"`
}

type sarifTool struct {
	Name            string      `json:"name"`
	Version         string      `json:"version"`
	SemanticVersion string      `json:"semanticVersion"`
	Rules           []sarifRule `json:"rules"`
}

type sarifRule struct {
	ID      string    `json:"id"`
	HelpURI string    `json:"helpUri"`
	Short   sarifText `json:"shortDescription"`
	Default struct {
		Level string `json:"level"`
	} `json:"defaultConfiguration"`
	Messages map[string]sarifText `json:"messageStrings"`
}

type sarifText struct {
	Text      string   `json:"text"`
	ID        string   `json:"id"`
	Arguments []string `json:"arguments"`
}

type sarifResult struct {
	RuleID    string `json:"ruleId"`
	RuleIndex *int   `json:"ruleIndex"`
	Rule      struct {
		ID        string `json:"id"`
		Index     *int   `json:"index"`
		Component *struct {
			Index *int `json:"index"`
		} `json:"toolComponent"`
	} `json:"rule"`
	Level        string          `json:"level"`
	Kind         string          `json:"kind"`
	Message      sarifText       `json:"message"`
	Locations    []sarifLocation `json:"locations"`
	Suppressions []struct {
		Status        string `json:"status"`
		Justification string `json:"justification"`
	} `json:"suppressions"`
	Baseline string `json:"baselineState"`
}

type sarifLocation struct {
	Physical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   struct {
			StartLine int `json:"startLine"`
		} `json:"region"`
	} `json:"physicalLocation"`
	Logical []struct {
		Qualified string `json:"fullyQualifiedName"`
		Name      string `json:"name"`
	} `json:"logicalLocations"`
}

type sarifArtifact struct {
	URI   string `json:"uri"`
	Base  string `json:"uriBaseId"`
	Index *int   `json:"index"`
}

type sarifNotification struct {
	Level     string          `json:"level"`
	Message   sarifText       `json:"message"`
	Locations []sarifLocation `json:"locations"`
}

// readSARIF turns a SARIF log into a result. Levels become severities: error,
// warning (also where there is none) and note, which is a notice. A result of a
// kind other than "fail" does not count: it is left out where it says that
// nothing is wrong, else a notice. Suppressed results are listed as suppressed.
func readSARIF(src []byte, file func(string) string) (release.GateResult, error) {
	var result release.GateResult
	var log sarifLog
	if err := decodeOne(bytes.TrimPrefix(src, []byte("\ufeff")), &log); err != nil {
		return result, err
	}
	switch {
	case log.Version != "2.1.0":
		return result, fmt.Errorf("it is no SARIF 2.1.0: its version is %q", clean(log.Version, 50))
	case len(log.Runs) == 0:
		return result, errors.New("its SARIF holds no run")
	}
	for i := range log.Runs {
		run := &log.Runs[i]
		if err := run.whole(); err != nil {
			return result, err
		}
		result.Findings = append(result.Findings, run.notifications(file)...)
		for _, r := range *run.Results {
			if f, ok := run.finding(r, file); ok {
				result.Findings = append(result.Findings, f)
			}
		}
		if result.Version == "" {
			result.Version = clean(run.Tool.Driver.version(), 50)
		}
	}
	result.Summary = countText(result.Findings)
	if n := suppressedCount(result.Findings); n > 0 {
		result.Summary += fmt.Sprintf(", %d suppressed", n)
	}
	return result, nil
}

func (t sarifTool) version() string {
	if t.SemanticVersion != "" {
		return t.SemanticVersion
	}
	return t.Version
}

// whole refuses a run that says itself that it did not judge.
func (r *sarifRun) whole() error {
	switch {
	case r.Tool.Driver.Name == "":
		return errors.New("its SARIF names no tool")
	case r.Results == nil:
		return errors.New("its SARIF holds no list of results: it did not get so far as to judge")
	}
	for _, i := range r.Invocations {
		if i.Successful != nil && !*i.Successful {
			why := ""
			for _, n := range slices.Concat(i.Notifications, i.Configuration) {
				if n.Message.Text != "" {
					why = ": " + clean(n.Message.Text, maxName)
					break
				}
			}
			return fmt.Errorf("its SARIF says that it did not succeed%s", why)
		}
	}
	return nil
}

// notifications are what the tool could not do, as warnings: something was
// perhaps not judged.
func (r *sarifRun) notifications(file func(string) string) []release.Finding {
	var out []release.Finding
	for _, i := range r.Invocations {
		for _, n := range slices.Concat(i.Notifications, i.Configuration) {
			if n.Level != "error" {
				continue
			}
			f := release.Finding{Rule: "waymark_tool_error", Severity: release.SeverityWarning, Message: "the tool reports an error of its own: " + n.Message.Text}
			f.File, f.Line, f.Resource = r.place(n.Locations, file)
			out = append(out, f)
		}
	}
	return out
}

// finding turns a result into a finding, or returns false for one that says that
// nothing is wrong.
func (r *sarifRun) finding(s sarifResult, file func(string) string) (release.Finding, bool) {
	rule := r.rule(s)
	f := release.Finding{Rule: rule.ID, Link: rule.HelpURI, Severity: sarifSeverity(s, rule)}
	if s.Kind == "pass" || s.Kind == "notApplicable" || s.Baseline == "absent" {
		return f, false
	}
	f.File, f.Line, f.Resource = r.place(s.Locations, file)
	f.Message = s.Message.Text
	if f.Message == "" {
		f.Message = clean(rule.Messages[s.Message.ID].Text, maxText)
		for i, a := range s.Message.Arguments[:min(len(s.Message.Arguments), 20)] {
			f.Message = strings.ReplaceAll(f.Message, fmt.Sprintf("{%d}", i), clean(a, maxName))
		}
	}
	if f.Message == "" {
		f.Message = rule.Short.Text
	}
	for _, sup := range s.Suppressions {
		if sup.Status != "" && sup.Status != "accepted" { // under review, or rejected: it counts
			f.Suppressed = ""
			break
		}
		if f.Suppressed = sup.Justification; strings.TrimSpace(f.Suppressed) == "" {
			f.Suppressed = "no reason given"
		}
	}
	return f, true
}

// sarifSeverity is a result's severity: its own level, or its rule's, or warning.
func sarifSeverity(s sarifResult, rule sarifRule) release.Severity {
	if s.Kind != "" && s.Kind != "fail" {
		return release.SeverityNotice
	}
	level := s.Level
	if level == "" {
		level = rule.Default.Level
	}
	switch level {
	case "", "warning":
		return release.SeverityWarning
	case "note", "none":
		return release.SeverityNotice
	}
	return release.SeverityError
}

// rule finds what a result says of its rule; one that the tool does not describe
// has an id alone.
func (r *sarifRun) rule(s sarifResult) sarifRule {
	id, index, rules := s.RuleID, s.RuleIndex, r.Tool.Driver.Rules
	if id == "" {
		id = s.Rule.ID
	}
	if index == nil {
		index = s.Rule.Index
	}
	if c := s.Rule.Component; c != nil && c.Index != nil {
		rules = nil
		if *c.Index >= 0 && *c.Index < len(r.Tool.Extensions) {
			rules = r.Tool.Extensions[*c.Index].Rules
		}
	}
	if index != nil && *index >= 0 && *index < len(rules) && (id == "" || rules[*index].ID == id || strings.HasPrefix(id, rules[*index].ID+"/")) {
		found := rules[*index]
		if id != "" {
			found.ID = id
		}
		return found
	}
	for _, rule := range rules {
		if rule.ID == id && id != "" {
			return rule
		}
	}
	if id == "" {
		id = "unnamed"
	}
	return sarifRule{ID: id}
}

// place is where the first location is.
func (r *sarifRun) place(locations []sarifLocation, file func(string) string) (name string, line int, resource string) {
	if len(locations) == 0 {
		return "", 0, ""
	}
	l := locations[0]
	if len(l.Logical) > 0 {
		if resource = l.Logical[0].Qualified; resource == "" {
			resource = l.Logical[0].Name
		}
	}
	a := l.Physical.Artifact
	if i := a.Index; a.URI == "" && i != nil && *i >= 0 && *i < len(r.Artifacts) {
		a = r.Artifacts[*i].Location
	}
	return file(r.path(a)), l.Physical.Region.StartLine, resource
}

// path turns an artifact's URI into a path: of a file URI the path, of a
// relative one the path below its base, which may lie below another.
func (r *sarifRun) path(a sarifArtifact) string {
	name := ""
	for range 10 { // bases may name each other in a circle
		u, err := url.Parse(a.URI)
		if err != nil || u.Scheme != "" && u.Scheme != "file" || u.Opaque != "" {
			return filepath.Join(a.URI, name)
		}
		if name = filepath.Join(filepath.FromSlash(u.Path), name); filepath.IsAbs(name) || a.Base == "" {
			return name
		}
		a = r.Bases[a.Base]
	}
	return name
}

// UnmarshalJSON keeps a message that is no object from failing the whole log:
// some tools write a string.
func (t *sarifText) UnmarshalJSON(src []byte) error {
	type plain sarifText
	if len(src) > 0 && src[0] == '"' {
		return json.Unmarshal(src, &t.Text)
	}
	return json.Unmarshal(src, (*plain)(t))
}

func suppressedCount(findings []release.Finding) int {
	n := 0
	for _, f := range findings {
		n += btoi(f.Suppressed != "")
	}
	return n
}
