package notify

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/waymark-cd/waymark/release"
)

const (
	requestWithin = 15 * time.Second
	maxAnswer     = 1 << 20 // bytes of an answer that are read
	patience      = 5       // attempts until "not found" is believed
	unsaidLimit   = time.Minute
	longestDetail = 300 // runes of an error
)

// wire is one place's way out. It remembers the last answer, which tells more
// than the errors of the clients that use it, and sends nothing while the place
// wants to be left alone. Requests go out one at a time.
type wire struct {
	next http.RoundTripper

	mu      sync.Mutex
	status  int           // of the last answer; 0: there was none
	limited bool          // it was refused for the number of requests
	after   time.Duration // for how long
	until   time.Time     // when the next request may go out
}

// newWire makes a client that reaches one place. It follows no redirects: they
// would take the token elsewhere. caFile may be empty.
func newWire(caFile string) (*wire, *http.Client, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 1
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: reading the certificates: %w", release.ErrInvalid, err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, nil, fmt.Errorf("%w: %s holds no certificate in PEM", release.ErrInvalid, caFile)
		}
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	w := &wire{next: t}
	return w, &http.Client{Transport: w, Timeout: requestWithin,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}

// errLimited is the answer to a request that is not sent at all.
var errLimited = errors.New("the number of requests that it allows is used up")

// RoundTrip is part of http.RoundTripper.
func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status, w.limited, w.after = 0, false, 0
	if wait := time.Until(w.until); wait > 0 {
		w.limited, w.after = true, wait
		return nil, errLimited
	}
	resp, err := w.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	w.note(resp.StatusCode, resp.Header)
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	return resp, nil
}

// begin forgets the last answer, so that what is judged next is of a request of
// its own.
func (w *wire) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status, w.limited, w.after = 0, false, 0
}

// note reads what an answer says of the number of requests: Retry-After, and the
// remaining ones as GitHub, Gitea and Bitbucket (X-RateLimit-…) or GitLab
// (RateLimit-…) tell them.
func (w *wire) note(status int, h http.Header) {
	w.status = status
	after := retryAfter(h)
	used := h.Get("X-RateLimit-Remaining") == "0" || h.Get("RateLimit-Remaining") == "0"
	if reset := resetAt(h); used && !reset.IsZero() {
		after = max(after, time.Until(reset))
		w.until = reset
	}
	switch {
	case status == http.StatusTooManyRequests,
		status == http.StatusForbidden && (used || h.Get("Retry-After") != ""),
		status == http.StatusServiceUnavailable && h.Get("Retry-After") != "":
		if after <= 0 {
			after = unsaidLimit
		}
		w.limited, w.after = true, after
		w.until = time.Now().Add(min(after, longestLater))
	}
	if latest := time.Now().Add(longestLater); w.until.After(latest) {
		w.until = latest
	}
}

// retryAfter reads Retry-After: seconds, or a date.
func retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if n, err := strconv.Atoi(v); err == nil {
		return time.Duration(min(max(n, 0), 1<<20)) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// resetAt reads when requests are allowed again, in seconds since 1970.
func resetAt(h http.Header) time.Time {
	for _, name := range []string{"X-RateLimit-Reset", "RateLimit-Reset"} {
		if n, err := strconv.ParseInt(h.Get(name), 10, 64); err == nil && n > 1e9 {
			return time.Unix(n, 0)
		}
	}
	return time.Time{}
}

// judge turns a client's error into what a Courier acts on. gone says how often
// "not found" must come until it is believed; 0 for never.
func (w *wire) judge(err error, gone int) error {
	w.mu.Lock()
	status, limited, after := w.status, w.limited, w.after
	w.mu.Unlock()
	if err == nil && !limited && status/100 == 2 {
		return nil
	}
	said := errors.New(answerText(status, err))
	switch {
	case limited:
		return &Later{After: after, Err: said}
	case status == http.StatusBadRequest, status == http.StatusConflict, status == http.StatusRequestEntityTooLarge, status == http.StatusUnprocessableEntity:
		return &Refusal{Err: said}
	case (status == http.StatusNotFound || status == http.StatusGone) && gone > 0:
		return &Refusal{Patience: gone - 1, Err: said}
	}
	return said
}

// answerText says what went wrong, and what to do, without the address: a chat's
// is a secret.
func answerText(status int, err error) string {
	if wrapped := new(url.Error); errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	detail := ""
	if err != nil {
		detail = ": " + Plain(err.Error(), longestDetail)
	}
	switch {
	case status == 0 && errors.Is(err, errLimited):
		return errLimited.Error()
	case status == 0:
		return "it does not answer" + detail
	case status == http.StatusUnauthorized:
		return "401: it does not know the token: make a new one" + detail
	case status == http.StatusForbidden:
		return "403: the token may not do this" + detail
	case status == http.StatusNotFound:
		return "404: it is not there, or the token may not see it" + detail
	case status/100 == 3:
		return strconv.Itoa(status) + ": it has moved: change its address in the configuration"
	case status/100 == 2:
		return "its answer cannot be read" + detail
	}
	return strings.TrimSpace(strconv.Itoa(status)+" "+http.StatusText(status)) + detail
}
