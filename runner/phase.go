package runner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/terraform"
)

// phase executes one Spec and gathers what its result says.
type phase struct {
	spec    *release.Spec
	prepare func(dir string, engine release.EngineSpec, spec release.BackendSpec) ([]string, error)
	path    string // PATH of the tools
	log     *journal
	box     *sandbox
	threads *threads
	// sharesPlugins: nothing of the code runs during init, so that init may write
	// to the plug-in cache, from which other targets' providers come.
	sharesPlugins bool
	// copied is closed once the tree is copied for tests, or need not be; copyErr
	// is why it could not be.
	copied  chan struct{}
	copyErr error

	// Below is written by the stages, some of which run side by side.
	mu       sync.Mutex
	stages   map[release.StageName]release.Stage
	commands map[release.StageName][]release.Command // that have ended, of stages under way
	findings []release.Finding
	// requirements are the approvals that policies ask for.
	requirements []release.Requirement
	gates        []release.GateResult
	softGates    []string // that would have failed the phase but for their soft mode
	plan         *release.PlanSummary
	applied      release.Changes
	outputs      map[string]string
	content      *release.StateContent
}

func newPhase(spec *release.Spec, cfg Config, log *journal) *phase {
	return &phase{spec: spec, prepare: cfg.PrepareBackend, path: cfg.Path, log: log,
		threads: &threads{active: map[int]bool{}}, copied: make(chan struct{}), stages: map[release.StageName]release.Stage{},
		commands: map[release.StageName][]release.Command{}}
}

// run executes the phase. The error is the first cause of its failure: a *stop,
// or one that wraps errUnseen.
func (p *phase) run(ctx context.Context) error {
	first, run := release.StageConfig, p.runPlan
	switch p.spec.Phase {
	case release.PhaseApply:
		first, run = release.StageApply, p.runApply
	case release.PhasePush:
		first, run = release.StagePush, p.runPush
	}
	if err := p.setUp(first); err != nil {
		return stopAt(ctx, first, err)
	}
	return run(ctx)
}

// setUp makes the tools' folders and the sandbox.
func (p *phase) setUp(first release.StageName) error {
	if err := checkSpec(p.spec); err != nil {
		return err
	}
	p.learnInputs()
	box, note, err := newSandbox(p.spec.Sandbox)
	if err != nil {
		return err
	}
	p.box = box
	if note == "" {
		note = p.openFolder()
	}
	if note != "" && p.spec.Sandbox == "require" {
		return fmt.Errorf("%w: %s; the configuration requires a sandbox", release.ErrUnavailable, note)
	}
	if note != "" {
		p.log.log(first, note)
	}
	if err := checkChildren(); err != nil {
		p.log.log(first, err.Error())
	}
	for _, dir := range append(engineDirs(), "gates") {
		if err := os.MkdirAll(p.tools(dir), 0o700); err != nil {
			return fmt.Errorf("making the tools' folders: %w", err)
		}
	}
	if cache := p.spec.Engine.PluginCache; cache != "" {
		if err := os.MkdirAll(cache, 0o700); err != nil {
			return fmt.Errorf("making the plug-in cache: %w", err)
		}
	}
	return nil
}

// openFolder says where the runner's own folder, and so the service's data, lies
// in one that every tool may read; empty where it does not.
func (p *phase) openFolder() string {
	for _, open := range p.readable(p.spec.Engine.Path) {
		if filepath.IsAbs(open) && inside(open, p.spec.Dir) {
			return fmt.Sprintf("sandbox: tools can read the data of every run, which lies in %s, a folder of programs or of runner { readable }: set server { data_dir } to one elsewhere", open)
		}
	}
	return ""
}

// toolsDir is the folder beside the tree where tools have HOME, TMPDIR and
// scratch. The tree's parent folder must therefore belong to the run alone.
func toolsDir(spec *release.Spec) string {
	return filepath.Join(filepath.Dir(filepath.Clean(spec.WorkDir)), "tools")
}

func (p *phase) tools(name string) string { return filepath.Join(toolsDir(p.spec), name) }

// engineDirs are the engine's folders there. Those of the gates lie apart, so
// that nothing which the engine runs can hand a gate its settings.
func engineDirs() []string { return []string{"home", "tmp", "engine", "plan"} }

// root is the root module's folder.
func (p *phase) root() string { return filepath.Join(p.spec.WorkDir, p.spec.Stack.Path) }

// own is a file of the runner's own folder, which tools cannot write to.
func (p *phase) own(name string) string { return filepath.Join(p.spec.Dir, name) }

// begin starts a stage.
func (p *phase) begin(name release.StageName) {
	s := release.Stage{Name: name, State: release.StageRunning, StartedAt: time.Now().UTC()}
	p.mu.Lock()
	p.stages[name] = s
	p.mu.Unlock()
	p.log.stage(s)
}

// end finishes a stage; one that never began has no start.
func (p *phase) end(name release.StageName, state release.StageState, summary string) {
	p.mu.Lock()
	s := p.stages[name]
	s.Name, s.State, s.FinishedAt, s.Summary = name, state, time.Now().UTC(), p.log.clean(summary)
	p.stages[name] = s
	commands := p.commands[name]
	delete(p.commands, name)
	p.mu.Unlock()
	p.log.stage(s, commands...)
}

// maxCommands bounds the commands that one stage tells of.
const maxCommands = 100

// ran notes that a command of a stage has ended.
func (p *phase) ran(stage release.StageName, name string, began time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.commands[stage]) < maxCommands {
		p.commands[stage] = append(p.commands[stage], release.Command{Name: name, StartedAt: began.UTC(), FinishedAt: time.Now().UTC(), Failed: err != nil})
	}
}

// stage runs fn as a stage. An error ends it as failed, or as skipped where
// another stage was the cause, and comes back as a *stop.
func (p *phase) stage(ctx context.Context, name release.StageName, fn func() (summary string, err error)) error {
	p.begin(name)
	var summary string
	err := guard(func() (err error) { summary, err = fn(); return err })
	if err == nil {
		p.end(name, release.StagePassed, summary)
		return nil
	}
	err = stopAt(ctx, name, err)
	var why *stop
	if errors.As(err, &why) && why.stage != name {
		p.end(name, release.StageSkipped, "stopped because "+string(why.stage)+" failed")
		return err
	}
	if p.box.on() && p.log.sawDenial(name) && name != release.StageLint && name != release.StageScan {
		p.log.log(name, "hint: tools can write to the working directory alone; where this one needs another folder, name it in runner { writable = [...] }, or in readable to read it")
	}
	text := err.Error()
	if why != nil {
		text = why.why
	}
	p.end(name, release.StageFailed, text)
	return err
}

// stop is why a phase ended early.
type stop struct {
	outcome release.Outcome
	stage   release.StageName
	why     string // one line
}

func (s *stop) Error() string { return string(s.stage) + ": " + s.why }

// deny stops the phase at a stage because a rule says no.
func deny(stage release.StageName, format string, args ...any) error {
	return &stop{outcome: release.OutcomeDenied, stage: stage, why: fmt.Sprintf(format, args...)}
}

// stopAt says what an error at a stage means for the phase.
func stopAt(ctx context.Context, stage release.StageName, err error) error {
	var already *stop
	if errors.As(err, &already) || errors.Is(err, errUnseen) {
		return err
	}
	cause := context.Cause(ctx)
	why := strings.TrimPrefix(firstLine(err), string(stage)+": ") // the engine's command is called like its stage
	switch {
	case errors.As(cause, &already): // another stage stopped this one
		return already
	case errors.Is(cause, errTimeout):
		return &stop{release.OutcomeFailed, stage, errTimeout.Error()}
	case cause != nil:
		return &stop{release.OutcomeCancelled, stage, errInterrupted.Error()}
	case errors.Is(err, release.ErrRefused):
		return &stop{release.OutcomeDenied, stage, why}
	}
	return &stop{release.OutcomeFailed, stage, why}
}

// firstLine is an error in one line: its first, and where that only announces
// a list, the first of the list and how many more there are.
func firstLine(err error) string {
	lines := strings.Split(strings.TrimSpace(err.Error()), "\n")
	line := lines[0]
	if strings.HasSuffix(line, ":") && len(lines) > 1 {
		line += " " + strings.TrimSpace(lines[1])
		if n := len(lines) - 2; n > 0 {
			line += fmt.Sprintf(" (and %d more, see the log)", n)
		}
	}
	return line
}

// result is what the phase came to, given the error of run.
func (p *phase) result(err error) release.Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := release.Result{Format: release.ProtocolFormat, RunID: p.spec.RunID, Attempt: p.spec.Attempt,
		Phase: p.spec.Phase, Outcome: release.OutcomePassed, Stages: []release.Stage{},
		Findings: p.findings, Requirements: p.requirements, Gates: p.gates, SoftGates: slices.Sorted(slices.Values(p.softGates)), Plan: p.plan, Applied: p.applied, Outputs: p.outputs, Content: p.content,
		FinishedAt: time.Now().UTC()}
	for _, name := range release.StageNames() {
		if s, ok := p.stages[name]; ok {
			r.Stages = append(r.Stages, s)
		}
	}
	release.SortFindings(r.Findings)
	if err != nil {
		r.Outcome, r.Reason = release.OutcomeFailed, p.log.clean(firstLine(err))
		var why *stop
		if errors.As(err, &why) {
			r.Outcome, r.Reason = why.outcome, p.log.clean(why.Error())
		}
		if errors.Is(err, errUnseen) {
			r.Outcome = release.OutcomeUnknown
		}
	}
	maskResult(p.log.mask, &r)
	return r
}

// found adds findings and denies where some are as severe as floor.
func (p *phase) found(stage release.StageName, findings []release.Finding, floor release.Severity) error {
	p.mu.Lock()
	p.findings = append(p.findings, findings...)
	p.mu.Unlock()
	failing := release.Failing(findings, floor)
	if len(failing) == 0 {
		return nil
	}
	f := failing[0]
	where := f.File
	if f.Line > 0 {
		where += fmt.Sprintf(":%d", f.Line)
	}
	if where == "" {
		where = f.Resource
	}
	if where != "" {
		where += ": "
	}
	more := ""
	if n := len(failing) - 1; n > 0 {
		more = fmt.Sprintf(", and %d more", n)
	}
	return deny(stage, "%s says no: %s%s (%s)%s", f.Source, where, f.Message, f.Rule, more)
}

// engine drives the engine's steps of one phase, each as a stage on a
// restricted thread.
type engine struct {
	*terraform.Engine
	p *phase

	urgent atomic.Bool // what comes out just now are reasons of a failure

	mu    sync.Mutex
	stage release.StageName // whose lines come out just now
}

func (p *phase) newEngine() (*engine, error) {
	e := &engine{p: p}
	env := map[string]string{"PATH": p.path, "HOME": p.tools("home"), "TMPDIR": p.tools("tmp"), "LANG": "C.UTF-8"}
	maps.Copy(env, p.spec.Env)
	driver, err := terraform.New(terraform.Config{Path: p.spec.Engine.Path, Kind: p.spec.Engine.Kind, Dir: p.root(), Env: env,
		PluginDir: p.spec.Engine.PluginDir, PluginCache: p.pluginCache(), ScratchDir: p.tools("engine"),
		Log:     func(line string) { e.p.log.record(e.at(), line, e.urgent.Load()) },
		Command: func(name string, began time.Time, err error) { p.ran(e.at(), name, began, err) }})
	e.Engine = driver
	return e, err
}

func (e *engine) at() release.StageName {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stage
}

// step runs one of the engine's methods as part of a stage.
func (e *engine) step(stage release.StageName, fn func() error) error {
	e.mu.Lock()
	e.stage = stage
	e.mu.Unlock()
	spec := e.p.spec
	a := access{
		read: slices.Concat(e.p.readable(spec.Engine.Path),
			[]string{spec.Engine.PluginDir, spec.Engine.PluginCache, spec.SessionDir, e.p.own(plainPlan), e.p.own(plainState)}),
		write: append([]string{spec.WorkDir}, spec.Writable...),
	}
	for _, dir := range engineDirs() {
		a.write = append(a.write, e.p.tools(dir))
	}
	if cache := e.p.pluginCache(); stage == release.StageInit && cache != "" {
		a.write = append(a.write, cache)
	}
	return e.p.redact(e.p.tool(a, fn))
}

// pluginCache is the cache that init uses; empty for none. OpenTofu's encryption
// can start programs of the repository during init, and an apply's own init has
// not looked at the code: both take their providers from the source.
func (p *phase) pluginCache() string {
	if !p.sharesPlugins {
		return ""
	}
	return p.spec.Engine.PluginCache
}

// tool runs fn on a thread of its own that is restricted to a, and kills what
// it leaves behind.
func (p *phase) tool(a access, fn func() error) error {
	err := p.threads.run(func() error {
		if err := p.box.restrict(a); err != nil {
			return err
		}
		return fn()
	})
	if leftErr := p.threads.killLeftovers(); leftErr != nil {
		fmt.Fprintln(os.Stderr, "waymark runner:", leftErr) // it will never execute again: no reason to fail
	}
	return err
}

// readable lists what a tool may read because of the system and its own place.
func (p *phase) readable(executable string) []string {
	paths := slices.Concat(systemPaths(), resolverFile(), p.spec.Readable)
	for _, program := range followLinks(executable) {
		paths = append(paths, filepath.Dir(program))
	}
	for _, dir := range filepath.SplitList(p.path) {
		if filepath.IsAbs(dir) {
			paths = append(paths, dir)
		}
	}
	return paths
}
