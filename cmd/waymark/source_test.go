package main

import (
	"testing"

	"github.com/waymark-cd/waymark/config"
)

// TestSourceOf: each forge has addresses of its own for a commit and for a line of a
// file, and a repository whose forge nobody knows has none.
func TestSourceOf(t *testing.T) {
	forge := func(kind, url, repository string) config.Repository {
		return config.Repository{Name: "infra", URL: "ssh://git@git.example.org/" + repository + ".git", Forge: config.Forge{Kind: kind, URL: url, Repository: repository}}
	}
	at := func(url string) config.Repository { return config.Repository{Name: "infra", URL: url} }
	for name, c := range map[string]struct {
		repository   config.Repository
		commit, line string
	}{
		"GitHub": {forge("github", "https://git.example.org/", "platform/infra"),
			"https://git.example.org/platform/infra/commit/c0ffee", "https://git.example.org/platform/infra/blob/c0ffee/a%20b/main.tf#L7"},
		"GitLab": {forge("gitlab", "https://git.example.org", "org/platform/infra"),
			"https://git.example.org/org/platform/infra/-/commit/c0ffee", "https://git.example.org/org/platform/infra/-/blob/c0ffee/a%20b/main.tf#L7"},
		"Gitea": {forge("gitea", "https://git.example.org", "platform/infra"),
			"https://git.example.org/platform/infra/commit/c0ffee", "https://git.example.org/platform/infra/src/commit/c0ffee/a%20b/main.tf#L7"},
		"Bitbucket Data Center": {forge("bitbucket-server", "https://git.example.org", "PLAT/infra"),
			"https://git.example.org/projects/PLAT/repos/infra/commits/c0ffee", "https://git.example.org/projects/PLAT/repos/infra/browse/a%20b/main.tf?at=c0ffee#7"},

		"github.com over SSH": {at("git@github.com:platform/infra.git"),
			"https://github.com/platform/infra/commit/c0ffee", "https://github.com/platform/infra/blob/c0ffee/a%20b/main.tf#L7"},
		"github.com over HTTPS": {at("https://GitHub.com/platform/infra"),
			"https://github.com/platform/infra/commit/c0ffee", "https://github.com/platform/infra/blob/c0ffee/a%20b/main.tf#L7"},
		"gitlab.com": {at("https://gitlab.com/org/platform/infra.git"),
			"https://gitlab.com/org/platform/infra/-/commit/c0ffee", "https://gitlab.com/org/platform/infra/-/blob/c0ffee/a%20b/main.tf#L7"},
		"bitbucket.org": {at("ssh://git@bitbucket.org/platform/infra.git"),
			"https://bitbucket.org/platform/infra/commits/c0ffee", "https://bitbucket.org/platform/infra/src/c0ffee/a%20b/main.tf#lines-7"},
		"codeberg.org": {at("ssh://git@codeberg.org:22/platform/infra.git"),
			"https://codeberg.org/platform/infra/commit/c0ffee", "https://codeberg.org/platform/infra/src/commit/c0ffee/a%20b/main.tf#L7"},

		"another host":             {repository: at("https://git.example.org/platform/infra.git")},
		"a host that is named so":  {repository: at("https://github.com.example.org/platform/infra.git")},
		"a folder of this machine": {repository: at("/srv/git/infra.git")},
		"no owner":                 {repository: at("https://github.com/infra.git")},
		"deeper than GitHub is":    {repository: at("https://github.com/a/b/c.git")},
	} {
		source := sourceOf(&config.Config{Repositories: []config.Repository{c.repository}})
		if got := source("infra", "c0ffee", "", 0); got != c.commit {
			t.Errorf("%s: a commit is at %q, want %q", name, got, c.commit)
		}
		if got := source("infra", "c0ffee", "a b/main.tf", 7); got != c.line {
			t.Errorf("%s: a line is at %q, want %q", name, got, c.line)
		}
		for _, no := range []string{source("other", "c0ffee", "", 0), source("infra", "", "", 0), source("infra", "c0ffee", "../../../evil/main.tf", 1), source("infra", "c0ffee", "/etc/passwd", 1)} {
			if no != "" {
				t.Errorf("%s: it leads to %q", name, no)
			}
		}
	}
}
