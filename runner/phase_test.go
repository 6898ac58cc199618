package runner_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/runner"
)

func TestPlanAndApply(t *testing.T) {
	for _, kind := range []string{"tofu", "terraform"} {
		t.Run(kind, func(t *testing.T) {
			s := newSite(t, "plain")
			s.kind = kind
			spec := s.plan()
			spec.Stack.Variables = map[string]any{"name": "a", "size": json.Number("9007199254740993")}
			planned, log := run(t, spec)
			wantOutcome(t, planned, log, release.OutcomePassed)
			if want := (release.Changes{Add: 1}); planned.Plan.Changes != want {
				t.Errorf("planned %+v, want %+v", planned.Plan.Changes, want)
			}
			if got := stateOf(planned, release.StageLint); got.State != release.StageSkipped || got.Summary == "" {
				t.Errorf("lint without a gate: %+v", got)
			}
			saved, err := os.ReadFile(s.path("saved.age"))
			if err != nil || !strings.HasPrefix(string(saved), "age-encryption.org/") {
				t.Errorf("the saved plan is not encrypted: %v", err)
			}

			applied, log := run(t, s.apply(planned))
			wantOutcome(t, applied, log, release.OutcomePassed)
			if want := (release.Changes{Add: 1}); applied.Applied != want {
				t.Errorf("applied %+v, want %+v", applied.Applied, want)
			}
			if got := applied.Outputs["one"]; got != "a-9007199254740993" {
				t.Errorf("output %q lost digits", got)
			}
			if got := applied.Outputs["hidden"]; strings.Contains(got, "do not tell") {
				t.Errorf("a sensitive output left the runner: %q", got)
			}
			noPlanInClear(t, s)

			if err := os.RemoveAll(s.path("run/tree/.terraform")); err != nil {
				t.Fatal(err)
			}
			spec.Dir = s.path("own/again")
			again, log := run(t, spec)
			wantOutcome(t, again, log, release.OutcomePassed)
			if again.Plan.Changes.Any() || stateOf(again, release.StagePlan).Summary != "no changes" {
				t.Errorf("second plan: %+v", again.Plan.Changes)
			}
		})
	}
}

// noPlanInClear looks for zip files, which saved plans are, in a site.
func noPlanInClear(t *testing.T, s *site) {
	t.Helper()
	err := filepath.WalkDir(s.base, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.HasPrefix(string(data), "PK\x03\x04") {
			t.Errorf("a plan in clear was left at %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestApplyOnAnotherMachine(t *testing.T) {
	s := newSite(t, "plain")
	planned, log := run(t, s.plan())
	wantOutcome(t, planned, log, release.OutcomePassed)
	if err := os.RemoveAll(s.path("run")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(s.path("run/tree"), os.DirFS("testdata/plain")); err != nil {
		t.Fatal(err)
	}
	applied, log := run(t, s.apply(planned))
	wantOutcome(t, applied, log, release.OutcomePassed)
	if got := stateOf(applied, release.StageInit).State; got != release.StagePassed {
		t.Errorf("init is %s", got)
	}
}

func TestPlanThatWasNotApproved(t *testing.T) {
	s := newSite(t, "plain")
	planned, log := run(t, s.plan())
	wantOutcome(t, planned, log, release.OutcomePassed)
	spec := s.apply(planned)
	spec.PlanDigest = "sha256:" + strings.Repeat("0", 64)
	applied, log := run(t, spec)
	wantOutcome(t, applied, log, release.OutcomeFailed)
	wantIn(t, applied.Reason, "not the one that was approved")
	if _, err := os.Stat(s.path("state/terraform.tfstate")); err == nil {
		t.Error("something was applied")
	}
	other := newSite(t, "plain")
	spec = s.apply(planned)
	spec.Dir, spec.PlanIdentity = s.path("own/other"), other.key.String()
	applied, log = run(t, spec)
	wantOutcome(t, applied, log, release.OutcomeFailed)
	wantIn(t, applied.Reason, "cannot be opened")
}

func TestFailures(t *testing.T) {
	for _, tt := range []struct {
		code string
		edit func(*release.Spec)
		want release.Outcome
		says []string
	}{
		{"broken", nil, release.OutcomeFailed, []string{"main.tf:"}},
		{"invalid", nil, release.OutcomeFailed, []string{"main.tf:2", "missing"}},
		{"plain", func(s *release.Spec) { s.Backend.Values["refuse"] = "1" }, release.OutcomeDenied, []string{"config: ", "another backend"}},
		{"plain", func(s *release.Spec) { s.Stack.Path = "nowhere" }, release.OutcomeFailed, []string{"config: ", "nowhere"}},
		{"plain", func(s *release.Spec) {
			if err := os.Symlink(filepath.Join(s.WorkDir, "../../state"), filepath.Join(s.WorkDir, "out")); err != nil {
				t.Fatal(err)
			}
			s.Stack.Path = "out"
		}, release.OutcomeFailed, []string{"config: "}},
		{"plain", func(s *release.Spec) { s.Stack.Path = "../.." }, release.OutcomeFailed, []string{"leaves the repository"}},
		{"plain", func(s *release.Spec) { s.PlanRecipient = "" }, release.OutcomeFailed, []string{"plan_recipient"}},
		{"plain", func(s *release.Spec) { s.Writable = []string{filepath.Dir(s.Dir)} }, release.OutcomeFailed, []string{"must not lie in it"}},
		{"plain", func(s *release.Spec) { s.Sandbox = "maybe" }, release.OutcomeFailed, []string{"sandbox"}},
		{"plain", func(s *release.Spec) { s.Timeout = time.Millisecond }, release.OutcomeFailed, []string{"time allowed"}},
	} {
		s := newSite(t, tt.code)
		spec := s.plan()
		if tt.edit != nil {
			tt.edit(&spec)
		}
		result, log := run(t, spec)
		wantOutcome(t, result, log, tt.want)
		wantIn(t, result.Reason, tt.says...)
	}
}

func TestFailingApply(t *testing.T) {
	s := newSite(t, "fails")
	planned, log := run(t, s.plan())
	wantOutcome(t, planned, log, release.OutcomePassed)
	applied, log := run(t, s.apply(planned))
	wantOutcome(t, applied, log, release.OutcomeFailed)
	wantIn(t, applied.Reason, "terraform_data.bad", "exit status 3")
	wantIn(t, log, "hint: ", "writable")
	state, err := os.ReadFile(s.path("state/terraform.tfstate"))
	if err != nil {
		t.Fatal(err)
	}
	wantIn(t, string(state), `"good"`)
}

func TestWhatAnEngineLeavesBehindIsKilled(t *testing.T) {
	s := newSite(t, "leaves")
	planned, log := run(t, s.plan())
	wantOutcome(t, planned, log, release.OutcomePassed)
	applied, log := run(t, s.apply(planned))
	wantOutcome(t, applied, log, release.OutcomePassed)
	left, err := os.ReadFile(s.path("run/tree/left"))
	if err != nil {
		t.Fatal(err)
	}
	if cmdline, err := os.ReadFile("/proc/" + strings.TrimSpace(string(left)) + "/cmdline"); err == nil && strings.HasPrefix(string(cmdline), "sleep") {
		t.Errorf("process %s still lives", left)
	}
}

func TestSandbox(t *testing.T) {
	s := newSite(t, "escapes")
	spec := s.plan()
	spec.Env = map[string]string{"MY_API_KEY": "hush-hush-hush"}
	secret := s.path("secret")
	if err := os.WriteFile(secret, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	forbidden := []string{s.path("own/apply/events.jsonl"), s.path("own/apply/new"), s.path("beside"),
		"/tmp/waymark-escape-" + strconv.Itoa(os.Getpid()), filepath.Join(home, "waymark-escape-"+strconv.Itoa(os.Getpid()))}
	spec.Stack.Variables = map[string]any{"write": forbidden, "read": secret}
	planned, log := run(t, spec)
	wantOutcome(t, planned, log, release.OutcomePassed)
	apply := s.apply(planned)
	apply.Env = spec.Env
	applied, log := run(t, apply)
	wantOutcome(t, applied, log, release.OutcomePassed)
	for _, path := range forbidden {
		wantIn(t, log, "refused "+path+"\n")
		os.Remove(path)
	}
	wantIn(t, log, "refused "+secret+"\n", "wrote inside", "the key is (masked)")
	if strings.Contains(log, "hush-hush-hush") || strings.Contains(log, "WAYMARK_RUNNER") {
		t.Errorf("the log or the tool's environment holds too much:\n%s", log)
	}
}

// TestDataAmongPrograms holds that a data folder which tools can read is told
// of, and refused where the configuration requires a sandbox.
func TestDataAmongPrograms(t *testing.T) {
	for mode, want := range map[string]release.Outcome{"auto": release.OutcomePassed, "require": release.OutcomeFailed} {
		s := newSite(t, "plain")
		spec := s.plan()
		spec.Sandbox, spec.Readable = mode, []string{s.base}
		planned, log := run(t, spec)
		wantOutcome(t, planned, log, want)
		wantIn(t, log+planned.Reason, "tools can read the data of every run", "data_dir")
	}
}

// TestCodeThatRunsInInitCannotPoisonPlugins has OpenTofu's encryption start a
// program of the repository during init: the plug-in cache, from which other
// targets take their providers, is out of its reach.
func TestCodeThatRunsInInitCannotPoisonPlugins(t *testing.T) {
	s := newSite(t, "encrypts")
	spec := s.plan()
	spec.Engine.PluginCache = s.path("cache")
	spec.Env = map[string]string{"CACHE": s.path("cache")}
	planned, log := run(t, spec)
	wantOutcome(t, planned, log, release.OutcomePassed)
	if _, err := os.Stat(s.path("run/tools/tmp/ran")); err != nil {
		t.Errorf("the program did not run, so this test shows nothing: %v", err)
	}
	if found, err := os.ReadDir(s.path("cache")); err != nil || len(found) > 0 {
		t.Errorf("the cache holds %v, %v", found, err)
	}
}

func TestInterruptedApplySavesItsState(t *testing.T) {
	s := newSite(t, "held")
	planned, log := run(t, s.plan())
	wantOutcome(t, planned, log, release.OutcomePassed)
	hold(t, s.path("run/tree/apply.fifo"))
	spec := s.apply(planned)
	start(t, spec)
	until(t, spec.Dir, "holding")
	for range 2 { // the second changes nothing
		if err := runner.Interrupt(spec.Dir); err != nil {
			t.Fatal(err)
		}
	}
	applied, log := follow(t, spec.Dir)
	wantOutcome(t, applied, log, release.OutcomeCancelled)
	wantIn(t, applied.Reason, "apply: stopped on request")
	state, err := os.ReadFile(s.path("state/terraform.tfstate"))
	if err != nil {
		t.Fatal(err)
	}
	wantIn(t, string(state), `"first"`)
	if locks, _ := filepath.Glob(s.path("state/.*lock*")); len(locks) > 0 {
		t.Errorf("the lock stays: %v", locks)
	}
	if err := runner.Interrupt(spec.Dir); err == nil {
		t.Error("a runner that has ended was interrupted")
	}
}

// hold makes a FIFO on which testdata/held waits.
func hold(t *testing.T, path string) {
	t.Helper()
	if out, err := exec.Command("mkfifo", path).CombinedOutput(); err != nil {
		t.Fatalf("mkfifo: %v: %s", err, out)
	}
}
