package config_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
)

const threeSigners = twoEnvironments + `
signers "release" {
  openpgp         = ["keys/a.asc", "/keys/b.gpg"]
  allowed_signers = "allowed"
}
signers "research" {
  allowed_signers = "research"
  teams           = ["research"]
}
signers "ops" { openpgp = ["ops.asc"] }
environment "signed" {
  regions           = ["us-east-1"]
  require_signature = true
  signers           = ["research", "ops"]
}
`

func TestSignersFor(t *testing.T) {
	c := parse(t, threeSigners)
	for name, want := range map[string][]string{
		"dev_us-east-1/research":    {"release", "research", "ops"},
		"dev_us-east-1/risk":        {"release", "ops"},
		"signed_us-east-1/research": {"research", "ops"},
		"signed_us-east-1/risk":     {"ops"},
	} {
		target, err := release.ParseTarget(name)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range c.SignersFor(target) {
			got = append(got, s.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s may be signed by %v, want %v", name, got, want)
		}
	}
	s := c.Signers[0]
	if !slices.Equal(s.OpenPGP, []string{"/etc/waymark/keys/a.asc", "/keys/b.gpg"}) || s.AllowedSigners != "/etc/waymark/allowed" {
		t.Errorf("the files are %v and %s", s.OpenPGP, s.AllowedSigners)
	}
	if dev, _ := c.Environment("dev"); dev.RequireSignature || len(dev.Signers) > 0 {
		t.Errorf("by default: %+v", dev)
	}
	lines := strings.Split(threeSigners, "\n")
	for file, want := range map[string]string{s.OpenPGP[1]: "openpgp", s.AllowedSigners: "allowed_signers", "/else": `signers "release"`} {
		p := s.ProblemAt(file, "it is broken")
		if !strings.HasPrefix(strings.TrimSpace(lines[p.Line-1]), want) || !strings.Contains(p.String(), `signers "release": it is broken`) {
			t.Errorf("%s: %s", file, p)
		}
	}
}

func TestSignersAreChecked(t *testing.T) {
	for name, tt := range map[string]struct{ text, says string }{
		"no keys":     {`signers "a" {}`, `signers "a" has no keys`},
		"no team":     {"signers \"a\" {\n allowed_signers = \"f\"\n teams = [\"reserch\"]\n}", "did you mean"},
		"no signers":  {"environment \"p\" {\n regions = [\"us-east-1\"]\n require_signature = true\n}", "there are no signers"},
		"unknown":     {"signers \"ops\" { openpgp = [\"f\"] }\nenvironment \"p\" {\n regions = [\"us-east-1\"]\n signers = [\"opps\"]\n}", `did you mean "ops"`},
		"empty":       {"signers \"ops\" { openpgp = [\"f\"] }\nenvironment \"p\" {\n regions = [\"us-east-1\"]\n signers = []\n}", "names no signers"},
		"a bad name":  {`signers "Ops Team" { openpgp = ["f"] }`, "lower-case"},
		"a tilde":     {`signers "a" { openpgp = ["~/f"] }`, "tilde"},
		"not a truth": {"environment \"p\" {\n regions = [\"us-east-1\"]\n require_signature = \"always\"\n}", "true or false"},
	} {
		_, err := config.Parse("waymark.hcl", []byte(minimal+tt.text), nil)
		if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
