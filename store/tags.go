package store

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
)

// Ref is what the record knows of one tag of a repository.
type Ref struct {
	PinnedID string // the object id under which the tag was first seen
	SeenID   string // the object id that the remote showed last; empty when gone
}

// Refs returns every tag that the repository has ever shown, by name.
func (s *Store) Refs(ctx context.Context, repository string) (map[string]Ref, error) {
	rs, err := s.db.query(ctx, "SELECT name, pinned_id, seen_id FROM tag_refs WHERE repository = $1", repository)
	if err != nil {
		return nil, fmt.Errorf("reading the tags of %s: %w", repository, err)
	}
	defer rs.Close()
	out := map[string]Ref{}
	for rs.Next() {
		var name string
		var ref Ref
		if err := rs.Scan(&name, &ref.PinnedID, &ref.SeenID); err != nil {
			return nil, fmt.Errorf("reading the tags of %s: %w", repository, err)
		}
		out[name] = ref
	}
	return out, rs.Err()
}

// Contacted reports whether the repository's tags were ever recorded.
func (s *Store) Contacted(ctx context.Context, repository string) (bool, error) {
	var at int64
	err := s.db.row(ctx, "SELECT first_contact_at FROM repositories WHERE name = $1", repository).Scan(&at)
	if noRows(err) {
		return false, nil
	}
	return err == nil, err
}

// batch is how many rows one INSERT of Adopt holds. SQLite's driver looks every
// parameter up among all of the statement's: with 500 rows, 100,000 tags held
// the database three times as long.
const batch = 40

// Adopt records the first contact with a repository: the tags that are there
// are pinned as adopted releases, in one transaction with one audit entry that
// carries their number and a digest over their names and object ids. Nothing
// runs for them. Adopting twice is release.ErrConflict.
func (s *Store) Adopt(ctx context.Context, repository, digest string, tags []release.Release) error {
	return s.db.inTx(ctx, func(t tx) error {
		now := millis(s.now())
		n, err := t.exec(ctx, "INSERT INTO repositories (name, first_contact_at) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING", repository, now)
		if err != nil {
			return fmt.Errorf("recording first contact with %s: %w", repository, err)
		}
		if n == 0 {
			return fmt.Errorf("%w: repository %s was adopted before", release.ErrConflict, repository)
		}
		for start := 0; start < len(tags); start += batch {
			if err := adoptBatch(ctx, t, repository, now, tags[start:min(start+batch, len(tags))]); err != nil {
				return fmt.Errorf("adopting the tags of %s: %w", repository, err)
			}
		}
		return s.appendEntries(ctx, t, audit.Entry{Action: "repository.adopted", Repository: repository,
			Reason:  "first contact: tags that were there are recorded, nothing runs for them",
			Details: map[string]any{"tags": len(tags), "digest": digest}})
	})
}

func adoptBatch(ctx context.Context, t tx, repository string, now int64, tags []release.Release) error {
	var refs, rels strings.Builder
	var refArgs, relArgs []any
	place := func(b *strings.Builder, args *[]any, values ...any) {
		for i, v := range values {
			sep := ", "
			if i == 0 {
				sep = "("
				if b.Len() > 0 {
					sep = ", ("
				}
			}
			*args = append(*args, v)
			fmt.Fprintf(b, "%s$%d", sep, len(*args))
		}
		b.WriteString(")")
	}
	for _, r := range tags {
		place(&refs, &refArgs, repository, r.Tag, r.ObjectID, r.ObjectID)
		place(&rels, &relArgs, repository, r.Tag, r.Target.Env, r.Target.Scope, r.Target.Team, r.Version, r.ObjectID,
			r.Commit, "", 0, "", "", now, string(release.Adopted), "there at first contact", "", "", "", "", "")
	}
	if _, err := t.exec(ctx, "INSERT INTO tag_refs (repository, name, pinned_id, seen_id) VALUES "+refs.String(), refArgs...); err != nil {
		return err
	}
	_, err := t.exec(ctx, "INSERT INTO releases ("+releaseFields+") VALUES "+rels.String(), relArgs...)
	return err
}

const releaseFields = `repository, tag, env, scope, team, version, object_id, commit_id,
	tagger, tagged_at, message, signature, seen_at, decision, reason, signer, signer_key, signer_kind,
	author, committer`

// TargetInfo is what the configuration says of a target.
type TargetInfo struct {
	Account string
	Region  string
	Backend BackendInfo
}

// BackendInfo says where a target's state lives.
type BackendInfo struct {
	Kind   string `json:"kind"`
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	Lock   string `json:"lock"`
}

// Admission is a tag at first sight and what was decided of it.
type Admission struct {
	Release release.Release // with Decision and Reason
	// Info, Approvals and Supersede are for an admitted one.
	Info      TargetInfo
	Approvals int
	// Requirements are what the environment and the tag's policies ask for before
	// the run may apply; Approvals is raised to the largest of them.
	Requirements []release.Requirement
	// Remarks are what policies say of the tag beside a denial, for the audit log.
	Remarks []string
	// Supersede ends runs of the target that are still queued.
	Supersede bool
	// Details are what the audit entry of an admitted tag says besides.
	Details map[string]any
	// Pool names the workers that may have the run; empty: release.DefaultPool.
	Pool string
	// ConfigDigest names the configuration that this was decided under.
	ConfigDigest string
}

// Admit records a tag at first sight and, where it is admitted, queues its run:
// release, run, job and audit entry in one transaction. A tag that is known
// already, perhaps recorded by another replica, is release.ErrConflict.
func (s *Store) Admit(ctx context.Context, a Admission) (rel release.Release, runID int64, err error) {
	rel = a.Release
	err = s.db.inTx(ctx, func(t tx) error {
		if _, err := t.exec(ctx, "INSERT INTO repositories (name, first_contact_at) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
			rel.Repository, millis(s.now())); err != nil {
			return err
		}
		n, err := t.exec(ctx, `INSERT INTO tag_refs (repository, name, pinned_id, seen_id) VALUES ($1, $2, $3, $3)
			ON CONFLICT (repository, name) DO NOTHING`, rel.Repository, rel.Tag, rel.ObjectID)
		if err != nil {
			return fmt.Errorf("recording tag %q: %w", rel.Tag, err)
		}
		if n == 0 {
			return fmt.Errorf("tag %q is recorded already: %w", rel.Tag, release.ErrConflict)
		}
		if rel.ID, err = s.insertRelease(ctx, t, &rel); err != nil {
			return err
		}
		if rel.Decision != release.Admitted {
			return s.appendEntries(ctx, t, aboutRelease("tag.refused", rel))
		}
		r := Record{ObjectID: rel.ObjectID, Run: release.Run{Kind: release.Deploy, Repository: rel.Repository,
			ReleaseID: rel.ID, Tag: rel.Tag, Version: rel.Version, Commit: rel.Commit, Target: rel.Target,
			Account: a.Info.Account, ApprovalsRequired: a.Approvals, Requirements: a.Requirements, CreatedBy: rel.Tagger},
			Pool: a.Pool, ConfigDigest: a.ConfigDigest}
		entry := aboutRelease("run.queued", rel)
		maps.Copy(entry.Details, a.Details)
		if len(a.Remarks) > 0 {
			entry.Details["policy"] = a.Remarks
		}
		runID, err = s.queueRun(ctx, t, r, a.Info, a.Supersede, entry)
		return err
	})
	return rel, runID, err
}

func aboutRelease(action string, r release.Release) audit.Entry {
	e := audit.Entry{Action: action, Repository: r.Repository, Tag: r.Tag, ObjectID: r.ObjectID,
		Commit: r.Commit, Reason: r.Reason, Details: map[string]any{"decision": string(r.Decision)}}
	if r.Target != (release.Target{}) {
		e.Target = r.Target.String()
	}
	if r.Tagger != "" {
		e.Details["tagger"] = r.Tagger
	}
	if r.SignedBy != (release.Signer{}) {
		e.Details["signer"], e.Details["key"] = r.SignedBy.Name, r.SignedBy.Key
	}
	return e
}

func (s *Store) insertRelease(ctx context.Context, t tx, r *release.Release) (id int64, err error) {
	if r.SeenAt.IsZero() {
		r.SeenAt = s.now().UTC().Truncate(time.Millisecond)
	}
	err = t.row(ctx, "INSERT INTO releases ("+releaseFields+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20) RETURNING id`,
		r.Repository, r.Tag, r.Target.Env, r.Target.Scope, r.Target.Team, r.Version, r.ObjectID, r.Commit,
		r.Tagger, millis(r.TaggedAt), s.hide(r.Message), r.Signature, millis(r.SeenAt), string(r.Decision), s.hide(r.Reason),
		r.SignedBy.Name, r.SignedBy.Key, r.SignedBy.Kind, r.Author, r.Committer).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("recording tag %q: %w", r.Tag, err)
	}
	return id, nil
}

// A pool's name is also that of its queue in the job engine.
var poolName = regexp.MustCompile(`^[a-z0-9]+([_-][a-z0-9]+)*$`)

const maxPoolName = 64

// queueRun writes a queued run, its entry and, where nothing is before it in
// its target's line, the call that wakes it.
func (s *Store) queueRun(ctx context.Context, t tx, r Record, info TargetInfo, supersede bool, entry audit.Entry) (int64, error) {
	if r.Pool == "" {
		r.Pool = release.DefaultPool
	}
	if !poolName.MatchString(r.Pool) || len(r.Pool) > maxPoolName {
		return 0, fmt.Errorf("%w pool %q: write lower-case letters and digits, with single hyphens or underscores between them, %d at most",
			release.ErrInvalid, r.Pool, maxPoolName)
	}
	if err := recordTarget(ctx, t, r, info); err != nil {
		return 0, err
	}
	if err := lockTarget(ctx, t, r.Target); err != nil {
		return 0, err
	}
	err := t.row(ctx, `INSERT INTO runs (kind, repository, release_id, tag, version, object_id, commit_id, env, scope, team,
			account, state, stages, changes, findings, reason, attempt, step, runner_dir, applying, plan_digest, plan_key,
			approvals_required, approvals, outputs, cancelled_by, created_by, created_at, started_at, finished_at,
			pool, config_digest, requirements, ref)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'queued', 'null', '{}', '{}', '', 0, 0, '', 0, '', '',
			$12, 'null', 'null', '', $13, $14, 0, 0, $15, $16, $17, $18) RETURNING id`,
		string(r.Kind), r.Repository, r.ReleaseID, r.Tag, r.Version, r.ObjectID, r.Commit, r.Target.Env, r.Target.Scope,
		r.Target.Team, info.Account, release.MostRequired(r.ApprovalsRequired, r.Requirements), r.CreatedBy, millis(s.now()), r.Pool, r.ConfigDigest,
		jsonText(r.Requirements), r.Ref).Scan(&r.ID)
	if err != nil {
		return 0, fmt.Errorf("queueing a run for %q: %w", r.Tag, err)
	}
	t.tellRun(r.ID)
	entries := []audit.Entry{aboutRun(entry, r)}
	if supersede {
		more, err := s.supersede(ctx, t, r)
		if err != nil {
			return 0, err
		}
		entries = append(entries, more...)
	}
	waits, err := waitsFor(ctx, t, r)
	if err != nil {
		return 0, err
	}
	if waits == "" {
		err = wake(ctx, t, r.ID, r.Pool)
	} else {
		_, err = t.exec(ctx, "UPDATE runs SET reason = $2 WHERE id = $1", r.ID, waits)
	}
	if err != nil {
		return 0, err
	}
	return r.ID, s.appendEntries(ctx, t, entries...)
}

// recordTarget puts the target of a run on the board. A run that changes nothing
// does not.
func recordTarget(ctx context.Context, t tx, r Record, info TargetInfo) error {
	if !r.Kind.ChangesTarget() {
		return nil
	}
	_, err := t.exec(ctx, `INSERT INTO targets (env, scope, team, account, region, backend) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (env, scope, team) DO UPDATE SET account = $4, region = $5, backend = $6`,
		r.Target.Env, r.Target.Scope, r.Target.Team, info.Account, info.Region, jsonText(info.Backend))
	if err != nil {
		return fmt.Errorf("recording target %s: %w", r.Target, err)
	}
	return nil
}

// supersede ends the deploys of the target that are queued before by.
func (s *Store) supersede(ctx context.Context, t tx, by Record) ([]audit.Entry, error) {
	rs, err := t.query(ctx, "SELECT "+runColumns+` FROM runs WHERE env = $1 AND scope = $2 AND team = $3
		AND state = 'queued' AND kind = 'deploy' AND id < $4 ORDER BY id`, by.Target.Env, by.Target.Scope, by.Target.Team, by.ID)
	if err != nil {
		return nil, fmt.Errorf("looking for runs to supersede: %w", err)
	}
	overtaken, err := collect(rs, func(r rows) (Record, error) { return scanRun(r) })
	if err != nil {
		return nil, err
	}
	var entries []audit.Entry
	for _, r := range overtaken {
		r.State = release.Superseded
		r.Reason = fmt.Sprintf("overtaken by run %d (%s) before it started", by.ID, by.Tag)
		if err := s.writeRun(ctx, t, &r, release.Queued); err != nil {
			return nil, err
		}
		entries = append(entries, aboutRun(audit.Entry{Action: "run.superseded", Reason: r.Reason,
			Details: map[string]any{"by": release.FormatID(by.ID)}}, r))
	}
	return entries, nil
}

// Sight is what the remote shows of a tag that is on record.
type Sight struct {
	Repository string
	Tag        string
	ObjectID   string // empty: the tag is gone
	Commit     string
	Target     release.Target // zero where the name is no deployment tag
	Version    string
}

// RecordSight records that a known tag moved, disappeared or came back. A move
// is a refused release of its own. Runs of the tag that have not begun to apply
// end: what they were queued for is no longer what the tag says.
func (s *Store) RecordSight(ctx context.Context, v Sight) error {
	return s.db.inTx(ctx, func(t tx) error {
		var ref Ref
		err := t.row(ctx, "SELECT pinned_id, seen_id FROM tag_refs WHERE repository = $1 AND name = $2"+t.lock(),
			v.Repository, v.Tag).Scan(&ref.PinnedID, &ref.SeenID)
		if err != nil {
			return fmt.Errorf("reading tag %q: %w", v.Tag, err)
		}
		if ref.SeenID == v.ObjectID {
			return nil // another replica recorded it
		}
		rel := release.Release{Repository: v.Repository, Tag: v.Tag, Target: v.Target, Version: v.Version,
			ObjectID: v.ObjectID, Commit: v.Commit, Decision: release.Refused}
		action := "tag.moved"
		switch v.ObjectID {
		case "":
			action = "tag.deleted"
			rel.ObjectID = ref.PinnedID
			rel.Reason = "the tag was deleted from the remote; what it released stays on record"
		case ref.PinnedID:
			action = "tag.restored"
			rel.Reason = "the tag is back at the object under which it was first seen; nothing runs for it"
		default:
			rel.Reason = fmt.Sprintf("the tag moved: it was first seen at %s and is at %s now; a release is never redefined, push a new version",
				short(ref.PinnedID), short(v.ObjectID))
			if rel.ID, err = s.insertRelease(ctx, t, &rel); err != nil {
				return err
			}
		}
		if _, err := t.exec(ctx, "UPDATE tag_refs SET seen_id = $3 WHERE repository = $1 AND name = $2",
			v.Repository, v.Tag, v.ObjectID); err != nil {
			return fmt.Errorf("recording tag %q: %w", v.Tag, err)
		}
		entries := []audit.Entry{aboutRelease(action, rel)}
		if action != "tag.restored" {
			more, err := s.stopWaiting(ctx, t, v, rel.Reason)
			if err != nil {
				return err
			}
			entries = append(entries, more...)
		}
		return s.appendEntries(ctx, t, entries...)
	})
}

func short(id string) string { return id[:min(len(id), 12)] }

// stopWaiting ends the runs of a tag that wait for their turn or for approval.
func (s *Store) stopWaiting(ctx context.Context, t tx, v Sight, reason string) ([]audit.Entry, error) {
	rs, err := t.query(ctx, "SELECT id FROM runs WHERE repository = $1 AND tag = $2 AND state IN ('queued', 'awaiting_approval') ORDER BY id",
		v.Repository, v.Tag)
	if err != nil {
		return nil, fmt.Errorf("looking for runs of tag %q: %w", v.Tag, err)
	}
	ids, err := collect(rs, func(r rows) (id int64, err error) { return id, r.Scan(&id) })
	if err != nil {
		return nil, err
	}
	var entries []audit.Entry
	for _, id := range ids {
		r, err := lockRun(ctx, t, id)
		if err != nil {
			return nil, err
		}
		before := r
		switch r.State {
		case release.Queued:
			r.State = release.Denied
		case release.AwaitingApproval:
			r.State = release.Cancelled
		default:
			continue
		}
		r.Reason, r.PlanKey = reason, ""
		if err := s.writeRun(ctx, t, &r, before.State); err != nil {
			return nil, err
		}
		if err := afterChange(ctx, t, before, r); err != nil {
			return nil, err
		}
		entries = append(entries, aboutRun(audit.Entry{Action: "run." + string(r.State), Reason: reason}, r))
	}
	return entries, nil
}
