package runner

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"filippo.io/age"

	"github.com/waymark-cd/waymark/release"
)

// maxPlan bounds a saved plan, and a kept state, in bytes.
const maxPlan = 1 << 30

// encryptPlan writes the plan in clear at from to the file to, encrypted for an
// age recipient. The file appears whole and on the disk, or not at all.
func encryptPlan(from, to, recipient string) error {
	key, err := age.ParseX25519Recipient(recipient)
	if err != nil {
		return fmt.Errorf("encrypting the plan: %w recipient: %w", release.ErrInvalid, err)
	}
	in, err := os.Open(from)
	if err == nil {
		defer in.Close()
		err = encrypt(in, to, key)
	}
	if err != nil {
		return fmt.Errorf("encrypting the plan: %w", err)
	}
	return nil
}

// encrypt writes what it reads to a file, as encryptPlan does.
func encrypt(in io.Reader, to string, key *age.X25519Recipient) error {
	return writePlan(to, func(out io.Writer) error {
		w, err := age.Encrypt(out, key)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, in)
		return errors.Join(err, w.Close())
	})
}

// decryptPlan is the reverse of encryptPlan, with an age identity.
func decryptPlan(from, to, identity string) error {
	if err := decrypt(from, to, identity); err != nil {
		return fmt.Errorf("the saved plan cannot be opened; plan again: %w", err)
	}
	return nil
}

// decrypt writes what a file holds in clear to another.
func decrypt(from, to, identity string) error {
	key, err := identityOf(identity)
	if err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	r, err := age.Decrypt(in, key)
	if err != nil {
		return err
	}
	return writePlan(to, func(out io.Writer) error {
		n, err := io.Copy(out, io.LimitReader(r, maxPlan+1))
		if err == nil && n > maxPlan {
			err = fmt.Errorf("%w: it is larger than %d MiB", release.ErrInvalid, maxPlan>>20)
		}
		return err
	})
}

// identityOf reads the key of a run.
func identityOf(identity string) (*age.X25519Identity, error) {
	key, err := age.ParseX25519Identity(identity)
	if err != nil {
		// Not the parser's words: they could repeat the key.
		return nil, fmt.Errorf("%w identity", release.ErrInvalid)
	}
	return key, nil
}

// writePlan writes a private file beside path, forces it to the disk and
// renames it.
func writePlan(path string, write func(io.Writer) error) error {
	dir, name := filepath.Split(path)
	f, err := os.CreateTemp(dir, "."+name+"-*")
	if err != nil {
		return err
	}
	err = write(f)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	return syncDir(dir)
}

// moveFile moves a regular file, across file systems too.
func moveFile(from, to string) error {
	// The file comes from a folder that tools write to: it must not be a link
	// to something that only the runner may read.
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is no regular file", release.ErrInvalid, from)
	}
	if err := os.Rename(from, to); !errors.Is(err, syscall.EXDEV) {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	return writePlan(to, func(out io.Writer) error {
		_, err := io.Copy(out, in)
		return err
	})
}
