package config

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

var update = flag.Bool("update", false, "write docs/configuration.md anew")

func TestReferenceIsUpToDate(t *testing.T) {
	const path = "../docs/configuration.md"
	if *update {
		if err := os.MkdirAll("../docs", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(Reference()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != Reference() {
		t.Error("docs/configuration.md is not what the schema says: run go test ./config -run Reference -update, and read the change")
	}
}

// Every file that the reference shows works.
func TestFilesOfTheReferenceAreValid(t *testing.T) {
	shown := strings.Split(Reference(), "```hcl\n")[1:]
	if len(shown) != 2 {
		t.Errorf("the reference shows %d files, not 2", len(shown))
	}
	for _, s := range shown {
		src, _, _ := strings.Cut(s, "```")
		if _, err := Parse("waymark.hcl", []byte(src), func(string) (string, bool) { return "postgres://h/d", true }); err != nil {
			t.Errorf("%v in\n%s", err, src)
		}
	}
}

// Every name is documented in full, and its example and default decode.
func TestSchemaIsComplete(t *testing.T) {
	root := schema()
	walk(t, &root, &Config{})
}

func walk(t *testing.T, spec *block, owner any) {
	t.Helper()
	if spec.name != "" && !strings.HasSuffix(strings.TrimSpace(spec.about), ".") {
		t.Errorf("block %s has no description", spec.name)
	}
	for i := range spec.fields {
		f := &spec.fields[i]
		if f.meaning == "" || f.example == "" {
			t.Errorf("%s.%s lacks its meaning or example", spec.name, f.name)
		}
		if said := btoi(f.required) + btoi(f.fallback != "") + btoi(f.unset != ""); said != 1 {
			t.Errorf("%s.%s must say exactly one of required, default and what an absent value means", spec.name, f.name)
		}
		for _, src := range []string{f.example, f.fallback} {
			if src != "" {
				decodes(t, f, owner, src)
			}
		}
	}
	for i := range spec.blocks {
		walk(t, &spec.blocks[i], spec.blocks[i].in(owner, "x"))
	}
}

func decodes(t *testing.T, f *field, owner any, src string) {
	t.Helper()
	expr, diags := hclsyntax.ParseExpression([]byte(src), "schema", hcl.InitialPos)
	if diags.HasErrors() {
		t.Errorf("%s: %s: %v", f.name, src, diags)
		return
	}
	d := newDecoder("schema", "/", func(string) (string, bool) { return "set", true })
	path := f.name
	if f.yields == yieldsList {
		path = "stack.var_files"
	}
	if f.name == "database" && src == f.example {
		return // its variable is set to no database here
	}
	if d.fill(f, owner, expr, path); len(d.problems) > 0 {
		t.Errorf("%s: %s: %v", f.name, src, d.problems)
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
