package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

// governedWorld is examples/governed at work: its own configuration and policies, on
// the code of examples/quickstart, with people of a real issuer and real keys.
type governedWorld struct {
	*world
	clone
	issuer *testkit.OIDC
	gpg    testkit.Signing // of a key in keys/release.asc
	ssh    testkit.Signing // of a key in keys/allowed_signers
}

const exampleWindow = `    cron      = "0 9 * * MON-THU"
    duration  = "8h"
`

// newGoverned starts the example. Where it says when prod may change, the test
// says so.
func newGoverned(t *testing.T, window string) *governedWorld {
	t.Helper()
	w := &world{t: t, remote: testkit.NewRemote(t), dir: t.TempDir(), log: &syncBuffer{}}
	t.Cleanup(func() {
		if w.stop != nil {
			w.entriesFit()
			w.stop()
		}
		if t.Failed() {
			t.Logf("the service's log:\n%s", w.log.String())
		}
	})
	if err := os.CopyFS(w.dir, os.DirFS("../../examples/governed")); err != nil {
		t.Fatal(err)
	}
	w.file = filepath.Join(w.dir, "waymark.hcl")
	g := &governedWorld{world: w, issuer: testkit.StartOIDC(t, false)}
	g.keys()
	g.remote.Commit(quickstartCode(t))
	g.clone = w.clone()
	w.env = map[string]string{"WAYMARK_LISTEN": "127.0.0.1:0", "WAYMARK_DATA_DIR": filepath.Join(t.TempDir(), "data"), "WAYMARK_REMOTE": w.remote.Dir,
		"WAYMARK_ADMIN_TOKEN": worldToken, "WAYMARK_TOKEN": worldToken, "WAYMARK_SOAK": "1s",
		"OIDC_ISSUER": g.issuer.URL, "OIDC_CLIENT_SECRET": g.issuer.ClientSecret,
		"PATH": filepath.Dir(testkit.Tool(t, "tofu")) + ":" + filepath.Dir(testkit.Tool(t, "tflint")) + ":" + os.Getenv("PATH")}
	for k, v := range w.env {
		t.Setenv(k, v)
	}
	g.opens(window)
	return g
}

// opens starts the service anew with another window for prod.
func (g *governedWorld) opens(window string) {
	g.t.Helper()
	if g.stop != nil {
		g.stop()
	}
	text, err := os.ReadFile("../../examples/governed/waymark.hcl")
	if err != nil {
		g.t.Fatal(err)
	}
	changed := strings.Replace(string(text), exampleWindow, window, 1)
	if changed == string(text) {
		g.t.Fatal("the example has no such window")
	}
	// The year's end must not shut the test.
	changed = strings.NewReplacer(`"2026-12-20"`, `"2020-12-20"`, `"2027-01-02"`, `"2021-01-02"`).Replace(changed)
	if err := os.WriteFile(g.file, []byte(changed), 0o600); err != nil {
		g.t.Fatal(err)
	}
	g.serve()
	if g.client, err = api.NewClient(api.ClientConfig{Server: g.server, Token: worldToken}); err != nil {
		g.t.Fatal(err)
	}
}

// keys puts keys of ours into the example's files.
func (g *governedWorld) keys() {
	g.t.Helper()
	ring, ssh := testkit.NewGPG(g.t), testkit.NewSSHKey(g.t, "ed25519")
	key := ring.Key(time.Time{}, "Rita <rita@example.org>", "ed25519", "never")
	g.gpg, g.ssh = ring.Signing(key), ssh.Signing()
	g.keyFile("keys/release.asc", ring.Export(key))
	g.keyFile("keys/allowed_signers", "tagger@example.org namespaces=\"git\" "+ssh.Public+"\n")
}

func quickstartCode(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	root := "../../examples/quickstart"
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		files[filepath.ToSlash(strings.TrimPrefix(path, root+"/"))] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	delete(files, "waymark.hcl")
	return files
}

// sign makes a signed tag in the clone.
func (g *governedWorld) sign(s testkit.Signing, name, message string) {
	g.t.Helper()
	g.remote.SignTag(s, name, "main", message)
	g.git("fetch", "-q", "origin", "+refs/tags/"+name+":refs/tags/"+name)
	g.remote.DeleteTag(name)
}

// no pushes a tag of the clone that must come to nothing: for the reason that
// explain gave before, in the same words.
func (g *governedWorld) no(tag, reason string) {
	g.t.Helper()
	_, e := g.clone.explain(tag)
	if e.Valid || !strings.Contains(e.Reason, reason) {
		g.t.Errorf("explain %s: valid %v, %q, want %q", tag, e.Valid, e.Reason, reason)
	}
	g.clone.push(tag)
	if said, ok := g.ended(tag); ok || !strings.Contains(said, reason) || said != e.Reason {
		g.t.Errorf("%s: succeeded %v\nthe service: %s\nexplain:     %s\nwant:        %s", tag, ok, said, e.Reason, reason)
	}
}

// yes pushes a tag of the clone that deploys.
func (g *governedWorld) yes(tag string) {
	g.t.Helper()
	if code, e := g.clone.explain(tag); code != 0 {
		g.t.Errorf("explain %s: exit %d, %s", tag, code, e.Reason)
	}
	g.clone.push(tag)
	g.until(tag, release.Succeeded)
}

// decide asks for a verdict in somebody's name.
func (g *governedWorld) decide(who *api.Client, run api.Run, action string, d api.Decision) error {
	_, err := who.Decide(g.t.Context(), run.ID, action, d)
	return err
}

// wantNo fails unless an error says why not.
func (g *governedWorld) wantNo(err error, says string) {
	g.t.Helper()
	if err == nil || !strings.Contains(err.Error(), says) {
		g.t.Errorf("got %v, want %q", err, says)
	}
}

// TestTheGovernedExample walks the whole way of examples/governed, with each
// refusal on it: a change reaches dev, then staging, then prod.
func TestTheGovernedExample(t *testing.T) {
	g := newGoverned(t, "    cron      = \"0 0 29 2 *\"\n    duration  = \"1m\"\n") // shut
	g.contact()
	const dev, staging, prod = "dev_us-east-1/research/", "staging_us-east-1/research/", "prod_us-east-1/research/"

	// dev is free; staging takes what dev has deployed.
	g.clone.tag(staging+"1.0", "main")
	g.no(staging+"1.0", "promotes from dev")
	g.clone.tag(dev+"1.0", "main")
	g.yes(dev + "1.0")
	g.sign(g.gpg, prod+"1.0", "CHG-1: release 1.0")
	g.no(prod+"1.0", "promotes from staging")
	g.clone.tag(staging+"1.1", "main")
	g.yes(staging + "1.1")

	// prod takes signed tags that name a ticket.
	g.clone.tag(prod+"1.1", "main")
	g.no(prod+"1.1", "the tag is not signed")
	g.sign(testkit.NewSSHKey(t, "ed25519").Signing(), prod+"1.2", "CHG-1: release")
	g.no(prod+"1.2", "requires a signature by one of the signers release")
	g.sign(g.gpg, prod+"1.3", "Release without a ticket")
	g.no(prod+"1.3", "names no ticket such as CHG-1234")
	g.sign(g.gpg, prod+"1.4", "CHG-1: altered on its way")
	g.alter(prod + "1.4")
	g.no(prod+"1.4", "altered")

	// A change outside of the window waits for the next one.
	g.sign(g.gpg, prod+"2.0", "CHG-2: release 2.0")
	if code, e := g.clone.explain(prod + "2.0"); code != 0 || !slices.ContainsFunc(e.Steps, func(s explainedStep) bool { return strings.Contains(fmt.Sprint(s), "window") }) {
		t.Errorf("explain outside of the window: exit %d, %+v", code, e)
	}
	g.clone.push(prod + "2.0")
	g.await("a run that waits for its window", func() bool {
		run := g.newest(prod + "2.0")
		return run.State == api.StateQueued && !run.WaitUntil.IsZero() && strings.Contains(run.Reason, "window")
	})

	// In the window a freeze stops it, and a thaw lets it go on.
	if _, err := g.tryCLI("freeze", "prod", "--until", "1h", "--reason", "the database is being moved"); err != nil {
		t.Fatal(err)
	}
	g.opens("    cron      = \"* * * * *\"\n    duration  = \"2h\"\n")
	g.await("a run that waits for the end of the freeze", func() bool {
		return strings.Contains(g.newest(prod+"2.0").Reason, "the database is being moved")
	})
	if _, err := g.tryCLI("thaw", "prod"); err != nil {
		t.Fatal(err)
	}
	run := g.until(prod+"2.0", release.AwaitingApproval)

	// Somebody else approves: not who tagged, signed or wrote the change, not who
	// only looks, and not for another plan.
	alice := g.person(g.issuer, "alice@example.org", "release-managers")
	plan := api.Decision{PlanDigest: run.PlanDigest}
	g.wantNo(g.decide(g.person(g.issuer, "tagger@example.org", "release-managers"), run, "approve", plan), "tag")
	g.wantNo(g.decide(g.person(g.issuer, "rita@example.org", "release-managers"), run, "approve", plan), "sign")
	g.wantNo(g.decide(g.person(g.issuer, "author@example.org", "release-managers"), run, "approve", plan), "commit")
	g.wantNo(g.decide(g.person(g.issuer, "dan@example.org", "developers"), run, "approve", plan), "approver")
	g.wantNo(g.decide(alice, run, "approve", api.Decision{PlanDigest: "sha256:" + strings.Repeat("0", 64)}), "plan")
	if err := g.decide(alice, run, "approve", plan); err != nil {
		t.Fatal(err)
	}
	g.until(prod+"2.0", release.Succeeded)

	// An older version is refused, and so is a plan that a person rejects.
	g.sign(g.ssh, prod+"1.9", "CHG-2: back")
	g.no(prod+"1.9", "is older than 2.0")
	g.changes("modules/regional/main.tf", "Hello from", "Greetings from")
	g.promote(dev+"3.0", staging+"3.0")
	g.sign(g.ssh, prod+"3.0", "CHG-3: release 3.0")
	g.clone.push(prod + "3.0")
	run = g.until(prod+"3.0", release.AwaitingApproval)
	if err := g.decide(alice, run, "reject", api.Decision{Reason: "not before the fair"}); err != nil {
		t.Fatal(err)
	}
	if said, ok := g.ended(prod + "3.0"); ok || !strings.Contains(said, "not before the fair") {
		t.Errorf("rejected: %v, %s", ok, said)
	}

	// Code that starts a program runs in dev, and in no protected environment: it is
	// denied before init.
	g.changes("modules/regional/main.tf", "resource \"terraform_data\" \"network\" {", "resource \"terraform_data\" \"network\" {\n  provisioner \"local-exec\" { command = \"true\" }\n")
	g.promote(dev + "4.0")
	g.clone.tag(staging+"4.0", "main")
	g.no(staging+"4.0", "local-exec")
	for _, s := range g.newest(staging + "4.0").Stages {
		if s.Name == "init" && s.State != "skipped" {
			t.Errorf("init of denied code is %s", s.State)
		}
	}

	// dev can be rolled back and taken away; prod cannot be destroyed.
	g.wantOrders(dev, prod)
	g.wantAudit()
}

// changes commits a replacement to main.
func (g *governedWorld) changes(file, from, to string) {
	g.t.Helper()
	text := g.remote.Git("show", "main:"+file) + "\n"
	if !strings.Contains(text, from) {
		g.t.Fatalf("%s has no %q", file, from)
	}
	g.remote.Commit(map[string]string{file: strings.Replace(text, from, to, 1)})
	g.pull()
}

func (g *governedWorld) promote(tags ...string) {
	g.t.Helper()
	for _, tag := range tags {
		g.clone.tag(tag, "main")
		g.yes(tag)
	}
}

// alter changes a signed tag in the clone.
func (g *governedWorld) alter(tag string) {
	g.t.Helper()
	g.git("push", "-q", "origin", "refs/tags/"+tag+":refs/keep/"+filepath.Base(tag))
	text := g.git("cat-file", "tag", tag) + "\n"
	head, body, _ := strings.Cut(text, "\n\n")
	id := g.remote.Object("tag", head+"\n\nAltered: "+body)
	g.remote.SetTag(tag, id)
	g.git("fetch", "-q", "origin", "+refs/tags/"+tag+":refs/tags/"+tag)
	g.remote.DeleteTag(tag)
}

func (g *governedWorld) newest(tag string) api.Run {
	g.t.Helper()
	runs := g.runs()
	slices.Reverse(runs)
	if i := slices.IndexFunc(runs, func(r api.Run) bool { return r.Tag == tag }); i >= 0 {
		return runs[i]
	}
	return api.Run{}
}

func (g *governedWorld) tryCLI(args ...string) (string, error) {
	g.t.Helper()
	code, out, errs := g.cli(args...)
	if code != 0 {
		return out, fmt.Errorf("waymark %s: exit %d: %s", strings.Join(args, " "), code, errs)
	}
	return out, nil
}

// wantOrders rolls dev back to its first version and forward, and removes it.
func (g *governedWorld) wantOrders(dev, prod string) {
	g.t.Helper()
	target := strings.TrimSuffix(dev, "/")
	for _, args := range [][]string{{"rollback", target, "--to", "1.0", "--reason", "3.0 is slow", "--wait"},
		{"destroy", target, "--confirm", target, "--reason", "the project is over"}} {
		if _, err := g.tryCLI(args...); err != nil {
			g.t.Error(err)
		}
	}
	if _, err := g.tryCLI("destroy", strings.TrimSuffix(prod, "/"), "--confirm", strings.TrimSuffix(prod, "/"), "--reason", "no"); err == nil || !strings.Contains(err.Error(), "destroy") {
		g.t.Errorf("prod can be destroyed: %v", err)
	}
}

// wantAudit reads the whole way in the audit log.
func (g *governedWorld) wantAudit() {
	g.t.Helper()
	count := map[string]int{}
	for _, e := range g.entries() {
		count[e.Action]++
		if e.Action == "run.approved" && (e.Actor != "alice@example.org" || e.Details["plan_digest"] == "") {
			g.t.Errorf("approved by %s: %v", e.Actor, e.Details)
		}
	}
	for _, want := range []struct {
		action string
		least  int
	}{{"tag.refused", 7}, {"run.queued", 7}, {"run.waiting", 1}, {"run.denied", 1}, {"run.rollback_requested", 1}, {"run.destroy_requested", 1}, {"freeze.set", 1}, {"freeze.lifted", 1}, {"run.approval_requested", 2},
		{"run.approved", 1}, {"run.rejected", 1}, {"run.apply_started", 5}, {"run.succeeded", 5}} {
		if count[want.action] < want.least {
			g.t.Errorf("%d entries %s, want %d or more; there are: %v", count[want.action], want.action, want.least, slices.Sorted(maps.Keys(count)))
		}
	}
	wantText(g.t, g.mustCLI("audit", "verify"), "verified")
}
