package page

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/api"
)

// Board is what runs where, and whether it is all right.
type Board struct {
	Filter    BoardFilter
	Envs      []BoardEnv // those that the filter leaves
	Names     []string   // of all environments
	Teams     []string   // all of them
	Total     int        // targets before the filter
	Shown     int        // and after it
	Active    int        // targets whose latest run goes on
	Behind    int        // targets whose team runs something newer in another Region
	Needs     []api.Run  // latest runs that a person has to look at, the worst first
	MoreNeeds int        // that are not shown
	Runs      []api.Run  // the latest
	Refused   []api.Release
	Freezes   []api.Freeze
	Instances *Instances // nil where there is one alone
}

// needing is how many targets wait for somebody to look at them.
func (b Board) needing() int { return len(b.Needs) + b.MoreNeeds }

// needs says that so many do.
func needs(n int) string {
	if n == 1 {
		return "1 needs a person"
	}
	return fmt.Sprintf("%d need a person", n)
}

// evenScopes is with how many columns at most those of a matrix are of one width:
// with more it becomes as wide as they need, and scrolls.
const evenScopes = 5

// BoardEnv is one environment: its teams, and the scopes that any of them has.
type BoardEnv struct {
	Name   string
	Closed string // why nothing may change there now; empty: it may
	Scopes []string
	Rows   []BoardRow
}

// BoardRow is one team's targets, one cell for each scope of the environment.
type BoardRow struct {
	Team  string
	Cells []BoardCell
}

// BoardCell is one target; without one the team has nothing there.
type BoardCell struct {
	Target *api.Target
	Behind string // the newest version in the team's Regions, where this one is older
}

// BoardFilter is what somebody wants to see, as it stands in the address.
type BoardFilter struct{ Env, Team, State, Text string }

// The values of BoardFilter.State that are no states of runs.
const (
	OnlyNeeds  = "needs"  // a person has to look at it
	OnlyActive = "active" // its latest run goes on
	OnlyBehind = "behind" // another Region of the team is ahead
)

// Any reports whether the filter leaves anything out.
func (b BoardFilter) Any() bool { return b != BoardFilter{} }

// Keeps reports whether the filter leaves a cell on the board.
func (b BoardFilter) Keeps(c BoardCell) bool {
	t := c.Target
	switch {
	case b.Env != "" && b.Env != t.Env, b.Team != "" && b.Team != t.Team,
		b.Text != "" && !strings.Contains(strings.ToLower(cellText(t)), strings.ToLower(b.Text)):
		return false
	}
	switch b.State {
	case "":
		return true
	case OnlyBehind:
		return c.Behind != ""
	case OnlyNeeds:
		return t.LatestRun != nil && Needs(*t.LatestRun) > 0
	case OnlyActive:
		return t.LatestRun != nil && GoesOn(*t.LatestRun)
	}
	return t.LatestRun != nil && t.LatestRun.State == b.State
}

// cellText is what a search looks at.
func cellText(t *api.Target) string {
	text := t.String() + " " + t.Account
	if t.Deployed != nil {
		text += " " + t.Deployed.Tag + " " + t.Deployed.Commit
	}
	if t.LatestRun != nil {
		text += " " + t.LatestRun.Tag + " " + t.LatestRun.Commit
	}
	return text
}

// Needs says how urgently a person has to look at a target's latest run; 0: not.
func Needs(r api.Run) int {
	switch r.State {
	case api.StateUnknown:
		return 4
	case api.StateFailed:
		return 3
	case api.StateDenied:
		return 2
	case api.StateAwaitingApproval:
		if !r.WaitsForTime() {
			return 1
		}
	}
	return 0
}

// GoesOn reports whether a run is at work, or is to be without anybody's doing.
func GoesOn(r api.Run) bool {
	return !r.Ended() && r.State != api.StateAwaitingApproval && !r.WaitsForTime()
}

// boardStates are the choices of the filter, and what each is called.
func boardStates() [][2]string {
	out := [][2]string{{"", "any state"}, {OnlyNeeds, "needs a person"}, {OnlyActive, "going on"}, {OnlyBehind, "behind a Region"}}
	for _, s := range []string{api.StateSucceeded, api.StateRunning, api.StateQueued, api.StateAwaitingApproval,
		api.StateFailed, api.StateDenied, api.StateRejected, api.StateCancelled, api.StateUnknown} {
		out = append(out, [2]string{s, words(s)})
	}
	return out
}

// KnownState reports whether a filter may ask for a state.
func KnownState(state string) bool {
	return slices.ContainsFunc(boardStates(), func(s [2]string) bool { return s[0] == state })
}

// TargetURL is the page of a target.
func TargetURL(env, scope, team string) string {
	return "/targets/" + url.PathEscape(env) + "/" + url.PathEscape(scope) + "/" + url.PathEscape(team)
}

// RunURL is the page of a run.
func RunURL(id string) string { return "/runs/" + url.PathEscape(id) }

// Instances are the processes of the service that have not stopped.
type Instances struct {
	Rows    []InstanceRow
	Dead    int
	Configs int // different configurations among those that live
}

// InstanceRow is one of them.
type InstanceRow struct {
	api.Instance
	Self    bool // whether it is the one that answers
	Differs bool // whether its configuration is another than that one's
}

// isDeployed reports whether the latest run is what is deployed.
func isDeployed(t *api.Target) bool {
	return t.Deployed != nil && t.LatestRun != nil && t.LatestRun.ID == t.Deployed.RunID
}

// cellTone marks cells that are at work, wait, went wrong, or are behind.
func cellTone(c BoardCell) string {
	switch {
	case c.Target.LatestRun != nil && c.Target.LatestRun.State != api.StateSucceeded:
		return "on-" + tone(c.Target.LatestRun.State)
	case c.Behind != "":
		return "on-wait"
	}
	return ""
}

// cellTime is when the latest run ended or, while it goes on, began.
func cellTime(t *api.Target) time.Time {
	if r := t.LatestRun; r.FinishedAt.IsZero() {
		return r.CreatedAt
	}
	return t.LatestRun.FinishedAt
}

// brief cuts text for a place that is small.
func brief(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "…"
	}
	return s
}
