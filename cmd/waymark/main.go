// Command waymark watches git tags and turns each into one checked, planned,
// approved and applied Terraform change. It is the service, its command line
// and its runner in one binary. This package parses, wires and prints; what
// Waymark does lives in the packages that it imports.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version and commit are set by the build: -ldflags "-X main.version=… -X main.commit=…".
var version, commit string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal finds the default handling again, and ends the process.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// run is the whole program: arguments in, output and exit code out.
func run(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) int {
	g := &globals{stdout: stdout, stderr: stderr, env: env, colour: wantsColour(stdout, env)}
	root := newRootCommand(g)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	code := exitUsage // an error of cobra's own carries none
	var coded *exitError
	if errors.As(err, &coded) {
		code = coded.code
	}
	text := err.Error()
	if code == exitInterrupted && ctx.Err() != nil {
		text = "interrupted"
	}
	if text != "" {
		fmt.Fprintf(stderr, "waymark: %s\n", multiline(text))
	}
	return code
}

func newRootCommand(g *globals) *cobra.Command {
	root := &cobra.Command{
		Use:   "waymark",
		Short: "Deploy what git tags say: one checked, planned, approved and applied change each",
		Long: `Waymark watches git tags such as dev_us-east-1/research/1.0 and turns each into
one checked, planned, approved and applied Terraform change in one isolated state.

Start with:  waymark demo
Then:        waymark serve --config waymark.hcl`,
		SilenceUsage: true, SilenceErrors: true,
		Args: commandArg, DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(g.stdout)
	root.SetErr(g.stderr)
	root.SetFlagErrorFunc(wrongFlag)
	root.SetHelpCommand(newHelpCommand())
	fitHelp(root, columnsOf(g.stdout))
	g.addFlags(root.PersistentFlags())
	root.AddCommand(newServeCommand(g), newDemoCommand(g), newConfigCommand(g), newExplainCommand(g),
		newStatusCommand(g), newInventoryCommand(g), newWatchCommand(g), newRunsCommand(g), newBackendCommand(g), newAuditCommand(g), newConsumersCommand(g), newInstancesCommand(g), newDrainCommand(g), newNotificationsCommand(g),
		newRollbackCommand(g), newDestroyCommand(g), newPlanCommand(g), newDriftCommand(g),
		newFreezeCommand(g), newThawCommand(g), newFreezesCommand(g), newWhoamiCommand(g), newTokensCommand(g),
		newBackupCommand(g), newRestoreCommand(g), newVersionCommand(g), newCompletionCommand(g), newManCommand(g), newRunnerCommand(g),
		newPolicyCommand(g), newPolicyEvaluatorCommand(g))
	g.addCompletions(root)
	return root
}
