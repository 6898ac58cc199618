package store

import (
	"maps"

	"github.com/waymark-cd/waymark/audit"
)

// hide takes secrets out of text that is about to be stored, where a mask was given.
func (s *Store) hide(text string) string {
	if s.mask == nil || text == "" {
		return text
	}
	return s.mask(text)
}

// hideIn masks what an entry says in words.
func (s *Store) hideIn(e audit.Entry) audit.Entry {
	if s.mask == nil {
		return e
	}
	e.Reason = s.mask(e.Reason)
	e.Details = maps.Clone(e.Details)
	for name, v := range e.Details {
		e.Details[name] = s.hideValue(v)
	}
	return e
}

func (s *Store) hideValue(v any) any {
	switch v := v.(type) {
	case string:
		return s.mask(v)
	case []string:
		out := make([]string, len(v))
		for i, text := range v {
			out[i] = s.mask(text)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, value := range v {
			out[name] = s.hideValue(value)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, value := range v {
			out[i] = s.hideValue(value)
		}
		return out
	}
	return v
}

// hideRun masks what a run says in words.
func (s *Store) hideRun(r *Record) {
	if s.mask == nil {
		return
	}
	r.Reason = s.mask(r.Reason)
	for i := range r.Stages {
		r.Stages[i].Summary = s.mask(r.Stages[i].Summary)
	}
}
