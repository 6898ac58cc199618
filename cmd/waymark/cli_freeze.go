package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/release"
)

const placeHelp = "PLACE is an environment, with or without a scope and a team: prod, prod_us-east-1, prod/research,\nprod_us-east-1/research."

func newFreezeCommand(g *globals) *cobra.Command {
	var until, reason string
	cmd := &cobra.Command{
		Use:   "freeze PLACE",
		Short: "Stop every change to some targets, at once",
		Long: "Stop every change to some targets until a time. It holds at once and for all instances: a run that has not begun\n" +
			"to apply waits, or ends as the environment's outside says. An apply that goes on is not touched.\n\n" + placeHelp,
		Args: exactArgs("PLACE"),
	}
	cmd.Flags().StringVar(&until, "until", "", "when it ends: how long from now, such as 2h, or a time such as 2026-12-24T18:00:00Z")
	cmd.Flags().StringVar(&reason, "reason", "", "why; whoever has to wait is told")
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if _, err := release.ParsePlace(args[0]); err != nil {
			return &exitError{exitUsage, err}
		}
		if strings.TrimSpace(reason) == "" {
			return usageErrorf("freeze needs --reason: say why, for whoever has to wait")
		}
		set := api.FreezeSet{Where: args[0], Reason: reason}
		if err := readUntil(until, &set); err != nil {
			return err
		}
		return g.withClient(func(c *api.Client) error {
			f, err := c.Freeze(cmd.Context(), set)
			if err != nil {
				return err
			}
			if out.json() {
				return printJSON(g.stdout, f, "  ")
			}
			_, err = fmt.Fprintf(g.stdout, "froze %s until %s: waymark thaw %s\n", clean(f.Where), f.Until.Format(time.RFC3339), clean(f.ID))
			return err
		})
	}
	return cmd
}

// readUntil reads a duration, or a time with its zone.
func readUntil(s string, set *api.FreezeSet) error {
	if long, err := time.ParseDuration(s); err == nil && long > 0 {
		set.For = s
		return nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return usageErrorf("freeze needs --until: how long from now, such as 2h, or a time with its zone, such as 2026-12-24T18:00:00Z")
	}
	set.Until = at
	return nil
}

func newThawCommand(g *globals) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "thaw PLACE | ID",
		Short: "Lift a freeze before its time",
		Long: "Lift the freezes that were set for exactly this place, or one by its id. Whatever waits for them goes on at once.\n" +
			"A freeze of the configuration is lifted there.\n\n" + placeHelp,
		Args: exactArgs("PLACE or ID"),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is kept in the audit log")
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return g.withClient(func(c *api.Client) error {
			ids, err := freezesNamed(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			list := api.FreezeList{Freezes: []api.Freeze{}}
			for _, id := range ids {
				f, err := c.Thaw(cmd.Context(), id, api.Thaw{Reason: reason})
				if err != nil {
					return err
				}
				list.Freezes = append(list.Freezes, f)
				if !out.json() {
					fmt.Fprintf(g.stdout, "thawed %s: freeze %s is lifted\n", clean(f.Where), clean(f.ID))
				}
			}
			if out.json() {
				return printJSON(g.stdout, list, "  ")
			}
			return nil
		})
	}
	return cmd
}

// freezesNamed gives an id as it is, and for a place those of the freezes in force
// that were set for it.
func freezesNamed(ctx context.Context, c *api.Client, name string) ([]string, error) {
	if _, err := strconv.ParseUint(name, 10, 63); err == nil {
		return []string{name}, nil
	}
	if _, err := release.ParsePlace(name); err != nil {
		return nil, &exitError{exitUsage, err}
	}
	list, err := c.Freezes(ctx, false)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, f := range list.Freezes {
		if f.Where == name {
			ids = append(ids, f.ID)
		}
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("%w: no freeze is set for %s; waymark freezes lists those that are", release.ErrNotFound, name)
	}
	return ids, nil
}

func newFreezesCommand(g *globals) *cobra.Command {
	var all bool
	cmd := &cobra.Command{Use: "freezes", Short: "List the freezes that stop changes now", Args: exactArgs()}
	cmd.Flags().BoolVar(&all, "all", false, "also the latest of those that are over")
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return g.withClient(func(c *api.Client) error {
			list, err := c.Freezes(cmd.Context(), all)
			if err != nil {
				return err
			}
			if out.json() {
				return printJSON(g.stdout, list, "  ")
			}
			if len(list.Freezes) == 0 {
				fmt.Fprintln(g.stdout, "Nothing is frozen by hand. Freezes of the configuration are shown by waymark explain TAG.")
				return nil
			}
			now := time.Now()
			t := table{header: []string{"ID", "WHERE", "UNTIL", "SET BY", "SINCE", "STATE", "REASON"},
				cut: []string{"SINCE", "REASON", "SET BY", "UNTIL"}}
			for _, f := range list.Freezes {
				state := cell{"over", faint}
				switch {
				case f.LiftedBy != "":
					state = cell{"lifted by " + f.LiftedBy, faint}
				case f.InForce:
					state = cell{"in force", yellow}
				}
				t.row(f.ID, f.Where, f.Until.Format(time.RFC3339), f.CreatedBy, ago(now, f.CreatedAt), state, f.Reason)
			}
			t.write(g.stdout, g.colour)
			return nil
		})
	}
	return cmd
}
