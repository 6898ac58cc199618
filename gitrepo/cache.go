package gitrepo

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// The cache is a bare git folder plus one marker file, which says whose it is
// and how far it got. The marker is written by rename, after the objects that
// it speaks of:
//
//	waymark git cache 1
//	url sha256:<hex>
//	branch main
//	commit <id, or 40 zeros>
//
// Whatever does not fit (another URL or branch, a pack that a crash cut short,
// an object that cannot be read) makes the cache be emptied and fetched anew.
const (
	markerName   = "waymark-cache"
	markerFormat = "waymark git cache 1\nurl sha256:%x\nbranch %s\ncommit %s\n"
	maxPacks     = 64 // more than that and starting over is the cheaper clean-up
)

func (r *Repository) path(parts ...string) string {
	return filepath.Join(append([]string{r.cfg.CacheDir}, parts...)...)
}

func (r *Repository) openCache() error {
	if err := os.MkdirAll(r.cfg.CacheDir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(r.cfg.CacheDir)
	if err != nil {
		return err
	}
	marker, err := os.ReadFile(r.path(markerName))
	switch {
	case len(entries) == 0:
		return r.makeCache()
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s holds something that is no waymark cache: name an empty folder, or remove what is there", r.cfg.CacheDir)
	case err != nil:
		return err
	}
	if err := r.adopt(marker); err != nil {
		r.log.Warn("the cache cannot be used and will be fetched anew", "dir", r.cfg.CacheDir, "reason", err)
		return r.emptyCache()
	}
	return nil
}

// adopt checks an existing cache and opens it.
func (r *Repository) adopt(marker []byte) error {
	commit := ""
	if i := bytes.LastIndex(marker, []byte("commit ")); i >= 0 {
		commit = strings.TrimSpace(string(marker[i+7:]))
	}
	if !isHexID([]byte(commit)) || string(marker) != r.marker(commit) {
		return errors.New("it belongs to another url, branch or version")
	}
	if _, err := os.Stat(r.path("HEAD")); err != nil {
		return err
	}
	if err := r.sweepPacks(); err != nil {
		return err
	}
	r.store, r.tip = r.openStore(), plumbing.NewHash(commit)
	if r.tip.IsZero() {
		return nil
	}
	if _, err := r.store.EncodedObject(plumbing.CommitObject, r.tip); err != nil {
		return fmt.Errorf("reading the branch's tip: %w", err)
	}
	return nil
}

// sweepPacks removes what an interrupted fetch left behind and verifies that
// every pack and its index are whole and belong together.
func (r *Repository) sweepPacks() error {
	entries, err := os.ReadDir(r.path("objects", "pack"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		base, isPack := strings.CutSuffix(name, ".pack")
		if isPack {
			err = checkPack(r.path("objects", "pack", base))
			if errors.Is(err, errNoIndex) {
				err = os.Remove(r.path("objects", "pack", name))
			}
		} else if strings.HasPrefix(name, "tmp_") {
			err = os.Remove(r.path("objects", "pack", name))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

var errNoIndex = errors.New("no index")

// checkPack compares the checksums at the ends of a pack and its index: a file
// that was cut short fails.
func checkPack(base string) error {
	idx, err := os.ReadFile(base + ".idx")
	if errors.Is(err, fs.ErrNotExist) {
		return errNoIndex
	}
	if err != nil {
		return err
	}
	if len(idx) < 40 {
		return errors.New("index cut short")
	}
	body, sum := idx[:len(idx)-20], idx[len(idx)-20:]
	if got := sha1.Sum(body); !bytes.Equal(got[:], sum) {
		return errors.New("index damaged")
	}
	f, err := os.Open(base + ".pack")
	if err != nil {
		return err
	}
	defer f.Close()
	end := make([]byte, 20)
	if _, err := f.Seek(-20, io.SeekEnd); err != nil {
		return fmt.Errorf("pack cut short: %w", err)
	}
	if _, err := io.ReadFull(f, end); err != nil {
		return err
	}
	if !bytes.Equal(end, body[len(body)-20:]) {
		return errors.New("pack damaged")
	}
	return nil
}

func (r *Repository) marker(commit string) string {
	return fmt.Sprintf(markerFormat, sha256.Sum256([]byte(r.shown)), r.cfg.Branch, commit)
}

func (r *Repository) writeMarker(commit string) error {
	tmp := r.path(markerName + ".tmp")
	err := writeSynced(tmp, []byte(r.marker(commit)))
	if err == nil {
		err = os.Rename(tmp, r.path(markerName))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errLocal, err)
	}
	return nil
}

func writeSynced(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// makeCache writes an empty cache into the folder, which may hold the marker.
func (r *Repository) makeCache() error {
	if err := r.writeMarker(plumbing.ZeroHash.String()); err != nil {
		return err
	}
	store := r.openStore()
	if err := store.Init(); err != nil {
		return err
	}
	head := plumbing.NewSymbolicReference(plumbing.HEAD, plumbing.NewBranchReferenceName("none"))
	if err := store.SetReference(head); err != nil {
		return err
	}
	if err := os.MkdirAll(r.path("objects", "pack"), 0o700); err != nil {
		return err
	}
	r.store, r.tip, r.walk, r.damaged = store, plumbing.ZeroHash, nil, false
	return nil
}

// emptyCache starts over. The marker forgets the commit first, so that a crash
// on the way leaves a cache that claims nothing.
func (r *Repository) emptyCache() error {
	if r.store != nil {
		_ = r.store.Close()
	}
	if err := r.writeMarker(plumbing.ZeroHash.String()); err != nil {
		return err
	}
	entries, err := os.ReadDir(r.cfg.CacheDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != markerName {
			if err := os.RemoveAll(r.path(e.Name())); err != nil {
				return err
			}
		}
	}
	return r.makeCache()
}

// startOverIfDamaged empties the cache where a read found it broken, or where
// it fell into too many packs.
func (r *Repository) startOverIfDamaged(ctx context.Context) error {
	packs, err := filepath.Glob(r.path("objects", "pack", "*.pack"))
	if err != nil {
		return err
	}
	if err := r.reading.take(ctx); err != nil {
		return err
	}
	defer r.reading.give()
	if !r.damaged && len(packs) <= maxPacks {
		return nil
	}
	r.files.Lock()
	defer r.files.Unlock()
	r.log.Info("the cache is emptied and fetched anew", "packs", len(packs), "damaged", r.damaged)
	r.damaged = true // until all of it is done
	if err := r.emptyCache(); err != nil {
		return fmt.Errorf("%w: %w", errLocal, err)
	}
	return nil
}

// openStore gives a view of the cache's objects with a cache of its own.
func (r *Repository) openStore() *filesystem.Storage {
	if r.foreign {
		return filesystem.NewStorage(r.store.Filesystem(), cache.NewObjectLRU(32*cache.MiByte))
	}
	return filesystem.NewStorageWithOptions(osfs.New(r.cfg.CacheDir), cache.NewObjectLRU(32*cache.MiByte),
		filesystem.Options{KeepDescriptors: true})
}
