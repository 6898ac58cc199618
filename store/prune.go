package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
)

// Clock is the time by which what is old is judged: that of the database, where
// replicas share one.
func (s *Store) Clock(ctx context.Context) (time.Time, error) {
	var now int64
	if err := s.db.row(ctx, "SELECT "+s.db.clock()).Scan(&now); err != nil {
		return time.Time{}, fmt.Errorf("asking the database for the time: %w", err)
	}
	return fromMillis(now), nil
}

// pruneBatch bounds what one transaction forgets.
const pruneBatch = 500

// Prune forgets runs that ended before a moment, with their plans and findings:
// the oldest first, one bounded batch with an audit entry of its own. It returns
// how many there were; call it again until that is 0, when kept results of gates
// that are as old are dropped too. What it never forgets is
// the deployed and the newest run of a target, where only runs count that may
// change it, a run that is unknown, releases,
// and the audit log.
func (s *Store) Prune(ctx context.Context, before time.Time) (forgotten int, err error) {
	if before.IsZero() {
		return 0, fmt.Errorf("%w moment to forget runs before: it is not set", release.ErrInvalid)
	}
	err = s.db.inTx(ctx, func(t tx) error {
		rs, err := t.query(ctx, `SELECT id FROM runs r
			WHERE state NOT IN ('queued', 'running', 'awaiting_approval', 'unknown')
			AND finished_at > 0 AND finished_at < $1
			AND EXISTS (SELECT 1 FROM runs n WHERE n.env = r.env AND n.scope = r.scope AND n.team = r.team AND n.id > r.id
				AND (n.`+changing+` OR r.kind IN ('plan', 'drift')))
			AND NOT EXISTS (SELECT 1 FROM targets t WHERE t.env = r.env AND t.scope = r.scope AND t.team = r.team AND t.deployed_run_id = r.id)
			ORDER BY finished_at, id LIMIT $2`, millis(before), pruneBatch)
		if err != nil {
			return fmt.Errorf("looking for runs to forget: %w", err)
		}
		ids, err := collect(rs, func(r rows) (id int64, err error) { return id, r.Scan(&id) })
		if err != nil {
			return fmt.Errorf("looking for runs to forget: %w", err)
		}
		// Of two instances that forget at once each row goes for one of them.
		gone := make([]string, 0, len(ids))
		for _, id := range ids {
			n, err := t.exec(ctx, "DELETE FROM runs WHERE id = $1", id)
			if err == nil {
				_, err = t.exec(ctx, "DELETE FROM run_details WHERE run_id = $1", id)
			}
			if err != nil {
				return fmt.Errorf("forgetting run %d: %w", id, err)
			}
			if n == 1 {
				gone = append(gone, release.FormatID(id))
			}
		}
		if forgotten = len(gone); forgotten == 0 {
			return nil
		}
		return s.appendEntries(ctx, t, audit.Entry{Action: "runs.forgotten", Reason: "they are older than the configured retention",
			Details: map[string]any{"runs": strings.Join(gone, " "), "ended_before": before.UTC().Format(time.RFC3339)}})
	})
	if err == nil && forgotten == 0 {
		_, err = s.db.exec(ctx, "DELETE FROM gate_results WHERE created_at < $1", millis(before)) // they are made anew
	}
	return forgotten, err
}
