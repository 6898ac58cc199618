package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/api"
)

// newConsumersCommand builds `waymark consumers`.
func newConsumersCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "consumers",
		Short: "List who is handed the audit log, how far each is behind, and what is wrong",
		Args:  commandArg,
	}
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return g.withClient(func(c *api.Client) error {
			list, err := c.Consumers(cmd.Context())
			if err != nil {
				return err
			}
			if out.json() {
				return printJSON(g.stdout, list, "  ")
			}
			g.renderConsumers(list.Consumers, time.Now())
			return nil
		})
	}
	cmd.AddCommand(newConsumersSkipCommand(g), newConsumersMoveCommand(g))
	return cmd
}

func (g *globals) renderConsumers(all []api.Consumer, now time.Time) {
	if len(all) == 0 {
		fmt.Fprintln(g.stdout, "Nobody is handed the audit log: add a consumer block to the configuration.")
		return
	}
	t := table{header: []string{"NAME", "TO", "NEXT", "BEHIND", "LAST TAKEN", "FAILURES", "TROUBLE"},
		cut: []string{"TO", "NEXT", "LAST TAKEN", "TROUBLE"}}
	for _, c := range all {
		to, trouble := c.To, c.Trouble
		if !c.Configured {
			to = "(not configured)"
		}
		if c.Failures > 0 {
			trouble = fmt.Sprintf("since %s: %s", ago(now, c.FailingSince), c.Trouble)
		}
		t.row(c.Name, to, c.Position, c.LagEntries, ago(now, c.SentAt), c.Failures, trouble)
	}
	t.write(g.stdout, g.colour)
}

// newConsumersSkipCommand builds `waymark consumers skip`.
func newConsumersSkipCommand(g *globals) *cobra.Command {
	var m api.MoveConsumer
	cmd := &cobra.Command{
		Use:   "skip NAME",
		Short: "Let a webhook leave out the entry that it does not take",
		Long: `Lets a webhook go on behind the entry that it is to take next, which it never gets.
That it did is an entry of the audit log.`,
		Args: exactArgs("NAME"),
	}
	cmd.Flags().StringVar(&m.Reason, "reason", "", "why; it goes into the audit log")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		m.Skip = true
		return g.moveConsumer(cmd, args[0], m)
	}
	return cmd
}

// newConsumersMoveCommand builds `waymark consumers move`.
func newConsumersMoveCommand(g *globals) *cobra.Command {
	var m api.MoveConsumer
	var to string
	cmd := &cobra.Command{
		Use:     "move NAME --to start|end|INDEX",
		Short:   "Let a webhook go on somewhere else in the audit log",
		Example: "  waymark consumers move siem --to start --reason 'its index was lost'",
		Args:    exactArgs("NAME"),
	}
	cmd.Flags().StringVar(&to, "to", "", "`place`: start, end, or the index of the entry that it is to take next")
	cmd.Flags().StringVar(&m.Reason, "reason", "", "why; it goes into the audit log")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		index, err := strconv.ParseInt(to, 10, 64)
		switch {
		case to == "end":
			m.End = true
		case to == "start":
			m.To = new(int64)
		case err == nil && index >= 0:
			m.To = &index
		default:
			return usageErrorf("--to %q: write start, end, or the index of an entry", to)
		}
		return g.moveConsumer(cmd, args[0], m)
	}
	return cmd
}

func (g *globals) moveConsumer(cmd *cobra.Command, name string, m api.MoveConsumer) error {
	return g.withClient(func(c *api.Client) error {
		now, err := c.MoveConsumer(cmd.Context(), name, m)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(g.stdout, "%s goes on with entry %d; entries behind: %d\n", now.Name, now.Position, now.LagEntries)
		return err
	})
}
