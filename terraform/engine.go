// Package terraform drives one engine, OpenTofu 1.12 or Terraform 1.5 and
// later, in one working directory: init, validate, plan, show and apply of
// the saved plan. It turns the engine's own messages into log lines that
// people can read, its diagnostics into one typed [Error], and a plan into the
// masked summary that may leave the run.
//
// Every step is exactly one process of the engine. terraform-exec asks the
// engine for its version before plan, show and apply with -json (some 40 ms
// each on a small target), refuses TF_VAR_* in the environment, does not know
// -lockfile, and can return while its child still runs when the context ends
// during the start. So the processes are started here, with the same care
// (own process group, killed with the parent, interrupted gracefully), and
// terraform-json describes what they print.
//
// The package must never pass anything through a shell, put a variable's value
// on a command line, write a raw plan or a sensitive value to the log, or let
// the repository choose the workspace, the data directory or the plug-ins.
package terraform

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	tfjson "github.com/hashicorp/terraform-json"

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
	// characters and cut at 8 KiB. It is never called twice at a time. nil: no log.
	Log func(line string)

	LockTimeout time.Duration // how long to wait for the state's lock; 0: fail at once
	StopTimeout time.Duration // from interrupt to kill; 0: 24 hours
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
// An engine that ends well all the same has succeeded.
type Engine struct {
	cfg     Config
	env     []string // without the plug-in cache
	cliFile string

	logMu sync.Mutex
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
	e := &Engine{cfg: cfg, cliFile: filepath.Join(cfg.ScratchDir, "engine.tfrc")}
	if err := writeFresh(e.cliFile, []byte(cliConfig(cfg.PluginDir))); err != nil {
		return nil, fmt.Errorf("writing the engine's settings: %w", err)
	}
	e.env = environment(cfg.Env, e.cliFile)
	return e, nil
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

func environment(env map[string]string, cliFile string) []string {
	full := maps.Clone(env)
	if full == nil {
		full = map[string]string{}
	}
	full["TF_IN_AUTOMATION"] = "1"
	full["TF_INPUT"] = "0"
	full["CHECKPOINT_DISABLE"] = "1"
	full["TF_CLI_CONFIG_FILE"] = cliFile
	// A repository can hold a .terraform/environment; this outranks it.
	full["TF_WORKSPACE"] = "default"
	out := make([]string, 0, len(full))
	for _, name := range slices.Sorted(maps.Keys(full)) {
		out = append(out, name+"="+full[name])
	}
	return out
}

// cliConfig is the engine's settings file. It is written even when it says
// nothing, so that one in HOME is not read.
func cliConfig(pluginDir string) string {
	if pluginDir == "" {
		return "disable_checkpoint = true\n"
	}
	return fmt.Sprintf("disable_checkpoint = true\nprovider_installation {\n  filesystem_mirror {\n    path = \"%s\"\n  }\n}\n", pluginDir)
}

// maxJSON bounds what one command may print as one JSON document, in bytes.
const maxJSON = 256 << 20

// Validate checks the code of an initialised directory. What it finds wrong is
// an *Error with a diagnostic for each problem.
func (e *Engine) Validate(ctx context.Context) error {
	var out tfjson.ValidateOutput
	runErr := e.runJSON(ctx, "validate", []string{"validate", "-json", "-no-color"}, &out)
	if len(out.Diagnostics) == 0 {
		return runErr
	}
	failure := &Error{Command: "validate"}
	for _, d := range out.Diagnostics {
		diag := Diagnostic{Severity: string(d.Severity), Summary: d.Summary, Detail: d.Detail, Address: d.Address}
		if d.Range != nil {
			diag.File, diag.Line = d.Range.Filename, d.Range.Start.Line
		}
		e.log(diag.lines()...)
		failure.add(diag)
	}
	if out.Valid {
		return nil
	}
	failure.Err = runErr
	return failure
}

// Version asks the engine for its version, such as "1.12.6". It is one process.
func (e *Engine) Version(ctx context.Context) (string, error) {
	var out struct {
		Version string `json:"terraform_version"`
	}
	if err := e.runJSON(ctx, "version", []string{"version", "-json"}, &out); err != nil {
		return "", err
	}
	if out.Version == "" {
		return "", &Error{Command: "version", Err: fmt.Errorf("%s did not say its version: is it %s?", e.cfg.Path, e.cfg.Kind)}
	}
	return out.Version, nil
}

// Show reads the saved plan as the engine describes it, numbers as
// json.Number. The answer holds sensitive values in clear: it must not leave
// the process; [Summarize] makes what may.
func (e *Engine) Show(ctx context.Context, planFile string) (*tfjson.Plan, error) {
	if err := checkFile("plan file", planFile); err != nil {
		return nil, err
	}
	plan := new(tfjson.Plan)
	plan.UseJSONNumber(true)
	if err := e.runJSON(ctx, "show", []string{"show", "-json", "-no-color", planFile}, plan); err != nil {
		return nil, err
	}
	return plan, nil
}

// runJSON runs one command and decodes the one document that it prints into v,
// also when the command fails.
func (e *Engine) runJSON(ctx context.Context, name string, args []string, v any) error {
	var doc []byte
	var readErr error
	runErr := e.run(ctx, name, args, nil, func(r io.Reader) {
		doc, readErr = io.ReadAll(io.LimitReader(r, maxJSON+1))
	}, nil)
	if readErr == nil && len(doc) > maxJSON {
		readErr = fmt.Errorf("its answer is longer than %d MiB", maxJSON>>20)
	}
	if readErr == nil && (runErr == nil || len(doc) > 0) {
		readErr = json.Unmarshal(doc, v)
	}
	if runErr != nil {
		return runErr
	}
	if readErr != nil {
		return &Error{Command: name, Err: fmt.Errorf("reading the engine's answer: %w", readErr)}
	}
	return nil
}

// writeFresh writes a file that was not there before, for its owner alone. What
// an earlier engine may have put in its place, such as a link to another file,
// is removed and not followed.
func writeFresh(path string, doc []byte) error {
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(doc)
	return errors.Join(err, f.Close())
}

// checkFile refuses a path that the engine could take for an option or resolve
// against its own directory.
func checkFile(what, path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%w %s: %q is not an absolute path", release.ErrInvalid, what, path)
	}
	return nil
}

// Digest is the SHA-256 of a file as "sha256:<hex>".
func Digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("digest: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("digest of %s: %w", path, err)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}
