package audit

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/waymark-cd/waymark/release"
)

// Tiles are those of C2SP's tlog-tiles: 256 hashes of one level, or 256 entries,
// under a path that never changes its content.

const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
	// maxTileLevel is the highest level that a log of 2^63 entries has.
	maxTileLevel = 7
)

// Tile is a place in the tree: Width hashes of level 8 × Level beside each
// other, or as many entries.
type Tile struct {
	Entries bool // a bundle of entries, of level 0
	Level   int
	Index   int64
	Width   int // 256, or fewer for a partial tile
}

// ParseTile reads what comes after "tile/": <L>/<N>[.p/<W>] or
// entries/<N>[.p/<W>]. What is written in any other way than Path does is
// release.ErrNotFound.
func ParseTile(path string) (Tile, error) {
	wrong := fmt.Errorf("%w: %.100q is no tile", release.ErrNotFound, path)
	kind, rest, ok := strings.Cut(path, "/")
	t := Tile{Entries: kind == "entries", Width: tileWidth}
	if !ok {
		return t, wrong
	}
	var err error
	if !t.Entries {
		if t.Level, err = strconv.Atoi(kind); err != nil || t.Level < 0 || t.Level > maxTileLevel {
			return t, wrong
		}
	}
	rest, width, partial := strings.Cut(rest, ".p/")
	if partial {
		if t.Width, err = strconv.Atoi(width); err != nil || t.Width < 1 || t.Width >= tileWidth {
			return t, wrong
		}
	}
	for part := range strings.SplitSeq(rest, "/") {
		n, err := strconv.ParseUint(strings.TrimPrefix(part, "x"), 10, 16)
		if err != nil || n > 999 || t.Index > (math.MaxInt64>>tileHeight)/1000-1 {
			return t, wrong
		}
		t.Index = t.Index*1000 + int64(n)
	}
	if t.Path() != path {
		return t, wrong
	}
	return t, nil
}

// Path is the one way to write the tile, after "tile/".
func (t Tile) Path() string {
	kind := "entries"
	if !t.Entries {
		kind = strconv.Itoa(t.Level)
	}
	name := fmt.Sprintf("%03d", t.Index%1000)
	for n := t.Index / 1000; n > 0; n /= 1000 {
		name = fmt.Sprintf("x%03d/%s", n%1000, name)
	}
	if t.Width < tileWidth {
		name += ".p/" + strconv.Itoa(t.Width)
	}
	return kind + "/" + name
}

// Partial reports whether the tile will be part of a wider one.
func (t Tile) Partial() bool { return t.Width < tileWidth }

// First is the index of the first entry of a bundle.
func (t Tile) First() int64 { return t.Index * tileWidth }

// In reports whether a log of size entries has all of the tile.
func (t Tile) In(size int64) bool {
	end := t.Index*tileWidth + int64(t.Width) // of hashes of the level
	return end <= size>>(tileHeight*t.Level)
}

// Hashes is the content of a tile of hashes.
func (t Tile) Hashes(stored tlog.HashReader) ([]byte, error) {
	data, err := tlog.ReadTileData(tlog.Tile{H: tileHeight, L: t.Level, N: t.Index, W: t.Width}, stored)
	if err != nil {
		return nil, fmt.Errorf("reading tile %s: %w", t.Path(), err)
	}
	return data, nil
}

// Bundle is the content of a bundle of entries: each leaf with its length before
// it, in two bytes.
func Bundle(entries []Entry) ([]byte, error) {
	var out []byte
	for _, e := range entries {
		if len(e.Leaf) > math.MaxUint16 {
			return nil, fmt.Errorf("%w: entry %d has %d bytes, and a bundle takes 65,535: read it by GET audit", release.ErrConflict, e.Index, len(e.Leaf))
		}
		out = binary.BigEndian.AppendUint16(out, uint16(len(e.Leaf)))
		out = append(out, e.Leaf...)
	}
	return out, nil
}

// TilePath is where C2SP's tlog-tiles has a tile of Go's own module tree, below
// "tile/": the trees are the same, the addresses are not.
func TilePath(t tlog.Tile) string {
	return Tile{Level: t.L, Index: t.N, Width: t.W}.Path()
}
