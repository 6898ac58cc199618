package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/config"
)

// newCompletionCommand builds `waymark completion`.
func newCompletionCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print what makes a shell complete commands, flags, targets, runs and other names",
		Long: `Prints a script for the shell. Names of targets, runs, environments, freezes, tokens,
instances and consumers come from the service that --server or WAYMARK_SERVER names,
with WAYMARK_TOKEN; where it does not answer within a second, none are offered.

bash, in ~/.bashrc:            source <(waymark completion bash)
zsh, in ~/.zshrc:              source <(waymark completion zsh)       after compinit
fish, once:                    waymark completion fish > ~/.config/fish/completions/waymark.fish
PowerShell, in the profile:    waymark completion powershell | Out-String | Invoke-Expression`,
		Args: exactArgs("bash, zsh, fish or powershell"),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				if err := root.GenBashCompletionV2(g.stdout, true); err != nil {
					return err
				}
				_, err := io.WriteString(g.stdout, bashAlone)
				return err
			case "zsh":
				return root.GenZshCompletion(g.stdout)
			case "fish":
				return root.GenFishCompletion(g.stdout, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(g.stdout)
			}
			return usageErrorf("%q is no shell that is known here: %s", args[0], config.Choose(args[0], []string{"bash", "zsh", "fish", "powershell"}))
		},
	}
}

// bashAlone takes the place of functions of the package bash-completion, which
// cobra's script calls, where that is not installed: it puts together what bash
// has taken apart at = and at the colon.
const bashAlone = `
if ! declare -F _init_completion >/dev/null 2>&1 && ! declare -F _get_comp_words_by_ref >/dev/null 2>&1; then
    __waymark_init_completion()
    {
        COMPREPLY=() words=() cword=0
        local i word glue=
        for ((i = 0; i < ${#COMP_WORDS[@]}; i++)); do
            word=${COMP_WORDS[i]}
            if ((i > 0)) && [[ -n ${glue} || ${word} == [=:]* ]]; then
                words[${#words[@]} - 1]+=${word}
            else
                words+=("${word}")
            fi
            glue=
            [[ ${word} == *[=:] ]] && glue=yes
            ((i == COMP_CWORD)) && cword=$((${#words[@]} - 1))
        done
        cur=${words[cword]}
        prev=
        ((cword > 0)) && prev=${words[cword - 1]}
        return 0
    }
fi
`
