package server_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/release"
)

func TestBoardPage(t *testing.T) {
	w := newWorld(t, nil)
	_, body := w.do("GET", "/", "")
	if !strings.Contains(body, "git push origin dev_us-east-1/research/1.0") {
		t.Error("an empty board does not say what to do")
	}
	id := w.admit("dev_us-east-1/research/1.0")
	w.refuse("dev_us-east-1/resaerch/1.0", evil)
	_, body = w.do("GET", "/", "")
	if !strings.Contains(body, `sse-connect="/live?after=`) || !strings.Contains(body, "queued") {
		t.Error("the board does not live")
	}
	w.drive(id, release.Succeeded)
	resp, body := w.do("GET", "/", "")
	for _, want := range []string{"dev_us-east-1/research", "1.0", "cccccccccc", "succeeded", "just now", `href="/runs/1"`, "resaerch"} {
		if !strings.Contains(body, want) {
			t.Errorf("the board lacks %q", want)
		}
	}
	harmless(t, body)
	if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("policy %q", csp)
	}
}

// ownScript is how a page asks for a script of the service.
var ownScript = regexp.MustCompile(`<script src="/assets/[0-9a-f]{12}/[a-z-]+(?:\.min)?\.js" defer></script>`)

// harmless checks that nothing of evil got through as it was.
func harmless(t *testing.T, page string) {
	t.Helper()
	page = ownScript.ReplaceAllString(page, "")
	for _, bad := range []string{"<script", "\x1b", "\u202e", "javascript:", "ZgotmplZ"} {
		if strings.Contains(page, bad) {
			i := strings.Index(page, bad)
			t.Errorf("the page holds %q: …%q", bad, page[max(0, i-40):min(len(page), i+40)])
		}
	}
}
