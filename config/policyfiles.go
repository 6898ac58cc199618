package config

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

// Bounds on what is read of policy folders.
const (
	maxPolicyFiles = 500
	maxPolicyFile  = 1 << 20
	maxPolicyBytes = 4 << 20
)

// readPolicies reads the rules and data of every policy folder. Tests, which
// `waymark policy test` runs, are no part of what a run is judged by.
func (d *decoder) readPolicies(cfg *Config) {
	at := d.at("policy", "folders")
	for _, folder := range cfg.Policy.Folders {
		files, err := ReadPolicyFolder(folder, d.named(folder), false)
		if err != nil {
			d.report(at, fmt.Sprintf("policy folder %q cannot be read", folder), err.Error())
			continue
		}
		if len(files) == 0 {
			d.report(at, fmt.Sprintf("policy folder %q holds no rules", folder), "put .rego files there, or take it out")
		}
		cfg.Policy.Files = append(cfg.Policy.Files, files...)
	}
	total := 0
	for _, f := range cfg.Policy.Files {
		total += len(f.Text)
	}
	if len(cfg.Policy.Files) > maxPolicyFiles || total > maxPolicyBytes {
		d.report(at, fmt.Sprintf("the policy folders hold more than %d files or %d MiB", maxPolicyFiles, maxPolicyBytes>>20), "take out what is no rule and no data of one")
	}
}

// named is a folder as people find it: from the configuration's own, where it is
// inside.
func (d *decoder) named(folder string) string {
	if rel, err := filepath.Rel(d.dir, folder); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return folder
}

// ReadPolicyFolder reads the Rego and the data beneath a folder, in the order of
// their paths. name begins the names of the files in messages; tests are files
// that end in _test.rego. Hidden files and folders are left out.
func ReadPolicyFolder(folder, name string, tests bool) ([]release.PolicyFile, error) {
	var files []release.PolicyFile
	err := filepath.WalkDir(folder+string(filepath.Separator), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		switch {
		case rel != "." && strings.HasPrefix(entry.Name(), "."):
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case entry.IsDir(), !isPolicyFile(rel), !tests && strings.HasSuffix(rel, "_test.rego"):
			return nil
		case len(files) == maxPolicyFiles:
			return fmt.Errorf("it holds more than %d files", maxPolicyFiles)
		}
		text, err := readPolicyFile(path)
		if err != nil || text == nil {
			return err
		}
		files = append(files, release.PolicyFile{Name: filepath.ToSlash(filepath.Join(name, rel)), Path: filepath.ToSlash(rel), Text: string(text)})
		return nil
	})
	slices.SortFunc(files, func(a, b release.PolicyFile) int { return strings.Compare(a.Path, b.Path) })
	return files, err
}

func isPolicyFile(name string) bool {
	return slices.Contains([]string{".rego", ".json", ".yaml", ".yml"}, filepath.Ext(name))
}

// readPolicyFile reads a regular file, also through a link; nil for anything else.
func readPolicyFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPolicyFile+1))
	if err == nil && len(text) > maxPolicyFile {
		err = fmt.Errorf("%s is larger than %d MiB", path, maxPolicyFile>>20)
	}
	if text == nil {
		text = []byte{}
	}
	return text, err
}

// policyMark begins the part of a kept configuration's text that holds the files
// of its policy folders: a run is judged by them as they were when it was
// admitted, on every instance.
const policyMark = "\n# policy files: "

// withPolicies is a configuration's text with the files of its policy folders.
func withPolicies(text string, policy Policy) string {
	if len(policy.Folders) == 0 {
		return text
	}
	files, err := json.Marshal(policy.Files)
	if err != nil {
		panic(fmt.Sprintf("config: encoding policy files: %v", err)) // strings always encode
	}
	return text + policyMark + base64.StdEncoding.EncodeToString(files) + "\n"
}

// splitPolicies takes a text of withPolicies apart; found is false where there
// are no files in it.
func splitPolicies(kept string) (text string, files []release.PolicyFile, found bool, err error) {
	i := strings.LastIndex(kept, policyMark)
	if i < 0 {
		return kept, nil, false, nil
	}
	encoded, ends := strings.CutSuffix(kept[i+len(policyMark):], "\n")
	if !ends || strings.Contains(encoded, "\n") {
		return kept, nil, false, nil
	}
	plain, err := base64.StdEncoding.DecodeString(encoded)
	if err == nil {
		err = json.Unmarshal(plain, &files)
	}
	if err != nil {
		return "", nil, false, fmt.Errorf("%w kept configuration: its policy files cannot be read: %w", release.ErrInvalid, err)
	}
	return kept[:i], files, true, nil
}
