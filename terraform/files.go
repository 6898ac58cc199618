package terraform

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/waymark-cd/waymark/release"
)

// writeFresh writes a file that was not there before, for its owner alone. What
// an earlier engine may have put in its place, such as a link to another file,
// is removed and not followed.
func writeFresh(path string, doc []byte) error {
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(doc)
	return errors.Join(err, f.Close())
}

// checkPlanFile refuses a path that the engine could take for an option or
// resolve against its own directory.
func checkPlanFile(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%w plan file: %q is not an absolute path", release.ErrInvalid, path)
	}
	return nil
}

// Digest is the SHA-256 of a file as "sha256:<hex>".
func Digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("digest: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("digest of %s: %w", path, err)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}
