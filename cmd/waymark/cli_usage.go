package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/waymark-cd/waymark/config"
)

// group is a command that has others below it, and does nothing by itself but to
// list them.
func group(use, short string, below ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: commandArg, DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(below...)
	return cmd
}

// commandArg refuses what is no command below one, and says what was meant.
func commandArg(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, below := range shownCommands(cmd) {
		names = append(names, below.Name())
	}
	return usageErrorf("%s has no command %q: %s", cmd.CommandPath(), args[0], chosen(args[0], names, cmd.CommandPath()+" --help lists them"))
}

// chosen says what to write instead of a name: the nearest one or all that there
// are, and where neither can be said, otherwise.
func chosen(name string, known []string, otherwise string) string {
	known = slices.Compact(slices.Sorted(slices.Values(known)))
	if s := config.Choose(name, known); len(known) > 0 && s != config.Choose("", nil) {
		return s
	}
	return otherwise
}

// newHelpCommand builds `waymark help`.
func newHelpCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "help [COMMAND...]", Short: "Say what a command does and takes, as --help does"}
	find := func(args []string) (*cobra.Command, []string) {
		found, rest, err := cmd.Root().Find(args)
		if err != nil {
			return cmd.Root(), args
		}
		return found, rest
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		found, rest := find(args)
		if len(rest) > 0 {
			return commandArg(found, rest)
		}
		found.InitDefaultHelpFlag()
		return found.Help()
	}
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, word string) (out []string, _ cobra.ShellCompDirective) {
		found, rest := find(args)
		for _, below := range shownCommands(found) {
			if len(rest) == 0 && strings.HasPrefix(below.Name(), word) {
				out = append(out, below.Name()+"\t"+below.Short)
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

// wrongFlag says of a flag that cannot be read what to write instead.
func wrongFlag(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	var unknown *pflag.NotExistError
	var value *pflag.InvalidValueError
	see := cmd.CommandPath() + " --help lists those that there are"
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() == "":
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		return usageErrorf("%s has no flag --%s: %s", cmd.CommandPath(), unknown.GetSpecifiedName(), chosenFlag(unknown.GetSpecifiedName(), names, see))
	case errors.As(err, &unknown):
		return usageErrorf("%s has no flag -%s: %s", cmd.CommandPath(), unknown.GetSpecifiedName(), see)
	case errors.As(err, &value):
		flag := "--" + value.GetFlag().Name
		switch value.GetFlag().Value.Type() {
		case "int", "int32", "int64":
			return usageErrorf("%s %q is no whole number that it can be", flag, value.GetValue())
		case "bool":
			return usageErrorf("%s %q: leave the value out, or write true or false", flag, value.GetValue())
		}
		return usageErrorf("%s: %w", flag, value.Unwrap())
	}
	return usageErrorf("%w: see %s --help", err, cmd.CommandPath())
}

// chosenFlag is chosen for flags, of which only the nearest is named.
func chosenFlag(name string, names []string, otherwise string) string {
	if s, found := strings.CutPrefix(config.Choose(name, names), "did you mean \""); found {
		near, _, _ := strings.Cut(s, "\"")
		return fmt.Sprintf("did you mean --%s? %s", near, otherwise)
	}
	return otherwise
}

// oneOf refuses the value of a flag that is none of those that it can have. An
// empty one is none given.
func oneOf[S ~string](flag, value string, all ...S) error {
	var known []string
	for _, s := range all {
		if value == string(s) {
			return nil
		}
		known = append(known, string(s))
	}
	if value == "" {
		return nil
	}
	return usageErrorf("%s %q: write one of %s", flag, value, strings.Join(known, ", "))
}

// fitHelp lets --help fit a terminal: descriptions of flags are wrapped beside their
// names, and so are the paragraphs before them.
func fitHelp(root *cobra.Command, columns int) {
	if columns == 0 {
		return
	}
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", fmt.Sprintf(".FlagUsagesWrapped %d", columns)))
	usual := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		cmd.Long = filled(cmd.Long, columns)
		usual(cmd, args)
	})
}

// filled wraps the paragraphs of a text that stand in longer lines. What stands
// below something else in its lines stays as it is.
func filled(text string, columns int) string {
	paragraphs := strings.Split(text, "\n\n")
	for i, paragraph := range paragraphs {
		tooLong := slices.ContainsFunc(strings.Split(paragraph, "\n"), func(line string) bool { return textWidth(line) > columns })
		if tooLong && !strings.Contains(paragraph, "  ") {
			paragraphs[i] = wrapped("", cell{text: paragraph}, 0, columns, 0, false)
		}
	}
	return strings.Join(paragraphs, "\n\n")
}
