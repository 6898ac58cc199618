// Package reconciler is the heart of the service: it compares a repository's
// tags with the record, admits or refuses what is new, keeps the order, and
// drives every run from its tag to its end.
//
// It owns the small interfaces of what it needs outside the process and the
// database. It must never run a tool itself, never read a credential, and never
// do what it has not first recorded.
package reconciler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// Ref is one tag as a remote shows it.
type Ref struct {
	Name      string // without refs/tags/
	ObjectID  string
	Commit    string // what it leads to, as the remote says
	Annotated bool
}

// Listing is what a remote shows at one moment.
type Listing struct {
	Tags   []Ref  // sorted by name
	Digest string // equal digests, equal listings
}

// Inspection is what a fetched tag turned out to be.
type Inspection struct {
	Commit    string
	Tagger    string
	TaggedAt  time.Time
	Message   string
	Signature string
	Author    string // of the commit, "Name <address>"
	Committer string // likewise
	Reachable bool   // from the configured branch
	Refusal   error  // why the tag cannot be a release at all; nil where it can
}

// Remote is one watched repository. Errors that wrap release.ErrUnavailable
// pass by themselves.
type Remote interface {
	// List asks for the tags; nothing is fetched.
	List(ctx context.Context) (Listing, error)
	// Inspect fetches exactly these tags and returns one Inspection for each.
	Inspect(ctx context.Context, refs []Ref) ([]Inspection, error)
	// Checkout writes the tree of a fetched commit into dir, which must not
	// exist, and returns the tree's digest.
	Checkout(ctx context.Context, commit, dir string) (treeDigest string, err error)
	// Files reads files of a fetched commit.
	Files(commit string) config.Files
}

// Found is how a runner was found.
type Found string

// What may be found of a runner.
const (
	FoundAlive Found = "alive" // at work: follow it
	FoundDone  Found = "done"  // its result is there: follow it
	FoundGone  Found = "gone"  // it began and left no result
	FoundNever Found = "never" // it never began and never will
)

// ErrRunnerGone is what Runners.Follow returns for a runner that died without a result.
var ErrRunnerGone = errors.New("the runner is gone without a result")

// Runners starts and follows runner processes, which outlive the service.
type Runners interface {
	// Start returns once the runner has begun. After an error, Find tells.
	Start(ctx context.Context, spec release.Spec) error
	// Find looks for the runner of a folder; where none began it makes sure that none will.
	Find(dir string) (Found, error)
	// Follow passes on events until the runner ends, and returns its result.
	Follow(ctx context.Context, dir string, each func(release.Event)) (release.Result, error)
	// Interrupt asks the runner to stop gracefully.
	Interrupt(dir string) error
}

// GateCheck is a gate made ready for one tree.
type GateCheck struct {
	Spec release.GateSpec
	Key  string // under which its result may be kept; empty: it may not
}

// Config wires a Reconciler.
type Config struct {
	Config  *config.Config
	Store   *store.Store
	Remotes map[string]Remote // by repository name
	Runners Runners
	Engine  release.EngineSpec
	// Gate makes a configured gate ready for a tree.
	Gate func(ctx context.Context, gate config.GateConfig, treeDigest string, stack release.StackSpec) (GateCheck, error)
	// JudgeTag asks the operator's policies about a tag; nil where there are none on
	// tags. An error that wraps release.ErrRefused says no.
	JudgeTag func(ctx context.Context, facts release.TagFacts) (release.PolicyVerdict, error)
	// Session gives a phase of a run its identity in the cloud; nil where runs
	// get none from the service. An error that wraps release.ErrUnavailable
	// passes by itself.
	Session func(ctx context.Context, req SessionRequest) (Session, error)
	// Locks looks at states' locks; nil where the backend has none to look at.
	Locks Locks
	// KeepState has the state that an apply could not write lie encrypted, with the
	// run's key, in the folder of the runner that applied, and returns which it is;
	// nil where there is none. Nil: this service looks for none.
	KeepState func(workDir, stackPath, dir, key string) (*release.StateMark, error)
	// Rev finds and fetches the commit that a person names: a branch, or a full
	// commit id, on the repository's branch or, with any, the newest of another. What
	// it does not find is release.ErrNotFound, what it must not fetch
	// release.ErrRefused. Nil: nothing is planned without a tag.
	Rev func(ctx context.Context, repository, rev string, any bool) (commit string, err error)
	// LockOwner is how an engine started here names itself in a lock, user@host.
	LockOwner string
	// Instance is this process among those that share the database: its id, the
	// same after a restart, its roles (none: all) and what people see of it.
	Instance store.Instance
	Pools    []string // whose runs it drives; none: the default one
	// Heartbeat is how long an instance may be silent before it is declared dead;
	// default 30 s.
	Heartbeat time.Duration
	// Blobs keep logs and saved plans where other workers can read them; nil: they
	// stay on this worker's disk.
	Blobs Blobs
	// Triggers listen to events, while this instance leads, until ctx ends.
	Triggers []func(ctx context.Context) error
	// Trace is handed the parts of runs' time; it must not wait. Nil: nobody is.
	Trace   func(release.Span)
	Logger  *slog.Logger
	Metrics prometheus.Registerer
	Now     func() time.Time
}

// Reconciler watches repositories and drives runs.
type Reconciler struct {
	Config
	log     *slog.Logger
	metrics *metrics
	slots   chan struct{}
	watches map[string]*watch

	hard      context.Context // ends when the grace of a stop is over
	stopping  chan struct{}   // closed when this process is to stop
	leads     atomic.Bool     // this instance watches the repositories
	recall    chan struct{}   // makes keepTidy look at once
	unsettled map[int64]bool  // unknown runs at the last look, and whether they ran here; of keepTidy alone

	logReaders atomic.Int64  // who read logs now
	unpacking  chan struct{} // one slot per reader of a log that takes lines apart

	mu               sync.Mutex
	following        map[int64]*followedRun    // runs whose logs are being read
	configs          map[string]*config.Config // that runs were admitted under elsewhere, by digest
	driving          map[int64]*drive          // runs that a goroutine of ours is driving
	trouble          map[string]error          // what is wrong now, for Ready, by part
	beatAt           time.Time                 // before the last sign of life was sent
	latest           time.Time                 // that the clock has shown when windows were judged
	patientUntil     time.Time                 // before then the silence of others means nothing
	isDraining       bool
	full             bool          // the disk had no room when it was last asked
	drain, undrained chan struct{} // closed when this instance begins to drain, and when it no longer does
}

// New checks the wiring. It starts nothing.
func New(cfg Config) (*Reconciler, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = 30 * time.Second
	}
	if len(cfg.Pools) == 0 {
		cfg.Pools = []string{release.DefaultPool}
	}
	r := &Reconciler{Config: cfg, log: cfg.Logger, slots: make(chan struct{}, cfg.Config.Server.MaxRuns),
		watches: map[string]*watch{}, driving: map[int64]*drive{}, following: map[int64]*followedRun{}, unpacking: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), trouble: map[string]error{},
		configs: map[string]*config.Config{}, hard: context.Background(), stopping: make(chan struct{}), recall: make(chan struct{}, 1),
		drain: make(chan struct{}), undrained: make(chan struct{})}
	var err error
	if r.metrics, err = newMetrics(cfg.Metrics, r.leadsNow); err != nil {
		return nil, err
	}
	r.metrics.expect(cfg.Config.Environments, cfg.Config.Repositories)
	for _, repo := range cfg.Config.Repositories {
		remote := cfg.Remotes[repo.Name]
		if remote == nil {
			return nil, fmt.Errorf("no remote for repository %q", repo.Name)
		}
		r.watches[repo.Name] = &watch{repo: repo, remote: remote, hint: make(chan struct{}, 1)}
	}
	return r, nil
}

// sweepEvery is how often runs that lost their wake-up call are looked for, and
// what ended runs left behind is removed.
const sweepEvery = 30 * time.Second

// Run does what this instance's roles say until ctx is cancelled, then waits for
// what is at work within the configured grace. Runners outlive it; the next Run
// finds them.
func (r *Reconciler) Run(ctx context.Context) error {
	err := r.persist(ctx, "instance", func() error { return errors.Join(r.keepConfig(ctx), r.join(ctx)) })
	if err != nil {
		return err
	}
	// Drives end when the grace is over, whatever their calls do: a worker that
	// drains goes on with what it has in hand.
	hard, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() {
		close(r.stopping)
		time.AfterFunc(r.Config.Config.Server.ShutdownGrace, stop)
	})()
	r.hard = hard
	beating, last := context.WithCancel(context.WithoutCancel(ctx))
	var heart sync.WaitGroup
	heart.Go(func() { r.beat(beating) }) // until nothing is in hand any more
	defer heart.Wait()
	defer last()
	defer r.leave(ctx)
	g, ctx := errgroup.WithContext(ctx)
	if r.plays(RoleController) {
		g.Go(func() error { r.lead(ctx); return nil })
	}
	if r.plays(RoleWorker) {
		g.Go(func() error { r.judgeAnew(ctx); return nil })
		g.Go(func() error { return r.work(ctx) })
		g.Go(func() error { r.keepTidy(ctx); return nil })
		g.Go(func() error { r.forgetLogs(ctx); return nil })
	}
	return g.Wait()
}

// plays reports whether this instance has a role; without any it has all.
func (r *Reconciler) plays(role string) bool {
	return len(r.Instance.Roles) == 0 || slices.Contains(r.Instance.Roles, role)
}

// work answers calls until ctx ends, with a pause while this instance drains.
func (r *Reconciler) work(ctx context.Context) error {
	for {
		r.mu.Lock()
		drain, undrained := r.drain, r.undrained
		r.mu.Unlock()
		err := r.Store.Work(ctx, store.Worker{ID: r.Instance.ID, Pools: r.Pools, Slots: 4 * cap(r.slots),
			Handle: r.handle, Grace: r.Config.Config.Server.ShutdownGrace, Drain: drain})
		if err != nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-undrained:
		}
	}
}

// keepTidy removes what ended runs left, and tells what this instance knows of
// runs that were taken from it, until ctx ends.
func (r *Reconciler) keepTidy(ctx context.Context) {
	tick := time.NewTicker(r.attendEvery())
	defer tick.Stop()
	for {
		r.removeLeftovers(ctx)
		r.testify(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-r.recall:
		}
	}
}

// persist does a write of the record until it succeeds, ctx ends, or the answer
// is a decision rather than a fault: a database that is away or a full disk
// means waiting and saying so, not losing.
func (r *Reconciler) persist(ctx context.Context, what string, fn func() error) error {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 200*time.Millisecond, 15*time.Second
	defer r.setTrouble("database", nil) // it answered, or nobody waits for it any more
	for {
		err := fn()
		if err == nil {
			return nil
		}
		for _, decision := range []error{release.ErrConflict, release.ErrNotFound, release.ErrRefused, release.ErrInvalid} {
			if errors.Is(err, decision) {
				return err
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.setTrouble("database", err)
		r.log.Error("the record cannot be written, trying again", "what", what, "error", err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait.NextBackOff()):
		}
	}
}

// Check is one part's health.
type Check struct {
	Name   string
	OK     bool
	Detail string
}

// Ready says how the parts are: the database, this instance's signs of life
// where others share it, the blob store as it answered last, and each
// repository's last look.
func (r *Reconciler) Ready(ctx context.Context) []Check {
	err := r.Store.Ping(ctx)
	r.askBlobs(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		err = r.trouble["database"]
	}
	free, full := r.room()
	checks := []Check{check("database", err, ""), check("disk", full, free)}
	if r.Store.Shared() {
		checks = append(checks, check("instance", r.trouble["instance"], ""))
	}
	if r.Blobs != nil {
		checks = append(checks, check("blobs", r.trouble["blobs"], ""))
	}
	for _, repo := range r.Config.Config.Repositories {
		w := r.watches[repo.Name]
		part := "repository " + repo.Name
		switch err := r.trouble[part]; {
		case r.Store.Shared() && !r.leads.Load():
			checks = append(checks, check(part, nil, "looked at by the instance that leads"))
		case err != nil:
			checks = append(checks, check(part, err, ""))
		case w.lastLook.IsZero():
			checks = append(checks, Check{Name: part, Detail: "not looked at yet"})
		default:
			checks = append(checks, check(part, nil, "last looked at "+w.lastLook.UTC().Format(time.RFC3339)))
		}
	}
	return checks
}

func check(name string, err error, detail string) Check {
	if err != nil {
		return Check{Name: name, Detail: err.Error()}
	}
	return Check{Name: name, OK: true, Detail: detail}
}

func (r *Reconciler) setTrouble(part string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trouble[part] = err
}

// Hint makes the service look at a repository's remote now, whichever instance
// watches it. It is all that a webhook can do. An unknown name does nothing.
func (r *Reconciler) Hint(repository string) {
	r.hintHere(repository)
	if r.watches[repository] == nil || !r.Store.Shared() {
		return
	}
	go func() { // the caller must not wait for the database
		ctx, cancel := context.WithTimeout(r.hard, 10*time.Second)
		defer cancel()
		if err := r.Store.Ask(ctx, leadLease); err != nil && ctx.Err() == nil {
			r.log.Warn("the instance that leads could not be told to look; it does at its next poll", "error", err)
		}
	}()
}

func (r *Reconciler) hintHere(repository string) {
	if w := r.watches[repository]; w != nil {
		select {
		case w.hint <- struct{}{}:
		default:
		}
	}
}

// runsDir is the folder beneath which every run has its own.
func (r *Reconciler) runsDir() string { return filepath.Join(r.Config.Config.Server.DataDir, "runs") }
