package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// DefaultServer is where a service listens unless it is told otherwise.
const DefaultServer = "http://127.0.0.1:8080"

const (
	answerTimeout = 30 * time.Second // for a whole JSON answer, and for the first byte of a log
	answerLimit   = 32 << 20         // bytes of a JSON answer
	problemLimit  = 64 << 10         // bytes of a problem document
)

// ClientConfig is what a Client needs.
type ClientConfig struct {
	Server    string            // base URL, http or https; empty: DefaultServer
	Token     string            // bearer token; empty: none is sent
	UserAgent string            // empty: "waymark"
	Transport http.RoundTripper // nil: one of its own, with time-outs
}

// Client speaks to one service. It is safe for use by several goroutines.
// Every method returns a *Problem for an answer that is no success, an
// *UnreachableError where no answer came, and the context's error where the
// caller gave up.
type Client struct {
	base      *url.URL
	token     string
	userAgent string
	http      *http.Client
}

// NewClient checks the address and returns a client; nothing is sent yet.
func NewClient(cfg ClientConfig) (*Client, error) {
	if cfg.Server == "" {
		cfg.Server = DefaultServer
	}
	base, err := url.Parse(strings.TrimSuffix(cfg.Server, "/"))
	if err != nil || (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" {
		return nil, fmt.Errorf("server %q is no http or https address: write it as %s", cfg.Server, DefaultServer)
	}
	if base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return nil, fmt.Errorf("server %q: an address has no user, query or fragment: write it as %s", base.Redacted(), DefaultServer)
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "waymark"
	}
	if cfg.Transport == nil {
		cfg.Transport = newTransport()
	}
	return &Client{base: base, token: cfg.Token, userAgent: cfg.UserAgent, http: &http.Client{
		Transport: cfg.Transport,
		// A redirect would carry the token somewhere that nobody configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSHandshakeTimeout:   5 * time.Second,
		ResponseHeaderTimeout: answerTimeout,
		IdleConnTimeout:       30 * time.Second,
		ForceAttemptHTTP2:     true,
	}
}

// Targets gives the board: every target that was ever seen, in order.
func (c *Client) Targets(ctx context.Context) (TargetList, error) {
	return get[TargetList](ctx, c, "targets", nil)
}

// Target gives one line of the board.
func (c *Client) Target(ctx context.Context, env, scope, team string) (Target, error) {
	return get[Target](ctx, c, "targets/"+escape(env, scope, team), nil)
}

// RunQuery narrows a list of runs; a zero field does not narrow.
type RunQuery struct {
	Target string // <env>_<scope>/<team>
	State  string
	Kind   string
	Limit  int    // 1 to 500; 0: the service's default
	Cursor string // Next of the page before
}

// Runs gives one page of runs, newest first.
func (c *Client) Runs(ctx context.Context, q RunQuery) (RunList, error) {
	return get[RunList](ctx, c, "runs", query("target", q.Target, "state", q.State,
		"kind", q.Kind, "limit", number(int64(q.Limit)), "cursor", q.Cursor))
}

// ReleaseQuery narrows a list of releases; a zero field does not narrow.
type ReleaseQuery struct {
	Target   string // <env>_<scope>/<team>
	Decision string // admitted, adopted, refused
	Limit    int    // 1 to 500; 0: the service's default
	Cursor   string // Next of the page before
}

// Releases gives one page of the tags that were seen, newest first.
func (c *Client) Releases(ctx context.Context, q ReleaseQuery) (ReleaseList, error) {
	return get[ReleaseList](ctx, c, "releases", query("target", q.Target, "decision", q.Decision,
		"limit", number(int64(q.Limit)), "cursor", q.Cursor))
}

// Run gives one run.
func (c *Client) Run(ctx context.Context, id string) (Run, error) {
	return get[Run](ctx, c, "runs/"+escape(id), nil)
}

// Plan gives the masked summary of a run's plan; a *Problem with CodeNotFound
// before there is one.
func (c *Client) Plan(ctx context.Context, id string) (Plan, error) {
	return get[Plan](ctx, c, "runs/"+escape(id)+"/plan", nil)
}

// Findings gives what gates and policies said of a run.
func (c *Client) Findings(ctx context.Context, id string) (FindingList, error) {
	return get[FindingList](ctx, c, "runs/"+escape(id)+"/findings", nil)
}

// Audit gives at most limit entries from index after on, in order.
// A limit of 0 leaves it to the service.
func (c *Client) Audit(ctx context.Context, after int64, limit int) (AuditPage, error) {
	return get[AuditPage](ctx, c, "audit", query("after", number(after), "limit", number(int64(limit))))
}

// Decide sends a decision and gives the run after it. The action is one of
// approve, reject, cancel, retry and resolve.
func (c *Client) Decide(ctx context.Context, id, action string, d Decision) (Run, error) {
	body, err := json.Marshal(d)
	if err != nil {
		return Run{}, fmt.Errorf("encoding the decision: %w", err)
	}
	return call[Run](ctx, c, http.MethodPost, "runs/"+escape(id, action), nil, body)
}

// Evidence makes the service gather again what can be told of a run whose end
// is unknown, and gives the run with it.
func (c *Client) Evidence(ctx context.Context, id string) (Run, error) {
	return call[Run](ctx, c, http.MethodPost, "runs/"+escape(id, "evidence"), nil, []byte("{}"))
}

// Locks gives the held locks of all states, or of one target's.
func (c *Client) Locks(ctx context.Context, target string) (LockList, error) {
	return get[LockList](ctx, c, "locks", query("target", target))
}

// Unlock releases the lock of one target's state and gives what was released.
func (c *Client) Unlock(ctx context.Context, t TargetRef, u Unlock) (LockList, error) {
	body, err := json.Marshal(u)
	if err != nil {
		return LockList{}, fmt.Errorf("encoding the request: %w", err)
	}
	return call[LockList](ctx, c, http.MethodPost, "targets/"+escape(t.Env, t.Scope, t.Team, "unlock"), nil, body)
}

// LogQuery says which lines of a log are wanted; the zero value is all that is there.
type LogQuery struct {
	From   int64 // number of the first line, from 1
	Tail   int64 // without From: so many lines from the end of what is there
	Follow bool  // and those to come, until the run ends
}

// Logs copies the run's log to w as text lines. Following, it goes on until the
// run ends or ctx does, and takes a log that breaks off up again.
func (c *Client) Logs(ctx context.Context, id string, q LogQuery, w io.Writer) error {
	if q.Follow {
		end, err := c.FollowLog(ctx, id, q, func(l LogLine) error {
			_, err := fmt.Fprintln(w, l)
			return err
		})
		if err == nil {
			_, err = fmt.Fprintln(w, end.Line(id))
		}
		return err
	}
	resp, err := c.send(ctx, http.MethodGet, "runs/"+escape(id)+"/logs", query("from", number(q.From), "tail", number(q.Tail)), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		if ctx.Err() != nil {
			return gaveUp(ctx)
		}
		return fmt.Errorf("the log of run %s broke off: %w", id, err)
	}
	return nil
}

func get[T any](ctx context.Context, c *Client, path string, q url.Values) (T, error) {
	return call[T](ctx, c, http.MethodGet, path, q, nil)
}

// call does one exchange whose answer is JSON.
func call[T any](ctx context.Context, c *Client, method, path string, q url.Values, body []byte) (T, error) {
	var out T
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, fmt.Errorf("no answer within %s", answerTimeout))
	defer cancel()
	resp, err := c.send(ctx, method, path, q, body)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	if ct := resp.Header.Get("Content-Type"); !strings.HasPrefix(ct, "application/json") {
		return out, &UnreachableError{URL: c.base.String(), Err: fmt.Errorf("what answers there is no waymark (content type %q)", ct)}
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit+1))
	switch {
	case err != nil:
		return out, c.failed(ctx, err)
	case len(data) > answerLimit:
		return out, fmt.Errorf("the answer of %s is larger than %d bytes: ask for less with a limit", c.base, answerLimit)
	}
	if err := json.Unmarshal(data, &out); err != nil {
		return out, fmt.Errorf("reading the answer of %s: %w", c.base, err)
	}
	return out, nil
}

// send does one exchange up to the header of the answer, and turns an answer
// that is no success into a *Problem. header wins over what is sent otherwise.
func (c *Client) send(ctx context.Context, method, path string, q url.Values, body []byte, header ...http.Header) (*http.Response, error) {
	address := c.base.String() + "/api/v1/" + path
	if len(q) > 0 {
		address += "?" + q.Encode()
	}
	return c.sendTo(ctx, method, address, body, header...)
}

// sendTo is send for an address of its own.
func (c *Client) sendTo(ctx context.Context, method, address string, body []byte, header ...http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("addressing %q: %w", address, err)
	}
	req.Header.Set("User-Agent", c.userAgent)
	req.Header.Set("Accept", "application/json, text/plain")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if method != http.MethodGet {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range header {
		maps.Copy(req.Header, h)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.failed(ctx, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, readProblem(resp)
	}
	return resp, nil
}

// failed tells a caller that gave up from a service that is not there.
func (c *Client) failed(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return gaveUp(ctx)
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // the address is named once, without its query
	}
	return &UnreachableError{URL: c.base.String(), Err: err}
}

// gaveUp is the context's error together with why it ended.
func gaveUp(ctx context.Context) error {
	if cause := context.Cause(ctx); cause != ctx.Err() {
		return fmt.Errorf("%w: %w", ctx.Err(), cause)
	}
	return ctx.Err()
}

// readProblem makes a *Problem of any answer, also of one that a proxy wrote.
func readProblem(resp *http.Response) error {
	p := &Problem{}
	data, err := io.ReadAll(io.LimitReader(resp.Body, problemLimit))
	if err != nil || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") || json.Unmarshal(data, p) != nil {
		*p = Problem{}
	}
	p.Status = resp.StatusCode
	if p.Title == "" {
		p.Title = http.StatusText(resp.StatusCode)
	}
	if p.Code == "" {
		p.Code = CodeOf(resp.StatusCode)
	}
	return p
}

// escape joins path segments, each escaped, so that an id cannot add a segment
// or a query.
func escape(segments ...string) string {
	escaped := make([]string, len(segments))
	for i, s := range segments {
		escaped[i] = url.PathEscape(s)
	}
	return strings.Join(escaped, "/")
}

// query builds the query from pairs of name and value, leaving out empty values.
func query(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}

func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}
