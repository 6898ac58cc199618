package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/api"
)

// newStatusCommand builds `waymark status [TARGET]`.
func newStatusCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [TARGET]",
		Short: "Show what is deployed where, and what happened last",
		Long: "Show the board: per target the deployed version, its commit, when, the latest run and its state.\n" +
			"TARGET is a tag without its version, such as dev_us-east-1/research.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageErrorf("status takes one TARGET or none, not %d", len(args))
			}
			return nil
		},
	}
	watch, out := addWatchFlag(cmd), addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		load := g.loadBoard
		if len(args) == 1 {
			t, err := parseTargetArg(args[0])
			if err != nil {
				return err
			}
			load = g.loadTarget(t)
		}
		return g.show(cmd, *watch, out, load)
	}
	return cmd
}

func (g *globals) loadBoard(ctx context.Context, c *api.Client) (any, drawing, error) {
	list, err := c.Targets(ctx)
	return list, func(out, notes io.Writer, now time.Time) {
		renderBoard(out, list.Targets, now, g.colour)
		renderWaiting(notes, list.Targets)
	}, err
}

func (g *globals) loadTarget(t api.TargetRef) loading {
	return func(ctx context.Context, c *api.Client) (any, drawing, error) {
		target, err := c.Target(ctx, t.Env, t.Scope, t.Team)
		return target, func(out, _ io.Writer, now time.Time) { renderTarget(out, target, now, g.colour) }, err
	}
}

// renderBoard prints one line per target: what is deployed, and the latest run.
// Without targets it says how to get one.
func renderBoard(w io.Writer, targets []api.Target, now time.Time, colour bool) {
	if len(targets) == 0 {
		fmt.Fprintln(w, "No targets yet. Push a tag such as dev_us-east-1/research/1.0 and its target appears here.")
		return
	}
	board := table{header: []string{"TARGET", "VERSION", "COMMIT", "WHEN", "RUN", "STATE"}, cut: []string{"COMMIT", "WHEN", "VERSION", "STATE"}}
	for _, t := range targets {
		version, commit, when := "-", "-", "-"
		if d := t.Deployed; d != nil {
			version, commit, when = d.Version, shortCommit(d.Commit), ago(now, d.At)
		} else if d := t.Destroyed; d != nil {
			version, when = "destroyed", ago(now, d.At)
		}
		run, state := "-", cell{"-", paintOf("-")}
		if r := t.LatestRun; r != nil {
			run, state = r.ID, cell{stateOf(*r), paintOf(r.State)}
		}
		board.row(t.String(), version, commit, when, run, state)
	}
	board.write(w, colour)
}

// stateOf is a run's state, with until when it waits.
func stateOf(r api.Run) string {
	if r.WaitsForTime() {
		return r.State + " until " + r.WaitUntil.Format(time.RFC3339)
	}
	return r.State
}

// versionOf is a run's version, or what it plans without one.
func versionOf(r api.Run) string { return cmp.Or(r.Ref, r.Version) }

// renderWaiting says what to look at where a target waits for a person.
func renderWaiting(w io.Writer, targets []api.Target) {
	for _, t := range targets {
		if r := t.LatestRun; r != nil && !r.WaitsForTime() && (r.State == api.StateAwaitingApproval || r.State == api.StateUnknown) {
			fmt.Fprintf(w, "%s waits for a person: waymark runs show %s\n", clean(t.String()), clean(r.ID))
		}
	}
}

// renderTarget prints one target in full.
func renderTarget(w io.Writer, t api.Target, now time.Time, colour bool) {
	fmt.Fprintln(w, bold.on(clean(t.String()), colour))
	facts := table{indent: "  "}
	facts.row("account", cmp.Or(t.Account, "-"))
	facts.row("region", cmp.Or(t.Region, "-"))
	facts.row("state", fmt.Sprintf("%s %s %s", t.Backend.Kind, t.Backend.Bucket, t.Backend.Key))
	if t.Backend.Lock != "" {
		facts.row("lock", t.Backend.Lock)
	}
	if d := t.Deployed; d != nil {
		facts.row("deployed", fmt.Sprintf("%s (commit %s, run %s, %s)", d.Version, shortCommit(d.Commit), d.RunID, ago(now, d.At)))
	} else if d := t.Destroyed; d != nil {
		facts.row("destroyed", fmt.Sprintf("%s (run %s, %s)", d.Version, d.RunID, ago(now, d.At)))
	} else {
		facts.row("deployed", "nothing yet")
	}
	if r := t.LatestRun; r != nil {
		facts.row("latest run", fmt.Sprintf("%s (%s, %s)", r.ID, r.Version, ago(now, r.CreatedAt)))
		facts.row("", cell{r.State, paintOf(r.State)})
		if r.Reason != "" {
			facts.row("", r.Reason)
		}
	}
	facts.write(w, colour)
}

// shortCommit cuts a commit id to what people compare.
func shortCommit(id string) string {
	if len(id) > 10 {
		return id[:10]
	}
	return cmp.Or(id, "-")
}
