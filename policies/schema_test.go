package policies

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

var update = flag.Bool("update", false, "write docs/schemas anew")

// schemas are the documented inputs.
var schemas = map[string]any{release.PointTag: TagInput{}, release.PointConfig: Input{}, release.PointPlan: PlanInput{}}

func schemaFile(point string) string { return "../docs/schemas/policy-" + point + ".schema.json" }

// object is a JSON object whose members stay in order.
type object []member

type member struct {
	name  string
	value any
}

// MarshalJSON prints the members in their order.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("{")
	for i, m := range o {
		if i > 0 {
			b.WriteString(",")
		}
		name, err := json.Marshal(m.name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(m.value)
		if err != nil {
			return nil, err
		}
		b.Write(append(append(name, ':'), value...))
	}
	b.WriteString("}")
	return b.Bytes(), nil
}

// describer writes schemas of types, with what their comments say.
type describer struct{ comments map[string]string } // by Type and Type.Field

// readComments reads what this package's own source says of types and fields.
func readComments(t *testing.T) describer {
	t.Helper()
	d := describer{comments: map[string]string{}}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			decl, ok := n.(*ast.GenDecl)
			if !ok {
				return true
			}
			for _, spec := range decl.Specs {
				if kind, ok := spec.(*ast.TypeSpec); ok {
					d.addType(kind, decl.Doc)
				}
			}
			return false
		})
	}
	return d
}

func (d describer) addType(kind *ast.TypeSpec, doc *ast.CommentGroup) {
	d.comments[kind.Name.Name] = sentence(doc.Text())
	structure, ok := kind.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, f := range structure.Fields.List {
		for _, name := range f.Names {
			d.comments[kind.Name.Name+"."+name.Name] = sentence(f.Doc.Text() + f.Comment.Text())
		}
	}
}

func sentence(s string) string { return strings.Join(strings.Fields(s), " ") }

// schema describes a type.
func (d describer) schema(t *testing.T, kind reflect.Type) object {
	switch kind.Kind() {
	case reflect.Struct:
		o := object{{"type", "object"}, {"additionalProperties", false}}
		var properties object
		var required []string
		d.fields(t, kind, &properties, &required)
		return append(o, member{"required", required}, member{"properties", properties})
	case reflect.Slice:
		return object{{"type", "array"}, {"items", d.schema(t, kind.Elem())}}
	case reflect.String:
		return object{{"type", "string"}}
	case reflect.Bool:
		return object{{"type", "boolean"}}
	case reflect.Int:
		return object{{"type", "integer"}}
	case reflect.Interface:
		return object{} // any value
	}
	t.Fatalf("an input has a field of the kind %s", kind)
	return nil
}

func (d describer) fields(t *testing.T, kind reflect.Type, properties *object, required *[]string) {
	for i := range kind.NumField() {
		f := kind.Field(i)
		if f.Anonymous {
			d.fields(t, f.Type, properties, required)
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || options != "" {
			t.Errorf("%s.%s may be absent from its document", kind.Name(), f.Name)
		}
		s := d.schema(t, f.Type)
		about := d.comments[kind.Name()+"."+f.Name]
		if about == "" && f.Type.Kind() == reflect.Slice {
			about = d.comments[f.Type.Elem().Name()]
		}
		if about == "" && f.Type.Kind() == reflect.Struct {
			about = d.comments[f.Type.Name()]
		}
		if about != "" {
			s = append(object{{"description", about}}, s...)
		}
		*properties = append(*properties, member{name, s})
		*required = append(*required, name)
	}
}

func (d describer) document(t *testing.T, point string) string {
	t.Helper()
	kind := reflect.TypeOf(schemas[point])
	whole := object{{"$schema", "http://json-schema.org/draft-07/schema#"}, {"title", "The input of policies at the decision point " + point},
		{"description", d.comments[kind.Name()]}}
	text, err := json.MarshalIndent(append(whole, d.schema(t, kind)...), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

func TestSchemasAreUpToDate(t *testing.T) {
	d := readComments(t)
	for point := range schemas {
		want := d.document(t, point)
		if *update {
			if err := os.MkdirAll(filepath.Dir(schemaFile(point)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(schemaFile(point), []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(schemaFile(point))
		if err != nil || string(got) != want {
			t.Errorf("%s is not what the Go types say: run go test ./policies -run Schemas -update, and read the change (%v)", schemaFile(point), err)
		}
	}
}

// mismatches are what is wrong with a document by its schema.
func mismatches(t *testing.T, point string, document any) []any {
	t.Helper()
	text, err := os.ReadFile(schemaFile(point))
	if err != nil {
		t.Fatal(err)
	}
	results, err := rego.New(rego.Query("json.match_schema(input.document, input.schema)[1]"), rego.StrictBuiltinErrors(true),
		rego.Input(map[string]any{"document": json.RawMessage(asJSON(t, document)), "schema": json.RawMessage(text)})).Eval(t.Context())
	if err != nil || len(results) != 1 {
		t.Fatal(results, err)
	}
	found, ok := results[0].Expressions[0].Value.([]any)
	if !ok {
		t.Fatalf("got %v", results[0].Expressions[0].Value)
	}
	return found
}

// What real code, a real plan and a real tag make is what the schemas promise.
func TestRealInputsMatchTheirSchemas(t *testing.T) {
	root := tree(t, map[string]string{"main.tf": nativeCode + "locals {\n x = file(\"y\")\n}\n", "mods/a/a.tf": ""})
	if err := os.Symlink("/etc", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	spec := release.PolicySpec{Target: release.Target{Env: "dev", Scope: "global", Team: "t"}, Kind: release.Deploy, Backend: "s3"}
	config, err := engine(t, spec).ExplainConfig(t.Context(), read(t, root, "."))
	if err != nil {
		t.Fatal(err)
	}
	tag, err := engine(t, spec).ExplainTag(t.Context(), release.TagFacts{Deployed: &release.TagVersion{RunID: 1}, Earlier: []release.TagVersion{{}}, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []Answer{config, tag} {
		if found := mismatches(t, a.Point, a.Input); len(found) > 0 {
			t.Errorf("%s: %v", a.Point, found)
		}
	}
	if found := mismatches(t, release.PointTag, map[string]any{"format": "2"}); len(found) == 0 {
		t.Error("anything matches")
	}
	for _, kind := range []string{"tofu", "terraform"} {
		input := realPlan(t, kind)
		if found := mismatches(t, release.PointPlan, input); len(found) > 0 {
			t.Errorf("%s: %v", kind, found)
		}
		text := asJSON(t, input)
		if strings.Contains(text, "do-not-tell") || !strings.Contains(text, `"sensitive"`) || input.Destroys != 1 || len(input.Programs) != 1 {
			t.Errorf("%s: %s", kind, text)
		}
	}
}

// realPlan is the input of a plan that an engine makes after an apply.
func realPlan(t *testing.T, kind string) PlanInput {
	t.Helper()
	bin := testkit.Tool(t, kind)
	before := `resource "terraform_data" "gone" {}
resource "terraform_data" "kept" { input = "a" }
`
	after := `variable "s" {
  default   = "do-not-tell"
  sensitive = true
}
resource "terraform_data" "kept" { input = "b" }
resource "terraform_data" "new" {
  for_each = toset(["x"])
  input    = { secret = var.s, plain = "say do-not-tell" }
  provisioner "local-exec" { command = "true" }
}
output "o" {
  value     = terraform_data.new["x"].output
  sensitive = true
}
`
	dir := tree(t, map[string]string{"main.tf": before})
	run := func(args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), bin, args...)
		cmd.Dir, cmd.Env = dir, []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "CHECKPOINT_DISABLE=1"}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", kind, args, err, out)
		}
		return out
	}
	run("init", "-input=false")
	run("apply", "-input=false", "-auto-approve")
	if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte(after), 0o644); err != nil {
		t.Fatal(err)
	}
	run("plan", "-input=false", "-out=p")
	a, err := engine(t, release.PolicySpec{}).ExplainPlan(t.Context(), plan(t, string(run("show", "-json", "p"))))
	if err != nil {
		t.Fatal(err)
	}
	return a.Input.(PlanInput)
}

// Every rule and setting of docs/policies.md is there, and nothing else is said of
// rules that do not exist.
func TestPoliciesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, r := range release.PolicyRules() {
		ids[r.ID] = true
		row := fmt.Sprintf("| `%s` | %s | %s | %s |", r.ID, strings.Join(r.Points, ", "), r.Level, r.About)
		if !strings.Contains(string(text), row) {
			t.Errorf("docs/policies.md lacks the row\n%s", row)
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| (?:tag|config|plan)").FindAllStringSubmatch(string(text), -1) {
		if !ids[m[1]] {
			t.Errorf("docs/policies.md has the rule %s, which does not exist", m[1])
		}
	}
	for _, kind := range listedTypes(t) {
		if !strings.Contains(string(text), "`"+kind+"`") {
			t.Errorf("docs/policies.md lacks the data-bearing type %s", kind)
		}
	}
}

func listedTypes(t *testing.T) []string {
	t.Helper()
	var list struct{ Types []string }
	if err := json.Unmarshal(databearing, &list); err != nil || len(list.Types) < 50 {
		t.Fatal(list, err)
	}
	return list.Types
}
