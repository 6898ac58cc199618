package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/waymark-cd/waymark/release"
)

// walk is somebody who releases with a browser: a closed service, a person with a
// token, code whose apply goes on when it is told to.
type walk struct {
	*world
	b      *browser
	secret string
}

const walkTag = "staging_us-east-1/research/1.0"

func newWalk(t *testing.T, extra string) *walk {
	t.Helper()
	chromium(t)
	w := newWorld(t, peopleConfig+extra)
	w.remote.Commit(map[string]string{"main.tf": slowCode})
	w.serveClosed()
	w.contact()
	return &walk{world: w, b: newBrowser(t, w.server), secret: w.token("alice@example.org")}
}

// pushUnseen pushes the tag, waits until the page shows it and proves that the
// page was not loaded again meanwhile.
func (w *walk) pushUnseen() {
	w.t.Helper()
	w.b.reads("No targets yet")
	mustEval[bool](w.b, "window.same = true")
	w.push(walkTag)
	w.b.reads("research", "awaiting approval")
	w.same()
}

// same fails where the page was loaded again since pushUnseen or the last mark.
func (w *walk) same() {
	w.t.Helper()
	if !mustEval[bool](w.b, "window.same === true") {
		w.t.Errorf("%s was loaded again", w.b.where())
	}
}

// applies waits until the page shows what the apply says while it runs, without
// having been loaded again, lets it end, and waits until the page shows that.
func (w *walk) applies(id string) {
	w.t.Helper()
	w.b.await("the page after the decision", "window.same !== true && document.readyState === 'complete'")
	mustEval[bool](w.b, "window.same = true")
	w.b.reads("(local-exec): ran")
	if r, err := w.client.Run(w.t.Context(), id); err != nil || r.State != string(release.Running) {
		w.t.Errorf("the log was seen when the run was %s already: %v", r.State, err)
	}
	found, _ := filepath.Glob(filepath.Join(w.dir, "data/runs", id, "*/tree/ran"))
	if len(found) != 1 {
		w.t.Fatalf("run %s works in %v", id, found)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(found[0]), "go"), nil, 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.b.await("success", `document.querySelector("main .title").innerText.includes("succeeded")`)
	w.b.reads("Apply complete")
	w.same()
}

// approvedBy fails where somebody else than the person decided.
func (w *walk) approvedBy(id, who string) {
	w.t.Helper()
	r, err := w.client.Run(w.t.Context(), id)
	if err != nil || len(r.Approvals) != 1 || r.Approvals[0].Actor != who {
		w.t.Errorf("approvals %+v, %v", r.Approvals, err)
	}
}

// TestAPersonReleasesWithTheMouse: from the login to the verified audit log,
// under the page's own policy.
func TestAPersonReleasesWithTheMouse(t *testing.T) {
	w := newWalk(t, "")
	b := w.b
	b.open("/login")
	b.click("#token", "")
	b.press(w.secret)
	b.click("button", "Show the board")
	b.at("/")
	w.pushUnseen()
	b.click("#live a", "awaiting approval")
	b.at("/runs/1")
	b.reads("terraform_data.slow", "1 approval")
	mustEval[bool](b, "window.same = true")
	b.click("button", "Approve this plan")
	w.applies("1")
	w.approvedBy("1", "alice@example.org")
	b.click("nav a", "Inventory")
	b.at("/inventory")
	b.reads("terraform_data.slow", walkTag)
	b.click("nav a", "Audit")
	b.at("/audit")
	b.reads("run.approved", "alice@example.org")
	b.click("button", "Verify")
	b.await("verification", `[...document.querySelectorAll("[aria-live], [role=status]")].some(e => /verified/i.test(e.innerText))`)
	b.click("nav a", "Board")
	b.at("/")
	b.click("a", "1.0")
	b.at("/targets/staging/us-east-1/research")
	b.reads("1.0", "succeeded")
}

// TestAPersonReleasesWithTheKeyboard is the same with Tab, Enter and letters
// alone, and at each stop one sees where one is.
func TestAPersonReleasesWithTheKeyboard(t *testing.T) {
	w := newWalk(t, "")
	b := w.b
	b.open("/login")
	b.tabTo("#token", "")
	b.press(w.secret + kb.Enter)
	b.at("/")
	w.pushUnseen()
	b.tabTo("#live a", "awaiting approval")
	b.press(kb.Enter)
	b.at("/runs/1")
	b.reads("terraform_data.slow")
	b.tabTo("#reason", "")
	b.press("looked at it")
	b.tabTo("button", "Approve this plan")
	mustEval[bool](b, "window.same = true")
	b.press(kb.Enter)
	w.applies("1")
	w.approvedBy("1", "alice@example.org")
	b.tabTo("nav a", "Inventory")
	b.press(kb.Enter)
	b.at("/inventory")
	b.reads("terraform_data.slow")
	b.tabTo("nav a", "Audit")
	b.press(kb.Enter)
	b.at("/audit")
	b.tabTo("button", "Verify")
	b.press(kb.Enter)
	b.await("verification", `[...document.querySelectorAll("[aria-live], [role=status]")].some(e => /verified/i.test(e.innerText))`)
}

// hostileText is what a person who may push may write: markup, a colour of a
// terminal, a change of the direction of text.
const hostileText = `<img src=x onerror=alert(1)><script>alert(2)</script>"'><b onclick=alert(3)>evil` + "\x1b[31mred\x1b[0m\u202egnol"

// TestHostileTextIsShownAndNotRun: what comes from a repository is text on every
// page, whatever it looks like.
func TestHostileTextIsShownAndNotRun(t *testing.T) {
	chromium(t)
	w := newWorld(t, "")
	message := hostileText
	w.remote.Commit(map[string]string{"main.tf": worldCode + `
resource "terraform_data" "evil" {
  input = "<img src=x onerror=alert(4)>"
  provisioner "local-exec" { command = "printf '%s\\n' '<script>alert(5)</script>' '\\033[31mred' '<b>bold'" }
}
resource "terraform_data" "broken" {
  depends_on = [terraform_data.evil]
  provisioner "local-exec" { command = "echo '<svg onload=alert(6)>'; exit 3" }
}
`})
	w.serve()
	w.contact()
	const tag = "dev_us-east-1/research/1.0"
	w.remote.Tag(tag, "main", message)
	w.push("dev_us-east-1/research/<svg/onload=alert(7)>")
	r := w.until(tag, release.Failed)
	w.refused("dev_us-east-1/research/<svg/onload=alert(7)>")
	w.mustCLI("freeze", "dev_us-east-1/risk", "--until", "1h", "--reason", hostileText)

	b := newBrowser(t, w.server)
	for path, says := range map[string]string{
		"/":                                   "<svg/onload=alert(7)>",
		"/runs/" + r.ID:                       "<script>alert(5)</script>",
		"/targets/dev/us-east-1/research":     "research",
		"/releases":                           "<svg/onload=alert(7)>",
		"/inventory":                          "",
		"/audit":                              "dev_us-east-1/research",
		"/?text=<img+src=x+onerror=alert(8)>": "",
	} {
		b.open(path)
		b.reads(says)
		if n := mustEval[int](b, `document.querySelectorAll("main script, main svg[onload], main img, main [onerror], main [onclick]").length`); n > 0 {
			t.Errorf("%s holds %d elements of a stranger", path, n)
		}
		if strings.ContainsAny(b.text(), "\x1b\u202e") {
			t.Errorf("%s shows a control as it is", path)
		}
		b.wantQuiet()
	}
}
