package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newManCommand builds `waymark man`.
func newManCommand(g *globals) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "man --dir DIR",
		Short: "Write the manual pages, one for each command",
		Long: `Writes a manual page for each command into a folder, made from the same texts as
--help. In a folder man1 of the manual path, man waymark and man waymark-runs-show
find them.`,
		Example: "  waymark man --dir /usr/local/share/man/man1\n  waymark man --dir . && man ./waymark-status.1",
		Args:    exactArgs(),
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the `folder` that they are written to; it is made where it is missing")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if dir == "" {
			return usageErrorf("man needs --dir: the folder that the pages are written to, such as /usr/local/share/man/man1")
		}
		pages := manPages(cmd.Root())
		err := os.MkdirAll(dir, 0o755)
		for i := 0; i < len(pages) && err == nil; i++ {
			err = os.WriteFile(filepath.Join(dir, pages[i].name+".1"), []byte(pages[i].text), 0o644)
		}
		if err != nil {
			return usageErrorf("writing the pages: %w", err)
		}
		_, err = fmt.Fprintf(g.stdout, "wrote %d pages to %s\n", len(pages), dir)
		return err
	}
	return cmd
}

// manPage is a page in the language of man(7).
type manPage struct{ name, text string }

// manPages makes a page for a command and for each that is shown below it.
func manPages(cmd *cobra.Command) []manPage {
	pages := []manPage{{manName(cmd), manText(cmd)}}
	for _, below := range shownCommands(cmd) {
		pages = append(pages, manPages(below)...)
	}
	return pages
}

// shownCommands are the commands right below one, without hidden ones.
func shownCommands(cmd *cobra.Command) []*cobra.Command {
	var out []*cobra.Command
	for _, below := range cmd.Commands() {
		if below.IsAvailableCommand() && below.Name() != "help" {
			out = append(out, below)
		}
	}
	return out
}

func manName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// usageLine is how a command is typed.
func usageLine(cmd *cobra.Command) string {
	switch {
	case cmd.HasAvailableSubCommands() && cmd.ValidArgsFunction == nil && cmd.Flags().Lookup("output") == nil:
		return cmd.CommandPath() + " COMMAND"
	case cmd.HasParent():
		return cmd.Parent().CommandPath() + " " + cmd.Use
	}
	return cmd.Use
}

func manText(cmd *cobra.Command) string {
	var b strings.Builder
	section := func(title string) { fmt.Fprintf(&b, ".SH %s\n", title) }
	fmt.Fprintf(&b, ".TH \"%s\" 1 \"\" \"waymark %s\" \"Waymark\"\n", strings.ToUpper(roff(manName(cmd))), roff(versionText()))
	b.WriteString(".nh\n.ad l\n") // no hyphens and no stretched lines in what is copied
	section("NAME")
	fmt.Fprintf(&b, "%s \\- %s\n", roff(manName(cmd)), roff(cmd.Short))
	section("SYNOPSIS")
	fmt.Fprintf(&b, "\\fB%s\\fR\n", roff(usageLine(cmd)))
	section("DESCRIPTION")
	if cmd.Long != "" {
		manParagraphs(&b, cmd.Long)
	} else {
		fmt.Fprintf(&b, "%s.\n", roff(cmd.Short))
	}
	if below := shownCommands(cmd); len(below) > 0 {
		section("COMMANDS")
		for _, c := range below {
			manItem(&b, "\\fB"+roff(manName(c))+"\\fR(1)", c.Short)
		}
	}
	manOptions(&b, "OPTIONS", cmd.NonInheritedFlags())
	manOptions(&b, "GLOBAL OPTIONS", cmd.InheritedFlags())
	if cmd.Example != "" {
		section("EXAMPLES")
		manLines(&b, cmd.Example)
	}
	section("ENVIRONMENT")
	for _, v := range environmentVariables() {
		manItem(&b, "\\fB"+roff(v[0])+"\\fR", v[1])
	}
	section("EXIT STATUS")
	for _, e := range exitStatuses() {
		manItem(&b, fmt.Sprintf("\\fB%d\\fR", e.code), e.means)
	}
	if cmd.HasParent() {
		section("SEE ALSO")
		fmt.Fprintf(&b, "\\fB%s\\fR(1)\n", roff(manName(cmd.Parent())))
	}
	return b.String()
}

func manOptions(b *strings.Builder, title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	fmt.Fprintf(b, ".SH %s\n", title)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		kind, usage := flagUsage(f)
		term := "\\fB" + roff("--"+f.Name) + "\\fR"
		if f.Shorthand != "" {
			term = "\\fB" + roff("-"+f.Shorthand) + "\\fR, " + term
		}
		if kind != "" {
			term += " \\fI" + roff(kind) + "\\fR"
		}
		manItem(b, term, usage)
	})
}

// flagUsage gives the name of a flag's value, empty for one that takes none, and
// what it is for, with its default.
func flagUsage(f *pflag.Flag) (kind, usage string) {
	kind, usage = pflag.UnquoteUsage(f)
	switch f.DefValue {
	case "", "0", "false", "[]":
	default:
		if !strings.Contains(usage, "(default") {
			usage += " (default " + f.DefValue + ")"
		}
	}
	return kind, usage
}

func manItem(b *strings.Builder, term, text string) {
	fmt.Fprintf(b, ".TP\n%s\n%s\n", term, roff(text))
}

// manParagraphs writes a text of --help: its paragraphs are filled, those in which
// something stands below something else are left as they are.
func manParagraphs(b *strings.Builder, text string) {
	for i, paragraph := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		if strings.Contains(paragraph, "  ") {
			manLines(b, paragraph)
			continue
		}
		for line := range strings.Lines(paragraph) {
			b.WriteString(roff(strings.TrimSpace(line)) + "\n")
		}
	}
}

// manLines writes lines as they are.
func manLines(b *strings.Builder, text string) {
	b.WriteString(".nf\n")
	for line := range strings.Lines(text) {
		b.WriteString(roff(strings.TrimRight(line, "\n")) + "\n")
	}
	b.WriteString(".fi\n")
}

// roff makes a text one that is printed as it stands.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, "…", "...").Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}

// environmentVariables are those that every command reads, with what they are for.
func environmentVariables() [][2]string {
	return [][2]string{
		{"WAYMARK_SERVER", "Address of the service, where --server is not given."},
		{"WAYMARK_TOKEN", "API token, ID token or the service's own token, where --token is not given."},
		{"NO_COLOR", "Where it is set, nothing is coloured. Elsewhere than on a terminal nothing is."},
	}
}

// exitStatus is an exit code and what it means.
type exitStatus struct {
	code  int
	means string
}

// exitStatuses lists the exit codes of all commands.
func exitStatuses() []exitStatus {
	return []exitStatus{
		{exitDone, "Done."},
		{exitRunFailed, "The run failed, or something else did that has no code of its own."},
		{exitUsage, "Wrong usage or configuration."},
		{exitNotFound, "What was asked for is not there."},
		{exitRefused, "Refused: by a rule, for a missing role, or by whoever was asked."},
		{exitConflict, "It does not fit what is there now."},
		{exitUnreachable, "The service does not answer, or cannot now."},
		{exitInterrupted, "Interrupted."},
	}
}
