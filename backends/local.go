package backends

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/waymark-cd/waymark/release"
)

// lockInfoPath is where the engine describes the lock of a local state.
func lockInfoPath(state string) string {
	if state == "" {
		return ""
	}
	dir, file := filepath.Split(state)
	return filepath.Join(dir, "."+file+".lock.info")
}

// localLock tells who locked a local state; nil where there is neither a lock
// nor the description of one.
func localLock(spec release.BackendSpec) (*Lock, error) {
	if err := check(spec); err != nil {
		return nil, err
	}
	state := spec.Values["path"]
	held, pid, err := lockHolder(state)
	if err != nil {
		return nil, fmt.Errorf("reading the lock of %s: %w", state, err)
	}
	lock := &Lock{Kind: LockLocal, Where: lockInfoPath(state), Held: held, PID: pid}
	doc, err := readBounded(lock.Where, maxLockInfo)
	if errors.Is(err, fs.ErrNotExist) {
		if !held {
			return nil, nil
		}
		return lock, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading who locked %s: %w", state, err)
	}
	if err := lock.describe(doc); err != nil && !held { // while held, the engine may be writing it just now
		return nil, err
	}
	return lock, nil
}

// releaseLocal removes the description of a lock that no process holds. The lock
// itself ends with its process and cannot be taken away from it.
func releaseLocal(spec release.BackendSpec, id string) error {
	lock, err := localLock(spec)
	switch {
	case err != nil:
		return err
	case lock == nil:
		return fmt.Errorf("%w: the lock was released in the meantime", release.ErrNotFound)
	case lock.Held:
		return fmt.Errorf("%w: a living process (%d) holds the lock of %s: wait for it, or stop it", release.ErrConflict, lock.PID, spec.Values["path"])
	case lock.ID != id:
		return fmt.Errorf("%w: the lock %s is of %s by now", release.ErrConflict, lock.Where, orUnnamed(lock.ID))
	}
	if err := os.Remove(lock.Where); err != nil {
		return fmt.Errorf("removing the lock's description: %w", err)
	}
	return nil
}

// lockHolder asks the kernel who holds the engine's lock: a POSIX record lock
// on the whole state file.
func lockHolder(state string) (held bool, pid int, err error) {
	f, err := os.Open(state)
	if errors.Is(err, fs.ErrNotExist) {
		return false, 0, nil
	}
	if err != nil {
		return false, 0, err
	}
	defer f.Close()
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &lock); err != nil {
		return false, 0, err
	}
	if lock.Type == syscall.F_UNLCK {
		return false, 0, nil
	}
	return true, int(lock.Pid), nil
}

// localSerial reads the serial and lineage of a local state.
func localSerial(spec release.BackendSpec) (serial int64, lineage string, err error) {
	if err := check(spec); err != nil {
		return 0, "", err
	}
	path := spec.Values["path"]
	f, err := openRegular(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, "", nil
	}
	if err != nil {
		return 0, "", fmt.Errorf("reading the state: %w", err)
	}
	defer f.Close()
	return readSerial(f, path)
}

func readBounded(path string, max int64) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	doc, err := io.ReadAll(io.LimitReader(f, max+1))
	if err == nil && int64(len(doc)) > max {
		err = fmt.Errorf("%w: %s is larger than %d KiB", release.ErrInvalid, path, max>>10)
	}
	return doc, err
}
