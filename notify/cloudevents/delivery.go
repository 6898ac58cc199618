package cloudevents

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"path"
	"time"
)

// Place is where in the log a consumer is.
type Place struct {
	Position int64 // index of the next entry
	Behind   int64 // entries from there on
	Failures int64 // in a row
	Due      bool  // whether it may be tried now
}

// DeliveryConfig is what one consumer's delivery needs. The functions are given;
// all of them are required but Count.
type DeliveryConfig struct {
	Name   string
	Events []string // actions to send, * standing for any text; none: all
	// Where tells where the consumer is. It is asked again and again, because
	// people may move it.
	Where func(ctx context.Context) (Place, error)
	// Read gives entries from an index on, and the name of their log.
	Read func(ctx context.Context, from int64, limit int) (source string, entries []Entry, err error)
	// Send sends one; a *Refusal may say how long to wait.
	Send func(ctx context.Context, source string, e Entry) error
	// Moved keeps the new place, unless somebody has moved the consumer meanwhile:
	// then it reports false. sent is false for entries that are not for it.
	Moved func(ctx context.Context, from, to int64, sent bool) (bool, error)
	// Failed keeps that the entry at a place was not taken, and until when to wait.
	Failed func(ctx context.Context, at int64, why string, wait time.Duration) error
	// Count counts attempts by their result: sent, skipped or failed.
	Count  func(result string)
	Every  time.Duration // between looks at the log; 0: 1 s
	Logger *slog.Logger
}

const (
	batch        = 32 // entries that are in memory at once, of 64 KiB at most each
	firstWait    = time.Second
	longestWait  = 5 * time.Minute
	longestAsked = time.Hour // that a receiver may ask for
)

// Deliver hands the log to a consumer until ctx ends. Whatever fails is tried
// again; it returns nothing but ctx's end.
func Deliver(ctx context.Context, cfg DeliveryConfig) {
	if cfg.Every <= 0 {
		cfg.Every = time.Second
	}
	if cfg.Count == nil {
		cfg.Count = func(string) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	tick := time.NewTicker(cfg.Every)
	defer tick.Stop()
	for {
		more, err := cfg.round(ctx)
		if err != nil && ctx.Err() == nil {
			cfg.Logger.Error("a consumer's place cannot be read or kept, trying again", "consumer", cfg.Name, "error", err)
		}
		if more && err == nil && ctx.Err() == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// round sends what is there, as far as one batch goes, and reports whether to go
// on at once.
func (cfg DeliveryConfig) round(ctx context.Context) (more bool, err error) {
	p, err := cfg.Where(ctx)
	if err != nil || !p.Due || p.Behind == 0 {
		return false, err
	}
	source, entries, err := cfg.Read(ctx, p.Position, batch)
	if err != nil || len(entries) == 0 {
		return false, err
	}
	at := p.Position
	for _, e := range entries {
		if !cfg.wants(e.Action) {
			cfg.Count("skipped")
			continue
		}
		if at, err = cfg.move(ctx, at, e.Index, false); err != nil || at < 0 {
			return at < 0, err
		}
		if err := cfg.Send(ctx, source, e); err != nil {
			if ctx.Err() != nil {
				return false, nil
			}
			return false, cfg.fail(ctx, e.Index, p.Failures, err)
		}
		cfg.Count("sent")
		p.Failures = 0
		if at, err = cfg.move(ctx, at, e.Index+1, true); err != nil || at < 0 {
			return at < 0, err
		}
	}
	_, err = cfg.move(ctx, at, entries[len(entries)-1].Index+1, false)
	return err == nil, err
}

// move keeps a new place and returns it, or -1 where somebody else has moved the
// consumer.
func (cfg DeliveryConfig) move(ctx context.Context, from, to int64, sent bool) (int64, error) {
	if from == to {
		return to, nil
	}
	moved, err := cfg.Moved(ctx, from, to, sent)
	if err == nil && !moved {
		to = -1
	}
	return to, err
}

// fail keeps a failure. The wait grows from a second to minutes, or is what the
// receiver asked for; it is kept too, so that neither a restart nor another
// instance knocks sooner.
func (cfg DeliveryConfig) fail(ctx context.Context, at, failures int64, why error) error {
	cfg.Count("failed")
	wait := longestWait
	if failures < 20 {
		wait = min(longestWait, firstWait<<failures)
	}
	wait -= time.Duration(rand.Int64N(int64(wait) / 5)) // so that many do not knock at once
	var r *Refusal
	if errors.As(why, &r) && r.Wait > wait {
		wait = min(r.Wait, longestAsked)
	}
	if failures == 0 {
		cfg.Logger.Warn("a consumer does not take an entry, it is tried again", "consumer", cfg.Name, "entry", at, "error", why)
	}
	return cfg.Failed(ctx, at, why.Error(), wait)
}

// wants reports whether an action is among those to send.
func (cfg DeliveryConfig) wants(action string) bool {
	if len(cfg.Events) == 0 {
		return true
	}
	for _, pattern := range cfg.Events {
		if ok, err := path.Match(pattern, action); ok && err == nil {
			return true
		}
	}
	return false
}
