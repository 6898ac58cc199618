package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/release"
)

const (
	waitEvery   = time.Second // between two looks at a run that is waited for
	waitMissing = 30          // looks in a row without an answer, a restart of the service, before wait gives up
)

// newRunsCommand builds `waymark runs` with everything below it.
func newRunsCommand(g *globals) *cobra.Command {
	return group("runs", "Look at runs and decide on them",
		newRunsListCommand(g), newRunsShowCommand(g), newRunsLogsCommand(g), newRunsWaitCommand(g),
		newApproveCommand(g), newRejectCommand(g),
		newDecideCommand(g, release.Cancel, "Stop a run; an apply is interrupted gracefully and keeps its state"),
		newDecideCommand(g, release.Retry, "Queue a fresh run of the same release"),
		newDecideCommand(g, release.Override, "Let a run go on that waits for a window or the end of a freeze"),
		newResolveCommand(g), newRunsEvidenceCommand(g), newRunsReportCommand(g))
}

func newRunsListCommand(g *globals) *cobra.Command {
	var q api.RunQuery
	cmd := &cobra.Command{Use: "list", Short: "List runs, newest first", Args: exactArgs()}
	flags := cmd.Flags()
	flags.StringVar(&q.Target, "target", "", "only this target, such as dev_us-east-1/research")
	flags.StringVar(&q.State, "state", "", "only this state: "+strings.Join(runStates(), ", "))
	flags.StringVar(&q.Kind, "kind", "", "only this kind: deploy, drift, rollback, destroy or plan")
	flags.IntVar(&q.Limit, "limit", 50, "how many runs, 1 to 500")
	flags.StringVar(&q.Cursor, "cursor", "", "go on where the page before ended")
	watch, out := addWatchFlag(cmd), addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if q.Target != "" {
			if _, err := release.ParseTarget(q.Target); err != nil {
				return &exitError{exitUsage, err}
			}
		}
		if err := errors.Join(oneOf("--state", q.State, runStates()...), oneOf("--kind", q.Kind, runKinds()...)); err != nil {
			return &exitError{exitUsage, err}
		}
		if q.Limit < 1 || q.Limit > maxRuns {
			return usageErrorf("--limit %d: give 1 to %d, and go on with --cursor", q.Limit, maxRuns)
		}
		return g.show(cmd, *watch, out, func(ctx context.Context, c *api.Client) (any, drawing, error) {
			list, err := c.Runs(ctx, q)
			return list, func(out, notes io.Writer, now time.Time) { g.renderRuns(out, notes, list, now) }, err
		})
	}
	return cmd
}

// maxRuns is how many runs one request may ask for.
const maxRuns = 500

// runStates are the states of a run, in the order in which it may have them.
func runStates() []string {
	return []string{api.StateQueued, api.StateRunning, api.StateAwaitingApproval, api.StateSucceeded, string(release.Failed), string(release.Denied),
		string(release.Rejected), string(release.Cancelled), string(release.Superseded), api.StateUnknown}
}

// runKinds are the kinds of runs.
func runKinds() []release.Kind {
	return []release.Kind{release.Deploy, release.Drift, release.Rollback, release.Destroy, release.PlanOnly}
}

func (g *globals) renderRuns(w, notes io.Writer, list api.RunList, now time.Time) {
	if len(list.Runs) == 0 {
		fmt.Fprintln(w, "No runs. Push a deployment tag, or ask with fewer filters.")
		return
	}
	t := table{header: []string{"RUN", "TARGET", "VERSION", "KIND", "STATE", "CHANGES", "CREATED", "TOOK"},
		cut: []string{"TOOK", "CHANGES", "KIND", "CREATED", "VERSION", "STATE"}}
	for _, r := range list.Runs {
		t.row(r.ID, r.Target.String(), versionOf(r), r.Kind, cell{stateOf(r), paintOf(r.State)}, changesShort(r.Changes),
			ago(now, r.CreatedAt), took(now, r.StartedAt, r.FinishedAt))
	}
	t.write(w, g.colour)
	if list.Next != "" {
		fmt.Fprintf(notes, "more: add --cursor %s\n", clean(list.Next))
	}
}

func changesShort(c api.Changes) string {
	return fmt.Sprintf("+%d ~%d -%d", c.Add, c.Change, c.Destroy)
}

func newRunsShowCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show one run: stages, plan, findings, approvals and what to do next",
		Args:  runIDArg,
	}
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return g.withClient(func(c *api.Client) error {
			if out.json() {
				run, err := c.Run(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return printJSON(g.stdout, run, "  ")
			}
			page, err := loadRunPage(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			page.render(g.stdout, time.Now(), g.colour)
			return nil
		})
	}
	return cmd
}

func newRunsLogsCommand(g *globals) *cobra.Command {
	var q api.LogQuery
	var text string
	cmd := &cobra.Command{Use: "logs ID", Short: "Print the log of a run", Args: runIDArg}
	cmd.Flags().BoolVarP(&q.Follow, "follow", "f", false, "go on until the run ends, also over restarts of the service")
	cmd.Flags().Int64VarP(&q.Tail, "tail", "n", 0, "begin so many lines before the end of what is there; 0: all of it")
	cmd.Flags().StringVar(&text, "search", "", "print the lines that hold this text, whatever its case, with their numbers")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		search := cmd.Flags().Changed("search")
		switch {
		case q.Tail < 0:
			return &exitError{exitUsage, fmt.Errorf("--tail %d: a number of lines is wanted, 0 for all of them", q.Tail)}
		case search && text == "":
			return &exitError{exitUsage, errors.New("--search: a text to look for is wanted")}
		case search && (q.Follow || q.Tail > 0):
			return &exitError{exitUsage, errors.New("--search looks at all that is there: leave out --follow and --tail")}
		}
		return g.withClient(func(c *api.Client) error {
			out := &cleanWriter{w: g.stdout}
			if search {
				return searchLog(cmd.Context(), c, args[0], text, out)
			}
			return c.Logs(cmd.Context(), args[0], q, out)
		})
	}
	return cmd
}

// searchLog prints the lines of a run's log that hold a text. The service looks at
// a bounded part of the log at each call.
func searchLog(ctx context.Context, c *api.Client, id, text string, w io.Writer) error {
	for from := int64(1); ; {
		found, err := c.SearchLog(ctx, id, text, from)
		if err != nil {
			return err
		}
		for _, l := range found.Lines {
			if _, err := fmt.Fprintf(w, "%d: %s\n", l.N, l); err != nil {
				return err
			}
		}
		if found.Next <= from {
			return nil
		}
		from = found.Next
	}
}

func newRunsWaitCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "wait ID",
		Short: "Wait until a run ends; exit 0 when it succeeded, 1 when it did not",
		Args:  runIDArg,
	}
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return g.withClient(func(c *api.Client) error {
			run, err := g.waitRun(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			if out.json() {
				err = printJSON(g.stdout, run, "  ")
			} else {
				_, err = fmt.Fprintf(g.stdout, "run %s of %s %s\n", clean(run.ID), clean(run.Name()), clean(run.State))
			}
			if err == nil && run.State != api.StateSucceeded {
				err = &exitError{exitRunFailed, fmt.Errorf("run %s ended as %s: %s (waymark runs show %s)",
					clean(run.ID), clean(run.State), cmp.Or(clean(run.Reason), "no reason recorded"), clean(run.ID))}
			}
			return err
		})
	}
	return cmd
}

// waitRun looks at the run until it ends, and says on stderr how its state
// changes. Once the service has answered, it may be away for a while: it can be
// upgraded in the middle of an apply.
func (g *globals) waitRun(ctx context.Context, c *api.Client, id string) (api.Run, error) {
	tick := time.NewTicker(waitEvery)
	defer tick.Stop()
	last, missing := "", 0
	for {
		run, err := c.Run(ctx, id)
		var away *api.UnreachableError
		switch {
		case err == nil && run.Ended():
			return run, nil
		case err == nil:
			missing = 0
			if run.State != last {
				fmt.Fprintf(g.stderr, "run %s is %s\n", clean(run.ID), clean(run.State))
			}
			last = run.State
		case last != "" && errors.As(err, &away) && missing < waitMissing:
			missing++
		default:
			return run, err
		}
		select {
		case <-ctx.Done():
			return run, ctx.Err()
		case <-tick.C:
		}
	}
}

// newDecideCommand builds cancel and retry.
func newDecideCommand(g *globals, action release.VerdictAction, short string) *cobra.Command {
	var d api.Decision
	cmd := &cobra.Command{Use: string(action) + " ID", Short: short, Args: runIDArg}
	cmd.Flags().StringVar(&d.Reason, "reason", "", "why; it is kept in the audit log")
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if action == release.Override && strings.TrimSpace(d.Reason) == "" {
			return usageErrorf("override needs --reason: say why it cannot wait, for the audit log")
		}
		return g.decide(cmd.Context(), args[0], action, d, out.json())
	}
	return cmd
}

func newResolveCommand(g *globals) *cobra.Command {
	var reason string
	var replan, accept, abandon, push bool
	cmd := &cobra.Command{
		Use:   "resolve ID",
		Short: "Settle a run whose apply ended unseen",
		Long: "Settle a run in state unknown: its apply began, and nobody saw it end.\n" +
			"Look at the real resources and the state first (waymark runs show ID), then say what you found.",
		Args: runIDArg,
	}
	flags := cmd.Flags()
	flags.BoolVar(&replan, "replan", false, "end it as failed and queue a fresh run of the same release")
	flags.BoolVar(&accept, "accept", false, "you saw that the change is there: it succeeded")
	flags.BoolVar(&abandon, "abandon", false, "you saw that the change is not there: it failed")
	flags.BoolVar(&push, "push-state", false, "push the state that the apply could not write, and accept the run when it is there")
	flags.StringVar(&reason, "reason", "", "what you found; it is kept in the audit log")
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var as []release.Resolution
		for how, wanted := range map[release.Resolution]bool{release.Replan: replan, release.Accept: accept, release.Abandon: abandon, release.PushState: push} {
			if wanted {
				as = append(as, how)
			}
		}
		if len(as) != 1 {
			return usageErrorf("resolve needs exactly one of --replan, --accept, --abandon and --push-state: see waymark runs resolve --help")
		}
		return g.decide(cmd.Context(), args[0], release.Resolve, api.Decision{Reason: reason, As: string(as[0])}, out.json())
	}
	return cmd
}

func (g *globals) decide(ctx context.Context, id string, action release.VerdictAction, d api.Decision, asJSON bool) error {
	return g.withClient(func(c *api.Client) error {
		run, err := c.Decide(ctx, id, string(action), d)
		if err != nil {
			return err
		}
		if asJSON {
			return printJSON(g.stdout, run, "  ")
		}
		fmt.Fprintf(g.stdout, "%s: run %s of %s is %s\n", action, clean(run.ID), clean(run.Name()),
			paintOf(run.State).on(clean(run.State), g.colour))
		if run.ApproversMissing != "" {
			fmt.Fprintf(g.stdout, "it still needs %s\n", clean(run.ApproversMissing))
		}
		return nil
	})
}

// runIDArg asks for exactly one run id.
func runIDArg(cmd *cobra.Command, args []string) error {
	if err := exactArgs("ID")(cmd, args); err != nil {
		return err
	}
	if id, err := strconv.ParseInt(args[0], 10, 64); err != nil || id < 1 || release.FormatID(id) != args[0] {
		return usageErrorf("%q is no run id: it is a number, such as those of waymark runs list", args[0])
	}
	return nil
}
