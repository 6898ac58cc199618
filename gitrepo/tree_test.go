package gitrepo_test

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/gitrepo"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

// rawTree makes a tree object of "mode name" entries that all name one object.
func rawTree(t *testing.T, remote *testkit.Remote, id string, entries ...string) string {
	t.Helper()
	raw, err := hex.DecodeString(id)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range entries {
		b.WriteString(e + "\x00" + string(raw))
	}
	return remote.Object("tree", b.String())
}

// commitTree makes main a commit of the tree.
func commitTree(remote *testkit.Remote, tree string) string {
	id := remote.Git("commit-tree", tree, "-m", "hostile")
	remote.SetBranch("main", id)
	return id
}

func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) || len(entries) > 0 {
		t.Errorf("%s holds %v, %v", dir, entries, err)
	}
}

func TestExportRefusesHostileNames(t *testing.T) {
	for _, entry := range []string{
		"40000 ..", "40000 .", "100644 ..", "40000 .git", "100644 .GIT", "40000 .GiT ", "40000 .git. .", "40000 git~1", "40000 GIT~1",
		"40000 .git::$INDEX_ALLOCATION", "40000 .g\u200cit", "40000 .git\ufeff", "100644 a\\b", "100644 ..\\x", "100644 a/b", "100644 /etc", "100644 ../x",
		"100644 " + strings.Repeat("n", 256),
	} {
		t.Run(entry, func(t *testing.T) {
			remote := testkit.NewRemote(t)
			id := remote.Object("blob", "x")
			if strings.HasPrefix(entry, "40000") {
				id = rawTree(t, remote, id, "100644 config")
			}
			// The hostile entry lies one folder deep, beside a harmless file.
			sub := rawTree(t, remote, id, entry)
			commit := commitTree(remote, rawTree(t, remote, sub, "40000 sub"))
			r := local(t, remote)
			fetchAll(t, r)
			dir := t.TempDir()
			_, err := r.Export(t.Context(), commit, filepath.Join(dir, "out"))
			wantError(t, err, release.ErrRefused, "sub/")
			wantEmpty(t, filepath.Join(dir, "out"))
		})
	}
}

func TestExportRefusesOneNameTwice(t *testing.T) {
	for _, entries := range [][]string{{"100644 a", "100644 a"}, {"120000 a", "100644 a"}, {"120000 a", "120000 a"}} {
		remote := testkit.NewRemote(t)
		commit := commitTree(remote, rawTree(t, remote, remote.Object("blob", "x"), entries...))
		r := local(t, remote)
		fetchAll(t, r)
		dir := filepath.Join(t.TempDir(), "out")
		if _, err := r.Export(t.Context(), commit, dir); err == nil {
			t.Errorf("%q was written", entries)
		}
		wantEmpty(t, dir)
	}
}

func TestSymlinks(t *testing.T) {
	link := func(path, target string) testkit.File {
		return testkit.File{Path: path, Content: target, Mode: "120000"}
	}
	for _, tt := range []struct {
		name  string
		files []testkit.File
		ok    bool
	}{
		{"beside", []testkit.File{link("l", "a")}, true},
		{"up and down", []testkit.File{link("d/l", "../a")}, true},
		{"through another", []testkit.File{link("d/l", "../m/x"), link("m", "d")}, true},
		{"dangling inside", []testkit.File{link("l", "not/there")}, true},
		{"absolute", []testkit.File{link("l", "/etc/passwd")}, false},
		{"out", []testkit.File{link("l", "../x")}, false},
		{"out from a folder", []testkit.File{link("d/l", "../../x")}, false},
		{"out through another", []testkit.File{link("d/e/up", ".."), link("l", "d/e/up/../../x")}, false},
		{"out through what is not there", []testkit.File{link("l", "nowhere/../../x")}, false},
		{"loop", []testkit.File{link("l", "m"), link("m", "l")}, false},
		{"out and in again", []testkit.File{link("l", "../out/a")}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			remote := testkit.NewRemote(t)
			commit := remote.CommitFiles("main", "", append(tt.files, testkit.File{Path: "a", Content: "A"})...)
			r := local(t, remote)
			fetchAll(t, r)
			dir := filepath.Join(t.TempDir(), "out")
			_, err := r.Export(t.Context(), commit, dir)
			if !tt.ok {
				wantError(t, err, release.ErrRefused, "the symlink")
				wantEmpty(t, dir)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if target, err := os.Readlink(filepath.Join(dir, tt.files[0].Path)); err != nil || target != tt.files[0].Content {
				t.Errorf("link to %q, %v", target, err)
			}
		})
	}
}

func TestExportKeepsCaseTwinsSubmodulesAndOddNames(t *testing.T) {
	remote := testkit.NewRemote(t)
	base := remote.Commit(map[string]string{"x": "1"})
	commit := remote.CommitFiles("main", "", testkit.File{Path: "README", Content: "up"}, testkit.File{Path: "readme", Content: "low"},
		testkit.File{Path: "-rf; $(x) ü", Content: "odd"}, testkit.File{Path: "sub", Content: base, Mode: "160000"})
	r := local(t, remote)
	fetchAll(t, r)
	dir := t.TempDir()
	if _, err := r.Export(t.Context(), commit, dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"README": "up", "readme": "low", "-rf; $(x) ü": "odd"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	wantEmpty(t, filepath.Join(dir, "sub"))
	_, err := r.Export(t.Context(), commit, dir)
	wantError(t, err, release.ErrInvalid, "is not empty")
}

func TestBounds(t *testing.T) {
	remote := testkit.NewRemote(t)
	big := strings.Repeat("0123456789", 100_000)
	commit := remote.Commit(map[string]string{"big": big, "d/small": "x"})
	export := func(edit func(*gitrepo.Config)) error {
		cfg := complete(t, gitrepo.Config{URL: remote.Dir})
		edit(&cfg)
		r := open(t, cfg)
		if err := r.Fetch(t.Context(), nil); err != nil {
			return err
		}
		dir := filepath.Join(t.TempDir(), "out")
		_, err := r.Export(t.Context(), commit, dir)
		if err != nil {
			wantEmpty(t, dir)
		}
		return err
	}
	wantError(t, export(func(c *gitrepo.Config) { c.MaxPackBytes = 100 }), gitrepo.ErrTooLarge, "more than 100 bytes")
	// The blob is small in the pack and large once inflated.
	wantError(t, export(func(c *gitrepo.Config) { c.MaxObjectBytes = 10_000 }), gitrepo.ErrTooLarge, "an object of 1000000 bytes")
	wantError(t, export(func(c *gitrepo.Config) { c.MaxFiles = 2 }), gitrepo.ErrTooLarge, "more than 2 files")
	wantError(t, export(func(c *gitrepo.Config) { c.MaxTreeBytes = 1000 }), gitrepo.ErrTooLarge)
	if err := export(func(*gitrepo.Config) {}); err != nil {
		t.Error(err)
	}
}

func TestReadFile(t *testing.T) {
	remote := testkit.NewRemote(t)
	commit := remote.CommitFiles("main", "", testkit.File{Path: "d/a", Content: "A"},
		testkit.File{Path: "l", Content: "d", Mode: "120000"}, testkit.File{Path: "out", Content: "../../etc", Mode: "120000"},
		testkit.File{Path: "big", Content: strings.Repeat("x", 5<<20)})
	r := local(t, remote)
	fetchAll(t, r)
	files := r.Files(commit)
	for _, path := range []string{"d/a", "l/a"} {
		if b, err := files.ReadFile(path); err != nil || string(b) != "A" {
			t.Errorf("%s: %q, %v", path, b, err)
		}
	}
	for path, want := range map[string]error{
		"d/b": fs.ErrNotExist, "e/a": fs.ErrNotExist, "d/a/x": fs.ErrNotExist, "l/../d/a": release.ErrInvalid, "../x": release.ErrInvalid,
		"/d/a": release.ErrInvalid, "": release.ErrInvalid, "d": release.ErrRefused, "out/passwd": release.ErrRefused, "big": gitrepo.ErrTooLarge,
	} {
		if _, err := files.ReadFile(path); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", path, err, want)
		}
	}
	if _, err := r.Files(strings.Repeat("a", 40)).ReadFile("d/a"); !errors.Is(err, release.ErrNotFound) {
		t.Errorf("unknown commit: %v", err)
	}
	if _, err := r.Files("main").ReadFile("d/a"); !errors.Is(err, release.ErrInvalid) {
		t.Errorf("commit by name: %v", err)
	}
}
