package reconciler

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"

	"github.com/waymark-cd/waymark/release"
)

// What was wrong with the database is forgotten when nobody waits for it any
// more: an instance that was at it when it lost the lead is ready again.
func TestTroubleEndsWithItsWaiting(t *testing.T) {
	away := errors.New("the database is away")
	for name, end := range map[string]func(context.CancelFunc) error{
		"it answers":       func(context.CancelFunc) error { return nil },
		"it decides":       func(context.CancelFunc) error { return release.ErrConflict },
		"the waiting ends": func(cancel context.CancelFunc) error { cancel(); return away },
	} {
		t.Run(name, func(t *testing.T) {
			r := &Reconciler{trouble: map[string]error{}, log: slog.New(slog.NewTextHandler(io.Discard, nil))}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			calls := 0
			err := r.persist(ctx, "a test's write", func() error {
				if calls++; calls == 1 {
					return away
				}
				if !errors.Is(r.trouble["database"], away) {
					t.Errorf("while it waits: %v", r.trouble["database"])
				}
				return end(cancel)
			})
			if calls != 2 || r.trouble["database"] != nil {
				t.Errorf("after %d calls, %v: %v", calls, err, r.trouble["database"])
			}
		})
	}
}
