package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/internal/testkit"
)

// copyLines counts the entries that a copy in a folder has.
func copyLines(t *testing.T, dir string) int {
	t.Helper()
	n := 0
	files, err := filepath.Glob(filepath.Join(dir, "*/*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n += strings.Count(string(text), "\n")
	}
	return n
}

// TestCopyInAFolder: the copy grows with the log, verifies without a service, goes
// on after a restart, tells of what stands in its way, and stops at a log that was
// tampered with.
func TestCopyInAFolder(t *testing.T) {
	onBothDatabases(t, "", func(t *testing.T, w *world, database string) {
		dir := filepath.Join(t.TempDir(), "copy")
		w.configure(fmt.Sprintf("audit {\n  copy {\n    folder = %q\n    every  = \"1s\"\n  }\n}\n", dir))
		w.serve()
		w.contact()
		w.decisions(4)
		w.await("five entries in the copy", func() bool { return copyLines(t, dir) == 5 })
		w.await("the record to say so", func() bool { return w.consumer("copy").LagEntries == 0 })
		if c := w.consumer("copy"); c.Kind != "copy" || c.To != dir || c.Position != 5 || c.SentAt.IsZero() {
			t.Errorf("%+v", c)
		}
		key, kept := w.key(), filepath.Join(t.TempDir(), "audit.checkpoint")
		w.mustCLI("audit", "verify", "--checkpoint", kept, "--update")
		w.stop()
		wantText(t, w.mustCLI("audit", "verify", "--copy", dir, "--key", key, "--checkpoint", kept), "contains the checkpoint at 5 entries", "verified: 5 entries")
		if code, _, errs := w.cli("audit", "verify", "--copy", dir); code != 2 || !strings.Contains(errs, "--key") {
			t.Errorf("without a key: exit %d %s", code, errs)
		}
		w.serve()
		w.decisions(2)
		w.await("seven entries in the copy", func() bool { return copyLines(t, dir) == 7 })
		if code, _, errs := w.cli("consumers", "skip", "copy"); code != 5 || !strings.Contains(errs, "behind what is there") {
			t.Errorf("exit %d %s", code, errs)
		}

		// A file is in its place.
		w.stop()
		if err := os.Rename(dir, dir+".away"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if code, _, errs := w.cliServe(); code == 0 || !strings.Contains(errs, dir) {
			t.Errorf("a file in the folder's place: exit %d %s", code, errs)
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(dir+".away", dir); err != nil {
			t.Fatal(err)
		}

		// Somebody rewrites the log: the copy does not follow.
		testkit.OpenAuditLog(t, database).Rewrite(func(leaves []string) []string {
			leaves[2] = strings.Replace(leaves[2], "refused", "granted", 1)
			return leaves
		})
		w.serve()
		w.decisions(1)
		w.await("the refusal", func() bool { return w.consumer("copy").Failures > 0 })
		wantText(t, w.consumer("copy").Trouble, "an entry was changed, removed or put in")
		wantText(t, w.get("/readyz"), `"ok":true,"version"`, "consumer copy", "does not verify")
		wantText(t, w.get("/metrics"), `waymark_consumer_lag_entries{consumer="copy",kind="copy"} 1`)
		if n := copyLines(t, dir); n != 7 {
			t.Errorf("the copy has %d entries", n)
		}
		wantText(t, w.mustCLI("audit", "verify", "--copy", dir, "--key", key), "verified: 7 entries")
	})
}

// TestCopyInS3: with Object Lock, and through a bucket that is not there yet.
func TestCopyInS3(t *testing.T) {
	cloud := testkit.StartAWS(t)
	id, secret := cloud.Service()
	t.Setenv("AWS_ACCESS_KEY_ID", id)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	var mu sync.Mutex
	var modes []string
	var until []time.Time
	s3 := cloud.Handler("s3")
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			at, _ := time.Parse(time.RFC3339, r.Header.Get("X-Amz-Object-Lock-Retain-Until-Date"))
			mu.Lock()
			modes, until = append(modes, r.Header.Get("X-Amz-Object-Lock-Mode")), append(until, at)
			mu.Unlock()
		}
		s3.ServeHTTP(rw, r)
	}))
	defer server.Close()
	w := newWorld(t, fmt.Sprintf(`
aws {
  region    = "eu-central-1"
  endpoints = { s3 = %q }
}
audit {
  copy {
    bucket           = "org-audit"
    prefix           = "waymark/"
    object_lock      = "8760h"
    object_lock_mode = "compliance"
    every            = "1s"
  }
}
`, server.URL))
	w.serve()
	w.contact()
	w.await("the missing bucket to be told", func() bool { return w.consumer("copy").Failures > 0 })
	wantText(t, w.mustCLI("consumers"), "s3://org-audit/waymark/", "there is no bucket")
	cloud.CreateBucket("org-audit", "eu-central-1", "")
	w.await("the copy", func() bool { return w.consumer("copy").Position == 1 })
	want := []string{"waymark/000000/000000000000-000000000000.checkpoint", "waymark/000000/000000000000-000000000000.jsonl"}
	if got := cloud.Objects("org-audit"); !slices.Equal(got, want) {
		t.Errorf("objects %v", got)
	}
	w.stop()
	w.serve() // finds its place in the bucket
	w.decisions(3)
	w.await("the copy", func() bool { return w.consumer("copy").Position == 4 })
	dir := t.TempDir()
	for _, key := range cloud.Objects("org-audit") {
		data, _ := cloud.Object("org-audit", key)
		file := filepath.Join(dir, filepath.FromSlash(strings.TrimPrefix(key, "waymark/")))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wantText(t, w.mustCLI("audit", "verify", "--copy", dir, "--key", w.key()), "verified: 4 entries")
	mu.Lock()
	defer mu.Unlock()
	for i, mode := range modes {
		if left := time.Until(until[i]); mode != "COMPLIANCE" || left > 365*24*time.Hour || left < 365*24*time.Hour-10*time.Minute {
			t.Errorf("write %d: mode %q until %s", i, mode, until[i])
		}
	}
}

// TestOneInstanceCopies: several instances make one copy, also when the one that
// makes it is killed.
func TestOneInstanceCopies(t *testing.T) {
	dir := t.TempDir()
	f := newFleet(t, 2, fmt.Sprintf("audit {\n  copy {\n    folder = %q\n    every  = \"1s\"\n  }\n}\n", dir))
	f.decisions(3)
	f.await("the copy", func() bool { return f.consumer("copy").LagEntries == 0 })
	f.all[0].kill()
	f.ask(f.all[1])
	f.decisions(3)
	f.await("the copy", func() bool { return f.consumer("copy").LagEntries == 0 })
	if n, want := copyLines(t, dir), len(f.entries()); n != want {
		t.Errorf("the copy has %d lines for %d entries", n, want)
	}
	wantText(t, f.mustCLI("audit", "verify", "--copy", dir, "--key", f.key()), fmt.Sprintf("verified: %d entries", len(f.entries())))
}

// TestExportByIndexAndTime: an export may begin and end anywhere.
func TestExportByIndexAndTime(t *testing.T) {
	w := newWorld(t, "")
	w.serve()
	w.contact()
	w.decisions(5)
	lines := func(args ...string) int {
		t.Helper()
		return strings.Count(w.mustCLI(append([]string{"audit", "export"}, args...)...), "\n")
	}
	third := w.entries()[3].At.Format(time.RFC3339Nano)
	older := 0
	for _, e := range w.entries() {
		if e.At.Before(w.entries()[3].At) {
			older++
		}
	}
	for _, c := range []struct {
		args []string
		want int
	}{
		{nil, 6}, {[]string{"--from", "2"}, 4}, {[]string{"--after", "2"}, 4}, {[]string{"--from", "2", "--to", "4"}, 2}, {[]string{"--to", "99"}, 6},
		{[]string{"--from", "4", "--to", "2"}, 0}, {[]string{"--from", third}, 6 - older}, {[]string{"--to", third}, older},
		{[]string{"--from", "2000-01-01"}, 6}, {[]string{"--from", "2100-01-01"}, 0},
	} {
		if got := lines(c.args...); got != c.want {
			t.Errorf("%v: %d lines, want %d", c.args, got, c.want)
		}
	}
	if code, _, errs := w.cli("audit", "export", "--from", "yesterday"); code != 2 || !strings.Contains(errs, "2026-11-23") {
		t.Errorf("exit %d %s", code, errs)
	}
}
