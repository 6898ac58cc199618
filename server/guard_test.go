package server_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/server"
)

func withToken(c *server.Config) { c.Token = "tok" }

func TestTokenClosesEverythingThatTells(t *testing.T) {
	w := newWorld(t, withToken)
	w.admit("dev_us-east-1/research/1.0")
	for _, c := range []struct {
		path   string
		closed bool
	}{
		{"/", true}, {"/runs/1", true}, {"/metrics", true}, {"/api/v1/targets", true}, {"/api/v1/runs/1/logs", true},
		{"/api/v1/none", true}, {"/none", true}, {"/healthz/", true}, {"//healthz", true}, {"/docs/../metrics", true},
		{"/healthz", false}, {"/readyz", false}, {"/openapi.json", false}, {"/docs", false}, {"/login", false},
	} {
		for _, header := range [][]string{nil, {"Authorization", "Bearer wrong"}, {"Authorization", "Bearer "},
			{"Authorization", "Basic tok"}, {"Cookie", "waymark_session=."}} {
			resp, body := w.do("GET", c.path, "", header...)
			if closed := resp.StatusCode == 401; closed != c.closed {
				t.Errorf("GET %s with %q: %d", c.path, header, resp.StatusCode)
			}
			if c.closed && strings.Contains(body, "research") {
				t.Errorf("GET %s with %q tells a target", c.path, header)
			}
		}
		if c.closed {
			if resp, _ := w.do("GET", c.path, "", "Authorization", "bearer tok"); resp.StatusCode == 401 {
				t.Errorf("GET %s with the token: %d", c.path, resp.StatusCode)
			}
		}
	}
}

func TestLoginBeginsASessionThatOnlyReads(t *testing.T) {
	w := newWorld(t, withToken)
	w.drive(w.admit("dev_us-east-1/research/1.0"), release.AwaitingApproval)
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	resp, body := w.do("POST", "/login", "token=wrong", form...)
	if resp.StatusCode != 401 || len(resp.Cookies()) != 0 || !strings.Contains(body, "no token of this service") {
		t.Errorf("a wrong token: %d %v", resp.StatusCode, resp.Cookies())
	}
	resp, _ = w.do("POST", "/login", url.Values{"token": {"tok"}}.Encode(), form...)
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/" || len(resp.Cookies()) != 1 {
		t.Fatalf("the right token: %d %v", resp.StatusCode, resp.Header)
	}
	c := resp.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || strings.Contains(c.Value, "tok") {
		t.Errorf("cookie %v", c)
	}
	session := []string{"Cookie", c.Name + "=" + c.Value}
	if resp, body := w.do("GET", "/", "", session...); resp.StatusCode != 200 || !strings.Contains(body, "research") {
		t.Errorf("the board with a session: %d", resp.StatusCode)
	}
	for _, header := range [][]string{nil, {"Sec-Fetch-Site", "same-origin"}, {"Origin", w.http.URL}} {
		header = slices.Concat(session, header, []string{"Content-Type", "application/json"})
		if resp, _ := w.do("POST", "/api/v1/runs/1/approve", "{}", header...); resp.StatusCode != 403 || len(w.verdicts) != 0 {
			t.Errorf("a session of nobody in particular decides: %d %v", resp.StatusCode, w.verdicts)
		}
	}
	end, mac, _ := strings.Cut(c.Value, ".")
	for _, forged := range []string{"9" + end + "." + mac, end + ".", end, "." + mac, c.Value + "x"} {
		if resp, _ := w.do("GET", "/", "", "Cookie", c.Name+"="+forged); resp.StatusCode != 401 {
			t.Errorf("the forged session %q: %d", forged, resp.StatusCode)
		}
	}
	if resp, _ := w.do("POST", "/logout", "", session...); len(resp.Cookies()) != 1 || resp.Cookies()[0].MaxAge >= 0 {
		t.Errorf("logout: %v", resp.Cookies())
	}
	w.advance(13 * time.Hour)
	if resp, _ := w.do("GET", "/", "", session...); resp.StatusCode != 401 {
		t.Errorf("a session of yesterday: %d", resp.StatusCode)
	}
}

func TestOpenServiceAnswersItsOwnMachineAlone(t *testing.T) {
	w := newWorld(t, nil)
	for host, want := range map[string]int{
		"localhost": 200, "localhost:1": 200, "127.0.0.1:99": 200, "[::1]": 200, "[::1]:80": 200,
		"evil.example": 421, "localhost.evil.example": 421, "127.0.0.1.nip.io:80": 421, "10.0.0.1": 421, "127.0.0.2": 421,
	} {
		if resp, _ := w.do("GET", "/api/v1/targets", "", "Host", host); resp.StatusCode != want {
			t.Errorf("Host %s: got %d, want %d", host, resp.StatusCode, want)
		}
	}
}

func TestAnotherSiteCannotDecide(t *testing.T) {
	w := newWorld(t, nil)
	id := w.admit("dev_us-east-1/research/1.0")
	w.drive(id, release.AwaitingApproval)
	path := "/api/v1/runs/" + release.FormatID(id) + "/approve"
	for _, c := range []struct {
		header []string
		want   int
	}{
		{nil, 415},
		{[]string{"Content-Type", "application/x-www-form-urlencoded"}, 415},
		{[]string{"Content-Type", "text/plain"}, 415},
		{[]string{"Content-Type", "multipart/form-data; boundary=application/json"}, 415},
		{[]string{"Content-Type", "application/json", "Origin", "https://evil.example"}, 403},
		{[]string{"Content-Type", "application/json", "Sec-Fetch-Site", "cross-site"}, 403},
		{[]string{"X-Waymark-Request", "1", "Origin", "null"}, 403},
	} {
		if resp, _ := w.do("POST", path, "", c.header...); resp.StatusCode != c.want || len(w.verdicts) != 0 {
			t.Errorf("%q: got %d, want %d; verdicts %v", c.header, resp.StatusCode, c.want, w.verdicts)
		}
	}
	if resp, body := w.do("POST", path, "", "X-Waymark-Request", "1"); resp.StatusCode != 200 {
		t.Errorf("a deliberate request: %d %s", resp.StatusCode, body)
	}
}

func TestWebhookIsAHintAndNothingMore(t *testing.T) {
	w := newWorld(t, func(c *server.Config) { c.Token = "tok" })
	sign := func(secret, body string) string {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(body))
		return "sha256=" + hex.EncodeToString(mac.Sum(nil))
	}
	const body = `{"ref":"refs/tags/dev_us-east-1/research/1.0"}`
	var answers []string
	for _, c := range []struct{ repository, body, signature string }{
		{"infra", body, ""}, {"infra", body, "sha256="}, {"infra", body, "sha256=zz"},
		{"infra", body, strings.TrimPrefix(sign("s3cret", body), "sha256=")},
		{"infra", body + " ", sign("s3cret", body)}, {"infra", body, sign("other", body)},
		{"unknown", body, sign("s3cret", body)}, {"unknown", body, sign("", body)}, {"open", body, sign("", body)},
	} {
		resp, answer := w.do("POST", "/webhooks/"+c.repository, c.body, "X-Hub-Signature-256", c.signature)
		if resp.StatusCode != 401 {
			t.Errorf("%+v: %d", c, resp.StatusCode)
		}
		var p map[string]any
		if err := json.Unmarshal([]byte(answer), &p); err != nil {
			t.Fatal(err)
		}
		delete(p, "request_id")
		same, _ := json.Marshal(p)
		answers = append(answers, string(same))
	}
	for _, a := range answers {
		if a != answers[0] {
			t.Errorf("answers differ: %s, %s", a, answers[0])
		}
	}
	if resp, _ := w.do("POST", "/webhooks/infra", strings.Repeat("x", 1<<20+1), "X-Hub-Signature-256", "sha256=00"); resp.StatusCode != 413 {
		t.Errorf("too large a body: %d", resp.StatusCode)
	}
	if len(w.hints) != 0 {
		t.Fatalf("refused webhooks made hints: %v", w.hints)
	}
	large := strings.Repeat("x", 1<<20)
	if resp, answer := w.do("POST", "/webhooks/infra", large, "X-Hub-Signature-256", sign("s3cret", large)); resp.StatusCode != 202 {
		t.Errorf("a genuine webhook: %d %s", resp.StatusCode, answer)
	}
	if len(w.hints) != 1 || w.hints[0] != "infra" {
		t.Errorf("hints %v", w.hints)
	}
}
