package notify

import (
	"context"

	"code.gitea.io/sdk/gitea"
)

const longestGitea = 255

// newGitea makes the client of a repository at Gitea or Forgejo.
func newGitea(b forgeBase) (func(context.Context, status) error, error) {
	api, err := gitea.NewClient(b.cfg.URL, gitea.SetHTTPClient(b.client), gitea.SetToken(b.cfg.Token),
		gitea.SetUserAgent("waymark"), gitea.SetGiteaVersion("")) // asks for no version
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, s status) error {
		api.SetContext(ctx)
		state := map[phase]gitea.StatusState{phaseQueued: gitea.StatusPending, phaseRunning: gitea.StatusPending, phaseWaiting: gitea.StatusPending,
			phaseSuccess: gitea.StatusSuccess, phaseFailure: gitea.StatusFailure, phaseStopped: gitea.StatusWarning}[s.phase]
		if state == "" {
			state = gitea.StatusError
		}
		_, _, err := api.CreateStatus(b.owner, b.name, s.run.Commit, gitea.CreateStatusOption{
			State: state, TargetURL: s.url, Description: s.description(longestGitea), Context: s.context})
		return err
	}, nil
}
