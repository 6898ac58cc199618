package policies

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	tfjson "github.com/hashicorp/terraform-json"
)

// sensitive stands for every value that a plan marks as such.
const sensitive = "(sensitive)"

// minSecret is the length, in bytes, from which a sensitive string is looked
// for in other values too: engines and providers lose marks on the way. Shorter
// ones would blot out half of a plan. Summaries of plans do the same.
const minSecret = 5

// masker takes the sensitive parts out of a plan's values.
type masker struct{ secrets *strings.Replacer }

// newMasker learns every sensitive string of a plan.
func newMasker(plan *tfjson.Plan) *masker {
	found := secrets{}
	for _, change := range slices.Concat(plan.ResourceChanges, plan.ResourceDrift) {
		if change != nil {
			found.addChange(change.Change)
		}
	}
	for _, deferred := range plan.DeferredChanges {
		if deferred != nil && deferred.ResourceChange != nil {
			found.addChange(deferred.ResourceChange.Change)
		}
	}
	for _, change := range plan.OutputChanges {
		found.addChange(change)
	}
	if plan.PriorState != nil && plan.PriorState.Values != nil {
		found.addModule(plan.PriorState.Values.RootModule)
	}
	if plan.Config != nil && plan.Config.RootModule != nil {
		for name, v := range plan.Config.RootModule.Variables {
			if v != nil && v.Sensitive && plan.Variables[name] != nil {
				found.addAll(plan.Variables[name].Value)
			}
		}
	}
	return &masker{found.replacer()}
}

// text is a string without the secrets in it.
func (m *masker) text(s string) string { return m.secrets.Replace(s) }

// attributes are those of one resource, cleaned. Their names are the schema's
// and stay: code that marks a name as a secret must not hide an attribute.
func (m *masker) attributes(v, marks any) any {
	object, ok := v.(map[string]any)
	if !ok || masked(v, marks) {
		return m.clean(v, marks)
	}
	out := make(map[string]any, len(object))
	for name, value := range object {
		out[name] = m.clean(value, field(marks, name))
	}
	return out
}

// clean is a value with what marks say is sensitive, and every copy of it,
// replaced. It shares nothing with v that it changes.
func (m *masker) clean(v, marks any) any {
	if masked(v, marks) {
		return sensitive
	}
	switch v := v.(type) {
	case string:
		return m.text(v)
	case json.Number:
		if m.text(v.String()) != v.String() {
			return sensitive
		}
	case float64:
		if text := fmt.Sprint(v); m.text(text) != text {
			return sensitive
		}
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, value := range v {
			out[m.text(name)] = m.clean(value, field(marks, name))
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, value := range v {
			out[i] = m.clean(value, element(marks, i))
		}
		return out
	}
	return v
}

// unknown is what after_unknown says, without names inside of sensitive values.
func (m *masker) unknown(v, marks any) any {
	if marks == true {
		return anyMarked(v)
	}
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, value := range v {
			out[m.text(name)] = m.unknown(value, field(marks, name))
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, value := range v {
			out[i] = m.unknown(value, element(marks, i))
		}
		return out
	}
	return v == true
}

// masked reports whether a value is sensitive as a whole. Marks whose shape is
// not that of the value are not trusted to say which part they mean.
func masked(v, marks any) bool {
	switch marks := marks.(type) {
	case bool:
		return marks
	case map[string]any:
		_, ok := v.(map[string]any)
		return !ok && v != nil && anyMarked(marks)
	case []any:
		_, ok := v.([]any)
		return !ok && v != nil && anyMarked(marks)
	}
	return false
}

// field is a part of marks: those of the whole hold for every part.
func field(marks any, name string) any {
	if object, ok := marks.(map[string]any); ok {
		return object[name]
	}
	return marks
}

func element(marks any, i int) any {
	list, ok := marks.([]any)
	if !ok {
		return marks
	}
	if i < len(list) {
		return list[i]
	}
	return nil
}

// anyMarked reports whether anything at all is marked.
func anyMarked(marks any) bool {
	switch marks := marks.(type) {
	case bool:
		return marks
	case map[string]any:
		for _, v := range marks {
			if anyMarked(v) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(marks, anyMarked)
	}
	return false
}

// secrets is a set of sensitive strings.
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
		if !ok && v != nil && anyMarked(marks) {
			s.addAll(v)
		}
		for name, value := range object {
			s.add(value, marks[name])
		}
	case []any:
		list, ok := v.([]any)
		if !ok && v != nil && anyMarked(marks) {
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
			s.addString(name)
			s.addAll(value)
		}
	case []any:
		for _, value := range v {
			s.addAll(value)
		}
	}
}

func (s secrets) addString(v string) {
	if len(v) < minSecret {
		return
	}
	s[v] = true
	// As it looks inside of a JSON document that is itself a string.
	if quoted := quoted(v); quoted != v {
		s[quoted] = true
	}
}

// quoted is a string as JSON writes it, without the quotes.
func quoted(v string) string {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if enc.Encode(v) != nil {
		return v // never reached with a string
	}
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSuffix(buf.String(), "\n"), `"`), `"`)
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
