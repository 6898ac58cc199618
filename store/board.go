package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/waymark-cd/waymark/release"
)

// ReleaseFilter selects releases; zero fields select all.
type ReleaseFilter struct {
	Target   *release.Target
	Decision release.Decision
	Within   []Scope // nil: everywhere, also tags that name no target
	Limit    int     // 50 by default, 500 at most
	Cursor   string
}

// Releases returns a page of the tags seen, newest first, and the next page's cursor.
func (s *Store) Releases(ctx context.Context, f ReleaseFilter) ([]release.Release, string, error) {
	var w where
	if f.Decision != "" {
		w.and("decision =", string(f.Decision))
	}
	limit, err := w.page(f.Cursor, f.Limit)
	if err != nil {
		return nil, "", err
	}
	rs, err := s.newest(ctx, "releases", "id, "+releaseFields, w, f.Target, f.Within, limit)
	if err != nil {
		return nil, "", fmt.Errorf("listing releases: %w", err)
	}
	all, err := collect(rs, func(r rows) (release.Release, error) { return scanRelease(r) })
	if err != nil {
		return nil, "", fmt.Errorf("listing releases: %w", err)
	}
	return trim(all, w.limit, func(r release.Release) int64 { return r.ID })
}

// Release returns one release, or release.ErrNotFound.
func (s *Store) Release(ctx context.Context, id int64) (release.Release, error) {
	v, err := scanRelease(s.db.row(ctx, "SELECT id, "+releaseFields+" FROM releases WHERE id = $1", id))
	if noRows(err) {
		return v, fmt.Errorf("release %d: %w", id, release.ErrNotFound)
	}
	if err != nil {
		return v, fmt.Errorf("reading release %d: %w", id, err)
	}
	return v, nil
}

// scanRelease reads an id and releaseFields.
func scanRelease(r scanner) (v release.Release, err error) {
	var tagged, seen int64
	err = r.Scan(&v.ID, &v.Repository, &v.Tag, &v.Target.Env, &v.Target.Scope, &v.Target.Team, &v.Version,
		&v.ObjectID, &v.Commit, &v.Tagger, &tagged, &v.Message, &v.Signature, &seen, &v.Decision, &v.Reason,
		&v.SignedBy.Name, &v.SignedBy.Key, &v.SignedBy.Kind, &v.Author, &v.Committer)
	v.TaggedAt, v.SeenAt = fromMillis(tagged), fromMillis(seen)
	return v, err
}

// TargetStatus is one target of the board.
type TargetStatus struct {
	Target release.Target
	TargetInfo
	// Deployed is the last deploy or rollback that succeeded: what names it, its times
	// and its outputs; nil before the first.
	Deployed *release.Run
	Latest   *release.Run // the newest run that may have changed it
	// Destroyed is the run that removed what was deployed, where nothing came after it.
	Destroyed *release.Run
}

// Targets returns every target that was ever admitted: by environment and team,
// the global scope first.
func (s *Store) Targets(ctx context.Context) ([]TargetStatus, error) {
	return s.targets(ctx, "", nil)
}

// Target returns one target, or release.ErrNotFound where nothing was ever
// admitted for it.
func (s *Store) Target(ctx context.Context, t release.Target) (TargetStatus, error) {
	all, err := s.targets(ctx, " WHERE env = $1 AND scope = $2 AND team = $3", []any{t.Env, t.Scope, t.Team})
	if err != nil {
		return TargetStatus{}, err
	}
	if len(all) == 0 {
		return TargetStatus{}, fmt.Errorf("target %s: %w: no tag was ever admitted for it", t, release.ErrNotFound)
	}
	return all[0], nil
}

func (s *Store) targets(ctx context.Context, where string, args []any) ([]TargetStatus, error) {
	rs, err := s.db.query(ctx, `SELECT env, scope, team, account, region, backend, deployed_run_id FROM targets`+where+
		` ORDER BY env, team, CASE WHEN scope = 'global' THEN 0 ELSE 1 END, scope`, args...)
	if err != nil {
		return nil, fmt.Errorf("listing targets: %w", err)
	}
	deployed := map[release.Target]int64{}
	out, err := collect(rs, func(r rows) (TargetStatus, error) {
		var v TargetStatus
		var backend string
		var run int64
		if err := r.Scan(&v.Target.Env, &v.Target.Scope, &v.Target.Team, &v.Account, &v.Region, &backend, &run); err != nil {
			return v, err
		}
		deployed[v.Target] = run
		return v, json.Unmarshal([]byte(backend), &v.Backend)
	})
	if err != nil {
		return nil, fmt.Errorf("listing targets: %w", err)
	}
	newest, err := s.newestRuns(ctx, where, args)
	if err != nil {
		return nil, err
	}
	byID, err := s.deployedRuns(ctx, deployed, newest)
	if err != nil {
		return nil, err
	}
	for i := range out {
		latest := newest[out[i].Target]
		out[i].Latest, out[i].Deployed = latest, byID[deployed[out[i].Target]]
		if latest != nil && latest.Kind == release.Destroy && latest.State == release.Succeeded {
			out[i].Destroyed = latest
		}
	}
	return out, nil
}

// newestRuns reads the newest run of each target, speculative ones and looks for
// drift apart.
func (s *Store) newestRuns(ctx context.Context, where string, args []any) (map[release.Target]*release.Run, error) {
	rs, err := s.db.query(ctx, "SELECT "+runColumns+` FROM runs WHERE id IN (SELECT (SELECT r.id FROM runs r
		WHERE r.env = targets.env AND r.scope = targets.scope AND r.team = targets.team AND r.`+changing+` ORDER BY r.id DESC LIMIT 1) FROM targets`+where+")", args...)
	if err != nil {
		return nil, fmt.Errorf("listing targets: %w", err)
	}
	out := map[release.Target]*release.Run{}
	runs, err := collect(rs, func(r rows) (release.Run, error) { rec, err := scanRun(r); return rec.Run, err })
	for i := range runs {
		out[runs[i].Target] = &runs[i]
	}
	return out, err
}

// deployedRuns gives the deployed runs. Of those that are not the newest of their
// target it reads what names them.
func (s *Store) deployedRuns(ctx context.Context, deployed map[release.Target]int64, newest map[release.Target]*release.Run) (map[int64]*release.Run, error) {
	out, ids := map[int64]*release.Run{}, []int64{}
	for target, id := range deployed {
		if r := newest[target]; r != nil && r.ID == id {
			out[id] = r
		} else {
			ids = append(ids, id)
		}
	}
	condition, list := s.db.oneOf("id", 1, ids)
	rs, err := s.db.query(ctx, `SELECT id, kind, repository, release_id, tag, version, commit_id, env, scope, team, account, state, outputs, created_by,
		created_at, started_at, finished_at FROM runs WHERE `+condition, list)
	if err != nil {
		return nil, fmt.Errorf("listing targets: %w", err)
	}
	_, err = collect(rs, func(row rows) (int64, error) {
		var r release.Run
		var outputs string
		var created, started, finished int64
		err := row.Scan(&r.ID, &r.Kind, &r.Repository, &r.ReleaseID, &r.Tag, &r.Version, &r.Commit, &r.Target.Env, &r.Target.Scope, &r.Target.Team,
			&r.Account, &r.State, &outputs, &r.CreatedBy, &created, &started, &finished)
		if err == nil {
			err = json.Unmarshal([]byte(outputs), &r.Outputs)
		}
		r.CreatedAt, r.StartedAt, r.FinishedAt = fromMillis(created), fromMillis(started), fromMillis(finished)
		out[r.ID] = &r
		return r.ID, err
	})
	return out, err
}
