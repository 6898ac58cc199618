package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
)

// collectAt is how much the memory in use grows, in percent, until it is collected.
// The service lives on some 20 MB, and a page makes several more that nobody needs
// afterwards: at Go's 100 it collects for every page, which costs a quarter of it.
const collectAt = 300

// newServeCommand builds `waymark serve`.
func newServeCommand(g *globals) *cobra.Command {
	var file, format string
	var options serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the service: watch the repositories, deploy what their tags say, answer the API",
		Args:  exactArgs(),
	}
	cmd.Flags().StringVar(&file, "config", "waymark.hcl", "the configuration file")
	cmd.Flags().StringVar(&format, "log-format", "text", "how log lines are written to standard error: text or json")
	options.addFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		log, err := newLogger(g.stderr, format)
		if err != nil {
			return err
		}
		cfg, err := loadConfig(file)
		if err != nil {
			return err
		}
		if options, err = options.complete(cfg); err != nil {
			return err
		}
		// The database holds the keys of saved plans: nothing that this process
		// writes is for others, whatever the mode of a data folder that was there.
		syscall.Umask(0o077)
		if os.Getenv("GOGC") == "" { // for as long as it serves
			defer debug.SetGCPercent(debug.SetGCPercent(collectAt))
		}
		return serve(cmd.Context(), cfg, options, log, nil)
	}
	return cmd
}

func newLogger(w io.Writer, format string) (*slog.Logger, error) {
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, nil)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, nil)), nil
	}
	return nil, usageErrorf("--log-format %q: write text or json", format)
}

// loadConfig reads the configuration; what is wrong with it ends with exit code 2.
func loadConfig(file string) (*config.Config, error) {
	cfg, err := config.Load(file, os.LookupEnv)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	return cfg, nil
}

// interruptAt waits for a signal after the one that ended ctx, and then asks the
// engines of this instance to stop: they save their states and free their locks.
// A third signal finds the default handling again, and ends the process.
func (s *service) interruptAt(ctx, ended context.Context, again chan os.Signal, log *slog.Logger) {
	select {
	case <-ctx.Done():
	case <-ended.Done():
		return
	}
	log.Info("stopping: nothing new is taken up, and applies go on; a second signal interrupts them", "grace", s.cfg.Server.ShutdownGrace.String())
	select { // the first, where it was a signal that ended ctx
	case <-again:
	case <-time.After(100 * time.Millisecond):
	}
	select {
	case <-again:
	case <-ended.Done():
		return
	}
	signal.Stop(again)
	log.Warn("a second signal: the applies at work are interrupted; a third one ends this process at once")
	s.reconciler.InterruptAll()
}

// serve runs one instance until ctx is cancelled: it stops taking up work, gives
// what is at work its grace, and leaves runners to the next start. Once it
// listens it calls started, where given, with its address.
func serve(ctx context.Context, cfg *config.Config, options serveOptions, log *slog.Logger, started func(addr string)) (err error) {
	listening, err := net.Listen("tcp", cfg.Server.Listen)
	if err != nil {
		return usageErrorf("listening on %s: %w; set server { listen } to a free address", cfg.Server.Listen, err)
	}
	listener := listening.(*net.TCPListener)
	leave := waitingRoom(listener)
	hide, err := serviceMask(cfg)
	if err != nil {
		return withExitCode(errors.Join(err, listener.Close()))
	}
	log = slog.New(maskedHandler{log.Handler(), hide})
	s, err := newService(ctx, cfg, options, hide, log)
	leave()
	if err != nil {
		return withExitCode(errors.Join(err, listener.Close()))
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	debug, err := listenDebug(cfg)
	if err != nil {
		return withExitCode(errors.Join(err, listener.Close()))
	}
	log.Info("waymark is up", "version", versionText(), "address", "http://"+listener.Addr().String(), "data_dir", cfg.Server.DataDir)
	if started != nil {
		started(listener.Addr().String())
	}
	again := make(chan os.Signal, 2)
	signal.Notify(again, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(again)
	// The API answers until the reconciler has stopped, so that what goes on
	// during the grace period can be seen.
	g, inner := errgroup.WithContext(context.WithoutCancel(ctx))
	web := s.server.HTTPServer()
	web.BaseContext = func(net.Listener) context.Context { return inner }
	g.Go(func() error {
		if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("%w: serving: %w", release.ErrUnavailable, err)
		}
		return nil
	})
	ended, end := context.WithCancel(inner)
	g.Go(func() error { s.interruptAt(ctx, ended, again, log); return nil })
	g.Go(func() error { return s.server.Run(ended) })
	g.Go(func() error { _ = s.store.Listen(ended); return nil }) // it ends by ended alone
	g.Go(func() error { s.attend(ctx, ended); return nil })
	g.Go(func() error { s.sendTraces(ended); return nil })
	g.Go(func() error { serveDebug(ended, debug, log); return nil })
	g.Go(func() error {
		defer end()
		work, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(inner, cancel)()
		err := s.reconciler.Run(work)
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			err = nil // stopped while it was still starting
		}
		log.Info("waymark is stopping; runners go on and the next start takes them up")
		stop, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer done()
		if web.Shutdown(stop) != nil {
			_ = web.Close()
		}
		return err
	})
	return withExitCode(g.Wait())
}
