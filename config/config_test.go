package config_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/tagparse"
)

// environ answers env() from a map.
func environ(m map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := m[name]
		return v, ok
	}
}

// files is a repository at a commit.
type files map[string]string

func (f files) ReadFile(path string) ([]byte, error) {
	s, ok := f[path]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return []byte(s), nil
}

// minimal is the smallest file that works.
const minimal = `
repository "infra" { url = "https://git.example.org/infra.git" }
teams = ["research", "risk"]
global_region = "us-east-1"
environment "dev" { regions = ["us-east-1", "eu-central-1"] }
`

func parse(t *testing.T, src string) *config.Config {
	t.Helper()
	c, err := config.Parse("/etc/waymark/waymark.hcl", []byte(src), environ(map[string]string{"SET": "value"}))
	if err != nil {
		t.Fatalf("the configuration has problems:\n%v", err)
	}
	return c
}

func tag(t *testing.T, name string) tagparse.Tag {
	t.Helper()
	parsed, err := tagparse.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestContractExample(t *testing.T) {
	env := environ(map[string]string{"WAYMARK_WEBHOOK_SECRET": "s3cret"})
	c, err := config.Load("testdata/contract.hcl", env)
	if err != nil {
		t.Fatalf("the contract's example has problems:\n%v", err)
	}
	for what, ok := range map[string]bool{
		"listen":         c.Server.Listen == "127.0.0.1:8080",
		"database":       c.Server.Database.Reveal() == "sqlite",
		"poll":           c.Repositories[0].Poll == 30*time.Second,
		"webhook secret": c.Repositories[0].Webhook.Secret.Reveal() == "s3cret",
		"branch":         c.Repositories[0].Branch == "main",
		"engine":         c.Engine.Kind == "tofu",
		"backend":        c.Backend.Type == "s3" && !c.Backend.Embedded && len(c.Backend.Values) == 5,
		"global region":  c.GlobalRegion == "us-east-1",
		"teams":          strings.Join(c.Teams, " ") == "research risk",
		"promotion":      c.Environments[2].PromotesFrom == "staging",
		"approvals":      c.Environments[2].Approvals == 1,
		"gates":          len(c.Gates) == 2 && c.Gates[1].FailOn == release.SeverityError,
	} {
		if !ok {
			t.Errorf("%s was not decoded", what)
		}
	}
	d, err := c.Resolve(config.ResolveInput{Repository: "infra", Tag: tag(t, "prod_global/risk/2.1"), Commit: "abc",
		Files: files{"environments/prod/risk/variables.tfvars": `account = "444455556666"`}})
	if err != nil {
		t.Fatal(err)
	}
	if d.BackendLocation != (config.BackendLocation{Kind: "s3", Bucket: "org-awesome-tf-state-prod",
		Key: "risk/prod-global/terraform.tfstate", Lock: "org-awesome-tf-state-lock-prod"}) {
		t.Errorf("the state is at %+v", d.BackendLocation)
	}
	if d.ApplyRole != "arn:aws:iam::444455556666:role/InfraBuildRole" || d.Region != "us-east-1" || d.Stack.Module != "module.global" || d.Approvals != 1 {
		t.Errorf("resolved to %+v", d)
	}
	if d.Backend.Values["encrypt"] != "true" {
		t.Errorf("encrypt is %q", d.Backend.Values["encrypt"])
	}
}

func TestDefaults(t *testing.T) {
	c := parse(t, minimal)
	for what, ok := range map[string]bool{
		"listen":           c.Server.Listen == "127.0.0.1:8080",
		"data_dir":         c.Server.DataDir == "/etc/waymark/waymark-data",
		"database":         c.Server.Database.Reveal() == "sqlite",
		"max_runs":         c.Server.MaxRuns == 8,
		"shutdown_grace":   c.Server.ShutdownGrace == 30*time.Second,
		"first_contact":    c.Repositories[0].FirstContact == "adopt",
		"lightweight_tags": c.Repositories[0].LightweightTags == "refuse",
		"branch":           c.Repositories[0].Branch == "main",
		"kind":             c.Engine.Kind == "tofu",
		"timeout":          c.Engine.Timeout == 2*time.Hour,
		"downgrade":        c.Environments[0].Downgrade == "refuse",
		"queue":            c.Environments[0].Queue == "all",
		"sandbox":          c.Runner.Sandbox == "auto",
		"keep":             !c.Runner.Keep,
		"embedded":         c.Backend.Type == "local" && c.Backend.Embedded,
		"heartbeat":        c.Server.Heartbeat == 30*time.Second,
		"unknown":          c.Environments[0].Unknown == "ask",
		"pools":            len(c.Pools) == 0,
		"blobs":            c.Blobs == config.Blobs{},
		"retention":        c.Retention == config.Retention{},
	} {
		if !ok {
			t.Errorf("the default of %s is wrong: %+v", what, c)
		}
	}
}

func TestRelativePathsAreReadFromTheFile(t *testing.T) {
	c := parse(t, minimal+`
server { data_dir = "../data" }
engine {
  path       = "bin/tofu"
  plugin_dir = "mirror"
}
gate "tflint" { path = "tflint" }
runner { writable = ["cache"] }
repository "local" { url = "../infra.git" }
`)
	for got, want := range map[string]string{
		c.Server.DataDir:      "/etc/data",
		c.Engine.Path:         "/etc/waymark/bin/tofu",
		c.Engine.PluginDir:    "/etc/waymark/mirror",
		c.Gates[0].Path:       "tflint",
		c.Runner.Writable[0]:  "/etc/waymark/cache",
		c.Repositories[1].URL: "/etc/infra.git",
	} {
		if got != want {
			t.Errorf("the path is %q, want %q", got, want)
		}
	}
}

func TestLoadReportsAMissingFile(t *testing.T) {
	_, err := config.Load(filepath.Join(t.TempDir(), "none.hcl"), os.LookupEnv)
	if !errors.Is(err, release.ErrInvalid) || !strings.Contains(err.Error(), "name one with --config") {
		t.Errorf("got %v", err)
	}
}
