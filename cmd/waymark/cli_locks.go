package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/release"
)

func newLocksCommand(g *globals) *cobra.Command {
	var target string
	cmd := &cobra.Command{
		Use:   "locks",
		Short: "List held state locks: who, since when, and which run of ours",
		Args:  exactArgs(),
	}
	cmd.Flags().StringVar(&target, "target", "", "only this target, such as dev_us-east-1/research")
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if target != "" {
			if _, err := release.ParseTarget(target); err != nil {
				return &exitError{exitUsage, err}
			}
		}
		return g.withClient(func(c *api.Client) error {
			list, err := c.Locks(cmd.Context(), target)
			if err != nil {
				return err
			}
			if out.json() {
				return printJSON(g.stdout, list, "  ")
			}
			g.renderLocks(list, time.Now())
			return nil
		})
	}
	return cmd
}

func (g *globals) renderLocks(list api.LockList, now time.Time) {
	if len(list.Locks) == 0 {
		fmt.Fprintln(g.stdout, "No state is locked.")
		return
	}
	t := table{header: []string{"TARGET", "HELD BY", "RUN", "OPERATION", "SINCE", "LOCK", "ID"},
		cut: []string{"LOCK", "OPERATION", "SINCE", "HELD BY", "RUN"}}
	for _, l := range list.Locks {
		if l.Error != "" {
			t.row(l.Target.String(), cell{"cannot be told", red})
			continue
		}
		t.row(l.Target.String(), l.Who, runOf(l), l.Operation, ago(now, l.Created), l.Kind, l.ID)
	}
	t.write(g.stdout, g.colour)
	for _, l := range list.Locks {
		switch {
		case l.Error != "":
			fmt.Fprintf(g.stderr, "%s: %s\n", clean(l.Target.String()), clean(l.Error))
		case l.Alive:
		case l.Elsewhere != "":
			fmt.Fprintf(g.stderr, "run %s ran on the instance %s, which alone can tell whether it is at work: ask that one with --server\n", clean(l.RunID), clean(l.Elsewhere))
		case l.RunID != "":
			fmt.Fprintf(g.stderr, "run %s is dead: waymark backend unlock %s\n", clean(l.RunID), clean(l.Target.String()))
		default:
			fmt.Fprintf(g.stderr, "%s is no run of this service: ask them first; then waymark backend unlock %s --force --id %s\n",
				clean(l.Who), clean(l.Target.String()), clean(l.ID))
		}
	}
}

// runOf names the run that holds a lock, and says whether it lives.
func runOf(l api.Lock) cell {
	switch {
	case l.RunID == "":
		return cell{"none of ours", yellow}
	case l.Alive:
		return cell{l.RunID + ", at work", green}
	case l.Elsewhere != "":
		return cell{l.RunID + ", elsewhere", yellow}
	default:
		return cell{l.RunID + ", dead", red}
	}
}

func newUnlockCommand(g *globals) *cobra.Command {
	var u api.Unlock
	cmd := &cobra.Command{
		Use:   "unlock TARGET",
		Short: "Release the state lock that a dead run of ours left; anything else needs --force and --id",
		Args:  exactArgs("TARGET"),
	}
	flags := cmd.Flags()
	flags.StringVar(&u.ID, "id", "", "the lock's id, as waymark backend locks shows it")
	flags.BoolVar(&u.Force, "force", false, "release it although it is not a dead run's of this service")
	flags.StringVar(&u.Reason, "reason", "", "why; it goes into the audit log")
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t, err := release.ParseTarget(args[0])
		if err != nil {
			return &exitError{exitUsage, err}
		}
		if u.Force && u.ID == "" {
			return usageErrorf("--force needs --id, the id of the lock: waymark backend locks --target %s", t)
		}
		return g.withClient(func(c *api.Client) error {
			freed, err := c.Unlock(cmd.Context(), api.TargetRef{Env: t.Env, Scope: t.Scope, Team: t.Team}, u)
			if err != nil {
				return err
			}
			if out.json() {
				return printJSON(g.stdout, freed, "  ")
			}
			for _, l := range freed.Locks {
				fmt.Fprintf(g.stdout, "released the %s lock %s of %s\n", clean(l.Kind), clean(l.ID), clean(l.Target.String()))
			}
			return nil
		})
	}
	return cmd
}
