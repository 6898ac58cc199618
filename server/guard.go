package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/page"
	"github.com/waymark-cd/waymark/release"
)

type contextKey int

const (
	keyRequestID contextKey = iota
	keyCaller
)

func requestID(ctx context.Context) string {
	id, _ := ctx.Value(keyRequestID).(string)
	return id
}

// metrics counts what happens at the door; what runs do is counted elsewhere.
type metrics struct {
	requests *prometheus.CounterVec
	times    *prometheus.HistogramVec
}

func newMetrics(registry *prometheus.Registry, further ...prometheus.Collector) (metrics, error) {
	m := metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_http_requests_total",
			Help: "HTTP requests by route and status."}, []string{"route", "status"}),
		times: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "waymark_http_request_duration_seconds", Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
			Help: "Time of HTTP requests by route; streams are left out."}, []string{"route"}),
	}
	var errs []error
	for _, c := range append(further, m.requests, m.times) {
		errs = append(errs, registry.Register(c))
	}
	return m, errors.Join(errs...)
}

// statusWriter remembers the status that was sent.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader remembers and passes on the first status.
func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write is a WriteHeader of 200 where none was sent.
func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach deadlines and flushing.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// observe names, counts and logs each request, and turns a panic into a 500.
func (s *Server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := s.now()
		id := rand.Text()
		r = r.WithContext(withCaller(context.WithValue(r.Context(), keyRequestID, id)))
		sw := &statusWriter{ResponseWriter: w}
		sw.Header().Set("X-Request-Id", id)
		defer func() {
			cause := recover()
			if cause != nil && cause != http.ErrAbortHandler {
				s.log.ErrorContext(r.Context(), "request panicked", "request_id", id, "panic", cause, "stack", string(debug.Stack()))
				if sw.status == 0 {
					send(sw, newProblem(r.Context(), http.StatusInternalServerError, "internal error"))
				}
			}
			if sw.status == 0 {
				sw.status = http.StatusOK // nothing was written, which is sent as 200
			}
			s.metrics.requests.WithLabelValues(route(r), strconv.Itoa(sw.status)).Inc()
			if !isStream(r) {
				s.metrics.times.WithLabelValues(route(r)).Observe(s.now().Sub(began).Seconds())
			}
			s.log.DebugContext(r.Context(), "request", "request_id", id, "method", r.Method, "route", route(r),
				"status", sw.status, "took", s.now().Sub(began))
			if cause == http.ErrAbortHandler {
				panic(cause) // breaks the connection, so that the client sees an answer that is not whole
			}
		}()
		next.ServeHTTP(sw, r)
	})
}

// route is the pattern that matched, of which there are few; never the path.
func route(r *http.Request) string {
	if r.Pattern == "" || r.Pattern == "/" {
		return "other"
	}
	return r.Pattern
}

// guard decides who may pass: it sets the headers that every answer carries,
// bounds the body, asks for the right host, origin and form, and finds out who
// asks. What that person may do is for each operation to say.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.setHeaders(w.Header())
		if isWebhook(r) { // comes from elsewhere by nature, and carries its own proof
			next.ServeHTTP(w, r)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if p, ok := s.foreign(r); ok {
			drain(r)
			send(w, p)
			return
		}
		if known, err := s.recognised(r); !known || err != nil {
			drain(r)
			s.askWho(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// recognised finds out who a request comes from, and reports whether it may go
// on: from somebody, or to what is open to nobody too. What was shown and does
// not count is an error, but for what is open.
func (s *Server) recognised(r *http.Request) (bool, error) {
	if isOpen(r) && !asksWho(r) {
		return true, nil
	}
	c, err := s.identify(r)
	switch {
	case isOpen(r) && (err != nil || c.Name == ""):
		return true, nil
	case err != nil || c.Name == "":
		return false, err
	case c.bySession && !isRead(r) && !s.ownPage(r):
		return false, &identity.Denial{Action: "session", Detail: "a session decides on this service's own pages alone: send a token as Authorization: Bearer …"}
	}
	recognise(r.Context(), c)
	return true, nil
}

// drain reads what is left of a body that nobody will look at: a connection that
// is closed over unread bytes is reset, and its client may lose the answer.
func drain(r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // bounded by MaxBytesReader; how it ends changes nothing
}

func (s *Server) setHeaders(h http.Header) {
	h.Set("Content-Security-Policy", page.Policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// foreign reports a request that another site makes a browser send.
func (s *Server) foreign(r *http.Request) (problem, bool) {
	switch {
	case !s.closed() && !isLoopback(r.Host):
		return newProblem(r.Context(), http.StatusMisdirectedRequest,
			"this service is open to its own machine alone: address it as 127.0.0.1 or localhost, or configure a token or an issuer"), true
	case s.origins.Check(r) != nil:
		return newProblem(r.Context(), http.StatusForbidden, "this request comes from another site's page, which is not allowed"), true
	case r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/api/") && !isDeliberate(r):
		return newProblem(r.Context(), http.StatusUnsupportedMediaType,
			"send the body as application/json: add the header Content-Type: application/json, or X-Waymark-Request: 1 where there is no body"), true
	case !isRead(r) && s.fromRun(r):
		return newProblem(r.Context(), http.StatusForbidden,
			"this request comes from a run's own code, or cannot be told from one, and a run decides about no run: configure server { token } or oidc, or ask again when nothing runs"), true
	}
	return problem{}, false
}

// fromRun reports a request without proof that a run's own code may have sent:
// it has the user of the service and reaches its port, and would approve itself.
func (s *Server) fromRun(r *http.Request) bool {
	if s.closed() || s.cfg.FromRun == nil {
		return false
	}
	client, err := netip.ParseAddrPort(r.RemoteAddr)
	own, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if err != nil || !ok {
		return true
	}
	found, err := s.cfg.FromRun(client, own.AddrPort())
	if err != nil {
		s.log.WarnContext(r.Context(), "who sent a request cannot be told", "error", err)
	}
	return found || err != nil
}

// isLoopback reports whether a Host header names this very machine. A name that
// somebody else's DNS points at loopback is not among them.
func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return host == "localhost" || host == "127.0.0.1" || host == "::1"
}

// isDeliberate reports whether a request has what no HTML form can send.
func isDeliberate(r *http.Request) bool {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && media == "application/json" || r.Header.Get("X-Waymark-Request") != ""
}

func isWebhook(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/webhooks/") }

// isOpen lists what needs nobody: it tells nothing about any target.
func isOpen(r *http.Request) bool {
	switch r.URL.Path {
	case "/healthz", "/readyz", "/openapi.json", "/docs", "/login", "/logout":
		return true
	}
	return strings.HasPrefix(r.URL.Path, "/login/") || strings.HasPrefix(r.URL.Path, page.AssetPrefix) || isPublic(r)
}

// asksWho lists what is open and yet answers somebody otherwise than nobody.
func asksWho(r *http.Request) bool {
	return r.URL.Path == "/readyz" || r.URL.Path == "/login" && isRead(r)
}

// inBrowser reports whether somebody looks at a page, and no program at the API.
func inBrowser(r *http.Request) bool {
	return isRead(r) && strings.Contains(r.Header.Get("Accept"), "text/html") && !strings.HasPrefix(r.URL.Path, "/api/")
}

func isRead(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

// askWho answers a request of nobody, or of somebody who is not believed: a page
// with the login, anything else with the problem.
func (s *Server) askWho(w http.ResponseWriter, r *http.Request, err error) {
	isPage := inBrowser(r) || isRead(r) && nextForm.MatchString(r.URL.Path)
	var denied *identity.Denial
	switch {
	case err == nil:
		err = errNobody
	case errors.As(err, &denied):
		s.writeProblem(w, r, err)
		return
	}
	if isPage && r.Header.Get("Authorization") == "" {
		if errors.Is(err, errNobody) {
			s.showLogin(w, r, http.StatusUnauthorized, "")
			return
		}
		s.refuseLogin(w, r, err)
		return
	}
	if limited := new(tooMany); errors.As(err, &limited) {
		w.Header().Set("Retry-After", limited.seconds())
	} else {
		w.Header().Set("WWW-Authenticate", `Bearer realm="waymark"`)
	}
	s.writeProblem(w, r, err)
}

// validRunID reads a run's id from a path. What is no id is a run that does not
// exist.
func validRunID(id string) (int64, error) { return validID("run", id) }

// validID reads the id of a run, or of something else that is numbered as runs are.
func validID(what, id string) (int64, error) {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil || n < 1 || release.FormatID(n) != id {
		return 0, fmt.Errorf("%s %.40q: %w", what, id, release.ErrNotFound)
	}
	return n, nil
}

// pushDeadline gives a client another writeWithin to take what is written next.
func pushDeadline(rc *http.ResponseController) {
	_ = rc.SetWriteDeadline(time.Now().Add(writeWithin)) // a test's recorder has no deadlines
}
