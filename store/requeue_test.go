package store_test

import (
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// TestReplanEndsAndQueuesOrNeither holds that a run whose end is unknown is
// settled only together with the run that takes its place.
func TestReplanEndsAndQueuesOrNeither(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		const tag = "dev_us-east-1/research/1.0"
		id := admit(t, s, tag)
		start(t, s, id)
		update(t, s, id, release.Unknown)
		sight := func(object string) {
			t.Helper()
			if err := s.RecordSight(t.Context(), store.Sight{Repository: "infra", Tag: tag, ObjectID: object, Commit: object}); err != nil {
				t.Fatal(err)
			}
		}
		settle := store.Update{Entry: audit.Entry{Actor: "waymark", Action: "run.resolved"}, Change: to(release.Failed)}
		sight("elsewhere")
		before := actions(t, s)
		if _, _, err := s.Replan(t.Context(), id, settle, audit.Entry{Action: "run.retried"}, store.Admission{}); !errors.Is(err, release.ErrRefused) {
			t.Errorf("a replan of a tag that moved: %v", err)
		}
		if r, _ := s.Run(t.Context(), id); r.State != release.Unknown || !slices.Equal(actions(t, s), before) {
			t.Errorf("a replan that is refused left the run %s, and the log %v", r.State, actions(t, s))
		}
		sight("obj-" + tag)
		ended, next, err := s.Replan(t.Context(), id, settle, audit.Entry{Actor: "waymark", Action: "run.retried"}, store.Admission{})
		if err != nil || ended.ID != id || ended.State != release.Failed || next.State != release.Queued || next.CreatedBy != "waymark" || next.Tag != tag {
			t.Errorf("replan: %+v, %+v, %v", ended, next, err)
		}
		if got := actions(t, s); !slices.Equal(got[len(got)-2:], []string{"run.resolved", "run.retried"}) {
			t.Errorf("entries %v", got)
		}
	})
}

// TestEvidenceIsKeptWithItsRun writes what can be told of a run and reads it back.
func TestEvidenceIsKeptWithItsRun(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		id := admit(t, s, "dev_us-east-1/research/1.0")
		if r, err := s.Record(t.Context(), id); err != nil || r.Evidence != nil || r.StateBefore != nil || r.PushedBy != "" {
			t.Errorf("before there is any: %+v, %v", r, err)
		}
		mark := &release.StateMark{Serial: 7, Lineage: "x"}
		want := &release.Evidence{GatheredAt: time.UnixMilli(5).UTC(), Instance: "a", Runner: release.RunnerDied, EventsEnd: release.StageRunning,
			Lock: release.LockEvidence{Held: true, ID: "1", Ours: true}, State: release.StateEvidence{Before: mark}, Kept: mark, ErroredState: true, Unread: []string{"state"}}
		if _, err := s.Update(t.Context(), id, store.Update{Change: func(r *store.Record) error {
			r.Evidence, r.StateBefore, r.PushedBy = want, mark, "ann"
			return nil
		}}); err != nil {
			t.Fatal(err)
		}
		r, err := s.Record(t.Context(), id)
		if err != nil || !reflect.DeepEqual(r.Evidence, want) || *r.StateBefore != *mark || r.PushedBy != "ann" {
			t.Errorf("read back: %+v, %v", r, err)
		}
	})
}
