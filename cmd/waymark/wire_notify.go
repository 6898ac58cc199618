package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/notify"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// longUnused is after which a place that nobody attended to begins at the end of
// the log again.
const longUnused = 7 * 24 * time.Hour

// checkNotifications finds templates that cannot be filled in.
func checkNotifications(cfg *config.Config) error {
	var problems config.Problems
	for _, n := range cfg.Notifications {
		if _, err := notify.ParseTemplate(n.Template); err != nil {
			problems = append(problems, n.ProblemAt(err.Error()))
		}
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}

// notificationNames lists the places outside that are told of runs, as they are
// on record.
func notificationNames(cfg *config.Config) (names []string) {
	for _, r := range cfg.Repositories {
		if r.Forge.Kind != "" {
			names = append(names, statusesOf(r))
		}
	}
	for _, n := range cfg.Notifications {
		names = append(names, messagesOf(n))
	}
	return names
}

func statusesOf(r config.Repository) string   { return "statuses " + r.Name }
func messagesOf(n config.Notification) string { return "notification " + n.Name }

// openNotifications makes what tells places outside of runs. It works while this
// instance leads, as what listens to events does.
func (s *service) openNotifications(log *slog.Logger, registry prometheus.Registerer) error {
	if err := checkNotifications(s.cfg); err != nil {
		return err
	}
	results, err := notify.NewResults(registry)
	if err != nil {
		return err
	}
	open := func(cfg notify.CourierConfig) error {
		cfg.Record, cfg.Logger, cfg.Results = told{s.store}, log, results
		c, err := notify.NewCourier(cfg)
		if err == nil {
			s.reconciler.Triggers = append(s.reconciler.Triggers, c.Run)
		}
		return err
	}
	for _, r := range s.cfg.Repositories {
		if r.Forge.Kind == "" {
			continue
		}
		f, err := notify.NewForge(notify.ForgeConfig{Kind: r.Forge.Kind, URL: r.Forge.URL, Repository: r.Forge.Repository,
			Token: r.Forge.Token.Reveal(), CAFile: r.Forge.CAFile, Deployments: r.Forge.Deployments})
		if err == nil {
			err = open(notify.CourierConfig{Name: statusesOf(r), Send: f.Send, Most: 1, Look: s.lookForStatus(r.Name)})
		}
		if err != nil {
			return fmt.Errorf("repository %q: %w", r.Name, err)
		}
	}
	for _, n := range s.cfg.Notifications {
		c, err := notify.NewChat(notify.ChatConfig{Name: n.Name, Kind: n.Kind, URL: n.URL.Reveal(), Secret: n.Secret.Reveal(),
			Template: n.Template, CAFile: n.CAFile})
		if err == nil {
			err = open(notify.CourierConfig{Name: messagesOf(n), Send: c.Send, Batch: n.Batch, Look: s.lookForMessage(n)})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lookForStatus wants what says something of a commit of the repository: not
// looks for drift, and not runs that a later one of the same commit follows.
func (s *service) lookForStatus(repository string) func(context.Context, notify.Event) (notify.Notice, bool, error) {
	return func(ctx context.Context, e notify.Event) (notify.Notice, bool, error) {
		n, there, err := s.notice(ctx, e)
		if err != nil || !there || n.Run.Repository != repository || n.Run.Kind == release.Drift {
			return n, false, err
		}
		later, err := s.store.RunsOfCommit(ctx, n.Run)
		return n, later == 0, err
	}
}

func (s *service) lookForMessage(of config.Notification) func(context.Context, notify.Event) (notify.Notice, bool, error) {
	return func(ctx context.Context, e notify.Event) (notify.Notice, bool, error) {
		n, there, err := s.notice(ctx, e)
		return n, there && of.Wants(n.Run.Target, n.Run.State), err
	}
}

// notice reads a run as it is now; there is false where it was forgotten.
func (s *service) notice(ctx context.Context, e notify.Event) (n notify.Notice, there bool, err error) {
	n = notify.Notice{Index: e.Index}
	n.Run, err = s.store.Run(ctx, e.RunID)
	if errors.Is(err, release.ErrNotFound) {
		return n, false, nil
	}
	if base := strings.TrimSuffix(s.cfg.Server.URL, "/"); base != "" {
		n.URL = base + "/runs/" + release.FormatID(e.RunID)
	}
	return n, err == nil, err
}

// told gives couriers the audit log and their positions.
type told struct{ store *store.Store }

var _ notify.Record = told{}

func (t told) Open(ctx context.Context, name string) (int64, error) {
	n, err := t.store.OpenNotification(ctx, name, longUnused)
	return n.Position, err
}

func (t told) Read(ctx context.Context, from int64, limit int) (events []notify.Event, next int64, err error) {
	entries, err := t.store.Entries(ctx, from, limit)
	next = from
	for _, e := range entries {
		if next = e.Index + 1; e.RunID != 0 {
			events = append(events, notify.Event{Index: e.Index, RunID: e.RunID})
		}
	}
	return events, next, err
}

func (t told) Tell(ctx context.Context, name string, s notify.Step) error {
	return t.store.Tell(ctx, name, s.From, s.To, s.Told, s.Dropped, s.Reason)
}

func (t told) Fail(ctx context.Context, name, reason string, again time.Duration) error {
	return t.store.FailToTell(ctx, name, reason, again)
}
