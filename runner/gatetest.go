package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/waymark-cd/waymark/gates"
	"github.com/waymark-cd/waymark/release"
)

// testGate is the gate that is the engine itself.
const testGate = "test"

// runTests lets the engine test the root module, in a copy of the initialised
// tree, so that nothing of it can touch what is planned. Tests have neither the
// run's credentials nor a network.
func (p *phase) runTests(ctx context.Context, stage release.StageName, spec release.GateSpec) (release.GateResult, error) {
	files, err := gates.TestFiles(p.spec.WorkDir, p.spec.Stack.Path, p.spec.Engine.Kind)
	if err != nil {
		return release.GateResult{}, err
	}
	if len(files) == 0 {
		return gates.NoTests(), nil
	}
	select {
	case <-p.copied:
	case <-ctx.Done():
		return release.GateResult{}, fmt.Errorf("there was nothing to test: %w", context.Cause(ctx))
	}
	if p.copyErr != nil {
		return release.GateResult{}, fmt.Errorf("copying the tree for the tests: %w", p.copyErr)
	}
	engine := p.spec.Engine
	spec.Path = engine.Path
	providers := filepath.Join(p.root(), ".terraform", "providers")
	a := access{read: append(p.readable(engine.Path), providers, engine.PluginDir, engine.PluginCache), write: []string{p.testTree()}}
	return p.confined(ctx, stage, gates.Config{Spec: spec, Tree: p.testTree(), StackPath: p.spec.Stack.Path, Engine: engine.Kind}, a)
}

// backendOverride is the file that tells the engine where the state lies.
const backendOverride = "waymark_backend_override.tf.json"

// testTree is the copy of the tree in which tests run.
func (p *phase) testTree() string { return p.tools("test") }

// copyForTests makes the copy, after init and before anything else runs in the
// tree. What goes wrong is the gate's to say.
func (p *phase) copyForTests() {
	defer close(p.copied)
	if !slices.ContainsFunc(p.spec.Gates, func(g release.GateSpec) bool { return g.Name == testGate }) {
		return
	}
	files, err := gates.TestFiles(p.spec.WorkDir, p.spec.Stack.Path, p.spec.Engine.Kind)
	if err != nil || len(files) == 0 {
		return // the gate finds out by itself
	}
	p.copyErr = copyTree(p.spec.WorkDir, p.testTree(), filepath.ToSlash(filepath.Clean(p.spec.Stack.Path)))
}

// copyTree copies a tree without what tests must not have: where the state lies,
// and how it is reached. The providers of the root module at stack are a link to
// those that init brought. Everything in the tree may be hostile: nothing is
// followed, and nothing but files, folders and links is touched.
func copyTree(from, to, stack string) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	src, err := os.OpenRoot(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer dst.Close()
	data := path.Join(stack, ".terraform")
	left := []string{path.Join(data, "terraform.tfstate"), path.Join(stack, backendOverride), ".git"}
	return fs.WalkDir(src.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == ".":
			return nil
		case name == path.Join(data, "providers"):
			if err := dst.Symlink(filepath.Join(from, filepath.FromSlash(name)), name); err != nil {
				return err
			}
			return skipped(d)
		case slices.Contains(left, name):
			return skipped(d)
		case d.IsDir():
			return dst.Mkdir(name, 0o700)
		case d.Type()&fs.ModeSymlink != 0:
			target, err := src.Readlink(name)
			if err != nil {
				return err
			}
			return dst.Symlink(target, name)
		case d.Type().IsRegular():
			return copyFile(src, dst, name)
		}
		return nil
	})
}

// skipped leaves a folder or a file out of a walk.
func skipped(d fs.DirEntry) error {
	if d.IsDir() {
		return fs.SkipDir
	}
	return nil
}

func copyFile(src, dst *os.Root, name string) (err error) {
	in, err := src.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file any more", name)
	}
	out, err := dst.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600|info.Mode().Perm()&0o100)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}
