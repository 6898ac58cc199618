package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/api"
)

// newRunsReportCommand builds `waymark runs report`.
func newRunsReportCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "report ID [GATE]",
		Short: "Print a gate's own report on a run (SARIF or JUnit XML), or list which there are",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				args = args[:1]
			}
			return runIDArg(cmd, args)
		},
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return g.withClient(func(c *api.Client) error {
			if len(args) == 2 {
				var to io.Writer = g.stdout // as it is, for programs
				if g.colour {               // a terminal
					to = &cleanWriter{w: g.stdout}
				}
				return c.Report(cmd.Context(), args[0], args[1], to)
			}
			list, err := c.Reports(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if len(list.Reports) == 0 {
				fmt.Fprintln(g.stdout, "No gate wrote a report of this run.")
				return nil
			}
			t := table{header: []string{"GATE", "FORMAT", "BYTES"}}
			for _, r := range list.Reports {
				t.row(r.Gate, r.Format, r.Bytes)
			}
			t.write(g.stdout, g.colour)
			return nil
		})
	}
	return cmd
}

// renderReports says how to get at the reports of a run.
func renderReports(w io.Writer, id string, reports []api.Report, colour bool) {
	if len(reports) == 0 {
		return
	}
	section(w, "Reports", "", colour)
	t := table{indent: "  "}
	for _, r := range reports {
		t.row(r.Gate, r.Format, fmt.Sprintf("waymark runs report %s %s", id, r.Gate))
	}
	t.write(w, colour)
}
