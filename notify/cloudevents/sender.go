package cloudevents

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/waymark-cd/waymark/release"
)

// SenderConfig describes one webhook.
type SenderConfig struct {
	URL     string
	Secret  string            // signs each message
	Headers map[string]string // further ones
	Mode    string            // Structured or Binary
	Timeout time.Duration     // for one answer; 0: 10 s
	Agent   string            // the User-Agent header
	Now     func() time.Time  // nil: time.Now
}

// Sender sends entries to one webhook. It may be used by several goroutines.
type Sender struct {
	cfg    SenderConfig
	client *http.Client
}

// answerLimit bounds how much of an answer is read, in bytes: so much that the
// connection can be used again, and no more.
const answerLimit = 16 << 10

// NewSender checks the configuration; what is wrong is release.ErrInvalid.
func NewSender(cfg SenderConfig) (*Sender, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || cfg.Secret == "" || cfg.Mode != Structured && cfg.Mode != Binary {
		return nil, fmt.Errorf("%w consumer: it needs a URL, a secret and a mode", release.ErrInvalid)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Timeout = cmp.Or(cfg.Timeout, 10*time.Second)
	return &Sender{cfg: cfg, client: &http.Client{
		Timeout: cfg.Timeout,
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: cfg.Timeout}).DialContext,
			TLSHandshakeTimeout: cfg.Timeout,
			MaxIdleConns:        1, MaxIdleConnsPerHost: 1, MaxConnsPerHost: 1,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: answerLimit,
			ForceAttemptHTTP2:      true,
		},
		// Whoever answers with another address would get what was meant for this one.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Refusal is what a webhook says that does not take an entry.
type Refusal struct {
	Status int
	Wait   time.Duration // that it asks for; 0 for none
}

// Error names the status, and nothing that the webhook says.
func (r *Refusal) Error() string {
	text := fmt.Sprintf("it answered %d %s", r.Status, http.StatusText(r.Status))
	if r.Status >= 300 && r.Status < 400 {
		text += "; redirects are not followed: configure the address that it leads to"
	}
	return text
}

// Send sends one entry of the log that source names. It returns nil once the
// webhook has answered with a success. Its error, which may be a *Refusal, says
// what was wrong without the webhook's address, for that may hold a token.
func (s *Sender) Send(ctx context.Context, source string, e Entry) error {
	ev, err := newEvent(source, e)
	if err != nil {
		return err
	}
	req, body, err := newRequest(ctx, s.cfg.URL, s.cfg.Mode, ev)
	if err != nil {
		return plain(err)
	}
	for name, value := range s.cfg.Headers {
		req.Header.Set(name, value)
	}
	req.Header.Set("User-Agent", s.cfg.Agent)
	req.Header.Set(SignatureHeader, Signature(s.cfg.Secret, s.cfg.Now(), body))
	resp, err := s.client.Do(req)
	if err != nil {
		return plain(err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, answerLimit) // so that the connection can be used again
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	return &Refusal{Status: resp.StatusCode, Wait: retryAfter(resp.Header.Get("Retry-After"), s.cfg.Now())}
}

// plain takes the address out of an error of net/http.
func plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return fmt.Errorf("it cannot be reached: %w", u.Err)
	}
	return err
}

// retryAfter reads the header of that name: seconds, or a date.
func retryAfter(text string, now time.Time) time.Duration {
	if n, err := strconv.Atoi(text); err == nil && n > 0 && n < 1<<31 {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}
