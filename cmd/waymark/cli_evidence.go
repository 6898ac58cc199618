package main

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/api"
)

func newRunsEvidenceCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "evidence ID",
		Short: "Gather again what can be told of a run whose end is unknown",
		Args:  runIDArg,
	}
	var refresh bool
	cmd.Flags().BoolVar(&refresh, "refresh", false, "also queue a run that compares what is there with the state, and changes nothing")
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return g.withClient(func(c *api.Client) error {
			gather := c.Evidence
			if refresh {
				gather = c.Refresh
			}
			run, err := gather(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if out.json() {
				return printJSON(g.stdout, run, "  ")
			}
			fmt.Fprintf(g.stdout, "Run %s  %s  %s\n", clean(run.ID), clean(run.Name()), paintOf(run.State).on(clean(run.State), g.colour))
			renderEvidence(g.stdout, run, time.Now(), g.colour)
			return nil
		})
	}
	return cmd
}

// renderEvidence prints what can be told of a run whose apply ended unseen.
func renderEvidence(w io.Writer, r api.Run, now time.Time, colour bool) {
	e := r.Evidence
	if e == nil {
		if r.State == api.StateUnknown {
			section(w, "Evidence", "not gathered yet: waymark runs evidence "+clean(r.ID), colour)
		}
		return
	}
	section(w, "Evidence", "gathered "+ago(now, e.GatheredAt), colour)
	t := table{indent: "  "}
	t.row("runner", runnerText(*e))
	t.row("events", eventsText(*e, now))
	t.row("lock", lockText(e.Lock, now))
	t.row("state before", markText(e.State.SerialBefore, e.State.LineageBefore))
	t.row("state now", markText(e.State.SerialNow, e.State.LineageNow))
	switch {
	case e.ErroredState:
		t.row("kept state", keptText(e.State)+": the apply could not write it")
	case e.Runner == "ended" || e.Runner == "died" || e.Runner == "never":
		t.row("kept state", "none")
	default:
		t.row("kept state", "not known")
	}
	if e.Refresh != nil {
		t.row("what is there", refreshText(*e.Refresh))
	}
	for _, what := range e.Unread {
		t.row(cell{"not read", yellow}, what)
	}
	t.write(w, colour)
}

// refreshText says what came of the look at what is there.
func refreshText(r api.Refresh) string {
	switch {
	case r.State == api.StateSucceeded && r.Changes == (api.Changes{}):
		return "as the state says (run " + r.RunID + ")"
	case r.State == api.StateSucceeded:
		return fmt.Sprintf("%d added, %d changed, %d gone, against the state (run %s)", r.Changes.Add, r.Changes.Change, r.Changes.Destroy, r.RunID)
	}
	return fmt.Sprintf("run %s, which is %s, looks at it", r.RunID, cmp.Or(r.State, "forgotten"))
}

func runnerText(e api.Evidence) string {
	return map[string]string{
		"ended":     "it ended by itself",
		"died":      "it died without a result",
		"never":     "it never began",
		"alive":     "it is at work",
		"elsewhere": "only instance " + cmp.Or(e.RunnerOn, "(unknown)") + " can tell",
		"untold":    "nobody can tell",
	}[e.Runner]
}

func eventsText(e api.Evidence, now time.Time) string {
	end := "end"
	switch {
	case e.LastEvent == "":
		return "none"
	case e.EventsEnd == "running":
		end = "break off"
	}
	return fmt.Sprintf("%s %s with %q", end, ago(now, e.LastEventAt), e.LastEvent)
}

func lockText(l api.LockEvidence, now time.Time) string {
	if !l.Held {
		return "free, as far as could be read"
	}
	whose := "a stranger's"
	switch {
	case l.Ours && l.Alive:
		whose = "this run's, not known dead"
	case l.Ours:
		whose = "this run's, dead"
	}
	return fmt.Sprintf("%s: %s by %s since %s (%s)", whose, cmp.Or(l.ID, "no id"), cmp.Or(l.Who, "somebody unnamed"), ago(now, l.Created), cmp.Or(l.Operation, "-"))
}

func markText(serial *int64, lineage string) string {
	switch {
	case serial == nil:
		return "not read"
	case lineage == "" && *serial == 0:
		return "there was none"
	}
	return fmt.Sprintf("serial %d, lineage %s", *serial, lineage)
}

func keptText(s api.StateEvidence) string {
	if s.SerialKept != nil && s.LineageKept == "" {
		return fmt.Sprintf("serial %d, the first of its target", *s.SerialKept)
	}
	return markText(s.SerialKept, s.LineageKept)
}
