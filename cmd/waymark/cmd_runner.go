package main

import (
	"runtime"

	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/backends"
	"github.com/waymark-cd/waymark/runner"
)

// runnerBallast is memory that the runner takes and never touches, so it costs
// none: with it the collector first runs at twice this size, which most runners
// never reach, and each of them lives for less than a second.
const runnerBallast = 64 << 20

// newRunnerCommand builds `waymark runner`, which the service starts by itself.
func newRunnerCommand(*globals) *cobra.Command {
	return &cobra.Command{
		Use: "runner", Hidden: true, Args: exactArgs(),
		Short: "Execute one phase of a run; the service starts it and writes its task to standard input",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ballast := make([]byte, runnerBallast)
			defer runtime.KeepAlive(ballast)
			return withExitCode(runner.Main(cmd.Context(), runner.Config{PrepareBackend: backends.Prepare}))
		},
	}
}
