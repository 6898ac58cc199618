package policies

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/waymark-cd/waymark/release"
)

// tree writes files, by path with slashes, to a fresh folder.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		p := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func read(t testing.TB, root, stack string) Input {
	t.Helper()
	input, err := ReadConfig(root, stack)
	if err != nil {
		t.Fatal(err)
	}
	return input
}

// facts prints what was read, one line per fact, without the lines' numbers.
func facts(input Input) []string {
	var out []string
	say := func(l Location, format string, args ...any) {
		out = append(out, fmt.Sprintf("%s:%d ", l.File, l.Line)+fmt.Sprintf(format, args...))
	}
	for _, x := range input.RequiredVersions {
		say(x.Location, "required_version %s", x.Constraint)
	}
	for _, x := range input.RequiredProviders {
		say(x.Location, "requires %s = %s (%s) %s", x.Provider, x.ProviderAddress, x.Source, x.Version)
	}
	for _, x := range input.Providers {
		say(x.Location, "provider %s.%s = %s", x.Provider, x.Alias, x.ProviderAddress)
	}
	for _, x := range input.ModuleCalls {
		say(x.Location, "module %s (%s) %s address=%s%s folder=%s local=%v outside=%v computed=%v",
			x.Name, x.Source, x.Version, x.Address, x.Query, x.Folder, x.Local, x.Outside, x.Computed)
	}
	for _, x := range input.Backends {
		say(x.Location, "backend %s", x.Type)
	}
	for _, x := range input.Resources {
		say(x.Location, "%s %s.%s %s = %s %v", x.Kind, x.Type, x.Name, x.Provider, x.ProviderAddress, x.Provisioners)
	}
	for _, x := range input.ProviderMeta {
		say(x.Location, "provider_meta %s", x.Provider)
	}
	for _, x := range input.Encryption {
		say(x.Location, "%s %s.%s", x.Kind, x.Type, x.Name)
	}
	return out
}

const nativeCode = `terraform {
  required_version = "~> 1.5"
  required_providers {
    aws = { source = "hashicorp/aws", version = "5.0" }
    mine = {
      version = "1"
      source  = "registry.example.org/Org/mine"
      configuration_aliases = [mine.x]
    }
    old = "~> 2"
  }
  backend "s3" { bucket = "b" }
  cloud {}
  provider_meta "aws" {}
  encryption {
    key_provider "external" "k" { command = ["sh"] }
  }
}
provider "aws" { alias = "west" }
module "inside" { source = "./mods/a" }
module "registry" {
  source  = "org/vpc/aws"
  version = "1.0"
}
module "pinned" { source = "git::https://e.org/x?ref=v1" }
module "outside" { source = "../../../x" }
module "computed" { source = var.source }
resource "aws_vpc" "v" { provider = aws.west }
resource "other_thing" "o" { provider = mine.by_region[each.key] }
resource "terraform_data" "d" {
  provisioner "local-exec" { command = "id" }
  provisioner "remote-exec" {}
}
data "external" "e" { program = ["id"] }
ephemeral "random_password" "p" {}
check "c" {
  data "http" "h" {}
}
import {
  provider = null.x
  to = null_resource.x
  id = "1"
}
removed {
  from = null_resource.y
  provisioner "local-exec" { command = "id" }
}
removed { from = null_resource.z }
`

func TestReadConfigNative(t *testing.T) {
	root := tree(t, map[string]string{
		"stacks/main/main.tf":     nativeCode,
		"stacks/main/mods/a/a.tf": `resource "time_sleep" "s" {}`,
		"stacks/main/notes.txt":   "{",
		"stacks/main/.hidden.tf":  "{",
		"stacks/main/main.tf~":    "{",
		"unreached/x.tf":          "{",
	})
	input := read(t, root, "stacks/main")
	const f = "stacks/main/main.tf"
	want := []string{
		f + ":2 required_version ~> 1.5",
		f + ":4 requires aws = hashicorp/aws (hashicorp/aws) 5.0",
		f + ":7 requires mine = registry.example.org/org/mine (registry.example.org/Org/mine) 1",
		f + ":10 requires old = hashicorp/old () ~> 2",
		f + ":19 provider aws.west = hashicorp/aws",
		f + ":20 module inside (./mods/a)  address= folder=stacks/main/mods/a local=true outside=false computed=false",
		f + ":22 module registry (org/vpc/aws) 1.0 address=org/vpc/aws folder= local=false outside=false computed=false",
		f + ":25 module pinned (git::https://e.org/x?ref=v1)  address=git::https://e.org/x?ref=v1 folder= local=false outside=false computed=false",
		f + ":26 module outside (../../../x)  address= folder= local=true outside=true computed=false",
		f + ":27 module computed ()  address= folder= local=false outside=false computed=true",
		f + ":12 backend s3",
		f + ":13 backend cloud",
		f + ":28 resource aws_vpc.v aws = hashicorp/aws []",
		f + ":29 resource other_thing.o mine = registry.example.org/org/mine []",
		f + ":30 resource terraform_data.d terraform = terraform.io/builtin/terraform [{local-exec 31} {remote-exec 32}]",
		f + ":34 data external.e external = hashicorp/external []",
		f + ":35 ephemeral random_password.p random = hashicorp/random []",
		f + ":37 data http.h http = hashicorp/http []",
		f + ":39 import . null = hashicorp/null []",
		f + ":44 removed .  =  [{local-exec 46}]",
		"stacks/main/mods/a/a.tf:1 resource time_sleep.s time = hashicorp/time []",
		f + ":14 provider_meta aws",
		f + ":16 key_provider external.k",
	}
	if got := facts(input); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// The same code in both syntaxes gives the same facts.
func TestReadConfigJSON(t *testing.T) {
	native := read(t, tree(t, map[string]string{"main.tf": `
terraform {
  required_providers {
    aws = { source = "hashicorp/aws", version = "5.0" }
  }
  backend "s3" {}
}
provider "aws" { alias = "west" }
module "m" { source = "org/vpc/aws" }
module "c" { source = "./${var.x}" }
resource "aws_vpc" "v" {
  provider = aws.west
  provisioner "local-exec" { command = "[[[{{{" }
}
resource "aws_vpc" "w" { provider = aws.by_region[each.key] }
data "external" "e" {}
`}), ".")
	jsonInput := read(t, tree(t, map[string]string{"main.tf.json": `{
"terraform": {"required_providers": {"aws": {"source": "hashicorp/aws", "version": "5.0"}}, "backend": {"s3": {}}},
"provider": {"aws": {"alias": "west"}},
"module": {"m": {"source": "org/vpc/aws"}, "c": {"source": "./${var.x}"}},
"resource": {"aws_vpc": {
  "v": {"provider": "aws.west", "provisioner": {"local-exec": {"command": "[[[{{{ \" \u0600"}}},
  "w": {"provider": "${aws.by_region[each.key]}"}}},
"data": {"external": {"e": {}}}
}`}), "")
	if got, want := withoutLines(facts(jsonInput)), withoutLines(facts(native)); !slices.Equal(got, want) {
		t.Errorf("JSON:\n%s\nnative:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func withoutLines(facts []string) []string {
	var out []string
	for _, f := range facts {
		_, f, _ = strings.Cut(f, " ")
		f, _, _ = strings.Cut(f, " [{") // the lines of provisioners
		out = append(out, f)
	}
	slices.Sort(out)
	return out
}

// OpenTofu reads x.tofu in place of x.tf, and overrides replace: both are judged.
func TestReadConfigReadsTheUnion(t *testing.T) {
	input := read(t, tree(t, map[string]string{
		"a.tf":             `module "m" { source = "org/a/aws" }`,
		"a.tofu":           `module "m" { source = "org/b/aws" }`,
		"b.tofu.json":      `{"module": {"m": {"source": "org/c/aws"}}}`,
		"override.tf":      `module "m" { source = "org/d/aws" }`,
		"x_override.tofu":  `module "m" { source = "org/e/aws" }`,
		"y.tf":             `resource "aws_vpc" "v" {}`,
		"z_override.tf":    "terraform {\n required_providers {\n aws = { source = \"evil/aws\" }\n }\n}",
		"z_override2.tofu": "terraform {\n required_providers {\n aws = { source = \"worse/aws\" }\n }\n}",
	}), ".")
	var sources []string
	for _, c := range input.ModuleCalls {
		sources = append(sources, c.Source)
	}
	if want := []string{"org/a/aws", "org/b/aws", "org/c/aws", "org/d/aws", "org/e/aws"}; !slices.Equal(sources, want) {
		t.Errorf("got %q, want %q", sources, want)
	}
	if len(input.RequiredProviders) != 2 || input.Resources[0].ProviderAddress != "evil/aws" {
		t.Errorf("got %+v and %+v", input.RequiredProviders, input.Resources)
	}
}

// Nothing that an engine would take for a source escapes by being written oddly.
func TestReadConfigFailsClosed(t *testing.T) {
	for _, entry := range []string{
		`{ source = "${"evil/x"}" }`,
		`{ "source" = "evil/x" }`,
		`{ ("source") = "evil/x" }`,
		`{ "${"source"}" = "evil/x" }`,
		`{ source : "evil/x" }`,
		`({ source = "evil/x" })`,
		`{ source = "hashicorp/x", source = "evil/x" }`,
		`{ source = var.x }`,
		`{ source = ["evil/x"] }`,
		`merge({ source = "evil/x" })`,
		`true ? { source = "evil/x" } : {}`,
		`{ source = <<A
evil/x
A
}`,
	} {
		code := "terraform {\n required_providers {\n hashicorp = " + entry + "\n }\n}"
		input, err := ReadConfig(tree(t, map[string]string{"a.tf": code}), ".")
		if err != nil {
			t.Errorf("%s: %v", entry, err)
			continue
		}
		if !slices.ContainsFunc(input.RequiredProviders, func(r RequiredProvider) bool {
			return !strings.HasPrefix(r.ProviderAddress, "hashicorp/")
		}) {
			t.Errorf("%s reads as %+v", entry, input.RequiredProviders)
		}
	}
	for _, source := range []string{`"${"../.."}/x"`, `"./${path.module}"`, `var.x`, `format("../../x")`, `["x"]`, `null`, `"%{if true}../x%{endif}"`} {
		input := read(t, tree(t, map[string]string{"a.tf": `module "m" { source = ` + source + ` }`}), ".")
		if !input.ModuleCalls[0].Computed {
			t.Errorf("source %s reads as %+v", source, input.ModuleCalls[0])
		}
	}
}

func TestReadConfigModules(t *testing.T) {
	input := read(t, tree(t, map[string]string{
		"a/main.tf":   `module "b" { source = "../b" }`,
		"b/main.tf":   "module \"a\" { source = \"../a\" }\nmodule \"c\" { source = \"./c/\" }",
		"b/c/main.tf": "module \"out\" { source = \"../../../b\" }\nresource \"x_y\" \"z\" {}",
	}), "a")
	if want := []string{"a/main.tf", "b/main.tf", "b/c/main.tf"}; !slices.Equal(input.Files, want) {
		t.Errorf("read %q, want %q", input.Files, want)
	}
	if c := input.ModuleCalls[3]; !c.Outside || c.Module != "b/c" || c.File != "b/c/main.tf" || c.Line != 1 {
		t.Errorf("got %+v", c)
	}
}

func TestReadConfigEngineFolders(t *testing.T) {
	root := tree(t, map[string]string{
		"s/main.tf": "", "s/.terraform/providers/x": "", "s/terraform.d": "", "s/m/.terraform/x": "", ".terraform/x": "",
	})
	if got, want := read(t, root, "s").EngineFolders, []string{"s/.terraform", "s/terraform.d"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// No list of the document is null, whatever the repository leaves out.
func TestInputHasNoNull(t *testing.T) {
	for _, code := range []string{"", `resource "a_b" "c" {}`} {
		text, err := json.Marshal(read(t, tree(t, map[string]string{"a.tf": code}), "."))
		if err != nil || strings.Contains(string(text), "null") {
			t.Errorf("%s %v", text, err)
		}
	}
	v := reflect.ValueOf(newInput("."))
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Slice && f.IsNil() {
			t.Errorf("%s is null", v.Type().Field(i).Name)
		}
	}
}

func TestReadConfigRefuses(t *testing.T) {
	deep := map[string]string{}
	dir := ""
	for range maxDepth + 2 {
		deep[dir+"main.tf"] = `module "m" { source = "./m" }`
		dir += "m/"
	}
	many := map[string]string{}
	for i := range maxFiles + 1 {
		many[fmt.Sprintf("f%d.tf", i)] = ""
	}
	var calls strings.Builder
	wide := map[string]string{}
	for i := range maxModules {
		fmt.Fprintf(&calls, "module \"m%d\" { source = \"./m%d\" }\n", i, i)
		wide[fmt.Sprintf("m%d/m.tf", i)] = ""
	}
	wide["main.tf"] = calls.String()
	for name, c := range map[string]struct {
		files map[string]string
		stack string
		want  []string
	}{
		"two broken files": {map[string]string{"a.tf": "x {\n", "b.tf.json": "{\n\"a\":\n]}", "c.tofu": "ok = 1"}, ".",
			[]string{"a.tf:1: Unclosed configuration block: ", "b.tf.json:3: not valid JSON: "}},
		"no label":         {map[string]string{"a.tf": "\nmodule {}"}, ".", []string{"a.tf:2: Missing name for module: "}},
		"bad JSON shape":   {map[string]string{"a.tf.json": "{\n\"module\": 1}"}, ".", []string{"a.tf.json:2: "}},
		"module missing":   {map[string]string{"a.tf": "\nmodule \"m\" { source = \"./gone\" }"}, ".", []string{`a.tf:2: the module's folder "gone" cannot be read: no such file`}},
		"module is a file": {map[string]string{"a.tf": `module "m" { source = "./a.tf" }`}, ".", []string{`it is no folder`}},
		"stack missing":    {map[string]string{"a.tf": ""}, "x", []string{`the stack's folder "x" cannot be read: no such file`}},
		"stack empty":      {map[string]string{"x/a.txt": ""}, "x", []string{`holds no .tf or .tofu file: set stack.path`}},
		"stack outside":    {map[string]string{"a.tf": ""}, "../x", []string{`stack path "../x": it leads out`}},
		"stack absolute":   {map[string]string{"a.tf": ""}, "/etc", []string{`it leads out`}},
		"not UTF-8":        {map[string]string{"a.tf": "a = \"\xff\""}, ".", []string{"a.tf: is not UTF-8 text"}},
		"newline in name":  {map[string]string{"a\n.tf": ""}, ".", []string{`"a\n.tf" holds characters that do not print`}},
		"direction mark":   {map[string]string{"a\u202e.tf": ""}, ".", []string{`"a\u202e.tf" holds characters`}},
		"huge file":        {map[string]string{"a.tf": strings.Repeat("#", maxFileBytes+1)}, ".", []string{"a.tf: larger than 1048576 bytes"}},
		"too deep":         {deep, ".", []string{"modules are nested more than 32 deep"}},
		"too many files":   {many, ".", []string{"more than 2000 files"}},
		"too many modules": {wide, ".", []string{"more than 500 local modules"}},
		"many problems":    {map[string]string{"a.tf": strings.Repeat("a\n", 1000)}, ".", []string{"a.tf:20: ", "and 980 more"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ReadConfig(tree(t, c.files), c.stack)
			if !errors.Is(err, release.ErrInvalid) {
				t.Fatalf("got %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got\n%v\nwant %s", err, want)
				}
			}
			if len(err.Error()) > 10000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestReadConfigStaysInside(t *testing.T) {
	outside := tree(t, map[string]string{"x.tf": `resource "secret_thing" "x" {}`, "m/x.tf": `resource "secret_thing" "x" {}`})
	root := tree(t, map[string]string{"good/a.tf": "", "real/b.tf": `resource "time_sleep" "x" {}`})
	link := func(to, name string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	link(filepath.Join(outside, "x.tf"), "good/leak.tf")
	link(outside, "stack")
	link("real", "alias")
	if input := read(t, root, "alias"); len(input.Resources) != 1 {
		t.Errorf("a link inside the repository was not followed: %+v", input)
	}
	if _, err := ReadConfig(root, "good"); !errors.Is(err, release.ErrInvalid) || !strings.Contains(err.Error(), "good/leak.tf: cannot be read: ") {
		t.Errorf("got %v", err)
	}
	if _, err := ReadConfig(root, "stack"); !errors.Is(err, release.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	if err := os.Remove(filepath.Join(root, "good/leak.tf")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(root, "good/pipe.tf"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadConfig(root, "good"); !errors.Is(err, release.ErrInvalid) || !strings.Contains(err.Error(), "good/pipe.tf: cannot be read: it is no regular file") {
		t.Errorf("got %v", err)
	}
	if _, err := ReadConfig(filepath.Join(root, "gone"), "."); !errors.Is(err, os.ErrNotExist) || errors.Is(err, release.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

// What the parser of HCL recurses on is refused before it ends the process, as
// ten times as much of each of these would.
func TestReadConfigRefusesDeepNesting(t *testing.T) {
	const n = 20000
	for name, text := range map[string]string{
		"parentheses": "a = " + strings.Repeat("(", n),
		"brackets":    "a = " + strings.Repeat("[", n),
		"braces":      "a = " + strings.Repeat("{a=", n),
		"blocks":      strings.Repeat("a {\n", n) + strings.Repeat("}\n", n),
		"strays":      strings.Repeat("a {\n)]\n", n),
		"calls":       "a = " + strings.Repeat("f(", n),
		"templates":   "a = " + strings.Repeat(`"${`, n),
		"heredocs":    "a = " + strings.Repeat("<<A\n${", n),
		"directives":  `a = "` + strings.Repeat("%{if a}", n) + `"`,
		"bangs":       "a = " + strings.Repeat("!", n) + "a",
		"minuses":     "a = " + strings.Repeat("-", n) + "a",
		"splats":      "a = a" + strings.Repeat("[*]", n),
		"dot splats":  "a = a" + strings.Repeat(".*", n),
		"ternaries":   "a = " + strings.Repeat("a?b:", n) + "a",
		"JSON":        `{"a":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "}",
		"JSON deeper": strings.Repeat("[", n),
	} {
		file := "a.tf"
		if strings.HasPrefix(name, "JSON") {
			file = "a.tf.json"
		}
		_, err := ReadConfig(tree(t, map[string]string{file: text}), ".")
		if !errors.Is(err, release.ErrInvalid) || !strings.Contains(err.Error(), file+":1: ") && !strings.Contains("blocks heredocs strays", name) ||
			!strings.Contains(err.Error(), "split the file") && !strings.Contains(err.Error(), "write it flatter") && name != "JSON deeper" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Strings in JSON are never parsed as templates, and end where JSON ends them:
// HCL itself takes U+0600 and the quote after it for one character.
func TestReadConfigLeavesJSONStringsAlone(t *testing.T) {
	deep := strings.Repeat("(", 20000)
	input := read(t, tree(t, map[string]string{"a.tf.json": `{
"resource": {"a_b": {"c": {"provider": "${` + deep + `"}}},
"module": {"m": {"source": "${` + deep + `"}, "n": {"source": "./m", "x": "\u0600` + "\u0600" + `"}},
"locals": {"x": ["` + "\u0600" + `", "` + strings.Repeat("[", 20000) + `"]}}`, "m/a.tf": ""}), ".")
	if r := input.Resources[0]; r.Provider != "" || r.ProviderAddress != "" {
		t.Errorf("got %+v", r)
	}
	if c := input.ModuleCalls; !c[0].Computed || c[1].Folder != "m" {
		t.Errorf("got %+v", c)
	}
}

func FuzzReadConfig(f *testing.F) {
	f.Add(nativeCode, false)
	f.Add(`{"module": {"m": {"source": "./x"}}, "terraform": [{"required_providers": {"a": "1"}}]}`, true)
	f.Add(`{"resource": {"a_b": [{"c": {"provider": "a.b"}}]}}`, true)
	f.Fuzz(func(t *testing.T, code string, isJSON bool) {
		name := "a.tf"
		if isJSON {
			name += ".json"
		}
		input, err := ReadConfig(tree(t, map[string]string{name: code}), ".")
		if err != nil {
			if !errors.Is(err, release.ErrInvalid) {
				t.Error(err)
			}
			return
		}
		for _, c := range input.ModuleCalls {
			if c.Local && !c.Outside && !filepath.IsLocal(filepath.FromSlash(c.Folder)) {
				t.Errorf("%+v", c)
			}
		}
	})
}
