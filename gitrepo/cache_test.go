package gitrepo_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/waymark-cd/waymark/gitrepo"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

// manyFiles is enough for a fetch to be kept as a pack.
func manyFiles(n int) map[string]string {
	files := map[string]string{}
	for i := range n {
		files[fmt.Sprintf("d%d/f%d", i%7, i)] = strings.Repeat(fmt.Sprintf("line %d\n", i), 20)
	}
	return files
}

func cacheFiles(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestCacheCutShort plays a crash: each file of a cache in turn is cut in half,
// emptied or removed, and the cache is opened as at the next start. Whatever is lost,
// at most two fetches later everything works again, and no answer is wrong.
func TestCacheCutShort(t *testing.T) {
	remote := testkit.NewRemote(t)
	remote.Commit(manyFiles(150))
	first := remote.Commit(map[string]string{"main.tf": "# one\n"})
	cfg := complete(t, gitrepo.Config{URL: remote.Dir})
	r := open(t, cfg)
	fetchAll(t, r)
	tip := remote.Commit(map[string]string{"main.tf": "# two\n"})
	remote.Tag("dev_global/research/1.0", first, "m")
	fetchAll(t, r)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, file := range cacheFiles(t, cfg.CacheDir) {
		kinds = append(kinds, filepath.Ext(file))
		for _, keep := range []int64{0, 2, -1} {
			rel, _ := filepath.Rel(cfg.CacheDir, file)
			if keep < 0 && rel == "waymark-cache" {
				continue // no crash removes it; the folder then counts as foreign
			}
			t.Run(fmt.Sprintf("%s keeps %s", rel, map[int64]string{0: "nothing", 2: "half", -1: "not even the name"}[keep]), func(t *testing.T) {
				broken := cfg
				broken.CacheDir = filepath.Join(t.TempDir(), "copy")
				if err := os.CopyFS(broken.CacheDir, os.DirFS(cfg.CacheDir)); err != nil {
					t.Fatal(err)
				}
				info, err := os.Stat(file)
				if err != nil {
					t.Fatal(err)
				}
				size := int64(0)
				if keep > 0 {
					size = info.Size() / keep
				}
				hurt := filepath.Join(broken.CacheDir, rel)
				if err := errors.Join(os.Chmod(hurt, 0o600), os.Truncate(hurt, size)); err != nil {
					t.Fatal(err)
				}
				if keep < 0 {
					if err := os.Remove(hurt); err != nil {
						t.Fatal(err)
					}
				}
				wantRecovery(t, open(t, broken), first, tip)
			})
		}
	}
	if all := strings.Join(kinds, " "); !strings.Contains(all, ".pack") || !strings.Contains(all, ".idx") {
		t.Errorf("the cache holds no pack: %v", kinds)
	}
}

func wantRecovery(t *testing.T, r *gitrepo.Repository, first, tip string) {
	t.Helper()
	ref := list(t, r).Tags[0]
	var err error
	for range 2 {
		if err = r.Fetch(t.Context(), []gitrepo.Ref{ref}); err != nil {
			t.Logf("fetch: %v", err)
		}
		if err = useAll(t, r, ref, first, tip); err == nil {
			return
		}
	}
	t.Errorf("the cache did not recover: %v", err)
}

func useAll(t *testing.T, r *gitrepo.Repository, ref gitrepo.Ref, first, tip string) error {
	t.Helper()
	info, err := r.Tag(t.Context(), ref)
	if err == nil && info.Commit != first {
		t.Errorf("tag info %+v", info)
	}
	errs := []error{err}
	for _, commit := range []string{tip, first} {
		yes, err := r.Reachable(t.Context(), commit)
		if err == nil && !yes {
			t.Errorf("%s is told to be unreachable", commit)
		}
		_, xerr := r.Export(t.Context(), commit, filepath.Join(t.TempDir(), "out"))
		_, ferr := r.Files(commit).ReadFile("main.tf")
		errs = append(errs, err, xerr, ferr)
	}
	for _, err := range errs {
		if err != nil && !errors.Is(err, release.ErrUnavailable) && !errors.Is(err, release.ErrNotFound) {
			t.Errorf("a damaged cache is told as %v", err)
		}
	}
	return errors.Join(errs...)
}

func TestCacheLeftoversAndOwners(t *testing.T) {
	remote := testkit.NewRemote(t)
	tip := remote.Commit(manyFiles(120))
	cfg := complete(t, gitrepo.Config{URL: remote.Dir})
	r := open(t, cfg)
	fetchAll(t, r)
	_ = r.Close()

	// The next start finds the fetched branch without the remote.
	away := remote.Dir + "-away"
	if err := os.Rename(remote.Dir, away); err != nil {
		t.Fatal(err)
	}
	pack := filepath.Join(cfg.CacheDir, "objects", "pack")
	for _, junk := range []string{"tmp_pack_1", "tmp_idx_1", "pack-1.pack"} {
		if err := os.WriteFile(filepath.Join(pack, junk), []byte("junk"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wantReachable(t, open(t, cfg), tip, true)
	for _, file := range cacheFiles(t, pack) {
		if strings.Contains(file, "tmp_") || strings.HasSuffix(file, "pack-1.pack") {
			t.Errorf("%s was left", file)
		}
	}

	// Another URL takes nothing over.
	cfg.URL = away
	other := open(t, cfg)
	if _, err := other.Reachable(t.Context(), tip); !errors.Is(err, release.ErrUnavailable) {
		t.Errorf("a cache of another url is believed: %v", err)
	}
	if err := other.Fetch(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	wantReachable(t, other, tip, true)
}

func TestForcePushedBranch(t *testing.T) {
	remote := testkit.NewRemote(t)
	base := remote.Commit(map[string]string{"a": "1"})
	lost := remote.Commit(map[string]string{"a": "2"})
	r := local(t, remote)
	fetchAll(t, r)
	wantReachable(t, r, lost, true)
	remote.SetBranch("main", base)
	fresh := remote.Commit(map[string]string{"a": "3"})
	fetchAll(t, r)
	wantReachable(t, r, lost, false)
	wantReachable(t, r, fresh, true)
	wantReachable(t, r, base, true)
	// Back to a commit that is in the cache already.
	remote.SetBranch("main", lost)
	fetchAll(t, r)
	wantReachable(t, r, lost, true)
	wantReachable(t, r, fresh, false)
}

func TestManyAtOnce(t *testing.T) {
	remote := testkit.NewRemote(t)
	tip := remote.Commit(manyFiles(120))
	r := local(t, remote)
	fetchAll(t, r)
	for i := range 8 {
		remote.Tag(fmt.Sprintf("t%d", i), tip, "m")
	}
	tags := list(t, r).Tags
	var all sync.WaitGroup
	for i, ref := range tags {
		dir := filepath.Join(t.TempDir(), "out")
		all.Go(func() {
			if err := r.Fetch(t.Context(), tags[i:i+1]); err != nil {
				t.Error(err)
			}
			if _, err := r.Tag(t.Context(), ref); err != nil {
				t.Error(err)
			}
			if _, err := r.Export(t.Context(), tip, dir); err != nil {
				t.Error(err)
			}
			if yes, err := r.Reachable(t.Context(), tip); err != nil || !yes {
				t.Error(yes, err)
			}
			if _, err := r.List(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestTagOffTheBranchComesWithoutHistory(t *testing.T) {
	overTransports(t, func(t *testing.T, remote *testkit.Remote, cfg gitrepo.Config) {
		base := remote.Commit(map[string]string{"a": "1"})
		old := remote.CommitFiles("side", base, testkit.File{Path: "b", Content: "1"})
		side := remote.CommitFiles("side", "", testkit.File{Path: "b", Content: "2"})
		remote.Tag("t", side, "m")
		r := open(t, cfg)
		if info, err := r.Tag(t.Context(), fetchAll(t, r)["t"]); err != nil || info.Commit != side {
			t.Fatal(info, err)
		}
		if _, err := r.Files(old).ReadFile("b"); !errors.Is(err, release.ErrNotFound) {
			t.Errorf("the history came too: %v", err)
		}
		// Once merged, all of it is there.
		remote.Merge(side)
		fetchAll(t, r)
		wantReachable(t, r, old, true)
		if _, err := r.Files(old).ReadFile("b"); err != nil {
			t.Error(err)
		}
	})
}

func TestTipLostWhileRunning(t *testing.T) {
	remote := testkit.NewRemote(t)
	remote.Commit(map[string]string{"a": "1"})
	tip := remote.Commit(map[string]string{"a": "2"})
	cfg := complete(t, gitrepo.Config{URL: remote.Dir})
	r := open(t, cfg)
	fetchAll(t, r)
	if err := os.Remove(filepath.Join(cfg.CacheDir, "objects", tip[:2], tip[2:])); err != nil {
		t.Fatal(err)
	}
	wantError(t, r.Fetch(t.Context(), nil), release.ErrUnavailable, "did not send "+tip)
	if err := r.Fetch(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Files(tip).ReadFile("a"); err != nil {
		t.Error(err)
	}
}
