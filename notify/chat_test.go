package notify_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/notify"
	"github.com/waymark-cd/waymark/release"
)

var chatNow = time.Unix(1_800_000_000, 0)

func chat(t *testing.T, kind, url string, change ...func(*notify.ChatConfig)) *notify.Chat {
	t.Helper()
	cfg := notify.ChatConfig{Name: "ops", Kind: kind, URL: url, Now: func() time.Time { return chatNow }}
	for _, c := range change {
		c(&cfg)
	}
	c, err := notify.NewChat(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// texts collects every value of a member from a body, in order.
func texts(t *testing.T, body []byte, member string) []string {
	t.Helper()
	var out []string
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if s, ok := v[member].(string); ok {
				out = append(out, s)
			}
			for _, key := range []string{"attachments", "content", "blocks", "body", "inlines", "elements", "runs", "selectAction"} {
				walk(v[key])
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		}
	}
	var doc any
	if err := json.Unmarshal(body, &doc); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	walk(doc)
	return out
}

const plainEvil = "<script>alert(1)</script> *bold* `code` @channel <!channel> <@U1> [x](javascript:1) [31mdrow end"

// TestHostileTextIsPlainInEveryChat: what a tool writes into a reason is text in
// a place where the medium reads no markup, and addresses nobody.
func TestHostileTextIsPlainInEveryChat(t *testing.T) {
	n := notice(42, release.Failed, func(r *release.Run) { r.Reason = evil; r.Changes = release.Changes{} })
	want := "dev_us-east-1/research 1.0 failed: " + plainEvil
	for _, kind := range []string{notify.Slack, notify.Teams, notify.Webhook} {
		r := testkit.NewInbox(t)
		if err := chat(t, kind, r.URL).Send(t.Context(), []notify.Notice{n}); err != nil {
			t.Fatal(err)
		}
		body := r.Received()[0].Body
		all := texts(t, body, "text")
		found := false
		for _, text := range all {
			found = found || text == want
		}
		if !found {
			t.Errorf("%s: no text is %q: %q", kind, want, all)
		}
		for _, bad := range []string{"\x1b", "\u202e", "\x00"} {
			if strings.Contains(strings.Join(all, ""), bad) {
				t.Errorf("%s: %q in %q", kind, bad, all)
			}
		}
		switch kind {
		case notify.Slack:
			// The fallback is the one text that is read as markup.
			if fallback := all[0]; strings.ContainsAny(fallback, "<>") || strings.Contains(fallback, "@c") || strings.Contains(fallback, "@U") {
				t.Errorf("the fallback is %q", fallback)
			}
			for _, kind := range texts(t, body, "type") {
				if !strings.HasPrefix(kind, "rich_text") && kind != "text" && kind != "link" {
					t.Errorf("an element of type %s reads markup", kind)
				}
			}
			wantJSON(t, body, map[string]any{"parse": "none", "link_names": false, "unfurl_links": false, "unfurl_media": false})
		case notify.Teams:
			for _, kind := range texts(t, body, "type") {
				if kind == "TextBlock" {
					t.Error("a TextBlock reads Markdown")
				}
			}
			if strings.Contains(string(body), "entities") {
				t.Error("somebody may be called")
			}
		}
		if urls := texts(t, body, "url"); len(urls) != 1 || urls[0] != n.URL {
			t.Errorf("%s links to %v", kind, urls)
		}
	}
}

func wantJSON(t *testing.T, body []byte, want map[string]any) {
	t.Helper()
	var got map[string]any
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	for k, v := range want {
		if fmt.Sprint(got[k]) != fmt.Sprint(v) {
			t.Errorf("%s is %v, want %v", k, got[k], v)
		}
	}
}

func TestOneMessageForAFleet(t *testing.T) {
	var notices []notify.Notice
	for i := range 1000 {
		state := release.Succeeded
		if i%4 == 0 {
			state = release.Failed
		}
		notices = append(notices, notice(int64(i+1), state))
	}
	for kind, most := range map[string]int{notify.Slack: 40 << 10, notify.Teams: 28 << 10, notify.Webhook: 2 << 20} {
		r := testkit.NewInbox(t)
		if err := chat(t, kind, r.URL, func(c *notify.ChatConfig) { c.Secret = "s3cret" }).Send(t.Context(), notices); err != nil {
			t.Fatal(err)
		}
		got := r.Received()
		if len(got) != 1 || len(got[0].Body) > most {
			t.Errorf("%s: %d messages, the first of %d bytes", kind, len(got), len(got[0].Body))
		}
		text := strings.Join(texts(t, got[0].Body, "text"), "\n")
		if !strings.Contains(text, "1000 runs: 250 failed, 750 succeeded") {
			t.Errorf("%s does not count: %.300s", kind, text)
		}
		if want := notify.Sign("s3cret", chatNow, got[0].Body); got[0].Header.Get("X-Waymark-Signature") != want {
			t.Errorf("%s: signature %q, want %q", kind, got[0].Header.Get("X-Waymark-Signature"), want)
		}
		if kind == notify.Webhook {
			if ids := texts(t, got[0].Body, "id"); len(ids) != 1001 || ids[0] != "ops-1-1000" {
				t.Errorf("the webhook lists %d ids, the first %s", len(ids), ids[0])
			}
			continue
		}
		listed := strings.Count(text, "run ")
		if want := fmt.Sprintf("and %d more", 1000-listed); listed < 15 || listed > 20 || !strings.Contains(text, want) {
			t.Errorf("%s lists %d runs, and does not say %q", kind, listed, want)
		}
	}
}

// TestSignKnown holds the signature against one made by openssl.
func TestSignKnown(t *testing.T) {
	// printf '1800000000.{}' | openssl dgst -sha256 -hmac s3cret
	const want = "t=1800000000,v1=1cd77f07c7f231a8a17cd9bc413e578ccb209c24eb17a0577ce1eb9218a4f3ed"
	if got := notify.Sign("s3cret", chatNow, []byte("{}")); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestTemplates(t *testing.T) {
	r := testkit.NewInbox(t)
	c := chat(t, notify.Slack, r.URL, func(c *notify.ChatConfig) {
		c.Template = `{{.Env}}|{{.Scope}}|{{.Team}}|{{.Kind}}|{{.ID}}|{{.CommitShort}}|{{.By}}|{{.Add}}{{if eq .State "awaiting approval"}}|approve {{.URL}}{{end}}`
	})
	n := notice(5, release.AwaitingApproval, func(r *release.Run) { r.CreatedBy = "Ada\n<ada@example.org>" })
	if err := c.Send(t.Context(), []notify.Notice{n}); err != nil {
		t.Fatal(err)
	}
	want := "dev|us-east-1|research|deploy|5|0123456789|Ada <ada@example.org>|2|approve https://waymark.example.org/runs/5"
	if got := texts(t, r.Received()[0].Body, "text"); got[1] != want {
		t.Errorf("%q, want %q", got, want)
	}
	for _, bad := range []string{"{{.Nothing}}", "{{", "{{template \"x\"}}", "{{call .ID}}", "{{index .Tag 5}}",
		`{{define "a"}}{{template "a"}}{{end}}{{template "a"}}`, strings.Repeat(`{{printf "%09000d" 1}}`, 9)} {
		if _, err := notify.ParseTemplate(bad); !errors.Is(err, release.ErrInvalid) {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
	if _, err := notify.ParseTemplate(""); err != nil {
		t.Error(err)
	}
}

// TestAChatsAddressIsToldNowhere: it is a secret.
func TestAChatsAddressIsToldNowhere(t *testing.T) {
	r := testkit.NewInbox(t)
	for _, c := range []struct {
		url     string
		status  int
		refusal bool
		later   bool
	}{
		{r.URL + "/services/T0/B0/sEcReT", 404, false, false}, {r.URL + "/sEcReT", 410, false, false}, {r.URL + "/sEcReT", 400, true, false},
		{r.URL + "/sEcReT", 500, false, false}, {r.URL + "/sEcReT", 429, false, true}, {"http://127.0.0.1:1/sEcReT", 0, false, false},
	} {
		r.Break(c.status, "invalid_token")
		err := chat(t, notify.Slack, c.url).Send(t.Context(), []notify.Notice{notice(1, release.Failed)})
		var refusal *notify.Refusal
		var later *notify.Later
		if err == nil || strings.Contains(err.Error(), "sEcReT") || errors.As(err, &refusal) != c.refusal || errors.As(err, &later) != c.later {
			t.Errorf("%d: %v", c.status, err)
		}
	}
	for _, url := range []string{"", "ftp://example.org/sEcReT", "://sEcReT", "https:///sEcReT"} {
		if _, err := notify.NewChat(notify.ChatConfig{Name: "ops", Kind: notify.Slack, URL: url}); !errors.Is(err, release.ErrInvalid) || strings.Contains(err.Error(), "sEcReT") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"a\tb\r\n c ": "a b c", "\x1b[31mred": "[31mred", "a\u202eb\u2066c\u200bd\ufeff": "abcd", "\xff\xfe": "??", "": "",
		"日本語": "日本語", strings.Repeat("é", 30): strings.Repeat("é", 19) + "…", strings.Repeat("x", 1<<20): strings.Repeat("x", 19) + "…",
	} {
		if got := notify.Plain(in, 20); got != want {
			t.Errorf("Plain(%.20q) is %q, want %q", in, got, want)
		}
	}
}
