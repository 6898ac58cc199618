package notify

import (
	"context"
	"fmt"

	"github.com/google/go-github/v92/github"

	"github.com/waymark-cd/waymark/release"
)

// longestGitHub is how many runes GitHub takes of a description.
const longestGitHub = 140

// gitHub sets commit statuses and, where it is told to, makes a deployment for
// each run.
type gitHub struct {
	forgeBase
	api *github.Client
}

func newGitHub(b forgeBase) (func(context.Context, status) error, error) {
	options := []github.ClientOptionsFunc{github.WithHTTPClient(b.client), github.WithAuthToken(b.cfg.Token),
		github.WithUserAgent("waymark"), github.WithDisableRateLimitCheck()}
	if b.url.Host != "github.com" {
		options = append(options, github.WithEnterpriseURLs(b.cfg.URL, b.cfg.URL))
	}
	api, err := github.NewClient(options...)
	if err != nil {
		return nil, err
	}
	g := &gitHub{b, api}
	return g.set, nil
}

func (g *gitHub) set(ctx context.Context, s status) error {
	state := map[phase]string{phaseQueued: "pending", phaseRunning: "pending", phaseWaiting: "pending",
		phaseSuccess: "success", phaseFailure: "failure"}[s.phase]
	if state == "" {
		state = "error" // also for what was stopped: it has no word for that
	}
	_, _, err := g.api.Repositories.CreateStatus(ctx, g.owner, g.name, s.run.Commit, github.RepoStatus{
		State: &state, TargetURL: some(s.url), Description: some(s.description(longestGitHub)), Context: &s.context})
	if err != nil || !g.cfg.Deployments || s.run.Kind != release.Deploy && s.run.Kind != release.Rollback {
		return err
	}
	return g.deployment(ctx, s)
}

// deployment sets the status of the run's deployment. GitHub keeps which one that
// is: its task names the run.
func (g *gitHub) deployment(ctx context.Context, s status) error {
	task, environment := "waymark:run:"+release.FormatID(s.run.ID), s.run.Target.String()
	found, _, err := g.api.Repositories.ListDeployments(ctx, g.owner, g.name,
		&github.DeploymentsListOptions{Task: task, Environment: environment, SHA: s.run.Commit})
	if err != nil {
		return err
	}
	var id int64
	if len(found) > 0 {
		id = found[0].GetID()
	} else {
		made, _, err := g.api.Repositories.CreateDeployment(ctx, g.owner, g.name, github.DeploymentRequest{
			Ref: s.run.Commit, Task: &task, Environment: &environment, AutoMerge: new(false), RequiredContexts: []string{},
			Payload:     map[string]string{"tag": s.run.Tag, "version": s.run.Version, "run": release.FormatID(s.run.ID)},
			Description: some(Plain(fmt.Sprintf("%s %s", s.run.Target, s.run.Version), longestGitHub))})
		if err != nil {
			return err
		}
		id = made.GetID()
	}
	state := map[phase]string{phaseQueued: "queued", phaseRunning: "in_progress", phaseWaiting: "pending",
		phaseSuccess: "success", phaseFailure: "failure", phaseStopped: "inactive", phaseError: "error"}[s.phase]
	_, _, err = g.api.Repositories.CreateDeploymentStatus(ctx, g.owner, g.name, id, github.DeploymentStatusRequest{
		State: state, LogURL: some(s.url), Description: some(s.description(longestGitHub))})
	return err
}
