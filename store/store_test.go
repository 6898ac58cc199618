package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// onBoth runs one test of the conformance suite against SQLite and Postgres.
func onBoth(t *testing.T, test func(t *testing.T, s *store.Store, url string)) {
	t.Helper()
	open := func(t *testing.T, url string) {
		s, err := store.Open(t.Context(), store.Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		test(t, s, url)
		verifyLog(t, s)
	}
	t.Run("sqlite", func(t *testing.T) { open(t, "sqlite://"+filepath.Join(t.TempDir(), "waymark.db")) })
	t.Run("postgres", func(t *testing.T) { open(t, testkit.Postgres(t)) })
}

// verifyLog recomputes the audit log from its leaves after every test.
func verifyLog(t *testing.T, s *store.Store) {
	t.Helper()
	var v audit.Verifier
	for _, e := range entries(t, s) {
		if err := v.Add(e.Index, e.Leaf); err != nil {
			t.Fatal(err)
		}
	}
	head, err := s.AuditHead(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Check(head); err != nil || head.Size != v.Size() {
		t.Errorf("the log does not verify: head %+v, %d entries: %v", head, v.Size(), err)
	}
}

func entries(t *testing.T, s *store.Store) []audit.Entry {
	t.Helper()
	var all []audit.Entry
	for {
		page, err := s.Entries(context.Background(), int64(len(all)), 7)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			return all
		}
		all = append(all, page...)
	}
}

func actions(t *testing.T, s *store.Store) []string {
	var out []string
	for _, e := range entries(t, s) {
		out = append(out, e.Action)
	}
	return out
}

func target(s string) release.Target {
	t, err := release.ParseTarget(s)
	if err != nil {
		panic(err)
	}
	return t
}

// admit records tag (target/version) as admitted and returns its run's id.
func admit(t *testing.T, s *store.Store, tag string, change ...func(*store.Admission)) int64 {
	t.Helper()
	i := strings.LastIndex(tag, "/")
	a := store.Admission{Release: release.Release{Repository: "infra", Tag: tag, Target: target(tag[:i]), Version: tag[i+1:],
		ObjectID: "obj-" + tag, Commit: "c0ffee", Tagger: "Ann <ann@example.org>", Decision: release.Admitted},
		Info: store.TargetInfo{Account: "111122223333", Region: "us-east-1", Backend: store.BackendInfo{Kind: "local", Key: "k"}}}
	for _, c := range change {
		c(&a)
	}
	_, id, err := s.Admit(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func to(state release.State) func(*store.Record) error {
	return func(r *store.Record) error { r.State = state; return nil }
}

func update(t *testing.T, s *store.Store, id int64, state release.State) {
	t.Helper()
	_, err := s.Update(t.Context(), id, store.Update{Entry: audit.Entry{Action: "run." + string(state)}, Change: to(state)})
	if err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T, s *store.Store, id int64) (began bool, reason string) {
	t.Helper()
	r, began, err := s.Start(t.Context(), id, "here")
	if err != nil {
		t.Fatal(err)
	}
	return began, r.Reason
}

func TestAdmitWritesReleaseRunAndEntryTogether(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		id := admit(t, s, "dev_us-east-1/research/1.0")
		r, err := s.Run(t.Context(), id)
		if err != nil || r.State != release.Queued || r.Account != "111122223333" || r.CreatedBy != "Ann <ann@example.org>" {
			t.Errorf("run %+v, %v", r, err)
		}
		rels, _, err := s.Releases(t.Context(), store.ReleaseFilter{Target: &r.Target, Decision: release.Admitted})
		if err != nil || len(rels) != 1 || rels[0].ObjectID != "obj-dev_us-east-1/research/1.0" || rels[0].SeenAt.IsZero() {
			t.Errorf("releases %+v, %v", rels, err)
		}
		_, _, err = s.Admit(t.Context(), store.Admission{Release: rels[0]})
		if !errors.Is(err, release.ErrConflict) {
			t.Errorf("admitting the same tag again: %v, want ErrConflict", err)
		}
		if got := actions(t, s); !slices.Equal(got, []string{"run.queued"}) {
			t.Errorf("entries %v", got)
		}
		if _, err := s.Run(t.Context(), 999); !errors.Is(err, release.ErrNotFound) {
			t.Errorf("an unknown run: %v", err)
		}
	})
}

func TestRefusedTagIsRecordedWithItsReason(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		_, id, err := s.Admit(t.Context(), store.Admission{Release: release.Release{Repository: "infra", Tag: "dev/oops;rm -rf",
			ObjectID: "x", Decision: release.Refused, Reason: "it has no scope"}})
		if err != nil || id != 0 {
			t.Fatalf("run %d, %v", id, err)
		}
		if e := entries(t, s); len(e) != 1 || e[0].Action != "tag.refused" || e[0].Reason != "it has no scope" || e[0].Tag != "dev/oops;rm -rf" {
			t.Errorf("entries %+v", e)
		}
		if refs, err := s.Refs(t.Context(), "infra"); err != nil || refs["dev/oops;rm -rf"].PinnedID != "x" {
			t.Errorf("refs %v, %v", refs, err)
		}
	})
}

func TestOneRunHoldsATargetAndTheyGoInOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		first, second, third := admit(t, s, "dev_us-east-1/research/1.0"), admit(t, s, "dev_us-east-1/research/1.1"), admit(t, s, "dev_us-east-1/research/1.2")
		other := admit(t, s, "dev_us-east-1/risk/1.0")
		if began, reason := start(t, s, second); began || !strings.Contains(reason, fmt.Sprintf("run %d", first)) {
			t.Errorf("the second began first: %v %q", began, reason)
		}
		for _, id := range []int64{first, other} {
			if began, reason := start(t, s, id); !began || reason != "" {
				t.Errorf("run %d: %v %q", id, began, reason)
			}
		}
		if began, _ := start(t, s, second); began {
			t.Error("the second began beside the first")
		}
		update(t, s, first, release.AwaitingApproval)
		if began, reason := start(t, s, second); began || !strings.Contains(reason, "awaits approval") {
			t.Errorf("the second began beside one that awaits approval: %v %q", began, reason)
		}
		update(t, s, first, release.Rejected)
		if began, _ := start(t, s, third); began {
			t.Error("the third overtook the second")
		}
		if began, _ := start(t, s, second); !began {
			t.Error("the second did not begin after the first")
		}
		update(t, s, second, release.Unknown)
		if began, reason := start(t, s, third); began || !strings.Contains(reason, "unknown") {
			t.Errorf("the third began over an unknown one: %v %q", began, reason)
		}
		update(t, s, second, release.Failed)
		if began, _ := start(t, s, third); !began {
			t.Error("the third did not begin after the unknown one was resolved")
		}
	})
}

func TestGlobalBeforeRegional(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		regional, global := admit(t, s, "dev_us-east-1/research/1.0"), admit(t, s, "dev_global/research/1.0")
		strangers := []int64{admit(t, s, "dev_us-east-1/risk/1.0"), admit(t, s, "prod_us-east-1/research/1.0")}
		if began, reason := start(t, s, regional); began || !strings.Contains(reason, "dev_global/research/1.0") {
			t.Errorf("the regional run did not wait: %v %q", began, reason)
		}
		for _, id := range append(strangers, global) {
			if began, _ := start(t, s, id); !began {
				t.Errorf("run %d waited", id)
			}
		}
		update(t, s, global, release.Succeeded)
		if began, _ := start(t, s, regional); !began {
			t.Error("the regional run did not begin after the global one")
		}
	})
}

func TestTheDatabaseItselfRefusesTwoHolders(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		a, b := admit(t, s, "dev_us-east-1/research/1.0"), admit(t, s, "dev_us-east-1/research/1.1")
		update(t, s, a, release.Running)
		_, err := s.Update(t.Context(), b, store.Update{Change: to(release.Running)})
		if !errors.Is(err, release.ErrConflict) {
			t.Errorf("two runs hold one target: %v", err)
		}
	})
}

func TestUpdateChecksTheStepAndUndoesEverythingOnError(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		id := admit(t, s, "dev_us-east-1/research/1.0")
		_, err := s.Update(t.Context(), id, store.Update{Entry: audit.Entry{Action: "run.succeeded"}, Change: to(release.Succeeded)})
		if !errors.Is(err, release.ErrConflict) {
			t.Errorf("queued to succeeded: %v", err)
		}
		boom := errors.New("boom")
		_, err = s.Update(t.Context(), id, store.Update{Entry: audit.Entry{Action: "x"}, Wake: true,
			Findings: []release.Finding{{Rule: "r"}}, Change: func(r *store.Record) error { r.Reason = "no"; return boom }})
		if !errors.Is(err, boom) {
			t.Errorf("got %v", err)
		}
		if r, _ := s.Run(t.Context(), id); r.Reason != "" || r.State != release.Queued {
			t.Errorf("the run was changed: %+v", r)
		}
		if got := actions(t, s); !slices.Equal(got, []string{"run.queued"}) {
			t.Errorf("entries %v", got)
		}
	})
}

// TestNoChangeWithoutItsEntry holds both halves of one promise: a change writes
// its entry, and where the entry cannot be written the change does not happen.
func TestNoChangeWithoutItsEntry(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		id := admit(t, s, "dev_us-east-1/research/1.0")
		_, err := s.Update(t.Context(), id, store.Update{Change: to(release.Running),
			Entry: audit.Entry{Action: "run.started", Details: map[string]any{"unwritable": make(chan int)}}})
		if r, _ := s.Run(t.Context(), id); err == nil || r.State != release.Queued {
			t.Errorf("without its entry: %v, the run is %s", err, r.State)
		}
		update(t, s, id, release.Cancelled)
		e := entries(t, s)
		if last := e[len(e)-1]; len(e) != 2 || last.Action != "run.cancelled" || last.RunID != id || last.Commit != "c0ffee" {
			t.Errorf("entries %+v", e)
		}
	})
}

func TestDetailsAndBoard(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		id := admit(t, s, "dev_us-east-1/research/1.0")
		start(t, s, id)
		if _, err := s.Plan(t.Context(), id); !errors.Is(err, release.ErrNotFound) {
			t.Errorf("a plan before the plan: %v", err)
		}
		_, err := s.Update(t.Context(), id, store.Update{Plan: &release.PlanSummary{Digest: "sha256:x"},
			Findings: []release.Finding{{Rule: "r", Line: 3}}, Gates: map[string]release.GateResult{"k": {Gate: "tflint", Version: "1"}},
			Reports: map[string]release.Report{"test": {Format: "junit", Content: "<testsuites/>"}},
			Change: func(r *store.Record) error {
				r.SetStage(release.Stage{Name: release.StagePlan, State: release.StagePassed})
				r.Outputs, r.SoftGates = map[string]string{"a": "b"}, []string{"trivy"}
				return nil
			}})
		if err != nil {
			t.Fatal(err)
		}
		update(t, s, id, release.Succeeded)
		next := admit(t, s, "dev_us-east-1/research/1.1")
		plan, err := s.Plan(t.Context(), id)
		findings, err2 := s.Findings(t.Context(), id)
		gates, err3 := s.GateResults(t.Context(), "k", "other")
		reports, err4 := s.Reports(t.Context(), id)
		none, err5 := s.Reports(t.Context(), next)
		run, err6 := s.Run(t.Context(), id)
		if err := errors.Join(err4, err5, err6); err != nil || len(reports) != 1 || reports["test"].Content != "<testsuites/>" || len(none) != 0 ||
			!slices.Equal(run.SoftGates, []string{"trivy"}) {
			t.Errorf("reports %+v and %+v, soft gates %q, %v", reports, none, run.SoftGates, err)
		}
		if err := errors.Join(err, err2, err3); err != nil || plan.Digest != "sha256:x" || len(findings) != 1 || len(gates) != 1 || gates["k"].Gate != "tflint" {
			t.Errorf("plan %+v, findings %+v, gates %+v, %v", plan, findings, gates, err)
		}
		board, err := s.Targets(t.Context())
		if err != nil || len(board) != 1 || board[0].Deployed == nil || board[0].Deployed.ID != id || board[0].Latest.ID != next ||
			board[0].Backend.Kind != "local" || board[0].Deployed.FinishedAt.IsZero() {
			t.Errorf("targets %+v, %v", board, err)
		}
		brief, err := s.Board(t.Context())
		if err != nil || len(brief) != 1 || !reflect.DeepEqual(brief[0].Deployed, board[0].Deployed) || brief[0].Latest.ID != next ||
			brief[0].Latest.State != board[0].Latest.State || !brief[0].Latest.CreatedAt.Equal(board[0].Latest.CreatedAt) {
			t.Errorf("board %+v, %v", brief, err)
		}
		if _, err := s.Target(t.Context(), target("dev_global/research")); !errors.Is(err, release.ErrNotFound) {
			t.Errorf("an unknown target: %v", err)
		}
	})
}

func TestPagesFollowEachOther(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		for i := range 7 {
			admit(t, s, fmt.Sprintf("dev_us-east-1/research/1.%d", i))
		}
		var got []string
		cursor, pages := "", 0
		for {
			runs, next, err := s.Runs(t.Context(), store.RunFilter{State: release.Queued, Limit: 3, Cursor: cursor})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range runs {
				got = append(got, r.Version)
			}
			if pages++; next == "" {
				break
			}
			cursor = next
		}
		if want := []string{"1.6", "1.5", "1.4", "1.3", "1.2", "1.1", "1.0"}; pages != 3 || !slices.Equal(got, want) {
			t.Errorf("%d pages: %v", pages, got)
		}
		if _, _, err := s.Runs(t.Context(), store.RunFilter{Cursor: "x'; --"}); !errors.Is(err, release.ErrInvalid) {
			t.Errorf("a foreign cursor: %v", err)
		}
	})
}

func TestAdoptPinsAndHappensOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		var tags []release.Release
		for i := range 1203 {
			tags = append(tags, release.Release{Tag: fmt.Sprintf("t%d", i), ObjectID: fmt.Sprint(i)})
		}
		if ok, err := s.Contacted(t.Context(), "infra"); ok || err != nil {
			t.Errorf("contacted before: %v %v", ok, err)
		}
		if err := s.Adopt(t.Context(), "infra", "d", tags); err != nil {
			t.Fatal(err)
		}
		if err := s.Adopt(t.Context(), "infra", "d", tags); !errors.Is(err, release.ErrConflict) {
			t.Errorf("adopting twice: %v", err)
		}
		if err := s.Adopt(t.Context(), "empty", "d", nil); err != nil {
			t.Errorf("an empty repository: %v", err)
		}
		refs, err := s.Refs(t.Context(), "infra")
		if err != nil || len(refs) != 1203 || refs["t1202"] != (store.Ref{PinnedID: "1202", SeenID: "1202"}) {
			t.Errorf("%d refs, %v", len(refs), err)
		}
		if ok, _ := s.Contacted(t.Context(), "infra"); !ok {
			t.Error("not contacted after")
		}
	})
}

func TestMovedAndDeletedTagsAreRefusedAndStopWhatWaits(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		moved, deleted := "dev_us-east-1/research/1.0", "dev_us-east-1/risk/1.0"
		a, b := admit(t, s, moved), admit(t, s, deleted)
		start(t, s, b)
		update(t, s, b, release.AwaitingApproval)
		sight := func(tag, id string) {
			t.Helper()
			if err := s.RecordSight(t.Context(), store.Sight{Repository: "infra", Tag: tag, ObjectID: id, Commit: id}); err != nil {
				t.Fatal(err)
			}
		}
		sight(moved, "elsewhere")
		sight(moved, "elsewhere") // seen again: recorded once
		sight(deleted, "")
		sight(deleted, "obj-"+deleted)
		ra, _ := s.Run(t.Context(), a)
		rb, _ := s.Run(t.Context(), b)
		if ra.State != release.Denied || !strings.Contains(ra.Reason, "moved") || rb.State != release.Cancelled || !strings.Contains(rb.Reason, "deleted") {
			t.Errorf("runs %s %q, %s %q", ra.State, ra.Reason, rb.State, rb.Reason)
		}
		want := []string{"tag.moved", "run.denied", "tag.deleted", "run.cancelled", "tag.restored"}
		if got := actions(t, s); !slices.Equal(got[len(got)-5:], want) {
			t.Errorf("entries %v", got)
		}
		if _, err := s.Requeue(t.Context(), a, audit.Entry{Action: "run.retried"}, store.Admission{}); !errors.Is(err, release.ErrRefused) {
			t.Errorf("retrying a run of a moved tag: %v", err)
		}
		again, err := s.Requeue(t.Context(), b, audit.Entry{Action: "run.retried", Actor: "bob"}, store.Admission{Approvals: 2})
		if err != nil || again.State != release.Queued || again.CreatedBy != "bob" || again.ApprovalsRequired != 2 || again.Version != "1.0" {
			t.Errorf("retry %+v, %v", again, err)
		}
	})
}

func TestSupersedeLinksTheOvertaken(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.Store, _ string) {
		running := admit(t, s, "dev_us-east-1/research/1.0")
		start(t, s, running)
		waiting := admit(t, s, "dev_us-east-1/research/1.1")
		newest := admit(t, s, "dev_us-east-1/research/1.2", func(a *store.Admission) { a.Supersede = true })
		r, _ := s.Run(t.Context(), waiting)
		if r.State != release.Superseded || !strings.Contains(r.Reason, fmt.Sprintf("run %d", newest)) {
			t.Errorf("the overtaken run: %s %q", r.State, r.Reason)
		}
		if r, _ := s.Run(t.Context(), running); r.State != release.Running {
			t.Errorf("the running run: %s", r.State)
		}
	})
}
