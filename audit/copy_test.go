package audit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/waymark-cd/waymark/release"
)

// copied is a log and the place that it is copied to, in memory. The same with a
// database, a folder and S3 is tested with the service.
type copied struct {
	t        *testing.T
	leaves   [][]byte
	files    map[string][]byte
	signer   string
	verifier string
	refuse   string // what ends so cannot be put
}

func newCopied(t *testing.T, n int) *copied {
	c := &copied{t: t, leaves: leaves(t, n), files: map[string][]byte{}}
	c.signer, c.verifier = newKey(t, "log")
	return c
}

func (c *copied) copier() *Copier {
	return NewCopier(CopyConfig{
		Size: func(context.Context) (int64, error) { return int64(len(c.leaves)), nil },
		Read: func(_ context.Context, from int64, limit int) (out []Entry, _ error) {
			for i := from; i < int64(len(c.leaves)) && len(out) < limit; i++ {
				out = append(out, Entry{Index: i, Leaf: c.leaves[i]})
			}
			return out, nil
		},
		HeadAt:    func(_ context.Context, size int64) (Head, error) { return verify(c.t, c.leaves[:size]).Head(), nil },
		Hashes:    func(context.Context) tlog.HashReader { return stored(c.t, c.leaves) },
		Sign:      func(_ context.Context, head Head) (string, error) { return Sign(c.signer, head) },
		Verifiers: func(context.Context) ([]string, error) { return []string{c.verifier}, nil },
		Put: func(_ context.Context, key string, data []byte) error {
			if c.refuse != "" && strings.HasSuffix(key, c.refuse) {
				return fmt.Errorf("%w: the disk is full", release.ErrUnavailable)
			}
			c.files[key] = data
			return nil
		},
		Get: func(_ context.Context, key string) ([]byte, error) { return c.files[key], nil },
		List: func(_ context.Context, folder string) (out []string, _ error) {
			for key := range c.files {
				if strings.HasPrefix(key, folder+"/") {
					out = append(out, key)
				}
			}
			return out, nil
		},
	})
}

func (c *copied) step(k *Copier, flush bool, want int64) {
	c.t.Helper()
	if n, err := k.Step(c.t.Context(), flush); err != nil || n != want {
		c.t.Fatalf("copied %d, %v; want %d", n, err, want)
	}
}

func (c *copied) names() string { return strings.Join(slices.Sorted(maps.Keys(c.files)), " ") }

func TestCopyGrowsWithTheLog(t *testing.T) {
	c := newCopied(t, 5)
	k := c.copier()
	c.step(k, false, 0) // fewer than a file takes wait for others
	c.step(k, true, 5)
	c.step(k, true, 0)
	if want := "000000/000000000000-000000000004.checkpoint 000000/000000000000-000000000004.jsonl"; c.names() != want {
		t.Fatalf("files %s", c.names())
	}
	if lines := string(c.files["000000/000000000000-000000000004.jsonl"]); lines != string(joinLines(c.leaves)) {
		t.Errorf("lines %s", lines)
	}
	c.leaves = leaves(t, 1100)
	k = c.copier() // another process: the place is found by what is there
	c.step(k, false, 1000)
	c.step(k, false, 0)
	c.step(k, true, 95)
	head, err := VerifyCopy(slices.Collect(maps.Keys(c.files)), c.get, nil, c.verifier)
	if want := verify(t, c.leaves).Head(); err != nil || head != want {
		t.Errorf("the copy is %+v, %v; want %+v", head, err, want)
	}
	kept := verify(t, c.leaves[:700]).Head() // in the middle of a file
	if _, err := VerifyCopy(slices.Collect(maps.Keys(c.files)), c.get, &kept, c.verifier); err != nil {
		t.Error(err)
	}
	kept.Root = head.Root
	if _, err := VerifyCopy(slices.Collect(maps.Keys(c.files)), c.get, &kept, c.verifier); !errors.Is(err, ErrTampered) {
		t.Errorf("against another checkpoint: %v", err)
	}
}

func (c *copied) get(key string) ([]byte, error) { return c.files[key], nil }

func joinLines(ls [][]byte) (out []byte) {
	for _, l := range ls {
		out = append(append(out, l...), '\n')
	}
	return out
}

// TestCopyGoesOnAfterAFailure: a file without its checkpoint does not count, and
// what two processes wrote at once is read once.
func TestCopyGoesOnAfterAFailure(t *testing.T) {
	c := newCopied(t, 5)
	k := c.copier()
	c.refuse = noteSuffix
	if _, err := k.Step(t.Context(), true); !errors.Is(err, release.ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	c.refuse = ""
	c.leaves = leaves(t, 7)
	c.step(k, true, 7)
	slow := newCopied(t, 4) // it still believes that it is its turn
	slow.signer, slow.files = c.signer, c.files
	slow.step(&Copier{cfg: slow.copier().cfg, knows: true, has: (&Verifier{}).Head()}, true, 4)
	c.leaves = leaves(t, 9)
	c.step(c.copier(), true, 2)
	if head, err := VerifyCopy(slices.Collect(maps.Keys(c.files)), c.get, nil, c.verifier); err != nil || head != verify(t, c.leaves).Head() {
		t.Errorf("%+v, %v in %s", head, err, c.names())
	}
}

func TestCopySeesATamperedLog(t *testing.T) {
	for name, change := range map[string]func(c *copied){
		"rewritten":  func(c *copied) { c.leaves[3] = []byte(`{"actor":"mallory"}`) },
		"shortened":  func(c *copied) { c.leaves = c.leaves[:4] },
		"forked":     func(c *copied) { c.leaves = append(slices.Clone(c.leaves[:4]), leaves(t, 30)[20:]...) },
		"other key":  func(c *copied) { _, c.verifier = newKey(t, "log") },
		"other copy": func(c *copied) { c.files["000000/000000000000-000000000009.checkpoint"] = []byte("x") },
	} {
		for _, restarted := range []bool{false, true} {
			c := newCopied(t, 10)
			k := c.copier()
			c.step(k, true, 10)
			change(c)
			if restarted {
				k = c.copier()
			} else if strings.HasPrefix(name, "other") {
				continue
			}
			before := c.names()
			c.leaves = append(c.leaves, []byte("one more"))
			if _, err := k.Step(t.Context(), true); err == nil || !errors.Is(err, ErrTampered) && !errors.Is(err, ErrNotSigned) {
				t.Errorf("%s, restarted %t: %v", name, restarted, err)
			}
			if c.names() != before {
				t.Errorf("%s: the copy went on: %s", name, c.names())
			}
		}
	}
	// A leaf that was edited, under hashes that were not.
	c := newCopied(t, 10)
	honest := stored(t, c.leaves)
	heads := map[int64]Head{0: verify(t, nil).Head(), 10: verify(t, c.leaves).Head()}
	cfg := c.copier().cfg
	cfg.HeadAt = func(_ context.Context, size int64) (Head, error) { return heads[size], nil }
	cfg.Hashes = func(context.Context) tlog.HashReader { return honest }
	c.leaves[7] = []byte(`{"actor":"mallory"}`)
	if _, err := NewCopier(cfg).Step(t.Context(), true); !errors.Is(err, ErrTampered) || len(c.files) != 0 {
		t.Errorf("an edited leaf: %v, files %s", err, c.names())
	}
}

func TestVerifyCopySeesATamperedCopy(t *testing.T) {
	for name, change := range map[string]func(files map[string][]byte){
		"edited": func(f map[string][]byte) {
			f["000000/000000000005-000000000009.jsonl"] = []byte(strings.Replace(string(f["000000/000000000005-000000000009.jsonl"]), "ann", "bob", 1))
		},
		"a line less": func(f map[string][]byte) {
			f["000000/000000000005-000000000009.jsonl"] = f["000000/000000000005-000000000009.jsonl"][100:]
		},
		"a file less": func(f map[string][]byte) { delete(f, "000000/000000000000-000000000004.jsonl") },
		"another's checkpoint": func(f map[string][]byte) {
			f["000000/000000000005-000000000009.checkpoint"] = f["000000/000000000000-000000000004.checkpoint"]
		},
		"no checkpoint": func(f map[string][]byte) { f["000000/000000000005-000000000009.checkpoint"] = nil },
	} {
		c := newCopied(t, 5)
		k := c.copier()
		c.step(k, true, 5)
		c.leaves = leaves(t, 10)
		c.step(k, true, 5)
		change(c.files)
		if _, err := VerifyCopy(slices.Collect(maps.Keys(c.files)), c.get, nil, c.verifier); !errors.Is(err, ErrTampered) && !errors.Is(err, ErrNotSigned) {
			// A shorter head than the tree has is no proof of anything, and no agreement.
			if name != "another's checkpoint" || err == nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if got := Segments([]string{"000000/000000000000-000000000004.checkpoint", "x/000000000000-000000000004.jsonl", "000000/5-9.checkpoint", "000000/5-9.jsonl",
		"000000/000000000009-000000000005.checkpoint", "000000/000000000009-000000000005.jsonl", "README"}); len(got) != 0 {
		t.Errorf("segments %v", got)
	}
}
