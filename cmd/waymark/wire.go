package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
	goversion "github.com/hashicorp/go-version"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/gitrepo"
	"github.com/waymark-cd/waymark/mask"
	"github.com/waymark-cd/waymark/reconciler"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/runner"
	"github.com/waymark-cd/waymark/server"
	"github.com/waymark-cd/waymark/store"
	"github.com/waymark-cd/waymark/telemetry"
	"github.com/waymark-cd/waymark/terraform"
	"github.com/waymark-cd/waymark/triggers"
)

// service is one wired installation.
type service struct {
	cfg        *config.Config
	options    serveOptions
	store      *store.Store
	reconciler *reconciler.Reconciler
	server     *server.Server
	cloud      *cloud // nil where nothing needs AWS
	queues     []*triggers.Queue
	id         string // of this instance
	auditKeys  *auditKeys
	telemetry  *telemetry.Exporter     // nil where no run is traced
	background []func(context.Context) // what goes on beside the runs until its context ends
	close      []func() error
}

// newService opens everything that a configuration names. The options are
// complete; hide takes secrets out of what is stored. It starts nothing; Close
// undoes it.
func newService(ctx context.Context, cfg *config.Config, options serveOptions, hide *mask.Mask, log *slog.Logger) (s *service, err error) {
	s = &service{cfg: cfg, options: options}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := approvalsInReach(cfg); err != nil {
		return s, err
	}
	judgeTag, err := tagPolicies(ctx, cfg)
	if err != nil {
		return s, err
	}
	for _, text := range weakenedRules(cfg) {
		log.Warn("bundled policy rules are weakened by the configuration", "where", text)
	}
	unlock, err := lockDataDir(cfg.Server.DataDir)
	if err != nil {
		return s, err
	}
	s.close = append(s.close, unlock)
	id, err := instanceID(cfg.Server.DataDir)
	if err != nil {
		return s, err
	}
	engine, err := findEngine(ctx, cfg)
	if err != nil {
		return s, err
	}
	gate, err := newGateKeeper(cfg, engine, log)
	if err != nil {
		return s, err
	}
	if s.store, err = openStore(ctx, cfg, hide, log); err != nil {
		return s, err
	}
	s.close = append(s.close, s.store.Close)
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if log, err = s.openTelemetry(ctx, id, log, registry); err != nil {
		return s, err
	}
	if usesAWS(cfg) {
		if s.cloud, err = newCloud(ctx, cfg, ""); err != nil {
			return s, err
		}
	}
	remotes, err := s.openRemotes(log)
	if err != nil {
		return s, err
	}
	launcher, err := runner.NewLauncher(runner.LauncherConfig{Logger: log})
	if err != nil {
		return s, err
	}
	s.close = append(s.close, func() error { launcher.Close(); return nil })
	driving := reconciler.Config{Config: cfg, Store: s.store, Remotes: remotes, Runners: runners{launcher}, Engine: engine,
		Gate: gate.check, Locks: stateLocks{s.cloud}, LockOwner: lockOwner(), Instance: s.instance(id), Pools: options.Pools, Logger: log, Metrics: registry}
	driving.Heartbeat, driving.KeepState = cfg.Server.Heartbeat, runner.KeepState
	driving.Rev = revs(remotes)
	driving.JudgeTag = judgeTag
	if err := s.openReconciler(ctx, driving, hide); err != nil {
		return s, err
	}
	if err := s.openQueues(log, registry); err != nil {
		return s, err
	}
	if err := s.openNotifications(log, registry); err != nil {
		return s, err
	}
	if err := s.openAudit(ctx, id, log, registry); err != nil {
		return s, err
	}
	return s, s.openServer(id, remotes, log, registry)
}

// openReconciler makes what drives the runs, with what it needs beside its
// configuration.
func (s *service) openReconciler(ctx context.Context, driving reconciler.Config, hide *mask.Mask) (err error) {
	if driving.Blobs, err = s.openBlobs(ctx); err != nil {
		return err
	}
	if !s.cfg.Credentials.RunRole.IsZero() {
		driving.Session = s.cloud.session
	}
	if s.telemetry != nil {
		driving.Trace = maskedSpans(s.telemetry.Span, hide)
	}
	s.reconciler, err = reconciler.New(driving)
	return err
}

// openServer makes what answers requests, over all that is open.
func (s *service) openServer(id string, remotes map[string]reconciler.Remote, log *slog.Logger, registry *prometheus.Registry) error {
	web, err := withIdentity(s.cfg, withPages(s.cfg, remotes, server.Config{Store: s.store, Decide: s.reconciler.Decide, Evidence: s.reconciler.Evidence,
		Locks: s.reconciler.StateLocks, Unlock: s.reconciler.Unlock, Hint: s.reconciler.Hint, Order: s.reconciler.Order,
		Logs: s.reconciler.Logs, Ready: s.ready, FromRun: runner.CalledByRun, WebhookSecrets: webhookSecrets(s.cfg), Notifications: notificationNames(s.cfg),
		TraceID: s.traceID(), Audit: s.auditAPI(), Drain: s.drain, Self: id, ConfigDigest: s.cfg.Digest, Heartbeat: s.cfg.Server.Heartbeat,
		Version: versionText(), Logger: log, Registry: registry}))
	if err != nil {
		return err
	}
	s.server, err = server.New(web)
	return err
}

// Close frees everything, the last opened first.
func (s *service) Close() error {
	var errs []error
	for i := len(s.close) - 1; i >= 0; i-- {
		errs = append(errs, s.close[i]())
	}
	s.close = nil
	return errors.Join(errs...)
}

func (s *service) ready(ctx context.Context) []server.Check {
	var out []server.Check
	for _, c := range s.reconciler.Ready(ctx) {
		out = append(out, server.Check{Name: c.Name, OK: c.OK, Detail: c.Detail})
	}
	for _, q := range s.queues {
		_, detail := q.Ready() // events only hasten a look: without them the service is ready all the same
		out = append(out, server.Check{Name: "trigger sqs", OK: true, Detail: detail})
	}
	return append(out, s.readyConsumers(ctx)...)
}

func (s *service) openRemotes(log *slog.Logger) (map[string]reconciler.Remote, error) {
	remotes := map[string]reconciler.Remote{}
	signers, err := loadSigners(s.cfg)
	if err != nil {
		return nil, err
	}
	for _, r := range s.cfg.Repositories {
		var passwords func(context.Context, string) (string, string, error)
		if r.CodeCommit != "" {
			passwords = s.cloud.gitCredentials(r.CodeCommit)
		}
		repo, err := gitrepo.Open(gitrepo.Config{Name: r.Name, URL: r.URL, Branch: r.Branch, Credentials: passwords,
			CacheDir:   filepath.Join(s.cfg.Server.DataDir, "repositories", r.Name),
			SSHKeyFile: r.SSHKey, KnownHostsFile: r.KnownHosts, Username: r.Username, Password: r.Password.Reveal(),
			CAFile: r.CAFile, Logger: log})
		if err != nil {
			return nil, err
		}
		s.close = append(s.close, repo.Close)
		remotes[r.Name] = remote{repo, signers}
	}
	return remotes, nil
}

func webhookSecrets(cfg *config.Config) map[string]string {
	out := map[string]string{}
	for _, r := range cfg.Repositories {
		if r.Webhook.Secret.IsSet() {
			out[r.Name] = r.Webhook.Secret.Reveal()
		}
	}
	return out
}

// openStore opens the database, and waits for one that does not answer yet.
func openStore(ctx context.Context, cfg *config.Config, hide *mask.Mask, log *slog.Logger) (*store.Store, error) {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = time.Second, 15*time.Second
	for {
		opened, err := store.Open(ctx, store.Config{URL: databaseURL(cfg), Logger: log, Mask: hide.Known})
		if !errors.Is(err, release.ErrUnavailable) || ctx.Err() != nil {
			return opened, err
		}
		log.Error("the service waits for its database", "error", err)
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(wait.NextBackOff()):
		}
	}
}

// databaseURL is the store's URL: the configured one, or a file of our own.
func databaseURL(cfg *config.Config) string {
	if url := cfg.Server.Database.Reveal(); url != "sqlite" {
		return url
	}
	return "sqlite://" + filepath.Join(cfg.Server.DataDir, "waymark.db")
}

// lockDataDir makes the data folder and takes it for this process alone.
func lockDataDir(dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the data folder: %w", err)
	}
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the data folder: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("%w: the data folder %s is in use by another waymark process: stop that one, or give this one its own server { data_dir }",
			release.ErrConflict, dir)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}

// instanceID is the name of this installation towards the database: made at the
// first start and kept.
func instanceID(dir string) (string, error) {
	path := filepath.Join(dir, "instance-id")
	kept, err := os.ReadFile(path)
	if err == nil && len(kept) > 0 {
		return strings.TrimSpace(string(kept)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("reading the installation's name: %w", err)
	}
	random := make([]byte, 8)
	rand.Read(random)
	host, _ := os.Hostname()
	id := host + "-" + hex.EncodeToString(random)
	if err := os.WriteFile(path, []byte(id+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keeping the installation's name: %w", err)
	}
	return id, nil
}

// findEngine finds the engine's executable and holds its version against the
// configured constraint.
func findEngine(ctx context.Context, cfg *config.Config) (release.EngineSpec, error) {
	e := cfg.Engine
	spec := release.EngineSpec{Kind: e.Kind, PluginDir: e.PluginDir, PluginCache: filepath.Join(cfg.Server.DataDir, "plugin-cache")}
	name := e.Path
	if name == "" {
		name = e.Kind
	}
	found, err := exec.LookPath(name)
	if err == nil {
		found, err = filepath.Abs(found)
	}
	if err != nil {
		return spec, fmt.Errorf("%w: engine: %s cannot be run: %v; install it, or set engine { path }", release.ErrInvalid, name, err)
	}
	spec.Path = found
	if err := os.MkdirAll(spec.PluginCache, 0o700); err != nil {
		return spec, fmt.Errorf("making the plug-in cache: %w", err)
	}
	has, err := engineVersion(ctx, e.Kind, found)
	if err != nil {
		return spec, fmt.Errorf("%w: engine: %s does not say its version: %v", release.ErrInvalid, found, err)
	}
	spec.Version = has
	if e.Version == "" {
		return spec, nil
	}
	want, err := goversion.NewConstraint(e.Version)
	if err != nil {
		return spec, fmt.Errorf("%w: engine: version %q: %v", release.ErrInvalid, e.Version, err)
	}
	if v, err := goversion.NewVersion(has); err != nil || !want.Check(v) {
		return spec, fmt.Errorf("%w: engine: %s is version %s, and the configuration asks for %q: install that version, or change engine { version }",
			release.ErrInvalid, found, has, e.Version)
	}
	return spec, nil
}

func engineVersion(ctx context.Context, kind, path string) (string, error) {
	dir, err := os.MkdirTemp("", "waymark-engine-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	e, err := terraform.New(terraform.Config{Path: path, Kind: kind, Dir: dir, ScratchDir: dir,
		Env: map[string]string{"PATH": os.Getenv("PATH"), "HOME": dir, "TMPDIR": dir}, Log: func(string) {}})
	if err != nil {
		return "", err
	}
	return e.Version(ctx)
}

// remote gives the reconciler a git repository.
type remote struct {
	repo    *gitrepo.Repository
	signers signers
}

func (r remote) List(ctx context.Context) (reconciler.Listing, error) {
	l, err := r.repo.List(ctx)
	if err != nil {
		return reconciler.Listing{}, err
	}
	tags := make([]reconciler.Ref, len(l.Tags))
	for i, t := range l.Tags {
		tags[i] = reconciler.Ref(t)
	}
	return reconciler.Listing{Tags: tags, Digest: l.Digest}, nil
}

func (r remote) Inspect(ctx context.Context, refs []reconciler.Ref) ([]reconciler.Inspection, error) {
	asked := make([]gitrepo.Ref, len(refs))
	for i, ref := range refs {
		asked[i] = gitrepo.Ref(ref)
	}
	err := r.repo.Fetch(ctx, asked)
	if errors.Is(err, gitrepo.ErrTooLarge) {
		err = fmt.Errorf("%w: %w", release.ErrRefused, err)
	}
	if err != nil {
		return nil, err
	}
	out := make([]reconciler.Inspection, len(refs))
	for i, ref := range asked {
		info, err := r.repo.Tag(ctx, ref)
		if errors.Is(err, release.ErrRefused) {
			out[i] = reconciler.Inspection{Commit: ref.Commit, Refusal: err}
			continue
		}
		if err != nil {
			return nil, err
		}
		reachable, err := r.repo.Reachable(ctx, info.Commit)
		if err != nil {
			return nil, err
		}
		out[i] = reconciler.Inspection{Commit: info.Commit, Tagger: info.Tagger, TaggedAt: info.TaggedAt,
			Message: info.Message, Signature: info.Signature, Reachable: reachable, Author: info.Author, Committer: info.Committer}
	}
	return out, nil
}

func (r remote) Checkout(ctx context.Context, commit, dir string) (string, error) {
	return r.repo.Export(ctx, commit, dir)
}

func (r remote) Files(commit string) config.Files { return r.repo.Files(commit) }

// runners gives the reconciler the runner processes.
type runners struct{ launcher *runner.Launcher }

func (r runners) Start(ctx context.Context, spec release.Spec) error {
	return r.launcher.Start(ctx, spec)
}

func (r runners) Find(dir string) (reconciler.Found, error) {
	for {
		status, err := runner.Find(dir)
		if err != nil {
			return "", err
		}
		switch status {
		case runner.Running:
			return reconciler.FoundAlive, nil
		case runner.Done:
			return reconciler.FoundDone, nil
		case runner.Gone:
			_, err := runner.KillLeftovers(dir) // so that nothing goes on behind a run's end
			return reconciler.FoundGone, err
		}
		err = runner.Claim(dir)
		if err == nil {
			return reconciler.FoundNever, nil
		}
		if !errors.Is(err, release.ErrConflict) {
			return "", err
		}
		// A runner was quicker: look again.
	}
}

func (r runners) Follow(ctx context.Context, dir string, each func(release.Event)) (release.Result, error) {
	res, err := runner.Follow(ctx, dir, 0, func(e release.Event, _ int64) { each(e) })
	if errors.Is(err, runner.ErrGone) {
		err = reconciler.ErrRunnerGone
		if _, left := runner.KillLeftovers(dir); left != nil {
			err = fmt.Errorf("%w; %w", err, left)
		}
	}
	return res, err
}

func (r runners) Interrupt(dir string) error { return runner.Interrupt(dir) }
