package backends

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"

	"github.com/waymark-cd/waymark/release"
)

// maxSource bounds one file of configuration, in bytes.
const maxSource = 4 << 20

// overrideBase begins the name of the file that Prepare writes. No file of a
// repository may begin so: it could stand in the override's way.
const overrideBase = "waymark_backend_override."

const overrideName = overrideBase + "tf.json"

// block is one backend or cloud block of the code.
type block struct {
	kind string // the backend's type; "cloud" for a cloud block
	body hcl.Body
	at   place
}

// place is where something stands, relative to the root module.
type place struct {
	file string
	line int
}

func (p place) String() string { return fmt.Sprintf("%s:%d", p.file, p.line) }

// module is what the root module says about backends.
type module struct {
	blocks []block
	// OpenTofu does not read a .tf file beside a .tofu file of the same name,
	// and Terraform reads no .tofu file.
	tofu, terraform bool // whether each engine sees a backend block
}

func (m module) everyEngineSeesOne() bool { return m.tofu && m.terraform }

// readModule finds every backend and cloud block in the files of the root
// module, those that only one of the engines reads included.
func readModule(dir string) (module, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return module{}, fmt.Errorf("reading the root module: %w", err)
	}
	names := map[string]bool{}
	for _, e := range entries {
		names[e.Name()] = true
	}
	var m module
	for _, e := range entries {
		name := e.Name()
		reserved := strings.HasPrefix(name, overrideBase)
		if !reserved && (!isSource(name) || e.IsDir()) {
			continue
		}
		var blocks []block
		if !reserved || name == overrideName {
			if blocks, err = readFile(dir, name); err != nil {
				return module{}, err
			}
		}
		if reserved && len(blocks) == 0 { // not what an earlier Prepare left
			return module{}, fmt.Errorf("%w: %s: names that begin with %q are Waymark's own: rename the file",
				release.ErrRefused, name, overrideBase)
		}
		m.blocks = append(m.blocks, blocks...)
		if len(blocks) > 0 {
			onlyTofu := strings.HasSuffix(name, ".tofu") || strings.HasSuffix(name, ".tofu.json")
			m.terraform = m.terraform || !onlyTofu
			m.tofu = m.tofu || onlyTofu || !names[tofuTwin(name)]
		}
	}
	return m, nil
}

// isSource reports whether an engine reads a file of this name as code.
func isSource(name string) bool {
	if strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") || strings.HasPrefix(name, "#") && strings.HasSuffix(name, "#") {
		return false
	}
	for _, ext := range []string{".tf", ".tofu", ".tf.json", ".tofu.json"} {
		if strings.HasSuffix(name, ext) {
			return true
		}
	}
	return false
}

// tofuTwin is the file that OpenTofu reads in place of a .tf file.
func tofuTwin(name string) string {
	if base, ok := strings.CutSuffix(name, ".tf.json"); ok {
		return base + ".tofu.json"
	}
	return strings.TrimSuffix(name, ".tf") + ".tofu"
}

// readSource reads a regular file of bounded size: a pipe or an endless device
// behind a link must not hold up the service.
func readSource(dir, name string) ([]byte, error) {
	f, err := openRegular(filepath.Join(dir, name))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", release.ErrRefused, name, err)
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxSource+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if len(src) > maxSource {
		return nil, fmt.Errorf("%w: %s is larger than %d MiB: split it", release.ErrRefused, name, maxSource>>20)
	}
	return src, nil
}

func openRegular(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("not a regular file")
	}
	return os.Open(path)
}

func readFile(dir, name string) ([]block, error) {
	src, err := readSource(dir, name)
	if err != nil {
		return nil, err
	}
	parser := hclparse.NewParser()
	parse := parser.ParseHCL
	if strings.HasSuffix(name, ".json") {
		parse = parser.ParseJSON
	}
	file, diags := parse(src, name)
	if diags.HasErrors() {
		return nil, refuse(diags)
	}
	top, _, diags := file.Body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "terraform"}}})
	if diags.HasErrors() {
		return nil, refuse(diags)
	}
	var out []block
	for _, t := range top.Blocks {
		content, _, diags := t.Body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
			{Type: "backend", LabelNames: []string{"type"}}, {Type: "cloud"}}})
		if diags.HasErrors() {
			return nil, refuse(diags)
		}
		for _, b := range content.Blocks {
			kind := "cloud"
			if b.Type == "backend" {
				kind = b.Labels[0]
			}
			out = append(out, block{kind: kind, body: b.Body, at: placeOf(b.DefRange)})
		}
	}
	return out, nil
}

func placeOf(r hcl.Range) place { return place{r.Filename, r.Start.Line} }

// refuse turns the first problem that the parser found into an error.
func refuse(diags hcl.Diagnostics) error {
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		at := ""
		if d.Subject != nil {
			at = placeOf(*d.Subject).String() + ": "
		}
		return fmt.Errorf("%w: %s%s: %s", release.ErrRefused, at, d.Summary, d.Detail)
	}
	return fmt.Errorf("%w: %w", release.ErrRefused, diags)
}

// override is the content of the override file.
func override(kind string, kept map[string]string) ([]byte, error) {
	if kept == nil {
		kept = map[string]string{}
	}
	doc, err := json.MarshalIndent(map[string]any{
		"terraform": map[string]any{"backend": map[string]any{kind: kept}},
	}, "", "  ")
	return append(doc, '\n'), err
}

// writeOverride adds a backend block to the working copy.
func writeOverride(dir, kind string, kept map[string]string) error {
	doc, err := override(kind, kept)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, overrideName), doc, 0o600)
	}
	if err != nil {
		return fmt.Errorf("adding the backend block to the working copy: %w", err)
	}
	return nil
}
