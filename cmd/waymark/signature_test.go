package main

import (
	"encoding/json"
	"fmt"
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

// signedWorld has an environment "signed", whose tags need a signature.
const signedWorld = `
environment "signed" {
  regions           = ["us-east-1"]
  require_signature = true
  signers           = ["release", "research"]
}
signers "release" { openpgp = ["keys.asc"] }
signers "research" {
  allowed_signers = "allowed_signers"
  teams           = ["research"]
}
signers "ops" { allowed_signers = "ops_signers" }
`

func (w *world) keyFile(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// signer and key are what the audit log says of a tag's admission.
func (w *world) admittedAs(tag string) (signer, key any) {
	w.t.Helper()
	entries := w.entries()
	i := slices.IndexFunc(entries, func(e api.AuditEntry) bool { return e.Action == "run.queued" && e.Tag == tag })
	if i < 0 {
		w.t.Fatalf("no entry for %s", tag)
	}
	return entries[i].Details["signer"], entries[i].Details["key"]
}

// explained runs explain for a tag of the remote.
func (w *world) explained(tag string) (code int, e explanation) {
	w.t.Helper()
	code, out, errs := w.cli("explain", tag, "--config", w.file, "--repo", w.remote.Dir, "-o", "json")
	if err := json.Unmarshal([]byte(out), &e); err != nil {
		w.t.Fatalf("%v\n%s%s", err, out, errs)
	}
	return code, e
}

func TestSignedTagsAreAdmittedAndOthersRefused(t *testing.T) {
	w, g := newWorld(t, signedWorld), testkit.NewGPG(t)
	ssh, ops, over, stranger := testkit.NewSSHKey(t, "ed25519"), testkit.NewSSHKey(t, "ed25519"), testkit.NewSSHKey(t, "ed25519"), testkit.NewSSHKey(t, "ed25519")
	long := time.Now().AddDate(0, 0, -30)
	ann := g.Key(time.Time{}, "Ann <ann@example.org>", "ed25519", "never")
	old := g.Key(long, "Old <old@example.org>", "ed25519", "10d")
	gone := g.Key(time.Time{}, "Gone <gone@example.org>", "ed25519", "never")
	unknown := g.Key(time.Time{}, "Who <who@example.org>", "ed25519", "never")
	w.remote.SignTag(g.Signing(gone), "signed_us-east-1/risk/1.3", "main", "m")
	w.remote.SignTag(g.Signing(gone), "dev_us-east-1/risk/1.3", "main", "m")
	made := map[string]string{} // made before first contact, shown after it
	hide := func(tag string) {
		made[tag] = w.remote.Rev("refs/tags/" + tag)
		w.remote.DeleteTag(tag)
	}
	hide("signed_us-east-1/risk/1.3")
	hide("dev_us-east-1/risk/1.3")
	g.Revoke(gone)
	w.keyFile("keys.asc", g.Export(ann, old, gone))
	w.keyFile("allowed_signers", fmt.Sprintf("# research\n*@example.org namespaces=\"git\" %s\nover@example.org valid-before=\"20250101Z\" %s\n", ssh.Public, over.Public))
	w.keyFile("ops_signers", "ops@example.org "+ops.Public+"\n")
	for k, v := range w.env {
		t.Setenv(k, v)
	}
	w.serve()
	w.contact()

	tag := func(team, version string) string { return "signed_us-east-1/" + team + "/" + version }
	w.remote.SignTag(g.Signing(ann), tag("risk", "1.0"), "main", "m")
	w.remote.SignTag(ssh.Signing(), tag("research", "1.0"), "main", "m")
	w.push("dev_us-east-1/risk/1.0")
	w.remote.SignTag(stranger.Signing(), "dev_us-east-1/research/1.0", "main", "m")
	for name, want := range map[string][2]any{
		tag("risk", "1.0"):           {"Ann <ann@example.org>", ann},
		tag("research", "1.0"):       {"tagger@example.org", ssh.Fingerprint},
		"dev_us-east-1/risk/1.0":     {nil, nil},
		"dev_us-east-1/research/1.0": {nil, nil},
	} {
		w.until(name, release.Succeeded)
		if signer, key := w.admittedAs(name); signer != want[0] || key != want[1] {
			t.Errorf("%s is signed by %v with %v, want %v", name, signer, key, want)
		}
		if code, e := w.explained(name); code != 0 || want[0] != nil && (e.Signature.Signer != want[0] || e.Signature.Key != want[1]) {
			t.Errorf("explain %s: exit %d, %+v", name, code, e.Signature)
		}
	}

	w.push(tag("risk", "1.1"))
	w.remote.SignTag(g.Signing(unknown), tag("risk", "1.2"), "main", "m")
	w.remote.SetTag(tag("risk", "1.3"), made[tag("risk", "1.3")])
	w.remote.SetTag("dev_us-east-1/risk/1.3", made["dev_us-east-1/risk/1.3"])
	w.remote.SignTag(g.Signing(old).When(long.AddDate(0, 0, 1)), tag("risk", "1.4"), "main", "m")
	alter := func(name string, s testkit.Signing) {
		w.remote.SignTag(s, "made", "main", "m")
		text := strings.Replace(w.remote.Git("cat-file", "tag", "made"), "tag made", "tag "+name, 1)
		w.remote.SetTag(name, w.remote.Object("tag", text+"\n"))
		w.remote.DeleteTag("made")
	}
	alter(tag("risk", "1.5"), g.Signing(ann))
	alter("dev_us-east-1/research/1.5", ssh.Signing())
	w.remote.SignTag(ssh.Signing(), tag("risk", "1.6"), "main", "m")
	w.remote.SignTag(ops.Signing(), tag("research", "1.7"), "main", "m")
	w.remote.SignTag(over.Signing(), tag("research", "1.8"), "main", "m")
	for name, says := range map[string][]string{
		tag("risk", "1.1"):           {"not signed", "signers release:", "git tag -s"},
		tag("risk", "1.2"):           {unknown, "not known", "signers release:"},
		tag("risk", "1.3"):           {gone, "Gone <gone@example.org>", "revoked"},
		"dev_us-east-1/risk/1.3":     {gone, "revoked"},
		tag("risk", "1.4"):           {old, "Old <old@example.org>", "expired"},
		tag("risk", "1.5"):           {ann, "altered"},
		"dev_us-east-1/research/1.5": {ssh.Fingerprint, "altered"},
		tag("risk", "1.6"):           {ssh.Fingerprint, `signers "research"`, "may not sign for signed_us-east-1/risk"},
		tag("research", "1.7"):       {ops.Fingerprint, `signers "ops"`, "may not sign"},
		tag("research", "1.8"):       {over.Fingerprint, "over@example.org", "expired at 2025-01-01T00:00:00Z"},
	} {
		reason := w.refused(name)
		wantText(t, reason, says...)
		if code, e := w.explained(name); code != 4 || e.Reason != reason {
			t.Errorf("explain %s: exit %d\n%s\nthe service: %s", name, code, e.Reason, reason)
		}
		if !slices.ContainsFunc(w.entries(), func(e api.AuditEntry) bool {
			return e.Action == "tag.refused" && e.Tag == name && e.Reason == reason
		}) {
			t.Errorf("%s: no entry tells of its refusal", name)
		}
	}
	if n := len(w.runs()); n != 4 {
		t.Errorf("%d runs, want 4: %v", n, w.states())
	}
	out := w.mustCLI("explain", tag("research", "9.0"), "--config", w.file, "--repo", w.remote.Dir)
	wantText(t, out, "required, by one of the signers release, research")
	wantText(t, w.mustCLI("explain", tag("research", "1.0"), "--config", w.file, "--repo", w.remote.Dir), "accepted: tagger@example.org (SSH key "+ssh.Fingerprint)
	wantText(t, w.mustCLI("audit", "verify"), "verified:")
}

func TestBrokenKeyFilesStopTheStart(t *testing.T) {
	w := newWorld(t, signedWorld)
	w.keyFile("allowed_signers", "# research\nresearch@example.org cert-authority "+testkit.NewSSHKey(t, "ed25519").Public+"\n")
	w.keyFile("ops_signers", "ops@example.org nonsense\n")
	for k, v := range w.env {
		t.Setenv(k, v)
	}
	for _, args := range [][]string{{"serve", "--config", w.file}, {"config", "check", w.file}, {"explain", "dev_us-east-1/risk/1.0", "--config", w.file}} {
		code, _, errs := w.cli(args...)
		if code != 2 || strings.Count(errs, w.file+":") != 3 {
			t.Errorf("%v: exit %d %s", args, code, errs)
		}
		wantText(t, errs, filepath.Join(w.dir, "keys.asc")+": it cannot be read: no such file",
			filepath.Join(w.dir, "allowed_signers")+":2: cert-authority is not supported", filepath.Join(w.dir, "ops_signers")+":1: there is no key")
	}
}
