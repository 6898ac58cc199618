package main

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/config"
)

// pooled is a configuration with two pools.
const pooled = `
repository "infra" { url = "https://git.example.org/infra.git" }
teams = ["research"]
environment "dev" { regions = ["us-east-1", "eu-central-1"] }
pool "euc1" { scopes = ["eu-central-1"] }
pool "use1" { scopes = ["us-east-1"] }
`

func TestServeOptions(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	all := []string{"api", "controller", "worker"}
	for _, c := range []struct {
		name, src string
		in, want  serveOptions
	}{
		{"nothing said", pooled, serveOptions{}, serveOptions{all, []string{"euc1", "use1", "default"}, host}},
		{"no pools", strings.Split(pooled, "pool")[0], serveOptions{}, serveOptions{all, []string{"default"}, host}},
		{"one pool", pooled, serveOptions{Pools: []string{"use1"}, Name: "w-1.use1"}, serveOptions{all, []string{"use1"}, "w-1.use1"}},
		{"default alone", pooled, serveOptions{Pools: []string{"default"}}, serveOptions{all, []string{"default"}, host}},
		{"in order, each once", pooled, serveOptions{Roles: []string{"worker", "api", "worker"}, Pools: []string{"use1", "euc1", "use1"}},
			serveOptions{[]string{"api", "worker"}, []string{"euc1", "use1"}, host}},
		{"no worker", pooled, serveOptions{Roles: []string{"controller"}}, serveOptions{[]string{"controller"}, nil, host}},
	} {
		cfg, err := config.Parse("waymark.hcl", []byte(c.src), nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.in.complete(cfg)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, %v, want %+v", c.name, got, err, c.want)
		}
	}
}

// TestServeRefusesOptions runs the real command, which ends before it opens anything.
func TestServeRefusesOptions(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "waymark.hcl")
	if err := os.WriteFile(file, []byte(pooled), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ line, says string }{
		{"--role wroker", `--role "wroker" is no role: did you mean "worker"? known: api, controller, worker`},
		{"--role api,,worker", `--role "" is no role`},
		{"--role api --role x", `--role "x" is no role`},
		{"--pool euc2", `--pool "euc2" is no pool of ` + file + `: did you mean "euc1"? known: euc1, use1, default; or add pool "euc2" { ... }`},
		{"--pool use1,Default", `--pool "Default" is no pool`},
		{"--role api,controller --pool use1", `--role leaves out worker`},
		{"--name a/b", `--name "a/b": write letters, digits`},
		{"--name -x", `--name "-x"`},
		{"--name " + strings.Repeat("x", 65), `64 at most`},
	} {
		var out, errs bytes.Buffer
		args := append([]string{"serve", "--config", file}, strings.Fields(c.line)...)
		if code := run(t.Context(), args, os.Getenv, &out, &errs); code != exitUsage || !strings.Contains(errs.String(), c.says) {
			t.Errorf("serve %s: exit %d, want %d, saying %q: %s", c.line, code, exitUsage, c.says, errs.String())
		}
		if _, err := os.Stat(filepath.Join(dir, "waymark-data")); err == nil {
			t.Fatalf("serve %s made a data folder", c.line)
		}
	}
}
