package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/waymark-cd/waymark/release"
)

// axeFile is axe-core as scripts/axe.sh installs it.
const axeFile = "../../.tools/axe/node_modules/axe-core/axe.min.js"

// axeViolation is a rule of axe-core that a page breaks, and where.
type axeViolation struct {
	ID     string `json:"id"`
	Impact string `json:"impact"`
	Help   string `json:"help"`
	Nodes  []struct {
		HTML           string `json:"html"`
		FailureSummary string `json:"failureSummary"`
	} `json:"nodes"`
}

func (v axeViolation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s): %s", v.ID, v.Impact, v.Help)
	for i, n := range v.Nodes {
		if i == 3 {
			fmt.Fprintf(&b, "\n\tand %d more", len(v.Nodes)-i)
			break
		}
		fmt.Fprintf(&b, "\n\t%.300s\n\t%s", n.HTML, strings.ReplaceAll(n.FailureSummary, "\n", " "))
	}
	return b.String()
}

// accessible lets axe-core judge the page in every look: nothing serious, nothing
// critical, and no scrolling sideways. The debugger's protocol brings axe-core in,
// which the policy of the page does not bind, and leaves it in force.
func (b *browser) accessible(name, axe string) {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := chromedp.Evaluate[*runtime.RemoteObject](axe)(ctx, t)
		return err
	}))
	for _, l := range looks() {
		b.show(l)
		found := mustEval[[]axeViolation](b, `axe.run(document, {resultTypes: ["violations"]}).then(r => r.violations.map(
			v => ({id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.map(n => ({html: n.html, failureSummary: n.failureSummary}))})))`)
		for _, v := range found {
			if v.Impact == "serious" || v.Impact == "critical" {
				b.t.Errorf("%s, %s: %s", name, l.name, v)
			}
		}
		if wide := mustEval[int64](b, "document.documentElement.scrollWidth"); wide > l.width {
			b.t.Errorf("%s, %s: %d pixels wide, so that one has to scroll sideways: %s", name, l.name, wide, mustEval[string](b, tooWide(l.width)))
		}
	}
}

// tooWide names what sticks out at the right.
func tooWide(width int64) string {
	return fmt.Sprintf(`[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > %d + 1).slice(0, 3).map(e => e.outerHTML.slice(0, 120)).join("\n\t")`, width)
}

// axeSource reads axe-core, and fails where it is missing.
func axeSource(t *testing.T) string {
	t.Helper()
	chromium(t) // skips, where it should
	text, err := os.ReadFile(axeFile)
	if err != nil {
		t.Fatalf("axe-core is missing: run scripts/axe.sh, which needs the package npm, or leave these tests out with `make test-short`: %v", err)
	}
	return string(text)
}

// TestEveryPageIsAccessible: wide and on a phone, in light and in dark.
func TestEveryPageIsAccessible(t *testing.T) {
	axe := axeSource(t)
	w := newWorld(t, peopleConfig+`
environment "open" {
  regions = ["us-east-1"]
  public  = true
}`)
	w.serveClosed()
	w.contact()
	w.push("open_us-east-1/research/1.0")
	public := w.until("open_us-east-1/research/1.0", release.Succeeded)
	w.push("staging_us-east-1/research/1.0")
	waits := w.until("staging_us-east-1/research/1.0", release.AwaitingApproval)
	w.remote.Commit(map[string]string{"more.tf": "resource \"terraform_data\" \"broken\" {\n  provisioner \"local-exec\" { command = \"printf '\\\\033[31mno room\\\\033[0m\\\\n'; exit 3\" }\n}\n"})
	w.push("open_us-east-1/research/1.1")
	failed := w.until("open_us-east-1/research/1.1", release.Failed)
	w.push("opne_us-east-1/research/1.1")
	w.refused("opne_us-east-1/research/1.1")

	b := newBrowser(t, w.server)
	b.open("/login")
	b.accessible("login", axe)
	b.click("#token", "")
	b.press("wm_nonsense")
	b.click("button", "Show the board")
	b.reads("mistyped")
	b.accessible("login with an error", axe)
	b.forgive("401")
	b.open("/public/runs/" + public.ID)
	b.reads("open_us-east-1/research")
	b.accessible("public run", axe)
	b.open("/login")
	b.click("#token", "")
	b.press(w.token("alice@example.org"))
	b.click("button", "Show the board")
	b.at("/")
	for _, p := range []struct{ name, path, says string }{
		{"board", "/", "research"},
		{"target", "/targets/open/us-east-1/research", "1.0"},
		{"run that succeeded", "/runs/" + public.ID, "Apply complete"},
		{"run that waits", "/runs/" + waits.ID, "Approve this plan"},
		{"run that failed", "/runs/" + failed.ID, "no room"},
		{"releases", "/releases", "opne_us-east-1"},
		{"audit", "/audit", "run.succeeded"},
		{"inventory", "/inventory", "terraform_data.it"},
		{"API", "/docs", "/api/v1"},
		{"lock", "/targets/open/us-east-1/research/lock", "Lock of"},
		{"empty list", "/inventory?text=nothing", "No resource is like that"},
		{"entry of the audit log", "/audit?entry=1", "Leaf"},
	} {
		b.show(looks()[0])
		b.open(p.path)
		b.reads(p.says)
		b.accessible(p.name, axe)
		b.wantQuiet()
	}
	for path, says := range map[string]string{"/runs/4711": "4711", "/targets/open/us-east-1/nobody": "", "/nothing/here": "", "/releases?target=x": ""} {
		b.show(looks()[0])
		b.open(path)
		b.reads("Back to the board", says)
		b.accessible(path, axe)
		b.forgive("404", "422")
	}
	b.show(looks()[0])
	b.open("/targets/open/us-east-1/research")
	for _, form := range []string{"Plan a tag", "Look for drift"} {
		b.click("summary", form)
	}
	b.accessible("target with open forms", axe)
	b.open("/audit")
	for _, part := range []string{"Checkpoint of", "Hold it against"} {
		b.click("summary", part)
	}
	b.accessible("audit with open parts", axe)
}
