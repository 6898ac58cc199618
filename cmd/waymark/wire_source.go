package main

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/waymark-cd/waymark/config"
)

// sourceOf gives where a repository's forge shows a file of a commit, or the commit
// itself; empty for a repository whose forge nobody knows.
func sourceOf(cfg *config.Config) func(repository, commit, file string, line int) string {
	forges := map[string]config.Forge{}
	for _, r := range cfg.Repositories {
		if f := r.Browse(); f.Kind != "" && f.URL != "" && f.Repository != "" {
			forges[r.Name] = f
		}
	}
	return func(repository, commit, file string, line int) string {
		f, ok := forges[repository]
		if !ok || commit == "" || file != "" && !filepath.IsLocal(file) { // a gate may name what is not in the repository
			return ""
		}
		return sourceURL(f, commit, file, line)
	}
}

func sourceURL(f config.Forge, commit, file string, line int) string {
	shape := map[string][3]string{ // the commit, a file, and what leads to its line
		"github":           {"commit/", "blob/%s/%s", "#L%d"},
		"gitlab":           {"-/commit/", "-/blob/%s/%s", "#L%d"},
		"gitea":            {"commit/", "src/commit/%s/%s", "#L%d"},
		"forgejo":          {"commit/", "src/commit/%s/%s", "#L%d"},
		"bitbucket-cloud":  {"commits/", "src/%s/%s", "#lines-%d"},
		"bitbucket-server": {"commits/", "browse/%[2]s?at=%[1]s", "#%d"},
	}[f.Kind]
	base := strings.TrimSuffix(f.URL, "/")
	switch f.Kind {
	case "":
		return ""
	case "bitbucket-cloud":
		base = "https://bitbucket.org/" + f.Repository
	case "bitbucket-server":
		project, name, _ := strings.Cut(f.Repository, "/")
		base += "/projects/" + url.PathEscape(project) + "/repos/" + url.PathEscape(name)
	default:
		base += "/" + f.Repository
	}
	if file == "" {
		return base + "/" + shape[0] + url.PathEscape(commit)
	}
	at := base + "/" + fmt.Sprintf(shape[1], url.PathEscape(commit), (&url.URL{Path: file}).EscapedPath())
	if line > 0 {
		at += fmt.Sprintf(shape[2], line)
	}
	return at
}
