package terraform_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/terraform"
)

const timeVersion = "0.14.2"

// mirror lays out a filesystem mirror that holds the time provider for both
// engines' registries.
func mirror(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, host := range []string{"registry.opentofu.org", "registry.terraform.io"} {
		folder := filepath.Join(dir, host, "hashicorp", "time", timeVersion, "linux_amd64")
		must(t, os.MkdirAll(folder, 0o700))
		must(t, os.Symlink(tool(t, "terraform-provider-time"), filepath.Join(folder, "terraform-provider-time_v"+timeVersion)))
	}
	return dir
}

const timeCode = `
terraform {
  required_providers {
    time = {
      source  = "hashicorp/time"
      version = "0.14.2"
    }
  }
}
resource "time_static" "now" {}
output "year" { value = time_static.now.year }
`

func TestAProviderFromAMirrorThroughTheCache(t *testing.T) {
	eachEngine(t, func(t *testing.T, kind string) {
		plugins, cache := mirror(t), filepath.Join(t.TempDir(), "cache")
		setUp := func(cfg *terraform.Config) { cfg.PluginDir, cfg.PluginCache = plugins, cache }
		code := map[string]string{"main.tf": timeCode}
		var group sync.WaitGroup
		benches := make([]*bench, 3)
		for i := range benches {
			benches[i] = newBench(t, kind, code, setUp)
			group.Go(func() {
				if err := benches[i].Init(t.Context(), nil); err != nil {
					t.Errorf("init %d: %v", i, err)
				}
			})
		}
		group.Wait()
		b := benches[0]
		contains(t, b.text(), "There is no .terraform.lock.hcl")
		must(t, b.Plan(t.Context(), terraform.PlanOptions{Out: b.plan}))
		plan, err := b.Show(t.Context(), b.plan)
		must(t, err)
		if s := terraform.Summarize(plan); len(s.Resources) != 1 || !strings.HasSuffix(s.Resources[0].Provider, "/hashicorp/time") {
			t.Errorf("summary %+v", s)
		}
		result, err := b.Apply(t.Context(), b.plan)
		must(t, err)
		if !strings.HasPrefix(result.Outputs["year"], "20") {
			t.Errorf("outputs %v", result.Outputs)
		}
		found, _ := filepath.Glob(filepath.Join(cache, "*", "hashicorp", "time", timeVersion, "linux_amd64"))
		if len(found) != 1 {
			t.Errorf("in the cache: %v", found)
		}

		// The lock file of this init, committed, holds.
		lock, err := os.ReadFile(filepath.Join(b.cfg.Dir, ".terraform.lock.hcl"))
		must(t, err)
		code[".terraform.lock.hcl"] = string(lock)
		b = newBench(t, kind, code, setUp)
		must(t, b.Init(t.Context(), nil))
		if strings.Contains(b.text(), "There is no") {
			t.Errorf("the lock file was not seen:\n%s", b.text())
		}

		code[".terraform.lock.hcl"] = strings.Replace(string(lock), "h1:", "h1:x", 1)
		b = newBench(t, kind, code, setUp)
		err = b.Init(t.Context(), nil)
		if err == nil {
			t.Fatal("a wrong checksum passed")
		}
		contains(t, err.Error(), "init: ", "hashicorp/time")
		if strings.Contains(b.text(), "does not list exactly") {
			t.Error("a wrong checksum was taken for a list that does not fit")
		}

		// A list that does not fit is no reason to fail: a state may need more.
		for name, misfit := range map[string]map[string]string{
			"too short": {"main.tf": timeCode, ".terraform.lock.hcl": "# nothing\n"},
			"too long":  {"main.tf": "resource \"terraform_data\" \"a\" {}\n", ".terraform.lock.hcl": string(lock)},
		} {
			b = newBench(t, kind, misfit, setUp)
			if err := b.Init(t.Context(), nil); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			contains(t, b.text(), ".terraform.lock.hcl does not list exactly the providers")
			must(t, b.Plan(t.Context(), terraform.PlanOptions{Out: b.plan}))
		}
	})
}

func TestAMissingProviderIsSaid(t *testing.T) {
	eachEngine(t, func(t *testing.T, kind string) {
		b := newBench(t, kind, map[string]string{"main.tf": timeCode}, func(cfg *terraform.Config) { cfg.PluginDir = t.TempDir() })
		err := b.Init(t.Context(), nil)
		if err == nil {
			t.Fatal("init passed without the provider")
		}
		contains(t, strings.SplitN(err.Error(), "\n", 2)[0], "init: Failed to query available provider packages: ", "hashicorp/time")
	})
}

// What a repository brings along in .terraform must not take part: a provider
// there would run instead of the one that the allow-list means.
func TestARepositorysOwnDotTerraformIsRemoved(t *testing.T) {
	eachEngine(t, func(t *testing.T, kind string) {
		b := newBench(t, kind, map[string]string{
			"main.tf":                           "module \"m\" {\n  source = \"./m\"\n}\noutput \"x\" {\n  value = module.m.x\n}\n",
			"m/main.tf":                         "output \"x\" { value = \"good\" }\n",
			"evil/main.tf":                      "output \"x\" { value = \"evil\" }\n",
			".terraform/modules/modules.json":   `{"Modules":[{"Key":"","Source":"","Dir":"."},{"Key":"m","Source":"./m","Dir":"evil"}]}`,
			".terraform/providers/x/y/provider": "",
		}, nil)
		must(t, b.Init(t.Context(), nil))
		must(t, b.Plan(t.Context(), terraform.PlanOptions{Out: b.plan}))
		result, err := b.Apply(t.Context(), b.plan)
		must(t, err)
		if result.Outputs["x"] != "good" {
			t.Errorf("outputs %v", result.Outputs)
		}
		if _, err := os.Stat(filepath.Join(b.cfg.Dir, ".terraform", "providers", "x")); err == nil {
			t.Error("the repository's provider is still there")
		}
	})
}

func TestInitRefusesToLeaveTheStateInTheWorkingCopy(t *testing.T) {
	eachEngine(t, func(t *testing.T, kind string) {
		b := newBench(t, kind, map[string]string{"main.tf": "output \"x\" { value = 1 }\n"}, nil)
		err := b.Init(t.Context(), []string{"-backend-config=path=/somewhere/else.tfstate"})
		if !errors.Is(err, release.ErrRefused) {
			t.Fatalf("got %v", err)
		}
		contains(t, err.Error(), "init: Missing backend configuration: the code has no backend block")
	})
}

// holdCache takes the lock of a plug-in cache as another process would.
func holdCache(t *testing.T, cache string) *os.File {
	t.Helper()
	must(t, os.MkdirAll(cache, 0o700))
	f, err := os.OpenFile(filepath.Join(cache, ".waymark.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	must(t, syscall.Flock(int(f.Fd()), syscall.LOCK_EX))
	return f
}

func TestOnlyCodeThatNeedsTheCacheWaitsForIt(t *testing.T) {
	if testing.Short() {
		t.Skip("needs real engines")
	}
	cache := filepath.Join(t.TempDir(), "cache")
	held := holdCache(t, cache)
	setUp := func(cfg *terraform.Config) { cfg.PluginCache, cfg.PluginDir = cache, mirror(t) }
	plain := map[string]string{
		"main.tf":   "terraform {\n  required_version = \">= 1.5\"\n}\nmodule \"m\" {\n  source = \"./m\"\n}\ndata \"terraform_remote_state\" \"x\" {\n  count   = 0\n  backend = \"local\"\n}\n",
		"m/main.tf": "resource \"terraform_data\" \"a\" {}\n",
	}
	must(t, newBench(t, terraform.Terraform, plain, setUp).Init(t.Context(), nil))

	for name, code := range map[string]string{
		"a provider":         timeCode,
		"a remote module":    "module \"m\" {\n  source = \"git::https://example.org/x.git\"\n}\n",
		"a module with one":  "module \"m\" {\n  source = \"./m\"\n}\n",
		"a chosen provider":  "resource \"terraform_data\" \"a\" {\n  provider = time\n}\n",
		"a provider's block": "provider \"time\" {}\n",
	} {
		ctx, cancel := context.WithCancel(t.Context())
		b := newBench(t, terraform.Terraform, map[string]string{"main.tf": code, "m/m.tf": timeCode}, setUp)
		b.see = func(line string) {
			if strings.HasPrefix(line, "There is no") {
				cancel() // it is about to wait for the lock
			}
		}
		if err := b.Init(ctx, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want it to wait until it is cancelled", name, err)
		}
	}

	b := newBench(t, terraform.Terraform, map[string]string{"main.tf": timeCode}, setUp)
	b.see = func(line string) {
		if strings.HasPrefix(line, "There is no") {
			held.Close()
		}
	}
	must(t, b.Init(t.Context(), nil))
}

func TestACancelledContextStartsNothing(t *testing.T) {
	b := newBench(t, terraform.Tofu, map[string]string{"main.tf": ""}, func(cfg *terraform.Config) { cfg.Path = "/nowhere/engine" })
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(fmt.Errorf("the service stops"))
	if err := b.Init(ctx, nil); !errors.Is(err, context.Canceled) || err.Error() != "init: stopped: context canceled: the service stops" {
		t.Errorf("got %v", err)
	}
	if err := b.Init(t.Context(), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
