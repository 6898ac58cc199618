package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/release"
)

// peopleConfig tells people apart. Nobody logs in with the issuer here: they have
// API tokens.
const peopleConfig = `
oidc "corp" {
  issuer        = "https://login.example.org"
  client_id     = "waymark"
  client_secret = "not used here"
}
access "everyone" {
  users = ["*"]
  role  = "viewer"
}
`

// worldToken is the service's own, where a world has one.
const worldToken = "the-token-of-this-world"

// serveClosed starts a service that asks who people are. The world's client has
// the service's own token.
func (w *world) serveClosed() {
	w.t.Helper()
	text, err := os.ReadFile(w.file)
	if err == nil {
		closed := strings.Replace(string(text), "server {\n", fmt.Sprintf("server {\n  token = %q\n", worldToken), 1)
		err = os.WriteFile(w.file, []byte(closed), 0o600)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.serve()
	if w.client, err = api.NewClient(api.ClientConfig{Server: w.server, Token: worldToken}); err != nil {
		w.t.Fatal(err)
	}
}

// as runs a command in the name of whoever has a token.
func (w *world) as(token string, args ...string) (code int, stdout, stderr string) {
	w.t.Helper()
	return w.cli(append([]string{"--token", token}, args...)...)
}

// token makes an API token for an approver.
func (w *world) token(user string, groups ...string) string {
	w.t.Helper()
	made, err := w.client.CreateToken(w.t.Context(), api.NewToken{Name: user, User: user, Role: "approver", Groups: groups, ExpiresIn: 3600})
	if err != nil {
		w.t.Fatal(err)
	}
	return made.Secret
}

func TestTwoOfTheReleaseManagersApprove(t *testing.T) {
	w := newWorld(t, peopleConfig+`
environment "live" {
  regions   = ["us-east-1"]
  approvals = 2
  approvers = ["group:release"]
}`)
	w.serveClosed()
	w.contact()
	alice, bob, carol := w.token("alice@example.org", "release"), w.token("bob@example.org", "release"), w.token("carol@example.org", "dev")
	tagger, author := w.token("Tagger@example.org", "release"), w.token("author@example.org", "release")
	const tag = "live_us-east-1/research/1.0"
	w.push(tag)
	r := w.until(tag, release.AwaitingApproval)
	if r.ApproversMissing != "2 approvals from group:release (environment live)" || r.ApprovalsRequired != 2 || time.Until(r.ApproveBy) < 71*time.Hour {
		t.Errorf("run %+v", r)
	}
	try := func(name, token string, want int, says string, args ...string) {
		t.Helper()
		code, out, errs := w.as(token, append([]string{"runs"}, args...)...)
		if code != want || !strings.Contains(out+errs, says) {
			t.Errorf("%s: exit %d, want %d and %q: %s%s", name, code, want, says, out, errs)
		}
	}
	try("the tagger", tagger, exitRefused, "is the tagger", "approve", r.ID)
	try("the author", author, exitRefused, "is the committer", "approve", r.ID)
	try("the token", worldToken, exitRefused, "stands for nobody in particular", "approve", r.ID)
	try("another group", carol, exitRefused, "which needs 2 approvals from group:release", "approve", r.ID)
	try("another plan", alice, exitConflict, "was replaced: look at it again", "approve", r.ID, "--digest", "sha256:0")
	try("the first", alice, exitDone, "it still needs 1 approval from group:release (environment live)", "approve", r.ID, "--reason", "looked at it")
	try("the first again", alice, exitConflict, "another person must", "approve", r.ID)
	wantText(t, w.mustCLI("--token", alice, "runs", "show", r.ID), "approved by", "alice@example.org", "1 approval from group:release", r.PlanDigest)
	if got := w.until(tag, release.AwaitingApproval); len(got.Approvals) != 1 || got.Approvals[0].PlanDigest != r.PlanDigest {
		t.Errorf("approvals %+v", got.Approvals)
	}
	try("the second", bob, exitDone, "approve: run", "approve", r.ID, "--digest", r.PlanDigest)
	done := w.until(tag, release.Succeeded)
	if done.PlanDigest != r.PlanDigest || done.ApproversMissing != "" {
		t.Errorf("what was applied: %+v", done)
	}
	var approved []string
	for _, e := range w.entries() {
		if e.Action == "run.approved" {
			approved = append(approved, fmt.Sprintf("%s %s %v %v", e.Actor, e.Reason, e.Details["plan_digest"] == r.PlanDigest, e.Details["missing"]))
		}
		if e.Action == "run.approval_requested" && (e.Details["plan_digest"] != r.PlanDigest || e.Details["approve_by"] == nil) {
			t.Errorf("entry %+v", e)
		}
	}
	if want := []string{"alice@example.org looked at it true [1 approval from group:release (environment live)]", "bob@example.org  true []"}; !slices.Equal(approved, want) {
		t.Errorf("entries %q", approved)
	}
}

func TestAPlanThatNobodyApprovesExpires(t *testing.T) {
	w := newWorld(t, `
environment "hasty" {
  regions         = ["us-east-1"]
  approvals       = 1
  approval_expiry = "2s"
}`)
	w.serve()
	w.contact()
	const tag = "hasty_us-east-1/research/1.0"
	w.push(tag)
	r := w.until(tag, release.AwaitingApproval)
	w.await("the plan to expire", func() bool { return strings.Contains(w.states()[tag], "rejected nobody approved within 2s") })
	if code, _, errs := w.cli("runs", "approve", r.ID); code != exitConflict || !strings.Contains(errs, "rejected") {
		t.Errorf("an approval that comes late: exit %d %s", code, errs)
	}
	i := slices.IndexFunc(w.entries(), func(e api.AuditEntry) bool { return e.Action == "run.approval_expired" })
	if i < 0 {
		t.Fatal("no entry run.approval_expired")
	}
	if e := w.entries()[i]; e.RunID != r.ID || e.Details["plan_digest"] != r.PlanDigest || e.Reason != "nobody approved within 2s" {
		t.Errorf("entry %+v", e)
	}
	w.mustCLI("runs", "retry", r.ID)
	again := w.until(tag, release.AwaitingApproval)
	if again.ID == r.ID || len(again.Approvals) > 0 {
		t.Errorf("the retry: %+v", again)
	}
	w.mustCLI("runs", "approve", again.ID)
	w.until(tag, release.Succeeded)
}

// TestAnApprovalIsGoneWithItsPlan: a run that plans anew asks anew, and the old
// plan's digest approves nothing.
func TestAnApprovalIsGoneWithItsPlan(t *testing.T) {
	w := newWorld(t, peopleConfig+`
environment "live" {
  regions   = ["us-east-1"]
  approvals = 2
}`)
	w.serveClosed()
	w.contact()
	alice, bob := w.token("alice@example.org"), w.token("bob@example.org")
	const tag = "live_us-east-1/research/1.0"
	w.push(tag)
	first := w.until(tag, release.AwaitingApproval)
	if code, _, errs := w.as(alice, "runs", "approve", first.ID); code != 0 {
		t.Fatalf("exit %d %s", code, errs)
	}
	if code, _, errs := w.as(bob, "runs", "reject", first.ID, "--reason", "not on a Friday", "--digest", first.PlanDigest); code != 0 {
		t.Fatalf("exit %d %s", code, errs)
	}
	wantText(t, w.until(tag, release.Rejected).Reason, "rejected by bob@example.org: not on a Friday")
	time.Sleep(time.Second) // a saved plan tells its time in seconds: two of the same second may be one, byte by byte
	w.mustCLI("--token", worldToken, "runs", "retry", first.ID)
	second := w.until(tag, release.AwaitingApproval)
	if second.PlanDigest == first.PlanDigest || len(second.Approvals) > 0 {
		t.Errorf("the second plan: %+v", second)
	}
	if code, _, errs := w.as(bob, "runs", "approve", second.ID, "--digest", first.PlanDigest); code != exitConflict || !strings.Contains(errs, "was replaced") {
		t.Errorf("the plan before: exit %d %s", code, errs)
	}
	for _, token := range []string{bob, alice} {
		if code, _, errs := w.as(token, "runs", "approve", second.ID, "--digest", second.PlanDigest); code != 0 {
			t.Fatalf("exit %d %s", code, errs)
		}
	}
	w.until(tag, release.Succeeded)
}
