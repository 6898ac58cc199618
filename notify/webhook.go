package notify

import (
	"fmt"

	"github.com/waymark-cd/waymark/release"
)

// WebhookVersion is the version of a webhook's body. Members are added within
// one; whatever else changes makes another.
const WebhookVersion = 1

// webhookMessage is the body of a generic webhook. It lists every run.
type webhookMessage struct {
	Version      int          `json:"version"`
	ID           string       `json:"id"` // the same when it is sent again
	Notification string       `json:"notification"`
	Text         string       `json:"text"` // for people: the title, or the one line
	Runs         []webhookRun `json:"runs"`
}

type webhookRun struct {
	ID         string          `json:"id"`
	Kind       release.Kind    `json:"kind"`
	Repository string          `json:"repository"`
	Tag        string          `json:"tag"`
	Version    string          `json:"version"`
	Commit     string          `json:"commit"`
	Target     release.Target  `json:"target"`
	Account    string          `json:"account,omitempty"`
	State      release.State   `json:"state"`
	Reason     string          `json:"reason,omitempty"`
	Changes    release.Changes `json:"changes"`
	URL        string          `json:"url,omitempty"`
	Text       string          `json:"text,omitempty"` // its line, of the first twenty
}

func (c *Chat) webhookBody(m message, notices []Notice) webhookMessage {
	out := webhookMessage{Version: WebhookVersion, Notification: c.cfg.Name, Text: m.title,
		ID: fmt.Sprintf("%s-%d-%d", c.cfg.Name, notices[0].Index, notices[len(notices)-1].Index)}
	for i, n := range notices {
		l, r := lineOf(n), n.Run
		run := webhookRun{ID: l.ID, Kind: r.Kind, Repository: r.Repository, Tag: l.Tag, Version: l.Version, Commit: l.Commit,
			Target: r.Target, Account: r.Account, State: r.State, Reason: l.Reason, Changes: r.Changes, URL: n.URL}
		if i < len(m.lines) {
			run.Text = m.lines[i].text
		}
		out.Runs = append(out.Runs, run)
	}
	if out.Text == "" {
		out.Text = m.lines[0].text
	}
	return out
}
