package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/waymark-cd/waymark/release"
)

// smallDisk is a data folder on a disk of 96 MB of its own, where one may be had.
func (w *world) smallDisk() (dir string) {
	w.t.Helper()
	dir = filepath.Join(w.dir, "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=96m,mode=0700"); err != nil {
		w.t.Skipf("no disk of its own may be mounted here: %v", err)
	}
	w.t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			w.t.Errorf("unmounting the small disk: %v", err)
		}
	})
	return dir
}

// fillDisk leaves so many bytes free on the disk of a folder; the file that it
// names takes the rest.
func fillDisk(t *testing.T, dir string, free uint64) (filling string) {
	t.Helper()
	var disk syscall.Statfs_t
	if err := syscall.Statfs(dir, &disk); err != nil {
		t.Fatal(err)
	}
	filling = filepath.Join(dir, "filling")
	if err := os.WriteFile(filling, make([]byte, disk.Bavail*uint64(disk.Bsize)-free), 0o600); err != nil {
		t.Fatal(err)
	}
	return filling
}

// TestAFullDiskHoldsRunsBack: where hardly anything is free no run begins, and one
// that finds no room for its code goes back into the queue. Neither fails.
func TestAFullDiskHoldsRunsBack(t *testing.T) {
	w := newWorld(t, "")
	w.remote.Commit(map[string]string{"large": strings.Repeat("\x00", 24<<20)}) // next to nothing in a pack
	dir := w.smallDisk()
	w.serve()
	w.contact()

	const low = "dev_us-east-1/alpha/1.0"
	filling := fillDisk(t, dir, 3<<20) // the database still has room
	w.push(low)
	w.await("the disk to be told of", func() bool {
		return strings.Contains(w.log.String(), "no run begins on this instance") &&
			strings.Contains(readiness(t, w.server), "the disk of the data folder is full")
	})
	if run := w.until(low, release.Queued); !run.StartedAt.IsZero() {
		t.Errorf("it began at %s", run.StartedAt)
	}
	if err := os.Remove(filling); err != nil {
		t.Fatal(err)
	}
	w.until(low, release.Succeeded)
	wantText(t, w.log.String(), "the disk has room again")
	wantText(t, w.get("/readyz"), `"name":"disk","ok":true`, "MiB are free")

	w.await("its folder to be tidied up", func() bool {
		_, err := os.Stat(filepath.Join(dir, "runs/1/1/tree"))
		return errors.Is(err, fs.ErrNotExist)
	})

	const short = "dev_us-east-1/beta/1.0"
	filling = fillDisk(t, dir, 12<<20) // enough to begin, too little for the code
	w.push(short)
	w.await("the run to be handed back", func() bool {
		for _, e := range w.entries() {
			if e.Action == "run.handed_back" && strings.Contains(e.Reason, "the disk of its worker is full") {
				return true
			}
		}
		return false
	})
	if err := os.Remove(filling); err != nil {
		t.Fatal(err)
	}
	w.until(short, release.Succeeded)
}
