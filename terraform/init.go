package terraform

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

// lockFile is where a repository pins its providers.
const lockFile = ".terraform.lock.hcl"

// Init prepares the working directory: backend, modules, providers. args are
// further options, such as "-backend-config=bucket=x", passed as they are.
//
// What an earlier init left in .terraform, or a repository brought along in
// it, is removed first: that folder could name another workspace, other
// modules than the code does, or providers of the repository's own.
//
// A lock file in the root module holds for every provider that it lists: the
// version, and a checksum that must fit this platform. Init runs with
// -lockfile=readonly; where the list as such does not fit (one commit serves
// many states, and a provider that the code dropped is still needed where its
// resources are to be destroyed) a second init takes what is missing in the
// newest version that the code allows, as it does for everything without a
// lock file. The log says so in both cases.
//
// A plug-in cache is used, and with Terraform locked for the time of the init,
// only where the code names a provider or a module from elsewhere; other code
// waits for nobody.
func (e *Engine) Init(ctx context.Context, args []string) error {
	locked, err := e.hasLockFile()
	if err != nil {
		return err
	}
	backend := false
	for _, a := range args {
		if !strings.HasPrefix(a, "-") || strings.ContainsRune(a, 0) {
			return fmt.Errorf("%w init: %q is not an option", release.ErrInvalid, a)
		}
		backend = backend || strings.HasPrefix(a, "-backend-config")
	}
	if err := os.RemoveAll(filepath.Join(e.cfg.Dir, ".terraform")); err != nil {
		return fmt.Errorf("clearing what an earlier init left: %w", err)
	}
	var env []string
	if needsPlugins(e.cfg.Dir) {
		if !locked {
			e.log("There is no " + lockFile + ": the newest provider versions that the code allows are used. Commit one to pin them.")
		}
		cacheEnv, unlock, err := e.cache(ctx, locked)
		if err != nil {
			return err
		}
		defer unlock()
		env = cacheEnv
	}
	full := append([]string{"init", "-input=false", "-no-color"}, args...)
	if locked {
		err := e.runInit(ctx, append(full, "-lockfile=readonly"), env, backend)
		if !lockFileMisfits(err) {
			return err
		}
		e.log(lockFile + " does not list exactly the providers that code and state need: the newest versions that the code allows are used for the rest.")
	}
	return e.runInit(ctx, full, env, backend)
}

// lockFileMisfits reports whether an init failed for its lock file's list of
// providers alone. A checksum that does not fit is another error.
func lockFileMisfits(err error) bool {
	var failure *Error
	return errors.As(err, &failure) && slices.ContainsFunc(failure.Diagnostics, func(d Diagnostic) bool {
		return d.Summary == "Provider dependency changes detected"
	})
}

// runInit runs init, which knows no -json in every version that is supported.
func (e *Engine) runInit(ctx context.Context, args, env []string, backend bool) error {
	said := &notes{log: e.log}
	err := e.run(ctx, "init", args, env, func(r io.Reader) { readLines(r, maxLine, said.take) }, nil)
	if err != nil || !backend {
		return err
	}
	// The engine only warns when there is no backend block to configure, and
	// would leave the state in the working copy.
	for _, d := range parsePlain(string(said.text)) {
		if d.Summary == "Missing backend configuration" {
			d.Severity = "error"
			return &Error{Command: "init", Diagnostics: []Diagnostic{d}, Err: release.ErrRefused}
		}
	}
	return nil
}

func (e *Engine) hasLockFile() (bool, error) {
	info, err := os.Lstat(filepath.Join(e.cfg.Dir, lockFile))
	switch {
	case os.IsNotExist(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("reading the lock file: %w", err)
	case !info.Mode().IsRegular():
		return false, fmt.Errorf("%w: %s is not a regular file: commit the file itself", release.ErrRefused, lockFile)
	}
	return true, nil
}

// cache gives the environment that makes init use the plug-in cache, and for
// Terraform, which does not lock it by itself, holds a lock until unlock.
func (e *Engine) cache(ctx context.Context, locked bool) (env []string, unlock func(), err error) {
	if e.cfg.PluginCache == "" {
		return nil, func() {}, nil
	}
	if err := os.MkdirAll(e.cfg.PluginCache, 0o700); err != nil {
		return nil, nil, fmt.Errorf("plug-in cache: %w", err)
	}
	env = []string{"TF_PLUGIN_CACHE_DIR=" + e.cfg.PluginCache}
	if !locked {
		// Without it a cached plug-in is only used where a lock file vouches for
		// it. The lock file that init makes now is never kept.
		env = append(env, "TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE=1")
	}
	if e.cfg.Kind != Terraform {
		return env, func() {}, nil
	}
	unlock, err = lockCache(ctx, filepath.Join(e.cfg.PluginCache, ".waymark.lock"))
	if err != nil {
		return nil, nil, err
	}
	return env, unlock, nil
}
