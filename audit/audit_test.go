package audit

import (
	"errors"
	"fmt"
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
	want := `{"at":"2026-01-02T02:04:05.678Z","actor":"ann","action":"run.approved","run_id":"7","details":{"a":"b","z":1}}`
	if string(leaf) != want {
		t.Errorf("leaf\n got %s\nwant %s", leaf, want)
	}
	back, err := Decode(3, leaf)
	if err != nil || back.Index != 3 || back.RunID != 7 || back.Details["a"] != "b" {
		t.Errorf("decoded %+v, %v", back, err)
	}
}

func TestVerifierSeesEveryKindOfTampering(t *testing.T) {
	ls := leaves(t, 21)
	early, err := verify(t, ls[:13]).Head()
	if err != nil {
		t.Fatal(err)
	}
	full, err := verify(t, ls).Head()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []Head{early, full, {Size: 0, Root: "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}} {
		if err := verify(t, ls).Check(h); err != nil {
			t.Errorf("an honest log at %d: %v", h.Size, err)
		}
	}
	changed := append([][]byte{}, ls...)
	changed[5] = []byte(`{"actor":"mallory"}`)
	removed := append(append([][]byte{}, ls[:4]...), ls[5:]...)
	swapped := append([][]byte{}, ls...)
	swapped[1], swapped[2] = swapped[2], swapped[1]
	for name, log := range map[string][][]byte{
		"an entry changed": changed, "an entry removed": removed,
		"two entries swapped": swapped, "the end cut off": ls[:12],
	} {
		if err := verify(t, log).Check(early); !errors.Is(err, ErrTampered) {
			t.Errorf("%s: got %v, want ErrTampered", name, err)
		}
	}
	var v Verifier
	if err := v.Add(1, ls[1]); !errors.Is(err, ErrTampered) {
		t.Errorf("a gap: got %v, want ErrTampered", err)
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
		head, err := verify(t, ls[:n]).Head()
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprint(mth(ls[:n])); head.Root != want {
			t.Fatalf("size %d: root %s, want %s", n, head.Root, want)
		}
	}
}
