package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/internal/testkit"
)

// onBothDatabases runs a test on a world with each database.
func onBothDatabases(t *testing.T, extra string, test func(t *testing.T, w *world, database string)) {
	t.Run("sqlite", func(t *testing.T) {
		w := newWorld(t, extra)
		test(t, w, "sqlite://"+filepath.Join(w.dir, "data/waymark.db"))
	})
	t.Run("postgres", func(t *testing.T) {
		w := newWorld(t, extra)
		url := testkit.Postgres(t)
		w.env["WORLD_DATABASE"] = url
		t.Cleanup(func() { // before the database goes
			if w.stop != nil {
				w.entriesFit()
				w.stop()
			}
		})
		test(t, w, url)
	})
}

// decisions makes the service write n entries, by tags that it refuses.
func (w *world) decisions(n int) {
	w.t.Helper()
	before := len(w.entries())
	for i := range n {
		w.push(fmt.Sprintf("dev_us-east-1/nobody/%d.%d", before, i))
	}
	w.await(fmt.Sprintf("%d more entries", n), func() bool { return len(w.entries()) >= before+n })
}

// key is the verifier that the service's checkpoints are signed with.
func (w *world) key() string {
	w.t.Helper()
	keys, err := w.client.AuditKeys(w.t.Context())
	if err != nil || len(keys.Keys) == 0 {
		w.t.Fatal(keys, err)
	}
	return keys.Keys[0].Verifier
}

// TestAuditVerify: what was kept on an earlier day proves that the log has only
// grown, and each way in which it did not is told.
func TestAuditVerify(t *testing.T) {
	onBothDatabases(t, "", func(t *testing.T, w *world, database string) {
		w.serve()
		w.contact()
		w.decisions(6)
		key, kept := w.key(), filepath.Join(t.TempDir(), "audit.checkpoint")
		wantText(t, w.mustCLI("audit", "verify", "--checkpoint", kept, "--update"), "verified: 7 entries", "signed by "+key, "waymark audit keys")
		text, err := os.ReadFile(kept)
		if err != nil || !strings.Contains(string(text), "\n7\n") {
			t.Fatalf("kept %q, %v", text, err)
		}
		w.decisions(3)
		wantText(t, w.mustCLI("audit", "verify", "--checkpoint", kept, "--key", key, "--update"),
			"contains the checkpoint at 7 entries unchanged", "entries before 7 were not read again", "verified: 10 entries")
		wantText(t, w.mustCLI("audit", "verify", "--checkpoint", kept, "--all"), "contains the checkpoint at 10 entries unchanged", "verified: 10 entries")
		if strings.Contains(w.mustCLI("audit", "verify", "--checkpoint", kept, "--all"), "not read again") {
			t.Error("--all does not read all")
		}
		_, other, err := audit.NewKey("waymark.example.org/audit")
		if err != nil {
			t.Fatal(err)
		}
		if code, _, errs := w.cli("audit", "verify", "--key", other); code != 1 || !strings.Contains(errs, "no known key has signed") {
			t.Errorf("another log's key: exit %d %s", code, errs)
		}

		log := testkit.OpenAuditLog(t, database)
		honest := log.Leaves()
		for name, c := range map[string]struct {
			change func(leaves []string) []string
			says   string
		}{
			"rewritten": {func(l []string) []string { l[2] = strings.Replace(l[2], "refused", "granted", 1); return l }, "an entry was changed, removed or put in"},
			"shortened": {func(l []string) []string { return l[:8] }, "entries are missing at its end"},
			"forked":    {func(l []string) []string { return append(l[:8], l[2], l[3], l[4], l[5]) }, "an entry was changed, removed or put in"},
			"put in":    {func(l []string) []string { return append([]string{l[3]}, l...) }, "an entry was changed, removed or put in"},
		} {
			log.Rewrite(func([]string) []string { return c.change(append([]string{}, honest...)) })
			for _, all := range [][]string{nil, {"--all"}} {
				args := append([]string{"audit", "verify", "--checkpoint", kept, "--update", "--key", key}, all...)
				code, _, errs := w.cli(args...)
				if code != 1 || !strings.Contains(errs, "does not verify") || !strings.Contains(errs, c.says) || !strings.Contains(errs, kept+".disputed") {
					t.Errorf("%s %v: exit %d %s", name, all, code, errs)
				}
				disputed, err := os.ReadFile(kept + ".disputed")
				if err != nil {
					t.Fatal(err)
				}
				if _, _, err := audit.OpenCheckpoint(string(disputed), key); err != nil {
					t.Errorf("%s: the disputed checkpoint: %v", name, err)
				}
				if err := os.Remove(kept + ".disputed"); err != nil {
					t.Fatal(err)
				}
			}
			if now, err := os.ReadFile(kept); err != nil || !strings.Contains(string(now), "\n10\n") {
				t.Errorf("%s: the kept checkpoint was replaced by %q, %v", name, now, err)
			}
		}
		// The hashes are as they were, and an entry is not.
		log.Rewrite(func([]string) []string { return honest })
		log.EditLeaf(2, strings.Replace(honest[2], "refused", "granted", 1))
		if code, _, errs := w.cli("audit", "verify", "--checkpoint", kept, "--all"); code != 1 || !strings.Contains(errs, "does not verify") {
			t.Errorf("an edited entry: exit %d %s", code, errs)
		}
		if code, _, errs := w.cli("audit", "verify"); code != 1 || !strings.Contains(errs, "does not verify") {
			t.Errorf("an edited entry without a checkpoint: exit %d %s", code, errs)
		}
	})
}

// TestAuditKeysRotate: a new key signs, the old one's checkpoints go on to verify,
// and the change is on record. After a restart it is still the new one.
func TestAuditKeysRotate(t *testing.T) {
	onBothDatabases(t, "", func(t *testing.T, w *world, _ string) {
		w.serve()
		w.contact()
		kept, first := filepath.Join(t.TempDir(), "audit.checkpoint"), w.key()
		w.mustCLI("audit", "verify", "--save", kept)
		wantText(t, w.mustCLI("audit", "rotate-key", "--reason", "an administrator left"), first)
		if w.key() == first || !strings.HasPrefix(w.key(), strings.SplitN(first, "+", 2)[0]+"+") {
			t.Errorf("the key is %s, and was %s", w.key(), first)
		}
		rotated := w.entries()[1]
		if rotated.Action != "audit.key_rotated" || rotated.Reason != "an administrator left" || rotated.Details["old"] != first || rotated.Details["new"] != w.key() {
			t.Errorf("entry %+v", rotated)
		}
		second := w.key()
		w.stop()
		w.serve()
		if w.key() != second {
			t.Errorf("after a restart the key is %s, and was %s", w.key(), second)
		}
		wantText(t, w.mustCLI("audit", "verify", "--checkpoint", kept), "contains the checkpoint at 1 entries unchanged", "signed by "+second)
		code, _, errs := w.cli("audit", "verify", "--checkpoint", kept, "--key", second)
		if code != 1 || !strings.Contains(errs, "give the key that signed it with --key") {
			t.Errorf("without the old key: exit %d %s", code, errs)
		}
		w.mustCLI("audit", "verify", "--checkpoint", kept, "--key", second, "--key", first)
		w.stop()

		// A key of the configuration takes over, and cannot be rotated by command.
		code, given, public := w.cli("audit", "new-key", "waymark.example.org/audit")
		if code != 0 || !strings.HasPrefix(given, "PRIVATE+KEY+waymark.example.org/audit+") {
			t.Fatalf("exit %d %s", code, given)
		}
		w.env["WORLD_AUDIT_KEY"] = strings.TrimSpace(given)
		w.configure(`audit { key = env("WORLD_AUDIT_KEY") }`)
		w.serve()
		wantText(t, public, w.key())
		if code, _, errs := w.cli("audit", "rotate-key"); code != 5 || !strings.Contains(errs, "change audit { key }") {
			t.Errorf("exit %d %s", code, errs)
		}
		wantText(t, w.mustCLI("audit", "verify", "--checkpoint", kept), "signed by waymark.example.org/audit+")
		w.stop()
		w.configure(`audit {
  key    = env("WORLD_AUDIT_KEY")
  origin = "elsewhere"
}`)
		if code, _, errs := w.cliServe(); code != 2 || !strings.Contains(errs, "elsewhere") || strings.Contains(errs, w.env["WORLD_AUDIT_KEY"]) {
			t.Errorf("a key of another origin: exit %d %s", code, errs)
		}
		w.configure(`audit { origin = "renamed" }`)
		w.serve()
		if !strings.HasPrefix(w.key(), "renamed+") {
			t.Errorf("the key is %s", w.key())
		}
		if n := strings.Count(strings.Join(w.actions(), " "), "audit.key_rotated"); n != 3 {
			t.Errorf("%d entries of rotations: %v", n, w.actions())
		}
		if strings.Contains(w.mustCLI("audit", "export")+w.log.String(), "PRIVATE") {
			t.Error("a private key was told")
		}
	})
}
