package gitrepo

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// httpDialer speaks git's smart HTTP (gitprotocol-http).
type httpDialer struct {
	client         *http.Client
	base           string // without a trailing slash, without credentials
	user, password string
	credentials    func(ctx context.Context, url string) (username, password string, err error)
}

func newHTTPDialer(cfg Config, a address) (*httpDialer, error) {
	if cfg.Credentials != nil && (cfg.Username != "" || cfg.Password != "") {
		return nil, errors.New("a user name or password is set beside credentials that are asked for: set one of the two")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = 2 * time.Minute
	if cfg.CAFile != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading the CA file: %w", err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CA file %s holds no PEM certificate", cfg.CAFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	d := &httpDialer{base: a.shown(), user: a.user, password: a.password, credentials: cfg.Credentials}
	if cfg.Username != "" || cfg.Password != "" {
		d.user, d.password = cfg.Username, cfg.Password
	}
	d.client = &http.Client{Transport: transport, CheckRedirect: sameHost}
	return d, nil
}

// sameHost follows redirects within a server alone: the credentials are for
// the host that the configuration names.
func sameHost(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	upgrade := first.Scheme == "http" && req.URL.Scheme == "https" && first.Hostname() == req.URL.Hostname()
	if (req.URL.Host != first.Host || req.URL.Scheme != first.Scheme) && !upgrade {
		return &trouble{what: "the server redirects to " + req.URL.Scheme + "://" + req.URL.Host + req.URL.EscapedPath(),
			next: "configure that address as the url if it is the right one"}
	}
	if len(via) >= 5 {
		return &trouble{what: "the server redirects without end", next: "check the url"}
	}
	return nil
}

const infoRefs = "/info/refs"

func (d *httpDialer) dial(ctx context.Context) (conn, error) {
	c := &httpConn{dialer: d, base: d.base, user: d.user, password: d.password}
	if err := c.login(ctx); err != nil {
		return nil, err
	}
	res, err := c.do(ctx, http.MethodGet, d.base+infoRefs+"?service=git-upload-pack", nil)
	if err != nil {
		return nil, err
	}
	if ct := res.Header.Get("Content-Type"); ct != "application/x-git-upload-pack-advertisement" {
		return nil, &trouble{what: fmt.Sprintf("the server answers with %q, not with git", clip(ct)),
			next: "check the url: it must be the repository's clone address"}
	}
	// A redirect moved the repository: what follows goes there.
	final := *res.Request.URL
	final.RawQuery, final.User = "", nil
	c.base = strings.TrimSuffix(final.String(), infoRefs)
	in := bufio.NewReaderSize(res.Body, maxPkt+16)
	if head, _ := in.Peek(14); bytes.HasSuffix(head, []byte("# service=")) {
		p := newPktReader(in)
		if _, _, err := p.next(); err != nil {
			return nil, err
		}
		if kind, _, err := p.next(); err != nil || kind != pktFlush {
			return nil, errors.Join(errBadPkt, err)
		}
		_, _ = p.r.Discard(p.used)
		in = p.r
	}
	c.first = in
	return c, nil
}

type httpConn struct {
	dialer         *httpDialer
	base           string
	user, password string
	first          io.Reader
	body           io.Closer
}

// login asks for the credentials where the configuration says whom to ask.
func (c *httpConn) login(ctx context.Context) (err error) {
	if c.dialer.credentials == nil {
		return nil
	}
	c.user, c.password, err = c.dialer.credentials(ctx, c.base)
	switch {
	case err == nil:
		return nil
	case isSentinel(err):
		return fmt.Errorf("no credentials for the server: %w", err)
	}
	return &trouble{what: "no credentials for the server", cause: err,
		next: "see to what it names: this service's identity, the network, or whoever issues the credentials"}
}

func (c *httpConn) greeting() io.Reader { return c.first }
func (c *httpConn) stateless() bool     { return true }

func (c *httpConn) said(cause error) error { return remoteSaid("", cause) }

func (c *httpConn) close() {
	if c.body != nil {
		_ = c.body.Close()
		c.body = nil
	}
}

func (c *httpConn) ask(ctx context.Context, request []byte) (io.Reader, error) {
	res, err := c.do(ctx, http.MethodPost, c.base+"/git-upload-pack", request)
	if err != nil {
		return nil, err
	}
	if ct := res.Header.Get("Content-Type"); ct != "application/x-git-upload-pack-result" {
		return nil, &trouble{what: fmt.Sprintf("the server answers with %q, not with git", clip(ct)),
			next: "check what stands between this machine and the server, such as a proxy"}
	}
	return res.Body, nil
}

// do sends one request; the body of the one before is closed. Refused
// credentials that can be asked for are asked for once more.
func (c *httpConn) do(ctx context.Context, method, where string, body []byte) (*http.Response, error) {
	res, err := c.send(ctx, method, where, body)
	if err == nil && refused(res) && c.dialer.credentials != nil {
		if err := c.login(ctx); err != nil {
			c.close()
			return nil, err
		}
		res, err = c.send(ctx, method, where, body)
	}
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer c.close()
	if refused(res) && c.dialer.credentials != nil {
		return nil, &trouble{what: "the server refuses the credentials", cause: &statusError{res.Status},
			next: "check that this service's identity may read the repository, and this machine's clock"}
	}
	return nil, statusTrouble(res, c.hasLogin())
}

// refused tells of an answer to wrong credentials: servers that check a
// signature in place of a password answer 403, others 401.
func refused(res *http.Response) bool {
	return res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden
}

func (c *httpConn) hasLogin() bool { return c.user != "" || c.password != "" }

func (c *httpConn) send(ctx context.Context, method, where string, body []byte) (*http.Response, error) {
	c.close()
	req, err := http.NewRequestWithContext(ctx, method, where, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "git/waymark")
	req.Header.Set("Git-Protocol", "version=2")
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-git-upload-pack-request")
		req.Header.Set("Accept", "application/x-git-upload-pack-result")
	}
	if c.hasLogin() {
		req.SetBasicAuth(c.user, c.password)
	}
	res, err := c.dialer.client.Do(req)
	if err != nil {
		return nil, httpTrouble(err)
	}
	c.body = res.Body
	return res, nil
}

func httpTrouble(err error) error {
	var t *trouble
	if errors.As(err, &t) {
		return t
	}
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err // the URL is named by the caller
	}
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		return &trouble{what: "the server's certificate is not trusted", cause: err,
			next: "name the certificate authority's PEM file as the repository's CA file"}
	case errors.As(err, &host), errors.As(err, &invalid):
		return &trouble{what: "the server's certificate does not fit", cause: err,
			next: "check the url's host, the server's certificate and this machine's clock"}
	}
	return &trouble{what: "the server cannot be reached", cause: err,
		next: "check the url, the network and the proxy settings"}
}

func statusTrouble(res *http.Response, withCredentials bool) error {
	status := &statusError{res.Status}
	switch {
	case res.StatusCode == http.StatusUnauthorized && !withCredentials:
		return &trouble{what: "the server wants credentials", cause: status,
			next: "set the repository's user name and password (or token)"}
	case res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden:
		return &trouble{what: "the server refuses the credentials", cause: status,
			next: "check user name and password; a token needs read access to the repository and may have expired"}
	case res.StatusCode == http.StatusNotFound || res.StatusCode == http.StatusGone:
		return &trouble{what: "no repository there", cause: status,
			next: "check the url; some servers answer so too when the credentials may not read it"}
	case res.StatusCode == http.StatusTooManyRequests:
		return &trouble{what: "the server limits our requests", cause: status, next: "poll less often"}
	}
	return &trouble{what: "the server failed", cause: status, next: "see the server's own log"}
}

// statusError prints an HTTP status.
type statusError struct{ status string }

func (e *statusError) Error() string { return "http status " + clip(e.status) }
