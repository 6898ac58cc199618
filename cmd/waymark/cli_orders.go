package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/tagparse"
)

// orderFlags are what every command that asks for a run has.
type orderFlags struct {
	wait   bool
	reason string
	out    *outputFlag
}

func addOrderFlags(cmd *cobra.Command) *orderFlags {
	f := &orderFlags{}
	cmd.Flags().BoolVar(&f.wait, "wait", false, "wait until the run ends; exit 0 when it succeeded, 1 when it did not")
	cmd.Flags().StringVar(&f.reason, "reason", "", "why; it is kept in the audit log")
	f.out = addOutputFlag(cmd)
	return f
}

// ordered asks for a run, waits for it where that is wanted, and prints it.
func (g *globals) ordered(ctx context.Context, f *orderFlags, ask func(*api.Client) (api.Run, error)) error {
	return g.withClient(func(c *api.Client) error {
		run, err := ask(c)
		if err != nil {
			return err
		}
		if !f.wait {
			if f.out.json() {
				return printJSON(g.stdout, run, "  ")
			}
			_, err := fmt.Fprintf(g.stdout, "run %s of %s (%s) is %s: waymark runs wait %s\n", clean(run.ID), clean(run.Name()), clean(run.Kind),
				paintOf(run.State).on(clean(run.State), g.colour), clean(run.ID))
			return err
		}
		if run, err = g.waitRun(ctx, c, run.ID); err != nil {
			return err
		}
		return g.printOrdered(ctx, c, run, f.out.json())
	})
}

// printOrdered prints a run that was waited for; one that changes nothing with its
// plan, which is what it was asked for.
func (g *globals) printOrdered(ctx context.Context, c *api.Client, run api.Run, asJSON bool) error {
	var err error
	switch {
	case asJSON:
		err = printJSON(g.stdout, run, "  ")
	default:
		fmt.Fprintf(g.stdout, "run %s of %s %s: %s\n", clean(run.ID), clean(run.Name()), clean(run.State), cmp.Or(clean(run.Reason), changesShort(run.Changes)))
		if kind := release.Kind(run.Kind); !kind.ChangesTarget() && run.State == api.StateSucceeded {
			plan, problem := c.Plan(ctx, run.ID)
			if err = problem; err == nil {
				renderPlan(g.stdout, plan, g.colour)
			}
		}
	}
	if err == nil && run.State != api.StateSucceeded {
		err = &exitError{exitRunFailed, fmt.Errorf("run %s ended as %s (waymark runs show %s)", clean(run.ID), clean(run.State), clean(run.ID))}
	}
	return err
}

// parseTargetArg reads a TARGET of the command line.
func parseTargetArg(s string) (api.TargetRef, error) {
	t, err := release.ParseTarget(s)
	if err != nil {
		return api.TargetRef{}, &exitError{exitUsage, err}
	}
	return api.TargetRef{Env: t.Env, Scope: t.Scope, Team: t.Team}, nil
}

func newRollbackCommand(g *globals) *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "rollback TARGET",
		Short: "Go back to what was deployed before, or to an earlier version",
		Long: "Queue a run for an earlier release that has succeeded for TARGET. All checks of the environment are made\n" +
			"again, but for the order of versions: promotion, windows and freezes, gates, policies and approvals.",
		Args: exactArgs("TARGET"),
	}
	cmd.Flags().StringVar(&to, "to", "", "the version to go back to (default: what was deployed before)")
	f := addOrderFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t, err := parseTargetArg(args[0])
		if err != nil {
			return err
		}
		if strings.TrimSpace(f.reason) == "" {
			return usageErrorf("rollback needs --reason: say why, for whoever pushed the version that is there")
		}
		return g.ordered(cmd.Context(), f, func(c *api.Client) (api.Run, error) {
			return c.Rollback(cmd.Context(), t, api.Rollback{To: to, Reason: f.reason})
		})
	}
	return cmd
}

func newDestroyCommand(g *globals) *cobra.Command {
	var confirm string
	cmd := &cobra.Command{
		Use:   "destroy TARGET",
		Short: "Remove everything that is deployed to a target",
		Long: "Queue a run that removes everything in the state of TARGET. The environment must allow it with destroy = \"allow\",\n" +
			"and its plan needs approvals of its own (destroy_approvals).\n\n" +
			"The target is typed once more: on a terminal when asked, elsewhere with --confirm TARGET.",
		Args: exactArgs("TARGET"),
	}
	cmd.Flags().StringVar(&confirm, "confirm", "", "the target once more")
	f := addOrderFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t, err := parseTargetArg(args[0])
		if err != nil {
			return err
		}
		if strings.TrimSpace(f.reason) == "" {
			return usageErrorf("destroy needs --reason: say why, for whoever has to approve it")
		}
		if confirm == "" {
			confirm = g.typed(os.Stdin, fmt.Sprintf("Everything in the state of %s is going to be removed. Type its name to confirm: ", t))
		}
		if confirm != t.String() {
			return usageErrorf("destroy was not confirmed: repeat the target with --confirm %s", t)
		}
		return g.ordered(cmd.Context(), f, func(c *api.Client) (api.Run, error) {
			return c.Destroy(cmd.Context(), t, api.Destroy{Confirm: confirm, Reason: f.reason})
		})
	}
	return cmd
}

// typed asks for a line on a terminal; elsewhere nobody is asked.
func (g *globals) typed(in *os.File, question string) string {
	if !term.IsTerminal(int(in.Fd())) {
		return ""
	}
	fmt.Fprint(g.stderr, question)
	line, err := bufio.NewReader(io.LimitReader(in, 1<<10)).ReadString('\n')
	if err != nil {
		return ""
	}
	return strings.TrimSpace(line)
}

func newPlanCommand(g *globals) *cobra.Command {
	var o api.PlanOrder
	var target string
	cmd := &cobra.Command{
		Use:   "plan TAG | --ref REV --target TARGET",
		Short: "Plan a tag, a branch or a commit without ever applying it",
		Long: "Queue a run that plans and ends. It waits for nobody, holds up nobody, does not lock the state, and its plan is\n" +
			"not kept. A TAG need not have been admitted. REV is a branch, or a commit by its 40 digits; which ones may be\n" +
			"planned is said by the environment's speculative.",
		Args: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (o.Ref != "") || len(args) > 1 {
				return usageErrorf("plan takes a TAG, or --ref with --target: see waymark plan --help")
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Ref, "ref", "", "a branch, or a commit by its 40 digits")
	flags.StringVar(&target, "target", "", "for which target, such as dev_us-east-1/research")
	flags.StringVar(&o.Repository, "repository", "", "where it is, where there are several")
	f := addOrderFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			tag, err := tagparse.Parse(args[0])
			if err != nil {
				return &exitError{exitUsage, err}
			}
			own := release.Target{Env: tag.Env, Scope: tag.Scope, Team: tag.Team}.String()
			if target != "" && target != own {
				return usageErrorf("the tag is one of %s, not of %s: leave --target out", own, target)
			}
			o.Tag, target = args[0], own
		}
		if target == "" {
			return usageErrorf("--ref needs --target: say for which target, such as --target dev_us-east-1/research")
		}
		t, err := parseTargetArg(target)
		if err != nil {
			return err
		}
		o.Reason = f.reason
		return g.ordered(cmd.Context(), f, func(c *api.Client) (api.Run, error) { return c.PlanOnly(cmd.Context(), t, o) })
	}
	return cmd
}

func newDriftCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drift TARGET",
		Short: "Look at what changed outside of Waymark",
		Long: "Queue a run that compares the state of TARGET with what is there, by the code that is deployed (a plan with\n" +
			"-refresh-only). It changes nothing, not even the state, and does not lock it.",
		Args: exactArgs("TARGET"),
	}
	f := addOrderFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t, err := parseTargetArg(args[0])
		if err != nil {
			return err
		}
		return g.ordered(cmd.Context(), f, func(c *api.Client) (api.Run, error) {
			return c.Drift(cmd.Context(), t, api.Drift{Reason: f.reason})
		})
	}
	return cmd
}
