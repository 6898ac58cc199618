package config_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
)

const gated = minimal + `
gate "tflint" {}
gate "trivy" { mode = "soft" }
gate "checkov" { enabled = false }
`

const waiver = `
waiver "w" {
  gate    = "tflint"
  rule    = "R1"
  owner   = "alice@example.org"
  reason  = "a public website"
  expires = "2027-01-31"
}
`

func TestGatesOfAnEnvironment(t *testing.T) {
	for _, tt := range []struct{ env, want string }{
		{``, "tflint hard error, trivy soft error"},
		{`gates = ["tflint"]`, "tflint hard error"},
		{`gates = []`, ""},
		{`soft_gates = []`, "tflint hard error, trivy hard error"},
		{`soft_gates = ["tflint"]`, "tflint soft error, trivy hard error"},
		{`gate_fail_on = { trivy = "notice" }`, "tflint hard error, trivy soft notice"},
	} {
		cfg, err := config.Parse("/etc/waymark/waymark.hcl", []byte(gated+"environment \"prod\" {\n  regions = [\"us-east-1\"]\n  "+tt.env+"\n}\n"), nil)
		if err != nil {
			t.Fatalf("%s: %v", tt.env, err)
		}
		var got []string
		for _, g := range cfg.GatesFor("prod") {
			got = append(got, fmt.Sprintf("%s %s %s", g.Name, g.Mode, g.FailOn))
		}
		if strings.Join(got, ", ") != tt.want {
			t.Errorf("%s: got %q, want %q", tt.env, got, tt.want)
		}
	}
}

func TestGateOfOnesOwn(t *testing.T) {
	cfg, err := config.Parse("/etc/waymark/waymark.hcl", []byte(minimal+`
gate "own" {
  command = ["./scan", "--out", "./x"]
  stage   = "lint"
}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	g := cfg.Gates[0]
	if want := []string{"/etc/waymark/scan", "--out", "./x"}; !reflect.DeepEqual(g.Command, want) || !g.Own() || g.Format != "sarif" || g.Stage != "lint" {
		t.Errorf("got %+v", g)
	}
}

func TestWaiversOfATarget(t *testing.T) {
	target := release.Target{Env: "dev", Scope: "us-east-1", Team: "research"}
	for _, tt := range []struct {
		selectors string
		want      bool
	}{
		{``, true},
		{`environments = ["dev"]`, true},
		{`environments = ["prod"]`, false},
		{`teams = ["research"]`, true},
		{`teams = ["risk"]`, false},
		{`targets = ["dev_us-east-1/research"]`, true},
		{`targets = ["prod_us-east-1/research"]`, false},
		{"environments = [\"dev\"]\nteams = [\"risk\"]", false},
	} {
		src := `
repository "infra" { url = "https://git.example.org/infra.git" }
teams = ["research", "risk"]
environment "dev" { regions = ["us-east-1"] }
environment "prod" { regions = ["us-east-1"] }
gate "tflint" {}
` + strings.Replace(waiver, "}", tt.selectors+"\n}", 1)
		cfg, err := config.Parse("waymark.hcl", []byte(src), nil)
		if err != nil {
			t.Fatal(err)
		}
		want := []release.Waiver{{Name: "w", Rule: "R1", Owner: "alice@example.org", Reason: "a public website", Expires: "2027-01-31"}}
		if !tt.want {
			want = nil
		}
		if got := cfg.WaiversFor("tflint", target); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v", tt.selectors, got)
		}
		if cfg.WaiversFor("checkov", target) != nil {
			t.Error("a waiver fits another gate")
		}
	}
}

func TestWarningsOfWaivers(t *testing.T) {
	cfg, err := config.Parse("waymark.hcl", []byte(gated+waiver), nil)
	if err != nil {
		t.Fatal(err)
	}
	for now, want := range map[string]string{
		"2027-01-17T23:59:59Z": "",
		"2027-01-18T00:00:00Z": `waymark.hcl:16:3: waiver "w" ends on 2027-01-31: fix what it covers, or have alice@example.org renew it`,
		"2027-01-31T23:59:59Z": `waiver "w" ends on 2027-01-31`,
		"2027-02-01T00:00:00Z": `waiver "w" expired on 2027-01-31 and no longer counts`,
	} {
		at, err := time.Parse(time.RFC3339, now)
		if err != nil {
			t.Fatal(err)
		}
		if got := cfg.Warnings(at); (len(got) > 0) != (want != "") || !strings.Contains(got.Error(), want) {
			t.Errorf("at %s: got %q, want %q", now, got, want)
		}
	}
}
