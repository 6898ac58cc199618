package audit

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/waymark-cd/waymark/release"
)

func newKey(t *testing.T, origin string) (signer, verifier string) {
	t.Helper()
	signer, verifier, err := NewKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	return signer, verifier
}

func TestCheckpointsAreSignedNotes(t *testing.T) {
	signer, verifier := newKey(t, "waymark.example.org/audit")
	head := verify(t, leaves(t, 5)).Head()
	signed, err := Sign(signer, head)
	if err != nil {
		t.Fatal(err)
	}
	if want := "waymark.example.org/audit\n5\n" + head.Root + "\n\n— waymark.example.org/audit "; !strings.HasPrefix(signed, want) {
		t.Errorf("%q, want it to begin with %q", signed, want)
	}
	// Whoever knows C2SP's signed notes reads it.
	v, err := note.NewVerifier(verifier)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open([]byte(signed), note.VerifierList(v)); err != nil {
		t.Error(err)
	}
	_, other := newKey(t, "waymark.example.org/audit")
	c, by, err := OpenCheckpoint(signed, other, verifier+"\n", verifier)
	if err != nil || by != verifier || c.Head != head || c.Origin != "waymark.example.org/audit" {
		t.Errorf("opened %+v by %q, %v", c, by, err)
	}
	derived, origin, err := VerifierOf(signer)
	if err != nil || derived != verifier || origin != c.Origin {
		t.Errorf("the key's other half is %q of %q, %v", derived, origin, err)
	}
	if _, _, err := OpenCheckpoint(signed, other); !errors.Is(err, ErrNotSigned) || !strings.Contains(err.Error(), "waymark.example.org/audit+") {
		t.Errorf("another's key: %v", err)
	}
	for name, changed := range map[string]string{"size": strings.Replace(signed, "\n5\n", "\n4\n", 1),
		"origin": strings.Replace(signed, "waymark", "weymark", 1), "root": strings.Replace(signed, head.Root[:4], "AAAA", 1)} {
		if _, _, err := OpenCheckpoint(changed, verifier); !errors.Is(err, ErrNotSigned) {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

// TestNotesThatAreNoCheckpoints: a key signs nothing but what it is for, and a
// reader believes nothing else.
func TestNotesThatAreNoCheckpoints(t *testing.T) {
	signer, verifier := newKey(t, "log")
	s, err := note.NewSigner(signer)
	if err != nil {
		t.Fatal(err)
	}
	root := verify(t, leaves(t, 1)).Head().Root
	for text, is := range map[string]error{
		"log\n1\n":                               release.ErrInvalid,
		"log\none\n" + root + "\n":               release.ErrInvalid,
		"log\n-1\n" + root + "\n":                release.ErrInvalid,
		"log\n01\n" + root + "\n":                release.ErrInvalid,
		"log\n1\nAAAA\n":                         release.ErrInvalid,
		"other\n1\n" + root + "\n":               ErrNotSigned, // a key for one log says nothing of another
		"log\n1\n" + root + "\nan extension\n\n": nil,
	} {
		signed, err := note.Sign(&note.Note{Text: text}, s)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := OpenCheckpoint(string(signed), verifier); !errors.Is(err, is) {
			t.Errorf("%q: %v, want %v", text, err, is)
		}
	}
	if _, _, err := OpenCheckpoint(strings.Repeat("x", maxCheckpoint+1), verifier); !errors.Is(err, release.ErrInvalid) {
		t.Errorf("a huge one: %v", err)
	}
	if _, _, err := OpenCheckpoint("x", "no key"); !errors.Is(err, release.ErrInvalid) {
		t.Errorf("a verifier that is none: %v", err)
	}
	for _, signer := range []string{"", "PRIVATE+KEY+a", "PRIVATE+KEY+log+00000000+AQ==", verifier} {
		if _, _, err := VerifierOf(signer); !errors.Is(err, release.ErrInvalid) || strings.Contains(err.Error(), "AQ==") {
			t.Errorf("key %q: %v", signer, err)
		}
	}
	for _, origin := range []string{"", "a b", "a+b", "a\nb", "a\x00b", strings.Repeat("a", 201)} {
		if _, _, err := NewKey(origin); !errors.Is(err, release.ErrInvalid) {
			t.Errorf("origin %q: %v", origin, err)
		}
	}
}

func TestTilesHaveOneAddress(t *testing.T) {
	for path, want := range map[string]Tile{
		"0/000":                      {Width: 256},
		"0/007.p/3":                  {Index: 7, Width: 3},
		"1/x001/000":                 {Level: 1, Index: 1000, Width: 256},
		"0/x001/x234/067":            {Index: 1234067, Width: 256},
		"2/x001/x234/067.p/255":      {Level: 2, Index: 1234067, Width: 255},
		"entries/x039/062.p/1":       {Entries: true, Index: 39062, Width: 1},
		"entries/x999/x999/x999/999": {Entries: true, Index: 999999999999, Width: 256},
	} {
		got, err := ParseTile(path)
		if err != nil || got != want || got.Path() != path {
			t.Errorf("%s: %+v, %v; path %s", path, got, err, got.Path())
		}
	}
	for _, path := range []string{"", "0", "0/", "0/0", "0/00", "0/0000", "0/x000/000", "0/001/000", "0/x001/x000", "8/000", "-1/000", "00/000",
		"0/000.p/0", "0/000.p/256", "0/000.p/01", "0/000.p/", "0/000.p/1/2", "entries", "entries/0", "data/000", "0/+01", "0/-01", "0/x1/000",
		"0/x999/x999/x999/x999/x999/x999/x999/999", "0/../000", "0/٠٠٠"} {
		if got, err := ParseTile(path); !errors.Is(err, release.ErrNotFound) {
			t.Errorf("%q is %+v, %v", path, got, err)
		}
	}
}

func FuzzParseTile(f *testing.F) {
	for _, path := range []string{"0/000", "entries/x001/234.p/7", "3/x999/x999/999.p/255"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		tile, err := ParseTile(path)
		if err != nil {
			return
		}
		if tile.Path() != path || tile.Index < 0 || tile.Width < 1 || tile.Width > 256 || tile.First() < 0 {
			t.Errorf("%q is %+v with the path %q", path, tile, tile.Path())
		}
	})
}

func TestTilesHoldWhatTheyShould(t *testing.T) {
	ls := leaves(t, 600)
	read := stored(t, ls)
	for tile, in := range map[Tile]bool{
		{Width: 256}: true, {Index: 1, Width: 256}: true, {Index: 2, Width: 88}: true, {Index: 2, Width: 1}: true,
		{Index: 2, Width: 89}: false, {Index: 2, Width: 256}: false, {Level: 1, Width: 2}: true, {Level: 1, Width: 3}: false,
		{Level: 2, Width: 1}: false, {Entries: true, Index: 2, Width: 88}: true, {Entries: true, Index: 3, Width: 1}: false,
		{Index: 1 << 50, Width: 256}: false,
	} {
		if got := tile.In(600); got != in {
			t.Errorf("%s: in the log %t", tile.Path(), got)
		}
		if !in || tile.Entries {
			continue
		}
		data, err := tile.Hashes(read)
		if err != nil || len(data) != tile.Width*32 {
			t.Errorf("%s has %d bytes, %v", tile.Path(), len(data), err)
		}
	}
	wide, err := Tile{Index: 2, Width: 88}.Hashes(read)
	if err != nil {
		t.Fatal(err)
	}
	part, err := Tile{Index: 2, Width: 7}.Hashes(read)
	if err != nil || !slices.Equal(part, wide[:7*32]) {
		t.Errorf("a narrower tile is no part of the wider one: %v", err)
	}
	bundle, err := Bundle([]Entry{{Leaf: []byte("ab")}, {Leaf: []byte{}}, {Leaf: []byte("c")}})
	if err != nil || string(bundle) != "\x00\x02ab\x00\x00\x00\x01c" {
		t.Errorf("bundle %q, %v", bundle, err)
	}
	if _, err := Bundle([]Entry{{Leaf: make([]byte, 65_536)}}); !errors.Is(err, release.ErrConflict) {
		t.Errorf("an entry that is too long: %v", err)
	}
}
