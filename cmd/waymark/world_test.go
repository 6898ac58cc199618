package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

// beWaymark is set in the environment of a test binary that is to be waymark,
// whatever its arguments are.
const beWaymark = "WAYMARK_TEST_BINARY_IS_WAYMARK"

// TestMain lets the test binary be waymark itself: the service starts its
// runners from it, and tests start a service that they can kill.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains([]string{"runner", "serve", "drain", "policy-evaluator"}, os.Args[1]) || os.Getenv(beWaymark) != "" {
		main()
	}
	os.Exit(m.Run())
}

// world is a real installation: a git remote, a configuration, a service.
type world struct {
	t       *testing.T
	remote  *testkit.Remote
	dir     string
	file    string // waymark.hcl
	env     map[string]string
	options serveOptions // of a service in this process
	client  *api.Client
	log     *syncBuffer
	stop    func() // ends the service gracefully; nil while none runs
	server  string
	contain func(*exec.Cmd) // changes how a process of the service is started; nil: nothing
}

// worldConfig is the configuration of most tests; $extra is put in its place.
const worldConfig = `
server {
  listen         = "127.0.0.1:0"
  data_dir       = "data"
  database       = env("WORLD_DATABASE", "sqlite")
  max_runs       = 4
  shutdown_grace = "100ms"
}
repository "infra" {
  url  = env("WORLD_REMOTE")
  poll = "1s"
}
engine { path = env("WORLD_TOFU") }
stack {
  variables = { env = env, scope = scope, team = team, release_version = version }
}
global_region = "us-east-1"
teams         = ["research", "risk", "alpha", "beta", "gamma"]
environment "dev" { regions = ["us-east-1", "eu-central-1"] }
environment "staging" {
  regions   = ["us-east-1"]
  approvals = 1
  queue     = "supersede"
}
environment "prod" {
  regions       = ["us-east-1"]
  promotes_from = "dev"
}
$extra
`

// worldCode is the infrastructure of most tests.
const worldCode = `
variable "env" { type = string }
variable "scope" { type = string }
variable "team" { type = string }
variable "release_version" { type = string }
resource "terraform_data" "it" { input = "${var.env}/${var.scope}/${var.team}" }
output "what" { value = terraform_data.it.output }
`

func newWorld(t *testing.T, extra string) *world {
	t.Helper()
	w := &world{t: t, remote: testkit.NewRemote(t), dir: t.TempDir(), log: &syncBuffer{}}
	w.remote.Commit(map[string]string{"main.tf": worldCode})
	w.file = filepath.Join(w.dir, "waymark.hcl")
	w.env = map[string]string{"WORLD_REMOTE": w.remote.Dir, "WORLD_TOFU": testkit.Tool(t, "tofu")}
	w.configure(extra)
	t.Cleanup(func() {
		if w.stop != nil {
			w.entriesFit()
			w.stop()
		}
		if t.Failed() {
			t.Logf("the service's log:\n%s", w.log.String())
		}
	})
	return w
}

func (w *world) configure(extra string) {
	w.t.Helper()
	text := strings.ReplaceAll(worldConfig, "$extra", extra)
	if err := os.WriteFile(w.file, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) lookup(name string) (string, bool) {
	v, ok := w.env[name]
	return v, ok
}

// serve starts the service in this process.
func (w *world) serve() {
	w.t.Helper()
	cfg, err := config.Load(w.file, w.lookup)
	if err != nil {
		w.t.Fatal(err)
	}
	options, err := w.options.complete(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	up, down := make(chan string, 1), make(chan error, 1)
	go func() {
		down <- serve(ctx, cfg, options, slog.New(slog.NewTextHandler(w.log, nil)), func(addr string) { up <- addr })
	}()
	select {
	case addr := <-up:
		w.connect(addr)
	case err := <-down:
		cancel()
		w.t.Fatal(err)
	}
	w.stop = func() {
		cancel()
		if err := <-down; err != nil {
			w.t.Errorf("the service stopped with: %v", err)
		}
		w.stop = nil
	}
}

// spawn starts the service as a process of its own, which kill can end.
func (w *world) spawn() (kill func()) {
	w.t.Helper()
	kill, _ = w.spawnPID()
	return kill
}

// spawnPID is spawn, and gives the process's id too.
func (w *world) spawnPID() (kill func(), pid func() int) {
	w.t.Helper()
	cmd := exec.Command(os.Args[0], "serve", "--config", w.file)
	if w.contain != nil {
		w.contain(cmd)
	}
	cmd.Env = os.Environ()
	for k, v := range w.env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	out, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	up, ended := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		address := regexp.MustCompile(`address=http://(\S+)`)
		var seen bytes.Buffer
		_, _ = io.Copy(io.MultiWriter(w.log, writeFunc(func(p []byte) {
			if seen.Write(p); seen.Len() < 1<<16 {
				if m := address.FindSubmatch(seen.Bytes()); m != nil {
					select {
					case up <- string(m[1]):
					default:
					}
				}
			}
		})), out)
		_ = cmd.Wait()
	}()
	select {
	case addr := <-up:
		w.connect(addr)
	case <-ended:
		w.t.Fatalf("the service did not start:\n%s", w.log.String())
	}
	w.stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		w.stop = nil
	}
	return func() {
		_ = cmd.Process.Kill()
		<-ended
		w.stop = nil
	}, func() int { return cmd.Process.Pid }
}

func (w *world) connect(addr string) {
	w.t.Helper()
	w.server = "http://" + addr
	c, err := api.NewClient(api.ClientConfig{Server: w.server})
	if err != nil {
		w.t.Fatal(err)
	}
	w.client = c
}

// await polls until ok says so; what names the thing in the failure.
func (w *world) await(what string, ok func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	if err := poll(ctx, func() (bool, error) { return ok(), nil }); err != nil {
		w.t.Fatalf("waited a minute for %s; runs: %v", what, w.states())
	}
}

// contact waits until the repository was looked at once.
func (w *world) contact() {
	w.t.Helper()
	w.await("first contact", func() bool { return slices.Contains(w.actions(), "repository.adopted") })
}

func (w *world) actions() []string {
	var out []string
	for _, e := range w.entries() {
		out = append(out, e.Action)
	}
	return out
}

func (w *world) entries() []api.AuditEntry {
	w.t.Helper()
	var all []api.AuditEntry
	for {
		page, err := w.client.Audit(w.t.Context(), int64(len(all)), 500)
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, page.Entries...)
		if len(page.Entries) == 0 || int64(len(all)) >= page.Head.Size {
			return all
		}
	}
}

// runs lists all runs, the oldest first.
func (w *world) runs() []api.Run {
	w.t.Helper()
	var all []api.Run
	q := api.RunQuery{Limit: 500}
	for {
		list, err := w.client.Runs(w.t.Context(), q)
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, list.Runs...)
		if q.Cursor = list.Next; q.Cursor == "" {
			slices.Reverse(all)
			return all
		}
	}
}

func (w *world) states() map[string]string {
	out := map[string]string{}
	for _, r := range w.runs() {
		out[r.Tag] = r.State + " " + r.Reason
	}
	return out
}

// push tags the head of main, or rev, and returns at once.
func (w *world) push(tag string, rev ...string) {
	w.t.Helper()
	w.remote.Tag(tag, append(rev, "main")[0], "Release "+tag)
}

// until waits until the newest run of a tag is in a state, and returns it.
func (w *world) until(tag string, state release.State) api.Run {
	w.t.Helper()
	var got api.Run
	w.await(tag+" "+string(state), func() bool {
		runs := w.runs()
		slices.Reverse(runs)
		i := slices.IndexFunc(runs, func(r api.Run) bool { return r.Tag == tag })
		if i < 0 {
			return false
		}
		got = runs[i]
		if s := release.State(got.State); s != state && s.Ended() && s != release.Unknown {
			w.t.Fatalf("%s is %s, not %s: %s\n%s", tag, s, state, got.Reason, w.runLog(got.ID))
		}
		return got.State == string(state)
	})
	return got
}

func (w *world) runLog(id string) string {
	w.t.Helper()
	var b strings.Builder
	if err := w.client.Logs(w.t.Context(), id, api.LogQuery{}, &b); err != nil {
		w.t.Fatal(err)
	}
	return b.String()
}

// refused waits until a tag was refused, and returns why.
func (w *world) refused(tag string) string {
	w.t.Helper()
	reason := ""
	w.await(tag+" refused", func() bool {
		list, err := w.client.Releases(w.t.Context(), api.ReleaseQuery{Decision: string(release.Refused)})
		if err != nil {
			w.t.Fatal(err)
		}
		i := slices.IndexFunc(list.Releases, func(r api.Release) bool { return r.Tag == tag })
		if i >= 0 {
			reason = list.Releases[i].Reason
		}
		return i >= 0
	})
	return reason
}

// cli runs a command against the world's service, and returns what it printed.
func (w *world) cli(args ...string) (code int, stdout, stderr string) {
	w.t.Helper()
	var out, errs bytes.Buffer
	code = run(w.t.Context(), args, func(name string) string {
		if name == "WAYMARK_SERVER" {
			return w.server
		}
		if name == "WAYMARK_TOKEN" {
			return w.env[name]
		}
		return ""
	}, &out, &errs)
	return code, out.String(), errs.String()
}

func (w *world) mustCLI(args ...string) string {
	w.t.Helper()
	code, out, errs := w.cli(args...)
	if code != 0 {
		w.t.Fatalf("waymark %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

func wantText(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is missing in: %s", part, text)
		}
	}
}

type writeFunc func([]byte)

func (f writeFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

// syncBuffer is a log that a test reads while the service writes.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
