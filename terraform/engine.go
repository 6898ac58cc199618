// Package terraform drives one engine, OpenTofu 1.12 or Terraform 1.5 and
// later, in one working directory: init, validate, plan, show and apply of
// the saved plan. It turns the engine's own messages into log lines that
// people can read, its diagnostics into one typed [Error], and a plan into the
// masked summary that may leave the run.
//
// It uses terraform-exec wherever that starts no process more on a run's way
// and forbids nothing that is needed: for Version, asked once per service. The
// steps of a run, and validate after a failed plan, are one process each,
// started here. terraform-exec asks the engine for its version before
// init, show and plan and apply with -json (some 40 ms each on a small target),
// does not know -lockfile, refuses TF_VAR_* and TF_WORKSPACE in the
// environment, and waits for whoever holds the output. It can return while its
// child still runs when the context ends during the start, which is harmless
// only for what holds neither a lock nor a state. The processes started here
// get the same care as its own: a process group, killed with the parent,
// interrupted gracefully. terraform-json describes what all of them print.
//
// The package must never pass anything through a shell, put a variable's value
// on a command line, write a raw plan or a sensitive value to the log, or let
// the repository choose the workspace, the data directory or the plug-ins.
package terraform

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/waymark-cd/waymark/release"
)

// The kinds of engine.
const (
	Tofu      = "tofu"
	Terraform = "terraform"
)

// defaultStopTimeout is how long an interrupted engine may take to save its
// state before it is killed. Killing an apply loses resources from the state,
// so it is far longer than any apply should need.
const defaultStopTimeout = 24 * time.Hour

// Config says which engine runs where. All paths are absolute.
type Config struct {
	Path string // the engine's executable
	Kind string // Tofu or Terraform
	Dir  string // the root module; the engine writes .terraform into it

	// Env is the complete environment of the engine; nothing is inherited. PATH,
	// HOME, TMPDIR and credentials belong here. Names by which the engine's
	// command line, workspace, log or plug-ins could be changed are refused.
	Env map[string]string

	PluginDir   string // a filesystem mirror of providers and the only source of them; empty: the registries
	PluginCache string // one cache for many runs, created where it is missing; empty: none

	// ScratchDir is an existing folder of the caller for the engine's settings,
	// written by New, and the variables' values, written by Plan and removed at
	// its end. The engine must be able to read it.
	ScratchDir string

	// Log takes one line of output without its newline, free of control
	// characters; one of more than 64 KiB is cut and ends with an ellipsis. It is
	// never called twice at a time. nil: no log.
	Log func(line string)

	// Command is told of each of the engine's processes once it has ended: the
	// command, when it began, and its error. nil: nobody is told.
	Command func(name string, began time.Time, err error)

	LockTimeout time.Duration // how long to wait for the state's lock; 0: fail at once
	StopTimeout time.Duration // from interrupt to kill; 0: 24 hours. Version and Validate get 10 s at most
}

// Engine runs one engine in one working directory. Its methods must not be
// called at the same time as each other, for the directory is one.
//
// A method starts its process on the calling goroutine, which it locks to its
// OS thread until the process has ended. A caller that has restricted its own
// thread (Landlock) has thereby restricted the engine.
//
// A method whose context ends interrupts the engine once (SIGINT), waits until
// it has saved the state and freed the lock, and returns an *Error that wraps
// the context's error, and the *exec.ExitError too where it had to be killed.
// A step of a run that ends well all the same has succeeded.
type Engine struct {
	cfg Config
	env map[string]string // complete, but for the plug-in cache

	logMu    sync.Mutex
	held     []string // diagnostics for Release
	heldSize int      // their bytes, at most maxHeld and what came last
}

// New checks the configuration and writes the engine's settings file into
// ScratchDir. It starts no process. Errors wrap release.ErrInvalid where the
// configuration is wrong.
func New(cfg Config) (*Engine, error) {
	if err := checkConfig(cfg); err != nil {
		return nil, err
	}
	if cfg.StopTimeout == 0 {
		cfg.StopTimeout = defaultStopTimeout
	}
	if cfg.Log == nil {
		cfg.Log = func(string) {}
	}
	if cfg.Command == nil {
		cfg.Command = func(string, time.Time, error) {}
	}
	settings := filepath.Join(cfg.ScratchDir, "engine.tfrc")
	if err := writeFresh(settings, []byte(cliConfig(cfg.PluginDir))); err != nil {
		return nil, fmt.Errorf("writing the engine's settings: %w", err)
	}
	return &Engine{cfg: cfg, env: environment(cfg.Env, settings)}, nil
}

func checkConfig(cfg Config) error {
	if cfg.Kind != Tofu && cfg.Kind != Terraform {
		return fmt.Errorf("%w engine: kind %q: want %q or %q", release.ErrInvalid, cfg.Kind, Tofu, Terraform)
	}
	for _, p := range []struct{ name, path string }{
		{"path", cfg.Path}, {"dir", cfg.Dir}, {"scratch dir", cfg.ScratchDir},
		{"plugin dir", cfg.PluginDir}, {"plugin cache", cfg.PluginCache},
	} {
		optional := strings.HasPrefix(p.name, "plugin")
		if p.path == "" && optional {
			continue
		}
		if !filepath.IsAbs(p.path) {
			return fmt.Errorf("%w engine: %s %q is not an absolute path", release.ErrInvalid, p.name, p.path)
		}
	}
	// The settings file has no way to quote these, and the engine expands $.
	if i := strings.IndexAny(cfg.PluginDir, "\"\\$\n\r\t\x00"); i >= 0 {
		return fmt.Errorf("%w engine: plugin dir %q holds %q: move it to a plainer path",
			release.ErrInvalid, cfg.PluginDir, cfg.PluginDir[i])
	}
	return checkEnv(cfg.Env)
}

// reservedEnv are the names by which an environment could change what the
// engine does behind this package's back; a trailing * stands for any rest.
var reservedEnv = []string{"TF_WORKSPACE", "TF_DATA_DIR", "TF_CLI_ARGS*", "TF_CLI_CONFIG_FILE",
	"TERRAFORM_CONFIG", "TF_REATTACH_PROVIDERS", "TF_LOG*", "TF_PLUGIN_CACHE*",
	"TF_INPUT", "TF_IN_AUTOMATION", "CHECKPOINT_DISABLE"}

func checkEnv(env map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(env[name], "\x00") {
			return fmt.Errorf("%w environment: %q is not a variable that a process can have", release.ErrInvalid, name)
		}
		for _, reserved := range reservedEnv {
			prefix, open := strings.CutSuffix(reserved, "*")
			if name == prefix || open && strings.HasPrefix(name, prefix) {
				return fmt.Errorf("%w environment: %s is Waymark's own to set: remove it", release.ErrInvalid, name)
			}
		}
	}
	return nil
}

func environment(env map[string]string, settings string) map[string]string {
	full := map[string]string{}
	maps.Copy(full, env)
	full["TF_IN_AUTOMATION"] = "1"
	full["TF_INPUT"] = "0"
	full["CHECKPOINT_DISABLE"] = "1"
	full["TF_CLI_CONFIG_FILE"] = settings
	// A repository can hold a .terraform/environment; this outranks it.
	full["TF_WORKSPACE"] = "default"
	return full
}

// cliConfig is the engine's settings file. It is written even when it says
// nothing, so that one in HOME is not read.
func cliConfig(pluginDir string) string {
	if pluginDir == "" {
		return "disable_checkpoint = true\n"
	}
	return fmt.Sprintf("disable_checkpoint = true\nprovider_installation {\n  filesystem_mirror {\n    path = \"%s\"\n  }\n}\n", pluginDir)
}
