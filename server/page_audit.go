package server

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/page"
)

// How many entries one page of the audit log shows, and how many it looks through
// for them at most.
const (
	entriesShown  = 50
	entriesLooked = 5000
	entriesRead   = 500 // at once
)

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
	v.From = v.To
	for v.From > 0 && v.To-v.From < entriesLooked && len(v.Entries) < entriesShown {
		n := int64(entriesRead)
		if v.Filter == (page.AuditFilter{}) {
			n = entriesShown
		}
		from := max(v.From-n, 0)
		entries, err := s.cfg.Store.Entries(ctx, from, int(v.From-from))
		if err != nil {
			return err
		}
		slices.Reverse(entries)
		for _, e := range entries {
			if e.Index >= v.From {
				continue // the log lacks entries: who verifies is told
			}
			if x := wireEntry(e); fits(v.Filter, x) {
				v.Entries = append(v.Entries, x)
			}
			if v.From = e.Index; len(v.Entries) == entriesShown {
				return nil
			}
		}
		v.From = from
	}
	return nil
}

func auditFilter(q url.Values) page.AuditFilter {
	get := func(name string) string { return strings.TrimSpace(q.Get(name)) }
	return page.AuditFilter{Target: get("target"), Action: get("action"), Actor: get("actor"), Run: get("run"), Text: get("text")}
}

// fits reports whether an entry is one that somebody looks for.
func fits(f page.AuditFilter, e api.AuditEntry) bool {
	action := f.Action == "" || e.Action == f.Action
	if begin, ok := strings.CutSuffix(f.Action, "*"); ok {
		action = strings.HasPrefix(e.Action, begin)
	}
	holds := func(text, part string) bool { return strings.Contains(strings.ToLower(text), strings.ToLower(part)) }
	return action && (f.Target == "" || e.Target == f.Target) && (f.Run == "" || e.RunID == f.Run) &&
		holds(e.Actor, f.Actor) && holds(e.Leaf, f.Text)
}
