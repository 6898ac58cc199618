package store

import (
	"context"
	"encoding/json"
	"fmt"

	"golang.org/x/sync/errgroup"

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
	// Deployed is the last deploy or rollback that succeeded: what names it, and its
	// times; nil before the first.
	Deployed *release.Run
	Latest   *release.Run // the newest run that may have changed it
	// Destroyed is the run that removed what was deployed, where nothing came after it.
	Destroyed *release.Run
}

// Targets returns every target that was ever admitted: by environment and team,
// the global scope first.
func (s *Store) Targets(ctx context.Context) ([]TargetStatus, error) {
	return s.targets(ctx, "", nil, false)
}

// Board returns what Targets does, with less: of the newest runs what names them and
// how they stand, and no backends.
func (s *Store) Board(ctx context.Context) ([]TargetStatus, error) {
	return s.targets(ctx, "", nil, true)
}

// Target returns one target, or release.ErrNotFound where nothing was ever
// admitted for it.
func (s *Store) Target(ctx context.Context, t release.Target) (TargetStatus, error) {
	all, err := s.targets(ctx, " WHERE env = $1 AND scope = $2 AND team = $3", []any{t.Env, t.Scope, t.Team}, false)
	if err != nil {
		return TargetStatus{}, err
	}
	if len(all) == 0 {
		return TargetStatus{}, fmt.Errorf("target %s: %w: no tag was ever admitted for it", t, release.ErrNotFound)
	}
	return all[0], nil
}

// targets reads the three parts of the targets side by side: most of it is waiting
// for the database, and reading what runs hold.
func (s *Store) targets(ctx context.Context, where string, args []any, brief bool) (out []TargetStatus, err error) {
	var newest, deployed map[release.Target]*release.Run
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { out, err = s.bareTargets(ctx, where, args, brief); return err })
	g.Go(func() (err error) { newest, err = s.newestRuns(ctx, where, args, brief); return err })
	g.Go(func() (err error) { deployed, err = s.deployedRuns(ctx, where, args); return err })
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("listing targets: %w", err)
	}
	for i := range out {
		latest := newest[out[i].Target]
		out[i].Latest, out[i].Deployed = latest, deployed[out[i].Target]
		if latest != nil && latest.Kind == release.Destroy && latest.State == release.Succeeded {
			out[i].Destroyed = latest
		}
	}
	return out, nil
}

func (s *Store) bareTargets(ctx context.Context, where string, args []any, brief bool) ([]TargetStatus, error) {
	rs, err := s.db.query(ctx, `SELECT env, scope, team, account, region, backend FROM targets`+where+
		` ORDER BY env, team, CASE WHEN scope = 'global' THEN 0 ELSE 1 END, scope`, args...)
	if err != nil {
		return nil, err
	}
	return collect(rs, func(r rows) (v TargetStatus, err error) {
		var backend string
		if err := r.Scan(&v.Target.Env, &v.Target.Scope, &v.Target.Team, &v.Account, &v.Region, &backend); err != nil {
			return v, err
		}
		if brief {
			return v, nil
		}
		return v, json.Unmarshal([]byte(backend), &v.Backend)
	})
}

// newestRuns reads the newest run of each target, speculative ones and looks for
// drift apart.
func (s *Store) newestRuns(ctx context.Context, where string, args []any, brief bool) (map[release.Target]*release.Run, error) {
	columns, scan := runColumns, func(r rows) (release.Run, error) { rec, err := scanRun(r); return rec.Run, err }
	if brief {
		columns, scan = nameColumns, scanName
	}
	rs, err := s.db.query(ctx, `WITH newest AS MATERIALIZED (SELECT (SELECT r.id FROM runs r
		WHERE r.env = targets.env AND r.scope = targets.scope AND r.team = targets.team AND r.`+changing+` ORDER BY r.id DESC LIMIT 1) AS run_id FROM targets`+where+`)
		SELECT `+columns+" FROM newest JOIN runs ON id = run_id", args...)
	return byTarget(rs, err, scan)
}

// deployedRuns reads of the run that is deployed to each target what names it.
func (s *Store) deployedRuns(ctx context.Context, where string, args []any) (map[release.Target]*release.Run, error) {
	rs, err := s.db.query(ctx, "SELECT "+nameColumns+" FROM runs WHERE id IN (SELECT deployed_run_id FROM targets"+where+")", args...)
	return byTarget(rs, err, scanName)
}

// nameColumns are what scanName reads: what names a run, and how it stands.
const nameColumns = `id, kind, repository, release_id, tag, ref, version, commit_id, env, scope, team, account, state, reason, created_by,
	created_at, started_at, finished_at, wait_until`

func scanName(row rows) (r release.Run, err error) {
	var created, started, finished, waitUntil int64
	err = row.Scan(&r.ID, &r.Kind, &r.Repository, &r.ReleaseID, &r.Tag, &r.Ref, &r.Version, &r.Commit, &r.Target.Env, &r.Target.Scope, &r.Target.Team,
		&r.Account, &r.State, &r.Reason, &r.CreatedBy, &created, &started, &finished, &waitUntil)
	r.CreatedAt, r.StartedAt, r.FinishedAt, r.WaitUntil = fromMillis(created), fromMillis(started), fromMillis(finished), fromMillis(waitUntil)
	return r, err
}

// byTarget collects runs of which a target has one.
func byTarget(rs rows, err error, scan func(rows) (release.Run, error)) (map[release.Target]*release.Run, error) {
	if err != nil {
		return nil, err
	}
	runs, err := collect(rs, scan)
	out := make(map[release.Target]*release.Run, len(runs))
	for i := range runs {
		out[runs[i].Target] = &runs[i]
	}
	return out, err
}
