package server

import (
	"net/http"
	"slices"
)

// table is a mux that remembers what it serves.
type table struct {
	mux      *http.ServeMux
	patterns []string
}

// Handle adds a handler, as that of http.ServeMux does.
func (t *table) Handle(pattern string, h http.Handler) {
	t.patterns = append(t.patterns, pattern)
	t.mux.Handle(pattern, h)
}

// HandleFunc adds a handler, as that of http.ServeMux does.
func (t *table) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	t.Handle(pattern, http.HandlerFunc(h))
}

// ServeHTTP hands a request to the handler whose pattern it matches.
func (t *table) ServeHTTP(w http.ResponseWriter, r *http.Request) { t.mux.ServeHTTP(w, r) }

// Routes lists the patterns of everything that is served, sorted. The one for what
// is not there is left out.
func (s *Server) Routes() []string {
	out := slices.DeleteFunc(slices.Clone(s.table), func(pattern string) bool { return pattern == "/" })
	slices.Sort(out)
	return out
}
