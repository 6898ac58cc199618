// Command get puts the programs that Waymark and its tests run into .tools/bin:
// OpenTofu, Terraform, tflint, a provider, and the checkers of make check.
//
//	go run -C tools/get . [-pinned] [-jobs N] [-root DIR] [NAME...]
//
// For each tool it takes, in this order: the pinned version where it is built
// already and not stale; a usable version on PATH, by a link (not with
// -pinned); else it builds the pinned version from source, which needs Go and
// the module proxy alone. It ends with a table of what is used.
//
// It is a module of its own, without any dependency, so that nothing has to be
// downloaded before it can say what it is going to do. It never writes outside
// the folder .tools of the repository.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"text/tabwriter"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv("PATH"), catalog(), os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "tools: %v\n", err)
		os.Exit(1)
	}
}

// getter is one run of the command.
type getter struct {
	Root   string // the repository, absolute
	Path   string // the value of PATH
	Pinned bool   // build the pinned versions, whatever is on PATH
	Jobs   int    // builds side by side
	progress
}

// choice is where one tool comes from.
type choice struct {
	tool    tool
	version string
	path    string
	origin  string
	build   bool
}

// run parses args, gets the tools that they name from tools, and prints the
// table to out. It returns the errors of all builds together.
func run(ctx context.Context, args []string, path string, tools []tool, out io.Writer) error {
	flags := flag.NewFlagSet("get", flag.ContinueOnError)
	root := flags.String("root", filepath.Join("..", ".."), "the repository")
	pinned := flags.Bool("pinned", false, "build the pinned versions, whatever is on PATH")
	jobs := flags.Int("jobs", 2, "builds side by side; OpenTofu alone needs 1.8 GB of memory")
	if err := flags.Parse(args); err != nil {
		return err
	}
	wanted, err := find(tools, flags.Args())
	if err != nil {
		return err
	}
	abs, err := filepath.Abs(*root)
	if err != nil {
		return err
	}
	g := &getter{Root: abs, Path: path, Pinned: *pinned, Jobs: max(1, *jobs), progress: progress{out: out}}
	return g.get(ctx, wanted)
}

// get chooses, links, builds and prints the table.
func (g *getter) get(ctx context.Context, tools []tool) error {
	for _, dir := range []string{"bin", "stamps"} {
		if err := os.MkdirAll(filepath.Join(g.Root, ".tools", dir), 0o755); err != nil {
			return fmt.Errorf("making the tools' folder: %w", err)
		}
	}
	var choices []choice
	var builds []tool
	for _, t := range tools {
		c, err := g.choose(ctx, t)
		if err != nil {
			return err
		}
		if c.build {
			builds = append(builds, t)
		}
		choices = append(choices, c)
	}
	if err := g.buildAll(ctx, builds); err != nil {
		return err
	}
	return g.table(choices)
}

// choose decides where t comes from, and makes the link where it is on PATH.
func (g *getter) choose(ctx context.Context, t tool) (choice, error) {
	version, err := pinnedVersion(g.Root, t)
	if err != nil {
		return choice{}, err
	}
	ours := choice{tool: t, version: version, path: g.binFile(t), origin: "built here, as pinned"}
	if ok, err := g.fresh(t); err != nil || ok {
		return ours, err
	}
	ours.build = true
	if g.Pinned || t.Minimum == "" {
		return ours, nil
	}
	file, ok := lookPath(g.Path, t.Name, filepath.Join(g.Root, ".tools", "bin"))
	if !ok {
		return ours, nil
	}
	found, err := probe(ctx, t, file, g.Path)
	if err != nil {
		g.say("%s is not used: %v", file, err)
		return ours, nil
	}
	if err := g.link(t, file); err != nil {
		return choice{}, err
	}
	return choice{tool: t, version: found, path: file, origin: "found on PATH"}, nil
}

// table prints what is used.
func (g *getter) table(choices []choice) error {
	w := tabwriter.NewWriter(g.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "tool\tversion\tpath\tfrom")
	for _, c := range choices {
		path := c.path
		if rel, err := filepath.Rel(g.Root, path); err == nil && filepath.IsLocal(rel) {
			path = rel
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.tool.Name, c.version, path, c.origin)
	}
	return w.Flush()
}

func (g *getter) binFile(t tool) string { return filepath.Join(g.Root, ".tools", "bin", t.Name) }

func (g *getter) stampFile(t tool) string { return filepath.Join(g.Root, ".tools", "stamps", t.Name) }
