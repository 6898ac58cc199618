package server

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/waymark-cd/waymark/page"
	"github.com/waymark-cd/waymark/release"
)

const (
	publicCache = 15  // seconds that anybody may keep what is public
	publicRate  = 100 // answers a second, to all callers together
)

// isPublic reports what needs nobody and tells of runs: the handlers ask whether the
// environment is public.
func isPublic(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/public/") || strings.HasPrefix(r.URL.Path, "/badge/")
}

// registerPublic adds what anybody may see of public environments.
func (s *Server) registerPublic(mux *table) {
	bound := &perSecond{}
	mux.Handle("GET /public/runs/{id}", s.bounded(bound, s.publicRun))
	mux.Handle("GET /badge/{env}/{scope}/{badge}", s.bounded(bound, s.badge))
}

// perSecond counts the answers of one second.
type perSecond struct {
	mu     sync.Mutex
	second int64
	count  int
}

func (p *perSecond) allows(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if second := now.Unix(); second != p.second {
		p.second, p.count = second, 0
	}
	p.count++
	return p.count <= publicRate
}

// bounded answers so many requests and no more: they need no login, and cost reads
// of the database. An error is shown as a page that says the same to everybody.
func (s *Server) bounded(bound *perSecond, next func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !bound.allows(time.Now()) {
			w.Header().Set("Retry-After", "2")
			s.showError(w, r, fmt.Errorf("%w: too many ask for public pages: try again in a moment", release.ErrUnavailable))
			return
		}
		if err := next(w, r); err != nil {
			s.showError(w, r, err)
		}
	})
}

// errNotPublic is the one answer for what is not there and for what is not public.
var errNotPublic = fmt.Errorf("%w: nothing public is at this address", release.ErrNotFound)

// public hides why something is not shown.
func (s *Server) public(t release.Target, err error) error {
	if errors.Is(err, release.ErrNotFound) || errors.Is(err, release.ErrInvalid) || errors.Is(err, release.ErrRefused) ||
		err == nil && (s.cfg.Public == nil || !s.cfg.Public(t.Env)) {
		return errNotPublic
	}
	return err
}

// publicRun shows a run to anybody: what it does, and nobody's name.
func (s *Server) publicRun(w http.ResponseWriter, r *http.Request) error {
	var run release.Run
	id, err := validRunID(r.PathValue("id"))
	if err == nil {
		run, err = s.cfg.Store.Run(r.Context(), id)
	}
	if err := s.public(run.Target, err); err != nil {
		return err
	}
	v := page.PublicRun{Run: wireRun(run)}
	v.CreatedBy, v.OverriddenBy, v.Approvals, v.Requirements, v.Evidence = "", "", nil, nil, nil
	v.ApproversMissing, v.Reason, v.Outputs = "", "", nil
	if v.Lines, v.Cut, err = s.publicLog(r, run.ID); err != nil {
		return err
	}
	w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d", publicCache))
	f := page.Frame{Title: "Run " + v.ID + ", " + v.Name(), Assets: s.assets, Public: true, Version: s.cfg.Version, Now: s.now()}
	s.render(w, r, http.StatusOK, page.PublicRunPage(f, v))
	return nil
}

// publicLines is how many lines of a log anybody sees: its end.
const publicLines = 500

// publicLog gives the end of a run's log, masked as it is kept.
func (s *Server) publicLog(r *http.Request, id int64) (lines []string, cut bool, err error) {
	if s.cfg.Logs == nil {
		return nil, false, nil
	}
	size := 0
	_, err = s.cfg.Logs(r.Context(), id, release.LogRange{Tail: publicLines}, func(l release.LogLine) error {
		cut = cut || len(lines) == 0 && l.N > 1
		text := wireLine(l).String()
		lines, size = append(lines, text), size+len(text)
		for len(lines) > publicLines || size > publicBytes && len(lines) > 1 {
			lines, size, cut = lines[1:], size-len(lines[0]), true
		}
		return nil
	})
	if errors.Is(err, release.ErrNotFound) {
		err = nil
	}
	return lines, cut, err
}

// publicBytes bounds them too.
const publicBytes = 128 << 10

// badge draws what is deployed to a target.
func (s *Server) badge(w http.ResponseWriter, r *http.Request) error {
	team, isSVG := strings.CutSuffix(r.PathValue("badge"), ".svg")
	target, err := release.ParseTarget(release.Target{Env: r.PathValue("env"), Scope: r.PathValue("scope"), Team: team}.String())
	if err == nil && !isSVG {
		err = errNotPublic
	}
	if err := s.public(target, err); err != nil {
		return err
	}
	status, err := s.cfg.Store.Target(r.Context(), target)
	if err := s.public(target, err); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "image/svg+xml; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'")
	w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin") // a badge is for other sites' pages
	w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d", publicCache))
	return page.Badge(wireTarget(status)).Render(r.Context(), w)
}
