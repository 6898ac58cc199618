package store

import (
	"context"
	"fmt"

	"github.com/waymark-cd/waymark/release"
)

// InHand counts the running runs in the hand of each instance, by its id, also
// of one that is dead or has left. An instance without any is not in the map.
func (s *Store) InHand(ctx context.Context) (map[string]int, error) {
	rs, err := s.db.query(ctx, "SELECT worker, count(*) FROM runs WHERE state = $1 AND worker <> '' GROUP BY worker", string(release.Running))
	if err != nil {
		return nil, fmt.Errorf("counting runs in hand: %w", err)
	}
	type held struct {
		worker string
		runs   int
	}
	all, err := collect(rs, func(r rows) (h held, err error) { return h, r.Scan(&h.worker, &h.runs) })
	if err != nil {
		return nil, fmt.Errorf("counting runs in hand: %w", err)
	}
	out := make(map[string]int, len(all))
	for _, h := range all {
		out[h.worker] = h.runs
	}
	return out, nil
}
