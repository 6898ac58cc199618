package terraform

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/waymark-cd/waymark/release"
)

// PushState puts a whole state, a file whose path is absolute, where the
// initialised directory keeps its state. The engine does it under the state's
// lock, and refuses one of another lineage or of a lower serial than the state
// that is there, or of the same with another content. It raises the serial.
func (e *Engine) PushState(ctx context.Context, file string) error {
	if !filepath.IsAbs(file) {
		return fmt.Errorf("%w state file %q: it is not an absolute path", release.ErrInvalid, file)
	}
	return e.run(ctx, "state push", []string{"state", "push", "-no-color", e.lockTimeout(), file}, nil, func(r io.Reader) {
		readLines(r, maxLine, func(line []byte, _ bool) { e.log(string(line)) })
	}, nil)
}
