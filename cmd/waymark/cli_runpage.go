package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/api"
)

// runPage is all that `waymark runs show` prints of one run.
type runPage struct {
	run      api.Run
	plan     *api.Plan // nil before there is one
	findings []api.Finding
	reports  []api.Report
}

func loadRunPage(ctx context.Context, c *api.Client, id string) (runPage, error) {
	var page runPage
	var err error
	if page.run, err = c.Run(ctx, id); err != nil {
		return page, err
	}
	plan, err := c.Plan(ctx, id)
	var p *api.Problem
	switch {
	case err == nil:
		page.plan = &plan
	case !errors.As(err, &p) || p.Code != api.CodeNotFound:
		return page, err
	}
	findings, err := c.Findings(ctx, id)
	if err != nil {
		return page, err
	}
	reports, err := c.Reports(ctx, id)
	page.findings, page.reports = findings.Findings, reports.Reports
	return page, err
}

func (p runPage) render(w io.Writer, now time.Time, colour bool) {
	r := p.run
	fmt.Fprintf(w, "%s  %s  %s\n", bold.on("Run "+clean(r.ID), colour), clean(r.Name()), paintOf(r.State).on(clean(r.State), colour))
	p.renderFacts(w, now, colour)
	section(w, "Stages", "", colour)
	stages := table{indent: "  "}
	for _, s := range r.Stages {
		stages.row(s.Name, cell{s.State, paintOf(s.State)}, took(now, s.StartedAt, s.FinishedAt), s.Summary)
	}
	stages.write(w, colour)
	renderEvidence(w, r, now, colour)
	if p.plan != nil {
		renderPlan(w, *p.plan, colour)
	}
	if len(p.findings) > 0 {
		renderFindings(w, r.Findings, p.findings, colour)
	}
	renderReports(w, clean(r.ID), p.reports, colour)
	if len(r.Outputs) > 0 {
		section(w, "Outputs", "", colour)
		outputs := table{indent: "  "}
		for _, name := range slices.Sorted(maps.Keys(r.Outputs)) {
			outputs.row(name, r.Outputs[name])
		}
		outputs.write(w, colour)
	}
	if steps := nextSteps(r); len(steps) > 0 {
		section(w, "Next", "", colour)
		for _, s := range steps {
			fmt.Fprintln(w, "  "+s)
		}
	}
}

func (p runPage) renderFacts(w io.Writer, now time.Time, colour bool) {
	r := p.run
	facts := table{indent: "  "}
	facts.row("target", r.Target.String()+" in account "+cmp.Or(r.Target.Account, "(not known yet)"))
	facts.row("kind", r.Kind)
	facts.row("commit", r.Commit)
	if len(r.SoftGates) > 0 {
		facts.row("soft mode", cell{strings.Join(r.SoftGates, ", ") + " would have failed this run", yellow})
	}
	facts.row("asked by", fmt.Sprintf("%s, %s", cmp.Or(r.CreatedBy, "-"), ago(now, r.CreatedAt)))
	if !r.StartedAt.IsZero() {
		facts.row("started", fmt.Sprintf("%s, took %s", ago(now, r.StartedAt), took(now, r.StartedAt, r.FinishedAt)))
	}
	if r.Attempt > 1 {
		facts.row("attempt", r.Attempt)
	}
	for _, a := range r.Approvals {
		facts.row("approved by", fmt.Sprintf("%s, %s", a.Actor, ago(now, a.At)))
	}
	if r.ApproversMissing != "" {
		facts.row("needs", r.ApproversMissing)
	}
	if r.State == api.StateAwaitingApproval && !r.ApproveBy.IsZero() {
		facts.row("until", r.ApproveBy.UTC().Format(time.RFC3339)+", then it ends as rejected")
	}
	if r.PlanDigest != "" {
		facts.row("plan digest", r.PlanDigest)
	}
	if r.WaitsForTime() {
		facts.row("waits until", r.WaitUntil.Format(time.RFC3339))
	}
	if r.OverriddenBy != "" {
		facts.row("let go on by", r.OverriddenBy)
	}
	if r.Reason != "" {
		facts.row("reason", r.Reason)
	}
	facts.write(w, colour)
}

func renderPlan(w io.Writer, p api.Plan, colour bool) {
	section(w, "Plan", fmt.Sprintf("%d to add, %d to change, %d to destroy", p.Changes.Add, p.Changes.Change, p.Changes.Destroy), colour)
	for _, r := range p.Resources {
		t := table{indent: "  "}
		reason := ""
		if r.Reason != "" {
			reason = "(" + r.Reason + ")"
		}
		t.row(cell{r.Action, paintOf(r.Action)}, r.Address, reason)
		t.write(w, colour)
		attributes := table{indent: "      "}
		for _, a := range r.Attributes {
			attributes.row(a.Path, beforeAfter(a.Before, a.After))
		}
		attributes.write(w, colour)
	}
	outputs := table{indent: "  "}
	for _, o := range p.Outputs {
		outputs.row(cell{o.Action, paintOf(o.Action)}, "output "+o.Name, beforeAfter(o.Before, o.After))
	}
	outputs.write(w, colour)
	drift := table{indent: "  "}
	for _, r := range p.Drift {
		drift.row(cell{"drift", yellow}, r.Address, r.Action+" outside of Waymark")
	}
	drift.write(w, colour)
	if p.Truncated {
		fmt.Fprintln(w, "  The plan is larger than its summary: not everything is shown.")
	}
}

func beforeAfter(before, after string) string {
	switch {
	case before == "":
		return after
	case after == "":
		return before + " -> (removed)"
	default:
		return before + " -> " + after
	}
}

func renderFindings(w io.Writer, n api.FindingCount, findings []api.Finding, colour bool) {
	section(w, "Findings", fmt.Sprintf("%d errors, %d warnings, %d notices", n.Error, n.Warning, n.Notice), colour)
	t := table{indent: "  "}
	for _, f := range findings {
		place := f.File
		if f.Line > 0 {
			place = fmt.Sprintf("%s:%d", f.File, f.Line)
		}
		severity := cell{f.Severity, paintOf(f.Severity)}
		if f.Suppressed != "" {
			severity = cell{"skipped", faint}
		}
		if f.Waived != nil {
			severity = cell{"waived", faint}
		}
		t.row(severity, cmp.Or(place, f.Resource, "-"), f.Source+" "+f.Rule, f.Message+whyNot(f))
	}
	t.write(w, colour)
}

// whyNot says why a finding does not count: the comment or the waiver.
func whyNot(f api.Finding) string {
	switch {
	case f.Suppressed != "":
		return " (" + f.Suppressed + ")"
	case f.Waived != nil:
		return fmt.Sprintf(" (waiver %s of %s until %s: %s)", f.Waived.Name, f.Waived.Owner, f.Waived.Expires, f.Waived.Reason)
	}
	return ""
}

// nextSteps says what a person can type about a run, the likeliest first.
func nextSteps(r api.Run) []string {
	id := clean(r.ID)
	switch r.State {
	case api.StateAwaitingApproval, api.StateQueued:
		if r.WaitsForTime() {
			return []string{"waymark runs override " + id + " --reason \"…\"   outside of its time", "waymark runs cancel " + id}
		}
		if r.State == api.StateQueued {
			return []string{"waymark runs logs -f " + id, "waymark runs cancel " + id}
		}
		if r.ApproversMissing == "" { // it waits for its time
			return []string{"waymark runs reject " + id + " --reason \"…\""}
		}
		return []string{"waymark runs approve " + id, "waymark runs reject " + id + " --reason \"…\""}
	case api.StateRunning:
		return []string{"waymark runs logs -f " + id, "waymark runs cancel " + id}
	case api.StateUnknown:
		steps := []string{"waymark runs resolve " + id + " --replan      plan again and apply what is left",
			"waymark runs resolve " + id + " --accept      the change is there",
			"waymark runs resolve " + id + " --abandon     the change is not there"}
		if r.Evidence != nil && r.Evidence.ErroredState {
			steps = append([]string{"waymark runs resolve " + id + " --push-state  put the kept state in its place"}, steps...)
		}
		return steps
	case api.StateFailed, api.StateCancelled:
		return []string{"waymark runs logs " + id, "waymark runs retry " + id}
	case api.StateDenied:
		return []string{"fix the findings, and push a tag with a new version"}
	default:
		return nil
	}
}

func section(w io.Writer, title, summary string, colour bool) {
	fmt.Fprintln(w)
	if summary != "" {
		summary = ": " + summary
	}
	fmt.Fprintln(w, bold.on(title, colour)+strings.TrimRight(summary, " "))
}
