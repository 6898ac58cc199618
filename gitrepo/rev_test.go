package gitrepo_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/gitrepo"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

func TestRevFindsWhatPeopleName(t *testing.T) {
	overTransports(t, func(t *testing.T, remote *testkit.Remote, cfg gitrepo.Config) {
		first := remote.Commit(map[string]string{"main.tf": "# one\n"})
		head := remote.Commit(map[string]string{"main.tf": "# two\n"})
		side := remote.CommitFiles("side", first, testkit.File{Path: "side.tf", Content: "# side\n"})
		tip := remote.CommitFiles("side", side, testkit.File{Path: "side.tf", Content: "# tip\n"})
		remote.SetBranch("old", first)
		for _, tt := range []struct {
			rev  string
			any  bool
			want string
			err  error
			says string
		}{
			{rev: "main", want: head},
			{rev: head, want: head},
			{rev: first, want: first},
			{rev: "old", want: first},
			{rev: "side", err: release.ErrRefused, says: `is not on branch "main"`},
			{rev: tip, err: release.ErrRefused, says: `is not on branch "main"`},
			{rev: "side", any: true, want: tip},
			{rev: tip, any: true, want: tip},
			{rev: first, any: true, want: first},
			{rev: side, any: true, err: release.ErrRefused, says: "nor the newest of another"},
			{rev: strings.Repeat("a", 40), any: true, err: release.ErrRefused, says: "nor the newest of another"},
			{rev: "nothing", any: true, err: release.ErrNotFound, says: `no branch "nothing"`},
			{rev: head[:10], any: true, err: release.ErrNotFound, says: "40 digits"},
			{rev: "refs/heads/main", err: release.ErrInvalid, says: "without refs/heads/"},
			{rev: "--upload-pack=x", err: release.ErrInvalid, says: "no valid branch name"},
			{rev: "", err: release.ErrInvalid},
		} {
			t.Run(tt.rev, func(t *testing.T) {
				cfg.CacheDir = filepath.Join(t.TempDir(), "cache") // nothing is here yet
				r := open(t, cfg)
				got, err := r.Rev(t.Context(), tt.rev, tt.any)
				if tt.err != nil {
					wantError(t, err, tt.err, tt.says)
					return
				}
				if err != nil || got != tt.want {
					t.Fatalf("got %s, %v; want %s", got, err, tt.want)
				}
				if again, err := r.Rev(t.Context(), tt.rev, tt.any); err != nil || again != got {
					t.Errorf("again: %s, %v", again, err)
				}
				if _, err := r.Export(t.Context(), got, filepath.Join(t.TempDir(), "tree")); err != nil {
					t.Errorf("what was found cannot be written out: %v", err)
				}
			})
		}
	})
}

// What was fetched without its history becomes the branch: nothing is missing then.
func TestRevThenTheBranchMovesThere(t *testing.T) {
	remote := testkit.NewRemote(t)
	first := remote.Commit(map[string]string{"main.tf": "# one\n"})
	r := local(t, remote)
	side := remote.CommitFiles("side", first, testkit.File{Path: "a.tf", Content: "# a\n"})
	tip := remote.CommitFiles("side", side, testkit.File{Path: "a.tf", Content: "# b\n"})
	if got, err := r.Rev(t.Context(), "side", true); err != nil || got != tip {
		t.Fatal(got, err)
	}
	remote.SetBranch("main", tip)
	fetched := func() error { _, err := r.Rev(t.Context(), first, false); return err }
	if err := fetched(); err != nil {
		t.Logf("the cache is made anew: %v", err)
		if err := fetched(); err != nil {
			t.Fatal(err)
		}
	}
	for _, commit := range []string{first, side, tip} {
		wantReachable(t, r, commit, true)
	}
}
