package terraform

import (
	"maps"
	"slices"
	"strings"

	tfjson "github.com/hashicorp/terraform-json"

	"github.com/waymark-cd/waymark/release"
)

// Bounds of a summary. What is beyond them is left out and Truncated is set;
// the counts are of everything.
const (
	maxResources  = 500
	maxDrift      = 100
	maxOutputs    = 200
	maxAttributes = 100 // of one resource
	maxValue      = 256 // bytes of one value
)

// Summarize makes the account of a plan that may leave the run. Values that the
// plan marks as sensitive, before or after, in resources, outputs, drift or
// variables, are replaced by "(sensitive)" wherever they appear, also where
// the engine lost the mark on the way (a provider's computed copy). Resources
// that do not change are left out, and of updated ones the attributes that do
// not change. Digest is left empty.
func Summarize(plan *tfjson.Plan) release.PlanSummary { return SummarizeMasked(plan, nil) }

// SummarizeMasked is Summarize with a mask that takes out of every text, before
// it is cut, what else must not be shown.
func SummarizeMasked(plan *tfjson.Plan, mask func(string) string) release.PlanSummary {
	if plan == nil {
		return release.PlanSummary{}
	}
	m := newMasker(plan, mask)
	var s release.PlanSummary
	for _, rc := range plan.ResourceChanges {
		if rc == nil || rc.Change == nil {
			continue
		}
		count(&s.Changes, rc.Change.Actions)
		s.Resources = appendChange(s.Resources, m, rc, maxResources, &s.Truncated)
	}
	for _, rc := range plan.ResourceDrift {
		if rc != nil && rc.Change != nil {
			s.Drift = appendChange(s.Drift, m, rc, maxDrift, &s.Truncated)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(plan.OutputChanges)) {
		c := plan.OutputChanges[name]
		if c == nil || action(c) == "" {
			continue
		}
		if len(s.Outputs) == maxOutputs {
			s.Truncated = true
			break
		}
		s.Outputs = append(s.Outputs, m.output(name, c))
	}
	return s
}

func appendChange(list []release.ResourceChange, m *masker, rc *tfjson.ResourceChange, limit int, truncated *bool) []release.ResourceChange {
	if action(rc.Change) == "" {
		return list
	}
	if len(list) == limit {
		*truncated = true
		return list
	}
	change, all := m.resource(rc)
	if !all {
		*truncated = true
	}
	return append(list, change)
}

// count adds a change as the engine counts it: a replacement is one resource
// added and one destroyed.
func count(c *release.Changes, a tfjson.Actions) {
	for _, one := range a {
		switch one {
		case tfjson.ActionCreate:
			c.Add++
		case tfjson.ActionUpdate:
			c.Change++
		case tfjson.ActionDelete:
			c.Destroy++
		}
	}
}

// DriftChanges counts what a plan says has changed outside.
func DriftChanges(plan *tfjson.Plan) release.Changes {
	var c release.Changes
	for _, rc := range plan.ResourceDrift {
		if rc != nil && rc.Change != nil {
			count(&c, rc.Change.Actions)
		}
	}
	return c
}

// action names a change; empty for one that changes nothing.
func action(c *tfjson.Change) string {
	switch a := c.Actions; {
	case a.Replace():
		return "replace"
	case len(a) > 0 && a[0] != tfjson.ActionNoop:
		return string(a[0])
	case c.Importing != nil:
		return "import"
	}
	return ""
}

// resource describes one change; all is false where attributes were left out.
func (m *masker) resource(rc *tfjson.ResourceChange) (out release.ResourceChange, all bool) {
	out = release.ResourceChange{
		Address:  cut(neutral(m.redact(rc.Address)), maxValue),
		Type:     rc.Type,
		Provider: rc.ProviderName,
		Action:   action(rc.Change),
		Reason:   m.reason(rc),
	}
	if rc.DeposedKey != "" {
		out.Address += " (deposed " + rc.DeposedKey + ")"
	}
	d := differ{masker: m}
	c := rc.Change
	d.walk("", side{value: c.Before, marks: c.BeforeSensitive, there: c.Before != nil},
		side{value: c.After, marks: c.AfterSensitive, unknown: c.AfterUnknown, there: c.After != nil || c.AfterUnknown == true}, 0)
	out.Attributes = d.changes
	return out, !d.more
}

func (m *masker) output(name string, c *tfjson.Change) release.OutputChange {
	out := release.OutputChange{Name: name, Action: action(c)}
	b := side{value: c.Before, marks: c.BeforeSensitive, there: c.Before != nil}
	a := side{value: c.After, marks: c.AfterSensitive, unknown: c.AfterUnknown, there: c.After != nil || hasTrue(c.AfterUnknown)}
	if hasTrue(b.marks) || hasTrue(a.marks) { // an output is sensitive as a whole
		b.marks, a.marks = true, true
	}
	out.Before, out.After = m.text(b), m.text(a)
	return out
}

// reason says why a resource is replaced or removed, in words.
func (m *masker) reason(rc *tfjson.ResourceChange) string {
	if rc.ActionReason == tfjson.ActionReasonReplaceBecauseCannotUpdate && len(rc.Change.ReplacePaths) > 0 {
		var paths []string
		for _, p := range rc.Change.ReplacePaths {
			steps, _ := p.([]any)
			path := ""
			for _, step := range steps {
				path = m.child(path, step)
			}
			if path != "" && len(paths) < 5 {
				paths = append(paths, path)
			}
		}
		if len(paths) > 0 {
			return cut(neutral(strings.Join(paths, ", ")), maxValue) + " cannot be changed in place"
		}
	}
	return strings.ReplaceAll(string(rc.ActionReason), "_", " ")
}
