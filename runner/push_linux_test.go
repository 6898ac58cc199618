package runner_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/runner"
)

// stateServer keeps one state, and takes none while it is full.
type stateServer struct {
	mu    sync.Mutex
	full  bool
	state string
}

func (s *stateServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.Method == http.MethodGet && s.state == "":
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodGet:
		_, _ = io.WriteString(w, s.state)
	case s.full:
		w.WriteHeader(http.StatusInsufficientStorage)
	default:
		body, _ := io.ReadAll(r.Body)
		s.state = string(body)
	}
}

func (s *stateServer) set(full bool, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full, s.state = full, state
}

func (s *stateServer) now() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// TestAStateThatCannotBeSavedIsKeptAndPushed has a backend that takes no state:
// the run's end is unknown, what the engine knew is kept encrypted outside of
// the working copy, and a push puts it in its place; not over another's.
func TestAStateThatCannotBeSavedIsKeptAndPushed(t *testing.T) {
	backend := &stateServer{full: true}
	server := httptest.NewServer(backend)
	defer server.Close()
	s := newSite(t, "plain")
	if err := os.WriteFile(s.path("run/tree/errored.tfstate"), []byte(`{"version":4,"serial":99,"lineage":"planted"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	at := map[string]string{"address": server.URL}
	spec := s.plan()
	spec.Backend.Values = at
	planned, log := run(t, spec)
	wantOutcome(t, planned, log, release.OutcomePassed)
	spec = s.apply(planned)
	spec.Backend.Values = at
	res, log := run(t, spec)
	wantOutcome(t, res, log, release.OutcomeUnknown)
	for _, text := range []string{res.Reason, log} {
		wantIn(t, text, "kept encrypted", "--push-state")
	}
	mark, err := runner.KeepState(spec.WorkDir, ".", spec.Dir, s.key.String())
	if err != nil || mark == nil || mark.Lineage == "planted" || !strings.Contains(res.Reason, mark.String()) {
		t.Fatalf("kept: %v, %v; the reason is %s", mark, err, res.Reason)
	}
	wantNothingInClear(t, s)

	for i, c := range []struct {
		name, there string
		outcome     release.Outcome
		says        string
	}{
		{"another lineage", `{"version":4,"terraform_version":"1.12.6","serial":1,"lineage":"other","outputs":{"x":{"value":"1","type":"string"}},"resources":[]}`,
			release.OutcomeFailed, "unrelated state with lineage"},
		{"a newer one", `{"version":4,"terraform_version":"1.12.6","serial":7,"lineage":"` + mark.Lineage + `","outputs":{"x":{"value":"1","type":"string"}},"resources":[]}`,
			release.OutcomeFailed, "over newer state with serial 7"},
		{"the one from before", fmt.Sprintf(`{"version":4,"terraform_version":"1.12.6","serial":%d,"lineage":%q,"outputs":{"x":{"value":"1","type":"string"}},"resources":[]}`,
			mark.Serial-1, mark.Lineage), release.OutcomePassed, ""},
		{"itself", "", release.OutcomeFailed, "over newer state"}, // the push has raised the serial
		{"none", "", release.OutcomePassed, ""},                   // whose lineage the engine makes anew
	} {
		if c.name == "itself" {
			c.there = backend.now()
		}
		backend.set(false, c.there)
		spec := s.push(i, at)
		res, log := run(t, spec)
		if res.Outcome != c.outcome || !strings.Contains(res.Reason, c.says) || stateOf(res, release.StagePush).FinishedAt.IsZero() {
			t.Errorf("over %s: %s %s\n%s", c.name, res.Outcome, res.Reason, log)
		}
		if now := backend.now(); c.outcome == release.OutcomeFailed && now != c.there {
			t.Errorf("over %s: the state is now %s", c.name, now)
		}
		if c.outcome == release.OutcomePassed && c.there != "" {
			wantIn(t, backend.now(), mark.Lineage)
		}
		wantNothingInClear(t, s)
	}
	wantIn(t, backend.now(), "terraform_data")
}

// push is the Spec of a push of what the apply left.
func (s *site) push(n int, backend map[string]string) release.Spec {
	spec := s.plan()
	spec.Phase, spec.Dir = release.PhasePush, s.path("own/push-"+string(rune('1'+n)))
	spec.PlanRecipient, spec.PlanFile = "", ""
	spec.PlanIdentity, spec.StateFile = s.key.String(), s.path("own/apply/errored.tfstate.age")
	spec.Backend.Values = backend
	return spec
}

// wantNothingInClear holds that no state of the engine lies about.
func wantNothingInClear(t *testing.T, s *site) {
	t.Helper()
	err := filepath.WalkDir(s.base, func(path string, d os.DirEntry, err error) error {
		if err == nil && (d.Name() == "errored.tfstate" || strings.HasSuffix(d.Name(), ".private")) {
			t.Errorf("%s is there", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestNothingElseIsKeptAsAState holds that what the code of a repository puts in
// the place of the engine's file cannot make the service read or hang.
func TestNothingElseIsKeptAsAState(t *testing.T) {
	for name, plant := range map[string]func(path string) error{
		"a link out of the working copy": func(path string) error { return os.Symlink("/etc/passwd", path) },
		"a folder":                       func(path string) error { return os.Mkdir(path, 0o700) },
		"a pipe":                         func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"no state":                       func(path string) error { return os.WriteFile(path, []byte("x"), 0o600) },
	} {
		s := newSite(t, "plain")
		if err := plant(s.path("run/tree/errored.tfstate")); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(s.path("own"), 0o700); err != nil {
			t.Fatal(err)
		}
		mark, err := runner.KeepState(s.path("run/tree"), ".", s.path("own"), s.key.String())
		if err == nil || mark != nil || len(glob(t, s.path("own/*"))) > 0 {
			t.Errorf("%s: %v, %v", name, mark, err)
		}
	}
	s := newSite(t, "plain")
	if mark, err := runner.KeepState(s.path("run/tree"), ".", s.path("state"), s.key.String()); mark != nil || err != nil {
		t.Errorf("of nothing: %v, %v", mark, err)
	}
}
