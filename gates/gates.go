// Package gates runs the outside scanners that can stop a run, tflint, checkov,
// trivy, the engine's own tests and commands of the operator's, on a commit's
// tree and turns what they print into findings.
//
// A gate that cannot judge is an error, never a pass. The scanned repository is
// hostile: it may tune rules and skip them by comments (both are listed), but
// it must never switch a gate off, name code that the gate loads, or reach the
// environment and the network through it. This package holds no credentials,
// writes nothing into the tree and never decides whether findings stop a run:
// that is the caller's, by release.Failing.
package gates

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

// Config says what one gate is to judge, and how it may run.
type Config struct {
	Spec      release.GateSpec
	Tree      string // absolute root of the repository's tree; only read
	StackPath string // root module, relative to Tree; empty means Tree itself
	Scratch   string // own, empty, private folder outside Tree: HOME and working directory
	Path      string // PATH of the child
	Engine    string // "tofu" or "terraform": which engine Spec.Path is; for the gate test alone

	// Log gets what the gate prints to standard error, line by line, cleaned and
	// limited. Calls do not overlap but come from another goroutine. Optional.
	Log func(line string)
	// Prepare may change each command before it starts, such as its namespaces;
	// files for the child it must append to ExtraFiles, not set.
	// Every process goes through it, the one that asks for a version too. Optional.
	Prepare func(*exec.Cmd)

	kind  scanner           // of Spec
	watch func(line string) // gets every line of standard error as it is, where set
}

// scanner is what this package knows of one gate.
type scanner struct {
	install  string                        // how to get it, for people
	settings []string                      // the names that GateSpec.Config may hold
	files    []string                      // settings that name files of the operator
	stack    bool                          // the result depends on root module
	version  string                        // what precedes the number in the answer to --version
	env      func(scratch string) []string // beside the base that all share
	inTree   bool                          // it works in the root of the tree, not in the scratch folder
	run      func(context.Context, Config) (release.GateResult, error)
}

func scanners() map[string]scanner {
	return map[string]scanner{
		"tflint": {
			install:  "install tflint 0.64 (https://github.com/terraform-linters/tflint), or run `make tools` in a checkout of waymark",
			settings: []string{"config"}, files: []string{"config"}, stack: true,
			version: "TFLint version ", env: tflintEnv, run: runTFLint,
		},
		"checkov": {
			install:  "install it with `pipx install checkov==3.3.13`, or use the container image",
			settings: []string{"check", "external_checks_dir", "frameworks", "severity", "skip_check"},
			files:    []string{"external_checks_dir"},
			env:      checkovEnv, run: runCheckov,
		},
		"trivy": {
			install:  "install trivy 0.68 (https://github.com/aquasecurity/trivy), or run `go run -C tools/get . trivy` in a checkout of waymark",
			settings: []string{"checks_dir", "skip_check"}, files: []string{"checks_dir"},
			version: "Version: ", env: noEnv, run: runTrivy,
		},
		"test": {
			install: "it is the engine of the configuration", stack: true,
			env: testEnv, run: runTest,
		},
	}
}

func noEnv(string) []string { return nil }

// lookup finds what a gate is: one that is known by its name, or else a command
// with a format. The error wraps release.ErrInvalid.
func lookup(spec release.GateSpec) (scanner, error) {
	all := scanners()
	s, ok := all[spec.Name]
	switch {
	case ok && (spec.Format != "" || len(spec.Args) > 0):
		return s, fmt.Errorf("%w: gate %s takes no command of its own", release.ErrInvalid, spec.Name)
	case !ok && spec.Format == "":
		return s, fmt.Errorf("%w: no gate is called %q; there are %s", release.ErrInvalid, spec.Name,
			strings.Join(slices.Sorted(maps.Keys(all)), ", "))
	case !ok:
		return scanner{install: "install it, or correct the gate's command", env: noEnv, inTree: true, run: runCommand}, nil
	}
	return s, nil
}

// Run lets one gate judge the tree. The result holds every finding, sorted, with
// what the code itself skips as suppressed findings. An error means that the
// gate did not judge and must count as a failure: it wraps release.ErrInvalid
// for wrong settings, release.ErrRefused where the repository asks for more than
// it may, release.ErrUnavailable where the executable is missing, and the cause
// of ctx where that ended. Cancelling ctx kills the gate's process group.
//
// The child is started on the calling goroutine, so that a caller who has locked
// its thread hands that thread's sandbox down.
func Run(ctx context.Context, cfg Config) (release.GateResult, error) {
	s, err := lookup(cfg.Spec)
	if err == nil {
		cfg.kind = s
		cfg, err = cfg.checked(s)
	}
	var result release.GateResult
	if err == nil {
		result, err = s.run(ctx, cfg)
	}
	if err != nil {
		return release.GateResult{}, fmt.Errorf("gate %s: %w", cfg.Spec.Name, err)
	}
	result.Gate = cfg.Spec.Name
	result.Findings = finish(cfg.Spec.Name, result.Findings)
	return result, nil
}

// checked resolves the folders and refuses settings that cannot be obeyed.
func (cfg Config) checked(s scanner) (Config, error) {
	for name := range cfg.Spec.Config {
		if !slices.Contains(s.settings, name) {
			return cfg, fmt.Errorf("%w: there is no setting %q; known are %s", release.ErrInvalid,
				name, strings.Join(s.settings, ", "))
		}
	}
	var err error
	if cfg.Tree, err = realDir(cfg.Tree); err != nil {
		return cfg, fmt.Errorf("tree to judge: %w", err)
	}
	if cfg.Scratch, err = realDir(cfg.Scratch); err != nil {
		return cfg, fmt.Errorf("scratch folder: %w", err)
	}
	if within(cfg.Tree, cfg.Scratch) {
		return cfg, fmt.Errorf("%w: the scratch folder %s lies inside the tree that is judged", release.ErrInvalid, cfg.Scratch)
	}
	if entries, err := os.ReadDir(cfg.Scratch); err != nil || len(entries) > 0 {
		return cfg, fmt.Errorf("%w: the scratch folder %s is not empty; a gate would obey the configuration files in it", release.ErrInvalid, cfg.Scratch)
	}
	for _, name := range s.files {
		if err := cfg.checkOperatorFile(name); err != nil {
			return cfg, err
		}
	}
	if cfg.StackPath == "" {
		cfg.StackPath = "."
	}
	if !filepath.IsLocal(cfg.StackPath) {
		return cfg, fmt.Errorf("%w: the path %q leaves the repository", release.ErrInvalid, cfg.StackPath)
	}
	if cfg.Log == nil {
		cfg.Log = func(string) {}
	}
	cfg.Spec.Path, err = Find(cfg.Spec)
	return cfg, err
}

// checkOperatorFile holds that a setting names something of the operator's:
// absolute, there, and out of the repository's reach.
func (cfg Config) checkOperatorFile(name string) error {
	p := cfg.Spec.Config[name]
	if p == "" {
		return nil
	}
	if !filepath.IsAbs(p) {
		return fmt.Errorf("%w: setting %q must be an absolute path, not %q", release.ErrInvalid, name, p)
	}
	real, err := filepath.EvalSymlinks(p)
	if err != nil {
		return fmt.Errorf("%w: setting %q: %w", release.ErrInvalid, name, err)
	}
	if within(cfg.Tree, real) {
		return fmt.Errorf("%w: setting %q: %s lies in the repository, which could change it; keep it outside", release.ErrRefused, name, p)
	}
	return nil
}

// realDir returns the folder without symbolic links, so that paths compare.
func realDir(dir string) (string, error) {
	if !filepath.IsAbs(dir) {
		return "", fmt.Errorf("%w: %q is not an absolute path", release.ErrInvalid, dir)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", fmt.Errorf("%w: %w", release.ErrInvalid, err)
	}
	if info, err := os.Stat(real); err != nil || !info.IsDir() {
		return "", fmt.Errorf("%w: %s is not a folder", release.ErrInvalid, dir)
	}
	return real, nil
}

// within reports whether p is dir or lies in it; both without symbolic links.
func within(dir, p string) bool {
	rel, err := filepath.Rel(dir, p)
	return err == nil && filepath.IsLocal(rel)
}

// Find returns the absolute path of a gate's executable: spec.Path where one is
// given, absolute or for a command of the operator's also a bare name, else the
// first on PATH with the gate's name. The error says how to install it and wraps
// release.ErrUnavailable, or release.ErrInvalid for what is no gate.
func Find(spec release.GateSpec) (string, error) {
	s, err := lookup(spec)
	if err != nil {
		return "", err
	}
	file := spec.Path
	if file == "" {
		file = spec.Name
	} else if bare := s.inTree && !strings.Contains(file, "/"); !bare && !filepath.IsAbs(file) {
		return "", fmt.Errorf("%w: the path of %s must be absolute, not %q", release.ErrInvalid, spec.Name, file)
	}
	found, err := exec.LookPath(file)
	if err == nil {
		found, err = filepath.Abs(found)
	}
	if err != nil {
		return "", fmt.Errorf("%w: %s cannot be run (%w); %s", release.ErrUnavailable, spec.Name, err, s.install)
	}
	return found, nil
}

// Version asks a gate that Kept says can be kept for its version, such as
// "0.64.0". It runs in an empty folder with no network look-up; checkov takes
// about three seconds, so keep the answer. The error wraps
// release.ErrUnavailable where the program gives none.
func Version(ctx context.Context, spec release.GateSpec) (string, error) {
	s, err := lookup(spec)
	if err == nil {
		spec.Path, err = Find(spec)
	}
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "waymark-version-")
	if err != nil {
		return "", fmt.Errorf("asking %s for its version: %w", spec.Name, err)
	}
	defer os.RemoveAll(dir)
	return Config{Spec: spec, Scratch: dir, Path: os.Getenv("PATH"), Log: func(string) {}, kind: s}.ask(ctx)
}

// Kept reports whether a gate's result may be kept for the same tree, and so
// whether it has a Key. Tests depend on providers and modules that are not in
// the tree, and what a command of the operator's depends on nobody knows.
func Kept(spec release.GateSpec) bool {
	_, known := scanners()[spec.Name]
	return known && spec.Name != "test"
}

// ask runs the gate with --version and reads the number.
func (cfg Config) ask(ctx context.Context) (string, error) {
	out, err := cfg.start(ctx, "--version")
	if err != nil {
		return "", fmt.Errorf("asking for the version: %w", err)
	}
	line, _, _ := strings.Cut(string(out.stdout), "\n")
	version, ok := strings.CutPrefix(strings.TrimSpace(line), cfg.kind.version)
	if !ok || out.exit != 0 || !versionPattern.MatchString(version) {
		return "", fmt.Errorf("%w: %s does not answer --version as %s would: exit %d%s", release.ErrUnavailable,
			cfg.Spec.Path, cfg.Spec.Name, out.exit, out.tail())
	}
	return version, nil
}

// keyFormat changes whenever this package reads a gate's output differently, so
// that kept results of an older build are not used.
const keyFormat = 1

// Key is the name under which a result may be kept and used again,
// "sha256:<hex>": everything that changes the result is in it, FailOn is not.
// version is what Version says. The operator's own files that the settings name
// count by their content. Checkov judges the whole repository, so its key leaves
// stackPath out, and so does Trivy's. Waivers are applied to kept results as to
// fresh ones, and are not in it. No gate is given a target's var files: the code
// is judged, so that one commit for many targets is judged once.
func Key(treeDigest, version string, spec release.GateSpec, stackPath string) string {
	s := scanners()[spec.Name]
	h := sha256.New()
	fmt.Fprintf(h, "%d %q %q %q\n", keyFormat, treeDigest, spec.Name, version)
	for _, name := range slices.Sorted(maps.Keys(spec.Config)) {
		value := spec.Config[name]
		if value == "" {
			continue
		}
		fmt.Fprintf(h, "%q = %q\n", name, value)
		if slices.Contains(s.files, name) {
			fmt.Fprintf(h, "content %s\n", contentDigest(value))
		}
	}
	if s.stack {
		fmt.Fprintf(h, "stack %q\n", filepath.ToSlash(filepath.Clean(stackPath)))
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// contentDigest covers names and contents of a file, or of all files in a
// folder, without Python's own cache. What cannot be read counts as its error:
// the gate will fail on it as well.
func contentDigest(root string) string {
	h := sha256.New()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "__pycache__":
			return fs.SkipDir
		case d.IsDir():
			return nil
		}
		rel, _ := filepath.Rel(root, p)
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		fmt.Fprintf(h, "%q\n", rel)
		n, err := io.Copy(h, f)
		fmt.Fprintf(h, "\n%d\n", n)
		return err
	})
	if err != nil {
		fmt.Fprintf(h, "error %v", err)
	}
	return hex.EncodeToString(h.Sum(nil))
}
