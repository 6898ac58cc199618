package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/runner"
	"github.com/waymark-cd/waymark/store"
)

// newBackupCommand builds `waymark backup`.
func newBackupCommand(g *globals) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the SQLite database to a new file, while the service runs or not",
		Long: `Copies the database of the configuration as it is at one moment, verifies the copy
and forces it to the disk. The service goes on. FILE must not be there; it holds
the keys of saved plans, so only its owner can read it. Run it on the service's
machine, as a user that may write its data folder.

Not in it are logs, saved plans and embedded states: those are files of the data
folder, or in the bucket that the configuration names.`,
		Args: exactArgs("FILE"),
	}
	cmd.Flags().StringVar(&file, "config", "waymark.hcl", "the configuration file of the service")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := loadConfig(file)
		if err != nil {
			return err
		}
		return withExitCode(g.backup(cmd.Context(), cfg, args[0]))
	}
	return cmd
}

func (g *globals) backup(ctx context.Context, cfg *config.Config, file string) error {
	file, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	syscall.Umask(0o077)
	copying, verifying := g.newProgress("copying", megabytesOf), g.newProgress("verifying the copy", entriesOf)
	s, err := store.Backup(ctx, store.BackupConfig{URL: databaseURL(cfg), File: file, Progress: copying.at, Verified: verifying.at})
	copying.end()
	verifying.end()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(g.stdout, "backed up to %s: %s\n", file, describe(s))
	return err
}

// describe says what a backup holds.
func describe(s store.Snapshot) string {
	last := "nothing yet"
	if !s.LastAt.IsZero() {
		last = "everything up to " + s.LastAt.UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("%s, schema %d, %s; audit log verified: %d entries, root %s", megabytes(s.Bytes), s.Schema, last, s.Audit.Size, s.Audit.Root)
}

// newRestoreCommand builds `waymark restore`.
func newRestoreCommand(g *globals) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a backup in the place of the SQLite database of a stopped service",
		Long: `Verifies a file that waymark backup wrote (every page, the schema's version, the
audit log), and only then puts a copy of it in place. The database that was there
is kept beside it. The restore is an entry of the audit log, and new runs get ids
that no run had. FILE is not changed.

The service must be stopped, and no run may be at work.`,
		Args: exactArgs("FILE"),
	}
	cmd.Flags().StringVar(&file, "config", "waymark.hcl", "the configuration file of the service")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := loadConfig(file)
		if err != nil {
			return err
		}
		return withExitCode(g.restore(cmd.Context(), cfg, file, args[0]))
	}
	return cmd
}

func (g *globals) restore(ctx context.Context, cfg *config.Config, configFile, file string) error {
	file, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	what := store.RestoreConfig{URL: databaseURL(cfg), File: file, Actor: lockOwner()}
	if !strings.HasPrefix(what.URL, "sqlite://") {
		_, err := store.Restore(ctx, what) // says with what instead, before anything is locked
		return err
	}
	unlock, err := lockDataDir(cfg.Server.DataDir)
	if err != nil {
		return err
	}
	defer unlock()
	syscall.Umask(0o077)
	if what.RunsAbove, err = lastRunOnDisk(cfg.Server.DataDir); err != nil {
		return err
	}
	p := g.newProgress("verifying the backup", entriesOf)
	what.Verified = p.at
	r, err := store.Restore(ctx, what)
	p.end()
	if err != nil {
		return err
	}
	fmt.Fprintf(g.stdout, "restored %s: %s\n", file, describe(r.Snapshot))
	if r.Kept != "" {
		fmt.Fprintf(g.stdout, "the database that was there is now %s\n", r.Kept)
	}
	_, err = fmt.Fprintf(g.stdout, `next:
  waymark serve --config %s
  Tags that are newer than the backup look new and run again; what is deployed already has an empty plan.
  Runs that were at work when the backup was made may end as unknown: waymark runs list --state unknown
  Checkpoints of the audit log that were saved after the backup no longer verify; save a new one.
  New runs begin at %d.
`, configFile, r.FirstRun)
	return err
}

// lastRunOnDisk is the highest id of a run that has a folder. It refuses where
// a runner is still at work, whose result the restored record would not know.
func lastRunOnDisk(dataDir string) (last int64, err error) {
	runs := filepath.Join(dataDir, "runs")
	dirs, err := filepath.Glob(filepath.Join(runs, "*"))
	if err != nil {
		return 0, err
	}
	for _, dir := range dirs {
		if id, err := strconv.ParseInt(filepath.Base(dir), 10, 64); err == nil {
			last = max(last, id)
		}
	}
	phases, err := filepath.Glob(filepath.Join(runs, "*", "*", "*"))
	if err != nil {
		return 0, err
	}
	for _, dir := range phases {
		// What is no runner's folder has no runner; a claim that cannot be read
		// may be what the database is restored for.
		if status, err := runner.Find(dir); err == nil && status == runner.Running {
			return 0, fmt.Errorf("%w: the runner of %s is still at work: wait until it has ended, or stop it with SIGINT", release.ErrConflict, dir)
		}
	}
	return last, nil
}
