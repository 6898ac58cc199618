package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/release"
)

// newWatchCommand builds `waymark watch`.
func newWatchCommand(g *globals) *cobra.Command {
	var q api.EventQuery
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Show what happens, as it happens",
		Long: "Show what happens as it happens: decisions and effects as the audit log has them, and the stages of runs.\n" +
			"It begins with the runs that are at work, and goes on until it is interrupted, also over restarts of the service.",
		Args: exactArgs(),
	}
	flags := cmd.Flags()
	flags.StringVar(&q.Target, "target", "", "only this target, such as dev_us-east-1/research")
	flags.StringVar(&q.Env, "env", "", "only this environment")
	flags.StringVar(&q.Team, "team", "", "only this team")
	flags.StringSliceVar(&q.Types, "type", nil, "only these types, such as run.approved or run.*")
	flags.StringVar(&q.Last, "after", "", "go on after this entry of the audit log; -1 for all of it")
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if q.Target != "" {
			if _, err := release.ParseTarget(q.Target); err != nil {
				return &exitError{exitUsage, err}
			}
		}
		if n, err := strconv.ParseInt(cmp.Or(q.Last, "0"), 10, 64); err != nil || n < -1 {
			return usageErrorf("--after %q: write the index of an entry of the audit log, or -1 for all of them", q.Last)
		}
		return g.withClient(func(c *api.Client) error {
			w := watcher{g: g, asJSON: out.json(), seen: map[string]string{}}
			err := c.Events(cmd.Context(), q, w.event)
			if errors.Is(err, context.Canceled) && cmd.Context().Err() != nil {
				return nil // it was told to end
			}
			return err
		})
	}
	return cmd
}

// watcher prints events for people or programs.
type watcher struct {
	g      *globals
	asJSON bool
	seen   map[string]string // by run, what was last said of it
}

// maxSeen bounds the runs whose last line is remembered.
const maxSeen = 10_000

func (w *watcher) event(e api.Event) error {
	if w.asJSON {
		return printJSON(w.g.stdout, e, "")
	}
	if e.Kind() != api.RunChanged {
		entry, err := e.Entry()
		if err == nil {
			_, err = fmt.Fprintln(w.g.stdout, w.line(e.Time, e.Subject, entry.RunID, entryText(entry)))
		}
		return err
	}
	run, err := e.Run()
	if err != nil {
		return err
	}
	text := w.runText(run)
	if w.seen[run.ID] == text { // it has changed in a way that this line does not show
		return nil
	}
	if len(w.seen) >= maxSeen {
		clear(w.seen)
	}
	if w.seen[run.ID] = text; run.Ended() {
		delete(w.seen, run.ID)
		return nil // the audit log says so
	}
	_, err = fmt.Fprintln(w.g.stdout, w.line(e.Time, e.Subject, run.ID, text))
	return err
}

func (w *watcher) line(at time.Time, subject, run, text string) string {
	if run != "" {
		run = "run " + clean(run)
	}
	return strings.TrimRight(fmt.Sprintf("%s %-30s %-8s %s", at.Local().Format(time.TimeOnly), cmp.Or(clean(subject), "-"), run, text), " ")
}

// entryText is an entry in one line: what, by whom, and why.
func entryText(e api.AuditEntry) string {
	text := clean(e.Action)
	if e.RunID == "" && e.Tag != "" {
		text += " " + clean(e.Tag)
	}
	if e.Actor != "" && e.Actor != "waymark" {
		text += " by " + clean(e.Actor)
	}
	if e.Reason != "" {
		text += ": " + clean(e.Reason)
	}
	return text
}

// runText says where a run is: its state, the stage at work and what that says.
func (w *watcher) runText(r api.Run) string {
	text := paintOf(r.State).on(strings.ReplaceAll(clean(r.State), "_", " "), w.g.colour)
	var at []string
	for _, s := range r.Stages {
		if s.State == string(release.StageRunning) {
			at = append(at, clean(s.Name))
		}
	}
	if len(at) > 0 {
		text += ": " + strings.Join(at, ", ")
	} else if r.Reason != "" {
		text += ": " + clean(r.Reason)
	}
	return text
}
