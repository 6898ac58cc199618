package reconciler

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

func TestNextApplyNeverUsesAFolderTwice(t *testing.T) {
	r := &Reconciler{Config: Config{Config: &config.Config{Server: config.Server{DataDir: t.TempDir()}}}}
	rec := store.Record{Run: release.Run{ID: 7, Attempt: 1}, RunnerDir: "7/1/plan"}
	if got := r.nextApply(rec); got != "apply-1" {
		t.Errorf("the first: %s", got)
	}
	rec.Applying, rec.RunnerDir = true, "7/1/apply-1"
	if got := r.nextApply(rec); got != "apply-2" {
		t.Errorf("after one that never began: %s", got)
	}
	rec.Applying, rec.RunnerDir = false, ""
	if err := os.MkdirAll(r.path("7/1/apply-2"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got := r.nextApply(rec); got != "apply-3" {
		t.Errorf("after it was put aside: %s", got)
	}
}

// book is a ledger by target; "kind commit", the version is the run's number.
type book map[string][]string

func (b book) Deployments(_ context.Context, t release.Target, commit string) ([]release.Run, error) {
	var out []release.Run
	for i, line := range b[t.String()] {
		kind, c, _ := strings.Cut(line, " ")
		c, version, _ := strings.Cut(c, " ")
		run := release.Run{ID: int64(i + 1), Kind: release.Kind(kind), Commit: c, Target: t, FinishedAt: hour(i), Version: version, Tag: t.String() + "/" + version}
		if out != nil || commit == "" || c == commit && run.Kind != release.Destroy {
			out = append(out, run)
		}
	}
	return out, nil
}

// hour is a time some hours after the first.
func hour(n int) time.Time { return time.Date(2026, 11, 23, n, 0, 0, 0, time.UTC) }

const ladder = `
repository "infra" { url = "https://git.example.org/infra.git" }
teams = ["research"]
global_region = "us-east-1"
environment "dev" { regions = ["us-east-1", "eu-central-1"] }
environment "prod" {
  regions = ["us-east-1", "eu-central-1", "ap-southeast-1"]
  promotes_from = "dev"
  $more
}
`

func parse(t *testing.T, text, more string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("waymark.hcl", []byte(strings.ReplaceAll(text, "$more", more)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestPromotion(t *testing.T) {
	const us, eu, global = "dev_us-east-1/research", "dev_eu-central-1/research", "dev_global/research"
	for _, tt := range []struct {
		name, more, scope string
		book              book
		runs              string // that count
		refused           string
		ripe              time.Time // zero: it need not soak at 10 o'clock
	}{
		{name: "it succeeded there", book: book{us: {"deploy other", "deploy c1"}}, runs: "run 2 succeeded in dev_us-east-1/research at 2026-11-23T01:00:00Z"},
		{name: "it never did", book: book{us: {"deploy other"}}, refused: "dev_us-east-1/research (never succeeded there)"},
		{name: "elsewhere alone", book: book{eu: {"deploy c1"}}, refused: "dev_us-east-1/research (never succeeded there)"},
		{name: "newer ones came after it", book: book{us: {"deploy c1", "deploy c2", "deploy c3"}}, runs: "run 1 succeeded"},
		{name: "it was rolled back", book: book{us: {"deploy c0", "deploy c1", "rollback c0"}}, refused: "taken back by run 3, a rollback"},
		{name: "what came after it was rolled back", book: book{us: {"deploy c1", "deploy c2", "rollback c1"}}, runs: "run 1 succeeded"},
		{name: "it was removed", book: book{us: {"deploy c1", "destroy c1"}}, refused: "taken back by run 2, a destroy"},
		{name: "it came back", book: book{us: {"deploy c0", "deploy c1", "rollback c0", "deploy c1"}}, runs: "run 4 succeeded"},
		{name: "by a rollback to it", book: book{us: {"deploy c1", "destroy c1", "rollback c1"}}, runs: "run 3 succeeded"},
		{name: "the same commit again", book: book{us: {"deploy c1", "deploy c1", "rollback c0"}}, refused: "taken back by run 3"},

		{name: "any scope, where it is not there", scope: "ap-southeast-1", book: book{eu: {"deploy c1"}}, runs: "run 1 succeeded in dev_eu-central-1/research"},
		{name: "any scope: the oldest counts", scope: "ap-southeast-1", book: book{us: {"deploy x", "deploy c1"}, eu: {"deploy c1"}}, runs: "run 1 succeeded in dev_eu-central-1/research"},
		{name: "no scope at all", scope: "ap-southeast-1", book: book{}, refused: "any scope of dev: dev_us-east-1/research (never succeeded there), dev_eu-central-1/research (never succeeded there), dev_global/research (never succeeded there)"},
		{name: "global from global", scope: "global", book: book{us: {"deploy c1"}}, refused: "dev_global/research (never succeeded there)"},
		{name: "all", more: `promotion_scopes = "all"`, book: book{us: {"deploy c1"}, eu: {"deploy c1"}}, runs: "run 1 succeeded in dev_us-east-1/research at 2026-11-23T00:00:00Z, run 1 succeeded in dev_eu-central-1/research"},
		{name: "all but one", more: `promotion_scopes = "all"`, book: book{us: {"deploy c1"}}, refused: "in dev_eu-central-1/research (never succeeded there):"},
		{name: "named ones", more: `promotion_scopes = ["global", "eu-central-1"]`, book: book{global: {"deploy c1"}, eu: {"deploy c1"}}, runs: "run 1 succeeded in dev_global/research"},

		{name: "it has soaked", more: `soak = "9h"`, book: book{us: {"deploy c0", "deploy c1"}}, runs: "run 2"},
		{name: "it has not soaked", more: `soak = "10h"`, book: book{us: {"deploy c0", "deploy c1"}}, runs: "run 2", ripe: hour(11)},
		{name: "the first success soaks", more: `soak = "9h"`, book: book{us: {"deploy c0", "deploy c1", "deploy c1"}}, runs: "run 2"},
		{name: "what was taken back soaks anew", more: `soak = "9h"`, book: book{us: {"deploy c1", "destroy c1", "deploy c1"}}, runs: "run 3", ripe: hour(11)},
		{name: "the youngest of all decides", more: "soak = \"9h\"\npromotion_scopes = \"all\"", book: book{us: {"deploy x", "deploy x", "deploy c1"}, eu: {"deploy c1"}},
			runs: "run 3 succeeded in dev_us-east-1/research", ripe: hour(11)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.scope == "" {
				tt.scope = "us-east-1"
			}
			p, err := JudgePromotion(t.Context(), parse(t, ladder, tt.more), tt.book, release.Target{Env: "prod", Scope: tt.scope, Team: "research"}, "c1", hour(10))
			if tt.refused != "" {
				if !errors.Is(err, release.ErrRefused) || !strings.Contains(err.Error(), tt.refused) || !strings.Contains(err.Error(), "prod promotes from dev") {
					t.Errorf("got  %v\nwant %s", err, tt.refused)
				}
				return
			}
			until, why := p.Waits()
			if err != nil || !strings.Contains(p.String(), tt.runs) || !until.Equal(tt.ripe) || (why == "") != tt.ripe.IsZero() {
				t.Errorf("%q, %v until %v: %s; want %q until %v", p, err, until, why, tt.runs, tt.ripe)
			}
		})
	}
	if p, err := JudgePromotion(t.Context(), parse(t, ladder, ""), book{}, release.Target{Env: "dev", Scope: "us-east-1", Team: "research"}, "c1", hour(0)); err != nil || p.From != "" || p.details() != nil {
		t.Errorf("an environment that promotes from none: %+v, %v", p, err)
	}
}

func TestPromotionSaysWhoHasToWaitForWhat(t *testing.T) {
	p, err := JudgePromotion(t.Context(), parse(t, ladder, `soak = "24h"`), book{"dev_us-east-1/research": {"deploy c1"}},
		release.Target{Env: "prod", Scope: "us-east-1", Team: "research"}, "c1", hour(3))
	_, why := p.Waits()
	if err != nil || why != "the commit must soak for 24h, and is in dev_us-east-1/research since 2026-11-23T00:00:00Z (run 1)" {
		t.Errorf("%q, %v", why, err)
	}
	if got := fmt.Sprint(p.details()); !strings.Contains(got, "ripe:2026-11-24T00:00:00Z") || !strings.Contains(got, "run:1") {
		t.Errorf("details %s", got)
	}
}

const walled = `
repository "infra" { url = "https://git.example.org/infra.git" }
teams = ["research"]
environment "prod" {
  regions = ["us-east-1"]
  window {
    cron     = "0 9 * * *"
    duration = "8h"
  }
  freeze "noon" {
    from = "2026-11-23 12:00"
    to   = "2026-11-23 13:00"
  }
}
`

// A clock that jumps never opens what was shut.
func TestAClockThatIsSetBackOpensNothing(t *testing.T) {
	cfg := parse(t, walled, "")
	for _, tt := range []struct {
		name        string
		now, latest time.Time
		until       time.Time
		why         string
	}{
		{"open", hour(10), hour(9), time.Time{}, ""},
		{"the first look", hour(10), time.Time{}, time.Time{}, ""},
		{"shut", hour(8), hour(7), hour(9), `window "0 9`},
		{"set back into the window, from after it", hour(10), hour(18), hour(24 + 9), "set back from 2026-11-23T18:00:00Z"},
		{"set back into the window, from a freeze", hour(10), hour(12), hour(13), `freeze "noon"; the clock was set back`},
		{"set back within the window", hour(10), hour(11), time.Time{}, ""},
		{"set back out of the window", hour(8), hour(10), hour(9), `window "0 9`},
		{"set back by a day, both open", hour(10), hour(24 + 10), time.Time{}, ""},
	} {
		until, why := JudgeOpening(cfg, release.Target{Env: "prod", Scope: "us-east-1", Team: "research"}, tt.now, tt.latest, nil)
		if !until.Equal(tt.until) || !strings.Contains(why, tt.why) || tt.why == "" && why != "" {
			t.Errorf("%s: until %v: %s; want %v: %s", tt.name, until, why, tt.until, tt.why)
		}
	}
	never := release.Freeze{ID: 1, Where: release.Target{Env: "prod"}, Until: hour(24 * 400)}
	if until, _ := JudgeOpening(cfg, release.Target{Env: "prod", Scope: "us-east-1", Team: "research"}, hour(10), hour(10), []release.Freeze{never}); !until.Equal(hour(24*400 + 9)) {
		t.Errorf("a long freeze ends outside of the window: until %v", until)
	}
}

func TestRollbackGoesToWhatWasThereBefore(t *testing.T) {
	target := release.Target{Env: "prod", Scope: "us-east-1", Team: "research"}
	for _, tt := range []struct {
		name, to string
		history  []string
		want     int64
		err      error
		says     string
	}{
		{name: "the one before", history: []string{"deploy a 1.0", "deploy b 1.1"}, want: 1},
		{name: "twice goes further back", history: []string{"deploy a 1.0", "deploy b 1.1", "deploy c 1.2", "rollback b 1.1"}, want: 1},
		{name: "after a rollback and a new version", history: []string{"deploy a 1.0", "deploy b 1.1", "rollback a 1.0", "deploy c 1.2"}, want: 3},
		{name: "by version", to: "1.0", history: []string{"deploy a 1.0", "deploy b 1.1", "deploy c 1.2"}, want: 1},
		{name: "by version in another spelling", to: "v1.0", history: []string{"deploy a 1.0", "deploy b 1.1"}, want: 1},
		{name: "forward again", to: "1.1", history: []string{"deploy a 1.0", "deploy b 1.1", "rollback a 1.0"}, want: 2},
		{name: "the same version again", history: []string{"deploy a 1.0", "deploy b 1.1", "deploy b 1.1"}, want: 1},
		{name: "nothing before", history: []string{"deploy a 1.0"}, err: release.ErrConflict, says: "before version 1.0 nothing was deployed"},
		{name: "nothing at all", err: release.ErrConflict, says: "nothing is deployed"},
		{name: "nothing since it was removed", history: []string{"deploy a 1.0", "deploy b 1.1", "destroy b 1.1"}, err: release.ErrConflict, says: "nothing is deployed"},
		{name: "the one that is there", to: "1.1", history: []string{"deploy a 1.0", "deploy b 1.1"}, err: release.ErrConflict, says: "is what is deployed"},
		{name: "one that never was", to: "0.9", history: []string{"deploy a 1.0", "deploy b 1.1"}, err: release.ErrNotFound, says: "these did: 1.1, 1.0"},
		{name: "no version", to: "$(x)", history: []string{"deploy a 1.0", "deploy b 1.1"}, err: release.ErrNotFound, says: "never succeeded"},
	} {
		history, _ := book{target.String(): tt.history}.Deployments(t.Context(), target, "")
		got, err := earlier(history, release.Order{Target: target, Version: tt.to})
		if got.ID != tt.want || !errors.Is(err, tt.err) || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: run %d, %v; want %d, %v %s", tt.name, got.ID, err, tt.want, tt.err, tt.says)
		}
	}
}

func TestWhatIsNotRetried(t *testing.T) {
	for kind, retried := range map[release.Kind]bool{release.Deploy: true, release.Rollback: true, release.Destroy: false, release.PlanOnly: false, release.Drift: false} {
		if err := mayRetry(release.Run{ID: 1, Kind: kind}); (err == nil) != retried || err != nil && !errors.Is(err, release.ErrConflict) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
