package server

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

//go:embed page
var pageFiles embed.FS

// pages holds the parsed templates and the policy that their one style sheet
// needs. No page has a script, and none is allowed to load anything.
type pages struct {
	templates *template.Template
	style     template.CSS
	policy    string // Content-Security-Policy
}

func newPages() (*pages, error) {
	css, err := pageFiles.ReadFile("page/style.css")
	if err != nil {
		return nil, fmt.Errorf("reading the style sheet: %w", err)
	}
	t, err := template.New("").Funcs(template.FuncMap{
		"short": shortCommit, "words": words, "tone": tone, "visible": visible, "list": list, "login": loginLink,
	}).ParseFS(pageFiles, "page/*.html")
	if err != nil {
		return nil, fmt.Errorf("parsing the pages: %w", err)
	}
	hash := sha256.Sum256(css)
	return &pages{templates: t, style: template.CSS(css), //nolint:gosec // our own file
		policy: "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) +
			"'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"}, nil
}

// frame is what every page has; Body is the page's own data.
type frame struct {
	Title   string
	Style   template.CSS
	Refresh int    // seconds; 0: the page stays as it is
	Who     string // whose session there is to end; empty for none
	Version string
	Body    any
	now     time.Time
}

// Ago says how long ago t was, in words.
func (f frame) Ago(t time.Time) string {
	switch d := f.now.Sub(t); {
	case t.IsZero():
		return ""
	case d < 5*time.Second:
		return "just now"
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	default:
		return t.UTC().Format(time.DateOnly)
	}
}

// Since is Ago for an age in milliseconds.
func (f frame) Since(age int64) string {
	return f.Ago(f.now.Add(-time.Duration(age) * time.Millisecond))
}

// Exact gives t for machines and for whoever points at it.
func (f frame) Exact(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Took says how long something took, or has taken so far.
func (f frame) Took(from, to time.Time) string {
	if from.IsZero() {
		return ""
	}
	if to.IsZero() {
		to = f.now
	}
	d := max(to.Sub(from), 0)
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

func (s *Server) frame(r *http.Request, title string, body any) frame {
	who := ""
	if c := callerOf(r.Context()); c.bySession {
		who = c.Name
	}
	return frame{Title: title, Style: s.pages.style, Who: who,
		Version: s.cfg.Version, Body: body, now: s.now()}
}

// show renders a page whole before it sends the first byte.
func (s *Server) show(w http.ResponseWriter, r *http.Request, status int, name string, f frame) {
	var b bytes.Buffer
	if err := s.pages.templates.ExecuteTemplate(&b, name, f); err != nil {
		s.writeProblem(w, r, fmt.Errorf("rendering %s: %w", name, err))
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // a caller that left cannot be told
}

// showError is show for an error: its problem as a page.
func (s *Server) showError(w http.ResponseWriter, r *http.Request, err error) {
	p := s.problemOf(r.Context(), err)
	s.show(w, r, p.Status, "error.html", s.frame(r, p.Title, p.Problem))
}

const (
	refreshEvery = 5        // seconds, while something runs
	recentRuns   = 15       // on the board
	refusedTags  = 5        // on the board
	logTail      = 64 << 10 // bytes of the log on a run's page
)

type boardBody struct {
	Targets   []api.Target
	Runs      []api.Run
	Refused   []api.Release
	Active    int            // targets whose latest run goes on
	Waiting   int            // targets whose latest run waits for a person
	Instances *instancesBody // nil where there is one alone
}

// board shows every target, the latest runs and the tags that were refused.
func (s *Server) board(w http.ResponseWriter, r *http.Request) {
	body, err := s.loadBoard(r.Context())
	if err != nil {
		s.showError(w, r, err)
		return
	}
	f := s.frame(r, "Board", body)
	if body.Active > 0 || len(body.Targets) == 0 {
		f.Refresh = refreshEvery
	}
	s.show(w, r, http.StatusOK, "board.html", f)
}

func (s *Server) loadBoard(ctx context.Context) (boardBody, error) {
	within, err := s.sight(ctx)
	if err != nil {
		return boardBody{}, err
	}
	targets, err1 := s.targets(ctx, within)
	runs, _, err2 := s.cfg.Store.Runs(ctx, store.RunFilter{Within: within, Limit: recentRuns})
	refused, _, err3 := s.cfg.Store.Releases(ctx, store.ReleaseFilter{Within: within, Decision: release.Refused, Limit: refusedTags})
	instances, err4 := s.boardInstances(ctx)
	body := boardBody{Targets: mapped(targets, wireTarget), Runs: mapped(runs, wireRun), Refused: mapped(refused, wireRelease), Instances: instances}
	for _, t := range body.Targets {
		switch r := t.LatestRun; {
		case r == nil || r.WaitsForTime():
		case r.State == api.StateAwaitingApproval || r.State == api.StateUnknown:
			body.Waiting++
		case !r.Ended():
			body.Active++
		}
	}
	return body, errors.Join(err1, err2, err3, err4)
}

type runBody struct {
	Run      api.Run
	Plan     *api.Plan // nil before there is one
	Findings []api.Finding
	Reports  []api.Report
	Log      string
	LogCut   bool // whether Log is only the end of it
	Decides  bool // whether the plan waits for a decision that this person may take
}

// runPage shows one run with its plan, its findings and the end of its log.
func (s *Server) runPage(w http.ResponseWriter, r *http.Request) {
	run, err := s.run(r.Context(), r.PathValue("id"))
	if err != nil {
		s.showError(w, r, err)
		return
	}
	body := runBody{Run: wireRun(run), Decides: run.State == release.AwaitingApproval && len(run.Open()) > 0 && s.cfg.Decide != nil &&
		s.may(r.Context(), identity.Approve, run.Target) == nil}
	plan, err := s.cfg.Store.Plan(r.Context(), run.ID)
	if err == nil {
		p := wirePlan(plan)
		body.Plan = &p
	} else if !errors.Is(err, release.ErrNotFound) {
		s.showError(w, r, err)
		return
	}
	findings, err := s.cfg.Store.Findings(r.Context(), run.ID)
	if err != nil {
		s.showError(w, r, err)
		return
	}
	body.Findings = mapped(findings, wireFinding)
	if body.Reports, err = s.wireReports(r.Context(), run.ID); err != nil {
		s.showError(w, r, err)
		return
	}
	body.Log, body.LogCut = s.logTail(r.Context(), run.ID)
	f := s.frame(r, "Run "+body.Run.ID+", "+body.Run.Name(), body)
	if !run.State.Ended() && !body.Decides { // what somebody types would be lost
		f.Refresh = refreshEvery
	}
	s.show(w, r, http.StatusOK, "run.html", f)
}

// logTail gives the end of a run's log; a log that cannot be read leaves the
// page without one.
func (s *Server) logTail(ctx context.Context, id int64) (text string, cut bool) {
	if s.cfg.Logs == nil {
		return "", false
	}
	var tail tailWriter
	run, err := s.cfg.Logs(ctx, id, 0, false, func(l release.LogLine) error {
		_, err := tail.Write([]byte(wireLine(l).String() + "\n"))
		return err
	})
	if err == nil && run.State.Ended() {
		_, _ = tail.Write([]byte(wireEnd(run).Line(release.FormatID(id)) + "\n"))
	}
	if err != nil && !errors.Is(err, release.ErrNotFound) {
		s.log.ErrorContext(ctx, "reading a log for the page", "run", id, "error", err)
	}
	tail.trim()
	return string(tail.data), tail.cut
}

// tailWriter keeps the end of what is written, in at most twice logTail bytes.
type tailWriter struct {
	data []byte
	cut  bool
}

// Write never fails.
func (t *tailWriter) Write(p []byte) (int, error) {
	t.data = append(t.data, p...)
	if len(t.data) > 2*logTail {
		t.trim()
	}
	return len(p), nil
}

// trim cuts to logTail bytes or less, so that a line begins.
func (t *tailWriter) trim() {
	over := len(t.data) - logTail
	if over <= 0 {
		return
	}
	if nl := bytes.IndexByte(t.data[over:], '\n'); nl >= 0 {
		over += nl + 1
	}
	t.data, t.cut = append(t.data[:0], t.data[over:]...), true
}

func shortCommit(id string) string { return cmp.Or(id[:min(len(id), 10)], "–") }

// words makes a state readable: awaiting_approval is "awaiting approval".
func words(state string) string { return strings.ReplaceAll(state, "_", " ") }

// list joins names for people.
func list(names []string) string { return visible(strings.Join(names, ", ")) }

// tone groups states of runs and instances, severities and actions into the colours of the page.
func tone(word string) string {
	switch word {
	case "succeeded", "passed", "create", "import", api.InstanceAlive:
		return "good"
	case "failed", "denied", "rejected", "unknown", "error", "delete", "replace", api.InstanceDead:
		return "bad"
	case "awaiting_approval", "warning", "update", api.InstanceDraining:
		return "wait"
	case "running":
		return "busy"
	default:
		return "calm"
	}
}

// visible replaces what html/template rightly lets through and what still
// deceives a reader: controls, and characters that turn the direction of text.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
