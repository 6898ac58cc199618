package main

import (
	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/backends"
	"github.com/waymark-cd/waymark/runner"
)

// newRunnerCommand builds `waymark runner`, which the service starts by itself.
func newRunnerCommand(*globals) *cobra.Command {
	return &cobra.Command{
		Use: "runner", Hidden: true, Args: exactArgs(),
		Short: "Execute one phase of a run; the service starts it and writes its task to standard input",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withExitCode(runner.Main(cmd.Context(), runner.Config{PrepareBackend: backends.Prepare}))
		},
	}
}
