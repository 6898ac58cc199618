package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/audit"
)

// newAuditCommand builds `waymark audit`.
func newAuditCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "Read, export and verify the audit log", Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newAuditListCommand(g), newAuditExportCommand(g), newAuditVerifyCommand(g))
	return cmd
}

// newAuditVerifyCommand builds `waymark audit verify`.
func newAuditVerifyCommand(g *globals) *cobra.Command {
	var checkpoint, save string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Recompute the audit log's Merkle tree from its entries and compare it with its root",
		Long: `Reads every entry, hashes it here, and compares the root with the service's own.
With --checkpoint it also proves that the log has only grown since that file was
written by --save: nothing was changed, removed or put in.`,
		Args: exactArgs(),
	}
	cmd.Flags().StringVar(&checkpoint, "checkpoint", "", "file written by --save earlier; the log must contain it unchanged")
	cmd.Flags().StringVar(&save, "save", "", "write the verified size and root to this file, to be kept elsewhere")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		kept, err := readCheckpoint(checkpoint)
		if err != nil {
			return err
		}
		return g.withClient(func(c *api.Client) error {
			var v audit.Verifier
			head, err := verifyLog(cmd, c, &v)
			if err != nil {
				return err
			}
			if kept != nil {
				if err := v.Check(*kept); err != nil {
					return err
				}
				fmt.Fprintf(g.stdout, "the log contains the checkpoint at %d entries unchanged\n", kept.Size)
			}
			if save != "" {
				text, err := json.Marshal(head)
				if err == nil {
					err = os.WriteFile(save, append(text, '\n'), 0o644)
				}
				if err != nil {
					return fmt.Errorf("keeping the checkpoint: %w", err)
				}
			}
			_, err = fmt.Fprintf(g.stdout, "verified: %d entries, root %s\n", head.Size, head.Root)
			return err
		})
	}
	return cmd
}

func readCheckpoint(file string) (*audit.Head, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, usageErrorf("reading the checkpoint: %w", err)
	}
	var head audit.Head
	if err := json.Unmarshal(text, &head); err != nil || head.Root == "" {
		return nil, usageErrorf("%s is no checkpoint: it should hold {\"size\": …, \"root\": …}, as --save writes it", file)
	}
	return &head, nil
}

// verifyLog reads the whole log into v and holds every head that the service
// states on the way against the tree: the log may grow meanwhile.
func verifyLog(cmd *cobra.Command, c *api.Client, v *audit.Verifier) (audit.Head, error) {
	for {
		page, err := c.Audit(cmd.Context(), v.Size(), auditPage)
		if err != nil {
			return audit.Head{}, err
		}
		for _, e := range page.Entries {
			if err := v.Add(e.Index, []byte(e.Leaf)); err != nil {
				return audit.Head{}, err
			}
		}
		if v.Size() < page.Head.Size && len(page.Entries) > 0 {
			continue
		}
		head := audit.Head{Size: page.Head.Size, Root: page.Head.Root}
		return head, v.Check(head)
	}
}
