package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"slices"
	"time"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/runner"
)

// listenDebug opens the port of profiles; nil where the configuration has none.
func listenDebug(cfg *config.Config) (net.Listener, error) {
	if cfg.Server.DebugListen == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", cfg.Server.DebugListen)
	if err != nil {
		return nil, usageErrorf("listening on %s: %w; set server { debug_listen } to a free address", cfg.Server.DebugListen, err)
	}
	// A name such as localhost is what the machine says it is.
	if at, ok := l.Addr().(*net.TCPAddr); !ok || !at.IP.IsLoopback() {
		return nil, errors.Join(usageErrorf("server { debug_listen } is %s, which is not on loopback here but %s: profiles have no login", cfg.Server.DebugListen, l.Addr()), l.Close())
	}
	return l, nil
}

// serveDebug serves Go's profiles of this process until ctx ends. Without them the
// service goes on.
func serveDebug(ctx context.Context, l net.Listener, log *slog.Logger) {
	if l == nil {
		return
	}
	web := &http.Server{Handler: debugHandler(log), ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	defer context.AfterFunc(ctx, func() { _ = web.Close() })()
	log.Info("profiles are served", "address", "http://"+l.Addr().String()+"/debug/pprof/")
	if err := web.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		log.Error("profiles are no longer served", "error", err)
	}
}

// debugHandler answers callers on this machine that address it as such, and that
// are no run's own code: it reaches loopback too.
func debugHandler(log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !addressesLoopback(r.Host):
			http.Error(w, "profiles are for this machine alone: address them as 127.0.0.1 or localhost", http.StatusMisdirectedRequest)
		case !slices.Contains([]string{"", "none", "same-origin"}, r.Header.Get("Sec-Fetch-Site")):
			http.Error(w, "profiles are not for other sites' pages", http.StatusForbidden)
		case calledByRun(r, log):
			http.Error(w, "profiles are not for what a run executes", http.StatusForbidden)
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

// addressesLoopback keeps out pages whose name somebody's DNS points at loopback.
func addressesLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// calledByRun reports a caller that is, or cannot be told from, a run's own code.
func calledByRun(r *http.Request, log *slog.Logger) bool {
	client, err := netip.ParseAddrPort(r.RemoteAddr)
	own, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if err != nil || !ok {
		return true
	}
	found, err := runner.CalledByRun(client, own.AddrPort())
	if err != nil {
		log.WarnContext(r.Context(), "who asks for profiles cannot be told", "error", err)
	}
	return found || err != nil
}
