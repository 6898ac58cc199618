package main

import (
	"fmt"
	"io/fs"
	"os"

	"github.com/waymark-cd/waymark/audit"
)

// verifyCopy verifies a copy of the log in a folder, without a service.
func (v *verification) verifyCopy(dir string) error {
	if len(v.keys) == 0 {
		return usageErrorf("--copy asks no service: give the keys that may have signed with --key")
	}
	if v.keptNote != "" {
		kept, _, err := audit.OpenCheckpoint(v.keptNote, v.keys...)
		if err != nil {
			return fmt.Errorf("%s: %w: give the key that signed it with --key, beside that of today", v.file, err)
		}
		v.kept = &kept.Head
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return usageErrorf("reading the copy: %w", err)
	}
	defer root.Close()
	var keys []string
	var read, total int64 // bytes
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			keys = append(keys, name)
			total += info.Size()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("reading the copy: %w", err)
	}
	v.head, err = audit.VerifyCopy(keys, func(key string) ([]byte, error) {
		text, err := root.ReadFile(key)
		if read += int64(len(text)); v.seen != nil {
			v.seen(read, total)
		}
		return text, err
	}, v.kept, v.keys...)
	return err
}
