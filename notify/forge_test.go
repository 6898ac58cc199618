package notify_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/notify"
	"github.com/waymark-cd/waymark/release"
)

const commit = "0123456789012345678901234567890123456789"

// evil is what a tool or a person may write into a reason.
const evil = "<script>alert(1)</script> *bold* `code` @channel <!channel> <@U1> [x](javascript:1)\x1b[31m\u202edrow\u200b\r\n\x00end"

func target(s string) release.Target {
	t, err := release.ParseTarget(s)
	if err != nil {
		panic(err)
	}
	return t
}

func notice(id int64, state release.State, change ...func(*release.Run)) notify.Notice {
	r := release.Run{ID: id, Kind: release.Deploy, Repository: "infra", Tag: "dev_us-east-1/research/1.0", Version: "1.0", Commit: commit,
		Target: target("dev_us-east-1/research"), State: state, Reason: evil + strings.Repeat("é", 600), Changes: release.Changes{Add: 2, Change: 1}}
	for _, c := range change {
		c(&r)
	}
	return notify.Notice{Index: id, Run: r, URL: "https://waymark.example.org/runs/" + release.FormatID(id)}
}

func forge(t *testing.T, f *testkit.Forge, deployments bool) *notify.Forge {
	t.Helper()
	name := "platform/infra"
	if f.Kind == notify.GitLab {
		name = "platform/cloud/infra"
	}
	out, err := notify.NewForge(notify.ForgeConfig{Kind: f.Kind, URL: f.URL, Repository: name, Token: f.Token, Deployments: deployments})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// forgeStates is what each forge shows of each state.
var forgeStates = map[string][]string{
	//                      queued    running   awaiting   succeeded  failed     denied     rejected   cancelled  superseded unknown
	notify.GitHub:          {"pending", "pending", "pending", "success", "failure", "failure", "failure", "error", "error", "error"},
	notify.GitLab:          {"pending", "running", "running", "success", "failed", "failed", "failed", "canceled", "canceled", "failed"},
	notify.Gitea:           {"pending", "pending", "pending", "success", "failure", "failure", "failure", "warning", "warning", "error"},
	notify.Forgejo:         {"pending", "pending", "pending", "success", "failure", "failure", "failure", "warning", "warning", "error"},
	notify.BitbucketCloud:  {"INPROGRESS", "INPROGRESS", "INPROGRESS", "SUCCESSFUL", "FAILED", "FAILED", "FAILED", "STOPPED", "STOPPED", "FAILED"},
	notify.BitbucketServer: {"INPROGRESS", "INPROGRESS", "INPROGRESS", "SUCCESSFUL", "FAILED", "FAILED", "FAILED", "CANCELLED", "CANCELLED", "FAILED"},
}

func TestEveryForgeShowsEveryState(t *testing.T) {
	for kind, want := range forgeStates {
		for i, state := range release.States() {
			f := testkit.NewForge(t, kind)
			if err := forge(t, f, false).Send(t.Context(), []notify.Notice{notice(42, state)}); err != nil {
				t.Errorf("%s %s: %v", kind, state, err)
				continue
			}
			s := f.Status(commit, "waymark/dev_us-east-1/research")
			if s.State != want[i] || s.URL != "https://waymark.example.org/runs/42" {
				t.Errorf("%s %s: %+v, want %s", kind, state, s, want[i])
			}
			words := strings.ReplaceAll(string(state), "_", " ")
			if !strings.HasPrefix(s.Description, "1.0: "+words+" (+2 ~1 -0): <script>") || strings.ContainsAny(s.Description, "\x1b\n\r\x00\u202e\u200b") {
				t.Errorf("%s %s: %q", kind, state, s.Description)
			}
			if n := len([]rune(s.Description)); n > 255 {
				t.Errorf("%s: a description of %d", kind, n)
			}
			if calls := f.Received(); len(calls) != 1 {
				t.Errorf("%s: %d requests for one status", kind, len(calls))
			}
		}
	}
}

func TestContextsTellKindsApart(t *testing.T) {
	long := target("production-environment-of-theirs_ap-southeast-1/the-team-of-the-longest-name")
	for kind, c := range map[string]struct {
		change func(*release.Run)
		want   string // under GitHub
		short  string // under Bitbucket
	}{
		"deploy":   {func(*release.Run) {}, "waymark/dev_us-east-1/research", "waymark/dev_us-east-1/research"},
		"rollback": {func(r *release.Run) { r.Kind = release.Rollback }, "waymark/dev_us-east-1/research/rollback", "waymark/dev_us-east-1/research/rollback"},
		"long":     {func(r *release.Run) { r.Target = long }, "waymark/" + long.String(), "waymark-578d8e5cbab7460d1b3668c5fa381dff"},
	} {
		hub, bucket := testkit.NewForge(t, notify.GitHub), testkit.NewForge(t, notify.BitbucketCloud)
		n := notice(1, release.Succeeded, c.change)
		if err := forge(t, hub, false).Send(t.Context(), []notify.Notice{n}); err != nil || hub.Status(commit, c.want).State != "success" {
			t.Errorf("%s: %v, %s", kind, err, hub.Received()[0].Body)
		}
		if err := forge(t, bucket, false).Send(t.Context(), []notify.Notice{n}); err != nil || bucket.Status(commit, c.short).State != "SUCCESSFUL" {
			t.Errorf("%s at Bitbucket: %v, %s", kind, err, bucket.Received()[0].Body)
		}
	}
	f := testkit.NewForge(t, notify.GitHub)
	drift := notice(1, release.Failed, func(r *release.Run) { r.Kind = release.Drift })
	if err := forge(t, f, true).Send(t.Context(), []notify.Notice{drift}); err != nil || len(f.Received()) != 0 {
		t.Errorf("a look for drift says something of a commit: %v, %d requests", err, len(f.Received()))
	}
}

func TestGitHubDeployments(t *testing.T) {
	f := testkit.NewForge(t, notify.GitHub)
	for _, s := range []release.State{release.Queued, release.Running, release.AwaitingApproval, release.Running, release.Succeeded} {
		// A client of its own each time: which deployment it was is GitHub's to know.
		if err := forge(t, f, true).Send(t.Context(), []notify.Notice{notice(7, s)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := forge(t, f, true).Send(t.Context(), []notify.Notice{notice(8, release.Superseded)}); err != nil {
		t.Fatal(err)
	}
	if err := forge(t, f, true).Send(t.Context(), []notify.Notice{notice(9, release.Succeeded, func(r *release.Run) { r.Kind = release.PlanOnly })}); err != nil {
		t.Fatal(err)
	}
	all := f.Deployments()
	if len(all) != 2 || all[0].Environment != "dev_us-east-1/research" || all[0].Ref != commit || all[0].Task != "waymark:run:7" ||
		strings.Join(all[0].States, " ") != "queued in_progress pending in_progress success" || strings.Join(all[1].States, " ") != "inactive" {
		t.Errorf("deployments %+v", all)
	}
}

// TestForgesThatRefuse: what each kind of answer means to whoever asks again.
func TestForgesThatRefuse(t *testing.T) {
	reset := strconv.FormatInt(time.Now().Add(10*time.Minute).Unix(), 10)
	for _, kind := range []string{notify.GitHub, notify.GitLab, notify.Gitea, notify.BitbucketCloud, notify.BitbucketServer} {
		for _, c := range []struct {
			status       int
			header       []string
			later        time.Duration // at least; 0: it is no Later
			refusal      bool
			patience     int
			says, hidden string
		}{
			{status: 500, says: "500"},
			{status: 502, says: "502"},
			{status: 401, says: "make a new one"},
			{status: 403, says: "may not do this"},
			{status: 404, refusal: true, patience: 4, says: "404"},
			{status: 422, refusal: true, says: "422"},
			{status: 400, refusal: true, says: "400"},
			{status: 429, header: []string{"Retry-After", "30"}, later: 30 * time.Second, says: "429"},
			{status: 429, later: time.Minute, says: "429"},
			{status: 503, header: []string{"Retry-After", time.Now().Add(time.Minute).UTC().Format(http.TimeFormat)}, later: 50 * time.Second, says: "503"},
			{status: 403, header: []string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", reset}, later: 9 * time.Minute, says: "403"},
			{status: 429, header: []string{"RateLimit-Remaining", "0", "RateLimit-Reset", reset}, later: 9 * time.Minute, says: "429"},
			{status: 403, header: []string{"Retry-After", "60"}, later: time.Minute, says: "403"}, // GitHub's second limit
			{status: 301, header: []string{"Location", "/elsewhere"}, says: "has moved"},
		} {
			f := testkit.NewForge(t, kind)
			f.Break(c.status, `{"message":"no\u001b[31m"}`, c.header...)
			sender := forge(t, f, false)
			err := sender.Send(t.Context(), []notify.Notice{notice(1, release.Queued)})
			var later *notify.Later
			var refusal *notify.Refusal
			isLater, isRefusal := errors.As(err, &later), errors.As(err, &refusal)
			if err == nil || isLater != (c.later > 0) || isRefusal != c.refusal || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\x1b") {
				t.Errorf("%s %d %v: %T %v", kind, c.status, c.header, err, err)
				continue
			}
			if isLater && (later.After < c.later || later.After > c.later+2*time.Minute) || isRefusal && refusal.Patience != c.patience {
				t.Errorf("%s %d %v: %+v %+v", kind, c.status, c.header, later, refusal)
			}
			if strings.Contains(err.Error(), f.Token) {
				t.Errorf("%s: the token is told: %v", kind, err)
			}
			if n := len(f.Received()); n != 1 {
				t.Errorf("%s %d: %d requests", kind, c.status, n)
			}
			if isLater { // the next request does not go out at all
				if err := sender.Send(t.Context(), []notify.Notice{notice(2, release.Queued)}); !errors.As(err, &later) || len(f.Received()) != 1 {
					t.Errorf("%s %d: %v after %d requests", kind, c.status, err, len(f.Received()))
				}
			}
		}
	}
}

// TestTheLastAllowedRequestIsHeeded: GitHub says how many requests are left.
func TestTheLastAllowedRequestIsHeeded(t *testing.T) {
	f := testkit.NewForge(t, notify.GitHub)
	f.AnswerNext(201, "{}", "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", strconv.FormatInt(time.Now().Add(time.Minute).Unix(), 10))
	sender := forge(t, f, false)
	if err := sender.Send(t.Context(), []notify.Notice{notice(1, release.Queued)}); err != nil {
		t.Fatal(err)
	}
	var later *notify.Later
	if err := sender.Send(t.Context(), []notify.Notice{notice(1, release.Running)}); !errors.As(err, &later) || later.After > time.Minute || later.After < 50*time.Second {
		t.Errorf("with no request left: %v", err)
	}
}

func TestUnknownCommitsAndWrongTokens(t *testing.T) {
	for kind := range forgeStates {
		f := testkit.NewForge(t, kind, "another")
		var refusal *notify.Refusal
		if err := forge(t, f, true).Send(t.Context(), []notify.Notice{notice(1, release.Queued)}); !errors.As(err, &refusal) {
			t.Errorf("%s, a commit that it does not have: %v", kind, err)
		}
		f.Token = "rotated"
		s, err := notify.NewForge(notify.ForgeConfig{Kind: kind, URL: f.URL, Repository: "platform/infra", Token: "old"})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(t.Context(), []notify.Notice{notice(1, release.Queued)}); err == nil || errors.As(err, &refusal) && refusal.Patience == 0 || !strings.Contains(err.Error(), "make a new one") {
			t.Errorf("%s, a token that it does not know: %v", kind, err)
		}
	}
}

// TestGitLabGoesOnWhereAStatusIsThereAlready: what GitLab says of a status that
// does not follow from the last is no fault.
func TestGitLabGoesOnWhereAStatusIsThereAlready(t *testing.T) {
	f := testkit.NewForge(t, notify.GitLab)
	s := forge(t, f, false)
	for _, state := range []release.State{release.Queued, release.Queued, release.Running, release.AwaitingApproval, release.Running, release.Queued, release.Running, release.Succeeded} {
		if err := s.Send(t.Context(), []notify.Notice{notice(1, state)}); err != nil {
			t.Errorf("%s: %v", state, err)
		}
	}
	if got := f.Status(commit, "waymark/dev_us-east-1/research").State; got != "success" {
		t.Errorf("in the end it shows %s", got)
	}
	var body map[string]string
	if err := json.Unmarshal(f.Received()[0].Body, &body); err != nil || body["ref"] != "dev_us-east-1/research/1.0" || f.Received()[0].Path != "/api/v4/projects/platform%2Fcloud%2Finfra/statuses/"+commit {
		t.Errorf("%s %v", f.Received()[0].Path, body)
	}
}

func TestForgesThatCannotWork(t *testing.T) {
	good := notify.ForgeConfig{Kind: notify.Gitea, URL: "https://git.example.org", Repository: "a/b", Token: "t"}
	for name, change := range map[string]func(*notify.ForgeConfig){
		"kind": func(c *notify.ForgeConfig) { c.Kind = "svn" }, "address": func(c *notify.ForgeConfig) { c.URL = "git.example.org" },
		"no repository": func(c *notify.ForgeConfig) { c.Repository = "b" }, "no name": func(c *notify.ForgeConfig) { c.Repository = "a/" },
		"no token": func(c *notify.ForgeConfig) { c.Token = "" }, "no such file": func(c *notify.ForgeConfig) { c.CAFile = "/nowhere" },
		"no certificate": func(c *notify.ForgeConfig) { c.CAFile = "forge_test.go" },
	} {
		c := good
		change(&c)
		if _, err := notify.NewForge(c); !errors.Is(err, release.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, kind := range []string{notify.GitHub, notify.BitbucketCloud} {
		for _, host := range []string{"https://github.com", "https://bitbucket.org"} {
			if _, err := notify.NewForge(notify.ForgeConfig{Kind: kind, URL: host, Repository: "a/b", Token: "t"}); err != nil {
				t.Errorf("%s at %s: %v", kind, host, err)
			}
		}
	}
}
