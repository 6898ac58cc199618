package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/waymark-cd/waymark/release"
)

// The kinds of chat.
const (
	Slack   = "slack"
	Teams   = "teams"
	Webhook = "webhook"
)

// ChatConfig describes one address that takes messages.
type ChatConfig struct {
	Name     string // of the notification
	Kind     string
	URL      string // a secret
	Secret   string // a webhook's messages are signed with it; empty: they are not
	Template string // of a run's line; empty: DefaultTemplate
	CAFile   string // certificates that are trusted beside the system's own; empty: none
	Now      func() time.Time
}

// DefaultTemplate is the line of a run.
const DefaultTemplate = `{{.Target}} {{.Version}} {{.State}}{{if .Changed}} (+{{.Add}} ~{{.Change}} -{{.Destroy}}){{end}}{{with .Reason}}: {{.}}{{end}}`

const (
	longestLine  = 280 // runes of a run's line
	longestField = 160 // runes of a field in it
	mostLines    = 20  // runs that a message lists; the others are counted
)

// Line is what a template has of a run. Every text in it is one plain line.
type Line struct {
	ID          string // of the run
	Kind        string // deploy, drift, rollback, destroy or plan
	Tag         string
	Version     string
	Commit      string
	Repository  string
	Target      string // such as dev_us-east-1/research
	Env         string
	Scope       string
	Team        string
	Account     string
	State       string // in words, such as "awaiting approval"
	Reason      string
	By          string // who asked for the run
	Changed     bool   // whether the plan changes anything
	Add         int
	Change      int
	Destroy     int
	URL         string // of the run's page; empty: none is known
	CommitShort string
}

func lineOf(n Notice) Line {
	r, p := n.Run, func(s string) string { return Plain(s, longestField) }
	return Line{ID: release.FormatID(r.ID), Kind: string(r.Kind), Tag: p(r.Tag), Version: p(r.Version), Commit: p(r.Commit), CommitShort: p(r.Commit[:min(len(r.Commit), 10)]),
		Repository: r.Repository, Target: r.Target.String(), Env: r.Target.Env, Scope: r.Target.Scope, Team: r.Target.Team, Account: r.Account,
		State: stateText(r.State), Reason: p(r.Reason), By: p(r.CreatedBy), Changed: r.Changes.Any(),
		Add: r.Changes.Add, Change: r.Changes.Change, Destroy: r.Changes.Destroy, URL: n.URL}
}

// ParseTemplate reads the template of a run's line and tries it out. What is
// wrong with it is release.ErrInvalid.
func ParseTemplate(text string) (*template.Template, error) {
	if text == "" {
		text = DefaultTemplate
	}
	t, err := template.New("line").Option("missingkey=error").Parse(text)
	if err == nil {
		_, err = fill(t, lineOf(Notice{URL: "https://waymark.example.org/runs/42", Run: release.Run{ID: 42, Kind: release.Deploy, Version: "1.0",
			Target: release.Target{Env: "dev", Scope: "us-east-1", Team: "research"}, State: release.Failed, Reason: "it failed", Changes: release.Changes{Add: 1}}}))
	}
	if err != nil {
		return nil, fmt.Errorf("%w template: %w", release.ErrInvalid, err)
	}
	return t, nil
}

// errTooLong ends a template that writes without end.
var errTooLong = errors.New("it writes more than 64 KiB for one run")

type bounded struct{ strings.Builder }

// Write fails once there is more than anybody reads.
func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > 64<<10 {
		return 0, errTooLong
	}
	return b.Builder.Write(p)
}

func fill(t *template.Template, l Line) (string, error) {
	var b bounded
	if err := t.Execute(&b, l); err != nil {
		return "", err
	}
	return Plain(b.String(), longestLine), nil
}

// Chat sends messages to one address.
type Chat struct {
	cfg      ChatConfig
	template *template.Template
	wire     *wire
	client   *http.Client
}

// NewChat makes the client of a chat. It asks nobody. What cannot work is
// release.ErrInvalid.
func NewChat(cfg ChatConfig) (*Chat, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("notification %q: %w address: write https://host/path", cfg.Name, release.ErrInvalid)
	}
	if cfg.Kind != Slack && cfg.Kind != Teams && cfg.Kind != Webhook {
		return nil, fmt.Errorf("notification %q: %w: there is no kind %q", cfg.Name, release.ErrInvalid, cfg.Kind)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	c := &Chat{cfg: cfg}
	if c.template, err = ParseTemplate(cfg.Template); err == nil {
		c.wire, c.client, err = newWire(cfg.CAFile)
	}
	if err != nil {
		return nil, fmt.Errorf("notification %q: %w", cfg.Name, err)
	}
	return c, nil
}

// message is what a chat is told, before it is put into the chat's own form.
type message struct {
	title string // empty where there is one run
	lines []messageLine
	more  int // runs that are not listed
}

type messageLine struct{ text, run, url string }

// Send tells all notices in one message.
func (c *Chat) Send(ctx context.Context, notices []Notice) error {
	m, err := c.message(notices)
	if err != nil {
		return &Refusal{Err: err}
	}
	var body any
	switch c.cfg.Kind {
	case Slack:
		body = slackBody(m)
	case Teams:
		body = teamsBody(m)
	default:
		body = c.webhookBody(m, notices)
	}
	return c.post(ctx, body)
}

func (c *Chat) message(notices []Notice) (message, error) {
	var m message
	if len(notices) > 1 {
		m.title = summary(notices)
	}
	for i, n := range notices {
		if i == mostLines {
			m.more = len(notices) - i
			break
		}
		text, err := fill(c.template, lineOf(n))
		if err != nil {
			return m, err
		}
		m.lines = append(m.lines, messageLine{text: text, run: "run " + release.FormatID(n.Run.ID), url: n.URL})
	}
	return m, nil
}

// summary counts runs by state, the worst first.
func summary(notices []Notice) string {
	counts := map[release.State]int{}
	for _, n := range notices {
		counts[n.Run.State]++
	}
	var parts []string
	for _, s := range []release.State{release.Unknown, release.Failed, release.Denied, release.Rejected, release.AwaitingApproval,
		release.Cancelled, release.Superseded, release.Succeeded, release.Running, release.Queued} {
		if counts[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[s], stateText(s)))
		}
	}
	return fmt.Sprintf("%d runs: %s", len(notices), strings.Join(parts, ", "))
}

// rest names the runs that a message does not list.
func (m message) rest() string { return fmt.Sprintf("and %d more", m.more) }

// post sends a body. An address that answers "not found" is asked again for ever:
// it shows as failing, and nothing that it was to be told is lost.
func (c *Chat) post(ctx context.Context, body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return &Refusal{Err: err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.cfg.URL, bytes.NewReader(data))
	if err != nil {
		return errors.New("its address cannot be used")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "waymark")
	if c.cfg.Secret != "" {
		req.Header.Set(SignatureHeader, Sign(c.cfg.Secret, c.cfg.Now(), data))
	}
	c.wire.begin()
	resp, err := c.client.Do(req)
	if err != nil {
		return c.wire.judge(err, 0)
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // for the log alone
	if resp.StatusCode/100 == 2 {
		return c.wire.judge(nil, 0)
	}
	return c.wire.judge(errors.New(string(said)), 0)
}

// SignatureHeader carries the proof that a message is ours.
const SignatureHeader = "X-Waymark-Signature"

// Sign makes the value of SignatureHeader: "t=", seconds since 1970, ",v1=" and,
// in hexadecimal, the HMAC-SHA256 of those seconds, a dot and the body.
func Sign(secret string, at time.Time, body []byte) string {
	stamp := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(stamp + "."))
	mac.Write(body)
	return "t=" + stamp + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}
