package triggers

import (
	"encoding/json"
	"errors"
	"fmt"
)

// envelope is what an event of EventBridge and a notification of SNS have
// around their content.
type envelope struct {
	Source     string          `json:"source"`
	DetailType string          `json:"detail-type"`
	Detail     json.RawMessage `json:"detail"`

	Type    string  `json:"Type"`
	Message *string `json:"Message"`
}

// change is the detail of a "CodeCommit Repository State Change" event, as far
// as it is read.
type change struct {
	Event          string `json:"event"`
	RepositoryName string `json:"repositoryName"`
	ReferenceType  string `json:"referenceType"`
}

const (
	stateChange = "CodeCommit Repository State Change"
	codeCommit  = "aws.codecommit"
)

// judge tells what a message asks for: a look at a repository of ours, nothing
// where both are empty, or to be set aside for a reason.
func (q *Queue) judge(m *message) (repository, reason string) {
	c, err := parseEvent(m.body)
	if err != nil {
		return "", err.Error()
	}
	if c.ReferenceType != "tag" {
		return "", ""
	}
	repository = q.cfg.Repositories[c.RepositoryName]
	switch {
	case repository == "":
		return "", fmt.Sprintf("repository %q is not configured: add it, or narrow the EventBridge rule", clip(c.RepositoryName))
	case m.received > mostReceives:
		return "", fmt.Sprintf("received %d times, and no look at repository %q succeeded in between; polling goes on", m.received, repository)
	}
	return repository, ""
}

// parseEvent reads an event, or the notification of SNS that holds one. The
// error says what it is instead.
func parseEvent(body string) (change, error) {
	e, err := parseEnvelope(body)
	if err != nil {
		return change{}, err
	}
	if e.Message != nil && e.Source == "" {
		if e.Type != "Notification" {
			return change{}, fmt.Errorf("a message of SNS of type %q: only notifications are read", clip(e.Type))
		}
		if e, err = parseEnvelope(*e.Message); err != nil {
			return change{}, fmt.Errorf("a notification of SNS with a message that cannot be read: %w", err)
		}
	}
	if e.Source != codeCommit || e.DetailType != stateChange {
		return change{}, fmt.Errorf("an event %q of source %q: only %q of %q is read; narrow the EventBridge rule",
			clip(e.DetailType), clip(e.Source), stateChange, codeCommit)
	}
	var c change
	if err := json.Unmarshal(e.Detail, &c); err != nil {
		return change{}, errors.New("an event whose detail has another form than that of a " + stateChange)
	}
	switch c.Event {
	case "referenceCreated", "referenceUpdated", "referenceDeleted":
	default:
		return change{}, fmt.Errorf("an event of CodeCommit of kind %q: only referenceCreated, referenceUpdated and referenceDeleted are read", clip(c.Event))
	}
	if c.ReferenceType != "tag" && c.ReferenceType != "branch" {
		return change{}, fmt.Errorf("an event of CodeCommit about a %q: only tags and branches are known", clip(c.ReferenceType))
	}
	return c, nil
}

func parseEnvelope(text string) (envelope, error) {
	var e envelope
	if !json.Valid([]byte(text)) {
		return e, errors.New("not JSON")
	}
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		return e, errors.New("JSON, but no event")
	}
	return e, nil
}

// clip shortens outside text for a message; the caller quotes it.
func clip(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
