package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/release"
)

// newApproveCommand builds `waymark runs approve`.
func newApproveCommand(g *globals) *cobra.Command {
	var d api.Decision
	var yes bool
	cmd := &cobra.Command{
		Use:   "approve ID",
		Short: "Approve the plan of a run that awaits approval",
		Long: `Approves the plan of a run. On a terminal the plan is shown first, and the approval
asked for. It is given for that very plan: where another has taken its place
meanwhile, nothing is approved.`,
		Args: runIDArg,
	}
	flags := cmd.Flags()
	flags.StringVar(&d.Reason, "reason", "", "why; it is kept in the audit log")
	flags.StringVar(&d.PlanDigest, "digest", "", "approve this plan alone, by its digest (waymark runs show ID), without looking at it again")
	flags.BoolVar(&yes, "yes", false, "do not ask")
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if d.PlanDigest == "" {
			asks := !yes && !out.json() && isTerminal(cmd.InOrStdin())
			if err := g.lookBefore(cmd.Context(), args[0], &d, asks, cmd.InOrStdin()); err != nil {
				return err
			}
		}
		return g.decide(cmd.Context(), args[0], release.Approve, d, out.json())
	}
	return cmd
}

// newRejectCommand builds `waymark runs reject`.
func newRejectCommand(g *globals) *cobra.Command {
	var d api.Decision
	cmd := &cobra.Command{Use: "reject ID", Short: "Reject the plan of a run that awaits approval", Args: runIDArg}
	flags := cmd.Flags()
	flags.StringVar(&d.Reason, "reason", "", "why; it is kept in the audit log")
	flags.StringVar(&d.PlanDigest, "digest", "", "reject this plan alone, by its digest (waymark runs show ID)")
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if d.Reason == "" {
			return usageErrorf("reject needs --reason: say why, for whoever pushed the tag")
		}
		return g.decide(cmd.Context(), args[0], release.Reject, d, out.json())
	}
	return cmd
}

// lookBefore binds a decision to the plan that the run has now and, where it
// asks, shows that plan first. A no is an error.
func (g *globals) lookBefore(ctx context.Context, id string, d *api.Decision, asks bool, in io.Reader) error {
	return g.withClient(func(c *api.Client) error {
		page, err := loadRunPage(ctx, c, id)
		if err != nil {
			return err
		}
		d.PlanDigest = page.run.PlanDigest
		if !asks || page.run.State != api.StateAwaitingApproval {
			return nil // what does not wait, the service refuses
		}
		page.renderQuestion(g.stderr, time.Now(), g.colour)
		if !g.agrees(in) {
			return &exitError{exitRefused, errors.New("nothing was approved")}
		}
		return nil
	})
}

// renderQuestion prints what an approval is asked for.
func (p runPage) renderQuestion(w io.Writer, now time.Time, colour bool) {
	fmt.Fprintf(w, "%s  %s\n", bold.on("Run "+clean(p.run.ID), colour), clean(p.run.Name()))
	p.renderFacts(w, now, colour)
	if p.plan != nil {
		renderPlan(w, *p.plan, colour)
	}
	if len(p.findings) > 0 {
		renderFindings(w, p.run.Findings, p.findings, colour)
	}
	fmt.Fprintf(w, "\nThis approves the plan %s.\n", clean(p.run.PlanDigest))
}

// isTerminal reports whether somebody types what r reads.
func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
