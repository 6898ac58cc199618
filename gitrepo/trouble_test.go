package gitrepo_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/gitrepo"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

func TestHTTPCredentials(t *testing.T) {
	remote := testkit.NewRemote(t)
	remote.Commit(map[string]string{"a": "1"})
	h := remote.ServeHTTP("bot", "s3cret")
	withUser := func(user string) string { return strings.Replace(h.URL, "http://", "http://"+user+"@", 1) }
	for _, tt := range []struct{ name, url, says string }{
		{"none", h.URL, "wants credentials"},
		{"wrong password", withUser("bot:w0rdpass"), "refuses the credentials"},
		{"wrong token", withUser("t0ken"), "refuses the credentials"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := open(t, complete(t, gitrepo.Config{URL: tt.url})).List(t.Context())
			wantError(t, err, release.ErrUnavailable, tt.says)
			if s := err.Error(); strings.Contains(s, "w0rdpass") || strings.Contains(s, "t0ken") {
				t.Errorf("the error shows a credential: %s", s)
			}
		})
	}
	if l := list(t, open(t, complete(t, gitrepo.Config{URL: withUser("bot:s3cret")}))); l.Branch == "" {
		t.Error("credentials in the url are not used")
	}
}

func TestRemoteThatGoesAndComesBack(t *testing.T) {
	remote := testkit.NewRemote(t)
	remote.Commit(map[string]string{"a": "1"})
	h := remote.ServeHTTP("", "")
	r := open(t, complete(t, gitrepo.Config{URL: h.URL}))
	before := list(t, r)
	h.Stop()
	_, err := r.List(t.Context())
	wantError(t, err, release.ErrUnavailable, "cannot be reached", "check the url, the network")
	wantError(t, r.Fetch(t.Context(), nil), release.ErrUnavailable)
	h.Start()
	if after := list(t, r); after.Digest != before.Digest {
		t.Errorf("digest changed: %+v", after)
	}
}

func TestSSHHostKeysAreStrict(t *testing.T) {
	remote := testkit.NewRemote(t)
	remote.Commit(map[string]string{"a": "1"})
	s := remote.ServeSSH(true)
	known, err := os.ReadFile(s.KnownHostsFile)
	if err != nil {
		t.Fatal(err)
	}
	strangerPub, err := os.ReadFile(s.StrangerKey + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ := strings.Cut(string(known), " ")
	for _, tt := range []struct{ name, hosts, key, says, next string }{
		{"unknown", "example.org " + string(strangerPub), s.KeyFile, "is unknown", "ssh-keyscan -p"},
		{"changed", host + " " + string(strangerPub), s.KeyFile, "is not the known one", "remove its old line"},
		{"key not authorised", string(known), s.StrangerKey, "refuses the key SHA256:", "deploy key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "known_hosts")
			if err := os.WriteFile(file, []byte(tt.hosts), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg := complete(t, gitrepo.Config{URL: s.URL, SSHKeyFile: tt.key, KnownHostsFile: file})
			_, err := open(t, cfg).List(t.Context())
			wantError(t, err, release.ErrUnavailable, tt.says, tt.next)
		})
	}
}

func TestSSHServerThatNeverAnswers(t *testing.T) {
	remote := testkit.NewRemote(t)
	s := remote.ServeSSH(true)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := complete(t, sshConfig(s))
	cfg.URL = "ssh://git@" + l.Addr().String() + "/x.git"
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough waited")
	go func() {
		if c, err := l.Accept(); err == nil {
			defer c.Close()
			cancel(why)
			<-t.Context().Done()
		}
	}()
	if _, err := open(t, cfg).List(ctx); !errors.Is(err, why) {
		t.Errorf("List: %v, want the cause of the cancel", err)
	}
}

// TestHostileHTTPServers: whatever a server answers ends in an error that says
// so, never in a panic or a wrong listing.
func TestHostileHTTPServers(t *testing.T) {
	id := strings.Repeat("a", 40)
	pkt := func(s string) string { return fmt.Sprintf("%04x%s", len(s)+4, s) }
	first := pkt(id + " refs/heads/main\x00side-band-64k\n")
	for name, body := range map[string]string{
		"empty":               "",
		"no packet":           "hello, world",
		"length too short":    "0003",
		"cut short":           "00ff" + id,
		"no flush":            first,
		"short id":            first + pkt("abc refs/tags/x\n") + "0000",
		"upper-case id":       first + pkt(strings.ToUpper(id)+" refs/tags/x\n") + "0000",
		"one tag twice":       first + pkt(id+" refs/tags/x\n") + pkt(id+" refs/tags/x\n") + "0000",
		"other object format": pkt(id+" HEAD\x00object-format=sha256\n") + "0000",
		"error line":          pkt("ERR go away"),
		"too many tags":       first + pkt(id+" refs/tags/x\n") + pkt(id+" refs/tags/y\n") + pkt(id+" refs/tags/z\n") + "0000",
		"endless refs":        first + strings.Repeat(pkt(id+" refs/pull/1\n"), 100) + "0000",
		"v2 without end":      pkt("version 2\n"),
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
				_, _ = w.Write([]byte(body))
			}))
			defer srv.Close()
			cfg := complete(t, gitrepo.Config{URL: srv.URL + "/x.git", MaxRefs: 2})
			l, err := open(t, cfg).List(t.Context())
			if err == nil {
				t.Fatalf("listed %+v", l)
			}
			t.Log(err)
		})
	}
}

func TestRedirects(t *testing.T) {
	remote := testkit.NewRemote(t)
	tip := remote.Commit(map[string]string{"a": "1"})
	h := remote.ServeHTTP("", "")
	away := httptest.NewServer(http.RedirectHandler(h.URL+"/info/refs?service=git-upload-pack", http.StatusMovedPermanently))
	defer away.Close()
	_, err := open(t, complete(t, gitrepo.Config{URL: away.URL + "/old.git", Username: "u", Password: "p"})).List(t.Context())
	wantError(t, err, release.ErrUnavailable, "redirects to "+h.URL, "configure that address")

	front := http.NewServeMux()
	front.HandleFunc("/old.git/", func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, strings.Replace(req.URL.String(), "old.git", "remote.git", 1), http.StatusMovedPermanently)
	})
	front.Handle("/remote.git/", h)
	same := httptest.NewServer(front)
	defer same.Close()
	r := open(t, complete(t, gitrepo.Config{URL: same.URL + "/old.git"}))
	if err := r.Fetch(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	wantReachable(t, r, tip, true)
}

func TestOpenRefusesBadConfigurations(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ok := gitrepo.Config{Name: "infra", URL: "https://u:hunter2@example.org/x.git", Branch: "main", CacheDir: filepath.Join(t.TempDir(), "c")}
	for _, tt := range []struct {
		name string
		edit func(*gitrepo.Config)
		says string
	}{
		{"scheme", func(c *gitrepo.Config) { c.URL = "gopher://u:hunter2@h/x" }, `scheme "gopher" is not supported`},
		{"ext transport", func(c *gitrepo.Config) { c.URL = "ext::sh -c true" }, "needs a key file"},
		{"no url", func(c *gitrepo.Config) { c.URL = "" }, "no url"},
		{"unparsable", func(c *gitrepo.Config) { c.URL = "https://u:hunter2@h/%zz" }, "cannot be parsed"},
		{"no host", func(c *gitrepo.Config) { c.URL = "https:///x" }, "names no host"},
		{"no path", func(c *gitrepo.Config) { c.URL = "https://u:hunter2@h" }, "no repository path"},
		{"ssh password", func(c *gitrepo.Config) { c.URL = "ssh://u:hunter2@h/x" }, "holds a password"},
		{"ssh without key", func(c *gitrepo.Config) { c.URL = "git@example.org:x.git" }, "needs a key file"},
		{"file host", func(c *gitrepo.Config) { c.URL = "file://other/x" }, "names a host"},
		{"no branch", func(c *gitrepo.Config) { c.Branch = "" }, "no branch"},
		{"branch with newline", func(c *gitrepo.Config) { c.Branch = "main\nwant" }, "no valid branch"},
		{"full branch", func(c *gitrepo.Config) { c.Branch = "refs/heads/main" }, "without refs/heads/"},
		{"ca file", func(c *gitrepo.Config) { c.CAFile = "/nowhere" }, "CA file"},
		{"foreign cache", func(c *gitrepo.Config) { c.CacheDir = full }, "no waymark cache"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := ok
			tt.edit(&cfg)
			_, err := gitrepo.Open(cfg)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("error %v, want %q", err, tt.says)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows the password: %v", err)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(full, "precious")); err != nil {
		t.Error("the foreign folder was touched")
	}
}
