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

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/page"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

const (
	targetRuns     = 30 // on a target's page
	targetVersions = 50 // that may be compared and gone back to
	diffCommits    = 100
	askWithin      = 5 * time.Second // for what the page asks outside of the database
)

// Commit is one commit between two, as Config.Changes gives it.
type Commit struct{ ID, Author, Subject string }

// targetOf reads the target that a page's address names, for whoever may look at it.
func (s *Server) targetOf(r *http.Request) (release.Target, store.TargetStatus, error) {
	target, err := release.ParseTarget(release.Target{Env: r.PathValue("env"), Scope: r.PathValue("scope"), Team: r.PathValue("team")}.String())
	if err == nil {
		err = s.may(r.Context(), identity.View, target)
	}
	if err != nil {
		return target, store.TargetStatus{}, err
	}
	status, err := s.cfg.Store.Target(r.Context(), target)
	return target, status, err
}

// targetPage shows one target.
func (s *Server) targetPage(w http.ResponseWriter, r *http.Request) {
	target, status, err := s.targetOf(r)
	if err != nil {
		s.showError(w, r, err)
		return
	}
	f := s.pageFrame(r, "/", target.String())
	cursor := r.URL.Query().Get("cursor")
	if cursor == "" {
		if f.Live, err = s.liveURL(r.Context(), url.Values{"target": {target.String()}}); err != nil {
			s.showError(w, r, err)
			return
		}
	}
	t, err := s.loadTarget(r.Context(), target, status, r.URL.Query())
	if err != nil {
		s.showError(w, r, err)
		return
	}
	s.render(w, r, http.StatusOK, page.TargetPage(f, t))
}

func (s *Server) loadTarget(ctx context.Context, target release.Target, status store.TargetStatus, q url.Values) (page.Target, error) {
	t := page.Target{Target: wireTarget(status), Older: q.Get("cursor") != "", Repositories: s.cfg.Repositories}
	if s.cfg.Source != nil {
		t.Source = func(repository, commit string) string { return s.cfg.Source(repository, commit, "", 0) }
	}
	runs, next, err := s.cfg.Store.Runs(ctx, store.RunFilter{Target: &target, Limit: targetRuns, Cursor: q.Get("cursor")})
	if err != nil {
		return t, err
	}
	t.Runs, t.Next = mapped(runs, wireRun), next
	good, _, err := s.cfg.Store.Runs(ctx, store.RunFilter{Target: &target, State: release.Succeeded, Limit: targetVersions})
	if err != nil {
		return t, err
	}
	for _, r := range good {
		if r.Kind == release.Deploy || r.Kind == release.Rollback {
			t.Versions = append(t.Versions, wireRun(r))
		}
	}
	if t.Diff, err = s.diff(ctx, t.Versions, q.Get("from"), q.Get("to")); err != nil {
		return t, err
	}
	if err := s.whenTarget(ctx, target, &t); err != nil {
		return t, err
	}
	may := func(a identity.Action) bool { return s.may(ctx, a, target) == nil }
	orders := s.cfg.Order != nil
	t.May = page.TargetMay{Plan: orders && may(identity.Plan), Drift: orders && t.Deployed != nil && may(identity.Drift),
		Rollback: orders && t.Deployed != nil && slices.ContainsFunc(t.Versions, func(r api.Run) bool { return r.Version != t.Deployed.Version }) && may(identity.Rollback),
		Destroy:  orders && t.Deployed != nil && may(identity.Destroy), Unlock: s.cfg.Unlock != nil && may(identity.Unlock),
		Freeze: may(identity.Freeze), Thaw: may(identity.Thaw)}
	return t, nil
}

// whenTarget fills in what holds changes up: freezes and windows.
func (s *Server) whenTarget(ctx context.Context, target release.Target, t *page.Target) error {
	now, err := s.cfg.Store.Clock(ctx)
	if err != nil {
		return err
	}
	freezes, err := s.cfg.Store.FreezesOf(ctx, target, now)
	if err != nil {
		return err
	}
	for _, z := range freezes {
		if z.InForce(now) {
			t.Freezes = append(t.Freezes, wireFreeze(z, now))
		}
	}
	t.Closed = s.closedNow(target, now)
	return nil
}

// closedNow says why the configuration lets nothing change there now; empty: it does.
func (s *Server) closedNow(target release.Target, now time.Time) string {
	if s.cfg.Opening == nil {
		return ""
	}
	open, until, which := s.cfg.Opening(target, now)
	switch {
	case open:
		return ""
	case until.IsZero():
		return "closed: " + which
	}
	return "closed until " + until.UTC().Format(time.RFC3339) + ": " + which
}

// diff compares two of the runs, as ids; the newest two where they do not say.
func (s *Server) diff(ctx context.Context, versions []api.Run, from, to string) (page.Diff, error) {
	find := func(id string, otherwise int) *api.Run {
		if i := slices.IndexFunc(versions, func(r api.Run) bool { return r.ID == id }); i >= 0 {
			return &versions[i]
		}
		if otherwise < len(versions) {
			return &versions[otherwise]
		}
		return nil
	}
	d := page.Diff{From: find(from, 1), To: find(to, 0)}
	if d.From == nil || d.To == nil {
		return d, nil
	}
	older, newer := d.From.CreatedAt, d.To.CreatedAt
	for _, r := range versions {
		if r.CreatedAt.After(older) && !r.CreatedAt.After(newer) {
			d.Runs = append(d.Runs, r)
		}
	}
	if err := s.diffCommits(ctx, &d); err != nil {
		return d, err
	}
	id, err := validRunID(d.To.ID)
	if err != nil {
		return d, err
	}
	plan, err := s.cfg.Store.Plan(ctx, id)
	if errors.Is(err, release.ErrNotFound) {
		return d, nil
	}
	p := wirePlan(plan)
	d.Plan = &p
	return d, err
}

// diffCommits lists the commits of a comparison. A repository that cannot tell
// leaves the page without them.
func (s *Server) diffCommits(ctx context.Context, d *page.Diff) error {
	if d.From.Commit == d.To.Commit {
		return nil
	}
	if s.cfg.Changes == nil || d.From.Repository != d.To.Repository {
		d.Untold = "the two are not of one repository that this service reads"
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	commits, more, err := s.cfg.Changes(asking, d.To.Repository, d.From.Commit, d.To.Commit, diffCommits)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.log.WarnContext(ctx, "commits between two releases cannot be told", "from", d.From.Commit, "to", d.To.Commit, "error", err)
		d.Untold = "the service's copy of the repository lacks them"
		return nil
	}
	d.More = more
	d.Commits = mapped(commits, func(c Commit) page.Commit { return page.Commit(c) })
	return nil
}

// lockPage shows who holds the lock of a target's state. It is a page of its own,
// because it asks the backend.
func (s *Server) lockPage(w http.ResponseWriter, r *http.Request) {
	target, status, err := s.targetOf(r)
	if err != nil {
		s.showError(w, r, err)
		return
	}
	t := page.TargetLock{Target: wireTarget(status), Unlock: s.cfg.Unlock != nil && s.may(r.Context(), identity.Unlock, target) == nil}
	ctx, cancel := context.WithTimeout(r.Context(), askWithin)
	defer cancel()
	locks, err := s.listLocks(ctx, &locksInput{Target: target.String()})
	if t.Locks = locks.Locks; err != nil {
		t.Untold = s.problemOf(r.Context(), err).Detail
	}
	s.render(w, r, http.StatusOK, page.LockPage(s.pageFrame(r, "/", "Lock of "+target.String()), t))
}

// asked is a form of a target's page.
type asked struct {
	targetInput
	form url.Values
}

// target prints the target of the form.
func (a asked) target() string {
	return release.Target{Env: a.Env, Scope: a.Scope, Team: a.Team}.String()
}

func (a asked) get(name string) string { return strings.TrimSpace(a.form.Get(name)) }

// need gives the form's reason, without which nothing happens.
func (a asked) need() (string, error) {
	if a.get("reason") == "" {
		return "", fmt.Errorf("%w form: say why; it goes into the audit log", release.ErrInvalid)
	}
	return a.get("reason"), nil
}

// byForm gives the handler of a form on a target's page: do carries it out and gives
// the run that it made, if any. The guard has asked whether the request comes from a
// page of this service; who may do it the operation asks, as it does for the API.
func (s *Server) byForm(do func(context.Context, asked) (run api.Run, err error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			s.showError(w, r, fmt.Errorf("%w form: %w", release.ErrInvalid, err))
			return
		}
		a := asked{targetInput{r.PathValue("env"), r.PathValue("scope"), r.PathValue("team")}, r.PostForm}
		for name, most := range map[string]int{"reason": maxReason, "what": 200, "to": 64, "confirm": 100, "for": 32, "id": 20, "repository": 64} {
			if len(a.get(name)) > most {
				s.showError(w, r, fmt.Errorf("%w form: %s has more than %d characters", release.ErrInvalid, name, most))
				return
			}
		}
		run, err := do(r.Context(), a)
		if err != nil {
			s.showError(w, r, err)
			return
		}
		next := page.TargetURL(a.Env, a.Scope, a.Team)
		if run.ID != "" {
			next = page.RunURL(run.ID)
		}
		http.Redirect(w, r, next, http.StatusSeeOther)
	}
}

// registerTargetPages adds the page of a target and its forms.
func (s *Server) registerTargetPages(mux *table) {
	const path = "/targets/{env}/{scope}/{team}"
	mux.HandleFunc("GET "+path, s.targetPage)
	mux.HandleFunc("GET "+path+"/lock", s.lockPage)
	mux.HandleFunc("POST "+path+"/plan", s.byForm(s.planByForm))
	mux.HandleFunc("POST "+path+"/drift", s.byForm(func(ctx context.Context, a asked) (api.Run, error) {
		return s.drift(ctx, &driftInput{a.Env, a.Scope, a.Team, &api.Drift{Reason: a.get("reason")}})
	}))
	mux.HandleFunc("POST "+path+"/rollback", s.byForm(func(ctx context.Context, a asked) (api.Run, error) {
		reason, err := a.need()
		if err != nil {
			return api.Run{}, err
		}
		return s.rollback(ctx, &rollbackInput{a.Env, a.Scope, a.Team, api.Rollback{To: a.get("to"), Reason: reason}})
	}))
	mux.HandleFunc("POST "+path+"/destroy", s.byForm(s.destroyByForm))
	mux.HandleFunc("POST "+path+"/freeze", s.byForm(func(ctx context.Context, a asked) (api.Run, error) {
		reason, err := a.need()
		if err == nil {
			_, err = s.setFreeze(ctx, &freezeInput{api.FreezeSet{Where: a.target(), For: a.get("for"), Reason: reason}})
		}
		return api.Run{}, err
	}))
	mux.HandleFunc("POST "+path+"/thaw", s.byForm(func(ctx context.Context, a asked) (api.Run, error) {
		_, err := s.thaw(ctx, &thawInput{a.get("id"), &api.Thaw{Reason: cmp.Or(a.get("reason"), "lifted on the page of "+a.target())}})
		return api.Run{}, err
	}))
	mux.HandleFunc("POST "+path+"/unlock", s.byForm(func(ctx context.Context, a asked) (api.Run, error) {
		_, err := s.unlock(ctx, &unlockInput{a.Env, a.Scope, a.Team, &api.Unlock{Reason: a.get("reason")}})
		return api.Run{}, err
	}))
}

// planByForm plans a tag where what was typed begins as the target's tags do, and a
// branch or a commit otherwise.
func (s *Server) planByForm(ctx context.Context, a asked) (api.Run, error) {
	o := api.PlanOrder{Repository: a.get("repository"), Reason: a.get("reason")}
	switch what := a.get("what"); {
	case what == "":
		return api.Run{}, fmt.Errorf("%w form: name a tag, a branch or a commit", release.ErrInvalid)
	case strings.HasPrefix(what, a.target()+"/"):
		o.Tag = what
	default:
		o.Ref = what
	}
	return s.planOnly(ctx, &planInput{a.Env, a.Scope, a.Team, o})
}

func (s *Server) destroyByForm(ctx context.Context, a asked) (api.Run, error) {
	reason, err := a.need()
	if err == nil && a.get("confirm") != a.target() {
		err = fmt.Errorf("%w form: type %s to say that you mean it", release.ErrInvalid, a.target())
	}
	if err != nil {
		return api.Run{}, err
	}
	return s.destroy(ctx, &destroyInput{a.Env, a.Scope, a.Team, api.Destroy{Confirm: a.get("confirm"), Reason: reason}})
}
