package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/server"
	"github.com/waymark-cd/waymark/store"
)

// worst is all that has ever deceived a reader or a browser, and a word without a
// place to break.
func worst(n int) string {
	return fmt.Sprintf(`<img src=x onerror=alert(%d)><script>alert(%d)</script>"'><svg/onload=alert(%d)></td></table>`, n, n, n) +
		"\x1b]0;owned\x07\x1b[2J\x1b[31mred\u009b31m\u202egnol\u2066\u200f\rover\x00\xff\xfe" + strings.Repeat("W", 300)
}

// hostileRun is on record with the worst wherever the outside has a say.
func hostileRun(w *cliWorld) (id string) {
	w.t.Helper()
	id = w.add("dev_us-east-1/research@1.0", release.Running)
	n, err := release.ParseTarget("dev_us-east-1/research")
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = w.store.Update(w.t.Context(), 1, store.Update{Entry: audit.Entry{Action: "run.failed", Target: n.String(), Actor: worst(1), Reason: worst(2)},
		Change: func(r *store.Record) error {
			r.State, r.Reason, r.FinishedAt = release.Failed, worst(3), time.Now()
			r.SetStage(release.Stage{Name: release.StageScan, State: release.StageFailed, Summary: worst(4)})
			return nil
		},
		Plan: &release.PlanSummary{Changes: release.Changes{Add: 1, Change: 1}, Resources: []release.ResourceChange{
			{Address: "terraform_data.a" + worst(5), Type: "terraform_data", Action: "update", Reason: worst(6), Attributes: []release.AttributeChange{
				{Path: "tags[" + worst(7) + "]", Before: worst(8), After: worst(9)}}},
			{Address: `module.x["` + worst(10) + `"].terraform_data.b`, Action: worst(11)[:40]}},
			Outputs: []release.OutputChange{{Name: worst(12), Action: "create", After: worst(13)}}},
		Findings: []release.Finding{
			{Source: "sarif" + worst(14), Rule: worst(15), Severity: release.SeverityError, File: "javascript:alert(16)//" + worst(16), Line: 1,
				Message: worst(17), Resource: worst(18), Link: "javascript:alert(19)"},
			{Source: "junit", Rule: "data:text/html,<script>alert(20)</script>", Severity: release.SeverityWarning, File: "../../" + worst(20),
				Message: worst(21), Suppressed: worst(22), Link: "data:text/html,<script>alert(23)</script>"}}})
	if err != nil {
		w.t.Fatal(err)
	}
	_, _, err = w.store.Admit(w.t.Context(), store.Admission{Release: release.Release{Repository: "infra", Tag: "dev_us-east-1/" + worst(24),
		ObjectID: strings.Repeat("b", 40), Commit: strings.Repeat("d", 40), Tagger: worst(25), Message: worst(26), Decision: release.Refused, Reason: worst(27)}})
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

func newHostileWorld(t *testing.T) *cliWorld {
	return newCLIWorld(t, func(c *server.Config) {
		c.Logs = func(_ context.Context, _ int64, _ release.LogRange, each func(release.LogLine) error) (release.Run, error) {
			for n := range int64(3) {
				if err := each(release.LogLine{N: n + 1, At: time.Now(), Stage: release.StageScan, Text: worst(int(30 + n))}); err != nil {
					return release.Run{}, err
				}
			}
			return release.Run{State: release.Failed, Reason: worst(33)}, nil
		}
		c.Changes = func(context.Context, string, string, string, int) ([]server.Commit, bool, error) {
			return []server.Commit{{ID: strings.Repeat("e", 40), Author: worst(34), Subject: worst(35)}}, false, nil
		}
		c.Source = func(_, _, file string, _ int) string { return "javascript:alert(36)//" + file }
		c.Repositories = []string{"infra"}
		c.Public = func(string) bool { return true }
	})
}

// TestTheWorstTextIsShownAndNotRun, on every page, wide and narrow: no script, no
// dialog, no element and no link of a stranger, and nothing leaves the layout.
func TestTheWorstTextIsShownAndNotRun(t *testing.T) {
	chromium(t)
	w := newHostileWorld(t)
	id := hostileRun(w)
	second := w.add("dev_us-east-1/research@1.1", release.Succeeded)
	b := newBrowser(t, w.url)
	for _, l := range []look{looks()[0], looks()[3]} {
		b.show(l)
		for _, path := range []string{"/", "/runs/" + id, "/runs/" + second, "/targets/dev/us-east-1/research", "/releases", "/inventory", "/audit",
			"/public/runs/" + id, "/releases?text=%3Cscript%3Ealert(40)%3C/script%3E"} {
			b.open(path)
			b.await("the page", `document.readyState === "complete"`)
			if strings.HasPrefix(path, "/runs/"+id) {
				b.reads("alert(3)", "alert(17)", "alert(30)")
			}
			wrong := mustEval[string](b, `(() => {
				const found = document.querySelectorAll("main script, main img, main iframe, main svg[onload], [onerror], [onload], [onclick]")
				const links = [...document.body.querySelectorAll("[href], [src], [action], [formaction]")].filter(e =>
					["href", "src", "action", "formaction"].some(a => /^\s*(javascript|data|vbscript):/i.test(e.getAttribute(a) || "")))
				const wide = document.documentElement.scrollWidth - innerWidth
				return [found.length && found.length + " elements of a stranger: " + found[0].outerHTML.slice(0, 200),
					links.length && "a link to " + links[0].outerHTML.slice(0, 200),
					wide > 0 && wide + " pixels too wide: " + [...document.querySelectorAll("main *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1 &&
						![...(function*() { for (let p = e.parentElement; p; p = p.parentElement) yield p })()].some(p => getComputedStyle(p).overflowX !== "visible")).slice(0, 3).map(e => e.outerHTML.slice(0, 150)).join(" | ")].filter(Boolean).join("; ")
			})()`)
			if wrong != "" {
				t.Errorf("%s, %s: %s", path, l.name, wrong)
			}
			if text := b.text(); strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && r != '\t' && unsafeRune(r) }) {
				t.Errorf("%s shows a control as it is: %q", path, text)
			}
			b.wantQuiet()
		}
	}
}

// TestTheWorstTextReachesNoTerminal: run fails where a command prints what a
// terminal acts on.
func TestTheWorstTextReachesNoTerminal(t *testing.T) {
	w := newHostileWorld(t)
	id := hostileRun(w)
	for _, line := range []string{"status", "status dev_us-east-1/research", "runs list", "runs show " + id, "runs logs " + id, "runs logs -f " + id, "runs wait " + id,
		"audit list", "audit export", "instances", "status -o json", "runs list -o json", "runs show -o json " + id} {
		stdout, stderr, _ := w.run(strings.Fields(line)...)
		if len(stdout) == 0 {
			t.Errorf("waymark %s prints nothing: %s", line, stderr)
		}
	}
}
