package main

import (
	"context"
	"fmt"
	"time"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/reconciler"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/server"
)

// withPages adds what the pages show beside what the API does.
func withPages(cfg *config.Config, remotes map[string]reconciler.Remote, web server.Config) server.Config {
	web.Changes = func(ctx context.Context, repository, from, to string, most int) ([]server.Commit, bool, error) {
		r, ok := remotes[repository].(remote)
		if !ok {
			return nil, false, fmt.Errorf("repository %q: %w", repository, release.ErrNotFound)
		}
		entries, more, err := r.repo.Log(ctx, from, to, most)
		commits := make([]server.Commit, len(entries))
		for i, e := range entries {
			commits[i] = server.Commit{ID: e.Commit, Author: e.Author, Subject: e.Subject}
		}
		return commits, more, err
	}
	web.Opening = func(t release.Target, at time.Time) (open bool, until time.Time, which string) {
		if env, ok := cfg.Environment(t.Env); !ok || len(env.Windows) == 0 && len(env.Freezes) == 0 {
			return true, time.Time{}, ""
		}
		o := cfg.Opening(t, at, nil) // what people have set is shown as what it is
		return o.Open, o.Until, o.Which
	}
	web.Public = func(name string) bool {
		env, ok := cfg.Environment(name)
		return ok && env.Public
	}
	web.Source = sourceOf(cfg)
	for _, r := range cfg.Repositories {
		web.Repositories = append(web.Repositories, r.Name)
	}
	return web
}
