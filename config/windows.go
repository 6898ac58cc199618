package config

import (
	"fmt"
	"regexp"
	"slices"
	"time"
	_ "time/tzdata" // the zones, for machines that have none

	"github.com/robfig/cron/v3"

	"github.com/waymark-cd/waymark/release"
)

// Window is a time in which changes may happen, again and again.
type Window struct {
	Cron     string // when it opens, in five fields
	Duration time.Duration
	TimeZone string
	Regions  []string // scopes that it is for; empty: all
	Teams    []string // likewise

	opens cron.Schedule
	zone  *time.Location
}

// Freeze is a time in which no change may happen.
type Freeze struct {
	Name     string
	From, To time.Time // To is the first moment after it
	TimeZone string
	Reason   string
	Regions  []string // scopes that it is for; empty: all
	Teams    []string // likewise

	from, to string // as written
}

// Opening is whether changes to a target may happen at a time.
type Opening struct {
	Open bool
	// Until is when that changes: the end of an open time, or the earliest moment
	// at which it opens. Zero: not in sight.
	Until time.Time
	// Which are the windows, or the freeze, that decide, for people; empty where
	// nothing restricts.
	Which string
}

// closure is a freeze of either kind.
type closure struct {
	from, to time.Time
	which    string
}

// Opening says whether changes to a target may happen at a time: inside one of
// the windows that are for it, where there are any, and outside of every freeze
// that is. set are the freezes that people have set; lifted ones do not count.
// It is pure: the same arguments give the same answer.
func (c *Config) Opening(t release.Target, at time.Time, set []release.Freeze) Opening {
	env, _ := c.Environment(t.Env)
	windows, closures := env.windowsFor(t), env.closuresFor(t, set)
	open, until, which := look(windows, closures, at)
	if open {
		return Opening{Open: true, Until: until, Which: which}
	}
	// What shuts may change on the way to the next opening: a freeze that ends
	// outside of the windows, a window that opens in a freeze.
	for range 1000 {
		if until.IsZero() {
			break
		}
		next := until
		if open, until, _ = look(windows, closures, next); open {
			return Opening{Until: next, Which: which}
		}
	}
	return Opening{Which: which}
}

// look judges one moment, and says when the answer may change; zero: never, or
// not in sight.
func look(windows []Window, closures []closure, at time.Time) (open bool, until time.Time, which string) {
	for _, c := range closures {
		if !at.Before(c.from) && at.Before(c.to) && c.to.After(until) {
			until, which = c.to, c.which
		}
	}
	if which != "" {
		return false, until, which
	}
	open, until, which = lookWindows(windows, at)
	if open {
		for _, c := range closures {
			if c.from.After(at) && (until.IsZero() || c.from.Before(until)) {
				until = c.from
			}
		}
	}
	return open, until, which
}

// lookWindows is look for windows alone.
func lookWindows(windows []Window, at time.Time) (open bool, until time.Time, which string) {
	if len(windows) == 0 {
		return true, time.Time{}, ""
	}
	var next time.Time
	for _, w := range windows {
		if end, inside := w.covers(at); inside {
			if !open || end.After(until) {
				until, which = end, w.String()
			}
			open = true
		}
		if n := w.opens.Next(at.In(w.zone)); !n.IsZero() && (next.IsZero() || n.Before(next)) {
			next = n
			if !open {
				which = w.String()
			}
		}
	}
	if !open {
		return false, next.UTC(), which
	}
	for range 1000 { // another window may go on where this one ends
		later := until
		for _, w := range windows {
			if end, inside := w.covers(until); inside && end.After(later) {
				later = end
			}
		}
		if later.Equal(until) {
			return true, until.UTC(), which
		}
		until = later
	}
	return true, time.Time{}, which
}

// covers reports whether a time is inside of the window, and until when.
func (w Window) covers(at time.Time) (end time.Time, inside bool) {
	began := w.opens.Next(at.Add(-w.Duration).In(w.zone))
	if began.IsZero() || began.After(at) {
		return time.Time{}, false
	}
	return began.Add(w.Duration), true
}

// String prints the window as it is configured.
func (w Window) String() string {
	return fmt.Sprintf("window %q for %s (%s)", w.Cron, shortDuration(w.Duration), w.TimeZone)
}

func (e Environment) windowsFor(t release.Target) []Window {
	return slices.DeleteFunc(slices.Clone(e.Windows), func(w Window) bool { return !selects(w.Regions, t.Scope) || !selects(w.Teams, t.Team) })
}

func (e Environment) closuresFor(t release.Target, set []release.Freeze) []closure {
	var out []closure
	for _, f := range e.Freezes {
		if selects(f.Regions, t.Scope) && selects(f.Teams, t.Team) {
			out = append(out, closure{f.From, f.To, because(fmt.Sprintf("freeze %q", f.Name), f.Reason)})
		}
	}
	for _, f := range set {
		if f.Covers(t) && f.LiftedAt.IsZero() {
			out = append(out, closure{time.Time{}, f.Until,
				because(fmt.Sprintf("freeze %d of %s by %s", f.ID, f.Where.Place(), f.CreatedBy), f.Reason)})
		}
	}
	return out
}

func selects(names []string, name string) bool {
	return len(names) == 0 || slices.Contains(names, name)
}

func because(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
}

// shortDuration prints a duration without its zeros: 8h, not 8h0m0s.
func shortDuration(d time.Duration) string {
	return regexp.MustCompile(`(\D)0s$`).ReplaceAllString(regexp.MustCompile(`h0m0s$`).ReplaceAllString(d.String(), "h"), "$1")
}

const (
	leastWindow = time.Minute
	mostWindow  = 31 * 24 * time.Hour
)

func windowBlock() block {
	return block{
		name: "window", many: true,
		in:    within(func(e *Environment, _ string) any { return added(&e.Windows, Window{}) }),
		about: "A time in which changes may happen. Any number; where windows overlap, all of their time counts. A target that no window is for may change at any time. See [Order](order.md#windows-and-freezes).",
		fields: []field{
			{name: "cron", required: true, at: of(func(w *Window) any { return &w.Cron }), check: checkCron, example: `"0 9 * * MON-THU"`,
				meaning: "When it opens: minute, hour, day of the month, month and day of the week, as cron has them (0 or SUN is Sunday). A time that the change to summer time leaves out does not come that day."},
			{name: "duration", required: true, at: of(func(w *Window) any { return &w.Duration }), least: leastWindow, example: `"8h"`,
				meaning: "How long it is open, in time that passes. At least `\"1m\"`, at most `\"744h\"`."},
			{name: "time_zone", at: of(func(w *Window) any { return &w.TimeZone }), check: checkZone, fallback: `"UTC"`, example: `"Europe/Berlin"`,
				meaning: "The zone of `cron`, by its name in the time zone database."},
			{name: "regions", at: of(func(w *Window) any { return &w.Regions }), check: checkScope, unset: "all", example: `["eu-central-1"]`,
				meaning: "Scopes that it is for: Regions, or `global`."},
			{name: "teams", at: of(func(w *Window) any { return &w.Teams }), unset: "all", example: `["research"]`,
				meaning: "Teams that it is for."},
		},
	}
}

func freezeBlock() block {
	return block{
		name: "freeze", label: "name", many: true, checkLabel: checkName,
		in:    within(func(e *Environment, name string) any { return added(&e.Freezes, Freeze{Name: name}) }),
		about: "A time in which nothing may change, whatever the windows say. `waymark freeze` sets one at once.",
		fields: []field{
			{name: "from", required: true, at: of(func(f *Freeze) any { return &f.from }), check: checkMoment, example: `"2026-12-20"`,
				meaning: "When it begins: a day, a day and a time such as `\"2026-12-20 18:00\"`, both in `time_zone`, or a time with its own zone such as `\"2026-12-20T18:00:00Z\"`."},
			{name: "to", required: true, at: of(func(f *Freeze) any { return &f.to }), check: checkMoment, example: `"2027-01-02"`,
				meaning: "When it ends. A day is part of it to its end."},
			{name: "time_zone", at: of(func(f *Freeze) any { return &f.TimeZone }), check: checkZone, fallback: `"UTC"`, example: `"Europe/Berlin"`,
				meaning: "The zone of days and times without one."},
			{name: "reason", at: of(func(f *Freeze) any { return &f.Reason }), unset: "none", example: `"year-end closing"`,
				meaning: "Why; whoever has to wait is told."},
			{name: "regions", at: of(func(f *Freeze) any { return &f.Regions }), check: checkScope, unset: "all", example: `["eu-central-1"]`,
				meaning: "Scopes that it is for: Regions, or `global`."},
			{name: "teams", at: of(func(f *Freeze) any { return &f.Teams }), unset: "all", example: `["research"]`,
				meaning: "Teams that it is for."},
		},
	}
}

// cronForm keeps what the parser of schedules has beyond cron's five fields, zones
// and descriptors, out.
var cronForm = regexp.MustCompile(`^[0-9A-Za-z*/,-]+( +[0-9A-Za-z*/,-]+){4}$`)

func parseCron(s string) (cron.Schedule, error) {
	if len(s) > 256 || !cronForm.MatchString(s) {
		return nil, fmt.Errorf("it has no five fields")
	}
	return cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow).Parse(s)
}

func checkCron(s string) (summary, detail string) {
	const write = `write minute, hour, day of the month, month and day of the week, such as "0 9 * * MON-THU"`
	schedule, err := parseCron(s)
	if err != nil {
		return fmt.Sprintf("is no time of cron: %q: %v", short(s), err), write
	}
	if schedule.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return fmt.Sprintf("never comes: %q", short(s)), write
	}
	return "", ""
}

func checkZone(s string) (summary, detail string) {
	if _, err := time.LoadLocation(s); err == nil && s != "" && s != "Local" {
		return "", ""
	}
	return fmt.Sprintf("is no time zone: %q", short(s)), `write a name of the time zone database, such as "Europe/Berlin", or "UTC"`
}

func checkMoment(s string) (summary, detail string) {
	if _, _, ok := parseMoment(s, time.UTC); ok {
		return "", ""
	}
	return fmt.Sprintf("is no day and no time: %q", short(s)), `write one such as "2026-12-20", "2026-12-20 18:00" or "2026-12-20T18:00:00Z"`
}

// parseMoment reads a day or a time; end is the first moment after it, which for
// a time is the time itself.
func parseMoment(s string, zone *time.Location) (begin, end time.Time, ok bool) {
	if day, err := time.ParseInLocation(time.DateOnly, s, zone); err == nil {
		return day, day.AddDate(0, 0, 1), true
	}
	for _, form := range []string{"2006-01-02 15:04", "2006-01-02T15:04", time.RFC3339} {
		if at, err := time.ParseInLocation(form, s, zone); err == nil {
			return at, at, true
		}
	}
	return time.Time{}, time.Time{}, false
}

// checkWindows reads what windows and freezes say, and finds those that are for
// nothing.
func (d *decoder) checkWindows(cfg *Config) {
	for i := range cfg.Environments {
		e := &cfg.Environments[i]
		scopes := slices.Clone(e.Regions)
		if cfg.GlobalRegion != "" {
			scopes = append(scopes, release.Global)
		}
		for n := range e.Windows {
			w, path := &e.Windows[n], fmt.Sprintf("environment.%s.window.%d", e.Name, n+1)
			if !d.intact(path) {
				continue
			}
			w.opens, _ = parseCron(w.Cron)
			w.zone, _ = time.LoadLocation(w.TimeZone)
			if w.Duration > mostWindow {
				d.report(d.at(path+".duration"), fmt.Sprintf("a window of environment %q is open for longer than %s", e.Name, shortDuration(mostWindow)),
					"write a shorter one, or take the windows out to let changes happen at any time")
			}
			d.checkChosen(cfg, path, scopes, w.Regions, w.Teams)
		}
		for n := range e.Freezes {
			f, path := &e.Freezes[n], "environment."+e.Name+".freeze."+e.Freezes[n].Name
			if !d.intact(path) {
				continue
			}
			zone, _ := time.LoadLocation(f.TimeZone)
			f.From, _, _ = parseMoment(f.from, zone)
			_, f.To, _ = parseMoment(f.to, zone)
			if !f.From.Before(f.To) {
				d.report(d.at(path+".to"), fmt.Sprintf("freeze %q of environment %q ends before it begins", f.Name, e.Name), "swap from and to, or correct one")
			}
			d.checkChosen(cfg, path, scopes, f.Regions, f.Teams)
		}
	}
}

// checkChosen holds the scopes and teams that a window or a freeze is for against
// what is configured.
func (d *decoder) checkChosen(cfg *Config, path string, scopes, chosen, teams []string) {
	if !d.intact("global_region", "teams") {
		return
	}
	for _, s := range chosen {
		if !slices.Contains(scopes, s) {
			d.report(d.at(path+".regions"), fmt.Sprintf("%s.regions names %q, which the environment does not have", path, short(s)), Choose(s, scopes))
		}
	}
	for _, team := range teams {
		if !slices.Contains(cfg.Teams, team) {
			d.report(d.at(path+".teams"), fmt.Sprintf("%s.teams names %q, which is no team", path, short(team)), Choose(team, cfg.Teams))
		}
	}
}
