package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
)

// Instance is one process of the service that uses this database. Its times are
// of the database's clock.
type Instance struct {
	ID           string // the same after a restart; of no other process
	Name         string // as people call it
	Host         string
	Pool         string // whose runs it serves as a worker
	Roles        []string
	Version      string
	ConfigDigest string
	StartedAt    time.Time     // when it joined last
	BeatAt       time.Time     // its last sign of life
	Age          time.Duration // since BeatAt
	Draining     bool          // takes no new work
	StoppedAt    time.Time     // when it left; zero while it is expected to beat
}

// forgetAfter is how long an instance that left or died stays on record.
const forgetAfter = time.Hour

// alive is the condition for the instance i to be alive: it has neither left
// nor been without a beat for as many milliseconds as the parameter dead says.
// An instance that is not on record is as dead as one that has left.
func alive(q querier, dead string) string {
	return "i.stopped_at = 0 AND i.beat_at > " + q.clock() + " - " + dead
}

// Join puts an instance on record, beating and not draining; one of the same id
// is replaced. It comes before any Work under that id. The times of i are not
// looked at. Without an id it is release.ErrInvalid.
func (s *Store) Join(ctx context.Context, i Instance) error {
	if i.ID == "" {
		return fmt.Errorf("%w instance: it has no id", release.ErrInvalid)
	}
	now := s.db.clock()
	_, err := s.db.exec(ctx, `INSERT INTO instances (id, name, host, pool, roles, version, config_digest,
			started_at, beat_at, draining, stopped_at) VALUES ($1, $2, $3, $4, $5, $6, $7, `+now+`, `+now+`, 0, 0)
		ON CONFLICT (id) DO UPDATE SET name = $2, host = $3, pool = $4, roles = $5, version = $6, config_digest = $7,
			started_at = `+now+`, beat_at = `+now+`, draining = 0, stopped_at = 0`,
		i.ID, i.Name, i.Host, i.Pool, strings.Join(i.Roles, ","), i.Version, i.ConfigDigest)
	if err != nil {
		return fmt.Errorf("joining as instance %q: %w", i.ID, err)
	}
	return nil
}

// Beat is an instance's sign of life, and tells it whether it is to drain. An
// instance that has left, or was declared dead and forgotten, is
// release.ErrNotFound and joins again. A beat after a silence brings back no run
// that another has taken: Take and the run's Epoch tell.
func (s *Store) Beat(ctx context.Context, id string) (draining bool, err error) {
	var drains int64
	err = s.db.row(ctx, "UPDATE instances SET beat_at = "+s.db.clock()+" WHERE id = $1 AND stopped_at = 0 RETURNING draining", id).Scan(&drains)
	if noRows(err) {
		return false, fmt.Errorf("instance %q: %w: it must join first", id, release.ErrNotFound)
	}
	if err != nil {
		return false, fmt.Errorf("beating for instance %q: %w", id, err)
	}
	return drains == 1, nil
}

// Leave says that an instance stops for good: whatever it still has in hand can
// be taken at once. One that stops over an apply that its next process is to
// find again must not leave, but only stop beating. Leaving twice, or unknown,
// is no error.
func (s *Store) Leave(ctx context.Context, id string) error {
	if _, err := s.db.exec(ctx, "UPDATE instances SET stopped_at = "+s.db.clock()+" WHERE id = $1 AND stopped_at = 0", id); err != nil {
		return fmt.Errorf("leaving as instance %q: %w", id, err)
	}
	return nil
}

// Instances lists every instance on record by name and id, also those that are
// dead by their Age or have left, until Sweep forgets them.
func (s *Store) Instances(ctx context.Context) ([]Instance, error) {
	now := s.db.clock()
	rs, err := s.db.query(ctx, `SELECT id, name, host, pool, roles, version, config_digest, started_at, beat_at,
		`+now+` - beat_at, draining, stopped_at FROM instances ORDER BY name, id`)
	if err != nil {
		return nil, fmt.Errorf("listing instances: %w", err)
	}
	all, err := collect(rs, func(r rows) (Instance, error) {
		var i Instance
		var roles string
		var started, beat, age, drains, stopped int64
		err := r.Scan(&i.ID, &i.Name, &i.Host, &i.Pool, &roles, &i.Version, &i.ConfigDigest, &started, &beat, &age, &drains, &stopped)
		if roles != "" {
			i.Roles = strings.Split(roles, ",")
		}
		i.StartedAt, i.BeatAt, i.StoppedAt = fromMillis(started), fromMillis(beat), fromMillis(stopped)
		i.Age, i.Draining = time.Duration(max(age, 0))*time.Millisecond, drains == 1
		return i, err
	})
	if err != nil {
		return nil, fmt.Errorf("listing instances: %w", err)
	}
	return all, nil
}

// SetDraining tells an instance, at its next beat, to take no new work, or to
// take work again. The entry's details get the instance's id. One that is not on
// record or has left is release.ErrNotFound.
func (s *Store) SetDraining(ctx context.Context, id string, draining bool, entry audit.Entry) error {
	drains := 0
	if draining {
		drains = 1
	}
	return s.db.inTx(ctx, func(t tx) error {
		n, err := t.exec(ctx, "UPDATE instances SET draining = $2 WHERE id = $1 AND stopped_at = 0", id, drains)
		if err != nil {
			return fmt.Errorf("draining instance %q: %w", id, err)
		}
		if n == 0 {
			return fmt.Errorf("instance %q: %w: it never joined or has left", id, release.ErrNotFound)
		}
		entry.Details = withDetail(entry.Details, "instance", id)
		return s.appendEntries(ctx, t, entry)
	})
}

// giveUpDead deletes the calls that dead instances were answering, which would
// otherwise count as being answered for ever, and forgets whoever is long gone.
func giveUpDead(ctx context.Context, t tx, dead time.Duration) error {
	if _, err := t.exec(ctx, "DELETE FROM river_job WHERE kind = 'run' AND state = 'running' AND NOT EXISTS (SELECT 1 FROM instances i WHERE i.id = "+
		t.answeredBy()+" AND "+alive(t, "$1")+")", dead.Milliseconds()); err != nil {
		return fmt.Errorf("giving up the calls of dead instances: %w", err)
	}
	if _, err := t.exec(ctx, "DELETE FROM instances WHERE beat_at < "+t.clock()+" - $1",
		max(forgetAfter, 2*dead).Milliseconds()); err != nil {
		return fmt.Errorf("forgetting dead instances: %w", err)
	}
	return nil
}
