package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// probeTimeout bounds one question for a version. A healthy tool answers in a
// tenth of a second.
const probeTimeout = 20 * time.Second

// lookPath finds name in the folders of path, which is the value of PATH.
// Relative folders and the folder skip are left out: skip is where this
// program puts its own links, and a link to itself would be of no use.
func lookPath(path, name, skip string) (string, bool) {
	skipInfo, _ := os.Stat(skip)
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue
		}
		if info, err := os.Stat(dir); err != nil || os.SameFile(info, skipInfo) {
			continue
		}
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, true
		}
	}
	return "", false
}

// probe asks the executable at file for its version, in an environment as bare
// as the one in which the runner starts it: a shim of a version manager that
// works only in somebody's home folder fails here, and not later inside a run.
// It fails where the tool does not run, is another product, or is older than
// t.Minimum.
func probe(ctx context.Context, t tool, file, path string) (version string, err error) {
	home, err := os.MkdirTemp("", "waymark-probe-")
	if err != nil {
		return "", fmt.Errorf("making a folder to probe %s in: %w", t.Name, err)
	}
	defer os.RemoveAll(home)
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, file, "--version")
	cmd.Dir = home
	cmd.WaitDelay = time.Second
	cmd.Env = []string{
		"PATH=" + path, "HOME=" + home, "TMPDIR=" + home, "LANG=C.UTF-8",
		// A setting of the caller that names a missing file would disturb the answer.
		"TF_CLI_CONFIG_FILE=" + os.DevNull, "CHECKPOINT_DISABLE=1",
	}
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return "", fmt.Errorf("it gave no version within %s", probeTimeout)
	}
	if err != nil {
		return "", fmt.Errorf("it does not run: %w", describeExit(err))
	}
	version, err = parseVersion(t.Product, string(out))
	if err != nil {
		return "", err
	}
	if older(version, t.Minimum) {
		return "", fmt.Errorf("version %s is older than %s", version, t.Minimum)
	}
	return version, nil
}

// describeExit adds the first line of standard error to the error of a command.
func describeExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if line, _, _ := strings.Cut(strings.TrimSpace(string(exit.Stderr)), "\n"); line != "" {
			return fmt.Errorf("%w: %.200s", err, line)
		}
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// parseVersion reads the version from what a tool prints for --version, such
// as "OpenTofu v1.12.6" or "TFLint version 0.64.0". The product must be the
// expected one: on some machines terraform is a link to tofu.
func parseVersion(product, out string) (string, error) {
	re := regexp.MustCompile(`(?m)^([A-Za-z]+) (?:version )?v?(\d{1,9}\.\d{1,9}\.\d{1,9}(?:-[0-9A-Za-z.-]+)?)`)
	if m := re.FindStringSubmatch(out); m != nil {
		if m[1] != product {
			return "", fmt.Errorf("it is %s %s, not %s", m[1], m[2], product)
		}
		return m[2], nil
	}
	line, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
	return "", fmt.Errorf("it prints no version that can be read: %.80q", line)
}

// older reports whether version a comes before b; both are as parseVersion
// returns them. A pre-release comes before its release.
func older(a, b string) bool {
	aNumbers, aPre, _ := strings.Cut(a, "-")
	bNumbers, bPre, _ := strings.Cut(b, "-")
	as, bs := strings.Split(aNumbers, "."), strings.Split(bNumbers, ".")
	for i := range min(len(as), len(bs)) {
		x, _ := strconv.Atoi(as[i])
		y, _ := strconv.Atoi(bs[i])
		if c := cmp.Compare(x, y); c != 0 {
			return c < 0
		}
	}
	return aPre != "" && bPre == ""
}
