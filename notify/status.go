package notify

import (
	"fmt"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

// phase is what forges tell of a run's state.
type phase string

const (
	phaseQueued  phase = "queued"
	phaseRunning phase = "running"
	phaseWaiting phase = "waiting" // for an approval
	phaseSuccess phase = "success"
	phaseFailure phase = "failure" // it failed, or somebody or some rule said no
	phaseStopped phase = "stopped" // it was cancelled or overtaken
	phaseError   phase = "error"   // nobody knows how it ended
)

func phaseOf(s release.State) phase {
	switch s {
	case release.Queued:
		return phaseQueued
	case release.Running:
		return phaseRunning
	case release.AwaitingApproval:
		return phaseWaiting
	case release.Succeeded:
		return phaseSuccess
	case release.Failed, release.Denied, release.Rejected:
		return phaseFailure
	case release.Cancelled, release.Superseded:
		return phaseStopped
	}
	return phaseError
}

// status is a run as a forge shows it beside a commit.
type status struct {
	run     release.Run
	phase   phase
	context string
	url     string
}

// statusOf gives a run's status, or false for one that says nothing of a commit.
func statusOf(n Notice) (status, bool) {
	if n.Run.Commit == "" || n.Run.Kind == release.Drift {
		return status{}, false
	}
	context := "waymark/" + n.Run.Target.String()
	if n.Run.Kind != release.Deploy {
		context += "/" + string(n.Run.Kind)
	}
	return status{run: n.Run, phase: phaseOf(n.Run.State), context: context, url: n.URL}, true
}

// description is one plain line of n runes at most.
func (s status) description(n int) string {
	r := s.run
	text := fmt.Sprintf("%s: %s", r.Version, stateText(r.State))
	if r.Changes.Any() {
		text += fmt.Sprintf(" (+%d ~%d -%d)", r.Changes.Add, r.Changes.Change, r.Changes.Destroy)
	}
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	return Plain(text, n)
}

// stateText is a state for people.
func stateText(s release.State) string { return strings.ReplaceAll(string(s), "_", " ") }
