package testkit

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// ProviderTimeVersion is the version of the one real provider that tests use,
// hashicorp/time, as tools/provider-time pins it and Mirror offers it.
const ProviderTimeVersion = "0.14.2"

// Tool returns the absolute path of a program that make tools provides: tofu,
// terraform, tflint or terraform-provider-time. It looks into .tools/bin of
// the module that the test's working directory belongs to, then at PATH. An
// entry of .tools/bin that is a link to a program of the system gives that
// program's own path.
//
// Where the program is missing the test fails and names make tools; with
// -short it is skipped.
func Tool(t testing.TB, name string) string {
	t.Helper()
	if testing.Short() {
		t.Skipf("needs %s; left out with -short", name)
	}
	root, err := moduleRoot()
	if err != nil {
		t.Fatalf("looking for %s: %v", name, err)
	}
	file, err := findTool(root, os.Getenv("PATH"), name)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// Mirror returns a folder laid out as a filesystem mirror of providers, with
// hashicorp/time in version ProviderTimeVersion for this machine, under the
// host names of both registries. It is a copy that the test may spoil, and is
// removed when the test ends. Fails and skips as Tool does.
func Mirror(t testing.TB) string {
	t.Helper()
	provider := Tool(t, "terraform-provider-time")
	mirror := t.TempDir()
	var first string
	for _, host := range []string{"registry.opentofu.org", "registry.terraform.io"} {
		dir := filepath.Join(mirror, host, "hashicorp", "time", ProviderTimeVersion, runtime.GOOS+"_"+runtime.GOARCH)
		file := filepath.Join(dir, "terraform-provider-time_v"+ProviderTimeVersion)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if first == "" {
			first, err = file, copyExecutable(provider, file)
		} else {
			err = os.Link(first, file)
		}
		if err != nil {
			t.Fatalf("laying out the mirror: %v", err)
		}
	}
	return mirror
}

// findTool looks for name in .tools/bin beneath root, then in the folders of path.
func findTool(root, path, name string) (string, error) {
	file := filepath.Join(root, ".tools", "bin", name)
	if isExecutable(file) {
		if target, err := os.Readlink(file); err == nil && filepath.IsAbs(target) {
			return target, nil
		}
		return file, nil
	}
	for _, dir := range filepath.SplitList(path) {
		if file := filepath.Join(dir, name); filepath.IsAbs(file) && isExecutable(file) {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s is neither in .tools/bin nor on PATH: run `make tools`, or leave these tests out with `make test-short`", name)
}

// isExecutable reports whether file, or what it links to, is a regular file
// that somebody may execute.
func isExecutable(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// moduleRoot returns the folder of the module that the working directory lies
// in. Go runs tests in the folder of their package.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if ok, err := isModule(filepath.Join(dir, "go.mod")); err != nil || ok {
			return dir, err
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("the working directory lies outside the module; call this before a test changes it")
		}
	}
}

// isModule reports whether the go.mod called name is that of Waymark itself.
func isModule(name string) (bool, error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if module, ok := strings.CutPrefix(lines.Text(), "module "); ok {
			return strings.TrimSpace(module) == "github.com/waymark-cd/waymark", nil
		}
	}
	return false, lines.Err()
}

// copyExecutable copies the file from to the new file to.
func copyExecutable(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}
