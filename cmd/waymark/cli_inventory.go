package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/release"
)

// newInventoryCommand builds `waymark inventory [TARGET]`.
func newInventoryCommand(g *globals) *cobra.Command {
	var q api.InventoryQuery
	cmd := &cobra.Command{
		Use:   "inventory [TARGET]",
		Short: "List the resources of each target's state, and which tag last changed each",
		Long: "List the resources of each target's state as of its last apply, and which tag last changed each.\n" +
			"TARGET is a tag without its version, such as dev_us-east-1/research.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageErrorf("inventory takes one TARGET or none, not %d", len(args))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&q.Type, "type", "", "only this type, such as aws_instance")
	cmd.Flags().StringVar(&q.Provider, "provider", "", "only this provider, whole or by its last part, such as aws")
	cmd.Flags().StringVar(&q.Text, "text", "", "only addresses that hold this")
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			if _, err := release.ParseTarget(args[0]); err != nil {
				return &exitError{exitUsage, err}
			}
			q.Target = args[0]
		}
		return g.withClient(func(c *api.Client) error {
			all := api.ResourceList{Resources: []api.Resource{}}
			for q.Limit = 500; ; {
				list, err := c.Inventory(cmd.Context(), q)
				if err != nil {
					return err
				}
				all.Resources = append(all.Resources, list.Resources...)
				if q.Cursor = list.Next; q.Cursor == "" {
					break
				}
			}
			if out.json() {
				return printJSON(g.stdout, all, "  ")
			}
			g.renderInventory(all.Resources, time.Now())
			return nil
		})
	}
	return cmd
}

func (g *globals) renderInventory(all []api.Resource, now time.Time) {
	if len(all) == 0 {
		fmt.Fprintln(g.stdout, "No resources: an apply that succeeds fills the inventory.")
		return
	}
	t := table{header: []string{"TARGET", "ADDRESS", "PROVIDER", "TAG", "RUN", "CHANGED"},
		cut: []string{"PROVIDER", "CHANGED", "TAG", "TARGET"}}
	for _, x := range all {
		t.row(x.Target.String(), x.Address, x.Provider, x.Tag, x.RunID, ago(now, x.ChangedAt))
	}
	t.write(g.stdout, g.colour)
}
