package backends

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/waymark-cd/waymark/release"
)

// maxLockInfo bounds the lock's description, in bytes.
const maxLockInfo = 1 << 20

// LockInfo is what a local state's lock tells.
type LockInfo struct {
	ID        string
	Operation string // such as "OperationTypeApply"
	Who       string // user@host
	Created   time.Time
	// Held is whether a living process has the lock. The description alone may
	// be left over: an engine that was killed removes nothing, and the next one
	// takes the lock all the same.
	Held bool
	// PID of the process that holds it; 0 where nobody does or where it is not
	// of this machine's process namespace.
	PID int
}

// lockInfoPath is where the engine describes the lock of a local state.
func lockInfoPath(state string) string {
	if state == "" {
		return ""
	}
	dir, file := filepath.Split(state)
	return filepath.Join(dir, "."+file+".lock.info")
}

// Lock tells who locked a local state; nil where there is neither a lock nor
// the description of one. Errors wrap release.ErrInvalid for other backends
// and for a description that cannot be read.
func Lock(spec release.BackendSpec) (*LockInfo, error) {
	if err := checkLocal(spec); err != nil {
		return nil, err
	}
	state := spec.Values["path"]
	held, pid, err := lockHolder(state)
	if err != nil {
		return nil, fmt.Errorf("reading the lock of %s: %w", state, err)
	}
	doc, err := readBounded(lockInfoPath(state), maxLockInfo)
	if errors.Is(err, fs.ErrNotExist) {
		if !held {
			return nil, nil
		}
		return &LockInfo{Held: true, PID: pid}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading who locked %s: %w", state, err)
	}
	info := &LockInfo{Held: held, PID: pid}
	var raw struct {
		ID, Operation, Who string
		Created            time.Time
	}
	if err := json.Unmarshal(doc, &raw); err != nil {
		if held { // the engine is writing it just now
			return info, nil
		}
		return nil, fmt.Errorf("%w lock description %s: %w", release.ErrInvalid, lockInfoPath(state), err)
	}
	info.ID, info.Operation, info.Who, info.Created = raw.ID, raw.Operation, raw.Who, raw.Created
	return info, nil
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

// StateSerial reads the serial and lineage of a local state. A state that does
// not exist yet, or is still empty, has serial 0 and no lineage. Errors wrap
// release.ErrInvalid for other backends and for a file that is no state.
func StateSerial(spec release.BackendSpec) (serial int64, lineage string, err error) {
	if err := checkLocal(spec); err != nil {
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
	var state struct {
		Version int
		Serial  int64
		Lineage string
	}
	switch err := json.NewDecoder(f).Decode(&state); {
	case errors.Is(err, io.EOF):
		return 0, "", nil
	case err != nil:
		return 0, "", fmt.Errorf("%w state %s: %w", release.ErrInvalid, path, err)
	case state.Version == 0 && state.Lineage == "": // an encrypted state has a lineage alone
		return 0, "", fmt.Errorf("%w state %s: it has neither version nor lineage: is it a state?", release.ErrInvalid, path)
	}
	return state.Serial, state.Lineage, nil
}

func checkLocal(spec release.BackendSpec) error {
	if spec.Type != local {
		return fmt.Errorf("%w backend %q: only a local state can be read without the engine", release.ErrInvalid, spec.Type)
	}
	return check(spec)
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
