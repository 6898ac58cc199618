package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
)

// Record is a run with what only the service needs to know of it.
type Record struct {
	release.Run
	ObjectID string
	// RunnerDir is the folder of the runner that is at work, relative to the
	// data folder; empty where none was started.
	RunnerDir string
	// Applying: the apply was recorded as begun, so that a runner that is gone
	// without a result leaves the run unknown.
	Applying bool
	// PlanKey opens the saved plan. It never leaves the service but to the runner.
	PlanKey string
	// CancelledBy is who asked that the run stop, while it has not stopped yet.
	CancelledBy string
	// LockOwner is how the run's engine names itself in a state's lock,
	// user@host; empty before the first was started.
	LockOwner string
	// Worker is the instance that has the run in hand, or had when it ended;
	// empty while the run waits for its turn or for people. Start, Take and
	// HandBack alone change it.
	Worker string
	// Epoch rises whenever the run changes hands. Whoever knows a lower one has
	// lost the run and must write nothing of it any more.
	Epoch int64
	// RanOn is the instance on which the last runner was started.
	RanOn string
	// HandedBack counts the attempts that ended without a fault of the run.
	HandedBack int
	// StateBefore is the state just before the apply began; nil where it was not
	// read.
	StateBefore *release.StateMark
	// StateAfter is the state just after the apply ended, for the entry that tells
	// of the end; it is not stored with the run.
	StateAfter *release.StateMark
	// PushedBy is who asked that the state which the run's apply left be pushed;
	// empty otherwise.
	PushedBy string
	// Pool names the workers that may have the run.
	Pool string
	// ConfigDigest names the configuration that the run was admitted under.
	ConfigDigest string
}

// runColumns names what scanRun reads, in its order.
const runColumns = `id, kind, repository, release_id, tag, version, object_id, commit_id, env, scope, team, account,
	state, stages, changes, findings, reason, attempt, runner_dir, applying, plan_digest, plan_key,
	approvals_required, approvals, outputs, cancelled_by, created_by, created_at, started_at, finished_at, lock_owner,
	worker, epoch, handed_back, pool, config_digest, ran_on, state_before, evidence, pushed_by,
	requirements, approve_by, wait_until, overridden_by, soft_gates, ref`

func scanRun(sc scanner) (Record, error) {
	var r Record
	var stages, changes, findings, approvals, outputs, before, evidence, requirements, soft string
	var applying, created, started, finished, approveBy, waitUntil int64
	err := sc.Scan(&r.ID, &r.Kind, &r.Repository, &r.ReleaseID, &r.Tag, &r.Version, &r.ObjectID, &r.Commit,
		&r.Target.Env, &r.Target.Scope, &r.Target.Team, &r.Account, &r.State, &stages, &changes, &findings,
		&r.Reason, &r.Attempt, &r.RunnerDir, &applying, &r.PlanDigest, &r.PlanKey,
		&r.ApprovalsRequired, &approvals, &outputs, &r.CancelledBy, &r.CreatedBy, &created, &started, &finished, &r.LockOwner,
		&r.Worker, &r.Epoch, &r.HandedBack, &r.Pool, &r.ConfigDigest, &r.RanOn, &before, &evidence, &r.PushedBy,
		&requirements, &approveBy, &waitUntil, &r.OverriddenBy, &soft, &r.Ref)
	if err != nil {
		return Record{}, err
	}
	r.Applying = applying == 1
	r.CreatedAt, r.StartedAt, r.FinishedAt = fromMillis(created), fromMillis(started), fromMillis(finished)
	r.ApproveBy, r.WaitUntil = fromMillis(approveBy), fromMillis(waitUntil)
	if r.Stages, err = decodeStages(stages); err != nil {
		return Record{}, fmt.Errorf("reading run %d: %w", r.ID, err)
	}
	if n, ok := readCounts(changes, [3]string{"add", "change", "destroy"}); ok {
		r.Changes, changes = release.Changes{Add: n[0], Change: n[1], Destroy: n[2]}, "null"
	}
	if n, ok := readCounts(findings, [3]string{"error", "warning", "notice"}); ok {
		r.Findings, findings = release.FindingCount{Error: n[0], Warning: n[1], Notice: n[2]}, "null"
	}
	for _, f := range []struct {
		text string
		into any
	}{{changes, &r.Changes}, {findings, &r.Findings}, {approvals, &r.Approvals}, {outputs, &r.Outputs},
		{before, &r.StateBefore}, {evidence, &r.Evidence}, {requirements, &r.Requirements}, {soft, &r.SoftGates}} {
		if f.text == "null" || f.text == "{}" {
			continue // as most are
		}
		if err := json.Unmarshal([]byte(f.text), f.into); err != nil {
			return Record{}, fmt.Errorf("reading run %d: %w", r.ID, err)
		}
	}
	return r, nil
}

// jsonText encodes values of ours, which always encode.
func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encoding %T: %v", v, err))
	}
	return string(b)
}

// Run returns one run, or release.ErrNotFound.
func (s *Store) Run(ctx context.Context, id int64) (release.Run, error) {
	r, err := s.Record(ctx, id)
	return r.Run, err
}

// Record returns one run with what only the service knows, or release.ErrNotFound.
func (s *Store) Record(ctx context.Context, id int64) (Record, error) {
	return readRun(ctx, s.db, id, "")
}

func readRun(ctx context.Context, q querier, id int64, lock string) (Record, error) {
	r, err := scanRun(q.row(ctx, "SELECT "+runColumns+" FROM runs WHERE id = $1"+lock, id))
	if noRows(err) {
		return Record{}, fmt.Errorf("run %d: %w", id, release.ErrNotFound)
	}
	if err != nil {
		return Record{}, fmt.Errorf("reading run %d: %w", id, err)
	}
	return r, nil
}

// RunFilter selects runs; zero fields select all.
type RunFilter struct {
	Target *release.Target
	State  release.State
	Kind   release.Kind
	Within []Scope // nil: everywhere
	Limit  int     // 50 by default, 500 at most
	Cursor string  // as returned by the page before
}

// Runs returns a page of runs, newest first, and the cursor of the next page,
// empty at the end. A cursor that was not ours is release.ErrInvalid.
func (s *Store) Runs(ctx context.Context, f RunFilter) ([]release.Run, string, error) {
	var w where
	if f.State != "" {
		w.and("state =", string(f.State))
	}
	if f.Kind != "" {
		w.and("kind =", string(f.Kind))
	}
	limit, err := w.page(f.Cursor, f.Limit)
	if err != nil {
		return nil, "", err
	}
	rs, err := s.newest(ctx, "runs", runColumns, w, f.Target, f.Within, limit)
	if err != nil {
		return nil, "", fmt.Errorf("listing runs: %w", err)
	}
	runs, err := collect(rs, func(r rows) (release.Run, error) { rec, err := scanRun(r); return rec.Run, err })
	if err != nil {
		return nil, "", fmt.Errorf("listing runs: %w", err)
	}
	return trim(runs, w.limit, func(r release.Run) int64 { return r.ID })
}

// where builds the condition of a listing.
type where struct {
	terms []string
	args  []any
	limit int
}

func (w *where) and(term string, arg any) {
	w.args = append(w.args, arg)
	w.terms = append(w.terms, fmt.Sprintf("%s $%d", term, len(w.args)))
}

func (w *where) target(t *release.Target) {
	if t == nil {
		return
	}
	w.and("env =", t.Env)
	w.and("scope =", t.Scope)
	w.and("team =", t.Team)
}

// page adds the cursor and returns the LIMIT clause: one row more than asked
// for, which tells whether there is a next page.
func (w *where) page(cursor string, limit int) (string, error) {
	if cursor != "" {
		before, err := strconv.ParseInt(cursor, 10, 64)
		if err != nil {
			return "", fmt.Errorf("%w cursor %q: pass the value of \"next\" as it was returned", release.ErrInvalid, cursor)
		}
		w.and("id <", before)
	}
	if limit <= 0 {
		limit = 50
	}
	w.limit = min(limit, 500)
	return fmt.Sprintf(" LIMIT %d", w.limit+1), nil
}

func (w *where) String() string {
	if len(w.terms) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.terms, " AND ")
}

// trim cuts the extra row off and makes the next page's cursor.
func trim[T any](all []T, limit int, id func(T) int64) ([]T, string, error) {
	if len(all) <= limit {
		return all, "", nil
	}
	return all[:limit], strconv.FormatInt(id(all[limit-1]), 10), nil
}

// Update is one change of a run, with the audit entry that tells of it.
type Update struct {
	// Entry's target, run, tag, object id and commit are filled in. Without an
	// Action nothing is logged: progress of a stage is no decision.
	Entry audit.Entry
	// Change edits the run; an error undoes everything and is returned as it is.
	Change func(*Record) error
	// Plan and Findings, where set, are kept beside the run.
	Plan     *release.PlanSummary
	Findings []release.Finding
	// Reports, where set, are kept beside the run too, by gate.
	Reports map[string]release.Report
	// Content, where set, is what the target's state has now.
	Content *release.StateContent
	// Gates are fresh results to keep, by key.
	Gates map[string]release.GateResult
	// Wake makes a call so that the run goes on.
	Wake bool
}

// Update changes a run in one transaction: the step between states is checked
// by release.Transition, whoever waited for the target is woken when the run
// lets go of it, and a deploy or rollback that succeeded becomes its target's
// deployed run; after a destroy there is none.
func (s *Store) Update(ctx context.Context, id int64, u Update) (after Record, err error) {
	err = s.db.inTx(ctx, func(t tx) error {
		after, err = s.update(ctx, t, id, u)
		return err
	})
	return after, err
}

func (s *Store) update(ctx context.Context, t tx, id int64, u Update) (Record, error) {
	r, err := lockRun(ctx, t, id)
	if err != nil {
		return Record{}, err
	}
	before := r
	if err := u.Change(&r); err != nil {
		return Record{}, err
	}
	if r.State != before.State {
		if _, err := release.Transition(before.State, r.State); err != nil {
			return Record{}, fmt.Errorf("run %d: %w", id, err)
		}
	}
	if err := s.writeRun(ctx, t, &r, before.State); err != nil {
		return Record{}, err
	}
	if err := s.keepDetails(ctx, t, id, u); err != nil {
		return Record{}, err
	}
	if err := s.keepContent(ctx, t, r, u.Content); err != nil {
		return Record{}, err
	}
	if err := afterChange(ctx, t, before, r); err != nil {
		return Record{}, err
	}
	if u.Wake {
		if err := wake(ctx, t, id, r.Pool); err != nil {
			return Record{}, err
		}
	}
	if u.Entry.Action == "" {
		return r, nil
	}
	return r, s.appendEntries(ctx, t, aboutRun(u.Entry, r))
}

// lockRun locks the run's target and the run, in this order everywhere.
func lockRun(ctx context.Context, t tx, id int64) (Record, error) {
	r, err := readRun(ctx, t, id, "")
	if err != nil {
		return Record{}, err
	}
	if err := lockTarget(ctx, t, r.Target); err != nil {
		return Record{}, err
	}
	return readRun(ctx, t, id, t.lock())
}

// lockTarget locks the rows that decide whether target may start: the global
// one of its environment and team first.
func lockTarget(ctx context.Context, t tx, target release.Target) error {
	for _, scope := range []string{release.Global, target.Scope} {
		var one int
		err := t.row(ctx, "SELECT 1 FROM targets WHERE env = $1 AND scope = $2 AND team = $3"+t.lock(),
			target.Env, scope, target.Team).Scan(&one)
		if err != nil && !noRows(err) {
			return fmt.Errorf("locking target %s: %w", target, err)
		}
		if target.IsGlobal() {
			break
		}
	}
	return nil
}

// writeRun stores the fields that may change. A run that waits, for its turn or
// for people, is in nobody's hand from then on.
func (s *Store) writeRun(ctx context.Context, t tx, r *Record, before release.State) error {
	if r.State.Ended() && !before.Ended() && r.FinishedAt.IsZero() {
		r.FinishedAt = s.now().UTC().Truncate(time.Millisecond)
	}
	if r.Worker != "" && (r.State == release.Queued || r.State == release.AwaitingApproval) {
		r.letGo()
	}
	t.tellRun(r.ID)
	s.hideRun(r)
	applying := 0
	if r.Applying {
		applying = 1
	}
	_, err := t.exec(ctx, `UPDATE runs SET state = $2, stages = $3, changes = $4, findings = $5, reason = $6, attempt = $7,
		runner_dir = $8, applying = $9, plan_digest = $10, plan_key = $11, approvals_required = $12, approvals = $13,
		outputs = $14, cancelled_by = $15, started_at = $16, finished_at = $17, account = $18, lock_owner = $19,
		worker = $20, epoch = $21, handed_back = $22, ran_on = $23,
		state_before = $24, evidence = $25, pushed_by = $26,
		requirements = $27, approve_by = $28, wait_until = $29, overridden_by = $30, soft_gates = $31 WHERE id = $1`,
		r.ID, string(r.State), jsonText(r.Stages), jsonText(r.Changes), jsonText(r.Findings), r.Reason, r.Attempt,
		r.RunnerDir, applying, r.PlanDigest, r.PlanKey, r.ApprovalsRequired, jsonText(r.Approvals),
		jsonText(r.Outputs), r.CancelledBy, millis(r.StartedAt), millis(r.FinishedAt), r.Account, r.LockOwner,
		r.Worker, r.Epoch, r.HandedBack, r.RanOn, jsonText(r.StateBefore), jsonText(r.Evidence), r.PushedBy,
		jsonText(r.Requirements), millis(r.ApproveBy), millis(r.WaitUntil), r.OverriddenBy, jsonText(r.SoftGates))
	if uniqueViolation(err) {
		return fmt.Errorf("run %d: %w: another run holds %s", r.ID, release.ErrConflict, r.Target)
	}
	if err != nil {
		return fmt.Errorf("writing run %d: %w", r.ID, err)
	}
	return nil
}

func (s *Store) keepDetails(ctx context.Context, t tx, id int64, u Update) error {
	for key, result := range u.Gates {
		if _, err := t.exec(ctx, `INSERT INTO gate_results (key, result, created_at) VALUES ($1, $2, $3)
			ON CONFLICT (key) DO NOTHING`, key, jsonText(result), millis(s.now())); err != nil {
			return fmt.Errorf("keeping a gate's result: %w", err)
		}
	}
	for column, v := range map[string]any{"plan": u.Plan, "findings": u.Findings, "reports": u.Reports} {
		text := jsonText(v)
		if text == "null" {
			continue
		}
		if _, err := t.exec(ctx, `INSERT INTO run_details (run_id, plan, findings) VALUES ($1, '', '')
			ON CONFLICT (run_id) DO NOTHING`, id); err != nil {
			return fmt.Errorf("keeping the %s of run %d: %w", column, id, err)
		}
		if _, err := t.exec(ctx, "UPDATE run_details SET "+column+" = $2 WHERE run_id = $1", id, text); err != nil {
			return fmt.Errorf("keeping the %s of run %d: %w", column, id, err)
		}
	}
	return nil
}

// afterChange does what follows from a run's new state.
func afterChange(ctx context.Context, t tx, before, after Record) error {
	if after.State == release.Succeeded && before.State != release.Succeeded &&
		(after.Kind == release.Deploy || after.Kind == release.Rollback) {
		if _, err := t.exec(ctx, `UPDATE targets SET deployed_run_id = $4, account = $5 WHERE env = $1 AND scope = $2 AND team = $3`,
			after.Target.Env, after.Target.Scope, after.Target.Team, after.ID, after.Account); err != nil {
			return fmt.Errorf("recording what is deployed to %s: %w", after.Target, err)
		}
	}
	if after.State == release.Succeeded && before.State != release.Succeeded && after.Kind == release.Destroy {
		if _, err := t.exec(ctx, "UPDATE targets SET deployed_run_id = 0 WHERE env = $1 AND scope = $2 AND team = $3",
			after.Target.Env, after.Target.Scope, after.Target.Team); err != nil {
			return fmt.Errorf("recording that nothing is deployed to %s: %w", after.Target, err)
		}
	}
	if !after.Kind.ChangesTarget() {
		return nil // nobody waited for it
	}
	let := before.State.HoldsTarget() && !after.State.HoldsTarget()
	left := before.State == release.Queued && after.State.Ended()
	if let || left {
		return wakeAfter(ctx, t, after.Target)
	}
	return nil
}

// aboutRun fills in what an entry says of its run.
func aboutRun(e audit.Entry, r Record) audit.Entry {
	e.Repository, e.Target, e.RunID = r.Repository, r.Target.String(), r.ID
	e.Tag, e.ObjectID, e.Commit = r.Tag, r.ObjectID, r.Commit
	return e
}

// Findings returns what gates and policies reported of a run.
func (s *Store) Findings(ctx context.Context, runID int64) ([]release.Finding, error) {
	var out []release.Finding
	err := s.details(ctx, runID, "findings", &out)
	return out, err
}

// Reports returns the reports that gates wrote of a run, by gate; none where they
// wrote none.
func (s *Store) Reports(ctx context.Context, runID int64) (map[string]release.Report, error) {
	out := map[string]release.Report{}
	err := s.details(ctx, runID, "reports", &out)
	return out, err
}

// Plan returns the masked summary of a run's plan, or release.ErrNotFound
// where the run has none (yet).
func (s *Store) Plan(ctx context.Context, runID int64) (release.PlanSummary, error) {
	var out *release.PlanSummary
	if err := s.details(ctx, runID, "plan", &out); err != nil {
		return release.PlanSummary{}, err
	}
	if out == nil {
		return release.PlanSummary{}, fmt.Errorf("run %d has no plan: %w", runID, release.ErrNotFound)
	}
	return *out, nil
}

func (s *Store) details(ctx context.Context, runID int64, column string, into any) error {
	if _, err := s.Record(ctx, runID); err != nil {
		return err
	}
	var text string
	err := s.db.row(ctx, "SELECT "+column+" FROM run_details WHERE run_id = $1", runID).Scan(&text)
	if noRows(err) || (err == nil && text == "") {
		return nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), into)
	}
	if err != nil {
		return fmt.Errorf("reading the %s of run %d: %w", column, runID, err)
	}
	return nil
}

// GateResults returns the kept results among keys.
func (s *Store) GateResults(ctx context.Context, keys ...string) (map[string]release.GateResult, error) {
	out := map[string]release.GateResult{}
	for _, key := range keys {
		var text string
		err := s.db.row(ctx, "SELECT result FROM gate_results WHERE key = $1", key).Scan(&text)
		if noRows(err) {
			continue
		}
		var g release.GateResult
		if err == nil {
			err = json.Unmarshal([]byte(text), &g)
		}
		if err != nil {
			return nil, fmt.Errorf("reading a gate's kept result: %w", err)
		}
		out[key] = g
	}
	return out, nil
}
