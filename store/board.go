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

// inBoardOrder is by environment and team, the global scope first.
const inBoardOrder = " ORDER BY env, team, CASE WHEN scope = 'global' THEN 0 ELSE 1 END, scope"

// NewestRuns returns of every target the newest run that may have changed it, in the
// order of Targets.
func (s *Store) NewestRuns(ctx context.Context) ([]Record, error) {
	rs, err := s.db.query(ctx, "SELECT "+runColumns+" FROM runs WHERE id IN (SELECT newest_run_id FROM targets)"+inBoardOrder)
	if err != nil {
		return nil, fmt.Errorf("listing the newest runs: %w", err)
	}
	out, err := collect(rs, func(r rows) (Record, error) { return scanRun(r) })
	if err != nil {
		return nil, fmt.Errorf("listing the newest runs: %w", err)
	}
	return out, nil
}

// namedTarget is a target with the ids of its runs: of the newest that may have
// changed it and of the one that is deployed, 0 for none.
type namedTarget struct {
	TargetStatus
	newest, deployed int64
}

// targets reads the targets, and then the runs that they name.
func (s *Store) targets(ctx context.Context, where string, args []any, brief bool) ([]TargetStatus, error) {
	named, err := s.namedTargets(ctx, where, args, brief)
	if err != nil {
		return nil, fmt.Errorf("listing targets: %w", err)
	}
	runs, err := s.runsOf(ctx, named, brief)
	if err != nil {
		return nil, fmt.Errorf("listing targets: %w", err)
	}
	out := make([]TargetStatus, len(named))
	for i, t := range named {
		out[i] = t.TargetStatus
		latest := runs[t.newest]
		out[i].Latest, out[i].Deployed = latest, runs[t.deployed]
		if latest != nil && latest.Kind == release.Destroy && latest.State == release.Succeeded {
			out[i].Destroyed = latest
		}
	}
	return out, nil
}

func (s *Store) namedTargets(ctx context.Context, where string, args []any, brief bool) ([]namedTarget, error) {
	rs, err := s.db.query(ctx, `SELECT env, scope, team, account, region, backend, deployed_run_id, newest_run_id
		FROM targets`+where+inBoardOrder, args...)
	if err != nil {
		return nil, err
	}
	return collect(rs, func(r rows) (t namedTarget, err error) {
		var backend string
		if err := r.Scan(&t.Target.Env, &t.Target.Scope, &t.Target.Team, &t.Account, &t.Region, &backend, &t.deployed, &t.newest); err != nil {
			return t, err
		}
		if brief {
			return t, nil
		}
		return t, json.Unmarshal([]byte(backend), &t.Backend)
	})
}

// runsOf reads the runs that targets name, by their ids. They are asked for in parts,
// side by side: it takes as long to read what they hold as to find them. Of runs that
// are deployed and not the newest, and of all where it is to be brief, it is what
// names them.
func (s *Store) runsOf(ctx context.Context, targets []namedTarget, brief bool) (map[int64]*release.Run, error) {
	var newest, older []int64
	for _, t := range targets {
		newest = append(newest, t.newest)
		if t.deployed != t.newest {
			older = append(older, t.deployed)
		}
	}
	columns, scan := runColumns, func(r rows) (release.Run, error) { rec, err := scanRun(r); return rec.Run, err }
	if brief {
		columns, scan = nameColumns, scanName
	}
	half := len(newest) / 2
	var parts [3][]release.Run
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { parts[0], err = s.runsByID(ctx, newest[:half], columns, scan); return err })
	g.Go(func() (err error) { parts[1], err = s.runsByID(ctx, newest[half:], columns, scan); return err })
	g.Go(func() (err error) { parts[2], err = s.runsByID(ctx, older, nameColumns, scanName); return err })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	out := make(map[int64]*release.Run, len(targets))
	for _, part := range parts {
		for i := range part {
			out[part[i].ID] = &part[i]
		}
	}
	return out, nil
}

func (s *Store) runsByID(ctx context.Context, ids []int64, columns string, scan func(rows) (release.Run, error)) ([]release.Run, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	condition, list := s.db.oneOf("id", 1, ids)
	rs, err := s.db.query(ctx, "SELECT "+columns+" FROM runs WHERE "+condition, list)
	if err != nil {
		return nil, err
	}
	return collect(rs, scan)
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
