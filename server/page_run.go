package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/page"
	"github.com/waymark-cd/waymark/release"
)

const (
	logTail     = 64 << 10 // bytes of the log on a run's page
	tailMost    = 1000     // lines of it
	longestLine = 4 << 10  // bytes of one line of it
)

// servePages adds the pages of runs, the audit log and the inventory.
func (s *Server) servePages(mux *table) {
	mux.HandleFunc("GET /runs/{id}", s.runPage)
	mux.HandleFunc("GET /inventory", s.inventoryPage)
	mux.HandleFunc("GET /audit", s.auditPage)
	for _, a := range []release.VerdictAction{release.Cancel, release.Retry, release.Resolve, release.Override} {
		mux.HandleFunc("POST /runs/{id}/"+string(a), s.actByForm(a))
	}
}

// runPage shows one run with its plan, its findings and the end of its log.
func (s *Server) runPage(w http.ResponseWriter, r *http.Request) {
	run, err := s.run(r.Context(), r.PathValue("id"))
	if err != nil {
		s.showError(w, r, err)
		return
	}
	// Before the run is read again: what changes in between is told.
	id := release.FormatID(run.ID)
	live, err := s.liveURL(r.Context(), url.Values{"run": {id}})
	if err != nil {
		s.showError(w, r, err)
		return
	}
	view, err := s.loadRun(r.Context(), id)
	if err != nil {
		s.showError(w, r, err)
		return
	}
	f := s.pageFrame(r, "", "Run "+view.ID+", "+view.Name())
	f.Live = live
	if s.cfg.Logs != nil && r.Header.Get("HX-Request") == "" { // the log is there already
		f.Beneath, f.Scripts = page.RunLog(s.logTail(r.Context(), run.ID)), []string{"log.js"}
	}
	s.render(w, r, http.StatusOK, page.RunPage(f, view))
}

func (s *Server) loadRun(ctx context.Context, id string) (page.Run, error) {
	run, err := s.run(ctx, id)
	if err != nil {
		return page.Run{}, err
	}
	view := page.Run{Run: s.wireRun(run), May: s.decisions(ctx, run)}
	if s.cfg.Source != nil {
		view.Source = func(file string, line int) string { return s.cfg.Source(run.Repository, run.Commit, file, line) }
	}
	plan, err := s.cfg.Store.Plan(ctx, run.ID)
	switch {
	case err == nil:
		p := wirePlan(plan)
		view.Plan = &p
	case !errors.Is(err, release.ErrNotFound):
		return page.Run{}, err
	}
	findings, err := s.cfg.Store.Findings(ctx, run.ID)
	if err != nil {
		return page.Run{}, err
	}
	view.Findings = mapped(findings, wireFinding)
	view.Reports, err = s.wireReports(ctx, run.ID)
	return view, err
}

// decisions are those that the run's state asks for, and that the request's person
// may take.
func (s *Server) decisions(ctx context.Context, run release.Run) page.Decisions {
	may := func(a identity.Action) bool { return s.cfg.Decide != nil && s.may(ctx, a, run.Target) == nil }
	over := run.State.Ended()
	unknown := run.State == release.Unknown
	return page.Decisions{
		Approve:  run.State == release.AwaitingApproval && len(run.Open()) > 0 && may(identity.Approve),
		Override: wireRun(run).WaitsForTime() && may(identity.Override),
		Cancel:   !over && !unknown && may(identity.Cancel),
		Resolve:  unknown && may(identity.Resolve),
		Retry:    over && !unknown && run.State != release.Succeeded && may(identity.Retry),
	}
}

// actByForm gives the handler of a form that asks for an action without a plan. The
// guard has asked whether the request comes from a page of this service.
func (s *Server) actByForm(action release.VerdictAction) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := r.ParseForm()
		d := api.Decision{Reason: r.PostForm.Get("reason")}
		if action == release.Resolve {
			d.As = r.PostForm.Get("as")
		}
		switch {
		case err != nil:
			err = fmt.Errorf("%w form: %w", release.ErrInvalid, err)
		case len(d.Reason) > maxReason:
			err = fmt.Errorf("%w form: the reason has more than %d characters", release.ErrInvalid, maxReason)
		}
		var run release.Run
		if err == nil {
			run, err = s.decideRun(r.Context(), r.PathValue("id"), action, d)
		}
		if err != nil {
			s.showError(w, r, err)
			return
		}
		http.Redirect(w, r, page.RunURL(release.FormatID(run.ID)), http.StatusSeeOther)
	}
}

// logTail gives the end of a run's log; a log that cannot be read leaves the page
// without one.
func (s *Server) logTail(ctx context.Context, id int64) page.Log {
	var tail tailLines
	run, err := s.cfg.Logs(ctx, id, release.LogRange{Tail: tailMost}, func(l release.LogLine) error {
		tail.cut = tail.cut || len(tail.lines) == 0 && l.N > 1
		tail.add(wireLine(l))
		return nil
	})
	if err == nil && run.State.Ended() {
		tail.add(api.LogLine{Text: wireEnd(run).Line(release.FormatID(id))})
	}
	if err != nil && !errors.Is(err, release.ErrNotFound) {
		s.log.ErrorContext(ctx, "reading a log for the page", "run", id, "error", err)
	}
	tail.trim(logTail)
	return page.Log{RunID: release.FormatID(id), Lines: tail.lines, Cut: tail.cut}
}

// tailLines keeps the end of what is added, in about twice logTail bytes.
type tailLines struct {
	lines []api.LogLine
	bytes int
	cut   bool
}

// lineCost is what a line weighs beside its text, in bytes.
const lineCost = 64

func (t *tailLines) add(l api.LogLine) {
	if len(l.Text) > longestLine {
		l.Text = l.Text[:longestLine] + "…"
	}
	t.lines = append(t.lines, l)
	if t.bytes += len(l.Text) + lineCost; t.bytes > 2*logTail {
		t.trim(logTail)
	}
}

// trim leaves the last lines that weigh at most so many bytes.
func (t *tailLines) trim(most int) {
	n := 0
	for t.bytes > most && n < len(t.lines)-1 {
		t.bytes -= len(t.lines[n].Text) + lineCost
		n++
	}
	if n > 0 {
		t.lines, t.cut = append(t.lines[:0], t.lines[n:]...), true
	}
}
