package gitrepo_test

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/gitrepo"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

func TestTagsThatAreRefused(t *testing.T) {
	remote := testkit.NewRemote(t)
	commit := remote.Commit(map[string]string{"a": "1"})
	inner := remote.Tag("inner", commit, "m")
	remote.Tag("tag-of-tag", inner, "m")
	remote.Tag("tag-of-tree", commit+"^{tree}", "m")
	remote.Tag("tag-of-file", commit+":a", "m")
	remote.SetTag("light-tree", remote.Rev(commit+"^{tree}"))
	remote.SetTag("light-file", remote.Rev(commit+":a"))
	remote.SetTag("renamed", inner)
	r := local(t, remote)
	refs := fetchAll(t, r)
	for name, says := range map[string]string{
		"tag-of-tag": "a tag of another tag", "tag-of-tree": "names a tree", "tag-of-file": "names a blob",
		"light-tree": "names a tree", "light-file": "names a file", "renamed": `made for the name "inner"`,
	} {
		_, err := r.Tag(t.Context(), refs[name])
		wantError(t, err, release.ErrRefused, says, name)
	}
	if _, err := r.Tag(t.Context(), refs["inner"]); err != nil {
		t.Error(err)
	}
	later := remote.Tag("later", commit, "m")
	_, err := r.Tag(t.Context(), gitrepo.Ref{Name: "later", ObjectID: later})
	wantError(t, err, release.ErrNotFound, "fetch it first")
}

func TestMalformedTagObjects(t *testing.T) {
	remote := testkit.NewRemote(t)
	commit := remote.Commit(map[string]string{"a": "1"})
	head := "object " + commit + "\ntype commit\ntag %s\n"
	for name, text := range map[string]string{
		"no-tagger":  head + "\nm\n",
		"no-body":    head + "tagger A <a@b> 1 +0000",
		"bad-tagger": head + "tagger >>>< 999999999999999999999 +9999\n\nm\n",
		"bad-name":   strings.Replace(head, "%s", "other %s", 1) + "\nm\n",
		"too-long":   head + "tagger A <a@b> 1 +0000\n\n" + strings.Repeat("m", 2<<20),
	} {
		remote.SetTag(name, remote.Object("tag", fmt.Sprintf(text, name)))
	}
	r := local(t, remote)
	for name, ref := range fetchAll(t, r) {
		info, err := r.Tag(t.Context(), ref)
		if refused := name == "bad-name" || name == "too-long"; refused != (err != nil) || err == nil && info.Commit != commit {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
	}
}

func TestSignedTags(t *testing.T) {
	remote := testkit.NewRemote(t)
	commit := remote.Commit(map[string]string{"a": "1"})
	quoted := "we quote\n-----BEGIN PGP SIGNATURE-----\nin the text\n"
	for name, armour := range map[string]string{"pgp": "PGP", "ssh": "SSH"} {
		signature := fmt.Sprintf("-----BEGIN %s SIGNATURE-----\n\nabc\n-----END %s SIGNATURE-----\n", armour, armour)
		text := fmt.Sprintf("object %s\ntype commit\ntag %s\ntagger A B <a@b> 1700000000 +0100\n\n%s%s", commit, name, quoted, signature)
		remote.SetTag(name, remote.Object("tag", text))
		r := local(t, remote)
		info, err := r.Tag(t.Context(), fetchAll(t, r)[name])
		if err != nil || info.Message != quoted || info.Signature != signature || info.TaggedAt.Unix() != 1700000000 || info.Tagger != "A B <a@b>" {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
	}
}

// TestReachableAgreesWithGit compares every commit of a tangled history, whose
// times run wild, with git merge-base --is-ancestor.
func TestReachableAgreesWithGit(t *testing.T) {
	remote := testkit.NewRemote(t)
	random := rand.New(rand.NewPCG(1, 2))
	tree := remote.Rev(remote.Commit(map[string]string{"a": "1"}) + "^{tree}")
	commits := []string{remote.Rev("main")}
	for i := range 60 {
		text := "tree " + tree + "\n"
		for range 1 + random.IntN(2) {
			text += "parent " + commits[max(0, len(commits)-1-random.IntN(6))] + "\n"
		}
		who := fmt.Sprintf("A <a@b> %d +0000", random.IntN(2_000_000_000))
		commits = append(commits, remote.Object("commit", text+"author "+who+"\ncommitter "+who+fmt.Sprintf("\n\n%d\n", i)))
	}
	for _, tip := range []string{commits[60], commits[40], commits[57]} {
		remote.SetBranch("main", tip)
		r := local(t, remote)
		fetchAll(t, r)
		for _, commit := range commits {
			want := exec.Command("git", "--git-dir", remote.Dir, "merge-base", "--is-ancestor", commit, tip).Run() == nil
			wantReachable(t, r, commit, want)
		}
		wantReachable(t, r, strings.Repeat("a", 40), false)
	}
	_, err := local(t, remote).Reachable(t.Context(), commits[0])
	wantError(t, err, release.ErrUnavailable, "fetch first")
}
