package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

var errInterrupted = errors.New("interrupted; what was built is kept, and the next run goes on from there")

// stamp is what a built executable depends on: the module that pins it, how it
// is built, the Go version and the machine. A build whose stamp differs is stale.
func stamp(root string, t tool) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s %s/%s %s %q\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, t.Package, t.LDFlags)
	if len(t.Env) > 0 {
		fmt.Fprintf(h, "%q\n", t.Env)
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(root, t.Dir, name))
		if err != nil && !(name == "go.sum" && errors.Is(err, fs.ErrNotExist)) {
			return "", fmt.Errorf("reading what pins %s: %w", t.Name, err)
		}
		fmt.Fprintf(h, "%s %d\n", name, len(data))
		h.Write(data)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// fresh reports whether the pinned version of t is built and not stale.
func (g *getter) fresh(t tool) (bool, error) {
	want, err := stamp(g.Root, t)
	if err != nil {
		return false, err
	}
	info, err := os.Lstat(g.binFile(t))
	if err != nil || !info.Mode().IsRegular() {
		return false, nil
	}
	have, err := os.ReadFile(g.stampFile(t))
	return err == nil && strings.TrimSpace(string(have)) == want, nil
}

// buildAll builds the tools, g.Jobs at a time, and returns the errors of all.
// Another copy of this program that builds in the same folder is waited for.
func (g *getter) buildAll(ctx context.Context, tools []tool) error {
	if len(tools) == 0 {
		return nil
	}
	unlock, err := g.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	errs := make([]error, len(tools))
	slots := make(chan struct{}, g.Jobs)
	var wg sync.WaitGroup
	for i, t := range tools {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if ctx.Err() == nil {
				errs[i] = g.build(ctx, t)
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return errInterrupted
	}
	return errors.Join(errs...)
}

// build makes the executable of t in the folder of the tools and stamps it.
// The old one stays in place until the new one is whole.
func (g *getter) build(ctx context.Context, t tool) error {
	if ok, err := g.fresh(t); err != nil || ok { // built by another copy while we waited for the lock
		return err
	}
	version, err := pinnedVersion(g.Root, t)
	if err != nil {
		return err
	}
	want, err := stamp(g.Root, t)
	if err != nil {
		return err
	}
	g.say("building %s %s: about %s on two cores the first time, then kept in .tools/bin", t.Name, version, t.About)
	start := time.Now()
	file := g.binFile(t)
	next := file + ".new"
	defer os.Remove(next)
	cmd := exec.CommandContext(ctx, "go", "build", "-C", filepath.Join(g.Root, t.Dir), "-trimpath", "-buildvcs=false",
		"-ldflags", strings.TrimSpace("-s -w "+strings.ReplaceAll(t.LDFlags, "VERSION", version)), "-o", next, t.Package)
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off"), t.Env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building %s %s from the module in %s: %w\n%s", t.Name, version, t.Dir, err, lastLines(output.String(), 20))
	}
	if err := errors.Join(os.Rename(next, file), os.WriteFile(g.stampFile(t), []byte(want+"\n"), 0o644)); err != nil {
		return fmt.Errorf("keeping %s: %w", t.Name, err)
	}
	g.say("built %s %s in %s", t.Name, version, time.Since(start).Round(time.Second))
	return nil
}

// link makes the entry of t in the folder of the tools a link to the
// executable target, which was found on PATH.
func (g *getter) link(t tool, target string) error {
	file := g.binFile(t)
	if have, err := os.Readlink(file); err == nil && have == target {
		return nil
	}
	next := file + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("linking %s: %w", t.Name, err)
	}
	if err := errors.Join(os.Symlink(target, next), os.Rename(next, file)); err != nil {
		return fmt.Errorf("linking %s to %s: %w", t.Name, target, err)
	}
	return nil
}

// lock waits until no other copy of this program builds in the same folder, or
// ctx ends. The lock goes with the process, however that ends.
func (g *getter) lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(g.Root, ".tools", "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("locking the tools' folder: %w", err)
	}
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		return func() { f.Close() }, nil
	}
	g.say("waiting for another build of the tools to end")
	locked := make(chan error, 1)
	go func() { locked <- syscall.Flock(int(f.Fd()), syscall.LOCK_EX) }()
	select {
	case err = <-locked:
	case <-ctx.Done(): // the process ends, and with it the goroutine and its wait
		return nil, errInterrupted
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("locking the tools' folder: %w", err)
	}
	return func() { f.Close() }, nil
}

// lastLines returns at most n lines from the end of s.
func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// progress serialises lines that builds side by side print.
type progress struct {
	mu  sync.Mutex
	out io.Writer
}

func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, "tools: "+format+"\n", args...)
}
