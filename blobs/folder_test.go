package blobs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/release"
)

func TestFolderIsLeftByNoLink(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	k := newFolder(t, t.TempDir())
	for link, to := range map[string]string{"dir": outside, "file": filepath.Join(outside, "secret")} {
		if err := os.Symlink(to, filepath.Join(k.folder, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"dir/secret", "file"} {
		if r, err := k.Get(t.Context(), key); err == nil {
			r.Close()
			t.Errorf("get %s went outside", key)
		}
	}
	if err := k.Put(t.Context(), "dir/new", strings.NewReader("x")); err == nil {
		t.Error("put went outside")
	}
	if got := k.keys(t, ""); got != "" {
		t.Errorf("listed: %q", got)
	}
	k.put(t, "file", "own") // replaces the link
	if err := k.DeletePrefix(t.Context(), "dir"); err == nil {
		t.Error("deleting beneath a link that leads outside passed")
	}
	if left, err := os.ReadFile(filepath.Join(outside, "secret")); err != nil || string(left) != "secret" {
		t.Errorf("outside: %q, %v", left, err)
	}
}

func TestABlobIsNoFolder(t *testing.T) {
	k := newFolder(t, t.TempDir())
	k.put(t, "a/b", "x")
	for _, key := range []string{"a", "a/b/c"} {
		wantError(t, key, k.Put(t.Context(), key, strings.NewReader("y")), release.ErrConflict, "cannot have the same key")
		if got := k.text(t, key); got != "none" {
			t.Errorf("%s = %q", key, got)
		}
		if err := k.Delete(t.Context(), key); err != nil {
			t.Errorf("delete %s: %v", key, err)
		}
	}
	if got := k.text(t, "a/b"); got != "x" {
		t.Errorf("a/b = %q", got)
	}
	k.wantNoTraces(t, 0)
}

func TestFilesArePrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "blobs")
	k := newFolder(t, dir)
	k.put(t, "runs/1/plan", "x")
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "runs/1"): 0o700, filepath.Join(dir, "runs/1/plan"): 0o600} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %o", path, info.Mode(), err, want)
		}
	}
	if err := k.DeletePrefix(t.Context(), "runs/1"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "runs")); !os.IsNotExist(err) {
		t.Errorf("empty folders stay: %v", err)
	}
}

func TestALostFolderIsNotReady(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "blobs")
	k := newFolder(t, dir)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := k.Check(t.Context()); err == nil {
		t.Error("check of a folder that is gone passed")
	}
}

// TestFullDisk puts a blob onto a disk of one MiB.
func TestFullDisk(t *testing.T) {
	out := child(t, "full-disk", t.TempDir())
	for _, want := range []string{"put: unavailable: storing blob \"large\": the disk of", "is full: free space", "kept: old", "left: 0", "after: <nil>"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
}

// TestFileSizeLimit is what a limit of the process looks like.
func TestFileSizeLimit(t *testing.T) {
	out := child(t, "size-limit", t.TempDir())
	for _, want := range []string{"put: unavailable: storing blob \"large\": files in", "raise the limit", "kept: old", "left: 0"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
}

// TestSweepSparesLivingWriters opens the folder while another process writes.
func TestSweepSparesLivingWriters(t *testing.T) {
	k := newFolder(t, t.TempDir())
	w := startWriter(t, k)
	k.open(t)
	if left := k.unfinished(t); len(left) != 1 {
		t.Errorf("unfinished: %q, want the one that is being written", left)
	}
	w.finish(t)
	if got := k.text(t, "log"); len(got) != 2*halfSize {
		t.Errorf("%d bytes were stored", len(got))
	}
	k.wantNoTraces(t, 0)
}
