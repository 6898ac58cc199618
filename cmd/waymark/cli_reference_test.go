package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var updateReference = flag.Bool("update-cli", false, "write docs/cli.md anew")

// TestCommandLineReferenceIsUpToDate holds docs/cli.md against the commands.
func TestCommandLineReferenceIsUpToDate(t *testing.T) {
	const path = "../../docs/cli.md"
	want := commandReference(newRootCommand(&globals{env: func(string) string { return "" }}))
	if *updateReference {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("docs/cli.md is not what the commands say (%v): run go test ./cmd/waymark -run CommandLineReference -update-cli, and read the change", err)
	}
}

// commandReference is docs/cli.md.
func commandReference(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString(referenceBegin)
	b.WriteString("| variable | is |\n| --- | --- |\n")
	for _, v := range environmentVariables() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", v[0], v[1])
	}
	b.WriteString("\n| exit code | means |\n| --- | --- |\n")
	for _, e := range exitStatuses() {
		fmt.Fprintf(&b, "| %d | %s |\n", e.code, e.means)
	}
	b.WriteString("\n## Commands\n\n`waymark help COMMAND` says what each one takes.\n\n| command | does |\n| --- | --- |\n")
	writeCommands(&b, root)
	return b.String()
}

func writeCommands(b *strings.Builder, cmd *cobra.Command) {
	for _, below := range shownCommands(cmd) {
		if len(shownCommands(below)) == 0 || below.Flags().Lookup("output") != nil {
			fmt.Fprintf(b, "| `%s` | %s |\n", strings.ReplaceAll(usageLine(below), "|", `\|`), strings.ReplaceAll(below.Short, "|", `\|`))
		}
		writeCommands(b, below)
	}
}

const referenceBegin = `# The command line

<!-- Written from the commands by go test ./cmd/waymark -run CommandLineReference -update-cli. Change the commands, not this page. -->

` + "`waymark`" + ` is the service, its command line and its runner in one binary. Output is for people unless ` + "`-o json`" + ` asks for what the API has; what belongs beside it, and progress, go to standard error.

- **Width**: on a terminal a table fits its width. The least important columns are cut or left out, which a ` + "`…`" + ` shows, and long facts are wrapped. In a pipe or a file everything is there: ` + "`waymark runs list | less -S`" + `.
- **Watching**: ` + "`--watch`" + ` of ` + "`status`, `runs list` and `instances`" + ` draws in place until Ctrl-C, also while the service is away. It is for terminals alone; programs take ` + "`waymark watch -o json`" + `.
- **Completion**: ` + "`source <(waymark completion bash)`" + ` in ~/.bashrc, and likewise for zsh and fish (` + "`waymark help completion`" + `). Targets, tags, runs, environments, freezes, tokens, instances and consumers come from the service, with the address and the token that the command itself would use; where it does not answer within a second, none are offered.
- **Manual pages**: ` + "`waymark man --dir /usr/local/share/man/man1`" + `, then ` + "`man waymark-runs-show`" + `.

`
