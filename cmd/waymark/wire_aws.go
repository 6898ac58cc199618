package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkcredentials "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/waymark-cd/waymark/backends"
	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/credentials"
	"github.com/waymark-cd/waymark/reconciler"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/triggers"
)

// cloud is how one installation reaches AWS.
type cloud struct {
	cfg      *config.Config
	settings credentials.Settings
	own      aws.Config // the service's own identity
	broker   *credentials.Broker
}

// usesAWS reports whether anything in the configuration needs AWS.
func usesAWS(cfg *config.Config) bool {
	return !cfg.Credentials.RunRole.IsZero() || cfg.Backend.Type == "s3" || len(cfg.Triggers) > 0 || cfg.Blobs.Bucket != "" || cfg.Audit.Copy.Bucket != "" ||
		slices.ContainsFunc(cfg.Repositories, func(r config.Repository) bool { return r.CodeCommit != "" })
}

// newCloud finds the service's own identity; nobody is asked yet. profile, where
// given, wins over the configured one.
func newCloud(ctx context.Context, cfg *config.Config, profile string) (*cloud, error) {
	if profile == "" {
		profile = cfg.AWS.Profile
	}
	c := &cloud{cfg: cfg, settings: credentials.Settings{Region: cfg.AWS.Region, Profile: profile,
		Endpoints: cfg.AWS.Endpoints, CABundle: cfg.AWS.CABundle, Proxy: cfg.AWS.Proxy}}
	var err error
	if c.own, err = credentials.Load(ctx, c.settings); err != nil {
		return nil, fmt.Errorf("aws: %w", err)
	}
	c.broker = credentials.New(c.own, c.settings)
	return c, nil
}

// session opens what one phase of a run reaches AWS with.
func (c *cloud) session(ctx context.Context, req reconciler.SessionRequest) (reconciler.Session, error) {
	if req.Deployment.RunRole == "" {
		return reconciler.Session{}, fmt.Errorf("%w: credentials.run_role is empty for %s: a run without it would have no identity of its own",
			release.ErrRefused, req.Deployment.Target)
	}
	g, err := c.broker.Open(ctx, c.request(req))
	if err != nil {
		return reconciler.Session{}, err
	}
	files, err := g.Files(req.Dir)
	out := reconciler.Session{Name: g.Run.Name, Env: g.Environment(req.Dir), Files: files,
		Backend: g.BackendValues(), RefreshAt: g.RefreshAt()}
	if backend := req.Deployment.Backend; backend.Type == "s3" {
		out.State = func(ctx context.Context) (release.StateMark, error) { return markOf(ctx, c.as(g.Run), backend) }
	}
	return out, err
}

// as is a client with the identity of a session.
func (c *cloud) as(s credentials.Session) *backends.Client {
	identity := c.own.Copy()
	identity.Credentials = sdkcredentials.NewStaticCredentialsProvider(s.AccessKeyID, s.SecretAccessKey, s.SessionToken)
	return backends.New(backends.S3Config{AWS: identity, Endpoints: c.settings.Endpoints})
}

func markOf(ctx context.Context, c *backends.Client, spec release.BackendSpec) (mark release.StateMark, err error) {
	mark.Serial, mark.Lineage, err = c.StateSerial(ctx, spec)
	return mark, err
}

func (c *cloud) request(req reconciler.SessionRequest) credentials.Request {
	d := req.Deployment
	out := credentials.Request{RunID: req.RunID, Tag: req.Tag, Target: d.Target, Account: d.Account, Region: d.Region,
		Phase: req.Phase, Backend: d.Backend, RunRole: d.RunRole, ExternalID: d.ExternalID, Lifetime: req.Lifetime,
		Renewal: req.Renewal, TwoProfiles: d.PlanRole != "" || d.ApplyRole != ""}
	out.AccountRole = d.PlanRole
	if req.Phase == release.PhaseApply {
		out.AccountRole = d.ApplyRole
	}
	if c.cfg.Credentials.SourceIdentity == "run" {
		out.SourceIdentity = "waymark-run-" + release.FormatID(req.RunID)
	}
	return out
}

// gitCredentials makes a CodeCommit repository's passwords.
func (c *cloud) gitCredentials(region string) func(context.Context, string) (string, string, error) {
	return func(ctx context.Context, url string) (username, password string, err error) {
		return c.broker.GitCredentials(ctx, url, region)
	}
}

// openQueues makes what listens to the queues of the configuration.
func (s *service) openQueues(log *slog.Logger, metrics prometheus.Registerer) error {
	repositories := map[string]string{}
	for _, r := range s.cfg.Repositories {
		if name := r.CodeCommitName(); name != "" {
			repositories[name] = r.Name
		}
	}
	for _, t := range s.cfg.Triggers {
		q, err := triggers.New(triggers.Config{AWS: s.cloud.own, Endpoint: s.cfg.AWS.Endpoints["sqs"], QueueURL: t.QueueURL,
			Region: t.Region, Repositories: repositories, SetAside: filepath.Join(s.cfg.Server.DataDir, "set-aside"),
			Look: s.reconciler.Look, Logger: log, Metrics: metrics})
		if err != nil {
			return fmt.Errorf("trigger %q: %w", t.Kind, err)
		}
		s.queues = append(s.queues, q)
		s.reconciler.Triggers = append(s.reconciler.Triggers, q.Run)
	}
	return nil
}

// lockOwner is how an engine that this process starts names itself in a lock.
func lockOwner() string {
	host, err := os.Hostname()
	if err != nil {
		return ""
	}
	name := ""
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return name + "@" + host
}

// stateLocks looks at locks with the identity that runs have, or with the
// service's own where runs get none from it.
type stateLocks struct{ cloud *cloud }

// client looks at a target's state with its own narrow session.
func (l stateLocks) client(ctx context.Context, of *config.Deployment) (*backends.Client, error) {
	if of.Backend.Type != "s3" {
		return backends.New(backends.S3Config{}), nil // says itself what it cannot look at
	}
	if of.RunRole != "" {
		r := l.cloud.request(reconciler.SessionRequest{Phase: release.PhasePlan, Deployment: of, Lifetime: time.Minute})
		r.Account, r.AccountRole, r.TwoProfiles = "", "", false // nothing in the target's account is asked
		g, err := l.cloud.broker.Open(ctx, r)
		if err != nil {
			return nil, err
		}
		return l.cloud.as(g.Run), nil
	}
	return backends.New(backends.S3Config{AWS: l.cloud.own.Copy(), Endpoints: l.cloud.settings.Endpoints}), nil
}

// List gives the locks that keep others out of one state.
func (l stateLocks) List(ctx context.Context, of *config.Deployment) ([]release.StateLock, error) {
	c, err := l.client(ctx, of)
	if err != nil {
		return nil, err
	}
	found, err := c.Locks(ctx, of.Backend)
	var out []release.StateLock
	for _, f := range found {
		if f.Held {
			out = append(out, release.StateLock{Kind: f.Kind, Where: f.Where, ID: f.ID, Who: f.Who, Operation: f.Operation, Created: f.Created})
		}
	}
	return out, err
}

// State tells which version of a state is there.
func (l stateLocks) State(ctx context.Context, of *config.Deployment) (release.StateMark, error) {
	c, err := l.client(ctx, of)
	if err != nil {
		return release.StateMark{}, err
	}
	return markOf(ctx, c, of.Backend)
}

// Release frees one lock of a state, by its id.
func (l stateLocks) Release(ctx context.Context, of *config.Deployment, lock release.StateLock) error {
	c, err := l.client(ctx, of)
	if err != nil {
		return err
	}
	return c.Unlock(ctx, of.Backend, lock.ID, lock.Kind)
}
