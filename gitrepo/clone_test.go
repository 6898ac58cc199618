package gitrepo_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/gitrepo"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

// TestACloneAnswersAsTheRemoteDoes: tags, files, trees and the branch, in a clone
// with a work tree and in a bare repository, and nothing of the clone changes.
func TestACloneAnswersAsTheRemoteDoes(t *testing.T) {
	remote := testkit.NewRemote(t)
	first := remote.Commit(map[string]string{"main.tf": "# one\n", "envs/x.tfvars": "a = 1\n"})
	remote.Tag("dev_global/research/1.0", first, "first")
	remote.SetTag("dev_global/research/1.1", first)
	side := remote.CommitFiles("side", first, testkit.File{Path: "side.tf", Content: "# side\n"})
	remote.Tag("dev_global/research/2.0", side, "off the branch")
	remote.Tag("odd", "refs/tags/dev_global/research/1.0", "a tag of a tag")
	work := filepath.Join(t.TempDir(), "work")
	remote.Git("clone", "-q", remote.Dir, work)
	for _, dir := range []string{remote.Dir, work, filepath.Join(work, "envs")} {
		c, err := gitrepo.OpenClone(dir, gitrepo.Config{Name: "infra", Branch: "main"})
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"dev_global/research/1.0": first, "dev_global/research/1.1": first, "dev_global/research/2.0": side} {
			ref, found, err := c.Ref(name)
			if err != nil || !found || ref.Commit != want || ref.Annotated != (name != "dev_global/research/1.1") {
				t.Fatalf("%s in %s: %+v %t %v", name, dir, ref, found, err)
			}
			info, err := c.Tag(t.Context(), ref)
			if err != nil || info.Commit != want || info.Author != "Test Author <author@example.org>" {
				t.Errorf("%s in %s: %+v %v", name, dir, info, err)
			}
			reachable, pushed, err := c.Reachable(t.Context(), want)
			if err != nil || reachable != (want == first) || pushed != reachable {
				t.Errorf("%s in %s is reachable: %t, pushed: %t: %v", name, dir, reachable, pushed, err)
			}
		}
		for url, want := range map[string]bool{remote.Dir: true, "https://git.example.org/remote.git": dir != remote.Dir, "git@git.example.org:else/where.git": false} {
			if c.Resembles(url) != want {
				t.Errorf("%s resembles %s: %t", dir, url, !want)
			}
		}
		ref, _, err := c.Ref("odd")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Tag(t.Context(), ref); !errors.Is(err, release.ErrRefused) || !strings.Contains(err.Error(), "a tag of another tag") {
			t.Errorf("a tag of a tag: %v", err)
		}
		if _, found, err := c.Ref("dev_global/research/9.9"); found || err != nil {
			t.Errorf("a tag that is not there: %t %v", found, err)
		}
		if data, err := c.Files(first).ReadFile("envs/x.tfvars"); err != nil || string(data) != "a = 1\n" {
			t.Errorf("file: %q %v", data, err)
		}
		out := filepath.Join(t.TempDir(), "out")
		if tree, err := c.Export(t.Context(), first, out); err != nil || tree != remote.Rev(first+"^{tree}") {
			t.Errorf("tree %s: %v", tree, err)
		}
		if data, err := os.ReadFile(filepath.Join(out, "main.tf")); err != nil || string(data) != "# one\n" {
			t.Errorf("written: %q %v", data, err)
		}
		if c.Head() != first {
			t.Errorf("HEAD of %s is %s", dir, c.Head())
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestACloneTellsWhatWasNotPushed(t *testing.T) {
	remote := testkit.NewRemote(t)
	first := remote.Commit(map[string]string{"main.tf": "# one\n"})
	work := filepath.Join(t.TempDir(), "work")
	remote.Git("clone", "-q", remote.Dir, work)
	remote.Git("--git-dir", filepath.Join(work, ".git"), "--work-tree", work, "commit", "-q", "--allow-empty", "-m", "not pushed")
	open := func(dir, branch string) *gitrepo.Clone {
		t.Helper()
		c, err := gitrepo.OpenClone(dir, gitrepo.Config{Name: "infra", Branch: branch})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := open(work, "main")
	if reachable, pushed, err := c.Reachable(t.Context(), c.Head()); !reachable || pushed || err != nil || c.Head() == first {
		t.Errorf("a commit that was not pushed: %t %t %v", reachable, pushed, err)
	}
	if _, _, err := open(work, "trunk").Reachable(t.Context(), first); !errors.Is(err, release.ErrUnavailable) || !strings.Contains(err.Error(), `"trunk"`) {
		t.Errorf("a branch that the clone has not: %v", err)
	}
	remote.Commit(map[string]string{"main.tf": "# two\n"})
	remote.Commit(map[string]string{"main.tf": "# three\n"})
	shallow := filepath.Join(t.TempDir(), "shallow")
	remote.Git("clone", "-q", "--depth", "1", "file://"+remote.Dir, shallow)
	if _, _, err := open(shallow, "main").Reachable(t.Context(), first); !errors.Is(err, release.ErrUnavailable) || !strings.Contains(err.Error(), "--unshallow") {
		t.Errorf("a shallow clone: %v", err)
	}
	if _, err := gitrepo.OpenClone(t.TempDir(), gitrepo.Config{Branch: "main"}); !errors.Is(err, gitrepo.ErrNoClone) {
		t.Errorf("a folder that is no clone: %v", err)
	}
}
