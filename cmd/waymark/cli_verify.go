package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/audit"
)

// verification is one run of `waymark audit verify`.
type verification struct {
	file, save  string
	keys        []string // that must have signed; none: those that the service names
	update, all bool
	seen        func(done, total int64) // is told how far it is; nil: nobody asks

	kept     *audit.Head // of the file; nil for none
	keptNote string      // signed; empty for a file from before there were signatures

	head audit.Head // what was verified
	note string
	by   string // the key that signed it
	from int64  // the first entry that was read
}

// readKept reads the kept checkpoint: a signed note, or the line of JSON that
// --save wrote before there were signatures.
func (v *verification) readKept() error {
	if v.file == "" {
		return nil
	}
	text, err := os.ReadFile(v.file)
	if v.update && errors.Is(err, fs.ErrNotExist) {
		return nil // the first time
	}
	if err != nil {
		return usageErrorf("reading the checkpoint: %w; --update makes one", err)
	}
	var head audit.Head
	if json.Unmarshal(text, &head) == nil && head.Root != "" {
		v.kept = &head
		return nil
	}
	v.keptNote = string(text)
	return nil
}

// run verifies the log that the service gives.
func (v *verification) run(ctx context.Context, c *api.Client) error {
	keys := v.keys
	if len(keys) == 0 {
		list, err := c.AuditKeys(ctx)
		if err != nil {
			return err
		}
		for _, k := range list.Keys {
			keys = append(keys, k.Verifier)
		}
	}
	if v.keptNote != "" {
		kept, _, err := audit.OpenCheckpoint(v.keptNote, keys...)
		if err != nil {
			return fmt.Errorf("%s: %w: give the key that signed it with --key, beside that of today", v.file, err)
		}
		v.kept = &kept.Head
	}
	now, err := c.AuditCheckpoint(ctx)
	if err != nil {
		return err
	}
	signed, by, err := audit.OpenCheckpoint(now.Note, keys...)
	if err != nil {
		return fmt.Errorf("the service's checkpoint: %w", err)
	}
	v.note, v.by, v.head = now.Note, by, signed.Head
	if err := v.recompute(ctx, c); err != nil {
		return err
	}
	return v.keep()
}

// recompute reads entries and compares what they hash to with both checkpoints.
func (v *verification) recompute(ctx context.Context, c *api.Client) error {
	tree, err := v.begin(ctx, c)
	if err != nil {
		return v.dispute(err)
	}
	v.from = tree.Size()
	for tree.Size() < v.head.Size {
		if v.seen != nil {
			v.seen(tree.Size(), v.head.Size)
		}
		page, err := c.Audit(ctx, tree.Size(), auditPage)
		if err != nil {
			return err
		}
		if len(page.Entries) == 0 {
			return fmt.Errorf("%w: its checkpoint is about %d entries, and it gives only %d", audit.ErrTampered, v.head.Size, tree.Size())
		}
		for _, e := range page.Entries {
			if tree.Size() == v.head.Size {
				break // it has grown meanwhile
			}
			if err := tree.Add(e.Index, []byte(e.Leaf)); err != nil {
				return v.dispute(err)
			}
		}
	}
	return v.dispute(tree.Check(v.head))
}

// begin gives the tree that entries are added to: the empty one, or that of the
// kept checkpoint, whose hashes the service gives and the kept root proves.
func (v *verification) begin(ctx context.Context, c *api.Client) (*audit.Verifier, error) {
	tree := &audit.Verifier{}
	switch {
	case v.kept == nil:
		return tree, nil
	case v.kept.Size > v.head.Size:
		return nil, audit.Shorter(v.head.Size, *v.kept)
	case v.all:
		return tree, tree.Expect(*v.kept)
	}
	return audit.Resume(*v.kept, tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			tile := tlog.TileForIndex(8, index)
			data, err := c.AuditTile(ctx, audit.TilePath(tile))
			if err == nil {
				out[i], err = tlog.HashFromTile(tile, data, index)
			}
			if err != nil {
				return nil, err
			}
		}
		return out, nil
	}))
}

// dispute keeps the service's checkpoint beside one that it contradicts: both
// are signed, and together they prove that the log was not only added to.
func (v *verification) dispute(err error) error {
	if !errors.Is(err, audit.ErrTampered) || v.keptNote == "" {
		return err
	}
	beside := v.file + ".disputed"
	if failed := writeFile(beside, v.note); failed != nil {
		return errors.Join(err, failed)
	}
	return fmt.Errorf("%w\nkeep %s and %s: each is signed by the log's own key", err, v.file, beside)
}

// keep writes the verified checkpoint where it was asked for.
func (v *verification) keep() error {
	files := []string{v.save}
	if v.update {
		files = append(files, v.file)
	}
	for _, file := range files {
		if file == "" {
			continue
		}
		if err := writeFile(file, v.note); err != nil {
			return fmt.Errorf("keeping the checkpoint: %w", err)
		}
	}
	return nil
}

// writeFile puts a text in a file's place, whole or not at all.
func writeFile(file, text string) error {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".unfinished-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}
