package testkit

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/cgi"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// HTTPRemote serves a Remote with git http-backend on loopback.
type HTTPRemote struct {
	// URL is the clone address, without credentials.
	URL string
	// Protocol0 makes the server ignore that clients know protocol version 2.
	// Set it before the first request.
	Protocol0 bool

	t              testing.TB
	addr           string
	user, password string
	backend        *cgi.Handler

	mu     sync.Mutex
	server *http.Server
	done   chan struct{}
}

// ServeHTTP starts the server; with a user, basic authentication is asked for.
// It stops at the end of the test.
func (r *Remote) ServeHTTP(user, password string) *HTTPRemote {
	r.t.Helper()
	exe := filepath.Join(gitExecPath(r.t), "git-http-backend")
	h := &HTTPRemote{t: r.t, user: user, password: password, addr: "127.0.0.1:0",
		backend: &cgi.Handler{Path: exe, Env: append(cgiEnv(), "GIT_PROJECT_ROOT="+filepath.Dir(r.Dir), "GIT_HTTP_EXPORT_ALL=1"),
			InheritEnv: []string{"PATH"}, Stderr: io.Discard, Logger: log.New(io.Discard, "", 0)}}
	h.Start()
	h.URL = "http://" + h.addr + "/" + filepath.Base(r.Dir)
	r.t.Cleanup(h.Stop)
	return h
}

// Start listens on the address of before, after Stop.
func (h *HTTPRemote) Start() {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	listener, err := net.Listen("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.addr = listener.Addr().String()
	h.server, h.done = &http.Server{Handler: h}, make(chan struct{})
	go func(s *http.Server, done chan struct{}) { _ = s.Serve(listener); close(done) }(h.server, h.done)
}

// Stop closes the listener and every connection: the remote is unreachable.
func (h *HTTPRemote) Stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.server != nil {
		_ = h.server.Close()
		<-h.done
		h.server = nil
	}
}

// ServeHTTP answers as the server does, for tests that put something before it.
func (h *HTTPRemote) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	user, password, _ := req.BasicAuth()
	if h.user != "" && (user != h.user || password != h.password) {
		w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	backend := *h.backend
	// net/http/cgi passes the header as HTTP_GIT_PROTOCOL; git reads GIT_PROTOCOL.
	if p := req.Header.Get("Git-Protocol"); p != "" && !h.Protocol0 {
		backend.Env = append(backend.Env[:len(backend.Env):len(backend.Env)], "GIT_PROTOCOL="+p)
	}
	req.Header.Del("Git-Protocol")
	backend.ServeHTTP(w, req)
}

func cgiEnv() []string {
	return []string{"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_COUNT=1",
		"GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"}
}

func gitExecPath(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatalf("these tests need git: %v", err)
	}
	return strings.TrimSpace(string(out))
}
