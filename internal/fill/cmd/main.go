// Command fill fills an empty database as it would be after years, to look at a
// service under much data.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/waymark-cd/waymark/internal/fill"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "fill:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stderr io.Writer) error {
	full := fill.Full()
	cfg := fill.Config{Size: full}
	flags := flag.NewFlagSet("fill", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&cfg.URL, "database", "", "`URL` of an empty database: sqlite:///absolute/path/waymark.db or postgres://…")
	flags.IntVar(&cfg.Size.Runs, "runs", full.Runs, "runs")
	flags.IntVar(&cfg.Size.Entries, "entries", full.Entries, "entries of the audit log")
	flags.IntVar(&cfg.Size.Resources, "resources", full.Resources, "resources of the inventory")
	if err := flags.Parse(args); err != nil {
		return err
	}
	began, shown := time.Now(), time.Now()
	cfg.Progress = func(runs int) {
		if time.Since(shown) > 5*time.Second || runs == cfg.Size.Runs {
			shown = time.Now()
			fmt.Fprintf(stderr, "%d runs after %s\n", runs, time.Since(began).Round(time.Second))
		}
	}
	if err := fill.Fill(ctx, cfg); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "filled in %s\n", time.Since(began).Round(time.Second))
	return nil
}
