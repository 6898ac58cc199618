package gitrepo_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/gitrepo"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

// overTransports runs one test over every way to reach a remote.
func overTransports(t *testing.T, test func(t *testing.T, remote *testkit.Remote, cfg gitrepo.Config)) {
	ways := []struct {
		name string
		cfg  func(*testing.T, *testkit.Remote) gitrepo.Config
	}{
		{"http", func(t *testing.T, r *testkit.Remote) gitrepo.Config {
			return gitrepo.Config{URL: r.ServeHTTP("bot", "s3cret").URL, Username: "bot", Password: "s3cret"}
		}},
		{"http protocol 0", func(t *testing.T, r *testkit.Remote) gitrepo.Config {
			h := r.ServeHTTP("", "")
			h.Protocol0 = true
			return gitrepo.Config{URL: h.URL}
		}},
		{"ssh", func(t *testing.T, r *testkit.Remote) gitrepo.Config { return sshConfig(r.ServeSSH(true)) }},
		{"ssh protocol 0", func(t *testing.T, r *testkit.Remote) gitrepo.Config { return sshConfig(r.ServeSSH(false)) }},
		{"file", func(t *testing.T, r *testkit.Remote) gitrepo.Config {
			return gitrepo.Config{URL: "file://" + r.Dir}
		}},
	}
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			remote := testkit.NewRemote(t)
			test(t, remote, complete(t, way.cfg(t, remote)))
		})
	}
}

func sshConfig(s *testkit.SSHRemote) gitrepo.Config {
	return gitrepo.Config{URL: s.URL, SSHKeyFile: s.KeyFile, KnownHostsFile: s.KnownHostsFile}
}

func complete(t *testing.T, cfg gitrepo.Config) gitrepo.Config {
	cfg.Name, cfg.Branch, cfg.CacheDir = "infra", "main", filepath.Join(t.TempDir(), "cache")
	return cfg
}

func open(t *testing.T, cfg gitrepo.Config) *gitrepo.Repository {
	t.Helper()
	r, err := gitrepo.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// local opens a file remote: enough where the transport plays no part.
func local(t *testing.T, remote *testkit.Remote) *gitrepo.Repository {
	t.Helper()
	return open(t, complete(t, gitrepo.Config{URL: remote.Dir}))
}

func list(t *testing.T, r *gitrepo.Repository) gitrepo.Listing {
	t.Helper()
	l, err := r.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// fetchAll fetches every tag and returns the listing's refs by name.
func fetchAll(t *testing.T, r *gitrepo.Repository) map[string]gitrepo.Ref {
	t.Helper()
	l := list(t, r)
	if err := r.Fetch(t.Context(), l.Tags); err != nil {
		t.Fatal(err)
	}
	refs := map[string]gitrepo.Ref{}
	for _, ref := range l.Tags {
		refs[ref.Name] = ref
	}
	return refs
}

func wantReachable(t *testing.T, r *gitrepo.Repository, commit string, want bool) {
	t.Helper()
	got, err := r.Reachable(t.Context(), commit)
	if err != nil || got != want {
		t.Errorf("Reachable(%s) = %v, %v; want %v", commit, got, err, want)
	}
}

func wantError(t *testing.T, err error, sentinel error, parts ...string) {
	t.Helper()
	if !errors.Is(err, sentinel) {
		t.Fatalf("error %v does not wrap %q", err, sentinel)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not say %q", err, p)
		}
	}
}

func TestEverythingOverEveryTransport(t *testing.T) {
	overTransports(t, func(t *testing.T, remote *testkit.Remote, cfg gitrepo.Config) {
		first := remote.Commit(map[string]string{"main.tf": "# one\n", "envs/dev/x.tfvars": "a = 1\n"})
		tagged := remote.Tag("dev_global/research/1.0", first, "first\n\nbody")
		remote.SetTag("dev_global/research/1.1", first)
		side := remote.CommitFiles("side", first, testkit.File{Path: "side.tf", Content: "# side\n"})
		remote.Tag("dev_global/research/2.0", side, "off the branch")
		tip := remote.CommitFiles("main", "", testkit.File{Path: "run.sh", Content: "#!/bin/sh\n", Mode: "100755"})

		r := open(t, cfg)
		l := list(t, r)
		if l.Branch != tip {
			t.Errorf("branch is %s, want %s", l.Branch, tip)
		}
		want := []gitrepo.Ref{
			{Name: "dev_global/research/1.0", ObjectID: tagged, Commit: first, Annotated: true},
			{Name: "dev_global/research/1.1", ObjectID: first, Commit: first},
			{Name: "dev_global/research/2.0", ObjectID: remote.Rev("refs/tags/dev_global/research/2.0"), Commit: side, Annotated: true},
		}
		if !slices.Equal(l.Tags, want) {
			t.Fatalf("tags\n%v\nwant\n%v", l.Tags, want)
		}
		refs := fetchAll(t, r)
		info, err := r.Tag(t.Context(), refs["dev_global/research/1.0"])
		if err != nil {
			t.Fatal(err)
		}
		if info.Commit != first || !info.Annotated || info.Message != "first\n\nbody\n" ||
			info.Tagger != "Test Tagger <tagger@example.org>" || info.TaggedAt.Year() != 2024 ||
			info.Author != "Test Author <author@example.org>" || info.Committer != "Test Author <author@example.org>" {
			t.Errorf("tag info %+v", info)
		}
		if light, err := r.Tag(t.Context(), refs["dev_global/research/1.1"]); err != nil || light.Annotated || light.Commit != first || light.Author != info.Author {
			t.Errorf("lightweight tag: %+v, %v", light, err)
		}
		if off, err := r.Tag(t.Context(), refs["dev_global/research/2.0"]); err != nil || off.Commit != side {
			t.Errorf("tag off the branch: %+v, %v", off, err)
		}
		wantReachable(t, r, tip, true)
		wantReachable(t, r, first, true)
		wantReachable(t, r, side, false)

		dir := filepath.Join(t.TempDir(), "out")
		tree, err := r.Export(t.Context(), tip, dir)
		if err != nil {
			t.Fatal(err)
		}
		if want := remote.Rev(tip + "^{tree}"); tree != want {
			t.Errorf("tree digest %s, want %s", tree, want)
		}
		if fi, err := os.Stat(filepath.Join(dir, "run.sh")); err != nil || fi.Mode().Perm()&0o111 == 0 {
			t.Errorf("run.sh: %v, %v; want it executable", fi, err)
		}
		if b, err := r.Files(first).ReadFile("envs/dev/x.tfvars"); err != nil || string(b) != "a = 1\n" {
			t.Errorf("ReadFile: %q, %v", b, err)
		}
		if _, err := r.Files(first).ReadFile("run.sh"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("reading what came later: %v", err)
		}

		// A second round: new commits and a tag on the new tip, fetched alone.
		next := remote.Commit(map[string]string{"main.tf": "# two\n"})
		remote.Tag("dev_global/research/1.2", next, "second")
		ref := list(t, r).Tags[2]
		if err := r.Fetch(t.Context(), []gitrepo.Ref{ref}); err != nil {
			t.Fatal(err)
		}
		wantReachable(t, r, next, true)
		wantReachable(t, r, side, false)
		remote.Merge(side)
		if err := r.Fetch(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		wantReachable(t, r, side, true)
		wantReachable(t, r, first, true)
	})
}

func TestMovedAndDeletedTags(t *testing.T) {
	overTransports(t, func(t *testing.T, remote *testkit.Remote, cfg gitrepo.Config) {
		one := remote.Commit(map[string]string{"a": "1"})
		remote.Tag("moves", one, "m")
		remote.Tag("vanishes", one, "m")
		r := open(t, cfg)
		before := list(t, r)
		two := remote.Commit(map[string]string{"a": "2"})
		moved := remote.MoveTag("moves", two)
		remote.DeleteTag("vanishes")
		wantError(t, r.Fetch(t.Context(), before.Tags[:1]), gitrepo.ErrMoved, `"moves" is now `+moved)
		wantError(t, r.Fetch(t.Context(), before.Tags[1:]), gitrepo.ErrMoved, `"vanishes" is gone`)
		if after := list(t, r); after.Digest == before.Digest || len(after.Tags) != 1 {
			t.Errorf("listing after the move: %+v", after)
		}
	})
}

func TestEmptyRepositoryAndMissingBranch(t *testing.T) {
	overTransports(t, func(t *testing.T, remote *testkit.Remote, cfg gitrepo.Config) {
		r := open(t, cfg)
		if l := list(t, r); l.Branch != "" || len(l.Tags) != 0 || l.Digest == "" {
			t.Errorf("empty repository: %+v", l)
		}
		wantError(t, r.Fetch(t.Context(), nil), release.ErrUnavailable, `no branch "main"`, "push it")
		remote.CommitFiles("trunk", "", testkit.File{Path: "a", Content: "1"})
		if l := list(t, r); l.Branch != "" {
			t.Errorf("branch is %q", l.Branch)
		}
		wantError(t, r.Fetch(t.Context(), nil), release.ErrUnavailable, `no branch "main"`)
	})
}

func TestMissingRepository(t *testing.T) {
	overTransports(t, func(t *testing.T, remote *testkit.Remote, cfg gitrepo.Config) {
		cfg.URL += "-not-there"
		_, err := open(t, cfg).List(t.Context())
		wantError(t, err, release.ErrUnavailable, "no repository there", "check the url")
	})
}

func TestCancelledContext(t *testing.T) {
	overTransports(t, func(t *testing.T, remote *testkit.Remote, cfg gitrepo.Config) {
		remote.Commit(map[string]string{"a": "1"})
		r := open(t, cfg)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.List(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("List: %v", err)
		}
		if err := r.Fetch(ctx, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("Fetch: %v", err)
		}
	})
}
