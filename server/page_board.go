package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/page"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

const (
	recentRuns  = 15 // on the board
	refusedTags = 5
	needsShown  = 12
)

// board shows every target, what needs a person, the latest runs and the tags that
// were refused.
func (s *Server) board(w http.ResponseWriter, r *http.Request) {
	filter := boardFilter(r.URL.Query())
	f := s.pageFrame(r, "/", "Board")
	live, err := s.liveURL(r.Context(), url.Values{"env": {filter.Env}, "team": {filter.Team}})
	if err != nil {
		s.showError(w, r, err)
		return
	}
	f.Live = live
	b, err := s.loadBoard(r.Context(), filter)
	if err != nil {
		s.showError(w, r, err)
		return
	}
	s.render(w, r, http.StatusOK, page.BoardPage(f, b))
}

// boardFilter reads what somebody wants to see. What nobody can want is left out:
// an address that was typed shows more, and no error.
func boardFilter(q url.Values) page.BoardFilter {
	get := func(name string, most int) string {
		v := strings.TrimSpace(q.Get(name))
		if len(v) > most {
			return ""
		}
		return v
	}
	f := page.BoardFilter{Env: get("env", 32), Team: get("team", 32), State: get("state", 32), Text: get("text", 100)}
	if !page.KnownState(f.State) {
		f.State = ""
	}
	return f
}

func (s *Server) loadBoard(ctx context.Context, filter page.BoardFilter) (page.Board, error) {
	within, err := s.sight(ctx)
	if err != nil {
		return page.Board{}, err
	}
	b := page.Board{Filter: filter}
	var targets []store.TargetStatus
	var now time.Time
	var g errgroup.Group
	g.Go(func() (err error) { targets, err = s.cfg.Store.Board(ctx); return err })
	g.Go(func() (err error) { now, err = s.loadAround(ctx, within, &b); return err })
	if err := g.Wait(); err != nil {
		return b, err
	}
	targets = inSight(within, targets)
	b.Total = len(targets)
	fillBoard(&b, mapped(targets, wireTarget))
	for i := range b.Envs {
		b.Envs[i].Closed = s.envClosed(b.Envs[i], now)
	}
	return b, nil
}

// loadAround reads what stands around the targets, and the database's time.
func (s *Server) loadAround(ctx context.Context, within []store.Scope, b *page.Board) (time.Time, error) {
	runs, _, err1 := s.cfg.Store.Runs(ctx, store.RunFilter{Within: within, Limit: recentRuns})
	refused, _, err2 := s.cfg.Store.Releases(ctx, store.ReleaseFilter{Within: within, Decision: release.Refused, Limit: refusedTags})
	instances, err3 := s.boardInstances(ctx)
	freezes, err4 := s.listFreezes(ctx, &freezesInput{})
	now, err5 := s.cfg.Store.Clock(ctx)
	b.Runs, b.Refused, b.Instances, b.Freezes = mapped(runs, wireRun), mapped(refused, wireRelease), instances, freezes.Freezes
	return now, errors.Join(err1, err2, err3, err4, err5)
}

// envClosed says why nothing may change now in some or all of what is shown of an
// environment; empty: everything may.
func (s *Server) envClosed(e page.BoardEnv, now time.Time) string {
	why, closed, all := "", 0, 0
	for _, row := range e.Rows {
		for _, c := range row.Cells {
			if c.Target == nil {
				continue
			}
			all++
			if text := s.closedNow(release.Target{Env: e.Name, Scope: c.Target.Scope, Team: c.Target.Team}, now); text != "" {
				why, closed = text, closed+1
			}
		}
	}
	if closed > 0 && closed < all {
		return fmt.Sprintf("%d of %d %s", closed, all, why)
	}
	return why
}

// fillBoard orders the targets, as the store sorts them, by environments, teams and
// scopes, and finds those that need somebody.
func fillBoard(b *page.Board, targets []api.Target) {
	teams := map[string]bool{}
	for _, t := range targets {
		if !slices.Contains(b.Names, t.Env) {
			b.Names = append(b.Names, t.Env)
		}
		teams[t.Team] = true
		if t.LatestRun == nil {
			continue
		}
		if page.GoesOn(*t.LatestRun) {
			b.Active++
		}
		if page.Needs(*t.LatestRun) > 0 {
			b.Needs = append(b.Needs, *t.LatestRun)
		}
	}
	for team := range teams {
		b.Teams = append(b.Teams, team)
	}
	slices.Sort(b.Teams)
	slices.SortStableFunc(b.Needs, func(x, y api.Run) int {
		return cmp.Or(page.Needs(y)-page.Needs(x), y.CreatedAt.Compare(x.CreatedAt))
	})
	if len(b.Needs) > needsShown {
		b.MoreNeeds = len(b.Needs) - needsShown
		b.Needs = b.Needs[:needsShown]
	}
	for _, name := range b.Names {
		i := slices.IndexFunc(targets, func(t api.Target) bool { return t.Env == name })
		n := 0
		for i+n < len(targets) && targets[i+n].Env == name {
			n++
		}
		e, shown, behind := boardEnv(b.Filter, targets[i:i+n])
		b.Behind += behind
		if b.Shown += shown; shown > 0 {
			b.Envs = append(b.Envs, e)
		}
	}
}

// boardEnv makes the matrix of one environment's targets that the filter keeps, and
// counts all of them that are behind another Region.
func boardEnv(filter page.BoardFilter, targets []api.Target) (e page.BoardEnv, shown, behind int) {
	newest := map[string]string{} // by team: in its Regions
	for _, t := range targets {
		if inRegion(t) && release.CompareVersions(t.Deployed.Version, newest[t.Team]) > 0 {
			newest[t.Team] = t.Deployed.Version
		}
	}
	cells := map[string]map[string]page.BoardCell{} // by team and scope
	var teams []string
	e.Name = targets[0].Env
	for i := range targets {
		t := &targets[i]
		c := page.BoardCell{Target: t}
		if inRegion(*t) && release.CompareVersions(t.Deployed.Version, newest[t.Team]) < 0 {
			c.Behind = newest[t.Team]
			behind++
		}
		if !filter.Keeps(c) {
			continue
		}
		if cells[t.Team] == nil {
			cells[t.Team] = map[string]page.BoardCell{}
			teams = append(teams, t.Team)
		}
		cells[t.Team][t.Scope] = c
		if !slices.Contains(e.Scopes, t.Scope) {
			e.Scopes = append(e.Scopes, t.Scope)
		}
		shown++
	}
	slices.SortFunc(e.Scopes, func(x, y string) int {
		return cmp.Or(-cmp.Compare(btoi(x == release.Global), btoi(y == release.Global)), cmp.Compare(x, y))
	})
	for _, team := range teams {
		row := page.BoardRow{Team: team}
		for _, scope := range e.Scopes {
			row.Cells = append(row.Cells, cells[team][scope])
		}
		e.Rows = append(e.Rows, row)
	}
	return e, shown, behind
}

// inRegion reports whether something is deployed to one Region. What is global has
// versions of its own, and is behind nobody.
func inRegion(t api.Target) bool { return t.Scope != release.Global && t.Deployed != nil }

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// boardInstances gives nil where there is no more than one instance, or for
// whoever may not watch the service.
func (s *Server) boardInstances(ctx context.Context) (*page.Instances, error) {
	if s.may(ctx, identity.Watch, release.Target{}) != nil {
		return nil, nil
	}
	all, err := s.instances(ctx)
	if err != nil {
		return nil, err
	}
	var body page.Instances
	configs := map[string]bool{}
	for _, i := range all {
		switch {
		case i.State == api.InstanceStopped:
			continue
		case i.Lives():
			configs[i.ConfigDigest] = true
		default:
			body.Dead++
		}
		body.Rows = append(body.Rows, page.InstanceRow{Instance: i, Self: i.ID == s.cfg.Self, Differs: i.ConfigDigest != s.cfg.ConfigDigest})
	}
	if body.Configs = len(configs); len(body.Rows) < 2 {
		return nil, nil
	}
	return &body, nil
}
