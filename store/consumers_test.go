package store_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// fillLog writes n entries.
func fillLog(t *testing.T, s *store.Store, n int) {
	t.Helper()
	for i := range n {
		if err := s.Log(t.Context(), audit.Entry{Actor: "ann", Action: "run.queued", Reason: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
}

func bytesOf(t *testing.T, head audit.Head) []byte {
	t.Helper()
	root, err := base64.StdEncoding.DecodeString(head.Root)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func slicesOf(hashes []tlog.Hash) [][]byte {
	out := make([][]byte, len(hashes))
	for i, h := range hashes {
		out[i] = h[:]
	}
	return out
}

// TestProofs holds proofs against another implementation of RFC 6962.
func TestProofs(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		fillLog(t, s, 37)
		all := entries(t, s)
		for _, size := range []int64{1, 2, 7, 8, 36, 37} {
			head, err := s.HeadAt(t.Context(), size)
			if err != nil {
				t.Fatal(err)
			}
			for index := range size {
				leaf, path, of, err := s.InclusionProof(t.Context(), index, size)
				if err != nil || of != head {
					t.Fatalf("entry %d of %d: %+v, %v", index, size, of, err)
				}
				if want := rfc6962.DefaultHasher.HashLeaf(all[index].Leaf); string(want) != string(leaf[:]) {
					t.Errorf("entry %d hashes to %x, not to %x", index, want, leaf)
				}
				if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(index), uint64(size), leaf[:], slicesOf(path), bytesOf(t, head)); err != nil {
					t.Errorf("entry %d of %d: %v", index, size, err)
				}
			}
			for from := range size + 1 {
				path, before, after, err := s.ConsistencyProof(t.Context(), from, size)
				if err != nil || after != head || before.Size != from {
					t.Fatalf("from %d to %d: %+v, %+v, %v", from, size, before, after, err)
				}
				if err := proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(from), uint64(size), slicesOf(path), bytesOf(t, before), bytesOf(t, after)); err != nil {
					t.Errorf("from %d to %d: %v", from, size, err)
				}
			}
		}
		for name, err := range map[string]error{
			"no such size":  errorOf(s.HeadAt(t.Context(), 38)),
			"no such entry": lastOf(s.InclusionProof(t.Context(), 7, 7)),
			"negative":      lastOf(s.InclusionProof(t.Context(), -1, 7)),
			"too long":      lastOf(s.ConsistencyProof(t.Context(), 1, 38)),
		} {
			if !errors.Is(err, release.ErrNotFound) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := lastOf(s.ConsistencyProof(t.Context(), 3, 2)); !errors.Is(err, release.ErrInvalid) {
			t.Errorf("backwards: %v", err)
		}
		if bundle, err := s.Tile(t.Context(), audit.Tile{Entries: true, Width: 37}); err != nil || !strings.Contains(string(bundle), string(all[36].Leaf)) {
			t.Errorf("the bundle has %d bytes, %v", len(bundle), err)
		}
		if err := errorOf(s.Tile(t.Context(), audit.Tile{Width: 38})); !errors.Is(err, release.ErrNotFound) {
			t.Errorf("a tile that is too wide: %v", err)
		}
	})
}

func errorOf[T any](_ T, err error) error                { return err }
func lastOf[A, B, C any](_ A, _ B, _ C, err error) error { return err }

func TestOneKeySigns(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		if _, err := s.SigningKey(t.Context()); !errors.Is(err, release.ErrNotFound) {
			t.Errorf("before there is one: %v", err)
		}
		fresh := func(now store.AuditKey, is bool) (store.AuditKey, error) {
			if is {
				return now, nil
			}
			signer, verifier, err := audit.NewKey("log")
			return store.AuditKey{Verifier: verifier, Signer: signer}, err
		}
		var mu sync.Mutex
		got := map[string]bool{}
		var all sync.WaitGroup
		for range 8 { // processes that start at once
			all.Go(func() {
				k, err := s.KeepSigningKey(t.Context(), fresh, audit.Entry{})
				mu.Lock()
				defer mu.Unlock()
				if got[k.Signer] = true; err != nil || k.Signer == "" {
					t.Errorf("key %+v, %v", k, err)
				}
			})
		}
		all.Wait()
		if len(got) != 1 || len(entries(t, s)) != 0 {
			t.Fatalf("%d keys, entries %v", len(got), actions(t, s))
		}
		first, err := s.SigningKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		use := func(k store.AuditKey) {
			t.Helper()
			other := func(store.AuditKey, bool) (store.AuditKey, error) { return k, nil }
			if _, err := s.KeepSigningKey(t.Context(), other, audit.Entry{Actor: "ann", Reason: "it leaked"}); err != nil {
				t.Fatal(err)
			}
		}
		use(store.AuditKey{Verifier: "given"})
		use(store.AuditKey{Verifier: first.Verifier, Signer: first.Signer}) // and back
		use(store.AuditKey{Verifier: first.Verifier, Signer: first.Signer}) // is no change
		keys, err := s.AuditKeys(t.Context())
		if err != nil || len(keys) != 2 || keys[0].Verifier != first.Verifier || !keys[0].RetiredAt.IsZero() ||
			keys[1].Verifier != "given" || keys[1].RetiredAt.IsZero() || keys[1].Signer != "" {
			t.Errorf("keys %+v, %v", keys, err)
		}
		es := entries(t, s)
		if !slices.Equal(actions(t, s), []string{"audit.key_rotated", "audit.key_rotated"}) || es[0].Details["old"] != first.Verifier ||
			es[0].Details["new"] != "given" || es[0].Actor != "ann" || es[0].Reason != "it leaked" {
			t.Errorf("entries %+v", es)
		}
		refused := errors.New("no")
		if _, err := s.KeepSigningKey(t.Context(), func(store.AuditKey, bool) (store.AuditKey, error) { return store.AuditKey{}, refused }, audit.Entry{}); !errors.Is(err, refused) {
			t.Errorf("got %v", err)
		}
		for _, e := range es {
			if strings.Contains(string(e.Leaf), "PRIVATE") {
				t.Errorf("an entry tells the key: %s", e.Leaf)
			}
		}
	})
}

func TestConsumersKeepTheirPlace(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, url string) {
		fillLog(t, s, 5)
		for name, atEnd := range map[string]bool{"siem": false, "late": true} {
			if err := s.KeepConsumer(t.Context(), name, store.WebhookConsumer, atEnd); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.KeepConsumer(t.Context(), "siem", store.CopyConsumer, false); !errors.Is(err, release.ErrConflict) {
			t.Errorf("another kind of the same name: %v", err)
		}
		get := func(name string) store.Consumer {
			t.Helper()
			c, err := s.Consumer(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		if c := get("late"); c.Position != 5 || c.Lag != 0 || !c.LagSince.IsZero() || !c.Due {
			t.Errorf("at the end: %+v", c)
		}
		if c := get("siem"); c.Position != 0 || c.Lag != 5 || c.LagSince.IsZero() || c.LagAge < 0 || !c.SentAt.IsZero() {
			t.Errorf("at the beginning: %+v", c)
		}
		for range 2 {
			if err := s.ConsumerFailed(t.Context(), "siem", 0, "it answered 500\x00"+strings.Repeat("é", 400), time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		failing := get("siem")
		if failing.Failures != 2 || failing.FailingSince.IsZero() || failing.Due || len(failing.Trouble) > 500 || !strings.HasPrefix(failing.Trouble, "it answered 500é") {
			t.Errorf("failing: %+v", failing)
		}
		s2 := again(t, url) // another process, or the next one
		if c, err := s2.Consumer(t.Context(), "siem"); err != nil || c.Failures != 2 || c.Due || c.RetryAt != failing.RetryAt {
			t.Errorf("after a restart: %+v, %v", c, err)
		}
		if moved, err := s.Consumed(t.Context(), "siem", 0, 1, true); err != nil || !moved {
			t.Errorf("moved %t, %v", moved, err)
		}
		if c := get("siem"); c.Position != 1 || c.Failures != 0 || c.Trouble != "" || !c.Due || c.SentAt.IsZero() || !c.FailingSince.IsZero() {
			t.Errorf("after one: %+v", c)
		}
		// Who does not know where it is moves nothing, and blames nobody.
		if moved, err := s.Consumed(t.Context(), "siem", 0, 4, true); err != nil || moved {
			t.Errorf("moved %t, %v", moved, err)
		}
		if err := s.ConsumerFailed(t.Context(), "siem", 0, "late", time.Hour); err != nil || get("siem").Failures != 0 {
			t.Errorf("a late failure: %+v, %v", get("siem"), err)
		}
		moved, err := s.MoveConsumer(t.Context(), "siem", func(at, size int64) int64 { return at + size - 3 }, audit.Entry{Actor: "ann", Action: "consumer.moved", Reason: "it chokes"})
		if err != nil || moved.Position != 3 || moved.Lag != 3 {
			t.Errorf("moved %+v, %v", moved, err)
		}
		last := entries(t, s)[5]
		if last.Action != "consumer.moved" || last.Actor != "ann" || last.Details["consumer"] != "siem" || last.Details["from"] != 1.0 || last.Details["to"] != 3.0 {
			t.Errorf("entry %s", last.Leaf)
		}
		for to, is := range map[int64]error{-1: release.ErrInvalid, 7: release.ErrInvalid} {
			if _, err := s.MoveConsumer(t.Context(), "siem", func(int64, int64) int64 { return to }, audit.Entry{Action: "consumer.moved"}); !errors.Is(err, is) {
				t.Errorf("to %d: %v", to, err)
			}
		}
		if _, err := s.MoveConsumer(t.Context(), "nobody", func(int64, int64) int64 { return 0 }, audit.Entry{Action: "consumer.moved"}); !errors.Is(err, release.ErrNotFound) {
			t.Errorf("an unknown one: %v", err)
		}
		if all, err := s.Consumers(t.Context()); err != nil || len(all) != 2 || all[0].Name != "late" {
			t.Errorf("all: %+v, %v", all, err)
		}
	})
}
