package config_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
)

// prod is a configuration with an environment that holds inside, in which "; "
// ends a line.
func prod(inside string) string {
	inside = strings.NewReplacer("{ ", "{\n", "; ", "\n", " }", "\n}").Replace(inside)
	return `
repository "infra" { url = "https://git.example.org/infra.git" }
teams = ["a", "b"]
global_region = "us-east-1"
environment "dev" { regions = ["us-east-1"] }
environment "prod" {
  regions = ["us-east-1", "eu-central-1"]
` + inside + `
}
`
}

// at reads a time of Berlin, or with an offset of its own any other.
func at(t *testing.T, s string) time.Time {
	t.Helper()
	if s == "" {
		return time.Time{}
	}
	if v, err := time.Parse(time.RFC3339, s); err == nil {
		return v
	}
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	v, err := time.ParseInLocation("2006-01-02 15:04:05", s, zone)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

const (
	office   = `window { cron = "0 9 * * MON-THU"; duration = "8h"; time_zone = "Europe/Berlin" }`
	night    = `window { cron = "30 2 * * *"; duration = "1h"; time_zone = "Europe/Berlin" }`
	late     = `window { cron = "0 22 * * SAT"; duration = "8h"; time_zone = "Europe/Berlin" }`
	evening  = `window { cron = "0 16 * * MON-THU"; duration = "4h"; time_zone = "Europe/Berlin" }`
	hourly   = `window { cron = "0 * * * *"; duration = "2h" }`
	ofTeamB  = `window { cron = "0 0 1 1 *"; duration = "1m"; teams = ["b"] }`
	ofEU     = `window { cron = "0 0 1 1 *"; duration = "1m"; regions = ["eu-central-1"] }`
	yearEnd  = `freeze "year-end" { from = "2026-12-20"; to = "2027-01-02"; time_zone = "Europe/Berlin"; reason = "closing" }`
	freezeEU = `freeze "eu" { from = "2026-12-20"; to = "2027-01-02"; regions = ["eu-central-1"] }`
)

func TestOpening(t *testing.T) {
	set := []release.Freeze{
		{ID: 7, Where: release.Target{Env: "prod", Team: "a"}, Until: at(t, "2026-11-25 10:00:00"), Reason: "incident", CreatedBy: "alice"},
		{ID: 8, Where: release.Target{Env: "prod"}, Until: at(t, "2027-11-25 10:00:00"), LiftedAt: at(t, "2026-11-01 10:00:00")},
		{ID: 9, Where: release.Target{Env: "dev"}, Until: at(t, "2027-11-25 10:00:00")},
		{ID: 10, Where: release.Target{Env: "prod", Scope: "eu-central-1"}, Until: at(t, "2027-11-25 10:00:00")},
	}
	for _, tt := range []struct {
		name, inside, now string
		set               []release.Freeze
		open              bool
		until, which      string
	}{
		{name: "nothing restricts", now: "2026-11-23 03:00:00", open: true},
		{name: "before it opens", inside: office, now: "2026-11-23 08:59:59", until: "2026-11-23 09:00:00", which: `window "0 9 * * MON-THU" for 8h (Europe/Berlin)`},
		{name: "at its first moment", inside: office, now: "2026-11-23 09:00:00", open: true, until: "2026-11-23 17:00:00", which: "window"},
		{name: "at its last moment", inside: office, now: "2026-11-23 16:59:59", open: true, until: "2026-11-23 17:00:00", which: "window"},
		{name: "when it is over", inside: office, now: "2026-11-23 17:00:00", until: "2026-11-24 09:00:00", which: "window"},
		{name: "over the weekend", inside: office, now: "2026-11-26 17:00:00", until: "2026-11-30 09:00:00", which: "window"},
		{name: "overlapping ones are one", inside: office + "\n" + evening, now: "2026-11-23 12:00:00", open: true, until: "2026-11-23 20:00:00", which: "window"},
		{name: "the second of two", inside: office + "\n" + evening, now: "2026-11-23 19:00:00", open: true, until: "2026-11-23 20:00:00", which: `"0 16`},
		{name: "the nearest of two", inside: evening + "\n" + office, now: "2026-11-23 07:00:00", until: "2026-11-23 09:00:00", which: `"0 9`},
		{name: "one that never ends", inside: hourly, now: "2026-11-23 07:00:00", open: true, which: "window"},
		{name: "for another team", inside: ofTeamB, now: "2026-11-23 07:00:00", open: true},
		{name: "for another Region", inside: ofEU, now: "2026-11-23 07:00:00", open: true},

		{name: "summer time begins: the same hour of the clock", inside: office, now: "2026-03-30 08:59:59", until: "2026-03-30T07:00:00Z", which: "window"},
		{name: "summer time ends: the same hour of the clock", inside: office, now: "2026-10-26 08:59:59", until: "2026-10-26T08:00:00Z", which: "window"},
		{name: "an hour that is left out does not come", inside: night, now: "2026-03-29 03:10:00", until: "2026-03-30 02:30:00", which: "window"},
		{name: "an hour that comes twice is open both times", inside: night, now: "2026-10-25T01:10:00Z", open: true, until: "2026-10-25T02:30:00Z", which: "window"},
		{name: "a short night has its time all the same", inside: late, now: "2026-03-29 06:59:59", open: true, until: "2026-03-29T05:00:00Z", which: "window"},
		{name: "a long night has no more", inside: late, now: "2026-10-25 05:00:00", until: "2026-10-31 22:00:00", which: "window"},

		{name: "before a freeze", inside: yearEnd, now: "2026-12-19 23:59:59", open: true, until: "2026-12-20 00:00:00"},
		{name: "in a freeze", inside: yearEnd, now: "2026-12-20 00:00:00", until: "2027-01-03 00:00:00", which: `freeze "year-end": closing`},
		{name: "on the last day of a freeze", inside: yearEnd, now: "2027-01-02 23:59:59", until: "2027-01-03 00:00:00", which: "year-end"},
		{name: "after a freeze", inside: yearEnd, now: "2027-01-03 00:00:00", open: true},
		{name: "a freeze that ends outside of the windows", inside: office + "\n" + yearEnd, now: "2026-12-30 12:00:00", until: "2027-01-04 09:00:00", which: "year-end"},
		{name: "a window that opens into a freeze", inside: office + "\n" + yearEnd, now: "2026-12-17 18:00:00", until: "2027-01-04 09:00:00", which: "window"},
		{name: "a freeze ends an open window", inside: office + "\n" + `freeze "noon" { from = "2026-11-23T12:00:00+01:00"; to = "2026-11-23 13:00"; time_zone = "Europe/Berlin" }`,
			now: "2026-11-23 10:00:00", open: true, until: "2026-11-23 12:00:00", which: "window"},
		{name: "a freeze of another Region", inside: freezeEU, now: "2026-12-24 10:00:00", open: true},

		{name: "one that was set", set: set, now: "2026-11-24 10:00:00", until: "2026-11-25 10:00:00", which: "freeze 7 of prod/a by alice: incident"},
		{name: "one that was set and is over", set: set, now: "2026-11-25 10:00:00", open: true},
		{name: "the longer of two", inside: yearEnd, set: []release.Freeze{{ID: 1, Where: release.Target{Env: "prod"}, Until: at(t, "2026-12-30 00:00:00")}},
			now: "2026-12-24 10:00:00", until: "2027-01-03 00:00:00", which: "year-end"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := parse(t, prod(tt.inside))
			got := cfg.Opening(release.Target{Env: "prod", Scope: "us-east-1", Team: "a"}, at(t, tt.now), tt.set)
			if got.Open != tt.open || !got.Until.Equal(at(t, tt.until)) || !strings.Contains(got.Which, tt.which) || tt.which == "" && got.Which != "" {
				t.Errorf("got  %v until %v (%s)\nwant %v until %v (%s)", got.Open, got.Until, got.Which, tt.open, at(t, tt.until), tt.which)
			}
		})
	}
}

// Until when it says that it is shut, it is; and then it is open.
func TestOpeningKeepsItsWord(t *testing.T) {
	cfg := parse(t, prod(office+"\n"+late+"\n"+yearEnd+"\n"+night))
	target := release.Target{Env: "prod", Scope: "us-east-1", Team: "a"}
	for now := at(t, "2026-03-20 00:00:00"); now.Before(at(t, "2027-04-05 00:00:00")); now = now.Add(7 * time.Hour) {
		o := cfg.Opening(target, now, nil)
		if !o.Until.After(now) {
			t.Fatalf("at %v: %+v", now, o)
		}
		if then := cfg.Opening(target, o.Until, nil); then.Open == o.Open {
			t.Errorf("at %v: %+v; then: %+v", now, o, then)
		}
		if just := cfg.Opening(target, o.Until.Add(-time.Millisecond), nil); just.Open != o.Open {
			t.Errorf("at %v: %+v; just before: %+v", now, o, just)
		}
	}
}

func TestOrderProblems(t *testing.T) {
	for _, tt := range []struct{ name, inside, want string }{
		{"no cron", "window {\nduration = \"8h\"\n}", `environment.prod.window.1.cron is missing`},
		{"second window", "window {\ncron = \"0 9 * * *\"\nduration = \"8h\"\n}\nwindow {\ncron = \"0 9 * *\"\nduration = \"8h\"\n}", `environment.prod.window.2.cron is no time of cron`},
		{"zone in cron", "window {\ncron = \"TZ=0 0 9 * *\"\nduration = \"8h\"\n}", `is no time of cron`},
		{"descriptor", "window {\ncron = \"@daily\"\nduration = \"8h\"\n}", `is no time of cron`},
		{"never", "window {\ncron = \"0 0 30 2 *\"\nduration = \"8h\"\n}", `never comes`},
		{"too short", "window {\ncron = \"0 9 * * *\"\nduration = \"1s\"\n}", `cannot be less than 1m0s`},
		{"too long", "window {\ncron = \"0 9 * * *\"\nduration = \"8000h\"\n}", `is open for longer than 744h`},
		{"no zone", "window {\ncron = \"0 9 * * *\"\nduration = \"8h\"\ntime_zone = \"Local\"\n}", `time_zone is no time zone: "Local"`},
		{"no such team", "window {\ncron = \"0 9 * * *\"\nduration = \"8h\"\nteams = [\"c\"]\n}", `names "c", which is no team`},
		{"no such Region", "window {\ncron = \"0 9 * * *\"\nduration = \"8h\"\nregions = [\"us-west-2\"]\n}", `names "us-west-2", which the environment does not have`},
		{"backwards", "freeze \"x\" {\nfrom = \"2026-12-20\"\nto = \"2026-12-19\"\n}", `ends before it begins`},
		{"no day", "freeze \"x\" {\nfrom = \"20.12.2026\"\nto = \"2026-12-19\"\n}", `environment.prod.freeze.x.from is no day and no time`},
		{"soak of nothing", `soak = "24h"`, `has soak and promotes from nowhere`},
		{"scopes of nothing", `promotion_scopes = "all"`, `has promotion_scopes and promotes from nowhere`},
		{"scope that the other lacks", "promotes_from = \"dev\"\npromotion_scopes = [\"eu-central-1\"]", `names "eu-central-1", which environment "dev" does not have`},
		{"word beside scopes", "promotes_from = \"dev\"\npromotion_scopes = [\"same\", \"us-east-1\"]", `has "same" beside other words`},
		{"no scope", "promotes_from = \"dev\"\npromotion_scopes = []", `promotion_scopes is empty`},
		{"no word", "promotes_from = \"dev\"\npromotion_scopes = \"every\"", `cannot be "every"`},
		{"negative soak", "promotes_from = \"dev\"\nsoak = \"-1h\"", `cannot be less than 0s`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.Parse("waymark.hcl", []byte(prod(tt.inside)), environ(nil))
			var problems config.Problems
			if !errors.As(err, &problems) || len(problems) != 1 || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestProvenIn(t *testing.T) {
	for _, tt := range []struct {
		promotion, target string
		want              string
		any               bool
	}{
		{"", "prod_us-east-1/a", "", false},
		{`promotes_from = "dev"`, "prod_us-east-1/a", "dev_us-east-1/a", false},
		{`promotes_from = "dev"`, "prod_global/a", "dev_global/a", false},
		{`promotes_from = "dev"`, "prod_eu-central-1/a", "dev_us-east-1/a dev_global/a", true},
		{"promotes_from = \"dev\"\npromotion_scopes = \"same\"", "prod_us-east-1/a", "dev_us-east-1/a", false},
		{"promotes_from = \"dev\"\npromotion_scopes = \"all\"", "prod_eu-central-1/a", "dev_us-east-1/a", false},
		{"promotes_from = \"dev\"\npromotion_scopes = [\"global\", \"us-east-1\"]", "prod_eu-central-1/a", "dev_global/a dev_us-east-1/a", false},
	} {
		cfg := parse(t, prod(tt.promotion))
		target, err := release.ParseTarget(tt.target)
		if err != nil {
			t.Fatal(err)
		}
		all, any := cfg.ProvenIn(target)
		var got []string
		for _, p := range all {
			got = append(got, p.String())
		}
		if strings.Join(got, " ") != tt.want || any != tt.any {
			t.Errorf("%s for %s: %v, any %v", tt.promotion, tt.target, got, any)
		}
	}
}

func TestRemovalsNeedAnApproval(t *testing.T) {
	for _, tt := range []struct {
		inside string
		want   int
	}{{"", 1}, {"approvals = 2\napprovers = [\"group:x\"]", 2}, {"destroy_approvals = 0", 0}, {"approvals = 2\ndestroy_approvals = 3", 3}} {
		env, _ := parse(t, prod(tt.inside)).Environment("prod")
		got := 0
		for _, q := range env.DestroyRequirements() {
			got += q.Count
		}
		if got != tt.want || env.Destroy != "refuse" || env.Speculative != "branch" || env.Outside != "wait" {
			t.Errorf("%q: %d approvals, %+v", tt.inside, got, env)
		}
	}
}
