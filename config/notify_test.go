package config_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
)

// withForge is minimal with another repository, at a forge.
func withForge(url, forge string) string {
	return minimal + "repository \"app\" {\n  url = \"" + url + "\"\n  forge {\n    token = \"t\"\n" + forge + "\n  }\n}\n"
}

func TestForgesAreReadFromTheRepositorysAddress(t *testing.T) {
	for _, c := range []struct{ url, forge, wantURL, wantName string }{
		{"https://github.com/org/infra.git", `kind = "github"`, "https://github.com", "org/infra"},
		{"git@github.com:org/infra.git", `kind = "github"`, "https://github.com", "org/infra"},
		{"ssh://git@gitlab.example.org:2222/a/b/c/infra.git", `kind = "gitlab"`, "https://gitlab.example.org", "a/b/c/infra"},
		{"http://127.0.0.1:3000/org/infra", `kind = "gitea"`, "http://127.0.0.1:3000", "org/infra"},
		{"https://bb.example.org/scm/proj/infra.git", `kind = "bitbucket-server"`, "https://bb.example.org", "proj/infra"},
		{"ssh://git@bb.example.org:7999/proj/infra.git", `kind = "bitbucket-server"`, "https://bb.example.org", "proj/infra"},
		{"https://bitbucket.org/space/infra.git", `kind = "bitbucket-cloud"`, "https://bitbucket.org", "space/infra"},
		{"/srv/git/infra.git", "kind = \"forgejo\"\nurl = \"https://git.example.org\"\nrepository = \"org/infra\"", "https://git.example.org", "org/infra"},
	} {
		cfg := parse(t, withForge(c.url, c.forge)+"server { url = \"https://waymark.example.org\" }\n")
		r, _ := cfg.Repository("app")
		if r.Forge.URL != c.wantURL || r.Forge.Repository != c.wantName || r.Forge.Token.Reveal() != "t" || r.Forge.Deployments {
			t.Errorf("%s: %+v", c.url, r.Forge)
		}
	}
	if r, _ := parse(t, minimal).Repository("infra"); r.Forge.Kind != "" {
		t.Errorf("without a block: %+v", r.Forge)
	}
}

func TestNotifications(t *testing.T) {
	cfg := parse(t, twoEnvironments+`
notification "ops" {
  kind = "slack"
  url  = "https://hooks.slack.com/services/T0/B0/x"
}
notification "research" {
  kind         = "webhook"
  url          = "https://hooks.example.org/x?y=z"
  secret       = "s"
  environments = ["prod"]
  teams        = ["research"]
  states       = ["succeeded"]
  template     = "{{.Target}} is {{.State}}"
  batch        = "0s"
}
`)
	ops, research := cfg.Notifications[0], cfg.Notifications[1]
	if !slices.Equal(ops.States, []string{"failed", "denied", "unknown", "awaiting_approval"}) || ops.Batch != 10*time.Second || research.Batch != 0 {
		t.Errorf("%+v, %+v", ops, research)
	}
	for _, c := range []struct {
		of     config.Notification
		target string
		state  release.State
		want   bool
	}{
		{ops, "dev_us-east-1/risk", release.Failed, true}, {ops, "dev_us-east-1/risk", release.Succeeded, false},
		{research, "prod_us-east-1/research", release.Succeeded, true}, {research, "prod_us-east-1/risk", release.Succeeded, false},
		{research, "dev_us-east-1/research", release.Succeeded, false}, {research, "prod_us-east-1/research", release.Failed, false},
	} {
		target, err := release.ParseTarget(c.target)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.of.Wants(target, c.state); got != c.want {
			t.Errorf("%s is told of %s %s: %v", c.of.Name, c.target, c.state, got)
		}
	}
	if p := research.ProblemAt("it is wrong"); !strings.Contains(strings.Split(cfg.Text, "\n")[p.Line-1], "template") {
		t.Errorf("%s", p)
	}
}

func TestProblemsOfNotifications(t *testing.T) {
	block := func(body string) string { return minimal + "notification \"ops\" {\n" + body + "\n}\n" }
	const good = "kind = \"slack\"\nurl = \"https://hooks.example.org/sEcReT\"\n"
	for text, want := range map[string]string{
		block(`kind = "slack"`):                                                                                  "url is missing",
		block("kind = \"irc\"\nurl = \"https://x.example.org\""):                                                 `kind cannot be "irc"`,
		block("kind = \"slack\"\nurl = \"hooks.example.org/sEcReT\""):                                            "notification.ops.url is no URL",
		block("kind = \"slack\"\nurl = \"\""):                                                                    "url is empty",
		block(good + `states = ["failde"]`):                                                                      `cannot be "failde"`,
		block(good + `states = []`):                                                                              "states is empty",
		block(good + `environments = ["prd"]`):                                                                   `cannot name "prd"`,
		block(good + `teams = ["reserch"]`):                                                                      `cannot name "reserch"`,
		block(good + `template = "{{.Target"`):                                                                   "template cannot be read",
		block(good + `batch = "1h"`):                                                                             "batch is longer",
		block(good + `secret = "s"`):                                                                             "secret does nothing for slack",
		withForge("https://git.example.org/a/b.git", `kind = "svn"`):                                             `kind cannot be "svn"`,
		withForge("/srv/git/infra.git", `kind = "gitea"`):                                                        "repository.app.forge has no address",
		withForge("https://git.example.org/b.git", `kind = "gitea"`):                                             "does not tell which repository",
		withForge("https://git.example.org/a/b/c.git", `kind = "gitea"`):                                         "more than an owner and a name",
		withForge("https://git.example.org/a/b.git", "kind = \"gitea\"\ndeployments = true"):                     "deployments is for github alone",
		withForge("https://git.example.org/a/b.git", "kind = \"gitea\"\nurl = \"https://u:p@x.org\""):            "holds a user name",
		withForge("https://git.example.org/a/b.git", "kind = \"gitea\"\nrepository = \"../../x\""):               "is no repository of a forge",
		withForge("https://bitbucket.org/a/b.git", `kind = "bitbucket-cloud"`):                                   "needs server.url",
		minimal + "repository \"x\" {\n  url = \"https://h.example.org/a/b\"\n  forge { kind = \"gitea\" }\n}\n": "token is missing",
	} {
		_, err := config.Parse("waymark.hcl", []byte(text), nil)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "sEcReT") {
			t.Errorf("%s\nsays %v, want %q", text[len(minimal):], err, want)
		}
	}
}
