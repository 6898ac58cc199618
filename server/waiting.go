package server

import (
	"net/http"

	"github.com/waymark-cd/waymark/api"
)

// Waiting answers in the place of a service that is not there yet: it is alive
// and not ready, and waits says for what. It tells no detail, because nobody can
// be asked who may know it.
func Waiting(version string, waits Check) http.Handler {
	waits.OK, waits.Detail = false, ""
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, api.Health{OK: true, Version: version})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusServiceUnavailable, api.Health{Version: version, Checks: []Check{waits}})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "5")
		drain(r)
		send(w, newProblem(r.Context(), http.StatusServiceUnavailable, "the service is starting and waits for its "+waits.Name))
	})
	return mux
}
