package policies

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/release"
)

func TestProviderAddress(t *testing.T) {
	for source, want := range map[string]string{
		"time":                                 "hashicorp/time",
		"hashicorp/time":                       "hashicorp/time",
		"HashiCorp/Time":                       "hashicorp/time",
		"registry.terraform.io/hashicorp/time": "hashicorp/time",
		"registry.opentofu.org/hashicorp/time": "hashicorp/time",
		"Registry.OpenTofu.Org/hashicorp/time": "hashicorp/time",
		"registry.example.org/hashicorp/time":  "registry.example.org/hashicorp/time",
		"localhost:8080/a/b":                   "localhost:8080/a/b",
		"terraform.io/builtin/terraform":       builtinProvider,

		"":                                        "",
		"/time":                                   "",
		"hashicorp/":                              "",
		"hashicorp//time":                         "",
		"hashicorp/../evil":                       "",
		"../evil":                                 "",
		"hashicorp/time/":                         "",
		"hashicorp/time.":                         "",
		"registry.terraform.io./hashicorp/time":   "",
		"registry..terraform.io/hashicorp/time":   "",
		"registry.terraform.io:/hashicorp/time":   "",
		"registry.terraform.io:x/hashicorp/time":  "",
		"a/b/c/d":                                 "",
		"registry.terraform.io/-/aws":             "",
		"evil@registry.terraform.io/hashicorp/x":  "",
		"h\u0430shicorp/time":                     "", // Cyrillic
		"hashicorp/\u212aube":                     "", // the Kelvin sign, whose lower case is k
		"\uff48ashicorp/time":                     "", // full width
		"hashicorp\u2044time":                     "", // a slash that is none
		"hashicorp/time\n":                        "",
		"hashicorp/ti\x00me":                      "",
		" hashicorp/time":                         "",
		"hashicorp/*":                             "",
		"https://registry.terraform.io/hashicorp": "",
	} {
		if got := providerAddress(source); got != want {
			t.Errorf("providerAddress(%q) = %q, want %q", source, got, want)
		}
	}
}

func TestModuleAddress(t *testing.T) {
	for source, want := range map[string][2]string{
		"terraform-aws-modules/vpc/aws":                       {"terraform-aws-modules/vpc/aws", ""},
		"Registry.Terraform.io/Org/vpc/aws":                   {"Org/vpc/aws", ""},
		"registry.opentofu.org/Org/vpc/aws//modules/x":        {"Org/vpc/aws//modules/x", ""},
		"App.Example.org/Org/vpc/aws":                         {"app.example.org/Org/vpc/aws", ""},
		"GitHub.com/Org/Repo":                                 {"github.com/Org/Repo", ""},
		"registry.terraform.io/github.com/org/repo":           {"registry.terraform.io/github.com/org/repo", ""},
		"Git::HTTPS://Git.Example.ORG:443/Org/x.git//s?ref=V": {"git::https://git.example.org:443/Org/x.git//s", "?ref=V"},
		"git::ssh://Git@Git.Example.ORG/Org/x.git":            {"git::ssh://Git@git.example.org/Org/x.git", ""},
		"git@GitHub.com:Org/Repo.git":                         {"git@github.com:Org/Repo.git", ""},
		"s3::https://s3.amazonaws.com/Bucket/x.zip":           {"s3::https://s3.amazonaws.com/Bucket/x.zip", ""},

		"":                                      {},
		"org/../evil/aws":                       {},
		"git::https://good.org/x/../../evil":    {},
		`git::https://good.org\@evil.org/x`:     {},
		"org/vpc/\u0430ws":                      {},
		"org/vpc/aws ":                          {},
		"git::https://good.org/x\nevil":         {},
		"registry.terraform.io/../x":            {},
		"git::https://good.org@evil.org/x":      {"git::https://good.org@evil.org/x", ""},
		"git::https://evil.org?x.good.org/mods": {"git::https://evil.org", "?x.good.org/mods"},
	} {
		if address, query := moduleAddress(source); address != want[0] || query != want[1] {
			t.Errorf("moduleAddress(%q) = %q, %q, want %q", source, address, query, want)
		}
	}
}

func TestLocalSources(t *testing.T) {
	for source, want := range map[string]string{
		"./b": "a/b", "../b": "b", ".": "a", "..": ".", "./b//c/": "a/b/c", `.\b`: "a/b",
		"../../b": "outside", "./../../b": "outside", "./b/../../../a": "outside", `..\..\b`: "outside",
		"/etc": "outside", `C:\x`: "outside", "c:/x": "outside", "~/x": "outside", "file:///etc": "outside",
		"FILE:///etc": "outside", "git::file:///srv/x": "outside", "git::/srv/x": "outside", "git::../x": "outside", "git::./x": "outside",
		"b": "", "b/c/d": "", "git::https://example.org/x": "", "git@example.org:x": "",
	} {
		got := ""
		if isLocalSource(source) {
			folder, inside := localFolder("a", source)
			if got = folder; !inside {
				got = "outside"
			}
		}
		if got != want {
			t.Errorf("%q leads to %q, want %q", source, got, want)
		}
	}
}

func TestProviderPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern string
		allowed []string
		refused []string
	}{
		{"time", []string{"time", "hashicorp/time", "registry.opentofu.org/hashicorp/time"}, []string{"evil/time", "times", "example.org/hashicorp/time"}},
		{"registry.opentofu.org/hashicorp/time", []string{"time", "registry.terraform.io/hashicorp/time"}, []string{"hashicorp/tim"}},
		{"HashiCorp/*", []string{"aws", "hashicorp/time"}, []string{"hashicorpx/aws", "xhashicorp/aws", "example.org/hashicorp/aws", "hashicorp/../evil", "h\u0430shicorp/aws"}},
		{"hashicorp/aws-*", []string{"hashicorp/aws-x"}, []string{"hashicorp/awsx", "hashicorp/aws"}},
		{"*/*", []string{"a/b", "c"}, []string{"example.org/a/b"}},
		{"registry.terraform.io/**", []string{"a/b"}, []string{"example.org/a/b"}},
		{"registry.terraform.io/*/time", []string{"a/time"}, []string{"a/b", "example.org/a/time"}},
		{"Registry.Example.org/org/*", []string{"registry.example.org/org/x", "REGISTRY.example.org/org/x"}, []string{"org/x", "registryxexample.org/org/x", "registry.example.org.evil.org/org/x", "registry.example.org./org/x", "registry.example.org/org2/x"}},
		{"*.example.org/org/*", []string{"a.example.org/org/x"}, []string{"example.org/org/x", "a.example.org.evil.org/org/x"}},
		{"example.org/**", []string{"example.org/a/b"}, []string{"a/b", "evil.org/a/b"}},
		{"**", []string{"a/b", "example.org/a/b"}, []string{"a/b/c/d", "../x"}},
		{"a.b/c", nil, []string{"aXb/c"}},
	} {
		p, err := providerPattern(c.pattern)
		if err != nil {
			t.Errorf("%q: %v", c.pattern, err)
			continue
		}
		check := func(source string, want bool) {
			address := providerAddress(source)
			if got := address != "" && regexp.MustCompile(p.Regex).MatchString(address); got != want {
				t.Errorf("%q matches %q (%q): %v, want %v", c.pattern, source, address, got, want)
			}
		}
		for _, source := range c.allowed {
			check(source, true)
		}
		for _, source := range c.refused {
			check(source, false)
		}
	}
}

func TestModulePatterns(t *testing.T) {
	for _, c := range []struct {
		pattern string
		allowed []string
		refused []string
	}{
		{"terraform-aws-modules/*/aws", []string{"terraform-aws-modules/vpc/aws", "registry.opentofu.org/terraform-aws-modules/vpc/aws"},
			[]string{"terraform-aws-modules/vpc/aws//x", "terraform-aws-modules/vpc/gcp", "evil/vpc/aws", "Terraform-AWS-modules/vpc/aws", "terraform-aws-modules//aws"}},
		{"terraform-aws-modules/**", []string{"terraform-aws-modules/vpc/aws//modules/x"}, []string{"terraform-aws-modules", "terraform-aws-modulesx/vpc/aws"}},
		{"*/*/*", []string{"org/vpc/aws"}, []string{"github.com/org/repo", "git@github.com:org/a/b", "git::https://x/y"}},
		{"registry.terraform.io/**", []string{"org/vpc/aws"}, []string{"github.com/org/repo", "git::https://example.org/x", "example.org/org/vpc/aws"}},
		{"github.com/Org/*", []string{"GitHub.com/Org/repo", "github.com/Org/repo?ref=v1"}, []string{"github.com/org/repo", "github.com.evil.org/Org/repo", "github.com/Org/x/y"}},
		{"git::https://git.example.org/**", []string{"git::https://GIT.example.org/org/x.git//sub?ref=v1"},
			[]string{"git::http://git.example.org/x", "git::https://git.example.org@evil.org/x", "git::https://git.example.org.evil.org/x", "git::https://git.example.org/../x", "git::https://git.example.org/%2e%2e/x", "https://git.example.org/x"}},
		{"git::https://*.example.org/*", []string{"git::https://git.example.org/x"}, []string{"git::https://evil.org?.example.org/x", "git::https://evil.org#.example.org/x", "git::https://evil.org:80@x.example.org/x"}},
		{"git@git.example.org:Org/*", []string{"git@Git.example.org:Org/x.git"}, []string{"git@git.example.org:org/x.git", "x@git.example.org:Org/x"}},
		{"git::https://e.org/x?ref=v*", []string{"git::https://e.org/x?ref=v1.2"}, []string{"git::https://e.org/x", "git::https://e.org/x?ref=main", "git::https://e.org/x?ref=v1&depth=1"}},
	} {
		p, err := modulePattern(c.pattern)
		if err != nil {
			t.Errorf("%q: %v", c.pattern, err)
			continue
		}
		check := func(source string, want bool) {
			address, query := moduleAddress(source)
			if p.Query {
				address += query
			}
			if got := address != "" && regexp.MustCompile(p.Regex).MatchString(address); got != want {
				t.Errorf("%q matches %q (%q): %v, want %v", c.pattern, source, address, got, want)
			}
		}
		for _, source := range c.allowed {
			check(source, true)
		}
		for _, source := range c.refused {
			check(source, false)
		}
	}
}

func TestPatternsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  `is empty: leave it out`,
		"*":                                 `write "**" for every provider`,
		"hashicorp/../x":                    `has dots that climb`,
		"**/x":                              `"**" must be the last segment`,
		"a**":                               `"**" must be the last segment`,
		"hashicorp/\u0430ws":                `not plain ASCII`,
		"hashi corp/x":                      `has a space`,
		"a/b/c/d":                           `write [host/]namespace/name`,
		"https://x":                         `write [host/]namespace/name`,
		"hashicorp/{a,b}":                   `write [host/]namespace/name`,
		"a/" + strings.Repeat("b", 512):     `longer than 512 bytes`,
		"hashicorp/x?y":                     `write [host/]namespace/name`,
		"registry.terraform.io/**/x":        `"**" must be the last segment`,
		"hashicorp/(a|b)":                   `write [host/]namespace/name`,
		"registry.terraform.io/a/b\u202e/x": `not plain ASCII`,
	} {
		if _, err := providerPattern(text); !errors.Is(err, release.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("providerPattern(%q): %v, want %s", text, err, want)
		}
	}
	for text, want := range map[string]string{
		"":        `is empty`,
		"./x":     `paths inside the repository are always allowed`,
		"/srv/x":  `others never`,
		"a/../b":  `has dots that climb`,
		"**/x":    `must be the last segment`,
		"a/b\x00": `not plain ASCII`,
	} {
		if _, err := modulePattern(text); !errors.Is(err, release.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("modulePattern(%q): %v, want %s", text, err, want)
		}
	}
	_, err := New(t.Context(), release.PolicySpec{AllowedProviders: []string{"*", "ok", ""}, AllowedModules: nil})
	if !errors.Is(err, release.ErrInvalid) || !strings.Contains(err.Error(), `"*"`) || !strings.Contains(err.Error(), `""`) {
		t.Errorf("New reports %v, want both problems", err)
	}
}

// FuzzAddresses holds that no source, however it is written, reaches an allowed
// place by a look-alike: what matches is plain ASCII without dots that climb,
// and of the allowed host.
func FuzzAddresses(f *testing.F) {
	f.Add("hashicorp/time", "git::https://git.example.org/x?ref=1")
	f.Add("registry.terraform.io/../hashicorp/x", "git::https://git.example.org@evil.org/x")
	f.Add("hashicorp/\u212a", "registry.terraform.io/git::https://git.example.org/x")
	provider, err := providerPattern("hashicorp/*")
	if err != nil {
		f.Fatal(err)
	}
	module, err := modulePattern("git::https://git.example.org/**")
	if err != nil {
		f.Fatal(err)
	}
	providers, modules := regexp.MustCompile(provider.Regex), regexp.MustCompile(module.Regex)
	plainProvider := regexp.MustCompile(`(?i)^((registry\.terraform\.io|registry\.opentofu\.org)/)?(hashicorp/)?[a-z0-9_-]+$`)
	plainModule := regexp.MustCompile(`^(?i:git::https://git\.example\.org)/[A-Za-z0-9._~+/:-]+(\?.*)?$`)
	f.Fuzz(func(t *testing.T, p, m string) {
		if a := providerAddress(p); providers.MatchString(a) && !plainProvider.MatchString(p) {
			t.Errorf("provider %q passes as %q", p, a)
		}
		if a := providerAddress(p); a != "" && providerAddress(a) != a {
			t.Errorf("provider %q has the address %q, and that %q", p, a, providerAddress(a))
		}
		if a, _ := moduleAddress(m); modules.MatchString(a) && (!plainModule.MatchString(m) || strings.Contains(a, "/../")) {
			t.Errorf("module %q passes as %q", m, a)
		}
	})
}
