package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/server"
)

// completable is a service with something to complete.
func completable(t *testing.T) *cliWorld {
	w := newCLIWorld(t, func(c *server.Config) {
		c.Token, c.Environments, c.Teams = "tok", []string{"dev", "prod"}, []string{"research"}
	})
	w.env["WAYMARK_TOKEN"] = "tok"
	w.add("dev_us-east-1/research@1.0", release.Succeeded)
	w.add("dev_us-east-1/research@1.1", release.AwaitingApproval)
	w.add("prod_eu-central-1/research@1.0", release.Unknown)
	if _, errs, code := w.run("tokens", "create", "nightly", "--role", "viewer"); code != 0 {
		t.Fatal(errs)
	}
	return w
}

// onBusyMachines is how often the tab key is pressed until what is wanted is
// offered: a service that does not answer within a second offers nothing.
const onBusyMachines = 20

// offered is what `waymark __complete` gives for the last word, and the directive.
func (w *cliWorld) offered(words ...string) (values []string, directive string) {
	w.t.Helper()
	var out, errs bytes.Buffer
	env := func(name string) string { return w.env[name] }
	if code := run(w.t.Context(), append([]string{cobra.ShellCompRequestCmd}, words...), env, &out, &errs); code != 0 {
		w.t.Fatalf("%q: exit %d: %s", words, code, errs.String())
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	for _, line := range lines[:len(lines)-1] {
		value, _, _ := strings.Cut(line, "\t")
		values = append(values, value)
	}
	return values, lines[len(lines)-1]
}

func TestWhatIsOffered(t *testing.T) {
	w := completable(t)
	const nothing, list, begun = ":4", ":36", ":38" // no files; and in this order; and no space after it
	for _, c := range []struct{ line, want, directive string }{
		{"status ", "dev_us-east-1/research prod_eu-central-1/research", list},
		{"status p", "prod_eu-central-1/research", list},
		{"status dev_us-east-1/research ", "", nothing},
		{"inventory d", "dev_us-east-1/research", list},
		{"rollback dev_us-east-1/research --to ", "1.0", list},
		{"explain d", "dev_us-east-1/research/", begun},
		{"plan dev_us-east-1/research/", "dev_us-east-1/research/1.1 dev_us-east-1/research/1.0", list},
		{"runs show ", "3 2 1", list},
		{"runs approve ", "2", list},
		{"runs reject ", "2", list},
		{"runs cancel ", "2", list},
		{"runs resolve ", "3", list},
		{"runs report 1 ", "test", list},
		{"runs list --target p", "prod_eu-central-1/research", list},
		{"runs list --state s", "succeeded superseded", list},
		{"runs list --kind ", "deploy drift rollback destroy plan", list},
		{"runs list -o ", "table json", list},
		{"runs retry 1 --reason ", "", nothing},
		{"watch --env ", "dev prod", list},
		{"watch --team ", "research", list},
		{"watch --type run.d", "run.driven", list},
		{"watch --type token.", "token.created", list},
		{"freeze dev", "dev dev/research dev_us-east-1 dev_us-east-1/research", list},
		{"freeze prod --until ", "30m 2h 8h 24h", list},
		{"thaw ", "", list},
		{"tokens revoke ", "nightly", list},
		{"tokens create x --role ", "viewer operator approver admin", list},
		{"serve --role ", "api controller worker", list},
		{"serve --log-format ", "text json", list},
		{"destroy dev_us-east-1/research --confirm ", "", nothing}, // it is to be typed
		{"config check ", "", ":0"},                                // files
		{"serve --config ", "", ":0"},
		{"completion ", "bash zsh fish powershell", list},
		{"runs e", "evidence", nothing},
	} {
		var got, directive string
		wanted := c.want + " " + c.directive
		for range onBusyMachines {
			var values []string
			values, directive = w.offered(strings.Split(c.line, " ")...)
			if got = strings.Join(values, " "); got+" "+directive == wanted {
				break
			}
		}
		if got+" "+directive != wanted {
			t.Errorf("%q: %q %s, want %q %s", c.line, got, directive, c.want, c.directive)
		}
	}
	if _, errs, code := w.run("--token", "tok", "runs", "list"); code != 0 {
		t.Fatal(errs)
	}
	w.env["WAYMARK_TOKEN"] = "wrong"
	if got, directive := w.offered("status", ""); got != nil || directive != list {
		t.Errorf("a wrong token: %q %s", got, directive)
	}
	if got, _ := w.offered("--token", "tok", "status", "p"); len(got) != 1 {
		t.Errorf("the token of the line: %q", got)
	}
	w.env["WAYMARK_SERVER"] = "http://127.0.0.1:1"
	if got, directive := w.offered("runs", "show", ""); got != nil || directive != list {
		t.Errorf("no service: %q %s", got, directive)
	}
	w.env["WAYMARK_SERVER"] = "gopher://x"
	if got, _ := w.offered("runs", "list", "--state", "q"); len(got) != 1 {
		t.Errorf("words that need no service: %q", got)
	}
}

// TestNothingThatAShellActsOnIsOffered: names that others have given end up on a
// command line that somebody enters.
func TestNothingThatAShellActsOnIsOffered(t *testing.T) {
	answer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"instances": [{"name": "$(touch x)"}, {"name": "a;b"}, {"name": "--undo"}, {"name": "x\ty"}, {"name": "a\u001b[2J"},
			{"name": "good-1", "state": "alive\u001b[2J\nowned\tx"}]}`))
	}))
	defer answer.Close()
	w := &cliWorld{t: t, env: map[string]string{"WAYMARK_SERVER": answer.URL}}
	var out, errs bytes.Buffer
	run(t.Context(), []string{cobra.ShellCompRequestCmd, "drain", ""}, func(name string) string { return w.env[name] }, &out, &errs)
	if want := "good-1\talive\ufffd[2J owned x, 0 runs\n:36\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

// TestASlowServiceIsNotWaitedFor: the tab key takes a moment at most.
func TestASlowServiceIsNotWaitedFor(t *testing.T) {
	gone := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		close(gone)
	}))
	defer slow.Close()
	w := &cliWorld{t: t, env: map[string]string{"WAYMARK_SERVER": slow.URL}}
	if got, _ := w.offered("status", ""); got != nil {
		t.Errorf("%q", got)
	}
	select {
	case <-gone:
	case <-time.After(time.Minute):
		t.Error("the request goes on")
	}
}

// freeText are the flags whose values only whoever types can know.
func freeText() []string {
	return []string{"--reason", "--search", "--tail", "--server", "--token", "--cursor", "--limit", "--after", "--from", "--to", "--text", "--digest", "--confirm",
		"--ref", "--name", "--user", "--group", "--key", "--profile", "--log-bucket", "--log-prefix", "--keep-days", "--keep-versions"}
}

// TestEverythingIsCompleted: an argument or a flag that is new has its source, or
// is named as free text; and no source is for what is not there.
func TestEverythingIsCompleted(t *testing.T) {
	free := map[string]bool{"tokens create": true, "audit new-key": true, "help": true}
	args, flags, used := completedArgs(), completedFlags(), map[string]bool{}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		path := strings.TrimPrefix(cmd.CommandPath(), "waymark ")
		_, rest, _ := strings.Cut(cmd.Use, " ")
		if wants := rest != "" && !strings.HasPrefix(rest, "--"); wants != (args[path] != nil) && !free[path] {
			t.Errorf("%q takes arguments: %v; they are completed: %v", cmd.Use, wants, args[path] != nil)
		}
		delete(args, path)
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Value.Type() == "bool" {
				return
			}
			_, own := flags[path+" --"+f.Name]
			_, all := flags["--"+f.Name]
			if !own && !all && !slices.Contains(freeText(), "--"+f.Name) {
				t.Errorf("%s --%s: neither completed nor named as free text", path, f.Name)
			}
			used[path+" --"+f.Name], used["--"+f.Name] = true, true
		})
		for _, below := range shownCommands(cmd) {
			walk(below)
		}
	}
	walk(newRootCommand(&globals{env: func(string) string { return "" }}))
	for path := range args {
		t.Errorf("there is no command %q", path)
	}
	for flag := range flags {
		if !used[flag] {
			t.Errorf("there is no flag %q", flag)
		}
	}
}

// typedIn types lines into a shell in a terminal. A line is a command, ended by the
// tab key; it gives the words that the shell has for it then.
func typedIn(t *testing.T, x *terminal, begun int, line string) string {
	t.Helper()
	x.types(line + "\t")
	x.types("\x01printf '<%s>' \x05\n") // to the line's begin, and to its end
	seen := x.await(begun, "the words of "+line, func(s string) bool { return wordsPrinted.MatchString(s) })
	return wordsPrinted.FindStringSubmatch(seen)[1]
}

var wordsPrinted = regexp.MustCompile(`\n(<waymark>.*>)`)

func TestBashCompletes(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal("bash is missing: install the package bash")
	}
	const set = "bind 'set enable-bracketed-paste off'; bind 'set bell-style none'; "
	t.Run("alone", func(t *testing.T) {
		shellCompletes(t, exec.Command(bash, "--norc", "--noprofile", "-i"), set+"source <(waymark completion bash)")
	})
	t.Run("with the package bash-completion", func(t *testing.T) {
		const functions = "/usr/share/bash-completion/bash_completion"
		if _, err := os.Stat(functions); err != nil {
			t.Skip("the package bash-completion is not installed")
		}
		shellCompletes(t, exec.Command(bash, "--norc", "--noprofile", "-i"), set+"source "+functions+"; source <(waymark completion bash)")
	})
}

func TestZshCompletes(t *testing.T) {
	zsh, err := exec.LookPath("zsh")
	if err != nil {
		t.Skip("zsh is not installed")
	}
	shellCompletes(t, exec.Command(zsh, "-f", "-i"), "bindkey -e; unsetopt zle_bracketed_paste; autoload -U compinit; compinit -u -D; source <(waymark completion zsh)")
}

func shellCompletes(t *testing.T, shell *exec.Cmd, set string) {
	if testing.Short() {
		t.Skip("it starts a shell")
	}
	w := completable(t)
	x := newTerminal(t, 200, 50)
	shell.Env = w.shell()
	x.start(shell)
	x.types(set + "; echo re''ady\n")
	x.await(0, "the prompt", func(s string) bool { return strings.Contains(s, "\nready") })
	for _, c := range [][2]string{
		{"waymark sta", "<waymark><status>"},
		{"waymark status dev", "<waymark><status><dev_us-east-1/research>"},
		{"waymark --server " + w.env["WAYMARK_SERVER"] + " status pr", "<waymark><--server><" + w.env["WAYMARK_SERVER"] + "><status><prod_eu-central-1/research>"},
		{"waymark runs approve ", "<waymark><runs><approve><2>"},
		{"waymark runs list --state=aw", "<waymark><runs><list><--state=awaiting_approval>"},
		{"waymark runs list --state aw", "<waymark><runs><list><--state><awaiting_approval>"},
		{"waymark runs list --no", "<waymark><runs><list><--no>"},
		{"waymark explain dev_us-east-1/research/1.", "<waymark><explain><dev_us-east-1/research/1.>"},
		{"waymark tokens revoke n", "<waymark><tokens><revoke><nightly>"},
		{"waymark freeze prod_eu-central-1/", "<waymark><freeze><prod_eu-central-1/research>"},
	} {
		got := ""
		for i := 0; i < onBusyMachines && got != c[1]; i++ {
			got = typedIn(t, x, len(x.seen.String()), c[0])
		}
		if got != c[1] {
			t.Errorf("%q and tab: %s, want %s", c[0], got, c[1])
		}
	}
	begun := len(x.seen.String())
	x.types("waymark status \t\t\t\t")
	x.await(begun, "both targets", func(s string) bool {
		return strings.Contains(s, "dev_us-east-1/research") && strings.Contains(s, "prod_eu-central-1/research")
	})
	x.types("\x15export WAYMARK_SERVER=http://127.0.0.1:1\n")
	begun = len(x.seen.String())
	if got := typedIn(t, x, begun, "waymark status pr"); got != "<waymark><status><pr>" {
		t.Errorf("without a service: %s", got)
	}
	if seen := x.seen.String()[begun:]; strings.Contains(seen, "no answer") {
		t.Errorf("without a service something is said: %q", seen)
	}
}

func TestFishCompletes(t *testing.T) {
	fish, err := exec.LookPath("fish")
	if err != nil {
		t.Skip("fish is not installed")
	}
	if testing.Short() {
		t.Skip("it starts a shell")
	}
	w := completable(t)
	for line, want := range map[string]string{
		"waymark sta":                     "status\t",
		"waymark status dev":              "dev_us-east-1/research\t1.0\n",
		"waymark runs approve ":           "2\tdev_us-east-1/research/1.1 awaiting_approval\n",
		"waymark runs list --state aw":    "awaiting_approval\n",
		"waymark tokens revoke n":         "nightly\tof nightly\n",
		"waymark runs list --target prod": "prod_eu-central-1/research\tnothing deployed\n",
	} {
		var out []byte
		for i := 0; i < onBusyMachines && !strings.HasPrefix(string(out), want); i++ {
			cmd := exec.Command(fish, "--no-config", "-c", "waymark completion fish | source; complete -C '"+line+"'")
			cmd.Env = w.shell()
			if out, err = cmd.Output(); err != nil {
				t.Fatal(err)
			}
		}
		if !strings.HasPrefix(string(out), want) {
			t.Errorf("%q: %q, want %q", line, out, want)
		}
	}
}
