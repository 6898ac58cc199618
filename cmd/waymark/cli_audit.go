package main

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
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
		if after < 0 {
			return usageErrorf("--after %d: entries are counted from 0", after)
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
	if len(page.Entries) == 0 {
		fmt.Fprintf(g.stdout, "No entries there: the log has %d.\n", page.Head.Size)
		return
	}
	t := table{header: []string{"INDEX", "WHEN", "ACTOR", "ACTION", "SUBJECT", "RUN", "REASON"},
		cut: []string{"REASON", "ACTOR", "WHEN", "SUBJECT"}}
	for _, e := range page.Entries {
		t.row(e.Index, ago(now, e.At), e.Actor, e.Action, cmp.Or(e.Tag, e.Target, e.Repository), e.RunID, e.Reason)
	}
	t.write(g.stdout, g.colour)
}

// newAuditExportCommand builds `waymark audit export`: entries as one line of
// JSON each, up to the size that the log had when the export began.
func newAuditExportCommand(g *globals) *cobra.Command {
	var from, to string
	var after int64
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the audit log as JSON Lines",
		Long: `Writes entries of the audit log, one line of JSON each. --from and --to take the
index of an entry or a time: a day such as 2026-11-23, or 2026-11-23T08:00:00Z.
To go on where the last export ended, pass the last index and one as --from.`,
		Args: exactArgs(),
	}
	cmd.Flags().StringVar(&from, "from", "", "first `entry` to write, by index or time (default the first of the log)")
	cmd.Flags().StringVar(&to, "to", "", "`entry` to stop before, by index or time (default the end of the log)")
	cmd.Flags().Int64Var(&after, "after", 0, "index of the first entry to write, as --from")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case from != "" && cmd.Flags().Changed("after"):
			return usageErrorf("--from and --after say the same: leave --after out")
		case after < 0:
			return usageErrorf("--after %d: entries are counted from 0", after)
		}
		return g.withClient(func(c *api.Client) error {
			page, err := c.Audit(cmd.Context(), 0, 1)
			if err != nil {
				return err
			}
			first, end := after, page.Head.Size
			if from != "" {
				first, err = auditIndex(cmd.Context(), c, from, page.Head.Size)
			}
			if to != "" && err == nil {
				end, err = auditIndex(cmd.Context(), c, to, page.Head.Size)
			}
			if err != nil {
				return err
			}
			return g.exportAudit(cmd.Context(), c, first, min(end, page.Head.Size))
		})
	}
	return cmd
}

// exportAudit writes the entries from first up to end, end not included.
func (g *globals) exportAudit(ctx context.Context, c *api.Client, first, end int64) error {
	p := g.newProgress("exporting", entriesOf).beside(g.stdout)
	defer p.end()
	for next := first; next < end; {
		p.at(next-first, end-first)
		page, err := c.Audit(ctx, next, auditPage)
		if err != nil {
			return err
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
}

// auditIndex reads the index of an entry: as it is, or as a time, which is the
// index of the first entry that is not older, of a log of size entries.
func auditIndex(ctx context.Context, c *api.Client, text string, size int64) (int64, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
		return n, nil
	}
	at, err := time.Parse(time.DateOnly, text)
	if err != nil {
		at, err = time.Parse(time.RFC3339, text)
	}
	if err != nil {
		return 0, usageErrorf("%q is neither the index of an entry nor a time: write 42, 2026-11-23 or 2026-11-23T08:00:00Z", text)
	}
	low, high := int64(0), size
	for low < high { // entries are in the order of their times, but for what clocks differ by
		middle := (low + high) / 2
		page, err := c.Audit(ctx, middle, 1)
		if err != nil {
			return 0, err
		}
		if len(page.Entries) > 0 && page.Entries[0].At.Before(at) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, nil
}
