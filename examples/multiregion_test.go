package examples_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/waymark-cd/waymark/backends"
	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/gates"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/policies"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/tagparse"
)

const multiRegion = "aws-multi-region"

func loadMultiRegion(t *testing.T) *config.Config {
	t.Helper()
	cfg, err := config.Load(filepath.Join(multiRegion, "waymark.hcl"), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// folderFiles reads a folder as if it were a commit.
type folderFiles string

func (f folderFiles) ReadFile(path string) ([]byte, error) {
	return os.ReadFile(filepath.Join(string(f), filepath.FromSlash(path)))
}

// Each tag of the example means one state, one account and one half of the code,
// for every environment, scope and team that there is.
func TestTheMultiRegionExampleResolves(t *testing.T) {
	cfg, states := loadMultiRegion(t), map[string]string{}
	for _, env := range cfg.Environments {
		for _, scope := range append([]string{"global"}, env.Regions...) {
			for _, team := range cfg.Teams {
				tag, err := tagparse.Parse(fmt.Sprintf("%s_%s/%s/1.0", env.Name, scope, team))
				if err != nil {
					t.Fatal(err)
				}
				d, err := cfg.Resolve(config.ResolveInput{Repository: "infra", Tag: tag, Commit: strings.Repeat("a", 40), Files: folderFiles(multiRegion)})
				if err != nil {
					t.Errorf("%s: %v", tag, err)
					continue
				}
				state := d.Backend.Values["bucket"] + "/" + d.Backend.Values["key"]
				if want := fmt.Sprintf("example-tf-state-%s/%s/%s-%s/terraform.tfstate", env.Name, team, env.Name, scope); state != want {
					t.Errorf("%s: state %s, want %s", tag, state, want)
				}
				if before, taken := states[state]; taken {
					t.Errorf("%s and %s share the state %s", tag, before, state)
				}
				states[state] = fmt.Sprint(tag)
				if module := map[bool]string{true: "module.global", false: "module.regional"}[scope == "global"]; d.Stack.Module != module {
					t.Errorf("%s: %q, want %q", tag, d.Stack.Module, module)
				}
				if len(d.Stack.VarFiles) != 2 || !slices.Contains(env.Accounts, d.Account) || d.RunRole == "" || d.PlanRole+d.ApplyRole != "" {
					t.Errorf("%s: %+v", tag, d)
				}
			}
		}
	}
	if len(states) != 4*4*2 {
		t.Errorf("%d states, want %d", len(states), 4*4*2)
	}
}

// What Waymark itself asks of code is what the example has: providers that are
// allowed, an empty backend block, modules of its own.
func TestTheMultiRegionExamplePassesItsGates(t *testing.T) {
	cfg := loadMultiRegion(t)
	input, err := policies.ReadConfig(multiRegion, ".")
	if err != nil {
		t.Fatal(err)
	}
	engine, err := policies.New(t.Context(), release.PolicySpec{AllowedProviders: cfg.Policy.AllowedProviders, AllowedModules: cfg.Policy.AllowedModules})
	if err != nil {
		t.Fatal(err)
	}
	verdict, err := engine.Config(t.Context(), input)
	if err != nil || len(verdict.Findings) != 0 {
		t.Errorf("%+v, %v", verdict, err)
	}
	copied := t.TempDir() // Prepare writes into it
	if err := os.CopyFS(copied, os.DirFS(multiRegion)); err != nil {
		t.Fatal(err)
	}
	state := release.BackendSpec{Type: "s3", Values: map[string]string{"bucket": "example-tf-state-dev", "key": "k", "region": "us-east-1", "dynamodb_table": "l"}}
	if _, err := backends.Prepare(copied, release.EngineSpec{Kind: "tofu", Version: "1.12.6"}, state); err != nil {
		t.Errorf("the backend: %v", err)
	}
	tree, err := filepath.Abs(multiRegion)
	if err != nil {
		t.Fatal(err)
	}
	result, err := gates.Run(t.Context(), gates.Config{Spec: release.GateSpec{Name: "tflint", Path: testkit.Tool(t, "tflint"), Config: map[string]string{}},
		Tree: tree, Scratch: t.TempDir(), Path: os.Getenv("PATH")})
	if err != nil || len(result.Findings) != 0 {
		t.Errorf("tflint: %+v, %v", result.Findings, err)
	}
}

func TestTheCodeIsFormatted(t *testing.T) {
	tool := testkit.Tool(t, "tofu")
	for _, dir := range []string{"aws", multiRegion, "quickstart"} {
		engine(t, tool, dir, "fmt", "-check", "-recursive")
	}
}

// The code that needs a provider cannot be validated without it. This much can
// be told: each call of a module gives it its variables, and takes outputs that
// it has; each var. and local. is declared; each resource that is named is there.
func TestTheCodeHoldsTogether(t *testing.T) {
	for _, dir := range []string{multiRegion, multiRegion + "/modules/global", multiRegion + "/modules/regional", "aws/tooling", "aws/workload",
		"aws/modules/tooling-policies", "aws/modules/workload-policies"} {
		for _, problem := range readModule(t, dir).problems(t, dir) {
			t.Errorf("%s: %s", dir, problem)
		}
	}
}

// module is what a folder of code declares, by address: var.x, local.x,
// output.x, module.x, aws_vpc.x.
type module struct {
	declared map[string]bool
	needed   map[string]bool            // variables without a default
	calls    map[string]*hclsyntax.Body // by name
	bodies   []*hclsyntax.Body
}

func readModule(t *testing.T, dir string) module {
	t.Helper()
	m := module{declared: map[string]bool{}, needed: map[string]bool{}, calls: map[string]*hclsyntax.Body{}}
	paths, err := filepath.Glob(filepath.Join(filepath.FromSlash(dir), "*.tf"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: %d files, %v", dir, len(paths), err)
	}
	for _, path := range paths {
		file, diags := hclparse.NewParser().ParseHCLFile(path)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		body := file.Body.(*hclsyntax.Body)
		m.bodies = append(m.bodies, body)
		for _, b := range body.Blocks {
			m.declare(b)
		}
	}
	return m
}

func (m *module) declare(b *hclsyntax.Block) {
	switch b.Type {
	case "locals":
		for name := range b.Body.Attributes {
			m.declared["local."+name] = true
		}
	case "variable":
		m.declared["var."+b.Labels[0]] = true
		m.needed[b.Labels[0]] = b.Body.Attributes["default"] == nil
	case "module":
		m.declared["module."+b.Labels[0]] = true
		m.calls[b.Labels[0]] = b.Body
	case "output":
		m.declared["output."+b.Labels[0]] = true
	case "resource":
		m.declared[b.Labels[0]+"."+b.Labels[1]] = true
	}
}

var reference = regexp.MustCompile(`^(var|local|module|aws_\w+)$`)

func (m module) problems(t *testing.T, dir string) (out []string) {
	called := map[string]module{}
	for name, body := range m.calls {
		source, diags := body.Attributes["source"].Expr.Value(nil)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		other := readModule(t, filepath.ToSlash(filepath.Join(dir, source.AsString())))
		called[name] = other
		for argument := range body.Attributes {
			if argument != "source" && !other.declared["var."+argument] {
				out = append(out, fmt.Sprintf("module.%s has no variable %s", name, argument))
			}
		}
		for variable, needed := range other.needed {
			if needed && body.Attributes[variable] == nil {
				out = append(out, fmt.Sprintf("module.%s needs %s", name, variable))
			}
		}
	}
	for _, body := range m.bodies {
		hclsyntax.VisitAll(body, func(n hclsyntax.Node) hcl.Diagnostics {
			if e, ok := n.(*hclsyntax.ScopeTraversalExpr); ok {
				out = append(out, m.check(e.Traversal, called)...)
			}
			return nil
		})
	}
	return out
}

// check follows one reference.
func (m module) check(to hcl.Traversal, called map[string]module) []string {
	if !reference.MatchString(to.RootName()) || len(to) < 2 {
		return nil
	}
	name, ok := to[1].(hcl.TraverseAttr)
	if !ok || !m.declared[to.RootName()+"."+name.Name] {
		return []string{fmt.Sprintf("%s: %s.%s is not declared", to.SourceRange(), to.RootName(), name.Name)}
	}
	if to.RootName() == "module" {
		output, ok := to[2].(hcl.TraverseAttr)
		if other := called[name.Name]; !ok || !other.declared["output."+output.Name] {
			return []string{fmt.Sprintf("%s: module.%s has no output %s", to.SourceRange(), name.Name, output.Name)}
		}
	}
	return nil
}
