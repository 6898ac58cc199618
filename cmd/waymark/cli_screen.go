package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/waymark-cd/waymark/api"
)

// drawing prints what a command shows, made from one answer of the service: out is
// standard output, notes what belongs beside it on standard error.
type drawing func(out, notes io.Writer, now time.Time)

// loading asks the service for what a command shows: as it is on the wire, and as
// people see it.
type loading func(context.Context, *api.Client) (answer any, draw drawing, err error)

// watchEvery is how often what --watch shows is asked for again.
const watchEvery = 2 * time.Second

// addWatchFlag registers --watch, for commands that show what is now.
func addWatchFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().BoolP("watch", "w", false, "go on showing it in this terminal, as it changes, until interrupted")
}

// show prints what load gives, once or, where it is watched, again and again.
func (g *globals) show(cmd *cobra.Command, watch bool, out *outputFlag, load loading) error {
	if watch {
		return g.watch(cmd, out, load)
	}
	return g.withClient(func(c *api.Client) error {
		answer, draw, err := load(cmd.Context(), c)
		if err != nil {
			return err
		}
		if out.json() {
			return printJSON(g.stdout, answer, "  ")
		}
		draw(g.stdout, g.stderr, time.Now())
		return nil
	})
}

// watch shows what load gives in the terminal until the context ends, and goes on
// while the service is away.
func (g *globals) watch(cmd *cobra.Command, out *outputFlag, load loading) error {
	tty, ok := g.stdout.(*os.File)
	if !ok || !term.IsTerminal(int(tty.Fd())) || g.env("TERM") == "dumb" || out.json() {
		return usageErrorf("--watch draws on a terminal, again and again: programs and pipes use waymark watch, with -o json for events as JSON, or waymark runs wait")
	}
	return g.withClient(func(c *api.Client) error {
		ctx := cmd.Context()
		_, draw, err := load(ctx, c) // what is wrong from the beginning is said without a screen
		if err != nil {
			return err
		}
		s := newScreen(tty, fmt.Sprintf("%s  %s", cmd.CommandPath(), g.address()))
		s.enter()
		defer s.leave()
		err = s.run(ctx, draw, func() (drawing, error) {
			_, draw, err := load(ctx, c)
			return draw, err
		})
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			return nil // it was told to end
		}
		return err
	})
}

// address is where the service is looked for.
func (g *globals) address() string {
	return cmp.Or(g.server, g.env("WAYMARK_SERVER"), api.DefaultServer)
}

// What a terminal is told: its other buffer, no cursor and no wrapping, and back.
const (
	screenOn  = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
	screenOff = "\x1b[?7h\x1b[?25h\x1b[?1049l"
)

// screen draws on a terminal in its other buffer, so that what was there before
// is there again afterwards. One goroutine uses it.
type screen struct {
	tty   *os.File
	title string
	// What was seen last, and since when the service is away.
	draw drawing
	away time.Time
}

func newScreen(tty *os.File, title string) *screen { return &screen{tty: tty, title: title} }

func (s *screen) enter() { _, _ = io.WriteString(s.tty, screenOn) }
func (s *screen) leave() { _, _ = io.WriteString(s.tty, screenOff) }

// run draws until ctx ends or load fails for good.
func (s *screen) run(ctx context.Context, first drawing, load func() (drawing, error)) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGWINCH, syscall.SIGTSTP)
	defer signal.Stop(signals)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	s.draw = first
	for {
		s.paint(time.Now())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case sig := <-signals:
			if sig == syscall.SIGTSTP {
				s.pause(ctx)
			}
			continue // it is drawn anew, in the width that the terminal has now
		case <-tick.C:
		}
		draw, err := load()
		switch {
		case err == nil:
			s.draw, s.away = draw, time.Time{}
		case exitCodeOf(err) != exitUnreachable:
			return err
		case s.away.IsZero():
			s.away = time.Now()
		}
	}
}

// pause gives the terminal back to the shell until the process is continued.
func (s *screen) pause(ctx context.Context) {
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGCONT)
	defer signal.Stop(again)
	s.leave()
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGSTOP); err == nil {
		select { // this thread may run on for a moment
		case <-again:
		case <-ctx.Done():
		}
	}
	s.enter()
}

// paint puts what was seen last in the place of what is on the terminal, line by
// line and in one write, so that nothing flickers.
func (s *screen) paint(now time.Time) {
	columns, height, err := term.GetSize(int(s.tty.Fd()))
	if err != nil || columns < 1 || height < 1 {
		return
	}
	out, notes := &sheet{width: columns}, &sheet{width: columns}
	s.draw(out, notes, now)
	state := "every " + watchEvery.String()
	if !s.away.IsZero() {
		state = "no answer since " + s.away.Format(time.TimeOnly)
	}
	lines := []string{cutTo(fmt.Sprintf("%s  %s  %s  (Ctrl-C ends)", now.Format(time.TimeOnly), state, clean(s.title)), columns), ""}
	lines = append(lines, out.lines()...)
	for _, note := range notes.lines() {
		lines = append(lines, cutTo(note, columns))
	}
	if more := len(lines) - height; more > 0 {
		lines = append(lines[:height-1], cutTo(fmt.Sprintf("… and %d more lines than this terminal has", more+1), columns))
	}
	_, _ = io.WriteString(s.tty, "\x1b[H"+strings.Join(lines, "\x1b[K\r\n")+"\x1b[K\x1b[J")
}

// sheet is text that is going to be on a terminal of this width.
type sheet struct {
	strings.Builder
	width int
}

func (s *sheet) columns() int { return s.width }

func (s *sheet) lines() []string {
	if s.Len() == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s.String(), "\n"), "\n")
}
