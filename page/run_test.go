package page

import (
	"testing"
	"time"

	"github.com/waymark-cd/waymark/api"
)

// TestBarsLeaveTheAskingOut: next to hours in which people were asked the seconds of
// the stages would not be seen.
func TestBarsLeaveTheAskingOut(t *testing.T) {
	at := time.Date(2026, 3, 2, 14, 0, 0, 0, time.UTC)
	stage := func(name string, from, to time.Duration) api.Stage {
		s := api.Stage{Name: name, State: "passed", StartedAt: at.Add(from), FinishedAt: at.Add(to)}
		if to == 0 {
			s.FinishedAt = time.Time{}
		}
		return s
	}
	const asked = 5 * time.Hour
	plan, ask := stage("plan", 0, 10*time.Second), stage("approval", 10*time.Second, 10*time.Second+asked)
	for name, c := range map[string]struct {
		stages []api.Stage
		now    time.Duration
		want   []bar
	}{
		"while they are asked": {[]api.Stage{plan, stage("approval", 10*time.Second, 0), {Name: "apply"}}, asked, []bar{{0, 1000}, {992, 8}, {}}},
		"while it applies":     {[]api.Stage{plan, ask, stage("apply", 10*time.Second+asked, 0)}, 20*time.Second + asked, []bar{{0, 500}, {500, 8}, {500, 500}}},
		"when it is over": {[]api.Stage{plan, ask, stage("apply", 11*time.Second+asked, 40*time.Second+asked)}, 2 * asked,
			[]bar{{0, 250}, {250, 8}, {275, 725}}},
		"nobody asked": {[]api.Stage{plan, stage("apply", 10*time.Second, 20*time.Second)}, asked, []bar{{0, 500}, {500, 500}}},
		"none began":   {[]api.Stage{{Name: "plan"}}, 0, []bar{{}}},
	} {
		got := bars(Frame{Now: at.Add(c.now)}, api.Run{Stages: c.stages})
		for i := range c.want {
			if got[i] != c.want[i] {
				t.Errorf("%s: %s lies at %v, want %v", name, c.stages[i].Name, got[i], c.want[i])
			}
		}
	}
}
