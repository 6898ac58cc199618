package reconciler

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// unseen is a remote that nothing of these tests asks.
type unseen struct{ Remote }

const approvalConfig = `
repository "infra" { url = "/nowhere" }
teams = ["research"]
environment "dev" { regions = ["us-east-1"] }
`

// people is an access block: who is behind a request can be told.
const people = `
server {
  token = "secret"
}
oidc "corp" {
  issuer        = "https://login.example.org"
  client_id     = "waymark"
  client_secret = "secret"
}
access "all" {
  users = ["*"]
  role  = "approver"
}
`

// onBoth gives a reconciler on each database, and a run that waits for approvals.
func onBoth(t *testing.T, text string, test func(t *testing.T, r *Reconciler, waits func(...release.Requirement) int64)) {
	t.Helper()
	cfg, err := config.Parse("waymark.hcl", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	open := func(t *testing.T, url string) {
		s, err := store.Open(t.Context(), store.Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		local := *cfg
		local.Server.DataDir = t.TempDir()
		r, err := New(Config{Config: &local, Store: s, Remotes: map[string]Remote{"infra": unseen{}}})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		test(t, r, func(needs ...release.Requirement) int64 {
			n++
			return awaiting(t, s, fmt.Sprintf("1.%d", n), needs)
		})
	}
	t.Run("sqlite", func(t *testing.T) { open(t, "sqlite://"+filepath.Join(t.TempDir(), "waymark.db")) })
	t.Run("postgres", func(t *testing.T) { open(t, testkit.Postgres(t)) })
}

// awaiting records a run of Ann's tag, on Ben's commit, whose plan waits. Each has
// a team of its own.
func awaiting(t *testing.T, s *store.Store, version string, needs []release.Requirement) int64 {
	t.Helper()
	team := "t" + strings.ReplaceAll(version, ".", "")
	target := release.Target{Env: "dev", Scope: "us-east-1", Team: team}
	_, id, err := s.Admit(t.Context(), store.Admission{Release: release.Release{Repository: "infra", Tag: target.String() + "/" + version,
		Target: target, Version: version, ObjectID: "o", Commit: "c", Tagger: "Ann Archer <ann@example.org>", Author: "Ben <ben@example.org>",
		Committer: "Cy <cy@example.org>", SignedBy: release.Signer{Name: "Dee <dee@example.org>", Key: "K"}, Decision: release.Admitted}})
	if err == nil {
		_, _, err = s.Start(t.Context(), id, "here")
	}
	if err == nil {
		_, err = s.Update(t.Context(), id, store.Update{Entry: audit.Entry{Action: "run.approval_requested"}, Change: func(run *store.Record) error {
			run.State, run.PlanDigest, run.Requirements = release.AwaitingApproval, "sha256:1", needs
			run.SetStage(release.Stage{Name: release.StageApproval, State: release.StageRunning})
			return nil
		}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func yes(actor string, groups ...string) release.Verdict {
	v := release.Verdict{Action: release.Approve, Actor: actor, Groups: groups, PlanDigest: "sha256:1"}
	if strings.Contains(actor, "@") {
		v.Emails = []string{actor}
	}
	return v
}

func TestApprovalsCountForWhatTheyFit(t *testing.T) {
	onBoth(t, approvalConfig+people, func(t *testing.T, r *Reconciler, waits func(...release.Requirement) int64) {
		id := waits(release.Requirement{Count: 2, From: []string{"group:release", "eve@example.org"}, Why: "environment dev", Of: release.OfEnvironment},
			release.Requirement{Count: 1, From: []string{"group:dba"}, Why: "policy waymark.data", Of: release.OfPlan})
		decide := func(v release.Verdict, sentinel error, says ...string) release.Run {
			t.Helper()
			run, err := r.Decide(t.Context(), id, v)
			if !errors.Is(err, sentinel) {
				t.Fatalf("%s: %v, want %v", v.Actor, err, sentinel)
			}
			for _, s := range says {
				if text := fmt.Sprint(err, run.Reason); !strings.Contains(text, s) {
					t.Errorf("%s: %q does not say %q", v.Actor, text, s)
				}
			}
			return run
		}
		decide(yes("gil@example.org", "visitors"), release.ErrRefused, "does not count", "2 approvals from group:release or eve@example.org (environment dev)", "group:dba")
		decide(release.Verdict{Action: release.Approve, Actor: "eve@example.org", Emails: []string{"eve@example.org"}, PlanDigest: "sha256:0"}, release.ErrConflict, "was replaced: look at it again")
		decide(release.Verdict{Action: release.Reject, Actor: "eve@example.org", Reason: "r", PlanDigest: "sha256:0"}, release.ErrConflict, "was replaced")
		decide(yes("eve@example.org"), nil, "1 approval from group:release or eve@example.org (environment dev) and 1 approval from group:dba")
		decide(yes("eve@example.org"), release.ErrConflict, "another person must")
		decide(yes("Eve@Example.org", "dba"), release.ErrConflict, "another person must")
		// One of both groups counts for both.
		run := decide(yes("fay@example.org", "release", "dba"), nil)
		if run.State != release.Running || len(run.Approvals) != 2 || run.Stage(release.StageApproval).Summary != "approved by eve@example.org, fay@example.org" {
			t.Errorf("run is %s: %+v", run.State, run.Approvals)
		}
		decide(yes("gil@example.org", "release"), release.ErrConflict, "running")
		entries, err := r.Store.Entries(t.Context(), 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(entries, func(e audit.Entry) bool { return e.Actor == "fay@example.org" })
		d := entries[i].Details
		if d["plan_digest"] != "sha256:1" || fmt.Sprint(d["groups"]) != "[release dba]" || d["requested_by"] != "Ann Archer <ann@example.org>" ||
			!strings.Contains(fmt.Sprint(d["requirements"]), "policy waymark.data") || fmt.Sprint(d["missing"]) != "[]" {
			t.Errorf("the entry's details: %v", d)
		}
	})
}

// TestTwoApproveAtOnce: everybody's approval counts, and the run goes on once.
func TestTwoApproveAtOnce(t *testing.T) {
	onBoth(t, approvalConfig+people, func(t *testing.T, r *Reconciler, waits func(...release.Requirement) int64) {
		for range 5 {
			id := waits(release.Requirement{Count: 3})
			var wait sync.WaitGroup
			errs := make([]error, 6)
			for i := range errs {
				wait.Go(func() { _, errs[i] = r.Decide(t.Context(), id, yes(fmt.Sprintf("p%d@example.org", i%3))) })
			}
			wait.Wait()
			refused := 0
			for _, err := range errs {
				if errors.Is(err, release.ErrConflict) {
					refused++
				} else if err != nil {
					t.Fatal(err)
				}
			}
			run, err := r.Store.Run(t.Context(), id)
			if err != nil || run.State != release.Running || len(run.Approvals) != 3 || refused != 3 {
				t.Fatalf("run is %s with %d approvals, %d were refused: %v", run.State, len(run.Approvals), refused, err)
			}
		}
	})
}

func TestWhoHadAHandDoesNotApprove(t *testing.T) {
	onBoth(t, approvalConfig+people, func(t *testing.T, r *Reconciler, waits func(...release.Requirement) int64) {
		id := waits(release.Requirement{Count: 1})
		for _, tt := range []struct {
			v    release.Verdict
			says string
		}{
			{yes("ann@example.org"), "is the tagger"},
			{yes("ANN@example.ORG"), "is the tagger"},
			{yes("ann archer"), "is the tagger"},
			{release.Verdict{Action: release.Approve, Actor: "u17", Emails: []string{"x@example.org", "Ben@example.org"}}, "is the author"},
			{yes("corp/cy@example.org"), "is the committer"},
			{yes("dee@example.org"), "is the signer"},
			{yes("token"), "stands for nobody in particular"},
			{yes("local"), "stands for nobody in particular"},
			{yes("u18"), "no e-mail address of u18 is known"},
		} {
			if _, err := r.Decide(t.Context(), id, tt.v); !errors.Is(err, release.ErrRefused) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s: %v, want %q", tt.v.Actor, err, tt.says)
			}
		}
		if run, err := r.Decide(t.Context(), id, yes("gil@example.org")); err != nil || run.State != release.Running {
			t.Errorf("another person: %s %v", run.State, err)
		}
	})
}

func TestWhereNobodyIsToldApartOneApproves(t *testing.T) {
	onBoth(t, approvalConfig, func(t *testing.T, r *Reconciler, waits func(...release.Requirement) int64) {
		id := waits(release.Requirement{Count: 1})
		if _, err := r.Decide(t.Context(), id, yes("ann@example.org")); !errors.Is(err, release.ErrRefused) {
			t.Errorf("the tagger, by a token of her own: %v", err)
		}
		if run, err := r.Decide(t.Context(), id, yes("token")); err != nil || run.State != release.Running {
			t.Errorf("the token: %s %v", run.State, err)
		}
	})
}

func TestHandsOfOtherKinds(t *testing.T) {
	rel := release.Release{Tagger: "Ann <ann@example.org>", Author: "Ann <ann@example.org>", Committer: "forge <noreply@forge.example>"}
	destroy := release.Run{ID: 7, Kind: release.Destroy, CreatedBy: "eve@example.org"}
	bare := release.Release{Author: "Ann <ann@example.org>", Committer: "Ann <ann@example.org>"}
	for _, tt := range []struct {
		name string
		rel  release.Release
		run  release.Run
		who  string
		says string
	}{
		{"whoever asked for a destroy", rel, destroy, "eve@example.org", "whoever asked for the destroy"},
		{"another", rel, destroy, "gil@example.org", ""},
		{"a destroy by nobody in particular", rel, release.Run{Kind: release.Destroy, CreatedBy: "token"}, "gil@example.org", "ask for it anew as a person"},
		{"whoever retried a deploy", rel, release.Run{Kind: release.Deploy, CreatedBy: "eve@example.org"}, "eve@example.org", ""},
		{"a lightweight tag", bare, release.Run{Kind: release.Deploy}, "gil@example.org", "nothing says who made the tag"},
	} {
		err := judgeOutsider(hands(tt.rel, tt.run), tt.run, yes(tt.who), true)
		if (tt.says == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.says)
		}
	}
}

func TestPlansExpireByTheDatabasesClock(t *testing.T) {
	onBoth(t, approvalConfig+people, func(t *testing.T, r *Reconciler, waits func(...release.Requirement) int64) {
		r.Now = func() time.Time { return time.Now().Add(-1000 * time.Hour) } // a clock that jumped back opens nothing
		by := func(id int64, at time.Duration) {
			t.Helper()
			now, err := r.Store.Clock(t.Context())
			if err == nil {
				_, err = r.Store.Update(t.Context(), id, store.Update{Entry: audit.Entry{Action: "run.x"}, Change: func(run *store.Record) error {
					run.ApproveBy = now.Add(at)
					run.SetStage(release.Stage{Name: release.StageApproval, State: release.StageRunning, StartedAt: run.ApproveBy.Add(-72 * time.Hour)})
					return nil
				}})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		none, some, open := waits(release.Requirement{Count: 2}), waits(release.Requirement{Count: 2, Why: "environment dev"}), waits(release.Requirement{Count: 1})
		if _, err := r.Decide(t.Context(), some, yes("gil@example.org")); err != nil {
			t.Fatal(err)
		}
		by(none, 0)
		by(some, -time.Second)
		by(open, time.Hour)
		if _, err := r.Decide(t.Context(), none, yes("gil@example.org")); !errors.Is(err, release.ErrConflict) || !strings.Contains(err.Error(), "could be approved until") {
			t.Errorf("an approval that comes late: %v", err)
		}
		future := waits(release.Requirement{Count: 1})
		by(future, 100*time.Hour)
		if _, err := r.Decide(t.Context(), future, yes("gil@example.org")); !errors.Is(err, release.ErrConflict) || !strings.Contains(err.Error(), "set the clock right") {
			t.Errorf("an approval by a clock that went back: %v", err)
		}
		for _, id := range []int64{none, some, open} {
			if err := r.expire(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if err := r.expire(t.Context(), id); err != nil {
				t.Errorf("a second look: %v", err)
			}
		}
		for id, want := range map[int64]string{none: "rejected nobody approved within 72h",
			some: "rejected not all approved within 72h: the plan still needed 1 approval (environment dev)", open: "awaiting_approval "} {
			if run, err := r.Store.Run(t.Context(), id); err != nil || string(run.State)+" "+run.Reason != want {
				t.Errorf("run %d is %s %s, want %q: %v", id, run.State, run.Reason, want, err)
			}
		}
	})
}

func TestAnApprovedPlanIsNotAppliedLate(t *testing.T) {
	onBoth(t, approvalConfig+people, func(t *testing.T, r *Reconciler, waits func(...release.Requirement) int64) {
		id := waits(release.Requirement{Count: 1})
		if _, err := r.Decide(t.Context(), id, yes("gil@example.org")); err != nil {
			t.Fatal(err)
		}
		rec, _, err := r.Store.Take(t.Context(), id, "here", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if late, err := r.putBackLate(t.Context(), rec); late || err != nil {
			t.Errorf("without a limit: %t %v", late, err)
		}
		rec, err = r.Store.Update(t.Context(), id, store.Update{Change: func(run *store.Record) error {
			run.ApproveBy = time.Now().Add(-time.Hour)
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		if late, err := r.putBackLate(t.Context(), rec); !late || err != nil {
			t.Errorf("past its time: %t %v", late, err)
		}
		run, err := r.Store.Run(t.Context(), id)
		if err != nil || run.State != release.Rejected || !strings.Contains(run.Reason, "the approved plan waited for longer") {
			t.Errorf("run is %s: %s %v", run.State, run.Reason, err)
		}
	})
}

func TestRequireOf(t *testing.T) {
	env := release.Requirement{Count: 1, Why: "environment dev", Of: release.OfEnvironment}
	old := release.Requirement{Count: 5, Why: "a plan that is gone", Of: release.OfPlan}
	for _, tt := range []struct {
		name    string
		has     []release.Requirement
		before  int
		planned []release.Requirement
		want    string
		least   int
	}{
		{"nothing", nil, 0, nil, "", 0},
		{"the environment's", []release.Requirement{env}, 1, nil, "1 approval (environment dev)", 1},
		{"from before there were any", nil, 2, nil, "2 approvals (environment dev)", 2},
		{"the plan's", []release.Requirement{env, old}, 5, []release.Requirement{{Count: 2, Why: "policy x"}}, "1 approval (environment dev) and 2 approvals (policy x)", 2},
		{"a policy that forgot the count", nil, 0, []release.Requirement{{Why: "policy x"}}, "1 approval (policy x)", 1},
	} {
		rec := store.Record{Run: release.Run{Target: release.Target{Env: "dev"}, Requirements: tt.has, ApprovalsRequired: tt.before}}
		requireOf(&rec, tt.planned)
		if listOf(rec.Requirements) != tt.want || rec.ApprovalsRequired != tt.least {
			t.Errorf("%s: %d, %q", tt.name, rec.ApprovalsRequired, listOf(rec.Requirements))
		}
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{72 * time.Hour: "72h", 90 * time.Minute: "1h30m", 10 * time.Second: "10s", time.Minute: "1m", 20 * time.Hour: "20h", 0: "0s"} {
		if got := short(d); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
}
