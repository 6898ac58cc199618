package gates

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

// checkovConfigs are the names that Checkov obeys where it finds them; run as
// this package runs it, it does not look into the repository for them.
func checkovConfigs() []string { return []string{".checkov.yaml", ".checkov.yml"} }

// ownOverride is what Waymark itself writes beside the root module while a gate
// may be running: a backend and nothing else.
const ownOverride = "waymark_backend_override.tf.json"

// checkovUnread lists what the engine would read and Checkov does not, and a
// configuration of the repository that is not obeyed. The warnings are there
// because code moved into such a file escapes the gate unseen.
func checkovUnread(cfg Config) ([]release.Finding, error) {
	frameworks, _ := list("frameworks", cfg.Spec.Config["frameworks"], frameworkPattern)
	unread := []string{".tofu", ".tofu.json"}
	if !slices.Contains(frameworks, "terraform_json") && !slices.Contains(frameworks, "all") {
		unread = append(unread, ".tf.json")
	}
	root, err := os.OpenRoot(cfg.Tree)
	if err != nil {
		return nil, fmt.Errorf("reading the tree: %w", err)
	}
	defer root.Close()
	var out []release.Finding
	err = fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == ".terraform"):
			return fs.SkipDir
		case d.IsDir():
			return nil
		case slices.Contains(checkovConfigs(), p):
			out = append(out, ignoredConfig(p, "a repository cannot configure the gate that judges it; use the gate's settings"))
		case p == path.Join(filepath.ToSlash(cfg.StackPath), ownOverride):
		case hasSuffix(p, unread), strings.HasSuffix(p, ".tf") && passedOver(p):
			out = append(out, unreadFile(p, "checkov"))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the tree: %w", err)
	}
	return out, nil
}

// passedOver reports whether Checkov leaves out the folder of p.
func passedOver(p string) bool {
	parts := strings.Split(p, "/")
	return slices.ContainsFunc(parts[:len(parts)-1], func(dir string) bool {
		return strings.HasPrefix(dir, ".") || dir == "node_modules"
	})
}

func hasSuffix(p string, suffixes []string) bool {
	return slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(p, s) })
}

func unreadFile(p, gate string) release.Finding {
	return release.Finding{Rule: "waymark_unread_file", Severity: release.SeverityWarning, File: p,
		Message: gate + " does not read this file, so nothing in it was judged"}
}

func ignoredConfig(p, why string) release.Finding {
	return release.Finding{Rule: "waymark_config_ignored", Severity: release.SeverityNotice, File: p,
		Message: "this file is not obeyed: " + why}
}
