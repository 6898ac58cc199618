package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/api"
)

// newNotificationsCommand builds `waymark notifications`.
func newNotificationsCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "notifications",
		Short: "List the forges, chats and webhooks that are told of runs: how far, and what is wrong",
		Args:  exactArgs(),
	}
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return g.withClient(func(c *api.Client) error {
			list, err := c.Notifications(cmd.Context())
			if err != nil {
				return err
			}
			if out.json() {
				return printJSON(g.stdout, list, "  ")
			}
			g.renderNotifications(list, time.Now())
			return nil
		})
	}
	return cmd
}

func (g *globals) renderNotifications(list api.NotificationList, now time.Time) {
	if len(list.Notifications) == 0 {
		fmt.Fprintln(g.stdout, "Nobody outside is told of runs: add a forge block to a repository, or a notification block.")
		return
	}
	t := table{header: []string{"NAME", "STATE", "BEHIND", "TOLD", "LAST", "DROPPED", "FAILURES", "NEXT", "ERROR"},
		cut: []string{"TOLD", "LAST", "NEXT", "DROPPED", "ERROR", "FAILURES"}}
	for _, n := range list.Notifications {
		paint := plain
		if n.State == "failing" {
			paint = red
		}
		next := ""
		if n.RetryAt.After(now) {
			next = "in " + n.RetryAt.Sub(now).Round(time.Second).String()
		}
		t.row(n.Name, cell{n.State, paint}, n.Behind, n.Told, ago(now, n.ToldAt), n.Dropped, n.Failures, next, n.Error)
	}
	t.write(g.stdout, g.colour)
}
