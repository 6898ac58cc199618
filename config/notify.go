package config

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/waymark-cd/waymark/release"
)

// Forge is where a repository's commits get statuses. Without a Kind they get none.
type Forge struct {
	Kind        string // "github", "gitlab", "gitea", "forgejo", "bitbucket-cloud" or "bitbucket-server"
	URL         string // of the forge
	Repository  string // as the forge names it, with its owner, group or project
	Token       Secret
	Deployments bool   // GitHub's, beside the statuses
	CAFile      string // absolute path, or empty
}

// Notification is a chat or a webhook that is told of runs.
type Notification struct {
	Name         string
	Kind         string // "slack", "teams" or "webhook"
	URL          Secret
	Secret       Secret // that a webhook's messages are signed with; empty: they are not
	Environments []string
	Teams        []string
	States       []string
	Template     string // of a run's line; empty: the default one
	Batch        time.Duration
	CAFile       string // absolute path, or empty

	at hcl.Range // of the template, or of the block
}

// Wants reports whether a run of a target that has come to a state is told.
func (n Notification) Wants(t release.Target, s release.State) bool {
	selects := func(names []string, name string) bool { return len(names) == 0 || slices.Contains(names, name) }
	return selects(n.Environments, t.Env) && selects(n.Teams, t.Team) && slices.Contains(n.States, string(s))
}

// ProblemAt makes a problem of the notification, at its template.
func (n Notification) ProblemAt(summary string) Problem {
	return problemAt(n.at, fmt.Sprintf("notification %q", n.Name), summary)
}

// forgeKinds are the forges whose commits can have statuses.
func forgeKinds() []string {
	return []string{"github", "gitlab", "gitea", "forgejo", bitbucketCloud, bitbucketServer}
}

const (
	bitbucketCloud  = "bitbucket-cloud"
	bitbucketServer = "bitbucket-server"
)

func forgeBlock() block {
	return block{
		name: "forge",
		in:   within(func(r *Repository, _ string) any { return &r.Forge }),
		about: "Show the state of each run beside its commit, as a status `waymark/<target>` that links to the run's page, which needs `server.url`. " +
			"See [Notifications](notifications.md).",
		fields: []field{
			{name: "kind", required: true, at: of(func(f *Forge) any { return &f.Kind }), oneOf: forgeKinds(), example: `"github"`,
				meaning: "Which forge it is; `bitbucket-server` is Data Center."},
			{name: "token", required: true, at: of(func(f *Forge) any { return &f.Token }), check: checkNotEmpty, example: `env("FORGE_TOKEN")`,
				meaning: "Token that may set commit statuses."},
			{name: "url", at: of(func(f *Forge) any { return &f.URL }), check: checkEndpoint, unset: "the host of the repository's `url`", example: `"https://git.example.org"`,
				meaning: "Address of the forge, not of its API, such as `https://github.com`."},
			{name: "repository", at: of(func(f *Forge) any { return &f.Repository }), check: checkForgeRepository, unset: "the path of the repository's `url`", example: `"platform/infra"`,
				meaning: "The repository as the forge names it, with its owner, group, workspace or project."},
			{name: "deployments", at: of(func(f *Forge) any { return &f.Deployments }), fallback: "false", example: "true",
				meaning: "Make a GitHub deployment for each run, in the environment that the target names, beside the status. The token must be allowed to."},
			{name: "ca_file", at: of(func(f *Forge) any { return &f.CAFile }), file: true, unset: "the repository's `ca_file`", example: `"/etc/waymark/ca.pem"`,
				meaning: "Certificates that are trusted beside the system's own, as PEM."},
		},
	}
}

func notificationBlock() block {
	return block{
		name: "notification", label: "name", many: true, checkLabel: checkName,
		in: within(func(c *Config, name string) any {
			return added(&c.Notifications, Notification{Name: name})
		}),
		about: "A chat or a webhook that is told of runs: at least once, in one message for all that happens within `batch`, and after a time in which it was away of how each run ended. It never delays a run. See [Notifications](notifications.md).",
		fields: []field{
			{name: "kind", required: true, at: of(func(n *Notification) any { return &n.Kind }), oneOf: []string{"slack", "teams", "webhook"}, example: `"slack"`,
				meaning: "`slack` for an incoming webhook of Slack, or of what takes Slack's messages; `teams` for a workflow of Microsoft Teams that begins with a webhook; `webhook` for a program of yours."},
			{name: "url", required: true, at: of(func(n *Notification) any { return &n.URL }), check: checkNotEmpty, example: `env("SLACK_WEBHOOK")`,
				meaning: "Where messages are sent. It is shown nowhere."},
			{name: "secret", at: of(func(n *Notification) any { return &n.Secret }), unset: "messages are not signed", example: `env("OPS_SECRET", "")`,
				meaning: "Signs each message of a `webhook`: `X-Waymark-Signature` has the HMAC-SHA256 of its time and body."},
			{name: "environments", at: of(func(n *Notification) any { return &n.Environments }), unset: "all", example: `["dev"]`,
				meaning: "Environments whose runs are told."},
			{name: "teams", at: of(func(n *Notification) any { return &n.Teams }), unset: "all", example: `["research"]`,
				meaning: "Teams whose runs are told."},
			{name: "states", at: of(func(n *Notification) any { return &n.States }), oneOf: stateNames(),
				fallback: `["failed", "denied", "unknown", "awaiting_approval"]`, example: `["failed", "succeeded"]`,
				meaning: "States of which it is told, each once for a run."},
			{name: "template", at: of(func(n *Notification) any { return &n.Template }), check: checkLineTemplate, unset: "target, version, state, changes and reason",
				example: `"{{.Target}} {{.Version}} is {{.State}}"`,
				meaning: "The line of a run, as a template of Go's text/template: one line of plain text. Its names are listed in [Notifications](notifications.md#templates)."},
			{name: "batch", at: of(func(n *Notification) any { return &n.Batch }), fallback: `"10s"`, example: `"30s"`,
				meaning: "How long the first run waits for others that go into the same message; `\"0s\"` for not at all."},
			{name: "ca_file", at: of(func(n *Notification) any { return &n.CAFile }), file: true, unset: "the system's own", example: `"/etc/waymark/ca.pem"`,
				meaning: "Certificates that are trusted beside the system's own, as PEM."},
		},
	}
}

func stateNames() (names []string) {
	for _, s := range release.States() {
		names = append(names, string(s))
	}
	return names
}

// forgeRepositoryForm is a repository at a forge: parts between slashes, at least two.
var forgeRepositoryForm = regexp.MustCompile(`^[A-Za-z0-9~_.-]+(/[A-Za-z0-9_.-]+)+$`)

func checkForgeRepository(s string) (summary, detail string) {
	if len(s) <= 512 && forgeRepositoryForm.MatchString(s) && !slices.ContainsFunc(strings.Split(s, "/"), func(part string) bool { return part == "." || part == ".." }) {
		return "", ""
	}
	return fmt.Sprintf("is no repository of a forge: %q", short(s)), `write one such as "platform/infra", without a host and .git`
}

// checkNotifyURL judges where messages go. It must not repeat it: whoever knows
// the address of a chat can write to it.
func checkNotifyURL(s string) (summary, detail string) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "is no URL", "write https://host/path, as the chat gives it"
	}
	return "", ""
}

func checkLineTemplate(s string) (summary, detail string) {
	if _, err := template.New("template").Parse(s); err != nil {
		return fmt.Sprintf("cannot be read: %v", err), `write one such as "{{.Target}} {{.Version}} is {{.State}}"`
	}
	return "", ""
}

// checkNotify fills in where forges are, and finds what cannot work together.
func (d *decoder) checkNotify(cfg *Config) {
	for i := range cfg.Repositories {
		if r := &cfg.Repositories[i]; r.Forge.Kind != "" {
			d.checkForge(cfg, r)
		}
	}
	for i := range cfg.Notifications {
		d.checkNotification(cfg, &cfg.Notifications[i])
	}
}

func (d *decoder) checkForge(cfg *Config, r *Repository) {
	f, path := &r.Forge, "repository."+r.Name+".forge"
	if f.CAFile == "" && !d.broken[path+".ca_file"] {
		f.CAFile = r.CAFile
	}
	host, name := forgeOf(r.URL, f.Kind)
	if f.URL == "" && !d.broken[path+".url"] && d.intact("repository."+r.Name+".url") {
		if f.URL = host; host == "" {
			d.report(d.at("repository", r.Name, "forge"), fmt.Sprintf("%s has no address", path), fmt.Sprintf("repository.%s.url names no host: write url = \"https://git.example.org\"", r.Name))
		}
	}
	if f.Repository == "" && !d.broken[path+".repository"] && d.intact("repository."+r.Name+".url") {
		if summary, detail := checkForgeRepository(name); summary == "" {
			f.Repository = name
		} else {
			d.report(d.at("repository", r.Name, "forge"), fmt.Sprintf("%s does not tell which repository it is", path), detail+", as repository")
		}
	}
	if f.Deployments && f.Kind != "github" {
		d.report(d.at("repository", r.Name, "forge", "deployments"), path+".deployments is for github alone", "take it out")
	}
	if parts := strings.Count(f.Repository, "/"); parts > 1 && f.Kind != "gitlab" {
		d.report(d.at("repository", r.Name, "forge"), fmt.Sprintf("%s.repository %q has more than an owner and a name", path, short(f.Repository)), `write the two alone, such as "platform/infra"`)
	}
	if strings.HasPrefix(f.Kind, "bitbucket") && cfg.Server.URL == "" && !d.broken["server.url"] {
		d.report(d.at("repository", r.Name, "forge"), fmt.Sprintf("%s needs server.url: Bitbucket takes no status without a link", path), `write url = "https://waymark.example.org" in the server block`)
	}
}

// Browse is the forge at which people look at the repository's code: the one that is
// configured, or a well-known one by the host of the repository's URL. Without a Kind
// nobody knows.
func (r Repository) Browse() Forge {
	if r.Forge.Kind != "" {
		return r.Forge
	}
	host, name := forgeOf(r.URL, "")
	u, err := url.Parse(host)
	if err != nil {
		return Forge{}
	}
	kind := map[string]string{"github.com": "github", "gitlab.com": "gitlab", "bitbucket.org": bitbucketCloud, "codeberg.org": "forgejo"}[strings.ToLower(u.Hostname())]
	if summary, _ := checkForgeRepository(name); kind == "" || summary != "" || strings.Count(name, "/") > 1 && kind != "gitlab" {
		return Forge{}
	}
	return Forge{Kind: kind, URL: "https://" + strings.ToLower(u.Hostname()), Repository: name}
}

// forgeOf reads from a repository's URL where its forge is, and its name there.
func forgeOf(repository, kind string) (host, name string) {
	scheme, rest := "https", ""
	switch transport(repository) {
	case "http", "https", "ssh":
	default:
		return "", ""
	}
	if scpForm.MatchString(repository) && !strings.Contains(repository, "://") {
		at, path, _ := strings.Cut(repository, ":")
		host, rest = at[strings.LastIndexByte(at, '@')+1:], path
	} else if u, err := url.Parse(repository); err == nil {
		host, rest = u.Hostname(), u.Path
		if u.Scheme == "http" || u.Scheme == "https" {
			scheme, host = u.Scheme, u.Host
		}
	}
	name = strings.TrimSuffix(strings.Trim(rest, "/"), ".git")
	if kind == bitbucketServer {
		name = strings.TrimPrefix(name, "scm/")
	}
	if host == "" {
		return "", name
	}
	return scheme + "://" + host, name
}

func (d *decoder) checkNotification(cfg *Config, n *Notification) {
	n.at = d.at("notification", n.Name, "template")
	if summary, detail := checkNotifyURL(n.URL.Reveal()); n.URL.IsSet() && summary != "" {
		d.report(d.at("notification", n.Name, "url"), fmt.Sprintf("notification.%s.url %s", n.Name, summary), detail)
	}
	for _, list := range []struct {
		name            string
		selected, known []string
	}{{"environments", n.Environments, cfg.environmentNames()}, {"teams", n.Teams, cfg.Teams}} {
		if !d.intact("environment", "teams") {
			break
		}
		for _, s := range list.selected {
			if !slices.Contains(list.known, s) {
				d.report(d.at("notification", n.Name, list.name), fmt.Sprintf("notification.%s.%s cannot name %q, which is not configured", n.Name, list.name, short(s)), Choose(s, list.known))
			}
		}
	}
	for _, name := range []string{"environments", "teams", "states"} {
		path := "notification." + n.Name + "." + name
		empty := map[string]bool{"environments": len(n.Environments) == 0, "teams": len(n.Teams) == 0, "states": len(n.States) == 0}[name]
		if d.has(path) && empty && d.intact(path) {
			d.report(d.at("notification", n.Name, name), path+" is empty", "nothing would be told: name some, or leave it out")
		}
	}
	if n.Secret.IsSet() && n.Kind != "webhook" && n.Kind != "" {
		d.report(d.at("notification", n.Name, "secret"), fmt.Sprintf("notification.%s.secret does nothing for %s", n.Name, n.Kind), "it is for a webhook: take it out")
	}
	const longest = 10 * time.Minute
	if n.Batch > longest {
		d.report(d.at("notification", n.Name, "batch"), fmt.Sprintf("notification.%s.batch is longer than %s", n.Name, longest), "write a shorter one, such as \"30s\"")
	}
}
