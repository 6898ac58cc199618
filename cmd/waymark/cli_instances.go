package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/release"
)

// newInstancesCommand builds `waymark instances`.
func newInstancesCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "instances",
		Short: "List the processes of the service: roles, pools, configuration, last sign of life, runs in hand",
		Args:  exactArgs(),
	}
	watch, out := addWatchFlag(cmd), addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return g.show(cmd, *watch, out, func(ctx context.Context, c *api.Client) (any, drawing, error) {
			list, err := c.Instances(ctx)
			return list, func(out, notes io.Writer, now time.Time) { g.renderInstances(out, notes, list, now) }, err
		})
	}
	return cmd
}

func (g *globals) renderInstances(w, notes io.Writer, list api.InstanceList, now time.Time) {
	if len(list.Instances) == 0 {
		fmt.Fprintln(w, "No instance is on record. Where the database is embedded there is one alone, the service that answers.")
		return
	}
	t := table{header: []string{"NAME", "STATE", "SEEN", "RUNS", "ROLES", "POOLS", "VERSION", "CONFIG", "HOST", "ID"},
		cut: []string{"HOST", "CONFIG", "VERSION", "POOLS", "ROLES", "ID"}}
	differ := false
	for _, i := range list.Instances {
		digest := cell{text: shortCommit(i.ConfigDigest)}
		if i.ConfigDigest != list.ConfigDigest {
			digest = cell{digest.text + " differs", yellow}
			differ = differ || i.Lives()
		}
		t.row(i.Name, cell{i.State, paintOf(i.State)}, ago(now, now.Add(-time.Duration(i.BeatAge)*time.Millisecond)), i.RunsInHand,
			strings.Join(i.Roles, ","), strings.Join(i.Pools, ","), i.Version, digest, i.Host, i.ID)
	}
	t.write(w, g.colour)
	if differ {
		fmt.Fprintf(notes, "configurations differ from that of the instance that answers, %s: a tag is admitted under that of whichever looks at its repository\n",
			clean(shortCommit(list.ConfigDigest)))
	}
}

// newDrainCommand builds `waymark drain`.
func newDrainCommand(g *globals) *cobra.Command {
	var d api.Drain
	var wait bool
	cmd := &cobra.Command{
		Use:   "drain [INSTANCE]",
		Short: "Let an instance take no new work, as before a stop or an upgrade",
		Long: "Let an instance take no new work. It drives what it has in hand to its end, and others take what comes.\n" +
			"INSTANCE is a name or an id of waymark instances; without one it is the instance that answers at --server.\n" +
			"A start takes work again, and so does --undo.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageErrorf("drain takes one INSTANCE or none, not %d", len(args))
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&d.Undo, "undo", false, "take work again")
	flags.BoolVar(&wait, "wait", false, "return when the instance has no run in hand")
	flags.StringVar(&d.Reason, "reason", "", "why; it is kept in the audit log")
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if d.Undo && wait {
			return usageErrorf("--wait waits for the end of what a draining instance has in hand: take it or --undo out")
		}
		return g.withClient(func(c *api.Client) error {
			i, err := g.drain(cmd.Context(), c, strings.Join(args, ""), d)
			if err == nil && wait {
				i, err = g.waitDrained(cmd.Context(), c, i)
			}
			if err != nil {
				return err
			}
			if out.json() {
				return printJSON(g.stdout, i, "  ")
			}
			_, err = fmt.Fprintf(g.stdout, "%s is %s, %s in hand\n", clean(i.Name), paintOf(i.State).on(clean(i.State), g.colour), runsText(i.RunsInHand))
			return err
		})
	}
	return cmd
}

func (g *globals) drain(ctx context.Context, c *api.Client, name string, d api.Drain) (api.Instance, error) {
	list, err := c.Instances(ctx)
	if err != nil {
		return api.Instance{}, err
	}
	id, err := findInstance(list, name)
	if err != nil {
		return api.Instance{}, err
	}
	return c.Drain(ctx, id, d)
}

// findInstance finds the id of an instance by its id or its name, and that of the
// one that answers where neither is given. Of several with one name it is the
// only one that lives.
func findInstance(list api.InstanceList, name string) (id string, err error) {
	if name == "" {
		return list.Self, nil
	}
	var found []api.Instance
	var names []string
	for _, i := range list.Instances {
		switch name {
		case i.ID:
			return i.ID, nil
		case i.Name:
			found = append(found, i)
		}
		names = append(names, i.Name)
	}
	live := slices.DeleteFunc(slices.Clone(found), func(i api.Instance) bool { return !i.Lives() })
	switch {
	case len(found) == 0:
		return "", fmt.Errorf("instance %q %w: %s", name, release.ErrNotFound, chosen(name, names, "waymark instances lists which there are"))
	case len(live) == 1:
		return live[0].ID, nil
	case len(found) == 1:
		return found[0].ID, nil
	}
	var ids []string
	for _, i := range found {
		ids = append(ids, i.ID)
	}
	return "", usageErrorf("%d instances are called %q: write the id of one: %s", len(found), name, strings.Join(ids, ", "))
}

// beatsToDrain is how many signs of life an instance gives, after it was told to
// drain, until it is certain to have heard of it: the answer to the first one
// tells it, and with the second one it has acted.
const beatsToDrain = 2

// waitDrained looks at a draining instance until it has heard of it and has
// nothing in hand any more. One that is dead or has stopped takes nothing, and
// others take over what it had.
func (g *globals) waitDrained(ctx context.Context, c *api.Client, i api.Instance) (api.Instance, error) {
	tick := time.NewTicker(waitEvery)
	defer tick.Stop()
	id, beats, missing, said := i.ID, 0, 0, -1
	for {
		if i.RunsInHand == 0 && (beats >= beatsToDrain || !i.Lives()) {
			return i, nil
		}
		if i.State == api.InstanceAlive {
			return i, fmt.Errorf("%w: %s takes work again: somebody undid it, or it was started anew", release.ErrConflict, clean(i.Name))
		}
		if i.RunsInHand != said {
			said = i.RunsInHand
			fmt.Fprintf(g.stderr, "%s is %s, %s in hand\n", clean(i.Name), clean(i.State), runsText(said))
		}
		select {
		case <-ctx.Done():
			return i, ctx.Err()
		case <-tick.C:
		}
		list, err := c.Instances(ctx)
		var away *api.UnreachableError
		if errors.As(err, &away) && missing < waitMissing {
			missing++
			continue
		}
		if err != nil {
			return i, err
		}
		missing = 0
		at := slices.IndexFunc(list.Instances, func(i api.Instance) bool { return i.ID == id })
		if at < 0 {
			return i, fmt.Errorf("instance %q %w any more: it was dead for so long that it was forgotten", id, release.ErrNotFound)
		}
		if list.Instances[at].BeatAt.After(i.BeatAt) {
			beats++
		}
		i = list.Instances[at]
	}
}

func runsText(n int) string {
	if n == 1 {
		return "1 run"
	}
	return fmt.Sprintf("%d runs", n)
}
