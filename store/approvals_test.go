package store_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

var (
	ofEnvironment = release.Requirement{Count: 1, Why: "environment dev", Of: release.OfEnvironment}
	ofTag         = release.Requirement{Count: 2, From: []string{"group:release"}, Why: "policy hotfix"}
	ofPlan        = release.Requirement{Count: 3, Why: "policy destroys", Of: release.OfPlan}
)

func TestRequirementsGoWithWhatAskedForThem(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		id := admit(t, s, "dev_us-east-1/research/1.0", func(a *store.Admission) {
			a.Approvals, a.Requirements = 1, []release.Requirement{ofEnvironment, ofTag}
			a.Release.Author, a.Release.Committer = "Ada <ada@example.org>", "Bob <bob@example.org>"
		})
		want := func(what string, id int64, required int, all ...release.Requirement) release.Run {
			t.Helper()
			run, err := s.Run(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if run.ApprovalsRequired != required || !reflect.DeepEqual(run.Requirements, all) {
				t.Errorf("%s: %d required: %v", what, run.ApprovalsRequired, run.Requirements)
			}
			return run
		}
		run := want("admitted", id, 2, ofEnvironment, ofTag)
		rel, err := s.Release(t.Context(), run.ReleaseID)
		if err != nil || rel.Author != "Ada <ada@example.org>" || rel.Committer != "Bob <bob@example.org>" || rel.Tag != run.Tag {
			t.Errorf("release %+v: %v", rel, err)
		}
		if _, err := s.Release(t.Context(), 99); err == nil {
			t.Error("a release that is not there was found")
		}

		start(t, s, id)
		_, err = s.Update(t.Context(), id, store.Update{Entry: audit.Entry{Action: "run.planned"}, Change: func(r *store.Record) error {
			r.Requirements, r.ApprovalsRequired, r.PlanDigest = append(r.Requirements, ofPlan), 3, "sha256:1"
			r.Approvals, r.ApproveBy = []release.Approval{{Actor: "carol", PlanDigest: "sha256:1"}}, time.Now()
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		want("planned", id, 3, ofEnvironment, ofTag, ofPlan)
		update(t, s, id, release.Queued) // it starts over
		start(t, s, id)
		run = want("started over", id, 2, ofEnvironment, ofTag)
		if run.PlanDigest != "" || len(run.Approvals) > 0 || !run.ApproveBy.IsZero() {
			t.Errorf("of the plan that is gone there are left %q, %v, %s", run.PlanDigest, run.Approvals, run.ApproveBy)
		}

		update(t, s, id, release.Failed)
		fresh := ofEnvironment
		fresh.Count = 4
		run, err = s.Requeue(t.Context(), id, audit.Entry{Actor: "carol", Action: "run.retried"}, store.Admission{Approvals: 4, Requirements: []release.Requirement{fresh}})
		if err != nil {
			t.Fatal(err)
		}
		want("queued anew", run.ID, 4, fresh, ofTag)
	})
}

func TestExpiredListsPlansWhoseTimeIsOver(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		now, err := s.Clock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		waits := func(tag string, by time.Time, state release.State) int64 {
			id := admit(t, s, tag)
			start(t, s, id)
			_, err := s.Update(t.Context(), id, store.Update{Entry: audit.Entry{Action: "run.x"}, Change: func(r *store.Record) error {
				r.State, r.ApproveBy = state, by
				return nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			return id
		}
		over := waits("dev_us-east-1/research/1.0", now.Add(-time.Millisecond), release.AwaitingApproval)
		waits("dev_us-east-1/risk/1.0", now.Add(time.Hour), release.AwaitingApproval)
		waits("dev_eu-central-1/research/1.0", time.Time{}, release.AwaitingApproval)
		waits("dev_eu-central-1/risk/1.0", now.Add(-time.Hour), release.Failed)
		if ids, err := s.Expired(t.Context()); err != nil || !slices.Equal(ids, []int64{over}) {
			t.Errorf("expired %v, %v; want %d alone", ids, err, over)
		}
	})
}
