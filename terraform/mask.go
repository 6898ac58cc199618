package terraform

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	tfjson "github.com/hashicorp/terraform-json"
)

const (
	knownAfterApply = "(known after apply)"

	// minSecret is the length, in bytes, from which a sensitive string is looked
	// for in other values too. Shorter ones would blot out half of a plan.
	minSecret = 5

	// maxDepth bounds how deep a value is taken apart; deeper ones are one value.
	maxDepth = 24
)

// masker turns values of a plan into text without any sensitive part.
type masker struct {
	secrets *strings.Replacer
	more    func(string) string // takes out what else is secret; may be nil
}

// newMasker learns every sensitive string of the plan.
func newMasker(plan *tfjson.Plan, more func(string) string) *masker {
	return &masker{secretsOf(plan).replacer(), more}
}

func (m *masker) redact(s string) string {
	s = m.secrets.Replace(s)
	if m.more != nil {
		s = m.more(s)
	}
	return s
}

// secretsOf gathers what a plan marks as sensitive.
func secretsOf(plan *tfjson.Plan) secrets {
	found := secrets{}
	for _, list := range [][]*tfjson.ResourceChange{plan.ResourceChanges, plan.ResourceDrift} {
		for _, rc := range list {
			if rc != nil {
				found.addChange(rc.Change)
			}
		}
	}
	for _, c := range plan.OutputChanges {
		found.addChange(c)
	}
	found.addState(plan.PriorState)
	if plan.Config != nil && plan.Config.RootModule != nil {
		for name, v := range plan.Config.RootModule.Variables {
			if v != nil && v.Sensitive && plan.Variables[name] != nil {
				found.addAll(plan.Variables[name].Value)
			}
		}
	}
	return found
}

func (s secrets) addState(state *tfjson.State) {
	if state == nil || state.Values == nil {
		return
	}
	s.addModule(state.Values.RootModule)
	for _, o := range state.Values.Outputs {
		if o != nil && o.Sensitive {
			s.addAll(o.Value)
		}
	}
}

// secrets is a set of sensitive strings; false for one that is only the name of a
// part of a sensitive value.
type secrets map[string]bool

func (s secrets) addChange(c *tfjson.Change) {
	if c != nil {
		s.add(c.Before, c.BeforeSensitive)
		s.add(c.After, c.AfterSensitive)
	}
}

func (s secrets) addModule(m *tfjson.StateModule) {
	if m == nil {
		return
	}
	for _, r := range m.Resources {
		var marks any
		if r != nil && json.Unmarshal(r.SensitiveValues, &marks) == nil {
			s.add(r.AttributeValues, marks)
		}
	}
	for _, child := range m.ChildModules {
		s.addModule(child)
	}
}

// add takes every string of v that marks say is sensitive.
func (s secrets) add(v, marks any) {
	switch marks := marks.(type) {
	case bool:
		if marks {
			s.addAll(v)
		}
	case map[string]any:
		object, ok := v.(map[string]any)
		if !ok && v != nil && hasTrue(marks) {
			s.addAll(v)
		}
		for name, value := range object {
			s.add(value, marks[name])
		}
	case []any:
		list, ok := v.([]any)
		if !ok && v != nil && hasTrue(marks) {
			s.addAll(v)
		}
		for i := range min(len(list), len(marks)) {
			s.add(list[i], marks[i])
		}
	}
}

func (s secrets) addAll(v any) {
	switch v := v.(type) {
	case string:
		s.addString(v)
	case json.Number:
		s.addString(v.String())
	case float64:
		s.addString(fmt.Sprint(v))
	case map[string]any:
		for name, value := range v {
			s.addName(name)
			s.addAll(value)
		}
	case []any:
		for _, value := range v {
			s.addAll(value)
		}
	}
}

func (s secrets) addName(name string) {
	if len(name) >= minSecret && !s[name] {
		s[name] = false
	}
}

func (s secrets) addString(v string) {
	if len(v) < minSecret {
		return
	}
	s[v] = true
	// As it looks inside of a JSON document that is itself a string.
	if quoted := compact(v); quoted != `"`+v+`"` {
		s[strings.Trim(quoted, `"`)] = true
	}
}

// replacer replaces the longest secrets first, so that one that holds another
// goes as a whole.
func (s secrets) replacer() *strings.Replacer {
	order := slices.SortedFunc(maps.Keys(s), func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	pairs := make([]string, 0, 2*len(order))
	for _, secret := range order {
		pairs = append(pairs, secret, sensitive)
	}
	return strings.NewReplacer(pairs...)
}

// side is a value before or after, with what is marked in it.
type side struct {
	value, marks, unknown any
	there                 bool
}

// masked reports whether the whole side is sensitive. Marks whose shape is not
// that of the value are not trusted to say which part they mean.
func (s side) masked() bool {
	switch marks := s.marks.(type) {
	case bool:
		return marks
	case map[string]any:
		_, ok := s.value.(map[string]any)
		return !ok && s.value != nil && hasTrue(marks)
	case []any:
		_, ok := s.value.([]any)
		return !ok && s.value != nil && hasTrue(marks)
	}
	return false
}

// text is the side as it may be shown: compact JSON, masked and cut.
func (m *masker) text(s side) string {
	if !s.there {
		return ""
	}
	switch v := m.clean(s, 0).(type) {
	case word:
		return string(v)
	default:
		return cut(neutral(compact(v)), maxValue)
	}
}

// word is one of the words that stand for a value as a whole.
type word string

// clean is the value with its sensitive and unknown parts replaced.
func (m *masker) clean(s side, depth int) any {
	switch {
	case s.masked():
		return word(sensitive)
	case s.unknown == true, s.value == nil && hasTrue(s.unknown):
		return word(knownAfterApply)
	case depth > maxDepth:
		return word("(…)")
	}
	switch v := s.value.(type) {
	case string:
		return m.redact(v)
	case json.Number, float64:
		if text := fmt.Sprint(v); m.redact(text) != text {
			return word(sensitive)
		}
	case map[string]any:
		out := make(map[string]any, len(v))
		for _, name := range keys(v, s.unknown) {
			out[m.redact(name)] = m.clean(s.child(name), depth+1)
		}
		return out
	case []any:
		out := make([]any, 0, len(v))
		for i := range max(len(v), length(s.unknown)) {
			out = append(out, m.clean(s.at(i), depth+1))
		}
		return out
	}
	return s.value
}

// child is the part of an object under a name.
func (s side) child(name string) side {
	out := side{marks: field(s.marks, name), unknown: field(s.unknown, name)}
	if object, ok := s.value.(map[string]any); ok {
		out.value, out.there = object[name]
	}
	out.there = out.there || hasTrue(out.unknown)
	return out
}

// at is the part of a list at an index.
func (s side) at(i int) side {
	out := side{marks: element(s.marks, i), unknown: element(s.unknown, i)}
	if list, ok := s.value.([]any); ok && i < len(list) {
		out.value, out.there = list[i], true
	}
	out.there = out.there || hasTrue(out.unknown)
	return out
}

// field is a part of marks: those of the whole hold for every part.
func field(marks any, name string) any {
	switch marks := marks.(type) {
	case map[string]any:
		return marks[name]
	case bool:
		return marks
	}
	return nil
}

func element(marks any, i int) any {
	switch marks := marks.(type) {
	case []any:
		if i < len(marks) {
			return marks[i]
		}
	case bool:
		return marks
	}
	return nil
}

// keys is the sorted union of the names of several objects.
func keys(objects ...any) []string {
	set := map[string]bool{}
	for _, o := range objects {
		if object, ok := o.(map[string]any); ok {
			for name := range object {
				set[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(set))
}

func length(v any) int {
	list, _ := v.([]any)
	return len(list)
}

// hasTrue reports whether anything at all is marked.
func hasTrue(marks any) bool {
	switch marks := marks.(type) {
	case bool:
		return marks
	case map[string]any:
		for _, v := range marks {
			if hasTrue(v) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(marks, hasTrue)
	}
	return false
}

func compact(v any) string {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return sensitive // never reached with values that came from JSON
	}
	return strings.TrimSuffix(buf.String(), "\n")
}
