package main

import (
	"cmp"
	"time"

	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/api"
)

// auditPage is how many entries one request of an export asks for.
const auditPage = 500

// newAuditListCommand builds `waymark audit list`.
func newAuditListCommand(g *globals) *cobra.Command {
	var after int64
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List entries of the audit log, the latest ones unless --after is given",
		Args:  exactArgs(),
	}
	cmd.Flags().Int64Var(&after, "after", 0, "index of the first entry to show (default: the last --limit entries)")
	cmd.Flags().IntVar(&limit, "limit", 50, "how many entries, 1 to 500")
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if limit < 1 || limit > auditPage {
			return usageErrorf("--limit %d: give 1 to %d, or use waymark audit export for everything", limit, auditPage)
		}
		return g.withClient(func(c *api.Client) error {
			if !cmd.Flags().Changed("after") {
				page, err := c.Audit(cmd.Context(), 0, 1)
				if err != nil {
					return err
				}
				after = max(0, page.Head.Size-int64(limit))
			}
			page, err := c.Audit(cmd.Context(), after, limit)
			if err != nil {
				return err
			}
			if out.json() {
				return printJSON(g.stdout, page, "  ")
			}
			g.renderAudit(page, time.Now())
			return nil
		})
	}
	return cmd
}

func (g *globals) renderAudit(page api.AuditPage, now time.Time) {
	t := table{header: []string{"INDEX", "WHEN", "ACTOR", "ACTION", "SUBJECT", "RUN", "REASON"}}
	for _, e := range page.Entries {
		t.row(e.Index, ago(now, e.At), e.Actor, e.Action, cmp.Or(e.Tag, e.Target, e.Repository), e.RunID, e.Reason)
	}
	t.write(g.stdout, g.colour)
}

// newAuditExportCommand builds `waymark audit export`: every entry as one line
// of JSON, up to the size that the log had when the export began.
func newAuditExportCommand(g *globals) *cobra.Command {
	var after int64
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the audit log as JSON Lines",
		Args:  exactArgs(),
	}
	cmd.Flags().Int64Var(&after, "after", 0, "index of the first entry to write")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return g.withClient(func(c *api.Client) error {
			end := int64(-1)
			for next := after; end < 0 || next < end; {
				page, err := c.Audit(cmd.Context(), next, auditPage)
				if err != nil {
					return err
				}
				if end < 0 {
					end = page.Head.Size
				}
				for _, e := range page.Entries {
					if e.Index >= end {
						return nil
					}
					if err := printJSON(g.stdout, e, ""); err != nil {
						return err
					}
				}
				if len(page.Entries) == 0 || page.Next <= next {
					return nil
				}
				next = page.Next
			}
			return nil
		})
	}
	return cmd
}
