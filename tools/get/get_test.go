package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// pinnedTool is a tool that builds in a moment: the one that newRoot pins.
func pinnedTool(minimum string) tool {
	return tool{
		Name: "tofu", Product: "OpenTofu", Dir: "tools", Module: "example.org/tofu",
		Package: "example.org/tofu", About: "a moment", Minimum: minimum,
	}
}

// newRoot makes a repository whose tools module pins example.org/tofu, the
// source of which lies beside it.
func newRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	write(t, filepath.Join(root, "tools", "go.mod"), "module example.org/tools\n\ngo 1.26.0\n\n"+
		"require example.org/tofu v1.12.6\n\nreplace example.org/tofu => ./tofu\n", 0o644)
	write(t, filepath.Join(root, "tools", "tofu", "go.mod"), "module example.org/tofu\n\ngo 1.26.0\n", 0o644)
	write(t, filepath.Join(root, "tools", "tofu", "main.go"), "package main\n\nfunc main() { println(\"OpenTofu v1.12.6\") }\n", 0o644)
	return root
}

func write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// onPath puts a shell script called name into a folder and returns the folder.
func onPath(t *testing.T, name, script string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, name), "#!/bin/sh\n"+script+"\n", 0o755)
	return dir
}

func get(t *testing.T, root, path string, tl tool, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := run(context.Background(), append([]string{"-root", root}, args...), path, []tool{tl}, &out)
	return out.String(), err
}

func TestUsableToolOnPathIsLinked(t *testing.T) {
	root := newRoot(t)
	dir := onPath(t, "tofu", `[ -z "$TF_LOG" ] && [ "$TF_CLI_CONFIG_FILE" = /dev/null ] && echo "OpenTofu v1.11.0"`)
	t.Setenv("TF_CLI_CONFIG_FILE", "/nowhere/terraform.rc")
	t.Setenv("TF_LOG", "trace")
	out, err := get(t, root, dir, pinnedTool("1.10.0"))
	if err != nil {
		t.Fatalf("get: %v\n%s", err, out)
	}
	link, err := os.Readlink(filepath.Join(root, ".tools", "bin", "tofu"))
	if err != nil || link != filepath.Join(dir, "tofu") {
		t.Errorf("link = %q, %v, want the tool on PATH", link, err)
	}
	if !strings.Contains(out, "1.11.0") || !strings.Contains(out, "found on PATH") || strings.Contains(out, "building") {
		t.Errorf("output does not say what is used:\n%s", out)
	}
	// The folder of the links is on PATH in make demo: it must not count as a place to find tools.
	out, err = get(t, root, filepath.Join(root, ".tools", "bin")+":"+dir, pinnedTool("1.10.0"))
	if link2, _ := os.Readlink(filepath.Join(root, ".tools", "bin", "tofu")); err != nil || link2 != link {
		t.Errorf("with the links on PATH: link = %q, %v\n%s", link2, err, out)
	}
}

func TestUnusableToolOnPathIsBuiltAndSaysWhy(t *testing.T) {
	for name, c := range map[string]struct{ script, want string }{
		"too old":         {`echo "OpenTofu v1.9.4"`, "version 1.9.4 is older than 1.10.0"},
		"a pre-release":   {`echo "OpenTofu v1.10.0-rc1"`, "version 1.10.0-rc1 is older than 1.10.0"},
		"broken":          {`echo "cannot load library" >&2; exit 127`, "exit status 127: cannot load library"},
		"another product": {`echo "Terraform v1.11.4"`, "it is Terraform 1.11.4, not OpenTofu"},
		"no version":      {`echo "hello"`, `no version that can be read: "hello"`},
		"needs a home":    {`[ -e "$HOME/.versions" ] || { echo "no version set" >&2; exit 1; }`, "no version set"},
	} {
		t.Run(name, func(t *testing.T) {
			root := newRoot(t)
			out, err := get(t, root, onPath(t, "tofu", c.script)+":"+os.Getenv("PATH"), pinnedTool("1.10.0"))
			if err != nil {
				t.Fatalf("get: %v\n%s", err, out)
			}
			if !strings.Contains(out, "is not used: ") || !strings.Contains(out, c.want) {
				t.Errorf("output does not say why, want %q:\n%s", c.want, out)
			}
			if info, err := os.Lstat(filepath.Join(root, ".tools", "bin", "tofu")); err != nil || !info.Mode().IsRegular() {
				t.Errorf("the pinned version was not built: %v, %v", info, err)
			}
		})
	}
}

func TestBuildsOnceAndAgainWhenThePinMoves(t *testing.T) {
	root, tl := newRoot(t), pinnedTool("1.10.0")
	steps := []struct {
		name   string
		change func()
		built  bool
	}{
		{"nothing there", func() {}, true},
		{"built already", func() {}, false},
		{"sums changed", func() { write(t, filepath.Join(root, "tools", "go.sum"), "\n", 0o644) }, true},
		{"executable lost", func() { os.Remove(filepath.Join(root, ".tools", "bin", "tofu")) }, true},
		{"other flags", func() { tl.LDFlags = "-X main.x=y" }, true},
	}
	for _, s := range steps {
		s.change()
		out, err := get(t, root, t.TempDir(), tl)
		if err != nil {
			t.Fatalf("%s: %v\n%s", s.name, err, out)
		}
		if built := strings.Contains(out, "tools: built tofu 1.12.6 in "); built != s.built {
			t.Errorf("%s: built = %v, want %v\n%s", s.name, built, s.built, out)
		}
	}
}

func TestPinnedBuildIsKeptAndWanted(t *testing.T) {
	dir := onPath(t, "tofu", `echo "OpenTofu v1.11.0"`)
	t.Run("a fresh build wins over PATH", func(t *testing.T) {
		root := newRoot(t)
		if out, err := get(t, root, dir, pinnedTool("1.10.0"), "-pinned"); err != nil || !strings.Contains(out, "built tofu") {
			t.Fatalf("-pinned did not build: %v\n%s", err, out)
		}
		if out, err := get(t, root, dir, pinnedTool("1.10.0")); err != nil || !strings.Contains(out, "as pinned") {
			t.Errorf("the build was given up for PATH: %v\n%s", err, out)
		}
	})
	t.Run("a tool without a minimum never comes from PATH", func(t *testing.T) {
		if out, err := get(t, newRoot(t), dir, pinnedTool("")); err != nil || !strings.Contains(out, "built tofu") {
			t.Errorf("not built: %v\n%s", err, out)
		}
	})
}

func TestFailedBuildKeepsTheOldAndNamesTheModule(t *testing.T) {
	root := newRoot(t)
	if out, err := get(t, root, "", pinnedTool("")); err != nil {
		t.Fatalf("get: %v\n%s", err, out)
	}
	write(t, filepath.Join(root, "tools", "tofu", "main.go"), "package main\n\nfunc main() { undefined() }\n", 0o644)
	write(t, filepath.Join(root, "tools", "go.sum"), "\n", 0o644)
	_, err := get(t, root, "", pinnedTool(""))
	if err == nil || !strings.Contains(err.Error(), "building tofu 1.12.6 from the module in tools") || !strings.Contains(err.Error(), "undefined") {
		t.Errorf("error = %v, want the module and the compiler's words", err)
	}
	entries, err := os.ReadDir(filepath.Join(root, ".tools", "bin"))
	if err != nil || len(entries) != 1 || entries[0].Name() != "tofu" {
		t.Errorf("left in bin: %v, %v, want the old tofu alone", entries, err)
	}
}

func TestSomeAreGotOnAskingAlone(t *testing.T) {
	has := func(names ...string) bool {
		tools, err := find(catalog(), names)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(tools, func(t tool) bool { return t.Name == "trivy" })
	}
	if has() || !has("trivy") {
		t.Errorf("trivy among all: %v, on asking: %v", has(), has("trivy"))
	}
}

func TestBuildHasItsVersionAndEnvironment(t *testing.T) {
	root, tl := newRoot(t), pinnedTool("")
	write(t, filepath.Join(root, "tools", "tofu", "main.go"), "package main\n\nvar v = \"none\"\n\nfunc main() { println(v) }\n", 0o644)
	tl.LDFlags, tl.Env = "-X main.v=VERSION", []string{"GOEXPERIMENT=unheardof"}
	if _, err := get(t, root, "", tl); err == nil || !strings.Contains(err.Error(), "unheardof") {
		t.Errorf("a build with an experiment that there is not: %v", err)
	}
	tl.Env = nil
	if out, err := get(t, root, "", tl); err != nil {
		t.Fatalf("get: %v\n%s", err, out)
	}
	said, err := exec.Command(filepath.Join(root, ".tools", "bin", "tofu")).CombinedOutput()
	if err != nil || strings.TrimSpace(string(said)) != "1.12.6" {
		t.Errorf("it says %q, %v", said, err)
	}
}

func TestOlder(t *testing.T) {
	ordered := []string{"0.9.12", "0.50.0", "1.5.0-beta1", "1.5.0", "1.5.7", "1.10.0", "1.10.1", "2.0.0"}
	for i, a := range ordered {
		for j, b := range ordered {
			if older(a, b) != (i < j) {
				t.Errorf("older(%s, %s) = %v", a, b, older(a, b))
			}
		}
	}
}

// TestCatalogIsPinned holds the catalogue against the real modules beside this one.
func TestCatalogIsPinned(t *testing.T) {
	root := filepath.Join("..", "..")
	for _, tl := range catalog() {
		version, err := pinnedVersion(root, tl)
		if err != nil {
			t.Errorf("%s: %v", tl.Name, err)
			continue
		}
		if tl.Minimum != "" && older(version, tl.Minimum) {
			t.Errorf("%s: the pinned version %s is older than what is asked of PATH, %s", tl.Name, version, tl.Minimum)
		}
		mod, err := os.ReadFile(filepath.Join(root, tl.Dir, "go.mod"))
		if err != nil || !strings.Contains(string(mod), tl.Package) {
			t.Errorf("%s: %s/go.mod does not name %s as a tool, so tidy would drop it (%v)", tl.Name, tl.Dir, tl.Package, err)
		}
	}
	if _, err := find(catalog(), []string{"tofu", "nmap"}); err == nil || !strings.Contains(fmt.Sprint(err), `"nmap"`) {
		t.Errorf("an unknown name: error = %v", err)
	}
}
