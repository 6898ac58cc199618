package server

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/waymark-cd/waymark/page"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// releasesShown is how many tags are on one page.
const releasesShown = 50

// releasesPage lists every tag that was seen.
func (s *Server) releasesPage(w http.ResponseWriter, r *http.Request) {
	f := s.pageFrame(r, "/releases", "Releases")
	l, err := s.loadReleases(r)
	if err == nil && l.First {
		f.Live, err = s.liveURL(r.Context(), url.Values{})
	}
	if err != nil {
		s.showError(w, r, err)
		return
	}
	s.render(w, r, http.StatusOK, page.ReleasesPage(f, l))
}

func (s *Server) loadReleases(r *http.Request) (page.Releases, error) {
	q := r.URL.Query()
	l := page.Releases{Target: q.Get("target"), Decision: q.Get("decision"), First: q.Get("cursor") == ""}
	switch release.Decision(l.Decision) {
	case "", release.Admitted, release.Adopted, release.Refused:
	default:
		return l, fmt.Errorf("%w decision %.20q: admitted, adopted or refused", release.ErrInvalid, l.Decision)
	}
	target, err := parseFilter(l.Target)
	if err != nil {
		return l, err
	}
	within, err := s.narrowed(r.Context(), target)
	if err != nil {
		return l, err
	}
	found, next, err := s.cfg.Store.Releases(r.Context(), store.ReleaseFilter{Target: target, Within: within,
		Decision: release.Decision(l.Decision), Limit: releasesShown, Cursor: q.Get("cursor")})
	l.Next = next
	for _, v := range found {
		row := page.Release{Release: wireRelease(v)}
		if v.SignedBy != (release.Signer{}) {
			row.Signer = v.SignedBy.String()
		}
		if v.Target != (release.Target{}) && v.Decision != release.Refused { // a refused tag may name what is not there
			row.URL = page.TargetURL(v.Target.Env, v.Target.Scope, v.Target.Team)
		}
		if s.cfg.Source != nil && v.Commit != "" {
			row.Source = s.cfg.Source(v.Repository, v.Commit, "", 0)
		}
		l.Rows = append(l.Rows, row)
	}
	return l, err
}
