package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/release"
)

// The exit codes of the command line.
const (
	exitDone        = 0
	exitRunFailed   = 1
	exitUsage       = 2 // usage or configuration
	exitNotFound    = 3
	exitRefused     = 4
	exitConflict    = 5
	exitUnreachable = 6
	exitInterrupted = 130 // as shells say of a command that was stopped
)

// exitError carries the exit code of an error up to main.
type exitError struct {
	code int
	err  error
}

// Error prints the error itself; the code is for main.
func (e *exitError) Error() string { return e.err.Error() }

// Unwrap gives the error that the code belongs to.
func (e *exitError) Unwrap() error { return e.err }

// usageErrorf is an error of whoever typed the command.
func usageErrorf(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// withExitCode gives an error of the client the exit code that belongs to it.
// An error that has a code already keeps it; an unknown one exits with 1.
func withExitCode(err error) error {
	var ee *exitError
	if err == nil || errors.As(err, &ee) {
		return err
	}
	return &exitError{exitCodeOf(err), err}
}

// exitCodeOf is the one table from errors to exit codes.
func exitCodeOf(err error) int {
	if errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	var unreachable *api.UnreachableError
	if errors.As(err, &unreachable) {
		return exitUnreachable
	}
	code := ""
	var p *api.Problem
	if errors.As(err, &p) {
		code = p.Code
	}
	switch {
	case code == api.CodeNotFound, errors.Is(err, release.ErrNotFound):
		return exitNotFound
	case code == api.CodeRefused, code == api.CodeUnauthorized, errors.Is(err, release.ErrRefused):
		return exitRefused
	case code == api.CodeConflict, errors.Is(err, release.ErrConflict):
		return exitConflict
	case code == api.CodeUnavailable, errors.Is(err, release.ErrUnavailable):
		return exitUnreachable
	case code == api.CodeInvalid, errors.Is(err, release.ErrInvalid):
		return exitUsage
	default:
		return exitRunFailed
	}
}

// globals is what every command shares: where the service is and where output goes.
type globals struct {
	server, token  string
	stdout, stderr io.Writer
	env            func(string) string
	colour         bool
}

// addFlags registers --server and --token, for the root command.
func (g *globals) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&g.server, "server", "", "address of the service (default WAYMARK_SERVER, or "+api.DefaultServer+")")
	flags.StringVar(&g.token, "token", "", "API token, ID token or the service's own token (better: WAYMARK_TOKEN, which no process list shows)")
}

// client makes the client from flags and environment; nothing is sent yet.
func (g *globals) client() (*api.Client, error) {
	server, token := g.server, g.token
	if server == "" {
		server = g.env("WAYMARK_SERVER")
	}
	if token == "" {
		token = g.env("WAYMARK_TOKEN")
	}
	c, err := api.NewClient(api.ClientConfig{Server: server, Token: token})
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	return c, nil
}

// withClient is the frame of every command that talks to the service: it makes
// the client, runs do, and gives errors their exit code and a next step.
func (g *globals) withClient(do func(*api.Client) error) error {
	c, err := g.client()
	if err != nil {
		return err
	}
	return withExitCode(g.withNextStep(do(c)))
}

// withNextStep adds to an error of the service what to do about it here.
func (g *globals) withNextStep(err error) error {
	var p *api.Problem
	var away *api.UnreachableError
	switch {
	case errors.As(err, &away):
		return fmt.Errorf("%w --server or WAYMARK_SERVER names another one", err)
	case !errors.As(err, &p):
		return err
	case p.Status == http.StatusUnauthorized:
		return fmt.Errorf("%w: set WAYMARK_TOKEN to a token of the service", err)
	case p.Detail == "" && (p.Status == http.StatusNotFound || p.Status < 400):
		return &exitError{exitUnreachable, fmt.Errorf("what answers at %s is no waymark: %w: give the service's address with --server or WAYMARK_SERVER", clean(g.address()), err)}
	case p.Code != api.CodeNotFound:
		return err
	}
	for what, lists := range map[string]string{"run": "waymark runs list", "target": "waymark status", "freeze": "waymark freezes"} {
		if strings.HasPrefix(p.Detail, what+" ") && !strings.Contains(p.Detail, "waymark ") {
			return fmt.Errorf("%w: %s shows which there are", err, lists)
		}
	}
	return err
}

// wantsColour reports whether w is a terminal whose user did not ask for plain
// text by NO_COLOR or TERM=dumb.
func wantsColour(w io.Writer, env func(string) string) bool {
	f, ok := w.(*os.File)
	return ok && env("NO_COLOR") == "" && env("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

// exactArgs asks for n arguments and says which when they are not there.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return usageErrorf("%s takes %s, and was given %d: see %s --help", cmd.CommandPath(),
				cmp.Or(strings.Join(names, " "), "no arguments"), len(args), cmd.CommandPath())
		}
		return nil
	}
}

// outputFlag is the value of -o: "table" or "json".
type outputFlag string

func addOutputFlag(cmd *cobra.Command) *outputFlag {
	out := outputFlag("table")
	cmd.Flags().VarP(&out, "output", "o", "`format`: table for people, json for programs")
	return &out
}

// Set takes "table" or "json".
func (o *outputFlag) Set(s string) error {
	if s != "table" && s != "json" {
		return fmt.Errorf("%q is no output format: use table or json", s)
	}
	*o = outputFlag(s)
	return nil
}

// String gives the format's name.
func (o *outputFlag) String() string { return string(*o) }

// Type names the value in the help.
func (o *outputFlag) Type() string { return "format" }

func (o *outputFlag) json() bool { return *o == "json" }

// printJSON prints the wire form of v, indented. Characters that a terminal
// might act on are escaped, which JSON allows in strings, the only place where
// they can occur.
func printJSON(w io.Writer, v any, indent string) error {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("encoding the output: %w", err)
	}
	var out strings.Builder
	for _, r := range b.String() {
		if r != '\n' && unsafeRune(r) {
			fmt.Fprintf(&out, `\u%04x`, r)
			continue
		}
		out.WriteRune(r)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// unsafeRune reports whether a terminal may act on r instead of showing it:
// C0 and C1 controls, and the characters that turn the direction of text.
func unsafeRune(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

// clean makes text from tags, logs and tools harmless for one line of a
// terminal: line ends and tabs become spaces, other controls a replacement mark.
func clean(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r == '\r':
			return -1
		case unsafeRune(r):
			return utf8.RuneError
		}
		return r
	}, s))
}

// cleanWriter passes text on with its lines and tabs, and with everything else
// that a terminal might act on replaced. A carriage return is dropped, so that
// no line can hide another.
type cleanWriter struct {
	w    io.Writer
	rest []byte // the beginning of a rune whose end has not come yet
}

// Write cleans p; it reports len(p) unless the writer below fails.
func (c *cleanWriter) Write(p []byte) (int, error) {
	data := append(c.rest, p...)
	out := make([]byte, 0, len(data))
	for len(data) > 0 && utf8.FullRune(data) {
		r, size := utf8.DecodeRune(data)
		data = data[size:]
		switch {
		case r == '\r':
		case r != '\n' && r != '\t' && unsafeRune(r):
			out = utf8.AppendRune(out, utf8.RuneError)
		default:
			out = utf8.AppendRune(out, r)
		}
	}
	c.rest = append([]byte(nil), data...)
	if _, err := c.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// ago says how long before now t was: "just now", "3m ago", or the day. Empty
// for no time.
func ago(now, t time.Time) string {
	d := now.Sub(t)
	switch {
	case t.IsZero():
		return ""
	case d < 5*time.Second:
		return "just now"
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	case d < 60*24*time.Hour:
		return fmt.Sprintf("%dd ago", int(d.Hours()/24))
	default:
		return t.UTC().Format(time.DateOnly)
	}
}

// took says how long something took, or has taken up to now; empty before it began.
func took(now, from, to time.Time) string {
	if from.IsZero() {
		return ""
	}
	if to.IsZero() {
		to = now
	}
	switch d := max(to.Sub(from), 0); {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	default:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
}

// multiline makes a text of several lines harmless for a terminal.
func multiline(s string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	for i, line := range lines {
		indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
		lines[i] = indent + clean(line)
	}
	return strings.Join(lines, "\n")
}
