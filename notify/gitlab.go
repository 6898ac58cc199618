package notify

import (
	"context"
	"strings"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

const longestGitLab = 255

// unlimited lets every request go: how many are allowed is for the wire to know.
type unlimited struct{}

func (unlimited) Wait(context.Context) error { return nil }

// newGitLab makes the client of a GitLab project.
func newGitLab(b forgeBase) (func(context.Context, status) error, error) {
	api, err := gitlab.NewClient(b.cfg.Token, gitlab.WithBaseURL(b.cfg.URL), gitlab.WithHTTPClient(b.client),
		gitlab.WithoutRetries(), gitlab.WithCustomLimiter(unlimited{}), gitlab.WithUserAgent("waymark"))
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, s status) error {
		// A status that runs cannot become pending again: one that waits for an
		// approval goes on running.
		state := map[phase]gitlab.BuildStateValue{phaseQueued: gitlab.Pending, phaseRunning: gitlab.Running, phaseWaiting: gitlab.Running,
			phaseSuccess: gitlab.Success, phaseStopped: gitlab.Canceled}[s.phase]
		if state == "" {
			state = gitlab.Failed
		}
		_, _, err := api.Commits.SetCommitStatus(b.cfg.Repository, s.run.Commit, &gitlab.SetCommitStatusOptions{
			State: state, Name: &s.context, Ref: some(s.run.Tag), TargetURL: some(s.url), Description: some(s.description(longestGitLab))},
			gitlab.WithContext(ctx))
		if err != nil && strings.Contains(err.Error(), "Cannot transition status") {
			return nil // it shows that state already, or one that nothing follows
		}
		return err
	}, nil
}
