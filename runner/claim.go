package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/waymark-cd/waymark/release"
)

// claim is runner.json: who owns the folder.
type claim struct {
	Format  int           `json:"format"`
	RunID   int64         `json:"run_id,omitempty"`
	Attempt int           `json:"attempt,omitempty"`
	Phase   release.Phase `json:"phase,omitempty"`
	// PID, StartTicks (field 22 of /proc/pid/stat) and BootID name one process
	// for ever. All are zero where a service took the folder.
	PID        int       `json:"pid,omitempty"`
	StartTicks uint64    `json:"start_ticks,omitempty"`
	BootID     string    `json:"boot_id,omitempty"`
	At         time.Time `json:"at"`
}

// byService reports whether a service took the folder to keep runners out.
func (c claim) byService() bool { return c.PID == 0 }

// Claim takes the folder so that no runner ever will: a service that finds it
// Absent after a restart calls it before it starts the phase again elsewhere,
// because the runner that the killed service forked may not have begun yet.
// The folder is made where it is missing. A folder that a service took before
// is taken again without error; one that a runner owns gives an error that
// wraps release.ErrConflict, and Find then says what became of the runner.
func Claim(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("taking the runner's folder: %w", err)
	}
	err := takeClaim(dir, claim{Format: release.ProtocolFormat, At: time.Now().UTC()})
	if !errors.Is(err, release.ErrConflict) {
		return err
	}
	held, readErr := readClaim(dir)
	if readErr != nil {
		return readErr
	}
	if held.byService() {
		return nil
	}
	return err
}

// takeClaim makes runner.json, whole and on the disk, or fails with an error
// that wraps release.ErrConflict where it is there. The file is written aside
// and linked, which like O_EXCL lets one process win, and unlike it never shows
// a half-written claim.
func takeClaim(dir string, c claim) error {
	data, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("writing %s: %w", claimFile, err)
	}
	aside, err := writeAside(dir, claimFile, data)
	if err != nil {
		return err
	}
	defer os.Remove(aside)
	path := filepath.Join(dir, claimFile)
	switch err := os.Link(aside, path); {
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%w: %s is there: this folder belongs to another runner; start the phase in a new folder", release.ErrConflict, path)
	case err != nil:
		return fmt.Errorf("writing %s: %w", claimFile, err)
	}
	return syncDir(dir)
}

// readClaim reads runner.json. A missing one gives an error that wraps
// release.ErrNotFound, a malformed one release.ErrInvalid.
func readClaim(dir string) (claim, error) {
	var c claim
	path := filepath.Join(dir, claimFile)
	data, err := readLimited(path, 64<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return c, fmt.Errorf("%w: no runner has taken %s", release.ErrNotFound, dir)
	}
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("%w: %s: %w", release.ErrInvalid, path, err)
	}
	if c.Format < 1 || c.Format > release.ProtocolFormat {
		return c, fmt.Errorf("%w: %s has format %d, this program reads up to %d: use the newer waymark", release.ErrInvalid, path, c.Format, release.ProtocolFormat)
	}
	return c, nil
}

// Find says how far the runner of a folder has come. The process is looked up
// by pid, start time and boot id, so that another process with a used-up pid is
// never taken for it. Errors are those of reading runner.json.
func Find(dir string) (Status, error) {
	c, err := readClaim(dir)
	if errors.Is(err, release.ErrNotFound) {
		return Absent, nil
	}
	if err != nil {
		return "", err
	}
	if c.byService() {
		return Absent, nil
	}
	// First the process, then its last act: the other order could miss a
	// result that is written in between.
	lives := alive(c)
	switch _, err := os.Stat(filepath.Join(dir, resultFile)); {
	case err == nil:
		return Done, nil
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("looking for the runner's result: %w", err)
	case lives:
		return Running, nil
	}
	return Gone, nil
}

// writeAside writes data to a new private file in dir, forces it to the disk
// and returns its path.
func writeAside(dir, name string, data []byte) (path string, err error) {
	f, err := os.CreateTemp(dir, "."+name+"-*")
	if err != nil {
		return "", fmt.Errorf("writing %s: %w", name, err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		os.Remove(f.Name())
		return "", fmt.Errorf("writing %s: %w", name, err)
	}
	return f.Name(), nil
}

// replaceFile puts data under path by rename and forces file and folder to the disk.
func replaceFile(path string, data []byte) error {
	dir, name := filepath.Split(path)
	aside, err := writeAside(dir, name, data)
	if err != nil {
		return err
	}
	if err := os.Rename(aside, path); err != nil {
		os.Remove(aside)
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return syncDir(dir)
}

// syncDir forces a folder's entries to the disk.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("forcing %s to the disk: %w", dir, err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("forcing %s to the disk: %w", dir, err)
	}
	return nil
}

// readLimited reads a whole file of at most limit bytes.
func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%w: %s is larger than %d bytes", release.ErrInvalid, path, limit)
	}
	return data, nil
}
