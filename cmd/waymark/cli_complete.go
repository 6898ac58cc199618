package main

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/release"
)

const (
	// completionTimeout bounds what a press of the tab key waits for the service.
	completionTimeout = time.Second
	// completionLimit is how many runs and tags are asked for.
	completionLimit = 100
)

// suggestion is what may be typed, and what it is.
type suggestion struct{ text, about string }

// asked is what there is to complete.
type asked struct {
	cmd  *cobra.Command
	args []string // those before
	word string   // its beginning
}

// source is what may be typed somewhere: files, where it has nothing else.
type source struct {
	words []suggestion
	live  lister
}

// lister asks the service what there is.
type lister func(ctx context.Context, c *api.Client, a asked) ([]suggestion, error)

// addCompletions lets the shells complete every argument and flag of the tree.
// What none of the tables below names is free text, for which nothing is offered.
func (g *globals) addCompletions(cmd *cobra.Command) {
	cmd.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	path := strings.TrimPrefix(cmd.CommandPath(), "waymark ")
	if sources := completedArgs()[path]; sources != nil {
		cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			if len(args) < len(sources) {
				return g.complete(sources[len(args)], asked{cmd, args, word})
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
	}
	cmd.LocalFlags().VisitAll(func(flag *pflag.Flag) {
		from, ok := completedFlags()[path+" --"+flag.Name]
		if !ok {
			from, ok = completedFlags()["--"+flag.Name]
		}
		if !ok {
			return
		}
		err := cmd.RegisterFlagCompletionFunc(flag.Name, func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			return g.complete(from, asked{cmd, args, word})
		})
		if err != nil {
			panic(err) // the flag is not there, or has a source already
		}
	})
	for _, below := range cmd.Commands() {
		g.addCompletions(below)
	}
}

// completedArgs says what the arguments of commands are.
var completedArgs = sync.OnceValue(func() map[string][]source {
	target, one := live(targetNames), func(states ...string) []source { return []source{live(runIDs(states...))} }
	return map[string][]source{
		"config check": {files}, "backup": {files}, "restore": {files}, "policy test": {files, files, files, files},
		"explain": {live(tagNames)}, "plan": {live(tagNames)}, "policy eval": {live(tagNames)},
		"status": {target}, "inventory": {target}, "rollback": {target}, "destroy": {target}, "drift": {target}, "backend unlock": {target},
		"runs show": one(), "runs logs": one(), "runs retry": one(), "runs wait": one(),
		"runs report":   {live(runIDs()), live(reportGates)},
		"runs approve":  one(api.StateAwaitingApproval),
		"runs reject":   one(api.StateAwaitingApproval),
		"runs cancel":   one(api.StateRunning, api.StateAwaitingApproval, api.StateQueued),
		"runs override": one(api.StateAwaitingApproval, api.StateQueued),
		"runs resolve":  one(api.StateUnknown), "runs evidence": one(api.StateUnknown),
		"freeze": {live(places)}, "thaw": {live(frozen)},
		"drain": {live(instanceNames)}, "tokens revoke": {live(tokenNames)},
		"consumers skip": {live(consumerNames)}, "consumers move": {live(consumerNames)},
		"completion": {words("bash", "zsh", "fish", "powershell")},
	}
})

// completedFlags says what the values of flags are: of a command's own, or of
// every flag with that name.
var completedFlags = sync.OnceValue(func() map[string]source {
	return map[string]source{
		"--output":     {words: []suggestion{{"table", "for people"}, {"json", "for programs"}}},
		"--log-format": words("text", "json"), "serve --role": words(serveRoles()...), "tokens create --role": words(identity.Roles()...),
		"--state":             words(runStates()...),
		"policy eval --kind":  words(release.Deploy, release.Rollback, release.Destroy),
		"policy eval --point": words("tag", "config", "plan"),
		"--kind":              words(runKinds()...),
		"--expires":           words("12h", "7d", "30d", "90d", "366d"), "--until": words("30m", "2h", "8h", "24h"),
		"consumers move --to": words("start", "end"),
		"rollback --to":       live(earlierVersions),
		"--target":            live(targetNames), "--env": live(environments), "--team": live(teams),
		"inventory --type": live(resourceTypes), "inventory --provider": live(providers),
		"watch --type": live(eventTypes), "serve --pool": live(pools), "--repository": live(repositories), "backend unlock --id": live(lockIDs),
		"--config": files, "--checkpoint": files, "--save": files, "policy eval --plan": files,
		"--copy": files, "--repo": files, "--dir": files,
	}
})

// files lets the shell offer files and folders.
var files = source{}

// words are all that may be typed.
func words[S ~string](all ...S) (out source) {
	for _, s := range all {
		out.words = append(out.words, suggestion{text: string(s)})
	}
	return out
}

// live is what the service has now.
func live(list lister) source { return source{live: list} }

// harmless is what a completion may put on a command line: a name that somebody
// else has given could otherwise be a command by the time it is entered.
var harmless = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/@:+-]*$`)

// complete gives the lines that the shell's script reads. Where the service gives
// nothing in a moment, none are offered: who presses the tab key wants no message
// in the middle of a line.
func (g *globals) complete(from source, a asked) (out []string, directive cobra.ShellCompDirective) {
	if from.words == nil && from.live == nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	directive = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	list := from.words
	if from.live != nil {
		list = g.askFor(from.live, a)
	}
	for _, s := range list {
		if !harmless.MatchString(s.text) || !strings.HasPrefix(s.text, a.word) {
			continue
		}
		if strings.HasSuffix(s.text, "/") { // the beginning of a name: more is to follow
			directive |= cobra.ShellCompDirectiveNoSpace
		}
		line := s.text
		if about := clean(s.about); about != "" {
			line += "\t" + about
		}
		if !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	return out, directive
}

// askFor asks the service that the command itself would, with the token that it
// would send.
func (g *globals) askFor(list lister, a asked) []suggestion {
	c, err := g.client()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(a.cmd.Context(), completionTimeout)
	defer cancel()
	out, err := list(ctx, c, a)
	if err != nil {
		return nil
	}
	return out
}
