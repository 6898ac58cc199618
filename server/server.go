// Package server owns Waymark's HTTP side: the status API, its OpenAPI
// document and their pages, health, metrics, webhooks in, and the page that
// shows the board.
//
// It reads from the store and hands decisions and hints on through functions
// that it is given; it must never drive a run, read a repository or start a
// tool. Whatever a request, a tag or a log says is hostile: it is limited in
// size, escaped where it is shown, and never part of a path or a command.
package server

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/page"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

const (
	maxBody      = 64 << 10         // bytes of any request's body, webhooks apart
	maxHeader    = 32 << 10         // bytes of a request's header
	headerWithin = 5 * time.Second  // for a client to send its header
	readWithin   = 15 * time.Second // for a client to send a whole request
	writeWithin  = 30 * time.Second // for a client to take an answer, or one piece of a log
	readyWithin  = 5 * time.Second  // for all checks of /readyz
	maxFollowers = 1024             // logs streamed at the same time
	deadAfter    = 30 * time.Second // without a sign of life an instance is shown as dead, unless configured otherwise
)

// Check is one part that the service needs to be ready. Detail is shown only to
// callers that may use the API.
type Check = api.Check

// Config is what a Server needs. Store is required; a nil function is a part
// that this service does not have, and what needs it answers 503.
type Config struct {
	Store *store.Store
	// Decide carries out a verdict and gives the run after it. Its errors wrap
	// release's sentinels.
	Decide func(ctx context.Context, runID int64, v release.Verdict) (release.Run, error)
	// Evidence gathers again what can be told of a run whose end is unknown.
	Evidence func(ctx context.Context, runID int64, actor string) (release.Run, error)
	// Repositories names those that orders may be for; with one or none nobody is asked.
	Repositories []string
	// Order queues a run that a person asks for.
	Order func(ctx context.Context, o release.Order) (release.Run, error)
	// Changes lists commits that are in to's history and not in from's, newest first,
	// most of them at most; more says that there are others.
	Changes func(ctx context.Context, repository, from, to string, most int) (commits []Commit, more bool, err error)
	// Opening says whether the configuration lets a target change at a time, until
	// when that holds (zero: not in sight) and what decides.
	Opening func(t release.Target, at time.Time) (open bool, until time.Time, which string)
	// Public reports whether anybody may look at an environment's runs and badges.
	Public func(env string) bool
	// Locks lists held locks, of one target or of all; Unlock releases one.
	Locks  func(ctx context.Context, only *release.Target) ([]release.HeldLock, error)
	Unlock func(ctx context.Context, u release.Unlock) ([]release.HeldLock, error)
	// Drain tells an instance to take no new work or, with undo, to take it again.
	Drain func(ctx context.Context, id string, undo bool, actor, reason string) error
	// Self is the id of this instance, and ConfigDigest names the configuration
	// that it has read.
	Self, ConfigDigest string
	// Heartbeat is how long an instance may be without a sign of life until it
	// counts as dead. 0: 30 s.
	Heartbeat time.Duration
	Audit     AuditConfig
	// Hint says that a repository may have new tags. It must not block.
	Hint func(repository string)
	// Logs hands the lines of a run's log that are asked for to each. It returns the
	// run as it was then, or when each or ctx fails.
	Logs func(ctx context.Context, runID int64, q release.LogRange, each func(release.LogLine) error) (release.Run, error)
	// Source is where a forge shows a file of a commit at a line, or the commit itself
	// for an empty name; empty where nobody knows.
	Source func(repository, commit, file string, line int) string
	// Ready checks what the service needs; nil asks the store alone.
	Ready func(ctx context.Context) []Check
	// FromRun reports whether code that a run executes opened a connection. Where
	// there is no token such a caller decides nothing. Nil: nobody is asked.
	FromRun func(client, service netip.AddrPort) (bool, error)
	// WebhookSecrets holds a secret per repository that takes webhooks.
	WebhookSecrets map[string]string
	// Notifications names the places outside that are told of runs, as they are on
	// record.
	Notifications []string
	// Token is the service's own, whose holder may do everything. It, or an issuer,
	// closes everything but health, webhooks and the API's description. Without
	// either the service answers only requests addressed to loopback.
	Token string
	// Issuers are those by which people log in. What they may do is in their rules.
	Issuers []*identity.Issuer
	// TraceID is the id of a run's trace; empty, or nil, where it is not traced.
	TraceID func(runID int64) string
	// URL is the address by which people reach the page; empty: as a caller on
	// loopback addresses it.
	URL string
	// TrustedProxies are believed when they say where a request comes from.
	TrustedProxies []netip.Prefix
	// Environments and Teams are those that an API token, or a freeze, may be for;
	// nil: any.
	Environments, Teams []string
	Version             string
	Logger              *slog.Logger         // nil: nothing is logged
	Registry            *prometheus.Registry // nil: one of its own
	Now                 func() time.Time     // nil: time.Now
}

// Server answers HTTP requests. It holds no state of its own but counters, and
// starts no goroutine.
type Server struct {
	cfg       Config
	log       *slog.Logger
	now       func() time.Time
	tokenHash [sha256.Size]byte
	followers chan struct{}   // one slot per log that is streamed
	readers   chan struct{}   // and one per reader of events
	serving   context.Context // ends when streams are to end
	stop      context.CancelFunc
	hub       *hub
	streams   streams
	metrics   metrics
	door      door
	limits    *limits
	hooks     *webhooks
	assets    *page.Assets
	origins   *http.CrossOriginProtection
	handler   http.Handler
	table     []string // patterns of what is served
	sealing   sync.Mutex
	sealWith  []byte // key of sessions, once it was read
}

// New checks the configuration and builds every route. The error says which
// part of the configuration is missing, or which metric is registered already.
func New(cfg Config) (*Server, error) {
	if cfg.Store == nil {
		return nil, errors.New("building the server: no store is given")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Registry == nil {
		cfg.Registry = prometheus.NewRegistry()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Heartbeat = cmp.Or(cfg.Heartbeat, deadAfter)
	s := &Server{cfg: cfg, log: cfg.Logger, now: cfg.Now, tokenHash: sha256.Sum256([]byte(cfg.Token)),
		followers: make(chan struct{}, maxFollowers), readers: make(chan struct{}, maxReaders),
		hub: newHub(cfg.Store, eventSource(cfg), cfg.Logger), origins: http.NewCrossOriginProtection(), limits: newLimits()}
	var err error
	if s.metrics, err = newMetrics(cfg.Registry, s.newInstanceMetrics(), s.newFigures()); err != nil {
		return nil, fmt.Errorf("building the server: %w", err)
	}
	if s.streams, err = newStreams(cfg.Registry); err != nil {
		return nil, fmt.Errorf("building the server: %w", err)
	}
	if err = cfg.Registry.Register(s.newNotificationMetrics()); err != nil {
		return nil, fmt.Errorf("building the server: %w", err)
	}
	if s.hooks, err = newWebhooks(cfg.Registry); err != nil {
		return nil, fmt.Errorf("building the server: %w", err)
	}
	if s.door, err = newDoor(cfg.Registry); err != nil {
		return nil, fmt.Errorf("building the server: %w", err)
	}
	if s.assets, err = page.NewAssets(); err != nil {
		return nil, fmt.Errorf("building the server: %w", err)
	}
	mux, err := s.routes()
	if err != nil {
		return nil, fmt.Errorf("building the server: %w", err)
	}
	s.table, s.handler = mux.patterns, s.observe(s.guard(mux))
	s.serving, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Handler is the whole service as one handler.
func (s *Server) Handler() http.Handler { return s.handler }

// HTTPServer wraps the handler with the time-outs and limits that a listener
// in the open needs. The caller sets nothing but BaseContext, and serves.
func (s *Server) HTTPServer() *http.Server {
	srv := &http.Server{
		Handler:           s.handler,
		ConnContext:       boundKernel,
		ReadHeaderTimeout: headerWithin,
		ReadTimeout:       readWithin,
		WriteTimeout:      writeWithin,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	srv.RegisterOnShutdown(s.stop) // streams would hold it up
	return srv
}

// sendBuffer is how much of an answer the kernel keeps for a client that takes
// nothing, in bytes; by itself it would keep megabytes, outside of all our bounds.
const sendBuffer = 128 << 10

// boundKernel bounds what the kernel keeps of a connection.
func boundKernel(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(interface{ SetWriteBuffer(bytes int) error }); ok {
		_ = c.SetWriteBuffer(sendBuffer) // without it only the bound is another
	}
	return ctx
}

// routes builds the table of everything that is served.
func (s *Server) routes() (*table, error) {
	mux := &table{mux: http.NewServeMux()}
	document := s.registerAPI(mux)
	spec, err := document.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("describing the API: %w", err)
	}
	docs, err := s.docs(document)
	if err != nil {
		return nil, fmt.Errorf("describing the API: %w", err)
	}
	mux.HandleFunc("GET /openapi.json", static("application/openapi+json", spec))
	mux.HandleFunc("GET /docs", static("text/html; charset=utf-8", docs))
	mux.HandleFunc("GET /healthz", s.health)
	mux.HandleFunc("GET /readyz", s.ready)
	mux.Handle("GET /metrics", s.watched(promhttp.HandlerFor(s.cfg.Registry, promhttp.HandlerOpts{})))
	mux.HandleFunc("POST /webhooks/{repository}", s.webhook)
	s.serveTiles(mux)
	mux.Handle("GET "+page.AssetPrefix, s.assets)
	mux.HandleFunc("GET /live", s.tellPage)
	mux.HandleFunc("GET /{$}", s.board)
	s.registerTargetPages(mux)
	mux.HandleFunc("GET /releases", s.releasesPage)
	s.registerPublic(mux)
	s.servePages(mux)
	mux.HandleFunc("POST /runs/{id}/approve", s.decideByForm(release.Approve))
	mux.HandleFunc("POST /runs/{id}/reject", s.decideByForm(release.Reject))
	mux.HandleFunc("GET /login", s.loginForm)
	mux.HandleFunc("POST /login", s.login)
	mux.HandleFunc("POST /logout", s.logout)
	mux.HandleFunc("GET /login/start/{oidc}", s.startLogin)
	mux.HandleFunc("GET /login/callback/{oidc}", s.finishLogin)
	mux.HandleFunc("/", s.nothingHere)
	return mux, nil
}

// static serves bytes that never change while the service runs.
func static(contentType string, data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}
}

// watched serves what is for whoever may watch the whole service.
func (s *Server) watched(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.may(r.Context(), identity.Watch, release.Target{}); err != nil {
			s.writeProblem(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) nothingHere(w http.ResponseWriter, r *http.Request) {
	if inBrowser(r) {
		s.showError(w, r, fmt.Errorf("%w: there is no page at this address", release.ErrNotFound))
		return
	}
	s.writeProblem(w, r, fmt.Errorf("%w: nothing answers %s at this address: /docs lists what there is", release.ErrNotFound, r.Method))
}

// health says that the process answers, and nothing more.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, api.Health{OK: true, Version: s.cfg.Version})
}

// ready says whether the service can do its work: 200, or 503 with what is missing.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyWithin)
	defer cancel()
	h := api.Health{OK: true, Version: s.cfg.Version}
	if s.cfg.Ready != nil {
		h.Checks = slices.Clone(s.cfg.Ready(ctx))
	} else {
		h.Checks = []Check{s.storeCheck(ctx)}
	}
	told := s.may(r.Context(), identity.Watch, release.Target{}) == nil
	for i := range h.Checks {
		h.OK = h.OK && h.Checks[i].OK
		if !told {
			h.Checks[i].Detail = ""
		}
	}
	status := http.StatusOK
	if !h.OK {
		status = http.StatusServiceUnavailable
	}
	writeJSON(w, status, h)
}

func (s *Server) storeCheck(ctx context.Context) Check {
	if err := s.cfg.Store.Ping(ctx); err != nil {
		return Check{Name: "store", Detail: err.Error()}
	}
	return Check{Name: "store", OK: true}
}
