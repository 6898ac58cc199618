package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/tagparse"
)

// Admit reports whether the configuration knows the target of a tag in a
// repository. If not, the error wraps release.ErrRefused, says which part is
// unknown, and names the nearest known one.
func (c *Config) Admit(repository string, tag tagparse.Tag) error {
	refuse := func(what, name string, known []string) error {
		return fmt.Errorf("%w: %s %q is not configured: %s", release.ErrRefused, what, short(name), orConfigure(name, known))
	}
	if _, ok := c.Repository(repository); !ok {
		return refuse("repository", repository, c.repositoryNames())
	}
	env, ok := c.Environment(tag.Env)
	if !ok {
		return refuse("environment", tag.Env, c.environmentNames())
	}
	if tag.Scope == tagparse.Global && c.GlobalRegion == "" {
		return fmt.Errorf("%w: there are no global targets: set global_region, or tag a Region (%s)", release.ErrRefused,
			strings.Join(env.Regions, ", "))
	}
	if tag.Scope != tagparse.Global && !slices.Contains(env.Regions, tag.Scope) {
		return refuse("in environment "+env.Name+" the Region", tag.Scope, env.Regions)
	}
	if !slices.Contains(c.Teams, tag.Team) {
		return refuse("team", tag.Team, c.Teams)
	}
	return nil
}

// orConfigure is choose, for names that a tag got wrong.
func orConfigure(name string, known []string) string {
	if near := nearest(name, known); near != "" || len(known) > 0 && len(known) <= few {
		return Choose(name, known)
	}
	return "add it to the configuration, or correct the tag"
}

// Nearest returns the deployment tag that the configuration admits and that is
// most like a refused name, or "" where none is like it or the name itself is
// admitted. The name is hostile; what comes back went through the tag grammar.
func (c *Config) Nearest(tagName string) string {
	if len(tagName) > tagparse.MaxLength || tagName == "" {
		return ""
	}
	head, version := splitVersion(strings.ToLower(strings.TrimSpace(strings.TrimPrefix(tagName, "refs/tags/"))))
	cellName, teamName := head, ""
	if i := strings.LastIndexByte(head, '/'); i >= 0 {
		cellName, teamName = head[:i], head[i+1:]
	}
	team, target := nearest(teamName, c.Teams), c.nearestCell(cellName)
	if team == "" || target == "" {
		return ""
	}
	name := target + "/" + team + "/" + version
	if tag, err := tagparse.Parse(name); err != nil || name == tagName || len(c.Repositories) == 0 ||
		c.Admit(c.Repositories[0].Name, tag) != nil {
		return ""
	}
	return name
}

// nearestCell returns the configured <env>_<scope> that is most like s. Where s
// says which environment is meant, it never names another.
func (c *Config) nearestCell(s string) string {
	env, scope, ok := strings.Cut(s, "_")
	if !ok || strings.Contains(scope, "_") {
		return nearest(s, c.cellNames(c.environmentNames()))
	}
	env = nearest(env, c.environmentNames())
	return nearest(env+"_"+scope, c.cellNames([]string{env}))
}

// versionTail is something like a version at the end of a name.
var versionTail = regexp.MustCompile(`[/_@:-]v?[0-9]+(\.[0-9]+)*[0-9a-z.+-]*$`)

// regionTail is the end of a Region, which looks like a version and is none.
var regionTail = regexp.MustCompile(`[a-z]+-[0-9]$`)

// splitVersion takes the version off a name. Where there is none that the
// grammar knows, it gives 1.0.
func splitVersion(name string) (head, version string) {
	if i := strings.LastIndexByte(name, '/'); i >= 0 && strings.Count(name, "/") >= 2 {
		head, version = name[:i], name[i+1:]
	} else if at := versionTail.FindStringIndex(name); at != nil && !regionTail.MatchString(name) {
		head, version = name[:at[0]], name[at[0]+1:]
	} else {
		head = name
	}
	head = strings.TrimRight(head, "/")
	for _, try := range []string{version, strings.Trim(version, ".-_ "), strings.TrimLeft(version, "v.-_ ")} {
		if _, err := tagparse.ParseVersion(try); err == nil {
			return head, try
		}
	}
	return head, "1.0"
}

// cellNames lists every <env>_<scope> of the named environments.
func (c *Config) cellNames(environments []string) []string {
	var out []string
	for _, e := range c.Environments {
		if !slices.Contains(environments, e.Name) {
			continue
		}
		for _, region := range e.Regions {
			out = append(out, e.Name+"_"+region)
		}
		if c.GlobalRegion != "" {
			out = append(out, e.Name+"_"+tagparse.Global)
		}
	}
	return out
}

func (c *Config) environmentNames() []string {
	var out []string
	for _, e := range c.Environments {
		out = append(out, e.Name)
	}
	return out
}

func (c *Config) repositoryNames() []string {
	var out []string
	for _, r := range c.Repositories {
		out = append(out, r.Name)
	}
	return out
}
