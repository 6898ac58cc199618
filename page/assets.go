package page

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

//go:embed assets
var assetFiles embed.FS

// AssetPrefix is the path beneath which Assets are served.
const AssetPrefix = "/assets/"

// Policy is the Content-Security-Policy of every page: what is not served from
// here is not loaded, and nothing that is written into a page runs.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
	"img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// Assets serves the style sheet and the scripts, under names that hold their
// digest, so that a browser keeps each for good. They tell nothing about any
// installation.
type Assets struct {
	names map[string]string // by file name: the path it is served at
	files map[string][]byte // by that path
}

// NewAssets reads the embedded files.
func NewAssets() (*Assets, error) {
	a := &Assets{names: map[string]string{}, files: map[string][]byte{}}
	entries, err := fs.ReadDir(assetFiles, "assets")
	if err != nil {
		return nil, fmt.Errorf("reading the assets: %w", err)
	}
	for _, e := range entries {
		data, err := assetFiles.ReadFile(path.Join("assets", e.Name()))
		if err != nil {
			return nil, fmt.Errorf("reading the assets: %w", err)
		}
		digest := sha256.Sum256(data)
		at := AssetPrefix + hex.EncodeToString(digest[:6]) + "/" + e.Name()
		a.names[e.Name()], a.files[at] = at, data
	}
	return a, nil
}

// URL is where a file is served; empty for one that does not exist.
func (a *Assets) URL(name string) string { return a.names[name] }

// ServeHTTP answers GET and HEAD beneath AssetPrefix.
func (a *Assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	data, ok := a.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	kind := "text/javascript; charset=utf-8"
	if strings.HasSuffix(r.URL.Path, ".css") {
		kind = "text/css; charset=utf-8"
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(data) // a caller that left cannot be told
}
