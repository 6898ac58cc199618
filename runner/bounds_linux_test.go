package runner_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/runner"
)

// posed makes an engine of a shell script: init works, show knows nothing, and plan
// is what is given.
func posed(t *testing.T, s *site, plan string) release.Spec {
	t.Helper()
	spec := s.plan()
	dir := t.TempDir()
	spec.Engine.Path = filepath.Join(dir, "engine")
	script := "#!/bin/sh\ncase $1 in\ninit) exit 0;;\nplan) " + plan + ";;\n*) exit 1;;\nesac\n"
	if err := os.WriteFile(spec.Engine.Path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return spec
}

// peak is the most memory, in bytes, that a process has used so far.
func peak(pid int) int64 {
	data, _ := os.ReadFile(filepath.Join("/proc", release.FormatID(int64(pid)), "status"))
	_, rest, _ := strings.Cut(string(data), "VmHWM:")
	var kib int64
	for _, c := range strings.TrimSpace(rest) {
		if c < '0' || c > '9' {
			break
		}
		kib = kib*10 + int64(c-'0')
	}
	return kib << 10
}

// TestALogOfAGigabyte: what is kept is bounded, says so, and still has the reason.
func TestALogOfAGigabyte(t *testing.T) {
	s := newSite(t, "plain")
	spec := posed(t, s, `yes 'a line of output that tells nothing of any interest to anybody' | head -c 1000000000
echo
echo '{"@level":"error","@message":"Error: it broke","type":"diagnostic","diagnostic":{"severity":"error","summary":"It broke","detail":"After a gigabyte."}}'
exit 1`)
	began, most := time.Now(), int64(0)
	start(t, spec)
	pid := pidOf(t, spec.Dir)
	said := ""
	lines := 0
	res, err := runner.Follow(t.Context(), spec.Dir, 0, func(e release.Event, _ int64) {
		if lines++; lines%10_000 == 0 {
			most = max(most, peak(pid))
		}
		if !strings.Contains(e.Message, "a line of output") {
			said += e.Message + "\n"
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(spec.Dir, "events.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("1 GB in %s: %d lines and %.1f MiB are kept, the runner used %d MiB", time.Since(began).Round(time.Second), lines, float64(info.Size())/(1<<20), most>>20)
	wantIn(t, said, "the log has reached 64 MiB; further lines are not kept", "Error: It broke", "After a gigabyte.")
	if res.Reason != "plan: It broke: After a gigabyte" {
		t.Errorf("reason %q", res.Reason)
	}
	if info.Size() > 66<<20 || most > 512<<20 {
		t.Errorf("%d bytes are kept, %d were used", info.Size(), most)
	}
}

// TestALineOfTenMegabytes is cut, in plain output and in a message, and a secret in
// it is masked wherever a bound falls.
func TestALineOfTenMegabytes(t *testing.T) {
	s := newSite(t, "plain")
	spec := posed(t, s, `for n in 4000 8185 65530 10000000; do head -c $n /dev/zero | tr '\0' x; echo "$SECRET_THING end"; done
for n in 8185 10000000; do printf '{"@message":"'; head -c $n /dev/zero | tr '\0' y; echo "$SECRET_THING end\"}"; done
exit 1`)
	const secret = "harbor violet lantern"
	spec.Env = map[string]string{"SECRET_THING": secret}
	_, log := run(t, spec)
	wantIn(t, log, "x(masked) end\n", "xxx … (cut)\n", "yyy … (cut)\n")
	for line := range strings.Lines(log) {
		if len(line) > 9<<10 {
			t.Errorf("a line of %d bytes is kept", len(line))
		}
	}
	if strings.Contains(log, "harb") {
		at := strings.Index(log, "harb")
		t.Errorf("the log shows a part of the secret: …%q", log[max(0, at-20):at+10])
	}
}

// TestBackendSecretsAreInNoCommandLine: a real engine takes them from a file that
// is there for as long as init runs.
func TestBackendSecretsAreInNoCommandLine(t *testing.T) {
	var asked []string
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		asked = append(asked, user+":"+password)
		if r.Method == http.MethodGet {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer backend.Close()
	s := newSite(t, "plain")
	spec := s.plan()
	record := s.path("state/arguments")
	wrapper := filepath.Join(t.TempDir(), "engine")
	script := "#!/bin/sh\necho \"$@\" >> " + record + "\nexec " + spec.Engine.Path + " \"$@\"\n"
	if err := os.WriteFile(wrapper, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	spec.Readable = []string{filepath.Dir(spec.Engine.Path)}
	spec.Engine.Path = wrapper
	spec.Backend = release.BackendSpec{Type: "http", Values: map[string]string{"address": backend.URL, "username": "bot", "password": "open \"${sesame}\""}}
	res, log := run(t, spec)
	wantOutcome(t, res, log, release.OutcomePassed)
	args, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	wantIn(t, string(args), "-backend-config=address="+backend.URL, "-backend-config=username=bot")
	if strings.Contains(string(args), "sesame") {
		t.Errorf("the command line shows the password: %s", args)
	}
	if len(asked) == 0 || asked[0] != "bot:open \"${sesame}\"" {
		t.Errorf("the backend was asked by %q", asked)
	}
	left, err := filepath.Glob(s.path("run/tools/engine/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range left {
		if data, _ := os.ReadFile(file); strings.Contains(string(data), "sesame") {
			t.Errorf("%s is left with the password", file)
		}
	}
}

// TestAnApplyLearnsWhatItsPlanKnew: by the file beside the plan and, where an older
// version has planned, from the plan itself.
func TestAnApplyLearnsWhatItsPlanKnew(t *testing.T) {
	for name, lose := range map[string]bool{"kept": false, "lost": true} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "plain")
			write(t, s.path("run/tree/main.tf"), `
variable "word" {
  sensitive = true
  default   = "nothing"
}
resource "terraform_data" "x" {
  input = sensitive("meadow copper")
  provisioner "local-exec" { command = "echo it is meadow copper" }
}
`)
			planned, log := run(t, s.plan())
			wantOutcome(t, planned, log, release.OutcomePassed)
			if lose {
				if err := os.Remove(s.path("saved.age" + release.SecretsSuffix)); err != nil {
					t.Fatal(err)
				}
			}
			res, log := run(t, s.apply(planned))
			wantOutcome(t, res, log, release.OutcomePassed)
			wantIn(t, log, "(local-exec): it is (masked)")
			text, err := json.Marshal([]release.Result{planned, res})
			if err != nil || strings.Contains(string(text)+log, "meadow") {
				t.Errorf("the secret is shown: %s\n%s", text, log)
			}
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
