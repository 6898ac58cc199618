package waymark_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const modulePath = "github.com/waymark-cd/waymark"

// anything, as what a folder may import, stands for every folder of ours.
const anything = "*"

// mayImport is the table of the design: a folder, and the folders of ours that
// its product code may import. A package beneath a folder belongs to it.
func mayImport() map[string][]string {
	return map[string][]string{
		"tagparse":         {},
		"release":          {"tagparse"},
		"mask":             {},
		"config":           {"release", "tagparse", "mask"},
		"audit":            {"release"},
		"store":            {"release", "audit"},
		"gitrepo":          {"release"},
		"identity":         {"release"},
		"credentials":      {"release"},
		"backends":         {"release"},
		"blobs":            {"release"},
		"terraform":        {"release"},
		"gates":            {"release"},
		"policies":         {"release"},
		"runner":           {"release", "mask", "terraform", "gates", "policies"},
		"reconciler":       {"tagparse", "release", "config", "audit", "store"},
		"notify":           {"release"},
		"triggers":         {"release"},
		"telemetry":        {"release"},
		"api":              {},
		"page":             {"api"},
		"server":           {"api", "release", "store", "audit", "identity", "page"},
		"cmd/waymark":      {anything},
		"internal/testkit": {anything},
		"internal/bench":   {anything},
		"internal/fill":    {"release", "audit", "store"},
		"internal/storm":   {anything},
		"examples":         {},
	}
}

// leaves are the packages that know one outside system each. None may reach
// another, not even through a third: only cmd/waymark brings them together.
func leaves() []string {
	return []string{"gitrepo", "credentials", "backends", "blobs", "terraform", "gates", "policies", "notify", "triggers", "telemetry", "identity"}
}

const (
	testkitFolder = "internal/testkit"
	commandFolder = "cmd/waymark"
	testkitReason = "it is for test files alone"
	whereToDecide = "the table in imports_test.go, the one in docs/development.md, and a decision record in docs/adr"
)

// listed is what go list tells of one package.
type listed struct {
	ImportPath string
	GoFiles    []string // the product's files; none where there are test files alone
	Imports    []string // of the product's files
	Deps       []string // of the product's files, through all others
}

// TestImportsFollowTheDesign holds the table: who may import whom. Test files
// are free to import what they need.
func TestImportsFollowTheDesign(t *testing.T) {
	packages, err := listPackages()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range violations(packages) {
		t.Error(v)
	}
}

// listPackages returns every package of the module.
func listPackages() ([]listed, error) {
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,GoFiles,Imports,Deps", "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, stderr.String())
	}
	var packages []listed
	decoder := json.NewDecoder(bytes.NewReader(out))
	for {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("reading go list: %w", err)
		}
		packages = append(packages, p)
	}
}

// violations returns one sentence for each arrow that the design does not have.
func violations(packages []listed) []string {
	var out []string
	for _, p := range packages {
		if len(p.GoFiles) == 0 {
			continue
		}
		from, known := folder(p.ImportPath)
		if !known {
			out = append(out, fmt.Sprintf("package %s is not in the design: decide what it owns and what it may import, in %s", from, whereToDecide))
			continue
		}
		out = append(out, wrongArrows(from, p)...)
	}
	return out
}

// wrongArrows returns the violations of one package, which belongs to folder from.
func wrongArrows(from string, p listed) []string {
	var out []string
	allowed := mayImport()[from]
	for _, path := range p.Imports {
		to, ours := folder(path)
		if !ours || to == from {
			continue
		}
		if to == testkitFolder {
			out = append(out, fmt.Sprintf("%s imports %s: %s", p.ImportPath, to, testkitReason))
		} else if !slices.Contains(allowed, to) && !slices.Contains(allowed, anything) {
			out = append(out, fmt.Sprintf("%s imports %s: the design lets %s import %s of ours; move the code, hand the value in from %s, or change %s",
				p.ImportPath, to, from, words(allowed), commandFolder, whereToDecide))
		}
	}
	if !slices.Contains(leaves(), from) {
		return out
	}
	for _, path := range p.Deps {
		if to, _ := folder(path); to != from && slices.Contains(leaves(), to) {
			out = append(out, fmt.Sprintf("%s reaches %s: these two know an outside system each and never each other; only %s wires them", p.ImportPath, to, commandFolder))
		}
	}
	return out
}

// folder returns the folder of the table that the package belongs to. Where it
// belongs to none, ok is false and the folder is the path of the package.
func folder(importPath string) (name string, ok bool) {
	path, ours := strings.CutPrefix(importPath, modulePath+"/")
	if !ours {
		return importPath, false
	}
	for name := path; name != ""; {
		if _, ok := mayImport()[name]; ok {
			return name, true
		}
		slash := strings.LastIndexByte(name, '/')
		name = name[:max(0, slash)]
	}
	return path, false
}

func words(folders []string) string {
	if len(folders) == 0 {
		return "nothing"
	}
	return strings.Join(folders, ", ")
}

// TestImportsCheckFindsWrongArrows plays every kind of violation.
func TestImportsCheckFindsWrongArrows(t *testing.T) {
	ours := func(names ...string) (paths []string) {
		for _, n := range names {
			paths = append(paths, modulePath+"/"+n)
		}
		return paths
	}
	pkg := func(name string, imports ...string) listed {
		return listed{ImportPath: modulePath + "/" + name, GoFiles: []string{"x.go"}, Imports: ours(imports...)}
	}
	for name, c := range map[string]struct {
		p    listed
		want string // empty: allowed
	}{
		"allowed":                 {pkg("store", "release", "audit"), ""},
		"own folder":              {pkg("store", "store/sqlite", "release"), ""},
		"package beneath":         {pkg("server/page", "store/sqlite"), ""},
		"all for the command":     {pkg("cmd/waymark", "gates", "runner", "store"), ""},
		"outside":                 {listed{ImportPath: modulePath + "/api", GoFiles: []string{"x.go"}, Imports: []string{"net/http", "example.org/store"}}, ""},
		"root with tests alone":   {listed{ImportPath: modulePath}, ""},
		"downwards":               {pkg("release", "store"), "release imports store: the design lets release import tagparse of ours"},
		"beneath is no way round": {pkg("release/internal/x", "store/sqlite"), "imports store: the design lets release import"},
		"nothing allowed":         {pkg("api", "release"), "lets api import nothing of ours"},
		"nobody imports main":     {pkg("server", "cmd/waymark"), "server imports cmd/waymark"},
		"testkit in the product":  {pkg("cmd/waymark", "internal/testkit"), "imports internal/testkit: it is for test files alone"},
		"unknown folder":          {pkg("helpers"), "package helpers is not in the design"},
		"unknown folder imported": {pkg("config", "helpers"), ""}, // helpers is reported itself
		"code in the root":        {listed{ImportPath: modulePath, GoFiles: []string{"x.go"}}, "package github.com/waymark-cd/waymark is not in the design"},
		"leaf by a detour": {listed{ImportPath: modulePath + "/gates", GoFiles: []string{"x.go"}, Deps: ours("release", "terraform")},
			"gates reaches terraform: these two"},
	} {
		got := violations([]listed{c.p})
		switch {
		case c.want == "" && len(got) != 0:
			t.Errorf("%s: %q, want none", name, got)
		case c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)):
			t.Errorf("%s: %q, want one with %q", name, got, c.want)
		}
	}
}
