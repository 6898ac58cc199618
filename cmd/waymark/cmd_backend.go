package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/backends"
	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
)

// newBackendCommand builds `waymark backend` with everything below it.
func newBackendCommand(g *globals) *cobra.Command {
	return group("backend", "Create, harden and check state storage, and look at its locks",
		newBootstrapCommand(g), newVerifyCommand(g), newLocksCommand(g), newUnlockCommand(g))
}

// storage is what the configuration names of buckets and tables, and how to
// reach them with the identity of whoever types the command.
type storage struct {
	file, profile string
	hard          backends.Hardening
	client        *backends.Client
	stores        []backends.Store
}

// newStorageCommand is a command with the flags of storage.
func newStorageCommand(s *storage, use, short string) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: exactArgs()}
	flags := cmd.Flags()
	flags.StringVar(&s.file, "config", "waymark.hcl", "the configuration file")
	flags.StringVar(&s.profile, "profile", "", "AWS profile to do it with (default: the SDK's default chain)")
	flags.StringVar(&s.hard.LogBucket, "log-bucket", "", "bucket that takes access logs (default: none are asked for)")
	flags.StringVar(&s.hard.LogPrefix, "log-prefix", "", "prefix of their keys (default: the bucket's name and a slash)")
	flags.Int32Var(&s.hard.NoncurrentDays, "keep-days", 365, "how many days old versions of a state are kept at least")
	flags.Int32Var(&s.hard.KeepVersions, "keep-versions", 10, "how many of the newest old versions are kept for ever")
	return cmd
}

// find reads the configuration and lists its buckets and tables.
func (s *storage) find(ctx context.Context, stderr io.Writer) error {
	cfg, err := loadConfig(s.file)
	if err != nil {
		return err
	}
	if cfg.Backend.Type != "s3" {
		return usageErrorf("%s: backend %q has no buckets or tables to look after: this is for backend \"s3\"", s.file, cfg.Backend.Type)
	}
	known, late, err := cfg.KnownBackends()
	if err != nil {
		return withExitCode(err)
	}
	if len(late) > 0 {
		fmt.Fprintf(stderr, "left out: %s, whose backend only a commit of the repository decides\n", targetsShort(late))
	}
	var uses []backends.Use
	for _, k := range known {
		uses = append(uses, backends.Use{Spec: k.Backend, Account: k.Owner})
	}
	if s.stores, err = backends.Stores(uses); err != nil {
		return withExitCode(err)
	}
	s.client, err = s.connect(ctx, cfg)
	return withExitCode(err)
}

func (s *storage) connect(ctx context.Context, cfg *config.Config) (*backends.Client, error) {
	c, err := newCloud(ctx, cfg, s.profile)
	if err != nil {
		return nil, err
	}
	return backends.New(backends.S3Config{AWS: c.own, Endpoints: c.settings.Endpoints}), nil
}

// targetsShort names a few targets.
func targetsShort(all []release.Target) string {
	var names []string
	for i, t := range all {
		if i == 3 && len(all) > 4 {
			return strings.Join(names, ", ") + fmt.Sprintf(" and %d more", len(all)-3)
		}
		names = append(names, t.String())
	}
	return strings.Join(names, ", ")
}

func newVerifyCommand(g *globals) *cobra.Command {
	s := &storage{}
	cmd := newStorageCommand(s, "verify", "Check every property of the state buckets and lock tables; exit 1 where one is not as it should be")
	out := addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := s.find(cmd.Context(), g.stderr); err != nil {
			return err
		}
		found, err := s.client.Verify(cmd.Context(), s.stores, s.hard)
		if err != nil {
			return withExitCode(err)
		}
		if out.json() {
			err = printJSON(g.stdout, map[string]any{"properties": found}, "  ")
		} else {
			g.renderProperties(found)
		}
		if err != nil {
			return err
		}
		return verdictOn(found)
	}
	return cmd
}

// verdictOn is an error with exit code 1 that names what is not as it should be.
func verdictOn(found []backends.Property) error {
	var wrong []string
	for _, p := range found {
		if p.Status != backends.StatusOK {
			wrong = append(wrong, fmt.Sprintf("%s of %s %s is %s", p.Property, p.Kind, p.Name, p.Status))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return &exitError{exitRunFailed, fmt.Errorf("%s; waymark backend bootstrap shows what it would mend", strings.Join(wrong, ", "))}
}

func (g *globals) renderProperties(found []backends.Property) {
	t := table{header: []string{"STORE", "NAME", "PROPERTY", "STATUS", "HAS", "WANTED"},
		cut: []string{"STORE", "HAS", "WANTED", "NAME"}}
	for _, p := range found {
		t.row(p.Kind, p.Name, p.Property, cell{string(p.Status), paintOfStatus(p.Status)}, cmp.Or(p.Have, "-"), cmp.Or(p.Want, "-"))
	}
	t.write(g.stdout, g.colour)
	for _, p := range found {
		if p.Detail != "" {
			fmt.Fprintf(g.stdout, "%s %s, %s: %s\n", clean(p.Kind), clean(p.Name), clean(p.Property), clean(p.Detail))
		}
	}
}

func paintOfStatus(s backends.Status) paint {
	switch s {
	case backends.StatusOK:
		return green
	case backends.StatusUnreadable:
		return yellow
	default:
		return red
	}
}

func newBootstrapCommand(g *globals) *cobra.Command {
	s, yes := &storage{}, false
	cmd := newStorageCommand(s, "bootstrap", "Create the state buckets and lock tables that are missing, and harden them")
	cmd.Flags().BoolVar(&yes, "yes", false, "do it without asking")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := s.find(cmd.Context(), g.stderr); err != nil {
			return err
		}
		steps, found, err := s.client.Plan(cmd.Context(), s.stores, s.hard)
		if err != nil {
			return withExitCode(err)
		}
		unread := g.renderSteps(steps, found)
		if len(steps) == 0 {
			return unread
		}
		if !yes && !g.agrees(cmd.InOrStdin()) {
			return &exitError{exitRefused, errors.New("nothing was changed; add --yes to do it")}
		}
		done := 0
		err = s.client.Bootstrap(cmd.Context(), steps, func(step backends.Step, err error) {
			done++
			outcome := green.on("done", g.colour)
			if err != nil {
				outcome = red.on("failed", g.colour)
			}
			fmt.Fprintf(g.stdout, "[%d/%d] %s %s %s: %s: %s\n", done, len(steps), step.Verb, step.Kind, clean(step.Name), step.Property, outcome)
		})
		if err != nil {
			return &exitError{exitRunFailed, err}
		}
		return unread
	}
	return cmd
}

// renderSteps shows what would be done. The error says what could not be read.
func (g *globals) renderSteps(steps []backends.Step, found []backends.Property) error {
	var unread []string
	for _, p := range found {
		if p.Status == backends.StatusUnreadable {
			unread = append(unread, fmt.Sprintf("%s of %s %s cannot be read: %s", p.Property, p.Kind, clean(p.Name), clean(p.Detail)))
		}
	}
	if len(steps) == 0 && len(unread) == 0 {
		fmt.Fprintln(g.stdout, "Every bucket and table is there, and as hard as it should be. Nothing to do.")
		return nil
	}
	if len(steps) > 0 {
		t := table{header: []string{"WILL", "STORE", "NAME", "REGION", "PROPERTY", "FROM", "TO"},
			cut: []string{"FROM", "STORE", "REGION", "TO", "NAME"}}
		for _, step := range steps {
			verb := cell{step.Verb, green}
			if step.Blocked != "" {
				verb = cell{"cannot", red}
			}
			t.row(verb, step.Kind, step.Name, step.Region, step.Property, cmp.Or(step.From, "-"), step.To)
		}
		t.write(g.stdout, g.colour)
		for _, step := range steps {
			if step.Blocked != "" {
				fmt.Fprintf(g.stdout, "%s %s: %s\n", step.Kind, clean(step.Name), clean(step.Blocked))
			}
		}
	}
	if len(unread) == 0 {
		return nil
	}
	return &exitError{exitRunFailed, errors.New(strings.Join(unread, "; "))}
}

// agrees asks whoever types; anything but yes is a no.
func (g *globals) agrees(in io.Reader) bool {
	fmt.Fprint(g.stderr, "Do this? Only \"yes\" goes on: ")
	line, _ := bufio.NewReader(io.LimitReader(in, 100)).ReadString('\n')
	return strings.TrimSpace(line) == "yes"
}
