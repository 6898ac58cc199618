package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
)

// TestProfilesAreForThisMachine serves profiles beside a real service: to whoever
// addresses loopback, and not to what a run executes.
func TestProfilesAreForThisMachine(t *testing.T) {
	w := newWorld(t, "")
	text, err := os.ReadFile(w.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.file, []byte(strings.Replace(string(text), "server {\n", "server {\n  debug_listen = \"127.0.0.1:0\"\n", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	w.serve()
	w.contact()
	var address string
	w.await("the address of the profiles", func() bool {
		m := regexp.MustCompile(`msg="profiles are served" address=(\S+)`).FindStringSubmatch(w.log.String())
		if m != nil {
			address = m[1]
		}
		return m != nil
	})
	ask := func(host, path string) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.TrimSuffix(address, "/debug/pprof/")+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = host
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(body)
	}
	if status, body := ask("localhost:1", "/debug/pprof/goroutine?debug=1"); status != http.StatusOK || !strings.Contains(body, "goroutine profile: total") {
		t.Errorf("goroutines: %d %.200s", status, body)
	}
	if status, body := ask("", "/debug/pprof/"); status != http.StatusOK || !strings.Contains(body, "heap") {
		t.Errorf("the list: %d %.200s", status, body)
	}
	if status, body := ask("evil.example.org", "/debug/pprof/heap"); status != http.StatusMisdirectedRequest || !strings.Contains(body, "127.0.0.1 or localhost") {
		t.Errorf("by another name: %d %.200s", status, body)
	}
	if status, _ := ask("", "/api/v1/runs"); status != http.StatusNotFound {
		t.Errorf("the API on the port of profiles: %d", status)
	}
	if answer, err := http.Get(w.server + "/debug/pprof/"); err != nil || answer.StatusCode != http.StatusNotFound {
		t.Errorf("profiles on the port of the API: %v %v", answer, err)
	} else {
		answer.Body.Close()
	}
	w.remote.Commit(map[string]string{"spy.tf": `
resource "terraform_data" "spy" {
  provisioner "local-exec" {
    interpreter = ["/bin/bash", "-c"]
    command     = "exec 3<>/dev/tcp/` + strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(address, "http://"), "/debug/pprof/"), ":", "/") + `; printf 'GET /debug/pprof/heap HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3; head -1 <&3"
  }
}
`})
	const tag = "dev_us-east-1/research/1.0"
	w.push(tag)
	run := w.until(tag, release.Succeeded)
	if log := w.runLog(run.ID); !strings.Contains(log, "403 Forbidden") || strings.Contains(log, "200 OK") {
		t.Errorf("what a run's own code was answered:\n%s", log)
	}
}

// TestProfilesNeedAFreeAddress holds what the start says of one that is taken.
func TestProfilesNeedAFreeAddress(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, err = listenDebug(&config.Config{Server: config.Server{DebugListen: taken.Addr().String()}})
	if err == nil || !strings.Contains(err.Error(), "debug_listen") {
		t.Errorf("a taken address: %v", err)
	}
	if l, err := listenDebug(&config.Config{}); l != nil || err != nil {
		t.Errorf("none: %v %v", l, err)
	}
}
