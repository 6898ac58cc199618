package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"
)

// newConfigCommand builds `waymark config`.
func newConfigCommand(g *globals) *cobra.Command {
	return group("config", "Look at configuration files", &cobra.Command{
		Use:   "check FILE",
		Short: "Check a configuration file: every problem with file and line, exit code 0 or 2",
		Args:  exactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := os.Stat(args[0]); errors.Is(err, fs.ErrNotExist) {
				return usageErrorf("there is no file %q", args[0])
			}
			cfg, err := loadConfig(args[0])
			if err != nil {
				return err
			}
			if _, err := loadSigners(cfg); err != nil {
				return withExitCode(err)
			}
			if err := checkPolicies(cmd.Context(), cfg); err != nil {
				return withExitCode(err)
			}
			if err := checkNotifications(cfg); err != nil {
				return withExitCode(err)
			}
			printWeakened(g.stderr, cfg)
			targets := 0
			for _, e := range cfg.Environments {
				scopes := len(e.Regions)
				if cfg.GlobalRegion != "" {
					scopes++
				}
				targets += scopes * len(cfg.Teams)
			}
			for _, p := range cfg.Warnings(time.Now()) {
				fmt.Fprintln(g.stderr, "warning: "+p.String())
			}
			_, err = fmt.Fprintf(g.stdout, "%s is good: %d repositories, %d environments, %d teams, %d targets\n",
				args[0], len(cfg.Repositories), len(cfg.Environments), len(cfg.Teams), targets)
			return err
		},
	})
}
