package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/audit"
)

// newAuditCommand builds `waymark audit`.
func newAuditCommand(g *globals) *cobra.Command {
	return group("audit", "Read, export and verify the audit log, and keep its keys",
		newAuditListCommand(g), newAuditExportCommand(g), newAuditVerifyCommand(g),
		newAuditKeysCommand(g), newAuditRotateKeyCommand(g), newAuditNewKeyCommand(g))
}

// newAuditKeysCommand builds `waymark audit keys`.
func newAuditKeysCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "List the keys that checkpoints of the audit log are verified with",
		Long: `Lists the public half of each key that signs checkpoints, or did, in the form that
waymark audit verify --key and other clients of signed notes take. Keep it where
the service's administrators cannot write.`,
		Args: exactArgs(),
	}
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return g.withClient(func(c *api.Client) error {
			keys, err := c.AuditKeys(cmd.Context())
			if err != nil {
				return err
			}
			return g.renderAuditKeys(keys, out)
		})
	}
	return cmd
}

func (g *globals) renderAuditKeys(keys api.AuditKeyList, out *outputFlag) error {
	if out.json() {
		return printJSON(g.stdout, keys, "  ")
	}
	t := table{header: []string{"KEY", "SIGNS", "SINCE", "UNTIL"}, cut: []string{"UNTIL", "SINCE", "SIGNS"}}
	for _, k := range keys.Keys {
		signs, until := "no", k.RetiredAt.UTC().Format(time.RFC3339)
		if k.Signs {
			signs, until = "yes", ""
		}
		t.row(k.Verifier, signs, k.CreatedAt.UTC().Format(time.RFC3339), until)
	}
	t.write(g.stdout, g.colour)
	return nil
}

// newAuditRotateKeyCommand builds `waymark audit rotate-key`.
func newAuditRotateKeyCommand(g *globals) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "rotate-key",
		Short: "Let a new key sign checkpoints of the audit log",
		Long: `Makes a key that signs checkpoints from now on, and prints all keys. What the old
one signed stays verifiable; its private half is forgotten. The change is an entry
of the audit log. A key that the configuration gives is changed there.`,
		Args: exactArgs(),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; it goes into the audit log")
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return g.withClient(func(c *api.Client) error {
			keys, err := c.RotateAuditKey(cmd.Context(), api.RotateKey{Reason: reason})
			if err != nil {
				return err
			}
			return g.renderAuditKeys(keys, out)
		})
	}
	return cmd
}

// newAuditNewKeyCommand builds `waymark audit new-key`.
func newAuditNewKeyCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "new-key ORIGIN",
		Short: "Make a key for audit { key }: the private half on standard output, the public on standard error",
		Args:  exactArgs("ORIGIN"),
		RunE: func(_ *cobra.Command, args []string) error {
			signer, verifier, err := audit.NewKey(args[0])
			if err != nil {
				return withExitCode(err)
			}
			fmt.Fprintf(g.stderr, "the public half, for those who verify:\n%s\n", verifier)
			_, err = fmt.Fprintln(g.stdout, signer)
			return err
		},
	}
}

// newAuditVerifyCommand builds `waymark audit verify`.
func newAuditVerifyCommand(g *globals) *cobra.Command {
	var v verification
	var folder string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Recompute the audit log's Merkle tree from its entries and compare it with its signed checkpoint",
		Long: `Reads the entries, hashes them here, and compares the root with the checkpoint that
the service has signed. With --checkpoint it also proves that the log has only
grown since that file was written: nothing was changed, removed or put in. Then
the entries since are read; --all reads those before it again too.

Without --key the service itself says which keys are its own.

With --copy it verifies a copy of the log in a folder instead, and asks no service.`,
		Example: `  waymark audit verify --checkpoint audit.checkpoint --update    # the first time, and every day`,
		Args:    exactArgs(),
	}
	cmd.Flags().StringVar(&v.file, "checkpoint", "", "`file` written by --update or --save earlier; the log must contain it unchanged")
	cmd.Flags().BoolVar(&v.update, "update", false, "once all is verified put the new checkpoint in the place of --checkpoint")
	cmd.Flags().StringVar(&v.save, "save", "", "write the verified checkpoint to this `file`, to be kept elsewhere")
	cmd.Flags().StringArrayVar(&v.keys, "key", nil, "`verifier` that must have signed, as waymark audit keys lists it; may be given several times")
	cmd.Flags().BoolVar(&v.all, "all", false, "read the entries before --checkpoint too")
	cmd.Flags().StringVar(&folder, "copy", "", "verify the copy of the log in this `folder`; needs --key")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case v.update && v.file == "":
			return usageErrorf("--update keeps the new checkpoint in the file of --checkpoint: name one")
		case folder != "" && (v.update || v.save != ""):
			return usageErrorf("--copy has its checkpoints beside its files: leave --update and --save out")
		}
		if err := v.readKept(); err != nil {
			return err
		}
		if folder != "" {
			p := g.newProgress("verifying", megabytesOf)
			v.seen = p.at
			err := v.verifyCopy(folder)
			p.end()
			if err != nil {
				return withExitCode(err)
			}
			return g.renderVerified(&v)
		}
		return g.withClient(func(c *api.Client) error {
			p := g.newProgress("verifying", entriesOf)
			v.seen = p.at
			err := v.run(cmd.Context(), c)
			p.end()
			if err != nil {
				return err
			}
			return g.renderVerified(&v)
		})
	}
	return cmd
}

func (g *globals) renderVerified(v *verification) error {
	if v.kept != nil {
		fmt.Fprintf(g.stdout, "the log contains the checkpoint at %d entries unchanged\n", v.kept.Size)
	}
	if v.from > 0 {
		fmt.Fprintf(g.stdout, "entries before %d were not read again: --all does\n", v.from)
	}
	if len(v.keys) == 0 {
		fmt.Fprintf(g.stdout, "which keys sign was told by the service: keep them (waymark audit keys) and give --key\n")
	}
	text := fmt.Sprintf("verified: %d entries, root %s", v.head.Size, v.head.Root)
	if v.by != "" {
		text += ", signed by " + v.by
	}
	_, err := fmt.Fprintln(g.stdout, text)
	return err
}
