package bench

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// disk reads from one file beside the service: a disk that is shared may stand still
// for a moment, and an answer that waits for it says nothing of the service.
type disk struct{ worst atomic.Int64 }

const (
	stall   = 20 * time.Millisecond // a hundred times what one read takes otherwise
	askDisk = 5 * time.Millisecond
)

// watchDisk reads pages of the largest file in a folder, at places of which memory
// holds few, until the test ends.
func watchDisk(t testing.TB, dir string) *disk {
	t.Helper()
	file, pages := largest(t, dir)
	d, ended := &disk{}, make(chan struct{})
	each := time.NewTicker(askDisk)
	go func() {
		defer close(ended)
		page := make([]byte, os.Getpagesize())
		for range each.C {
			began := time.Now()
			if _, err := file.ReadAt(page, rand.Int64N(pages)*int64(len(page))); err != nil {
				return // it is closed
			}
			d.worst.Store(max(d.worst.Load(), int64(time.Since(began))))
		}
	}()
	t.Cleanup(func() {
		file.Close()
		<-ended
		each.Stop()
	})
	return d
}

// take gives how long one read took at most since it was last asked.
func (d *disk) take() time.Duration { return time.Duration(d.worst.Swap(0)) }

// largest opens the largest file in a folder, and says how many whole pages it has.
func largest(t testing.TB, dir string) (file *os.File, pages int64) {
	t.Helper()
	var path string
	var size int64
	err := filepath.WalkDir(dir, func(at string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return unlessGone(err)
		}
		info, err := e.Info()
		if err == nil && info.Size() > size {
			path, size = at, info.Size()
		}
		return unlessGone(err)
	})
	if err != nil {
		t.Fatal(err)
	}
	if file, err = os.Open(path); err != nil {
		t.Fatal(err)
	}
	return file, max(size/int64(os.Getpagesize()), 1)
}

// unlessGone forgives what a database removes in the meantime.
func unlessGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
