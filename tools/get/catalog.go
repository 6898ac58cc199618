package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// tool is one program that Waymark or its tests run, and where it comes from.
type tool struct {
	Name    string   // the executable's name
	Product string   // what it calls itself when asked for its version
	Dir     string   // the module that pins it, relative to the repository
	Module  string   // the module path whose version is pinned there
	Package string   // the main package to build
	LDFlags string   // VERSION in them stands for the pinned version
	Env     []string // further environment of the build
	About   string   // how long a build takes on two cores, module downloads aside
	OnAsk   bool     // got only where it is named: no target needs it, and it is large

	// Minimum is the oldest version that is used when it is found on PATH. Empty:
	// only the pinned version will do, because a test or a check names it.
	Minimum string
}

// catalog lists every tool, those that take longest to build first, so that
// two builds side by side end as early as they can.
func catalog() []tool {
	return []tool{
		{
			Name: "tofu", Product: "OpenTofu", Dir: "tools",
			Module: "github.com/opentofu/opentofu", Package: "github.com/opentofu/opentofu/cmd/tofu",
			LDFlags: "-X github.com/opentofu/opentofu/version.dev=no",
			About:   "4 to 5 minutes", Minimum: "1.10.0",
		},
		{
			Name: "terraform", Product: "Terraform", Dir: "tools/terraform",
			Module: "github.com/hashicorp/terraform", Package: "github.com/hashicorp/terraform",
			LDFlags: "-X github.com/hashicorp/terraform/version.dev=no",
			About:   "2 to 3 minutes", Minimum: "1.5.0",
		},
		{ // for the tests alone, beside whatever newer one is on PATH: the last under the MPL
			Name: "terraform-1.5", Product: "Terraform", Dir: "tools/terraform",
			Module: "github.com/hashicorp/terraform", Package: "github.com/hashicorp/terraform",
			LDFlags: "-X github.com/hashicorp/terraform/version.dev=no",
			About:   "2 to 3 minutes, a few seconds where terraform was just built",
		},
		{
			Name: "tflint", Product: "TFLint", Dir: "tools/tflint",
			Module: "github.com/terraform-linters/tflint", Package: "github.com/terraform-linters/tflint",
			About: "1 to 2 minutes", Minimum: "0.50.0",
		},
		{ // for who runs the gate trivy, or records its runs anew: the tests replay recorded ones
			Name: "trivy", Dir: "tools/trivy",
			Module: "github.com/aquasecurity/trivy", Package: "github.com/aquasecurity/trivy/cmd/trivy",
			LDFlags: "-X github.com/aquasecurity/trivy/pkg/version/app.ver=VERSION", Env: []string{"GOEXPERIMENT=jsonv2"},
			About: "5 minutes", OnAsk: true,
		},
		{
			Name: "staticcheck", Dir: "tools/check",
			Module: "honnef.co/go/tools", Package: "honnef.co/go/tools/cmd/staticcheck",
			About: "half a minute",
		},
		{
			Name: "govulncheck", Dir: "tools/check",
			Module: "golang.org/x/vuln", Package: "golang.org/x/vuln/cmd/govulncheck",
			About: "half a minute",
		},
		{
			Name: "terraform-provider-time", Dir: "tools/provider-time",
			Module: "github.com/hashicorp/terraform-provider-time", Package: "github.com/hashicorp/terraform-provider-time",
			About: "20 seconds",
		},
	}
}

// find returns the tools with the given names in the catalog's order, or, where
// names is empty, all that are not got on asking alone. An unknown name is an error that lists the known.
func find(tools []tool, names []string) ([]tool, error) {
	if len(names) == 0 {
		return slices.DeleteFunc(slices.Clone(tools), func(t tool) bool { return t.OnAsk }), nil
	}
	wanted := make(map[string]bool, len(names))
	for _, n := range names {
		wanted[n] = true
	}
	var out []tool
	var known []string
	for _, t := range tools {
		known = append(known, t.Name)
		if wanted[t.Name] {
			out = append(out, t)
			delete(wanted, t.Name)
		}
	}
	for _, n := range names {
		if wanted[n] {
			return nil, fmt.Errorf("no tool is called %q; there are %s", n, strings.Join(known, ", "))
		}
	}
	return out, nil
}

// pinnedVersion reads the version of t's module from the go.mod that pins it,
// so that a version stands in one place only. It has no leading v.
func pinnedVersion(root string, t tool) (string, error) {
	name := filepath.Join(root, t.Dir, "go.mod")
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("reading what pins %s: %w", t.Name, err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(strings.TrimPrefix(lines.Text(), "require "))
		if len(fields) >= 2 && fields[0] == t.Module {
			return strings.TrimPrefix(fields[1], "v"), nil
		}
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("reading %s: %w", name, err)
	}
	return "", fmt.Errorf("%s does not require %s", name, t.Module)
}
