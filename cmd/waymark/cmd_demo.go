package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/examples"
	"github.com/waymark-cd/waymark/release"
)

// demoTags are the tags that the demo pushes: the global scope and three Regions.
func demoTags() []string {
	return []string{"dev_global/research/1.0", "dev_us-east-1/research/1.0",
		"dev_eu-central-1/research/1.0", "dev_ap-southeast-1/research/1.0"}
}

// demoLimit is how long the demo waits for its runs.
const demoLimit = 5 * time.Minute

// newDemoCommand builds `waymark demo`.
func newDemoCommand(g *globals) *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show it all: a git remote, the service, four tags, four deployments",
		Long: `Makes a whole working installation in a temporary folder: a git remote with the
infrastructure of examples/quickstart, and the service on a free loopback port.
Pushes a tag for global and for three Regions, waits, and prints the board.
Needs git, OpenTofu (tofu) and tflint on PATH. With --keep it goes on serving
until it is interrupted.`,
		Args: exactArgs(),
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "go on serving until interrupted, to push tags of your own")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		d := &demo{g: g, keep: keep, began: time.Now()}
		return withExitCode(d.run(cmd.Context()))
	}
	return cmd
}

// demo is one installation in a temporary folder.
type demo struct {
	g      *globals
	keep   bool
	began  time.Time
	dir    string
	remote string
	clone  string
	client *api.Client
	server string
}

// say reports progress on standard error.
func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.g.stderr, "%6.1fs  %s\n", time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))
}

func (d *demo) run(ctx context.Context) (err error) {
	if d.dir, err = os.MkdirTemp("", "waymark-demo-"); err != nil {
		return fmt.Errorf("making the demo's folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
	if err := d.makeRemote(ctx); err != nil {
		return err
	}
	cfg, log, err := d.configure()
	if err != nil {
		return err
	}
	defer log.Close()
	logger, err := newLogger(log, "text")
	if err != nil {
		return err
	}
	options, err := serveOptions{}.complete(cfg)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var serving sync.WaitGroup
	up, down := make(chan string, 1), make(chan error, 1)
	serving.Go(func() { down <- serve(ctx, cfg, options, logger, func(addr string) { up <- addr }) })
	defer serving.Wait()
	defer stop()
	select {
	case err := <-down:
		return err
	case addr := <-up:
		d.server = "http://" + addr
	}
	if d.client, err = api.NewClient(api.ClientConfig{Server: d.server}); err != nil {
		return err
	}
	if err := d.deploy(ctx, cfg.Repositories[0].Name); err != nil {
		return err
	}
	if d.keep && ctx.Err() == nil {
		d.invite()
		<-ctx.Done()
		d.say("stopping")
	}
	return nil
}

// makeRemote makes a bare repository, and a clone of it with the quickstart on main.
func (d *demo) makeRemote(ctx context.Context) error {
	if _, err := exec.LookPath("git"); err != nil {
		return fmt.Errorf("%w: the demo needs git on PATH: install it", release.ErrUnavailable)
	}
	d.remote, d.clone = filepath.Join(d.dir, "infra.git"), filepath.Join(d.dir, "work")
	if err := d.git(ctx, d.dir, "init", "--quiet", "--bare", "--initial-branch=main", d.remote); err != nil {
		return err
	}
	quickstart, err := fs.Sub(examples.Quickstart, "quickstart")
	if err == nil {
		err = os.CopyFS(d.clone, quickstart)
	}
	if err != nil {
		return fmt.Errorf("writing the demo's repository: %w", err)
	}
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=main"}, {"add", "--all"},
		{"commit", "--quiet", "-m", "Add the quickstart's infrastructure"},
		{"remote", "add", "origin", d.remote}, {"push", "--quiet", "origin", "main"},
	} {
		if err := d.git(ctx, d.clone, args...); err != nil {
			return err
		}
	}
	d.say("git remote  %s", d.remote)
	return nil
}

// git runs git without the user's own configuration.
func (d *demo) git(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Demo", "GIT_AUTHOR_EMAIL=demo@waymark.example", "GIT_COMMITTER_NAME=Demo", "GIT_COMMITTER_EMAIL=demo@waymark.example")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
	}
	return nil
}

// configure reads the quickstart's own configuration, pointed at the demo's
// folder and at a free port.
func (d *demo) configure() (*config.Config, *os.File, error) {
	env := map[string]string{"WAYMARK_DEMO_REMOTE": d.remote, "WAYMARK_LISTEN": "127.0.0.1:0",
		"WAYMARK_DATA_DIR": filepath.Join(d.dir, "data")}
	cfg, err := config.Load(filepath.Join(d.clone, "waymark.hcl"), func(name string) (string, bool) {
		if v, ok := env[name]; ok {
			return v, true
		}
		return os.LookupEnv(name)
	})
	if err != nil {
		return nil, nil, &exitError{exitUsage, err}
	}
	log, err := os.Create(filepath.Join(d.dir, "waymark.log"))
	if err != nil {
		return nil, nil, fmt.Errorf("making the demo's log: %w", err)
	}
	return cfg, log, nil
}

// deploy pushes the tags, waits for their runs and prints the board.
func (d *demo) deploy(ctx context.Context, repository string) error {
	d.say("service     %s (page, API at /api/v1, description at /docs)", d.server)
	limit, cancel := context.WithTimeout(ctx, demoLimit)
	defer cancel()
	if err := d.firstContact(limit, repository); err != nil {
		return err
	}
	push := []string{"push", "--quiet", "origin"}
	for _, tag := range demoTags() {
		if err := d.git(limit, d.clone, "tag", "-a", "-m", "Release "+tag, tag); err != nil {
			return err
		}
		push = append(push, tag)
	}
	if err := d.git(limit, d.clone, push...); err != nil {
		return err
	}
	d.say("pushed      %s", strings.Join(demoTags(), " "))
	if err := d.await(limit); err != nil {
		return err
	}
	board, err := d.client.Targets(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.g.stdout, "\nThe page: %s/\n\n", d.server)
	renderBoard(d.g.stdout, board.Targets, time.Now(), d.g.colour)
	return d.checkBoard(ctx, board.Targets)
}

// poll asks every 100 ms until done says yes, an error comes, or ctx ends.
func poll(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// firstContact waits until the repository's tags were recorded once: what is
// there before is adopted, and does not run.
func (d *demo) firstContact(ctx context.Context, repository string) error {
	err := poll(ctx, func() (bool, error) {
		page, err := d.client.Audit(ctx, 0, 10)
		if err != nil {
			return false, err
		}
		for _, e := range page.Entries {
			if e.Action == "repository.adopted" && e.Repository == repository {
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		return d.explainFailure("waiting for the service to look at its repository", err)
	}
	return nil
}

// await waits until every tag's run has ended, and tells of each change.
func (d *demo) await(ctx context.Context) error {
	told := map[string]string{}
	err := poll(ctx, func() (bool, error) {
		list, err := d.client.Runs(ctx, api.RunQuery{})
		if err != nil {
			return false, err
		}
		ended := 0
		for i := len(list.Runs) - 1; i >= 0; i-- {
			r := list.Runs[i]
			if told[r.ID] != r.State {
				told[r.ID] = r.State
				d.say("run %-3s %-32s %s", r.ID, r.Tag, strings.TrimSpace(r.State+"  "+clean(r.Reason)))
			}
			if release.State(r.State).Ended() {
				ended++
			}
		}
		return ended == len(demoTags()), nil
	})
	if err != nil {
		return d.explainFailure("waiting for the runs", err)
	}
	return nil
}

func (d *demo) explainFailure(doing string, err error) error {
	log, _ := os.ReadFile(filepath.Join(d.dir, "waymark.log"))
	return fmt.Errorf("%s: %w; the service's log:\n%s", doing, err, log)
}

// checkBoard fails where a deployment did, with its log.
func (d *demo) checkBoard(ctx context.Context, board []api.Target) error {
	for _, t := range board {
		if t.LatestRun == nil || t.LatestRun.State == string(release.Succeeded) {
			continue
		}
		fmt.Fprintf(d.g.stderr, "\nthe log of run %s:\n", t.LatestRun.ID)
		if err := d.client.Logs(ctx, t.LatestRun.ID, api.LogQuery{}, d.g.stderr); err != nil {
			return err
		}
		return &exitError{exitRunFailed, fmt.Errorf("%s did not deploy: %s", t.String(), t.LatestRun.Reason)}
	}
	if len(board) != len(demoTags()) {
		return &exitError{exitRunFailed, fmt.Errorf("%d of %d targets deployed", len(board), len(demoTags()))}
	}
	return nil
}

// invite says what to try next, with --keep.
func (d *demo) invite() {
	fmt.Fprintf(d.g.stdout, `
Still serving; Ctrl-C ends it and removes everything. In another terminal:

  export WAYMARK_SERVER=%s
  git clone %s infra && cd infra
  # change something, such as modules/regional/main.tf, then:
  git commit -am "Change something" && git push origin main
  git tag -a -m "Release 1.1" dev_us-east-1/research/1.1 && git push origin dev_us-east-1/research/1.1
  waymark status
  waymark explain dev_us-east-1/research/1.1
  waymark audit verify
`, d.server, d.remote)
}
