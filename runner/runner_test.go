package runner_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/waymark-cd/waymark/policies"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/runner"
)

// TestMain lets the test binary be the programs that the tests start: the
// runner, the evaluator of an operator's rules, and a service that is killed while its runner goes on.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "runner":
			if err := runner.Main(context.Background(), runner.Config{PrepareBackend: localBackend}); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		case policies.EvaluatorCommand:
			if err := policies.Evaluate(context.Background(), os.Stdin, os.Stdout, os.Stderr); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(2)
			}
			os.Exit(0)
		case "service":
			serve()
		}
	}
	os.Exit(m.Run())
}

// serve starts the Spec on standard input, says so, and waits to be killed.
func serve() {
	var spec release.Spec
	err := json.NewDecoder(os.Stdin).Decode(&spec)
	if err == nil {
		var l *runner.Launcher
		if l, err = runner.NewLauncher(runner.LauncherConfig{}); err == nil {
			err = l.Start(context.Background(), spec)
		}
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("started")
	select {}
}

// localBackend keeps the state at Values["path"], or at the address of an HTTP
// backend where there is one.
func localBackend(dir string, _ release.EngineSpec, spec release.BackendSpec) ([]string, error) {
	if spec.Values["refuse"] != "" {
		return nil, fmt.Errorf("%w: main.tf:1: the code names another backend", release.ErrRefused)
	}
	if address := spec.Values["address"]; address != "" {
		override := "terraform {\n  backend \"http\" {}\n}\n"
		err := os.WriteFile(filepath.Join(dir, "backend_override.tf"), []byte(override), 0o600)
		args := []string{"-backend-config=address=" + address, "-backend-config=retry_max=0"}
		for _, name := range []string{"username", "password"} {
			if value := spec.Values[name]; value != "" {
				args = append(args, "-backend-config="+name+"="+value)
			}
		}
		return args, err
	}
	override := "terraform {\n  backend \"local\" {}\n}\n"
	err := os.WriteFile(filepath.Join(dir, "backend_override.tf"), []byte(override), 0o600)
	return []string{"-backend-config=path=" + spec.Values["path"]}, err
}

// tool finds a program that `make tools` builds.
func tool(t testing.TB, name string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs " + name)
	}
	built, err := filepath.Abs(filepath.Join("..", ".tools", "bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(built); err == nil {
		return built
	}
	found, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: run `make tools`", name)
	}
	return found
}

// site is one run's folders and keys.
type site struct {
	t    testing.TB
	base string
	key  *age.X25519Identity
	kind string
}

func newSite(t testing.TB, code string) *site {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, base: t.TempDir(), key: key, kind: "tofu"}
	if err := os.CopyFS(s.path("run/tree"), os.DirFS(filepath.Join("testdata", code))); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(s.path("state"), 0o700); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.base, name) }

// plan is the Spec of the plan phase, apply that of the apply phase.
func (s *site) plan() release.Spec {
	return release.Spec{
		Format: release.ProtocolFormat, RunID: 7, Attempt: 1, Kind: release.Deploy, Phase: release.PhasePlan,
		Tag: "dev_us-east-1/research/1.0", Target: release.Target{Env: "dev", Scope: "us-east-1", Team: "research"},
		Dir: s.path("own/plan"), WorkDir: s.path("run/tree"), PlanFile: s.path("saved.age"),
		Engine:  release.EngineSpec{Kind: s.kind, Path: tool(s.t, s.kind)},
		Backend: release.BackendSpec{Type: "local", Values: map[string]string{"path": s.path("state/terraform.tfstate")}},
		Stack:   release.StackSpec{Path: "."}, Writable: []string{s.path("state")},
		Sandbox: "require", PlanRecipient: s.key.Recipient().String(),
	}
}

func (s *site) apply(planned release.Result) release.Spec {
	spec := s.plan()
	spec.Phase, spec.Dir = release.PhaseApply, s.path("own/apply")
	spec.PlanRecipient, spec.PlanIdentity = "", s.key.String()
	if planned.Plan == nil {
		s.t.Fatalf("nothing was planned: %+v", planned)
	}
	spec.PlanDigest = planned.Plan.Digest
	return spec
}

// launcher starts the test binary as the runner. Under the race detector a
// process takes a second to end unless it is told not to.
func launcher(t testing.TB) *runner.Launcher {
	t.Helper()
	l, err := runner.NewLauncher(runner.LauncherConfig{
		Command: []string{"/usr/bin/env", "GORACE=atexit_sleep_ms=0", os.Args[0], "runner"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func start(t testing.TB, spec release.Spec) {
	t.Helper()
	if err := launcher(t).Start(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
}

// run executes a Spec to its end and gives the log as text.
func run(t testing.TB, spec release.Spec) (release.Result, string) {
	t.Helper()
	start(t, spec)
	return follow(t, spec.Dir)
}

func follow(t testing.TB, dir string) (release.Result, string) {
	t.Helper()
	var log strings.Builder
	result, err := runner.Follow(t.Context(), dir, 0, func(e release.Event, _ int64) {
		fmt.Fprintf(&log, "%s %s %s %s\n", e.Type, e.Stage, e.State, e.Message)
	})
	if err != nil {
		words, _ := os.ReadFile(filepath.Join(dir, "stderr.log"))
		t.Fatalf("following the runner: %v\n%s%s", err, log.String(), words)
	}
	return result, log.String()
}

// until follows until a log line holds text, and leaves the runner alone.
func until(t testing.TB, dir, text string) {
	t.Helper()
	seen := errors.New("seen")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	_, err := runner.Follow(ctx, dir, 0, func(e release.Event, _ int64) {
		if e.Type == release.EventLog && strings.Contains(e.Message, text) {
			cancel(seen)
		}
	})
	if !errors.Is(err, seen) {
		t.Fatalf("the runner ended (%v) before it said %q", err, text)
	}
}

func wantOutcome(t testing.TB, r release.Result, log string, want release.Outcome) {
	t.Helper()
	if r.Outcome != want {
		t.Fatalf("outcome %q (%s), want %q\n%s", r.Outcome, r.Reason, want, log)
	}
}

func wantIn(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is missing in:\n%s", part, text)
		}
	}
}

func stateOf(r release.Result, name release.StageName) release.Stage {
	run := release.Run{Stages: r.Stages}
	return run.Stage(name)
}
