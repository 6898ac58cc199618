package main

import (
	"encoding/json"
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

// clone is a bare clone of a world's remote, in which tags are made before they
// are pushed.
type clone struct {
	w   *world
	dir string
}

func (w *world) clone() clone {
	w.t.Helper()
	c := clone{w, filepath.Join(w.t.TempDir(), "clone.git")}
	w.remote.Git("clone", "-q", "--bare", w.remote.Dir, c.dir)
	return c
}

func (c clone) git(args ...string) string {
	c.w.t.Helper()
	return c.w.remote.Git(append([]string{"--git-dir", c.dir}, args...)...)
}

// pull brings the clone's main up to the remote's.
func (c clone) pull() { c.w.t.Helper(); c.git("fetch", "-q", "origin", "+main:main") }

func (c clone) tag(name, rev string) { c.w.t.Helper(); c.git("tag", "-a", "-m", "m", name, rev) }

func (c clone) push(tag string) { c.w.t.Helper(); c.git("push", "-q", "origin", "refs/tags/"+tag) }

// explain explains a tag of the clone, with the world's service.
func (c clone) explain(tag string) (code int, e explanation) {
	c.w.t.Helper()
	code, out, errs := c.w.cli("explain", tag, "--config", c.w.file, "--repo", c.dir, "-o", "json")
	if err := json.Unmarshal([]byte(out), &e); err != nil {
		c.w.t.Fatalf("%v\n%s%s", err, out, errs)
	}
	return code, e
}

// ended waits until a tag was refused, or its run has ended, and returns why.
func (w *world) ended(tag string) (reason string, succeeded bool) {
	w.t.Helper()
	w.await(tag+" to come to an end", func() bool {
		list, err := w.client.Releases(w.t.Context(), api.ReleaseQuery{Decision: string(release.Refused), Limit: 500})
		if err != nil {
			w.t.Fatal(err)
		}
		if i := slices.IndexFunc(list.Releases, func(r api.Release) bool { return r.Tag == tag }); i >= 0 {
			reason = list.Releases[i].Reason
			return true
		}
		runs := w.runs()
		i := slices.IndexFunc(runs, func(r api.Run) bool { return r.Tag == tag })
		if i < 0 || !runs[i].Ended() {
			return false
		}
		reason, succeeded = runs[i].Reason, runs[i].State == api.StateSucceeded
		return true
	})
	return reason, succeeded
}

// TestExplainSaysWhatTheServiceSays makes each refusal twice: explained before the
// push, and by the service after it. They are the same sentence.
func TestExplainSaysWhatTheServiceSays(t *testing.T) {
	w := newWorld(t, `
policy {
  allowed_providers = ["hashicorp/time"]
  folders           = ["policies"]
}
environment "late" {
  regions       = ["us-east-1"]
  promotes_from = "dev"
  soak          = "24h"
  outside       = "refuse"
}
environment "shut" {
  regions = ["us-east-1"]
  outside = "refuse"
  window {
    cron      = "0 0 29 2 *"
    duration  = "1m"
    time_zone = "Europe/Berlin"
  }
}
environment "closed" {
  regions = ["us-east-1"]
  outside = "refuse"
  freeze "for-ever" {
    from   = "2020-01-01"
    to     = "2120-01-01"
    reason = "nobody works here"
  }
}
environment "quiet" {
  regions = ["us-east-1"]
  outside = "refuse"
}
environment "patient" {
  regions   = ["us-east-1"]
  approvals = 1
  window {
    cron     = "0 0 29 2 *"
    duration = "1m"
  }
}
environment "signed" {
  regions           = ["us-east-1"]
  require_signature = true
}
signers "release" { openpgp = ["keys.asc"] }
`)
	g := testkit.NewGPG(t)
	w.keyFile("keys.asc", g.Export(g.Key(time.Time{}, "Ann <ann@example.org>", "ed25519", "never")))
	text, err := os.ReadFile(w.file)
	if err == nil {
		err = os.WriteFile(w.file, []byte(strings.Replace(string(text), "stack {\n", "stack {\n  var_files = [\"vars/${team}.tfvars\"]\n", 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.remote.Commit(map[string]string{"vars/research.tfvars": "", "vars/risk.tfvars": "", "vars/alpha.tfvars": "", "vars/beta.tfvars": ""})
	w.policies(map[string]string{"tag.rego": `package tag

deny contains {"rule": "no-hotfix", "message": sprintf("a hotfix needs a version after %s", [input.deployed[0].version])} if contains(input.message, "hotfix")

require_approval contains {"rule": "second-look", "message": "a big one", "count": 1} if contains(input.message, "big")
`})
	for k, v := range w.env {
		t.Setenv(k, v)
	}
	w.serve()
	w.contact()
	c := w.clone()

	// What is there before: a version that is deployed, and one on its way.
	w.push("dev_us-east-1/research/2.0")
	w.until("dev_us-east-1/research/2.0", release.Succeeded)
	w.push("staging_us-east-1/research/2.0")
	w.until("staging_us-east-1/research/2.0", release.AwaitingApproval)

	w.remote.CommitFiles("side", "main", testkit.File{Path: "extra.tf", Content: "# elsewhere\n"})
	c.git("fetch", "-q", "origin", "side:side")
	on := func(rev string) func(string) { return func(tag string) { c.tag(tag, rev) } }
	onCode := func(code string, more ...testkit.File) func(string) {
		return func(tag string) {
			w.remote.CommitFiles("main", "main", append(more, testkit.File{Path: "extra.tf", Content: code})...)
			c.pull()
			c.tag(tag, "main")
		}
	}
	for _, tt := range []struct {
		name, tag string
		make      func(tag string)
		step      string
		says      string
	}{
		{"no deployment tag", "v1.0.0", on("main"), "name", "v1.0.0"},
		{"no version", "dev_us-east-1/risk/one", on("main"), "name", "version"},
		{"a command", "dev_us-east-1/risk/$(reboot)", on("main"), "name", "version"},
		{"an unknown environment", "devv_us-east-1/risk/1.0", on("main"), "target", "did you mean"},
		{"an unknown Region", "dev_us-west-2/risk/1.0", on("main"), "target", "us-west-2"},
		{"an unknown team", "dev_us-east-1/reserch/1.0", on("main"), "target", "reserch"},
		{"a lightweight tag", "dev_us-east-1/risk/1.1", func(tag string) { c.git("tag", tag, "main") }, "tag", "lightweight"},
		{"a tag of a tag", "dev_us-east-1/risk/1.2", func(tag string) { c.tag("inner", "main"); c.tag(tag, "inner") }, "tag", "a tag of another tag"},
		{"a tag of a tree", "dev_us-east-1/risk/1.3", on("main^{tree}"), "tag", "it names a tree"},
		{"an object for another name", "dev_us-east-1/risk/1.4", func(tag string) {
			c.tag("other", "main")
			c.git("update-ref", "refs/tags/"+tag, c.git("rev-parse", "refs/tags/other"))
		}, "tag", "made for the name"},
		{"off the branch", "dev_us-east-1/risk/1.5", on("side"), "branch", "is not on branch"},
		{"no signature", "signed_us-east-1/risk/1.0", on("main"), "signature", "the tag is not signed"},
		{"a file that is missing", "dev_us-east-1/gamma/1.0", on("main"), "files", "vars/gamma.tfvars"},
		{"older than what is deployed", "dev_us-east-1/research/1.9", on("main"), "order", "is older than 2.0, which is deployed"},
		{"older than what is on its way", "staging_us-east-1/research/1.9", on("main"), "order", "is older than 2.0, which is on its way"},
		{"not proven elsewhere", "prod_us-east-1/risk/1.0", on("main"), "promotion", "has not succeeded in dev_us-east-1/risk (never succeeded there)"},
		{"proven not long enough ago", "late_us-east-1/research/1.0", on("main"), "window", "must soak for 24h"},
		{"outside of the window", "shut_us-east-1/risk/1.0", on("main"), "window", "0 0 29 2 *"},
		{"in a freeze", "closed_us-east-1/risk/1.0", on("main"), "window", "nobody works here"},
		{"in a freeze that a person set", "quiet_us-east-1/risk/1.0", func(tag string) {
			if _, err := w.client.Freeze(t.Context(), api.FreezeSet{Where: "quiet", For: "2h", Reason: "a fire drill"}); err != nil {
				t.Fatal(err)
			}
			c.tag(tag, "main")
		}, "window", "a fire drill"},
		{"denied by a policy", "dev_us-east-1/research/2.1", func(tag string) { c.git("tag", "-a", "-m", "a hotfix", tag, "main") }, "policy", "after 2.0 (no-hotfix)"},
		{"a provider that is not allowed", "dev_us-east-1/alpha/1.0", onCode(`resource "aws_instance" "x" {}`), "code", "hashicorp/aws"},
		{"another backend", "dev_us-east-1/alpha/1.1", onCode("terraform {\n  backend \"s3\" {}\n}\n"), "code", "s3"},
		{"a program", "dev_us-east-1/alpha/1.2", onCode(`data "external" "x" { program = ["id"] }`), "code", "external"},
		{"code that is broken", "dev_us-east-1/alpha/1.3", onCode(`resource "terraform_data" {`), "code", "extra.tf"},
		{"a symlink out of the tree", "dev_us-east-1/alpha/1.4", onCode("", testkit.File{Path: "out", Content: "../../secret", Mode: "120000"}), "code", "out"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.make(tt.tag)
			code, e := c.explain(tt.tag)
			i := slices.IndexFunc(e.Steps, func(s explainedStep) bool { return s.State == stepRefused })
			if code != exitRefused || e.Valid || i < 0 || e.Steps[i].Name != tt.step || e.Steps[i].Says != e.Reason || !strings.Contains(e.Reason, tt.says) {
				t.Errorf("exit %d, %q by %+v", code, e.Reason, e.Steps)
			}
			c.push(tt.tag)
			if reason, _ := w.ended(tt.tag); reason != e.Reason {
				t.Errorf("explained: %s\nthe service: %s", e.Reason, reason)
			}
		})
	}

	onCode("", testkit.File{Path: "out", Content: "main.tf", Mode: "120000"})("dev_us-east-1/beta/1.0")
	code, e := c.explain("dev_us-east-1/beta/1.0")
	if code != 0 || !e.Valid || slices.ContainsFunc(e.Steps, func(s explainedStep) bool { return s.State != stepPasses }) {
		t.Errorf("a good tag: exit %d %+v", code, e.Steps)
	}
	c.push("dev_us-east-1/beta/1.0")
	if reason, succeeded := w.ended("dev_us-east-1/beta/1.0"); !succeeded {
		t.Errorf("a good tag: %s", reason)
	}

	step := func(e explanation, name string) explainedStep {
		i := slices.IndexFunc(e.Steps, func(s explainedStep) bool { return s.Name == name })
		return e.Steps[max(0, i)]
	}
	c.git("tag", "-a", "-m", "a big one", "staging_us-east-1/beta/1.0", "main")
	_, e = c.explain("staging_us-east-1/beta/1.0")
	c.push("staging_us-east-1/beta/1.0")
	r := w.until("staging_us-east-1/beta/1.0", release.AwaitingApproval)
	if s := step(e, "approvals"); s.State != stepNeeds || !strings.HasPrefix(s.Says, r.ApproversMissing+"; ") || !strings.Contains(r.ApproversMissing, "second-look") {
		t.Errorf("explained: %+v\nthe service: %s", s, r.ApproversMissing)
	}

	c.tag("patient_us-east-1/beta/1.0", "main")
	_, e = c.explain("patient_us-east-1/beta/1.0")
	c.push("patient_us-east-1/beta/1.0")
	says := ""
	w.await("a run that waits", func() bool {
		runs := w.runs()
		i := slices.IndexFunc(runs, func(r api.Run) bool { return r.Tag == "patient_us-east-1/beta/1.0" && r.Reason != "" })
		if i >= 0 {
			says = runs[i].Reason
		}
		return i >= 0
	})
	if s := step(e, "window"); !e.Valid || s.State != stepWaits || s.Says != says {
		t.Errorf("explained: %+v\nthe service: %s", s, says)
	}

	if code, e := c.explain("dev_us-east-1/beta/1.0"); code != 0 || !slices.ContainsFunc(e.Steps, func(s explainedStep) bool {
		return s.Name == "record" && strings.Contains(s.Says, "admitted it")
	}) {
		t.Errorf("a tag that was seen: exit %d %+v", code, e.Steps)
	}
}
