package reconciler

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// errNoRoom: this instance begins nothing until there is room on its disk.
var errNoRoom = fmt.Errorf("%w: the disk of the data folder is full", release.ErrUnavailable)

// leastRoom is what has to be free, in bytes, of a disk of that size, before a run
// that writes to it begins. Runs that are under way may need it.
func leastRoom(size uint64) uint64 { return min(size/20, 1<<30) }

// room tells what is free on the disk of the data folder. The error wraps errNoRoom
// where that is too little to begin anything. A disk that cannot be asked holds
// nothing back: what is wrong with it shows when it is written to.
func (r *Reconciler) room() (free string, err error) {
	var disk unix.Statfs_t
	if err := unix.Statfs(r.Config.Config.Server.DataDir, &disk); err != nil {
		return "", nil
	}
	block := uint64(disk.Bsize)
	left, size := disk.Bavail*block, disk.Blocks*block
	switch {
	case left < leastRoom(size):
		return "", fmt.Errorf("%w: %d MiB are free of %d, and no run begins here below %d; make room", errNoRoom, left>>20, size>>20, leastRoom(size)>>20)
	case disk.Files > 0 && disk.Ffree == 0:
		return "", fmt.Errorf("%w: it has no inode left, and no run begins here; remove files", errNoRoom)
	}
	return fmt.Sprintf("%d MiB are free", left>>20), nil
}

// hasRoom refuses to begin anything on a disk that is full, and logs when that
// begins and ends.
func (r *Reconciler) hasRoom() error {
	_, err := r.room()
	r.mu.Lock()
	was := r.full
	r.full = err != nil
	r.mu.Unlock()
	switch {
	case err != nil && !was:
		r.log.Error("no run begins on this instance", "error", err)
	case err == nil && was:
		r.log.Info("the disk has room again: runs begin")
	}
	return err
}

// begins reports whether the next step of a run writes to the disk of whoever takes
// it and can be left to another, or to a later time: nothing of it is under way, and
// nobody has asked that it stop.
func begins(rec store.Record) bool {
	approved := rec.Stage(release.StageApproval).State == release.StagePassed
	return rec.State == release.Queued ||
		rec.State == release.Running && approved && !rec.Applying && !pushes(rec) && rec.CancelledBy == ""
}

// filledUp reports whether err is of a disk that has no room left.
func filledUp(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
