package gates

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/release"
)

// realTFLint returns a Config for the real program.
func realTFLint(t *testing.T, files map[string]string) Config {
	t.Helper()
	if testing.Short() {
		t.Skip("runs the real tflint")
	}
	path, err := filepath.Abs(filepath.Join("..", ".tools", "bin", "tflint"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		if path, err = exec.LookPath("tflint"); err != nil {
			t.Fatal("tflint is neither on PATH nor in .tools/bin; run `make tools`")
		}
	}
	return Config{Spec: release.GateSpec{Name: "tflint", Path: path, Config: map[string]string{}}, Tree: tree(t, files),
		Scratch: scratch(t), Path: os.Getenv("PATH"), Log: func(l string) { t.Log(l) }}
}

const cleanRoot = "terraform {\n  required_version = \">= 1.5\"\n}\n"

func run(t *testing.T, cfg Config) release.GateResult {
	t.Helper()
	got, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestTFLintFindings(t *testing.T) {
	cfg := realTFLint(t, map[string]string{
		"stack/main.tf": cleanRoot + `variable "unused" {
  type = string
}
module "a" {
  source = "../modules/a"
}
`,
		"modules/a/main.tf":        cleanRoot + "# tflint-ignore: terraform_unused_declarations\nlocals { dead = 1 }\nmodule \"b\" { source = \"./b\" }\n",
		"modules/a/b/main.tf.json": `{"terraform":{"required_version":">= 1.5"},"locals":{"dead":1}}`,
		"modules/a/b/more.tofu":    "",
		"other/broken.tf":          "resource {",
	})
	cfg.StackPath = "stack"
	got := run(t, cfg)
	if got.Gate != "tflint" || got.Version == "" || got.Summary != "3 warnings, 1 ignored by comments" {
		t.Errorf("got %q %q %q", got.Gate, got.Version, got.Summary)
	}
	unused := find(got.Findings, "terraform_unused_declarations")
	var places []string
	for _, f := range unused {
		places = append(places, f.File+" "+f.Suppressed)
	}
	want := []string{"modules/a/b/main.tf.json ", "modules/a/main.tf tflint-ignore: terraform_unused_declarations", "stack/main.tf "}
	if !slices.Equal(places, want) {
		t.Errorf("unused declarations at %q, want %q", places, want)
	}
	if f := unused[2]; f.Line != 4 || f.Severity != release.SeverityWarning || !strings.HasPrefix(f.Link, "https://") || !strings.Contains(f.Message, `"unused"`) {
		t.Errorf("got %+v", f)
	}
	if f := find(got.Findings, "waymark_unread_file"); len(f) != 1 || f[0].File != "modules/a/b/more.tofu" {
		t.Errorf("unread files: %+v", f)
	}
}

func TestTFLintCleanAndEmpty(t *testing.T) {
	if got := run(t, realTFLint(t, map[string]string{"main.tf": cleanRoot})); got.Summary != "no findings" || len(got.Findings) > 0 {
		t.Errorf("clean code: %+v", got)
	}
	got := run(t, realTFLint(t, map[string]string{"readme": ""}))
	if got.Summary != "nothing evaluated" || len(release.Failing(got.Findings, release.SeverityWarning)) != 1 {
		t.Errorf("no code: %+v", got)
	}
}

// TestTFLintLeavesTreeAlone also holds that a plug-in, a data folder and
// configurations that the repository carries are not used.
func TestTFLintLeavesTreeAlone(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "executed")
	script := "#!/bin/sh\ntouch " + mark + "\n"
	cfg := realTFLint(t, map[string]string{
		"main.tf":   cleanRoot + "locals { dead = 1 }\nmodule \"m\" { source = \"./m\" }\n",
		"m/main.tf": cleanRoot,
		".tflint.d/plugins/tflint-ruleset-terraform": script,
		"m/.tflint.hcl":                   "plugin \"evil\" { enabled = true }\n",
		".tflint.json":                    `{"plugin":{"evil":{"enabled":true}}}`,
		".terraform/modules/modules.json": "{ half written",
		".terraform/environment":          "evil",
		"terraform.tfvars":                "unknown = 1\n",
	})
	if err := os.Chmod(filepath.Join(cfg.Tree, ".tflint.d/plugins/tflint-ruleset-terraform"), 0o755); err != nil {
		t.Fatal(err)
	}
	before := contentDigest(cfg.Tree)
	got := run(t, cfg)
	if len(find(got.Findings, "terraform_unused_declarations")) != 1 {
		t.Errorf("got %+v", got)
	}
	if f := find(got.Findings, "waymark_config_ignored"); len(f) != 1 || f[0].File != ".tflint.json" {
		t.Errorf("ignored configuration is listed as %+v", f)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("a plug-in of the repository was executed")
	}
	if contentDigest(cfg.Tree) != before {
		t.Error("the tree was changed")
	}
}

// TestTFLintLongScratch holds that the length of a socket's path is no limit.
func TestTFLintLongScratch(t *testing.T) {
	cfg := realTFLint(t, map[string]string{"main.tf": cleanRoot + "locals { dead = 1 }\n"})
	cfg.Scratch = filepath.Join(cfg.Scratch, strings.Repeat("x", 100), strings.Repeat("y", 100))
	if err := os.MkdirAll(cfg.Scratch, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := run(t, cfg); got.Summary != "1 warning" {
		t.Errorf("got %+v", got)
	}
}

func TestTFLintErrors(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		files      map[string]string
		sentinel   error
	}{
		{"broken", "main.tf:1: Unclosed configuration block", map[string]string{"main.tf": "resource \"x\" {"}, nil},
		{"missing module", "main.tf:1: \"m\" module is not found", map[string]string{"main.tf": `module "m" { source = "./gone" }`}, nil},
		{"unknown rule", "Rule not found", map[string]string{"main.tf": cleanRoot, ".tflint.hcl": "rule \"no_such_rule\" {\n enabled = true\n}"}, nil},
		{"version", "Unsupported TFLint version", map[string]string{"main.tf": cleanRoot, ".tflint.hcl": "tflint {\n required_version = \"< 0.1\"\n}"}, nil},
		{"source outside", "main.tf:2: module source \"../../etc\" leaves", map[string]string{"main.tf": "module \"m\" {\n  source = \"../../etc\"\n}"}, release.ErrRefused},
		{"source in JSON outside", "module source \"../up\" leaves", map[string]string{"main.tf.json": `{"module":[{"m":[{"source":"../up"}]}]}`}, release.ErrRefused},
		{"source in pieces", "main.tf:1: a module's source must be a plain quoted string", map[string]string{"main.tf": `module "m" { source = "./${"m"}" }`}, release.ErrRefused},
		{"source escaped", "plain quoted string", map[string]string{"main.tf": `module "m" { source = "\u002e./x" }`}, release.ErrRefused},
		{"large", "larger than 2048 KiB", map[string]string{"main.tf": strings.Repeat("#", maxSource+1)}, release.ErrInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Run(t.Context(), realTFLint(t, tt.files))
			if err == nil || !strings.Contains(err.Error(), tt.want) || (tt.sentinel != nil && !errors.Is(err, tt.sentinel)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestTFLintRefusesLinkOutOfTree(t *testing.T) {
	outside := tree(t, map[string]string{"main.tf": cleanRoot})
	cfg := posing(t, "tflint", part{Version: "TFLint version 0.64.0", Stdout: `{"issues":[],"errors":[]}`})
	cfg.Tree = tree(t, map[string]string{"main.tf": `module "m" { source = "./m" }`})
	if err := os.Symlink(outside, filepath.Join(cfg.Tree, "m")); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), cfg); !errors.Is(err, release.ErrRefused) {
		t.Errorf("got %v, want a refusal", err)
	}
}

// TestTFLintOtherSources holds that only a module's source is read as one.
func TestTFLintOtherSources(t *testing.T) {
	cfg := posing(t, "tflint", part{Version: "TFLint version 0.64.0", Stdout: `{"issues":[],"errors":[]}`})
	cfg.Tree = tree(t, map[string]string{"main.tf": `module "m" {
  source = "./m" # with a comment
  x      = { source = "../../in/a/map" }
}
module "n" { source = "registry/n/x" }
resource "aws_s3_object" "o" {
  source = "../../${var.file}"
}
`, "m/main.tf": ""})
	var dirs []string
	cfg.Prepare = func(cmd *exec.Cmd) { dirs = append(dirs, strings.TrimPrefix(cmd.Args[1], "--chdir="+cfg.Tree)) }
	run(t, cfg)
	if want := []string{"--version", "", "/m"}; !slices.Equal(dirs, want) {
		t.Errorf("judged %q, want %q", dirs, want)
	}
}

func TestTFLintRepositoryTunes(t *testing.T) {
	code := map[string]string{
		"s/main.tf": cleanRoot + "locals { dead = 1 }\nvariable \"Odd\" {}\noutput \"o\" { value = var.Odd }\n",
		".tflint.hcl": `tflint { required_version = ">= 0.50" }
config { disabled_by_default = false }
plugin "terraform" {
  enabled = true
  preset  = "all"
}
rule "terraform_unused_declarations" { enabled = false }
rule "terraform_naming_convention" {
  enabled = true
  variable { format = "snake_case" }
}
`}
	cfg := realTFLint(t, code)
	cfg.StackPath = "s"
	got := run(t, cfg)
	off := find(got.Findings, "terraform_unused_declarations")
	if len(off) != 1 || off[0].Severity != release.SeverityNotice || off[0].File != ".tflint.hcl" || off[0].Line != 7 {
		t.Errorf("the rule that is off is listed as %+v", off)
	}
	if len(find(got.Findings, "terraform_naming_convention")) != 1 || len(find(got.Findings, "terraform_documented_variables")) != 1 {
		t.Errorf("preset and options are not obeyed: %+v", got.Findings)
	}

	// The file beside the root module wins over the one at the top.
	code["s/.tflint.hcl"] = "config {\n  disabled_by_default = true\n}\n"
	cfg = realTFLint(t, code)
	cfg.StackPath = "s"
	if got = run(t, cfg); got.Summary != "1 notice" || got.Findings[0].Rule != "waymark_rules_off" || got.Findings[0].File != "s/.tflint.hcl" {
		t.Errorf("got %+v", got)
	}

	// The operator's file wins over both.
	operator := filepath.Join(t.TempDir(), "tflint.hcl")
	if err := os.WriteFile(operator, []byte("rule \"terraform_naming_convention\" {\n enabled = true\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Scratch = scratch(t)
	cfg.Spec.Config["config"] = operator
	got = run(t, cfg)
	if len(find(got.Findings, "terraform_naming_convention")) != 1 || len(find(got.Findings, "terraform_unused_declarations")) != 1 || len(find(got.Findings, "waymark_config_ignored")) != 1 {
		t.Errorf("the operator's file is not obeyed: %+v", got.Findings)
	}
}

func TestTFLintRepositoryAsksForMore(t *testing.T) {
	for text, line := range map[string]string{
		"\nplugin \"aws\" {\n enabled = true\n}":                       ".tflint.hcl:2",
		"plugin \"terraform\" {\n enabled = true\n source = \"x\"\n}":  ".tflint.hcl:3",
		"plugin \"terraform\" {\n enabled = true\n version = \"1\"\n}": ".tflint.hcl:3",
		"plugin \"terraform\" {\n enabled = false\n}":                  ".tflint.hcl:1",
		"plugin \"terraform\" {\n preset = \"all\"\n}":                 ".tflint.hcl:1",
		"config {\n plugin_dir = \"./x\"\n}":                           ".tflint.hcl:2",
		"config {\n varfile = [\"/etc/passwd\"]\n}":                    ".tflint.hcl:2",
		"config {\n variables = [\"a=b\"]\n}":                          ".tflint.hcl:2",
		"config {\n call_module_type = \"all\"\n}":                     ".tflint.hcl:2",
		"config {\n format = \"compact\"\n}":                           ".tflint.hcl:2",
		"config {\n force = true\n}":                                   ".tflint.hcl:2",
		"config {\n\n ignore_module {}\n}":                             ".tflint.hcl:3",
		"config \"x\" {}":                                              ".tflint.hcl:1",
		"rule \"a\" \"b\" {}":                                          ".tflint.hcl:1",
		"rule \"../a\" {}":                                             ".tflint.hcl:1",
		"rule \"a\" {\n enabled = file(\"/etc/passwd\")\n}":            ".tflint.hcl:2",
		"rule \"a\" {\n enabled = var.x\n}":                            ".tflint.hcl:2",
		"odd = 1":                                                      ".tflint.hcl:1",
		"provider {}":                                                  ".tflint.hcl:1",
	} {
		cfg := posing(t, "tflint", part{Version: "TFLint version 0.64.0", Stdout: `{"issues":[],"errors":[]}`})
		cfg.Tree = tree(t, map[string]string{"main.tf": cleanRoot, ".tflint.hcl": text})
		if _, err := Run(t.Context(), cfg); !errors.Is(err, release.ErrRefused) || !strings.Contains(err.Error(), line) {
			t.Errorf("%s: got %v, want a refusal at %s", text, err, line)
		}
	}
	deep := "rule \"a\" {\n x = " + strings.Repeat("[", maxTFLintConfig-100) // must not exhaust the stack
	wide := "rule \"a\" {\n x = " + strings.Repeat("1?", maxTFLintConfig/2-100)
	unary := "rule \"a\" {\n x = " + strings.Repeat("!", maxTFLintConfig-100)
	for text, want := range map[string]string{"rule {": "Unclosed", deep: "brackets within each other", wide: "", unary: "",
		strings.Repeat("#", maxTFLintConfig+1): "larger than"} {
		cfg := posing(t, "tflint", part{})
		cfg.Tree = tree(t, map[string]string{"main.tf": cleanRoot, ".tflint.hcl": text})
		if _, err := Run(t.Context(), cfg); !errors.Is(err, release.ErrInvalid) || !strings.Contains(err.Error(), ".tflint.hcl") || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20s: got %v, want an invalid file: %s", text, err, want)
		}
	}
}

// TestTFLintValuesStayValues holds that what a rule says cannot become syntax of
// the file that is written from it.
func TestTFLintValuesStayValues(t *testing.T) {
	cfg := posing(t, "tflint", part{Version: "TFLint version 0.64.0", Stdout: `{"issues":[],"errors":[]}`})
	cfg.Tree = tree(t, map[string]string{"main.tf": cleanRoot,
		".tflint.hcl": "rule \"a\" {\n  enabled = true\n  x = \"\\\"\\n}\\nplugin \\\"evil\\\" {}\"\n  y = \"$${z}\"\n}\n"})
	run(t, cfg)
	raw, err := os.ReadFile(filepath.Join(cfg.Scratch, "tflint.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	want := "rule \"a\" {\n  enabled = true\n  x       = \"\\\"\\n}\\nplugin \\\"evil\\\" {}\"\n  y       = \"$${z}\"\n}\n" +
		"config {\n  call_module_type = \"local\"\n  plugin_dir       = \"" + cfg.Scratch + "/none\"\n}\n"
	if string(raw) != want {
		t.Errorf("wrote\n%s\nwant\n%s", raw, want)
	}
}

// TestTFLintThatDidNotJudge plays what the real program cannot be made to show.
func TestTFLintThatDidNotJudge(t *testing.T) {
	const issue = `{"rule":{"name":"r","severity":"odd"},"message":"m","range":{"filename":"/elsewhere/x.tf"}}`
	for _, tt := range []struct {
		stdout string
		exit   int
		want   string
	}{
		{"", 2, "printed nothing, exit 2"}, // a panic ends like this
		{"panic: x", 0, "not the JSON"},
		{"{}", 0, "does not fit"},
		{`{"issues":null,"errors":[]}`, 0, "does not fit"},
		{`{"issues":[],"errors":[]}`, 1, "does not fit"},
		{`{"issues":[],"errors":[]}`, 2, "does not fit"},
		{`{"issues":[` + issue + `],"errors":[{"message":"half\u001b[31m"}]}`, 2, "could not judge: half"},
	} {
		_, err := Run(t.Context(), posing(t, "tflint", part{Version: "TFLint version 0.64.0", Stdout: tt.stdout, Exit: tt.exit}))
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s, exit %d: got %v, want %q", tt.stdout, tt.exit, err, tt.want)
		}
	}
	got := run(t, posing(t, "tflint", part{Version: "TFLint version 0.64.0", Stdout: `{"issues":[` + issue + `],"errors":[]}`, Exit: 2}))
	if f := got.Findings[0]; f.Severity != release.SeverityError || f.File != "x.tf" {
		t.Errorf("an unknown severity, a file outside: %+v", f)
	}
}
