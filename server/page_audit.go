package server

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/page"
	"github.com/waymark-cd/waymark/store"
)

// entriesShown is how many entries one page of the audit log shows.
const entriesShown = 50

// auditPage shows the audit log, the newest entry first, to whoever may read all of it.
func (s *Server) auditPage(w http.ResponseWriter, r *http.Request) {
	v, err := s.loadAudit(r.Context(), r.URL.Query())
	if err != nil {
		s.showError(w, r, err)
		return
	}
	f := s.pageFrame(r, "/audit", "Audit")
	f.Scripts = []string{"verify.js"}
	s.render(w, r, http.StatusOK, page.AuditPage(f, v))
}

func (s *Server) loadAudit(ctx context.Context, q url.Values) (page.Audit, error) {
	v := page.Audit{Filter: auditFilter(q), Open: -1}
	if err := s.mayAudit(ctx); err != nil {
		return v, err
	}
	head, err := s.cfg.Store.AuditHead(ctx)
	if err != nil {
		return v, err
	}
	v.Head = api.AuditHead(head)
	if s.cfg.Audit.Sign != nil {
		if v.Note, err = s.cfg.Audit.Sign(ctx, head); err != nil {
			return v, err
		}
		keys, err := s.listAuditKeys(ctx, nil)
		if err != nil {
			return v, err
		}
		v.Keys = keys.Keys
	}
	v.To = head.Size
	if n, err := strconv.ParseInt(q.Get("before"), 10, 64); err == nil && n >= 0 && n < v.To {
		v.To = n
	}
	if n, err := strconv.ParseInt(q.Get("entry"), 10, 64); err == nil && n >= 0 && n < head.Size {
		v.Open, v.To = n, n+1
	}
	if err := s.lookThrough(ctx, &v); err != nil {
		return v, err
	}
	if v.From > 0 {
		q.Del("entry")
		q.Set("before", strconv.FormatInt(v.From, 10))
		v.Older = "/audit?" + q.Encode()
	}
	return v, nil
}

// lookThrough takes entries from v.To downwards until there are enough, or enough
// were looked at.
func (s *Server) lookThrough(ctx context.Context, v *page.Audit) error {
	f := store.EntryFilter{Target: v.Filter.Target, Action: v.Filter.Action, Actor: v.Filter.Actor, Text: v.Filter.Text, Before: v.To, Limit: entriesShown}
	if v.Filter.Run != "" {
		id, err := validRunID(v.Filter.Run)
		if err != nil {
			return nil // no entry is about it
		}
		f.Run = id
	}
	entries, from, err := s.cfg.Store.Search(ctx, f)
	v.Entries, v.From = mapped(entries, wireEntry), from
	return err
}

func auditFilter(q url.Values) page.AuditFilter {
	get := func(name string) string { return strings.TrimSpace(q.Get(name)) }
	return page.AuditFilter{Target: get("target"), Action: get("action"), Actor: get("actor"), Run: get("run"), Text: get("text")}
}
