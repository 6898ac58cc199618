package config_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/tagparse"
)

const fleet = `
repository "infra" { url = "https://git.example.org/infra.git" }
teams = ["research", "risk"]
global_region = "us-east-1"
environment "dev" { regions = ["us-east-1", "eu-central-1", "ap-southeast-1"] }
environment "staging" { regions = ["us-east-1"] }
environment "prod" { regions = ["us-east-1", "eu-central-1"] }
`

func TestAdmit(t *testing.T) {
	c := parse(t, fleet)
	for _, tt := range []struct{ tag, want string }{
		{"dev_us-east-1/research/1.0", ""},
		{"prod_global/risk/v1.2.3-rc1", ""},
		{"dve_us-east-1/research/1.0", `environment "dve" is not configured: did you mean "dev"? known: dev, staging, prod`},
		{"qa_us-east-1/research/1.0", `environment "qa" is not configured: known: dev, staging, prod`},
		{"staging_eu-central-1/research/1.0", `in environment staging the Region "eu-central-1" is not configured: known: us-east-1`},
		{"dev_us-east-2/research/1.0", `the Region "us-east-2" is not configured: did you mean "us-east-1"?`},
		{"dev_us-east-1/reserch/1.0", `team "reserch" is not configured: did you mean "research"? known: research, risk`},
	} {
		err := c.Admit("infra", tag(t, tt.tag))
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s is refused: %v", tt.tag, err)
		case tt.want != "" && (!errors.Is(err, release.ErrRefused) || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: got %v, want %s", tt.tag, err, tt.want)
		}
	}
	if err := c.Admit("infar", tag(t, "dev_us-east-1/risk/1")); !errors.Is(err, release.ErrRefused) || !strings.Contains(err.Error(), `did you mean "infra"?`) {
		t.Errorf("an unknown repository: %v", err)
	}
	none := parse(t, strings.Replace(fleet, "global_region", "# global_region", 1))
	if err := none.Admit("infra", tag(t, "dev_global/risk/1")); !errors.Is(err, release.ErrRefused) || !strings.Contains(err.Error(), "set global_region") {
		t.Errorf("a global tag without global_region: %v", err)
	}
}

func TestNearest(t *testing.T) {
	c := parse(t, fleet)
	for name, want := range map[string]string{
		"dev_us-east-1/research/1.0":            "", // it is admitted
		"Dev_us-east-1/research/1.0":            "dev_us-east-1/research/1.0",
		"dev_us-east-1/research":                "dev_us-east-1/research/1.0",
		"dev-us-east-1/research/1.0":            "dev_us-east-1/research/1.0",
		"dev/us-east-1/research/1.0":            "dev_us-east-1/research/1.0",
		"dve_eu-central-1/reserch/2.1":          "dev_eu-central-1/research/2.1",
		"staging_eu-central-1/risk/1.0":         "", // never another environment than the one that is meant
		"qa_us-east-1/risk/1.0":                 "",
		"prod_globl/risk/v.3":                   "prod_global/risk/3",
		"dev_us-east-1/research/V1.2":           "dev_us-east-1/research/v1.2",
		"dev_us_east_1/research-1.0":            "dev_us-east-1/research/1.0",
		"refs/tags/dev_us-east-1/research/1.0":  "dev_us-east-1/research/1.0",
		"v1.0.0":                                "",
		"release-2024":                          "",
		"":                                      "",
		"/":                                     "",
		"\x00\xff/../../$(id)/`x`":              "",
		strings.Repeat("dev_us-east-1/", 10000): "",
	} {
		if got := c.Nearest(name); got != want {
			t.Errorf("Nearest(%.60q) = %q, want %q", name, got, want)
		}
	}
}

func FuzzNearest(f *testing.F) {
	f.Add("dev-us-east-1/research/1.0")
	f.Add("ſtaging_us-east-1/risk/１.0")
	f.Fuzz(func(t *testing.T, name string) {
		c := parse(t, fleet)
		got := c.Nearest(name)
		if got == "" {
			return
		}
		parsed, err := tagparse.Parse(got)
		if err != nil || c.Admit("infra", parsed) != nil {
			t.Errorf("Nearest(%q) = %q, which is refused", name, got)
		}
	})
}
