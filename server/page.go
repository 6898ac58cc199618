package server

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/waymark-cd/waymark/page"
)

// view is a page that is ready to be drawn.
type view interface {
	Render(ctx context.Context, w io.Writer) error
}

// pageFrame is the frame of a page of the section here.
func (s *Server) pageFrame(r *http.Request, here, title string) page.Frame {
	c := callerOf(r.Context())
	f := page.Frame{Title: title, Assets: s.assets, Here: here, Session: c.bySession, Version: s.cfg.Version, Now: s.now()}
	if c.bySession {
		f.Who = c.Name
	}
	return f
}

// render draws a page whole before it sends the first byte.
func (s *Server) render(w http.ResponseWriter, r *http.Request, status int, v view) {
	var b bytes.Buffer
	if err := v.Render(r.Context(), &b); err != nil {
		s.writeProblem(w, r, fmt.Errorf("rendering %s: %w", r.URL.Path, err))
		return
	}
	s.sendPage(w, status, b.Bytes())
}

func (s *Server) sendPage(w http.ResponseWriter, status int, text []byte) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(text) // a caller that left cannot be told
}

// showError is render for an error: its problem as a page.
func (s *Server) showError(w http.ResponseWriter, r *http.Request, err error) {
	p := s.problemOf(r.Context(), err)
	f := s.pageFrame(r, "", p.Title)
	s.render(w, r, p.Status, page.Problem(f, p.Title, p.Detail, p.RequestID))
}
