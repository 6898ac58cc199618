package store

import (
	"context"
	"fmt"
)

// Expired lists the runs, by id, that wait with a plan which may no longer be
// approved and applied, by the database's clock.
func (s *Store) Expired(ctx context.Context) ([]int64, error) {
	rs, err := s.db.query(ctx, `SELECT id FROM runs WHERE state = 'awaiting_approval' AND approve_by > 0
		AND approve_by <= `+s.db.clock()+` ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("looking for plans that nobody approved in time: %w", err)
	}
	return collect(rs, func(r rows) (id int64, err error) { return id, r.Scan(&id) })
}
