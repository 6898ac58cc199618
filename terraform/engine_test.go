package terraform_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/terraform"
)

// tool finds an executable among the built tools, then on PATH.
func tool(t *testing.T, name string) string {
	t.Helper()
	built, err := filepath.Abs(filepath.Join("..", ".tools", "bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(built); err == nil {
		return built
	}
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	t.Fatalf("%s is neither in .tools/bin nor on PATH: run make tools", name)
	return ""
}

// terraform15 is the pinned Terraform, beside a newer one that may be on PATH.
const terraform15 = "terraform-1.5"

// eachEngine runs a test with each real engine, by the name of its program.
func eachEngine(t *testing.T, test func(t *testing.T, kind string)) {
	if testing.Short() {
		t.Skip("needs real engines")
	}
	for _, kind := range []string{terraform.Tofu, terraform.Terraform, terraform15} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			test(t, kind)
		})
	}
}

// bench is an engine on a folder of code, and what it logged.
type bench struct {
	*terraform.Engine
	cfg  terraform.Config
	plan string

	mu  sync.Mutex
	log strings.Builder
	see func(line string)
}

func (b *bench) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.String()
}

func newBench(t *testing.T, kind string, files map[string]string, change func(*terraform.Config)) *bench {
	t.Helper()
	base := t.TempDir()
	b := &bench{plan: filepath.Join(base, "work", "saved.plan"), see: func(string) {}}
	b.cfg = terraform.Config{
		Kind: strings.TrimSuffix(kind, "-1.5"), Dir: filepath.Join(base, "work"), ScratchDir: filepath.Join(base, "scratch"),
		Env: map[string]string{"PATH": "/usr/bin:/bin", "HOME": base, "TMPDIR": base},
		Log: func(line string) {
			b.mu.Lock()
			b.log.WriteString(line + "\n")
			b.mu.Unlock()
			b.see(line)
		},
	}
	if err := os.Mkdir(b.cfg.ScratchDir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(b.cfg.Dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if change != nil {
		change(&b.cfg)
	}
	if b.cfg.Path == "" {
		b.cfg.Path = tool(t, kind)
	}
	var err error
	if b.Engine, err = terraform.New(b.cfg); err != nil {
		t.Fatal(err)
	}
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("no %q in:\n%s", p, text)
		}
	}
}

const secret = "hunter2-is-no-secret"

const wholeWay = `
variable "password" {
  type      = string
  sensitive = true
}
variable "region" { type = string }
variable "odd" { type = string }
resource "terraform_data" "a" {
  input = { password = var.password, region = var.region, list = [{ key = var.password }, 2] }
}
output "region" { value = var.region }
output "odd" { value = var.odd }
output "shape" { value = { b = [1, true], a = null } }
output "password" {
  value     = var.password
  sensitive = true
}
`

func TestTheWholeWayWithOneProcessPerStep(t *testing.T) {
	eachEngine(t, func(t *testing.T, kind string) {
		real := tool(t, kind)
		var count string
		b := newBench(t, kind, map[string]string{
			"main.tf":     wholeWay,
			"base.tfvars": `region = "from the file"`,
		}, func(cfg *terraform.Config) {
			dir := t.TempDir()
			count = filepath.Join(dir, "count")
			cfg.Path = filepath.Join(dir, "engine")
			must(t, os.WriteFile(cfg.Path, []byte("#!/bin/sh\necho \"$1\" >>"+count+"\nexec "+real+" \"$@\"\n"), 0o700))
		})
		ctx := t.Context()
		must(t, b.Init(ctx, nil))
		// What runs at plan time could choose another workspace for the apply.
		must(t, os.MkdirAll(filepath.Join(b.cfg.Dir, ".terraform"), 0o700))
		must(t, os.WriteFile(filepath.Join(b.cfg.Dir, ".terraform", "environment"), []byte("other"), 0o600))
		must(t, b.Plan(ctx, terraform.PlanOptions{Out: b.plan, VarFiles: []string{"base.tfvars"}, Variables: map[string]any{
			"password": secret, "region": "eu-central-1", "odd": "${x} %{ if } \"\n$(id)", "undeclared": 1,
		}}))
		plan, err := b.Show(ctx, b.plan)
		must(t, err)
		summary := terraform.Summarize(plan)
		if want := (release.Changes{Add: 1}); summary.Changes != want {
			t.Errorf("changes %+v, want %+v", summary.Changes, want)
		}
		result, err := b.Apply(ctx, b.plan)
		must(t, err)
		if result.Changes != summary.Changes {
			t.Errorf("applied %+v, planned %+v", result.Changes, summary.Changes)
		}
		for name, want := range map[string]string{"region": "eu-central-1", "odd": "${x} %{ if } \"\n$(id)",
			"shape": `{"a":null,"b":[1,true]}`, "password": "(sensitive)"} {
			if got := result.Outputs[name]; got != want {
				t.Errorf("output %s is %q, want %q", name, got, want)
			}
		}
		must(t, b.Validate(ctx))
		steps, err := os.ReadFile(count)
		must(t, err)
		if got, want := string(steps), "init\nplan\nshow\napply\nvalidate\n"; got != want {
			t.Errorf("processes:\n%swant:\n%s", got, want)
		}
		doc, _ := json.Marshal(summary)
		for where, text := range map[string]string{"summary": string(doc), "log": b.text()} {
			if strings.Contains(text, secret) {
				t.Errorf("the secret is in the %s:\n%s", where, text)
			}
		}
		contains(t, b.text(), "terraform_data.a: Creating...", "Apply complete! Resources: 1 added", "  region = eu-central-1", "  password = (sensitive)")
		if strings.Contains(b.text(), `"@level"`) {
			t.Error("the log holds raw JSON")
		}
		if _, err := os.Stat(filepath.Join(b.cfg.Dir, "terraform.tfstate")); err != nil {
			t.Errorf("the default workspace was not used: %v", err)
		}

		// A second time nothing changes, and the plan of nothing can be applied.
		// The change after it shows what the engine itself no longer masks: the
		// computed copy in terraform_data's output.
		vars := map[string]any{"password": secret, "region": "eu-central-1", "odd": "${x} %{ if } \"\n$(id)"}
		must(t, b.Plan(ctx, terraform.PlanOptions{Out: b.plan, Variables: vars}))
		result, err = b.Apply(ctx, b.plan)
		must(t, err)
		if result.Changes.Any() || result.Outputs["region"] != "eu-central-1" {
			t.Errorf("an empty plan gave %+v", result)
		}
		vars["region"], vars["password"] = "us-east-1", "another-long-secret"
		must(t, b.Plan(ctx, terraform.PlanOptions{Out: b.plan, Variables: vars}))
		plan, err = b.Show(ctx, b.plan)
		must(t, err)
		doc, _ = json.Marshal(terraform.Summarize(plan))
		if strings.Contains(string(doc), secret) || strings.Contains(string(doc), "another-long-secret") {
			t.Errorf("a secret is in the summary of an update:\n%s", doc)
		}
		contains(t, string(doc), `"path":"input.region","before":"\"eu-central-1\"","after":"\"us-east-1\""`, `"path":"input.password","before":"(sensitive)","after":"(sensitive)"`, `(known after apply)`)
	})
}

func TestAFailingApplyNamesTheResourceAndThePlace(t *testing.T) {
	eachEngine(t, func(t *testing.T, kind string) {
		b := newBench(t, kind, map[string]string{
			"main.tf": "module \"regional\" {\n  source = \"./modules/regional\"\n}\nresource \"terraform_data\" \"other\" {\n  input = module.regional.id\n}\n",
			"modules/regional/main.tf": `resource "terraform_data" "first" {}
resource "terraform_data" "x" {
  input = terraform_data.first.id
  provisioner "local-exec" {
    command = "printf 'a\\033[31mred\\033[0m\\000b\\n'; echo \"{not json\"; exit 3"
  }
}
output "id" { value = terraform_data.x.id }
`}, nil)
		ctx := t.Context()
		must(t, b.Init(ctx, nil))
		must(t, b.Plan(ctx, terraform.PlanOptions{Out: b.plan}))
		result, err := b.Apply(ctx, b.plan)
		var failure *terraform.Error
		if !errors.As(err, &failure) {
			t.Fatalf("got %v, want an *Error", err)
		}
		if want := "apply: module.regional.terraform_data.x: local-exec: exit status 3 (modules/regional/main.tf:4)"; err.Error() != want {
			t.Errorf("got  %q\nwant %q", err, want)
		}
		if want := (release.Changes{Add: 1}); result.Changes != want {
			t.Errorf("changes %+v, want %+v: the first resource was made", result.Changes, want)
		}
		if len(result.Failed) != 1 || result.Failed[0].Address != "module.regional.terraform_data.x" || result.Failed[0].Action != "create" ||
			result.Failed[0].Reason != "local-exec: exit status 3 (modules/regional/main.tf:4)" {
			t.Errorf("failed: %+v", result.Failed)
		}
		if text := b.text(); strings.Contains(text, "Error: ") || !b.Held() {
			t.Errorf("diagnostics are not held back: %s", text)
		}
		b.Release()
		contains(t, b.text(), "(modules/regional/main.tf:4, module.regional.terraform_data.x)", "(local-exec): ared", "(local-exec): {not json")
		if strings.ContainsAny(b.text(), "\x1b\x00") {
			t.Error("the log holds control characters")
		}
	})
}

func TestWhatIsWrongInTheCodeIsSaidWithItsPlace(t *testing.T) {
	eachEngine(t, func(t *testing.T, kind string) {
		b := newBench(t, kind, map[string]string{"main.tf": "output \"x\" {\n  value = terraform_data.none.id\n}\n"}, nil)
		must(t, b.Init(t.Context(), nil))
		for name, err := range map[string]error{
			"plan":     b.Plan(t.Context(), terraform.PlanOptions{Out: b.plan}),
			"validate": b.Validate(t.Context()),
		} {
			if err == nil {
				t.Fatalf("%s passed", name)
			}
			contains(t, err.Error(), name+": Reference to undeclared resource: ", "managed resource \"terraform_data\" \"none\"", "(main.tf:2)")
		}

		b = newBench(t, kind, map[string]string{"main.tf": "output \"x\" {\n  value = \n}\nresource {"}, nil)
		err := b.Init(t.Context(), nil)
		if err == nil {
			t.Fatal("init passed")
		}
		contains(t, strings.SplitN(err.Error(), "\n", 2)[0], "init: ", "(main.tf:2)")
		contains(t, b.text(), "main.tf")
	})
}

func TestALockedStateNamesItsHolderAndACancelFreesIt(t *testing.T) {
	eachEngine(t, func(t *testing.T, kind string) {
		b := newBench(t, kind, map[string]string{"main.tf": `
resource "terraform_data" "first" {}
resource "terraform_data" "slow" {
  input = terraform_data.first.id
  provisioner "local-exec" {
    command = "echo started; exec sleep 600"
  }
}`}, nil)
		must(t, b.Init(t.Context(), nil))
		must(t, b.Plan(t.Context(), terraform.PlanOptions{Out: b.plan}))
		other, err := terraform.New(terraform.Config{Path: b.cfg.Path, Kind: strings.TrimSuffix(kind, "-1.5"), Dir: b.cfg.Dir, Env: b.cfg.Env, ScratchDir: b.cfg.ScratchDir})
		must(t, err)

		started := make(chan struct{})
		b.see = func(line string) {
			if strings.HasSuffix(line, "(local-exec): started") {
				close(started)
			}
		}
		why := errors.New("somebody pressed cancel")
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, err := b.Apply(ctx, b.plan)
			ended <- err
		}()
		<-started
		err = other.Plan(t.Context(), terraform.PlanOptions{Out: b.plan + "2"})
		var failure *terraform.Error
		if !errors.As(err, &failure) || failure.Lock == nil {
			t.Fatalf("the lock was not recognised: %v", err)
		}
		if l := failure.Lock; l.ID == "" || l.Who == "" || l.Operation != "OperationTypeApply" || time.Since(l.Created) > time.Hour {
			t.Errorf("lock: %+v", l)
		}
		contains(t, err.Error(), "plan: the state is locked by "+failure.Lock.Who, failure.Lock.ID)
		cancel(why)
		err = <-ended
		if !errors.Is(err, context.Canceled) || !errors.Is(err, why) {
			t.Errorf("got %v, want it to wrap the cancellation and its cause", err)
		}
		contains(t, err.Error(), "apply: stopped: ", why.Error())
		must(t, other.Plan(t.Context(), terraform.PlanOptions{Out: b.plan + "2"}))
		plan, err := other.Show(t.Context(), b.plan+"2")
		must(t, err)
		if got := terraform.Summarize(plan).Changes; got != (release.Changes{Add: 1, Destroy: 1}) {
			t.Errorf("after the cancel %+v is left, want the tainted resource alone: the state was not saved", got)
		}
	})
}

func TestTargetDestroyAndRefreshOnly(t *testing.T) {
	eachEngine(t, func(t *testing.T, kind string) {
		b := newBench(t, kind, map[string]string{"main.tf": "resource \"terraform_data\" \"a\" {}\nresource \"terraform_data\" \"b\" {}\n"}, nil)
		ctx := t.Context()
		must(t, b.Init(ctx, nil))
		for _, step := range []struct {
			opts terraform.PlanOptions
			want release.Changes
		}{
			{terraform.PlanOptions{Target: "terraform_data.a"}, release.Changes{Add: 1}},
			{terraform.PlanOptions{RefreshOnly: true}, release.Changes{}},
			{terraform.PlanOptions{}, release.Changes{Add: 1}},
			{terraform.PlanOptions{Destroy: true}, release.Changes{Destroy: 2}},
		} {
			step.opts.Out = b.plan
			must(t, b.Plan(ctx, step.opts))
			plan, err := b.Show(ctx, b.plan)
			must(t, err)
			result, err := b.Apply(ctx, b.plan)
			must(t, err)
			if got := terraform.Summarize(plan).Changes; got != step.want || result.Changes != step.want {
				t.Errorf("%+v: planned %+v, applied %+v, want %+v", step.opts, got, result.Changes, step.want)
			}
		}
	})
}

// A process that a provisioner leaves behind must not hold up the end.
func TestALeftOverProcessDoesNotHoldUpTheEnd(t *testing.T) {
	b := newBench(t, terraform.Tofu, map[string]string{"x": ""}, func(cfg *terraform.Config) {
		cfg.Path = filepath.Join(t.TempDir(), "engine")
		must(t, os.WriteFile(cfg.Path, []byte("#!/bin/sh\nsleep 600 &\necho $! >&2\necho '{\"format_version\":\"1.2\",\"terraform_version\":\"9.9.9\"}'\n"), 0o700))
	})
	start := time.Now()
	plan, err := b.Show(t.Context(), b.plan)
	if err != nil || plan.TerraformVersion != "9.9.9" {
		t.Errorf("plan %+v, %v", plan, err)
	}
	if time.Since(start) > time.Minute {
		t.Error("it waited for the process left behind")
	}
	var pid int
	must(t, json.Unmarshal([]byte(strings.TrimSpace(b.text())), &pid))
	must(t, syscall.Kill(pid, syscall.SIGKILL))
}

func TestAnEngineThatDoesNotStopIsKilledAndThatIsSaid(t *testing.T) {
	b := newBench(t, terraform.Tofu, map[string]string{"x": ""}, func(cfg *terraform.Config) {
		cfg.Path = filepath.Join(t.TempDir(), "engine")
		cfg.StopTimeout = 10 * time.Millisecond
		must(t, os.WriteFile(cfg.Path, []byte("#!/bin/sh\ntrap '' INT\necho '{\"@message\":\"deaf\"}'\nexec sleep 600\n"), 0o700))
	})
	ctx, cancel := context.WithCancel(t.Context())
	b.see = func(string) { cancel() }
	_, err := b.Apply(ctx, b.plan)
	var exit *exec.ExitError
	if !errors.Is(err, context.Canceled) || !errors.As(err, &exit) {
		t.Errorf("got %v, want the cancellation and the kill", err)
	}
}

func TestConfigurationThatCouldMisleadTheEngineIsRefused(t *testing.T) {
	good := terraform.Config{Path: "/bin/true", Kind: "tofu", Dir: t.TempDir(), ScratchDir: t.TempDir()}
	for name, change := range map[string]func(*terraform.Config){
		"kind":       func(c *terraform.Config) { c.Kind = "terragrunt" },
		"path":       func(c *terraform.Config) { c.Path = "tofu" },
		"dir":        func(c *terraform.Config) { c.Dir = "." },
		"plugin dir": func(c *terraform.Config) { c.PluginDir = "/a\"b" },
		"workspace":  func(c *terraform.Config) { c.Env = map[string]string{"TF_WORKSPACE": "prod"} },
		"arguments":  func(c *terraform.Config) { c.Env = map[string]string{"TF_CLI_ARGS_plan": "-destroy"} },
		"log":        func(c *terraform.Config) { c.Env = map[string]string{"TF_LOG_CORE": "trace"} },
		"nul":        func(c *terraform.Config) { c.Env = map[string]string{"A": "b\x00"} },
	} {
		cfg := good
		change(&cfg)
		if _, err := terraform.New(cfg); !errors.Is(err, release.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	e, err := terraform.New(good)
	must(t, err)
	if err := e.Init(t.Context(), []string{"/somewhere"}); !errors.Is(err, release.ErrInvalid) {
		t.Errorf("init with a path: %v", err)
	}
	if err := e.Plan(t.Context(), terraform.PlanOptions{Out: "-destroy"}); !errors.Is(err, release.ErrInvalid) {
		t.Errorf("plan to an option: %v", err)
	}
	if _, err := e.Apply(t.Context(), "saved.plan"); !errors.Is(err, release.ErrInvalid) {
		t.Errorf("apply of a relative path: %v", err)
	}
}

func TestOutputThatIsNoMessageIsLoggedAndBounded(t *testing.T) {
	b := newBench(t, terraform.Tofu, map[string]string{"x": ""}, func(cfg *terraform.Config) {
		cfg.Path = filepath.Join(t.TempDir(), "engine")
		must(t, os.WriteFile(cfg.Path, []byte("#!/bin/sh\nhead -c 20000000 /dev/zero\necho\nhead -c 100000 /dev/zero | tr '\\0' x\necho\necho '{\"@message\":5}'\necho '{broken'\necho panic: oh >&2\nexit 11\n"), 0o700))
	})
	err := b.Plan(t.Context(), terraform.PlanOptions{Out: b.plan})
	if err == nil || err.Error() != "plan: exit status 11: panic: oh" {
		t.Errorf("got %v", err)
	}
	text := b.text()
	contains(t, text, "(a message of more than 16 MiB was left out)", "xxx…\n", "could not be read")
	if len(text) > 70<<10 {
		t.Errorf("the log has %d bytes", len(text))
	}
}

// What an engine ran may have left links where the next one's settings go.
func TestSettingsAreNotWrittenThroughALink(t *testing.T) {
	mine := filepath.Join(t.TempDir(), "mine")
	must(t, os.WriteFile(mine, []byte("untouched"), 0o600))
	cfg := terraform.Config{Path: "/bin/true", Kind: "tofu", Dir: t.TempDir(), ScratchDir: t.TempDir()}
	for _, name := range []string{"engine.tfrc", "variables.tfvars.json"} {
		must(t, os.Symlink(mine, filepath.Join(cfg.ScratchDir, name)))
	}
	e, err := terraform.New(cfg)
	must(t, err)
	must(t, e.Plan(t.Context(), terraform.PlanOptions{Out: "/plan", Variables: map[string]any{"password": secret}}))
	if text, err := os.ReadFile(mine); err != nil || string(text) != "untouched" {
		t.Errorf("the linked file holds %q, %v", text, err)
	}
	if left, err := os.ReadDir(cfg.ScratchDir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestDigest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(file, []byte("abc"), 0o600))
	got, err := terraform.Digest(file)
	if err != nil || got != "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Errorf("digest %q, %v", got, err)
	}
	if _, err := terraform.Digest(file + "none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
