package server_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/server"
)

func TestFreezesAreForThoseWhoMay(t *testing.T) {
	o := testkit.StartOIDC(t, false)
	w := newWorld(t, withIssuer(t, o))
	a, b, r := w.as(o.Token(alice)), w.as(o.Token(bob)), w.as(o.Token(root))
	set := func(c *api.Client, where string, want int) string {
		t.Helper()
		f, err := c.Freeze(t.Context(), api.FreezeSet{Where: where, For: "1h", Reason: "why"})
		if status(err) != want || err == nil && (f.Where != where || !f.InForce) {
			t.Errorf("freezing %s: %d, want %d: %+v %v", where, status(err), want, f, err)
		}
		return f.ID
	}
	set(a, "prod", 403)         // an approver works on no runs
	set(b, "prod", 403)         // not of all teams
	set(b, "dev/research", 403) // not of this one
	set(r, "test", 404)
	set(r, "Prod", 422)
	mine, all := set(b, "prod/risk", 200), set(r, "prod", 200)
	research := set(r, "dev_us-east-1/research", 200)
	for name, tt := range map[string]struct {
		c    *api.Client
		want []string
	}{"alice": {a, []string{mine, all}}, "bob": {b, []string{mine, all}}, "root": {r, []string{mine, all, research}}} {
		list, err := tt.c.Freezes(t.Context(), false)
		var got []string
		for _, f := range list.Freezes {
			got = append(got, f.ID)
		}
		if slices.Sort(got); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s sees %v, want %v, %v", name, got, tt.want, err)
		}
	}
	thaw := func(c *api.Client, id string, want int, says string) {
		t.Helper()
		f, err := c.Thaw(t.Context(), id, api.Thaw{Reason: "over"})
		if status(err) != want || err != nil && !strings.Contains(err.Error(), says) || err == nil && f.InForce {
			t.Errorf("thawing %s: %d, want %d %q: %+v %v", id, status(err), want, says, f, err)
		}
	}
	thaw(a, mine, 403, "needs the role admin")
	thaw(b, all, 403, "thawing what another has frozen needs the role admin")
	thaw(b, research, 404, "not found") // of which there is nothing to know
	thaw(b, "x", 404, "an id is a number")
	thaw(b, mine, 200, "")
	thaw(r, mine, 409, "was lifted by bob@example.org already")
	thaw(r, all, 200, "")
	for body, says := range map[string]string{
		`{"where":"prod","reason":"x"}`:                                             "one of the two",
		`{"where":"prod","reason":"x","for":"1h","until":"2999-01-01T00:00:00Z"}`:   "one of the two",
		`{"where":"prod","reason":" ","for":"1h"}`:                                  "say why",
		`{"where":"prod","reason":"x","for":"-1h"}`:                                 "is no duration",
		`{"where":"prod","reason":"x","for":"soon"}`:                                "is no duration",
		`{"where":"prod","reason":"x","until":"2020-01-01T00:00:00Z"}`:              "has passed",
		`{"where":"prod_us-east-1/research/1.0","reason":"x","for":"1h"}`:           "write an environment",
		`{"where":"prod","reason":"x","for":"1h","team":"research","lasting":true}`: "",
	} {
		resp, answer := w.do("POST", "/api/v1/freezes", body, "Content-Type", "application/json", "Authorization", "Bearer "+o.Token(root))
		if resp.StatusCode != 422 || !strings.Contains(answer, says) {
			t.Errorf("%s: %d %s", body, resp.StatusCode, answer)
		}
	}
}

func TestOrdersComeInTheNameOfWhoMay(t *testing.T) {
	o := testkit.StartOIDC(t, false)
	var got []release.Order
	w := newWorld(t, func(c *server.Config) {
		withIssuer(t, o)(c)
		c.Order = func(_ context.Context, o release.Order) (release.Run, error) {
			got = append(got, o)
			return release.Run{ID: 7, Kind: o.Kind, Target: o.Target, Ref: o.Ref, State: release.Queued}, nil
		}
	})
	prod, risk := api.TargetRef{Env: "prod", Scope: "us-east-1", Team: "research"}, api.TargetRef{Env: "dev", Scope: "us-east-1", Team: "risk"}
	a, b, r := w.as(o.Token(alice)), w.as(o.Token(bob)), w.as(o.Token(root))
	back, gone := api.Rollback{To: "1.0", Reason: " slow "}, api.Destroy{Confirm: risk.String(), Reason: "over"}
	for _, tt := range []struct {
		what string
		do   func() (api.Run, error)
		want int
		as   release.Order
	}{
		{"a viewer plans", func() (api.Run, error) { return a.PlanOnly(t.Context(), prod, api.PlanOrder{Ref: "main"}) }, 200,
			release.Order{Kind: release.PlanOnly, Ref: "main", Actor: "alice@example.org"}},
		{"a viewer looks for drift", func() (api.Run, error) { return a.Drift(t.Context(), prod, api.Drift{}) }, 200,
			release.Order{Kind: release.Drift, Actor: "alice@example.org"}},
		{"nobody plans elsewhere", func() (api.Run, error) { return a.PlanOnly(t.Context(), risk, api.PlanOrder{Ref: "main"}) }, 403, release.Order{}},
		{"an approver rolls nothing back", func() (api.Run, error) { return a.Rollback(t.Context(), prod, back) }, 403, release.Order{}},
		{"an operator rolls back", func() (api.Run, error) { return b.Rollback(t.Context(), risk, back) }, 200,
			release.Order{Kind: release.Rollback, Version: "1.0", Actor: "bob@example.org", Reason: "slow"}},
		{"an operator destroys nothing", func() (api.Run, error) { return b.Destroy(t.Context(), risk, gone) }, 403, release.Order{}},
		{"an admin destroys", func() (api.Run, error) { return r.Destroy(t.Context(), risk, gone) }, 200,
			release.Order{Kind: release.Destroy, Confirm: risk.String(), Actor: "root@example.org", Reason: "over"}},
		{"a rollback says why", func() (api.Run, error) { return r.Rollback(t.Context(), risk, api.Rollback{}) }, 422, release.Order{}},
	} {
		got = nil
		run, err := tt.do()
		if status(err) != tt.want || (len(got) == 1) != (tt.want == 200) {
			t.Errorf("%s: %d, want %d: %v %+v", tt.what, status(err), tt.want, err, got)
			continue
		}
		if tt.want != 200 {
			continue
		}
		tt.as.Target = got[0].Target
		if got[0] != tt.as || run.ID != "7" || run.Ref != tt.as.Ref || run.Target.String() != got[0].Target.String() {
			t.Errorf("%s: %+v, want %+v; %+v", tt.what, got[0], tt.as, run)
		}
	}
}
