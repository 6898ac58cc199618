package bench

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/internal/fill"
	"github.com/waymark-cd/waymark/server"
	"github.com/waymark-cd/waymark/store"
)

// TestEveryRouteIsMeasured: what the service can be asked is what is measured.
func TestEveryRouteIsMeasured(t *testing.T) {
	s, err := store.Open(t.Context(), store.Config{URL: "sqlite://" + filepath.Join(t.TempDir(), "waymark.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	served, err := server.New(server.Config{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	var measured []string
	for _, p := range pages() {
		measured = append(measured, p.route)
	}
	var routes []string
	for _, route := range served.Routes() {
		if strings.HasPrefix(route, "GET ") {
			routes = append(routes, route)
		}
	}
	if len(routes) < 30 {
		t.Errorf("the server tells of %d routes", len(routes))
	}
	for _, route := range routes {
		if !slices.Contains(measured, route) {
			t.Errorf("%s is not measured: add it to pages()", route)
		}
	}
	for _, route := range measured {
		if !slices.Contains(routes, route) {
			t.Errorf("%s is measured, and the server does not have it", route)
		}
	}
}

// TestEveryPageAnswers asks every address of a real service over a small database
// that was filled as the large one is, without looking at the time, and has the
// command line verify its audit log.
func TestEveryPageAnswers(t *testing.T) {
	if testing.Short() {
		t.Skip("builds waymark and needs an engine; left out with -short")
	}
	binary := buildWaymark(t)
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			small := fill.Small()
			url, dir := ownDatabase(t, engine)
			filled(t, url, dir, small)
			m := serveMuch(t, binary, url, dir, small)
			for _, p := range pages() {
				m.measure(p, 0, 3)
			}
			m.verify(binary)
		})
	}
}
