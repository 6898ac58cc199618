package main

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

// behindProxy makes the services of a fleet, which are stopped for it, reach
// their database through a proxy.
func (f *fleet) behindProxy() *testkit.Proxy {
	f.t.Helper()
	direct, err := url.Parse(f.all[0].env["WORLD_DATABASE"])
	if err != nil {
		f.t.Fatal(err)
	}
	p := testkit.NewProxy(f.t, filepath.Join(direct.Query().Get("host"), ".s.PGSQL.5432"))
	for _, r := range f.all {
		r.stop()
		r.env["WORLD_DATABASE"] = "postgres://postgres@" + p.Addr() + direct.Path
	}
	return p
}

// readiness is what a service says at /readyz, empty where it says nothing.
func readiness(t *testing.T, server string) string {
	var b strings.Builder
	_ = getBody(t.Context(), server+"/readyz", &b)
	return b.String()
}

// TestAServiceWaitsForItsDatabase starts a service whose database does not
// answer: it is alive, says what it waits for, and goes on when it does.
func TestAServiceWaitsForItsDatabase(t *testing.T) {
	f := newFleet(t, 1, "")
	database, r := f.behindProxy(), f.all[0]
	database.Set(testkit.Cuts)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	listens := strings.Replace(string(text), "127.0.0.1:0", address, 1)
	if listens == string(text) {
		t.Fatal("the configuration names no address")
	}
	if err := os.WriteFile(r.file, []byte(listens), 0o600); err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 1)
	go func() { // start returns when the service is up
		last := ""
		for end := time.Now().Add(time.Minute); time.Now().Before(end) && last == ""; {
			last = readiness(t, "http://"+address)
		}
		said <- last
		database.Set(testkit.Passes)
	}()
	r.start()
	wantText(t, <-said, `"ok":false`, `"name":"database"`)
	f.ask(r)
	f.await("a service that is ready", func() bool { return strings.HasPrefix(readiness(t, r.server), `{"ok":true`) })
}

// TestNobodyIsDeclaredDeadForTheDatabase cuts every service off from the
// database for longer than a heartbeat in the middle of an apply: when it is
// back, nobody takes the run from the one that still applies it.
func TestNobodyIsDeclaredDeadForTheDatabase(t *testing.T) {
	f := newFleet(t, 2, "")
	database := f.behindProxy()
	for _, r := range f.all {
		r.start()
	}
	f.ask(f.all[0])
	f.hold("apply")
	f.remote.Commit(f.countsApplies("0"))
	f.push(fleetTag)
	f.ranOn("1/1/tree/began")
	database.Set(testkit.Cuts)
	away := time.After(2 * testHeartbeat)
	for _, r := range f.all {
		f.await("a service that misses its database", func() bool {
			said := readiness(t, r.server)
			return strings.Contains(said, "no sign of life could be given")
		})
	}
	<-away
	database.Set(testkit.Passes)
	for _, r := range f.all {
		f.await("a service that is ready again", func() bool { return strings.HasPrefix(readiness(t, r.server), `{"ok":true`) })
	}
	f.letGo("apply")
	f.until(fleetTag, release.Succeeded)
	for _, e := range f.entries() {
		if e.Action == "run.unknown" || e.Action == "run.restarted" || e.Action == "run.resolved" {
			t.Errorf("a run was taken from a service that lived: %s %s", e.Action, e.Reason)
		}
	}
}
