package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/server"
	"github.com/waymark-cd/waymark/store"
)

// hostile is what a tag message or a tool's output may hold.
const hostile = "\x1b]0;owned\x07\x1b[2Jred\u009b31m\u202e\rover"

// cliWorld is a real service that commands are run against.
type cliWorld struct {
	t     *testing.T
	store *store.Store
	url   string
	env   map[string]string
}

func newCLIWorld(t *testing.T, change func(*server.Config)) *cliWorld {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{URL: "sqlite://" + filepath.Join(t.TempDir(), "waymark.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	w := &cliWorld{t: t, store: s, env: map[string]string{}}
	cfg := server.Config{Store: s, Decide: w.decide,
		Logs: func(_ context.Context, _ int64, _ release.LogRange, each func(release.LogLine) error) (release.Run, error) {
			return release.Run{}, errors.Join(each(release.LogLine{N: 1, Text: "one"}), each(release.LogLine{N: 2, Text: hostile}))
		}}
	if change != nil {
		change(&cfg)
	}
	srv, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(srv.Handler())
	t.Cleanup(h.Close)
	w.url = h.URL
	w.env["WAYMARK_SERVER"] = h.URL
	return w
}

// decide carries verdicts out in the store, as far as the tests need them.
func (w *cliWorld) decide(ctx context.Context, id int64, v release.Verdict) (release.Run, error) {
	r, err := w.store.Update(ctx, id, store.Update{
		Entry: audit.Entry{Actor: v.Actor, Action: "run." + string(v.Action), Reason: v.Reason},
		Change: func(r *store.Record) error {
			switch {
			case v.Action == release.Retry:
				return fmt.Errorf("retries are frozen: %w", release.ErrRefused)
			case v.Action == release.Resolve && v.As == release.Accept && r.State == release.Unknown:
				r.State = release.Succeeded
			case v.Action == release.Reject && r.State == release.AwaitingApproval:
				r.State = release.Rejected
			default:
				return fmt.Errorf("run %d is %s: %w", id, r.State, release.ErrConflict)
			}
			r.Reason = v.Reason
			return nil
		}})
	return r.Run, err
}

// add records a tag and takes its run to state.
func (w *cliWorld) add(tag string, state release.State) string {
	w.t.Helper()
	name, version, ok := strings.Cut(tag, "@")
	target, err := release.ParseTarget(name)
	if err != nil || !ok {
		w.t.Fatal(tag, err)
	}
	_, id, err := w.store.Admit(w.t.Context(), store.Admission{Release: release.Release{Repository: "infra",
		Tag: name + "/" + version, Target: target, Version: version, ObjectID: strings.Repeat("a", 40),
		Commit: strings.Repeat("c", 40), Tagger: hostile, Decision: release.Admitted}})
	if err != nil {
		w.t.Fatal(err)
	}
	if state == release.Queued {
		return release.FormatID(id)
	}
	if _, _, err := w.store.Start(w.t.Context(), id, "here"); err != nil {
		w.t.Fatal(err)
	}
	_, err = w.store.Update(w.t.Context(), id, store.Update{Entry: audit.Entry{Action: "run.driven"},
		Change: func(r *store.Record) error {
			r.State, r.Reason, r.FinishedAt = state, hostile, time.Now()
			r.SetStage(release.Stage{Name: release.StagePlan, State: release.StagePassed, Summary: "1 to add"})
			if state == release.AwaitingApproval {
				r.ApprovalsRequired = 1
			}
			r.SoftGates = []string{"trivy"}
			return nil
		},
		Reports: map[string]release.Report{"test": {Format: "junit", Content: "<testsuites/>"}},
		Plan: &release.PlanSummary{Changes: release.Changes{Add: 1}, Resources: []release.ResourceChange{
			{Address: "terraform_data.a" + hostile, Action: "create", Attributes: []release.AttributeChange{{Path: "input", After: `"x"`}}}}},
		Findings: []release.Finding{{Source: "tflint", Rule: "rule_a", Severity: release.SeverityWarning, File: "main.tf", Line: 7, Message: hostile},
			{Source: "checkov", Rule: "CKV_1", Severity: release.SeverityError, Message: "open", Suppressed: "a website"},
			{Source: "trivy", Rule: "AVD-1", Severity: release.SeverityError, Message: "open",
				Waived: release.Waived{Name: "site", Owner: "ann", Reason: "public", Expires: "2027-01-31"}}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return release.FormatID(id)
}

// run executes a command line and gives what it printed and its exit code.
func (w *cliWorld) run(args ...string) (stdout, stderr string, code int) {
	w.t.Helper()
	var out, errs bytes.Buffer
	g := &globals{stdout: &out, stderr: &errs, env: func(name string) string { return w.env[name] }}
	root := &cobra.Command{Use: "waymark", SilenceErrors: true, SilenceUsage: true}
	root.SetOut(&out)
	root.SetErr(&errs)
	g.addFlags(root.PersistentFlags())
	auditCommand := &cobra.Command{Use: "audit"}
	auditCommand.AddCommand(newAuditListCommand(g), newAuditExportCommand(g))
	root.AddCommand(newStatusCommand(g), newRunsCommand(g), auditCommand, newInstancesCommand(g), newDrainCommand(g), newWhoamiCommand(g), newTokensCommand(g))
	root.SetArgs(args)
	err := root.ExecuteContext(w.t.Context())
	if err != nil {
		fmt.Fprintln(&errs, err)
		code = -1
		var ee *exitError
		if errors.As(err, &ee) {
			code = ee.code
		}
	}
	if strings.ContainsFunc(out.String()+errs.String(), func(r rune) bool { return r != '\n' && r != '\t' && unsafeRune(r) }) {
		w.t.Errorf("waymark %s prints characters that a terminal acts on:\n%q", strings.Join(args, " "), out.String()+errs.String())
	}
	return out.String(), errs.String(), code
}

func TestExitCodes(t *testing.T) {
	w := newCLIWorld(t, nil)
	done := w.add("dev_global/research@1.0", release.Succeeded)
	failed := w.add("dev_us-east-1/research@1.0", release.Failed)
	for _, c := range []struct {
		line string
		code int
		says string
	}{
		{"status", 0, ""},
		{"status dev_us-east-1/research", 0, ""},
		{"status dev_us-east-1/risk", 3, "dev_us-east-1/risk"},
		{"status Dev_us-east-1/research", 2, "Dev"},
		{"status a b", 2, "TARGET"},
		{"--server http://127.0.0.1:1 status", 6, "127.0.0.1:1"},
		{"--server ftp://x status", 2, "ftp://x"},
		{"runs list extra", 2, "runs list"},
		{"runs list --target nope", 2, "nope"},
		{"runs list --state done", 2, "state"},
		{"runs list --limit 1000", 2, "limit"},
		{"runs show 99", 3, "99"},
		{"runs show", 2, "ID"},
		{"runs show x1", 2, "runs list"},
		{"runs logs 99", 3, "99"},
		{"runs logs 99 --tail -1", 2, "--tail -1"},
		{"runs logs 99 --tail 1 --search x", 2, "leave out --follow and --tail"},
		{"runs wait " + done, 0, ""},
		{"runs wait " + failed, 1, "failed"},
		{"runs wait 99", 3, "99"},
		{"runs reject " + done, 2, "--reason"},
		{"runs approve " + done, 5, "succeeded"},
		{"runs retry " + failed, 4, "frozen"},
		{"runs resolve " + failed, 2, "--replan"},
		{"runs resolve " + failed + " --accept --abandon", 2, "exactly one"},
		{"audit list --limit 0", 2, "--limit"},
	} {
		if _, stderr, code := w.run(strings.Fields(c.line)...); code != c.code || !strings.Contains(stderr, c.says) {
			t.Errorf("waymark %s: exit %d, want %d, saying %q: %s", c.line, code, c.code, c.says, stderr)
		}
	}
}

func TestTokenComesFromTheEnvironment(t *testing.T) {
	w := newCLIWorld(t, func(c *server.Config) { c.Token = "tok" })
	if _, stderr, code := w.run("status"); code != exitRefused || !strings.Contains(stderr, "WAYMARK_TOKEN") {
		t.Errorf("without a token: exit %d, %s", code, stderr)
	}
	w.env["WAYMARK_TOKEN"] = "tok"
	if _, stderr, code := w.run("status"); code != exitDone {
		t.Errorf("with a token: exit %d, %s", code, stderr)
	}
}

func TestStatus(t *testing.T) {
	w := newCLIWorld(t, nil)
	if stdout, _, _ := w.run("status"); !strings.Contains(stdout, "Push a tag") {
		t.Errorf("an empty board: %q", stdout)
	}
	w.add("dev_global/research@1.0", release.Succeeded)
	id := w.add("dev_us-east-1/research@1.1", release.AwaitingApproval)
	stdout, stderr, _ := w.run("status")
	want := "TARGET                  VERSION  COMMIT      WHEN      RUN  STATE\n" +
		"dev_global/research     1.0      cccccccccc  just now  1    succeeded\n" +
		"dev_us-east-1/research  -        -           -         2    awaiting_approval\n"
	if stdout != want {
		t.Errorf("got\n%swant\n%s", stdout, want)
	}
	if !strings.Contains(stderr, "waymark runs show "+id) {
		t.Errorf("stderr %q", stderr)
	}
	stdout, _, _ = w.run("status", "-o", "json")
	var list api.TargetList
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || len(list.Targets) != 2 || list.Targets[1].LatestRun.ID != id {
		t.Errorf("json: %v in %s", err, stdout)
	}
	stdout, _, _ = w.run("status", "dev_us-east-1/research")
	if !strings.Contains(stdout, "nothing yet") || !strings.Contains(stdout, "awaiting_approval") {
		t.Errorf("one target: %s", stdout)
	}
}

func TestRenderBoardInColour(t *testing.T) {
	var b strings.Builder
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	renderBoard(&b, []api.Target{{Env: "dev", Scope: "global", Team: "a",
		Deployed:  &api.Deployed{Version: "1.0", Commit: "abc", At: now.Add(-3 * time.Minute)},
		LatestRun: &api.Run{ID: "7", State: "failed"}}}, now, true)
	want := "\x1b[1mTARGET\x1b[0m        \x1b[1mVERSION\x1b[0m  \x1b[1mCOMMIT\x1b[0m  \x1b[1mWHEN\x1b[0m    \x1b[1mRUN\x1b[0m  \x1b[1mSTATE\x1b[0m\n" +
		"dev_global/a  1.0      abc     3m ago  7    \x1b[31mfailed\x1b[0m\n"
	if b.String() != want {
		t.Errorf("got\n%q\nwant\n%q", b.String(), want)
	}
}

func TestRunsListAndShow(t *testing.T) {
	w := newCLIWorld(t, nil)
	w.add("dev_us-east-1/research@1.0", release.Succeeded)
	id := w.add("dev_us-east-1/research@1.1", release.AwaitingApproval)
	stdout, stderr, _ := w.run("runs", "list", "--limit", "1")
	if lines := strings.Split(stdout, "\n"); len(lines) != 3 || !strings.HasPrefix(lines[1], "2    dev_us-east-1/research  1.1") {
		t.Errorf("list:\n%s", stdout)
	}
	if !strings.Contains(stderr, "--cursor") {
		t.Errorf("a cut list does not say how to go on: %q", stderr)
	}
	stdout, _, _ = w.run("runs", "show", id)
	for _, want := range []string{"Run 2  dev_us-east-1/research/1.1  awaiting_approval", "plan  passed", "Plan: 1 to add", "create  terraform_data.a",
		"main.tf:7", "tflint rule_a", "1 approval", "soft mode  trivy would have failed this run", "checkov CKV_1  open (a website)",
		"waived", "trivy AVD-1    open (waiver site of ann until 2027-01-31: public)", "test  junit  waymark runs report 2 test", "waymark runs approve 2"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("show lacks %q:\n%s", want, stdout)
		}
	}
	stdout, _, _ = w.run("runs", "show", id, "-o", "json")
	var run api.Run
	if err := json.Unmarshal([]byte(stdout), &run); err != nil || run.Reason != hostile {
		t.Errorf("json: %v, %q", err, run.Reason)
	}
	if queued := w.add("dev_us-east-1/research@1.2", release.Queued); queued != "" {
		if stdout, stderr, code := w.run("runs", "show", queued); code != 0 || strings.Contains(stdout, "Plan:") {
			t.Errorf("a run without a plan: exit %d, %s%s", code, stdout, stderr)
		}
	}
}

func TestReports(t *testing.T) {
	w := newCLIWorld(t, nil)
	id := w.add("dev_us-east-1/research@1.0", release.Succeeded)
	none := w.add("dev_us-east-1/research@1.1", release.Queued)
	for _, c := range []struct {
		line, want string
		code       int
	}{
		{"runs report " + id, "test  junit   13\n", 0},
		{"runs report " + id + " test", "<testsuites/>", 0},
		{"runs report " + id + " trivy", "there are those of test", 3},
		{"runs report " + none, "No gate wrote a report", 0},
		{"runs report " + none + " test", "it has none", 3},
		{"runs report 99", "99", 3},
		{"runs report " + id + " test x", "ID", 2},
		{"runs report", "ID", 2},
	} {
		stdout, stderr, code := w.run(strings.Fields(c.line)...)
		if code != c.code || !strings.Contains(stdout+stderr, c.want) {
			t.Errorf("waymark %s: exit %d, want %d, saying %q: %s%s", c.line, code, c.code, c.want, stdout, stderr)
		}
	}
}

func TestDecisions(t *testing.T) {
	w := newCLIWorld(t, nil)
	id := w.add("dev_us-east-1/research@1.0", release.AwaitingApproval)
	if stdout, stderr, code := w.run("runs", "reject", id, "--reason", "too big"); code != 0 || !strings.Contains(stdout, "rejected") {
		t.Errorf("reject: exit %d, %s%s", code, stdout, stderr)
	}
	lost := w.add("dev_eu-central-1/research@1.0", release.Unknown)
	stdout, _, code := w.run("runs", "resolve", lost, "--accept", "--reason", "seen it", "-o", "json")
	var run api.Run
	if err := json.Unmarshal([]byte(stdout), &run); err != nil || code != 0 || run.State != "succeeded" {
		t.Errorf("resolve: exit %d, %v, %s", code, err, stdout)
	}
	stdout, _, _ = w.run("audit", "list", "--limit", "1")
	if !strings.Contains(stdout, "run.resolve") || !strings.Contains(stdout, "seen it") || strings.Contains(stdout, "run.reject") {
		t.Errorf("the latest entry:\n%s", stdout)
	}
	stdout, _, _ = w.run("audit", "export", "--after", "1")
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	for i, line := range lines {
		var e api.AuditEntry
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Index != int64(i+1) || e.Leaf == "" {
			t.Errorf("line %d: %v, %s", i, err, line)
		}
	}
	if len(lines) != 7 {
		t.Errorf("%d lines:\n%s", len(lines), stdout)
	}
}

func TestLogsAreHarmless(t *testing.T) {
	w := newCLIWorld(t, nil)
	id := w.add("dev_us-east-1/research@1.0", release.Succeeded)
	stdout, _, code := w.run("runs", "logs", "-f", id)
	if code != 0 || !strings.HasPrefix(stdout, "one\n") || !strings.Contains(stdout, "red") {
		t.Errorf("exit %d, %q", code, stdout)
	}
}

func TestCleanWriterKeepsRunesThatArriveInPieces(t *testing.T) {
	const text = "größe\tx\n\u009b✓\r\n"
	var b strings.Builder
	w := cleanWriter{w: &b}
	for i := range len(text) {
		if _, err := w.Write([]byte(text[i : i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if want := "größe\tx\n�✓\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestAgesAndDurations(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{-time.Hour: "just now", 0: "just now", 59 * time.Second: "59s ago", 3 * time.Minute: "3m ago",
		47 * time.Hour: "47h ago", 72 * time.Hour: "3d ago", 9000 * time.Hour: "2025-02-19"} {
		if got := ago(now, now.Add(-d)); got != want {
			t.Errorf("%s: got %q, want %q", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{-time.Second: "0.0s", 1240 * time.Millisecond: "1.2s", 42 * time.Second: "42s",
		185 * time.Second: "3m05s", 2 * time.Hour: "2h00m"} {
		if got := took(now, now, now.Add(d)); got != want {
			t.Errorf("%s: got %q, want %q", d, got, want)
		}
	}
}

func TestWaitThatIsInterruptedIsNoFailedRun(t *testing.T) {
	w := newCLIWorld(t, nil)
	id := w.add("dev_us-east-1/research@1.0", release.Queued)
	ctx, stop := context.WithCancel(t.Context())
	g := &globals{server: w.url, stdout: io.Discard, stderr: writerFunc(func() { stop() }), env: func(string) string { return "" }}
	cmd := newRunsCommand(g)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs([]string{"wait", id})
	var ee *exitError
	if err := cmd.ExecuteContext(ctx); !errors.As(err, &ee) || ee.code != exitInterrupted {
		t.Errorf("got %v", err)
	}
}

// writerFunc is called when something is written.
type writerFunc func()

func (f writerFunc) Write(p []byte) (int, error) { f(); return len(p), nil }
