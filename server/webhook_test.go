package server_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/server"
)

const (
	hookSecret = "s3cret"
	signingKey = "0123456789abcdef01234567"
	pushBody   = `{"ref":"refs/tags/dev_us-east-1/research/1.0","created":true}`
)

func hexMAC(secret, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil))
}

// standard signs as GitLab does with a signing token.
func standard(key, id string, at time.Time, body string) []string {
	mac := hmac.New(sha256.New, []byte(key))
	stamp := strconv.FormatInt(at.Unix(), 10)
	fmt.Fprintf(mac, "%s.%s.%s", id, stamp, body)
	return []string{"webhook-id", id, "webhook-timestamp", stamp, "webhook-signature", "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))}
}

// newHookWorld is a server whose repository "infra" has a secret as most forges
// take it, and "signed" has GitLab's signing token.
func newHookWorld(t *testing.T) *world {
	return newWorld(t, func(c *server.Config) {
		c.WebhookSecrets = map[string]string{"infra": hookSecret, "empty": "",
			"signed": "whsec_" + base64.StdEncoding.EncodeToString([]byte(signingKey))}
	})
}

func (w *world) hook(repository, body string, header ...string) (status int, outcome string) {
	w.t.Helper()
	resp, answer := w.do("POST", "/webhooks/"+repository, body, header...)
	var a api.WebhookAnswer
	if err := json.Unmarshal([]byte(answer), &a); err != nil {
		w.t.Fatalf("%d %q: %v", resp.StatusCode, answer, err)
	}
	return resp.StatusCode, a.Outcome
}

// metric reads one sample of /metrics; 0 where it is not there.
func (w *world) metric(sample string) string {
	w.t.Helper()
	_, body := w.do("GET", "/metrics", "")
	for line := range strings.SplitSeq(body, "\n") {
		if value, ok := strings.CutPrefix(line, sample+" "); ok {
			return value
		}
	}
	return "0"
}

func TestWebhooksOfEveryForge(t *testing.T) {
	type headers func(sum, id string) []string
	github := func(event string) headers {
		return func(sum, id string) []string {
			return []string{"X-GitHub-Event", event, "X-GitHub-Delivery", id, "X-Hub-Signature", "sha1=0000000000000000000000000000000000000000", "X-Hub-Signature-256", "sha256=" + sum}
		}
	}
	gitlab := func(event string) headers {
		return func(_, id string) []string {
			return []string{"X-Gitlab-Event", event, "X-Gitlab-Event-UUID", id, "X-Gitlab-Token", hookSecret}
		}
	}
	gitea := func(event string) headers { // as it sends them, GitHub's names beside its own
		return func(sum, id string) []string {
			return []string{"X-Gitea-Event", event, "X-Gitea-Delivery", id, "X-Gitea-Signature", sum, "X-Gogs-Event", event,
				"X-GitHub-Event", event, "X-GitHub-Delivery", id, "X-Hub-Signature", "sha1=00", "X-Hub-Signature-256", "sha256=" + sum}
		}
	}
	forgejo := func(event string) headers {
		return func(sum, id string) []string {
			return append(gitea(event)(sum, id), "X-Forgejo-Event", event, "X-Forgejo-Delivery", id, "X-Forgejo-Signature", sum)
		}
	}
	bitbucket := func(event string) headers {
		return func(sum, id string) []string {
			return []string{"X-Event-Key", event, "X-Request-UUID", id, "X-Hub-Signature", "sha256=" + sum}
		}
	}
	w := newHookWorld(t)
	counts := map[string]int{}
	for i, c := range []struct {
		forge, outcome string
		headers        headers
	}{
		{"github", "taken", github("push")}, {"github", "taken", github("create")}, {"github", "ping", github("ping")}, {"github", "ignored", github("issues")},
		{"gitlab", "taken", gitlab("Push Hook")}, {"gitlab", "taken", gitlab("Tag Push Hook")}, {"gitlab", "ignored", gitlab("Merge Request Hook")},
		{"gitea", "taken", gitea("push")}, {"gitea", "ignored", gitea("pull_request")},
		{"gitea", "taken", func(sum, _ string) []string { return []string{"X-Gitea-Event", "push", "X-Gitea-Signature", sum} }}, // before it sent GitHub's
		{"forgejo", "taken", forgejo("create")}, {"forgejo", "ignored", forgejo("release")},
		{"bitbucket", "taken", bitbucket("repo:push")}, {"bitbucket", "taken", bitbucket("repo:refs_changed")},
		{"bitbucket", "ping", bitbucket("diagnostics:ping")}, {"bitbucket", "ignored", bitbucket("pullrequest:created")},
		{"other", "taken", func(sum, _ string) []string { return []string{"X-Hub-Signature-256", "sha256=" + sum} }},
	} {
		body := pushBody + strings.Repeat(" ", i) // none is a replay of another
		header := c.headers(hexMAC(hookSecret, body), strconv.Itoa(i))
		want, hints := 202, len(w.hints)
		switch c.outcome {
		case "ping":
			want = 200
		case "taken":
			hints++
		}
		if status, outcome := w.hook("infra", body, header...); status != want || outcome != c.outcome || len(w.hints) != hints {
			t.Errorf("%s %v: %d %s, %d hints", c.forge, header[:2], status, outcome, len(w.hints))
		}
		sample := fmt.Sprintf(`waymark_webhooks_total{forge=%q,outcome=%q,repository="infra"}`, c.forge, c.outcome)
		if counts[sample]++; w.metric(sample) != strconv.Itoa(counts[sample]) {
			t.Errorf("%s is %s, want %d", sample, w.metric(sample), counts[sample])
		}
		if status, _ := w.hook("infra", body+"x", forged(header)...); status != 401 || len(w.hints) != hints {
			t.Errorf("%s %v forged: %d", c.forge, header[:2], status)
		}
	}
}

// forged is a header whose proof is not of the body, or not the secret.
func forged(header []string) []string {
	out := append([]string{}, header...)
	for i := 0; i+1 < len(out); i += 2 {
		if out[i] == "X-Gitlab-Token" {
			out[i+1] = "s3cre7"
		}
	}
	return out
}

func TestSigningTokensOfGitLab(t *testing.T) {
	w := newHookWorld(t)
	push := func(extra ...string) []string { return append(extra, "X-Gitlab-Event", "Tag Push Hook") }
	with := func(name, value string, header []string) []string {
		out := append([]string{}, header...)
		for i := 0; i+1 < len(out); i += 2 {
			if out[i] == name {
				out[i+1] = value
			}
		}
		return out
	}
	good := standard(signingKey, "1", testNow, pushBody)
	if status, outcome := w.hook("signed", pushBody, push(good...)...); status != 202 || outcome != "taken" {
		t.Errorf("genuine: %d %s", status, outcome)
	}
	rotated := with("webhook-signature", "v1,AAAA v1a,x "+good[5], standard(signingKey, "1", testNow, pushBody))
	if status, outcome := w.hook("signed", pushBody, push(rotated...)...); status != 202 || outcome != "replayed" {
		t.Errorf("one of several signatures: %d %s", status, outcome)
	}
	// The same body is no replay under another id, which is signed: a tag that is
	// deleted and pushed again has the same body.
	if status, outcome := w.hook("signed", pushBody, push(standard(signingKey, "2", testNow, pushBody)...)...); status != 202 || outcome != "taken" {
		t.Errorf("the same body again: %d %s", status, outcome)
	}
	refusedBefore := len(w.hints)
	for what, header := range map[string][]string{
		"another id":      with("webhook-id", "3", good),
		"another time":    with("webhook-timestamp", strconv.FormatInt(testNow.Unix()+1, 10), good),
		"no time":         with("webhook-timestamp", "", good),
		"no number":       with("webhook-timestamp", "now", good),
		"six minutes ago": standard(signingKey, "4", testNow.Add(-6*time.Minute), pushBody),
		"in six minutes":  standard(signingKey, "5", testNow.Add(6*time.Minute), pushBody),
		"another key":     standard("another", "6", testNow, pushBody),
		"empty":           with("webhook-signature", "v1,", good),
		// A good token does not mend a bad signature.
		"a token too": append(with("webhook-id", "3", good), "X-Gitlab-Token", "whsec_"+base64.StdEncoding.EncodeToString([]byte(signingKey))),
	} {
		if status, _ := w.hook("signed", pushBody, push(header...)...); status != 401 {
			t.Errorf("%s: %d", what, status)
		}
	}
	if len(w.hints) != refusedBefore {
		t.Error("refused webhooks made hints")
	}
	if got := w.metric(`waymark_webhooks_refused_total{reason="stale"}`); got != "2" {
		t.Errorf("%s were stale, want 2", got)
	}
}

func TestReplaysHaveNoEffect(t *testing.T) {
	w := newHookWorld(t)
	deliver := func(body, id string) string {
		t.Helper()
		status, outcome := w.hook("infra", body, "X-GitHub-Event", "push", "X-GitHub-Delivery", id, "X-Hub-Signature-256", "sha256="+hexMAC(hookSecret, body))
		if status != 202 {
			t.Fatalf("%s: %d", id, status)
		}
		return outcome
	}
	for i, step := range []struct{ body, id, want string }{
		{"one", "1", "taken"},
		{"one", "1", "replayed"},   // delivered again
		{"one", "new", "replayed"}, // overheard: the id is not signed
		{"two", "1", "replayed"},
		{"three", "2", "taken"},
	} {
		if got := deliver(step.body, step.id); got != step.want {
			t.Errorf("step %d: %s, want %s", i, got, step.want)
		}
	}
	// Without its event's name an overheard webhook is still known by its body.
	plain := func(body string) string {
		_, outcome := w.hook("infra", body, "X-Hub-Signature-256", "sha256="+hexMAC(hookSecret, body))
		return outcome
	}
	if got := plain("one"); got != "replayed" {
		t.Errorf("overheard and stripped: %s", got)
	}
	for range 2 {
		if got := plain("{}"); got != "taken" {
			t.Errorf("a script that sends the same body each time: %s", got)
		}
	}
	w.advance(61 * time.Minute)
	if got := deliver("one", "1"); got != "taken" {
		t.Errorf("an hour later: %s", got)
	}
	if len(w.hints) != 5 {
		t.Errorf("%d hints, want 5", len(w.hints))
	}
	if got := w.metric(`waymark_webhooks_total{forge="github",outcome="replayed",repository="infra"}`); got != "3" {
		t.Errorf("%s replays were counted", got)
	}
	for i := range 5_500 { // more than are remembered, each by its id and its body
		body := strconv.Itoa(i)
		req := httptest.NewRequest("POST", "/webhooks/infra", strings.NewReader(body))
		req.Header.Set("X-GitHub-Event", "push")
		req.Header.Set("X-GitHub-Delivery", "id-"+body)
		req.Header.Set("X-Hub-Signature-256", "sha256="+hexMAC(hookSecret, body))
		w.http.Config.Handler.ServeHTTP(httptest.NewRecorder(), req)
		if i == 100 {
			if got := deliver("0", "id-0"); got != "replayed" {
				t.Errorf("after a hundred: %s", got)
			}
		}
	}
	if got := deliver("0", "id-0"); got != "taken" {
		t.Errorf("after ten thousand: %s", got)
	}
}

// countingListener counts the bytes that the service takes from its callers.
type countingListener struct {
	net.Listener
	read *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return countingConn{c, l.read}, err
}

type countingConn struct {
	net.Conn
	read *atomic.Int64
}

func (c countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read.Add(int64(n))
	return n, err
}

// TestAWebhookOfAHundredMegabytesIsNotRead sends 100 MB, announced and not: the
// answer is 413, and the service takes no more than its limit and a little.
func TestAWebhookOfAHundredMegabytesIsNotRead(t *testing.T) {
	const size = 100 << 20
	for _, announced := range []bool{true, false} {
		srv, err := server.New(newHookWorld(t).cfg)
		if err != nil {
			t.Fatal(err)
		}
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var read atomic.Int64
		web := srv.HTTPServer()
		go func() { _ = web.Serve(countingListener{inner, &read}) }()
		defer web.Close()
		conn, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		head := "POST /webhooks/infra HTTP/1.1\r\nHost: waymark\r\nX-Hub-Signature-256: sha256=00\r\n"
		if announced {
			head += "Content-Length: " + strconv.Itoa(size) + "\r\n\r\n"
		} else {
			head += "Transfer-Encoding: chunked\r\n\r\n"
		}
		sent := make(chan int, 1)
		go func() { sent <- flood(conn, head, size, !announced) }()
		answer := make([]byte, 64)
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		n, err := io.ReadAtLeast(conn, answer, len("HTTP/1.1 413"))
		if err != nil || !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 413") {
			t.Errorf("announced %v: %q, %v", announced, answer[:n], err)
		}
		conn.Close()
		wrote := <-sent
		if got := read.Load(); got > 2<<20 || wrote >= size {
			t.Errorf("announced %v: the service read %d bytes of %d sent", announced, got, wrote)
		}
		t.Logf("announced %v: 413 after %d KiB read", announced, read.Load()>>10)
	}
}

// flood writes a request until it is whole or cut off, and returns how much of
// the body went out.
func flood(conn net.Conn, head string, size int, chunked bool) (sent int) {
	if _, err := io.WriteString(conn, head); err != nil {
		return 0
	}
	block := strings.Repeat("x", 64<<10)
	line := block
	if chunked {
		line = "10000\r\n" + block + "\r\n"
	}
	for sent < size {
		if _, err := io.WriteString(conn, line); err != nil {
			return sent
		}
		sent += len(block)
	}
	return sent
}

func TestOtherMethodsOfAWebhook(t *testing.T) {
	w := newHookWorld(t)
	for _, method := range []string{http.MethodGet, http.MethodPut} {
		if resp, _ := w.do(method, "/webhooks/infra", ""); resp.StatusCode/100 != 4 {
			t.Errorf("%s: %d", method, resp.StatusCode)
		}
	}
	if resp, _ := w.do("POST", "/webhooks/empty", "", "X-Gitlab-Token", ""); resp.StatusCode != 401 {
		t.Errorf("without a secret: %d", resp.StatusCode)
	}
}
