package main

import (
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/release"
)

// typesOn checks that what somebody has typed into the field that has the focus is
// there after the page has changed, and that typing goes on where it was.
func (w *walk) typesOn(field, half, rest string, change func()) {
	w.t.Helper()
	b := w.b
	b.press(half)
	mustEval[bool](b, `(document.querySelector("#live").old = true)`)
	change()
	b.await("another content of the page", `document.querySelector("#live").old !== true && document.readyState === "complete"`)
	if got := mustEval[string](b, "document.querySelector("+quote(field)+").value"); got != half {
		w.t.Errorf("after a change %s holds %q, not %q", field, got, half)
	}
	if !mustEval[bool](b, "document.activeElement === document.querySelector("+quote(field)+")") {
		w.t.Errorf("after a change %s has lost the focus to %s", field, mustEval[string](b, "document.activeElement.outerHTML.slice(0, 100)"))
	}
	b.press(rest)
	if got := mustEval[string](b, "document.querySelector("+quote(field)+").value"); got != half+rest {
		w.t.Errorf("typed on, %s holds %q, not %q", field, got, half+rest)
	}
}

// TestWhatIsTypedStaysWhileThePageChanges: the page changes when others act, and
// takes nothing out of the hands of whoever writes a reason.
func TestWhatIsTypedStaysWhileThePageChanges(t *testing.T) {
	w := newWalk(t, `
environment "live" {
  regions   = ["us-east-1"]
  approvals = 2
}
environment "scrap" {
  regions = ["us-east-1"]
  destroy = "allow"
}`)
	w.remote.Commit(map[string]string{"main.tf": worldCode})
	bob := w.token("bob@example.org")
	made, err := w.client.CreateToken(t.Context(), api.NewToken{Name: "carol", User: "carol@example.org", Role: "admin", ExpiresIn: 3600})
	if err != nil {
		t.Fatal(err)
	}
	const scrap = "scrap_us-east-1/research"
	w.push(scrap + "/1.0")
	w.until(scrap+"/1.0", release.Succeeded)
	w.push("live_us-east-1/research/1.0")
	r := w.until("live_us-east-1/research/1.0", release.AwaitingApproval)

	b := w.b
	b.open("/login")
	b.click("#token", "")
	b.press(made.Secret + kb.Enter)
	b.at("/")
	b.open("/runs/" + r.ID)
	b.reads("2 of 2 missing")
	b.click("#reason", "")
	w.typesOn("#reason", "not on a Fri", "day", func() {
		if code, _, errs := w.as(bob, "runs", "approve", r.ID); code != 0 {
			t.Fatalf("exit %d %s", code, errs)
		}
		b.reads("1 of 2 missing")
	})
	b.click("button", "Reject it")
	b.reads("rejected by carol@example.org: not on a Friday")

	b.open("/targets/scrap/us-east-1/research")
	b.click("summary", "Destroy")
	b.click("#destroy-why", "")
	b.press("the project is over")
	b.click("#destroy-confirm", "")
	w.typesOn("#destroy-confirm", "scrap_us-", "east-1/research", func() {
		w.push(scrap + "/1.1")
		w.until(scrap+"/1.1", release.Succeeded)
		b.reads(scrap + "/1.1")
	})
	if got := mustEval[string](b, `document.querySelector("#destroy-why").value`); got != "the project is over" {
		t.Errorf("the reason is %q", got)
	}
	b.click("button", "Destroy")
	b.reads("awaiting approval", "destroy")
}
