package terraform

import (
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// maxSource bounds one file of configuration that is read here, in bytes.
const maxSource = 4 << 20

// maxModules bounds how many local modules are looked at.
const maxModules = 200

// needsPlugins reports whether init has to fetch or link anything: a provider
// that is not built in, or a module from elsewhere. It only decides whether
// the plug-in cache takes part, so whatever it cannot judge counts as a yes.
func needsPlugins(root string) bool {
	pending := []string{root}
	seen := map[string]bool{}
	for len(pending) > 0 {
		dir := filepath.Clean(pending[0])
		pending = pending[1:]
		if seen[dir] {
			continue
		}
		seen[dir] = true
		if len(seen) > maxModules {
			return true
		}
		modules, needs := scanModule(dir)
		if needs {
			return true
		}
		pending = append(pending, modules...)
	}
	return false
}

// scanModule reads one module's files and returns the folders of the local
// modules that it calls. JSON syntax is not judged.
func scanModule(dir string) (modules []string, needs bool) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, true
	}
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasSuffix(name, ".tf.json") && name != "waymark_backend_override.tf.json" || strings.HasSuffix(name, ".tofu.json") {
			return nil, true
		}
		if !strings.HasSuffix(name, ".tf") && !strings.HasSuffix(name, ".tofu") {
			continue
		}
		body := parseSource(filepath.Join(dir, name))
		if body == nil {
			return nil, true
		}
		found, needs := scanBody(dir, body)
		if needs {
			return nil, true
		}
		modules = append(modules, found...)
	}
	return modules, false
}

func parseSource(path string) *hclsyntax.Body {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxSource {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxSource))
	if err != nil {
		return nil
	}
	file, diags := hclparse.NewParser().ParseHCL(src, path)
	if diags.HasErrors() {
		return nil
	}
	body, _ := file.Body.(*hclsyntax.Body)
	return body
}

func scanBody(dir string, body *hclsyntax.Body) (modules []string, needs bool) {
	for _, b := range body.Blocks {
		switch b.Type {
		case "variable", "locals", "output", "moved", "import", "removed":
		case "terraform":
			for _, inner := range b.Body.Blocks {
				needs = needs || inner.Type == "required_providers" && len(inner.Body.Attributes) > 0
			}
		case "resource", "data":
			_, chosen := b.Body.Attributes["provider"]
			needs = needs || chosen || len(b.Labels) == 0 || !strings.HasPrefix(b.Labels[0], "terraform_")
		case "check":
			_, inner := scanBody(dir, b.Body)
			needs = needs || inner
		case "assert":
		case "module":
			source, local := localSource(b.Body)
			needs = needs || !local
			modules = append(modules, filepath.Join(dir, source))
		default:
			needs = true
		}
	}
	return modules, needs
}

// localSource gives a module's source where it is a folder of the repository.
func localSource(body *hclsyntax.Body) (string, bool) {
	attr, ok := body.Attributes["source"]
	if !ok {
		return "", false
	}
	v, diags := attr.Expr.Value(&hcl.EvalContext{})
	if diags.HasErrors() || v.IsNull() || !v.Type().Equals(cty.String) {
		return "", false
	}
	s := v.AsString()
	return s, strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../")
}
