package audit

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

func leaves(t *testing.T, n int) [][]byte {
	t.Helper()
	out := make([][]byte, n)
	for i := range out {
		leaf, err := Entry{At: time.Unix(int64(i), 0), Actor: "ann", Action: "run.queued",
			RunID: int64(i), Details: map[string]any{"b": i, "a": "x"}}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		out[i] = leaf
	}
	return out
}

func verify(t *testing.T, ls [][]byte) *Verifier {
	t.Helper()
	var v Verifier
	for i, l := range ls {
		if err := v.Add(int64(i), l); err != nil {
			t.Fatal(err)
		}
	}
	return &v
}

func TestEncodeIsStableAndDecodes(t *testing.T) {
	e := Entry{At: time.Date(2026, 1, 2, 3, 4, 5, 678900000, time.FixedZone("x", 3600)),
		Actor: "ann", Action: "run.approved", RunID: 7, Details: map[string]any{"z": 1.0, "a": "b"}}
	leaf, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"version":1,"at":"2026-01-02T02:04:05.678Z","actor":"ann","action":"run.approved","run_id":"7","details":{"a":"b","z":1}}`
	if string(leaf) != want {
		t.Errorf("leaf\n got %s\nwant %s", leaf, want)
	}
	back, err := Decode(3, leaf)
	if err != nil || back.Index != 3 || back.RunID != 7 || back.Details["a"] != "b" {
		t.Errorf("decoded %+v, %v", back, err)
	}
}

// expecting verifies a log against heads that were kept.
func expecting(ls [][]byte, heads ...Head) error {
	var v Verifier
	for _, h := range heads {
		if err := v.Expect(h); err != nil {
			return err
		}
	}
	for i, l := range ls {
		if err := v.Add(int64(i), l); err != nil {
			return err
		}
	}
	for _, h := range heads {
		if h.Size > v.Size() {
			return Shorter(v.Size(), h)
		}
	}
	return nil
}

func TestVerifierSeesEveryKindOfTampering(t *testing.T) {
	ls := leaves(t, 21)
	early, full := verify(t, ls[:13]).Head(), verify(t, ls).Head()
	empty := Head{Size: 0, Root: "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}
	if err := expecting(ls, empty, early, full); err != nil {
		t.Errorf("an honest log: %v", err)
	}
	for name, log := range tampered(ls) {
		if err := expecting(log, early); !errors.Is(err, ErrTampered) {
			t.Errorf("%s: got %v, want ErrTampered", name, err)
		}
	}
	var v Verifier
	if err := v.Add(1, ls[1]); !errors.Is(err, ErrTampered) {
		t.Errorf("a gap: got %v, want ErrTampered", err)
	}
	if err := expecting(ls, Head{Size: 0, Root: early.Root}); !errors.Is(err, ErrTampered) {
		t.Errorf("another empty tree: %v", err)
	}
	if err := verify(t, ls).Check(early); err == nil || errors.Is(err, ErrTampered) {
		t.Errorf("a head that was not expected: %v", err)
	}
}

// tampered are logs that are not what they were.
func tampered(ls [][]byte) map[string][][]byte {
	changed := append([][]byte{}, ls...)
	changed[5] = []byte(`{"actor":"mallory"}`)
	swapped := append([][]byte{}, ls...)
	swapped[1], swapped[2] = swapped[2], swapped[1]
	return map[string][][]byte{"an entry changed": changed, "two entries swapped": swapped,
		"an entry removed": append(append([][]byte{}, ls[:4]...), ls[5:]...), "the end cut off": ls[:12]}
}

// stored are the hashes of a log as a table keeps them.
func stored(t *testing.T, ls [][]byte) tlog.HashReaderFunc {
	t.Helper()
	var hashes []tlog.Hash
	read := func(at []int64) (out []tlog.Hash, _ error) {
		for _, x := range at {
			if x >= int64(len(hashes)) {
				return nil, fmt.Errorf("there is no hash %d", x)
			}
			out = append(out, hashes[x])
		}
		return out, nil
	}
	for i, l := range ls {
		fresh, err := Append(int64(i), l, tlog.HashReaderFunc(read))
		if err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, fresh...)
	}
	return read
}

func TestVerifierGoesOnFromAKeptHead(t *testing.T) {
	ls := leaves(t, 70)
	want := verify(t, ls).Head()
	for _, from := range []int{0, 1, 2, 3, 7, 8, 13, 63, 64, 69, 70} {
		kept := verify(t, ls[:from]).Head()
		v, err := Resume(kept, stored(t, ls))
		if err != nil {
			t.Fatalf("from %d: %v", from, err)
		}
		for i, l := range ls[from:] {
			if err := v.Add(int64(from+i), l); err != nil {
				t.Fatal(err)
			}
		}
		if got := v.Head(); got != want {
			t.Errorf("from %d: %+v, want %+v", from, got, want)
		}
	}
	kept := verify(t, ls[:13]).Head()
	for name, log := range tampered(ls) {
		if len(log) > 13 {
			if _, err := Resume(kept, stored(t, log)); !errors.Is(err, ErrTampered) {
				t.Errorf("%s: got %v, want ErrTampered", name, err)
			}
		}
	}
}

// TestHugeEntriesAreCut: none is too long for a bundle, and none is refused,
// because the change that it tells of would be refused with it.
func TestHugeEntriesAreCut(t *testing.T) {
	huge := strings.Repeat("<é", 100_000)
	for name, e := range map[string]Entry{
		"reason":  {Action: "run.failed", Reason: huge},
		"details": {Action: "run.failed", Reason: "short", Details: map[string]any{"x": huge}},
		"all": {Action: "run.failed", Actor: huge, Repository: huge, Target: huge, Tag: huge, ObjectID: huge, Commit: huge,
			Reason: huge, Details: map[string]any{"x": huge}},
	} {
		leaf, err := e.Encode()
		if err != nil || len(leaf) > 65_535 {
			t.Fatalf("%s: %d bytes, %v", name, len(leaf), err)
		}
		back, err := Decode(0, leaf)
		if err != nil || back.Action != "run.failed" || back.Details["omitted"] == nil {
			t.Errorf("%s: %.200s, %v", name, leaf, err)
		}
		if name == "details" && back.Reason != "short" {
			t.Errorf("the reason is %.100q", back.Reason)
		}
	}
}

// TestRootIsRFC6962 holds the tree against an independent recursion of the
// definition in RFC 6962, section 2.1.
func TestRootIsRFC6962(t *testing.T) {
	var mth func(ls [][]byte) tlog.Hash
	mth = func(ls [][]byte) tlog.Hash {
		if len(ls) == 1 {
			return tlog.RecordHash(ls[0])
		}
		k := 1
		for k*2 < len(ls) {
			k *= 2
		}
		return tlog.NodeHash(mth(ls[:k]), mth(ls[k:]))
	}
	ls := leaves(t, 40)
	for n := 1; n <= len(ls); n++ {
		head := verify(t, ls[:n]).Head()
		if want := fmt.Sprint(mth(ls[:n])); head.Root != want {
			t.Fatalf("size %d: root %s, want %s", n, head.Root, want)
		}
	}
}
