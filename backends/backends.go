// Package backends knows where a target's state lives. It makes the code in a
// working copy use exactly the configured backend, refuses code that says
// otherwise, and reads what a state and its lock tell without the engine.
//
// It must never write to a state, start a process, or let the repository
// decide where a state or its lock lives.
package backends

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

// local is the type of the embedded default: one file per target.
const local = "local"

var (
	typePattern = regexp.MustCompile(`^[a-z][a-z0-9]{0,31}$`)
	namePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
)

// Prepare makes the root module in dir, an absolute path, use the configured
// backend and returns the options for init: -backend-config=name=value, sorted
// by name and spelled as engine's version spells them. The engine takes such a
// value literally, up to the end of the argument, unless the setting is a list
// or an object; so nothing is quoted, and nothing may be passed through a
// shell. The process list shows them: secrets belong into the environment.
//
// Code without a backend block gets an override file in dir; a block of the
// configured type stays as it is. Code that names another type, `cloud`, or a
// setting that differs from the configuration or decides by itself where the
// state or its lock lives, is refused: the error wraps release.ErrRefused and
// names file and line. Errors wrap release.ErrInvalid where the specification
// is wrong. The folder of a local state is made.
func Prepare(dir string, engine release.EngineSpec, spec release.BackendSpec) (initArgs []string, err error) {
	if initArgs, err = Fit(dir, engine, spec); err != nil {
		return nil, err
	}
	return initArgs, EnsureLocal(spec)
}

// Fit is Prepare, and makes nothing outside of dir.
func Fit(dir string, engine release.EngineSpec, spec release.BackendSpec) (initArgs []string, err error) {
	if err := check(spec); err != nil {
		return nil, err
	}
	values, err := argumentsFor(engine, spec)
	if err != nil {
		return nil, err
	}
	found, err := readModule(dir)
	if err != nil {
		return nil, err
	}
	kept := map[string]string{}
	for _, b := range found.blocks {
		if err := judge(b, spec, kept); err != nil {
			return nil, err
		}
	}
	leaveToCode(values, kept)
	if !found.everyEngineSeesOne() {
		if err := writeOverride(dir, spec.Type, kept); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		initArgs = append(initArgs, "-backend-config="+name+"="+values[name])
	}
	return initArgs, nil
}

// check refuses a specification that no backend block could hold.
func check(spec release.BackendSpec) error {
	if !typePattern.MatchString(spec.Type) {
		return fmt.Errorf("%w backend: type %q is not a backend type", release.ErrInvalid, spec.Type)
	}
	if spec.Type == "remote" || spec.Type == "cloud" {
		return fmt.Errorf("%w backend: type %q runs the code elsewhere: name a backend that stores states alone, such as \"s3\"",
			release.ErrInvalid, spec.Type)
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Values)) {
		if !namePattern.MatchString(name) {
			return fmt.Errorf("%w backend %q: %q is not the name of a setting", release.ErrInvalid, spec.Type, name)
		}
		if strings.ContainsRune(spec.Values[name], 0) {
			return fmt.Errorf("%w backend %q: %s holds a NUL character", release.ErrInvalid, spec.Type, name)
		}
	}
	if spec.Type == local && !filepath.IsAbs(spec.Values["path"]) {
		return fmt.Errorf("%w backend \"local\": path %q is not absolute: a relative one would end with the working copy",
			release.ErrInvalid, spec.Values["path"])
	}
	return nil
}

// EnsureLocal makes the folder of a local state, for its owner alone. It does
// nothing for other types.
func EnsureLocal(spec release.BackendSpec) error {
	if spec.Type != local {
		return nil
	}
	if err := check(spec); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(spec.Values["path"]), 0o700); err != nil {
		return fmt.Errorf("making the folder of the state: %w", err)
	}
	return nil
}
