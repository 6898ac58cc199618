package backends_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/backends"
	"github.com/waymark-cd/waymark/release"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// write lays out files in a fresh folder and gives its path.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

var s3 = release.BackendSpec{Type: "s3", Values: map[string]string{
	"bucket": "states-dev", "key": "research/dev-global/terraform.tfstate", "region": "us-east-1",
	"encrypt": "true", "dynamodb_table": "locks-dev",
}}

func s3Block(body string) string { return "terraform {\n  backend \"s3\" {" + body + "}\n}\n" }

// newest is an engine that has every argument there is.
var newest = release.EngineSpec{Kind: "tofu"}

const overrideName = "waymark_backend_override.tf.json"

func TestCodeThatAgreesIsTaken(t *testing.T) {
	empty := `{"terraform":{"backend":{"s3":{}}}}`
	for name, c := range map[string]struct {
		files    map[string]string
		override string // compact; empty: none
	}{
		"no file":                  {nil, empty},
		"no block":                 {map[string]string{"main.tf": "terraform {\n  required_version = \">= 1.5\"\n}\n"}, empty},
		"an empty block":           {map[string]string{"main.tf": s3Block("")}, ""},
		"an empty block in JSON":   {map[string]string{"main.tf.json": empty}, ""},
		"an empty override":        {map[string]string{"main.tf": "", "x_override.tf": s3Block("")}, ""},
		"equal settings":           {map[string]string{"main.tf": s3Block("\nbucket = \"states-dev\"\nencrypt = true\n")}, ""},
		"equal settings in JSON":   {map[string]string{"a.tf.json": `{"terraform":[{"backend":[{"s3":{"encrypt":true,"bucket":"states-dev"}}]}]}`}, ""},
		"harmless settings":        {map[string]string{"main.tf": s3Block("\nmax_retries = 3\nskip_region_validation = true\n")}, ""},
		"null":                     {map[string]string{"main.tf": s3Block("\nprofile = null\n")}, ""},
		"files that nobody reads":  {map[string]string{".main.tf": "}", "main.tf~": "}", "#main.tf#": "}", "main.tf.bak": "}", "x.hcl": "}"}, empty},
		"for OpenTofu alone":       {map[string]string{"main.tofu": s3Block("\nmax_retries = 3\n")}, `{"terraform":{"backend":{"s3":{"max_retries":"3"}}}}`},
		"hidden from OpenTofu":     {map[string]string{"main.tf": s3Block(""), "main.tofu": ""}, empty},
		"hidden, in JSON":          {map[string]string{"main.tf.json": empty, "main.tofu.json": "{}"}, empty},
		"beside a .tofu of others": {map[string]string{"main.tf": s3Block(""), "other.tofu": ""}, ""},
		"for each its own":         {map[string]string{"main.tf": s3Block(""), "main.tofu": s3Block("")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := write(t, c.files)
			for range 2 { // the second time finds what the first one left
				args, err := backends.Prepare(dir, newest, s3)
				must(t, err)
				want := []string{"-backend-config=bucket=states-dev", "-backend-config=dynamodb_table=locks-dev", "-backend-config=encrypt=true",
					"-backend-config=key=research/dev-global/terraform.tfstate", "-backend-config=region=us-east-1"}
				if !slices.Equal(args, want) {
					t.Errorf("args %q", args)
				}
			}
			var got string
			if doc, err := os.ReadFile(filepath.Join(dir, overrideName)); err == nil {
				var v any
				must(t, json.Unmarshal(doc, &v))
				text, _ := json.Marshal(v)
				got = string(text)
			}
			if got != c.override {
				t.Errorf("override %q, want %q", got, c.override)
			}
		})
	}
}

func TestCodeThatSaysOtherwiseIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		file, text string
		says       []string
	}{
		"another type":             {"main.tf", "\n\nterraform {\n  backend \"gcs\" {}\n}\n", []string{"main.tf:4: the code says backend \"gcs\", the configuration \"s3\""}},
		"another type in JSON":     {"b.tf.json", "{\n\"terraform\":{\n\"backend\":{\"local\":{}}}}", []string{"b.tf.json:3: the code says backend \"local\""}},
		"cloud":                    {"main.tf", "terraform {\n  cloud {\n    organization = \"x\"\n  }\n}\n", []string{"main.tf:2: the code has a cloud block"}},
		"another key":              {"main.tf", s3Block("\n  key = \"prod/terraform.tfstate\"\n"), []string{"main.tf:3: the code sets the backend's key to \"prod/terraform.tfstate\"", "research/dev-global/terraform.tfstate"}},
		"an override":              {"z_override.tf", s3Block("\n  bucket = \"mine\"\n"), []string{"z_override.tf:3: the code sets the backend's bucket to \"mine\", the configuration to \"states-dev\""}},
		"OpenTofu alone":           {"z.tofu", s3Block("\n  bucket = \"mine\"\n"), []string{"z.tofu:3:"}},
		"no encryption":            {"main.tf", s3Block("\n  encrypt = false\n"), []string{"main.tf:3: the code sets the backend's encrypt to \"false\""}},
		"a workspace's prefix":     {"main.tf", s3Block("\n  workspace_key_prefix = \"x\"\n"), []string{"main.tf:3: the code sets the backend's workspace_key_prefix, which decides where"}},
		"another lock":             {"main.tf", s3Block("\n  use_lockfile = true\n"), []string{"the code sets the backend's use_lockfile"}},
		"another endpoint":         {"main.tf", s3Block("\n  endpoints = { s3 = \"https://x\" }\n"), []string{"the code sets the backend's endpoints"}},
		"a role":                   {"main.tf", s3Block("\n  assume_role {\n    role_arn = \"x\"\n  }\n"), []string{"main.tf:3: the code sets the backend's assume_role"}},
		"a block for a setting":    {"main.tf", s3Block("\n  key {\n  }\n"), []string{"main.tf:3: the code sets the backend's key to a block or collection"}},
		"a variable":               {"main.tf", s3Block("\n  bucket = var.bucket\n"), []string{"main.tf:3: the backend's bucket is not a constant"}},
		"a template in JSON":       {"a.tf.json", `{"terraform":{"backend":{"s3":{"bucket":"${var.bucket}"}}}}`, []string{"a.tf.json:1: the backend's bucket is not a constant"}},
		"a function":               {"main.tf", s3Block("\n  encrypt = tobool(\"true\")\n"), []string{"not a constant"}},
		"two blocks, one bad":      {"main.tf", s3Block("") + s3Block("\n  region = \"mars-1\"\n"), []string{"main.tf:6: the code sets the backend's region to \"mars-1\""}},
		"code that does not parse": {"main.tf", "terraform {\n  backend \"s3\" {\n", []string{"main.tf:", "refused"}},
		"a reserved name":          {"waymark_backend_override.tofu.json", "{}", []string{"waymark_backend_override.tofu.json: names that begin with"}},
		"the very name, no block":  {overrideName, "{}", []string{overrideName + ": names that begin with"}},
		"the very name, another":   {overrideName, `{"terraform":{"backend":{"local":{}}}}`, []string{overrideName + ":1: the code says backend \"local\""}},
		"deep nesting":             {"main.tf", s3Block("\n  a {\n b {\n c = [[[[1]]]]\n }\n }\n"), []string{"the code sets the backend's a"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := backends.Prepare(write(t, map[string]string{c.file: c.text}), newest, s3)
			if !errors.Is(err, release.ErrRefused) {
				t.Fatalf("got %v, want ErrRefused", err)
			}
			for _, part := range c.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("no %q in: %v", part, err)
				}
			}
		})
	}
}

func TestFilesThatAreNoFilesAreRefused(t *testing.T) {
	for name, target := range map[string]string{"device": "/dev/zero", "folder": "/", "nowhere": "/nowhere/at/all"} {
		dir := t.TempDir()
		must(t, os.Symlink(target, filepath.Join(dir, "main.tf")))
		if _, err := backends.Prepare(dir, newest, s3); !errors.Is(err, release.ErrRefused) {
			t.Errorf("%s: got %v, want ErrRefused", name, err)
		}
	}
	big := write(t, map[string]string{"main.tf": strings.Repeat("#", 5<<20)})
	if _, err := backends.Prepare(big, newest, s3); !errors.Is(err, release.ErrRefused) || !strings.Contains(err.Error(), "larger than 4 MiB") {
		t.Errorf("got %v", err)
	}
	if _, err := backends.Prepare(filepath.Join(big, "none"), newest, s3); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestASpecificationThatCannotBeIsInvalid(t *testing.T) {
	for name, spec := range map[string]release.BackendSpec{
		"no type":         {},
		"a label's end":   {Type: `s3" {}`},
		"remote":          {Type: "remote"},
		"a setting":       {Type: "s3", Values: map[string]string{"a=b": "c"}},
		"an option":       {Type: "s3", Values: map[string]string{"-x": "c"}},
		"a NUL":           {Type: "s3", Values: map[string]string{"key": "a\x00b"}},
		"no path":         {Type: "local"},
		"a relative path": {Type: "local", Values: map[string]string{"path": "x/y"}},
	} {
		if _, err := backends.Prepare(t.TempDir(), newest, spec); !errors.Is(err, release.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
}

// Whatever a file holds, Prepare answers, and what it lets through it lets
// through again.
func FuzzPrepare(f *testing.F) {
	f.Add("main.tf", s3Block("\nkey = \"x\"\n"))
	f.Add("main.tofu", s3Block(""))
	f.Add("a.tf.json", `{"terraform":[{"backend":{"s3":[{"key":"${x}"},null]}},null]}`)
	f.Add("a.tf.json", `{"terraform":{"backend":null,"cloud":{}}}`)
	f.Add("a_override.tf.json", `[]`)
	f.Fuzz(func(t *testing.T, name, text string) {
		if filepath.Base(name) != name || len(name) > 100 || strings.ContainsRune(name, 0) || name == "." || name == ".." {
			return
		}
		dir := t.TempDir()
		if os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600) != nil {
			return
		}
		if _, err := backends.Prepare(dir, newest, s3); err != nil {
			return
		}
		if _, err := backends.Prepare(dir, newest, s3); err != nil {
			t.Errorf("the second time: %v", err)
		}
	})
}
