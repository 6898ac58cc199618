package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/blobs"
	"github.com/waymark-cd/waymark/store"
)

const (
	copyConsumer = "copy"          // the copy's name among the consumers
	copyLook     = time.Second     // at most, between looks at the log
	copyStep     = 2 * time.Minute // for one file
	copyRetry    = 5 * time.Minute // the longest wait after a failure
)

// openCopy makes what copies the audit log to the folder or bucket of the
// configuration.
func (s *service) openCopy(ctx context.Context, log *slog.Logger) error {
	c := s.cfg.Audit.Copy
	if !c.IsSet() {
		return nil
	}
	if err := s.store.KeepConsumer(ctx, copyConsumer, store.CopyConsumer, false); err != nil {
		return err
	}
	cfg := blobs.Config{Folder: c.Folder}
	if c.Bucket != "" {
		own := s.cloud.own.Copy()
		if c.Region != "" {
			own.Region = c.Region
		}
		cfg.S3 = blobs.S3Config{AWS: own, Endpoint: s.cloud.settings.Endpoints["s3"], Bucket: c.Bucket, Prefix: c.Prefix, KMSKeyID: c.KMSKeyID,
			Lock: blobs.ObjectLock{For: c.ObjectLock, Compliance: c.ObjectLockMode == "compliance"}}
	}
	place, err := blobs.Open(ctx, cfg)
	if err != nil {
		return err
	}
	s.inBackground("audit copy", log, func(ctx context.Context) {
		l := logCopy{store: s.store, copier: audit.NewCopier(s.copyConfig(kept{place})), every: c.Every, log: log}
		l.run(ctx)
	})
	return nil
}

func (s *service) copyConfig(place kept) audit.CopyConfig {
	return audit.CopyConfig{Size: s.store.AuditSize, Read: s.store.Entries, HeadAt: s.store.HeadAt, Hashes: s.store.Hashes,
		Sign: s.auditKeys.sign, List: place.List,
		Verifiers: func(ctx context.Context) ([]string, error) {
			keys, err := s.store.AuditKeys(ctx)
			out := make([]string, len(keys))
			for i, k := range keys {
				out[i] = k.Verifier
			}
			return out, err
		},
		Put: func(ctx context.Context, key string, data []byte) error {
			return place.Put(ctx, key, bytes.NewReader(data))
		},
		Get: func(ctx context.Context, key string) ([]byte, error) {
			blob, err := place.Get(ctx, key)
			if err != nil {
				return nil, err
			}
			defer blob.Close()
			return io.ReadAll(blob)
		}}
}

// logCopy goes on with the copy of the audit log while this instance has the task.
type logCopy struct {
	store   *store.Store
	copier  *audit.Copier
	every   time.Duration
	log     *slog.Logger
	waiting time.Time // since when entries wait for others to be copied with
}

func (l *logCopy) run(ctx context.Context) {
	tick := time.NewTicker(min(copyLook, l.every))
	defer tick.Stop()
	for {
		more, err := l.round(ctx)
		if err != nil && ctx.Err() == nil {
			l.log.Error("how far the audit log's copy goes cannot be read or noted, trying again", "error", err)
		}
		if more && ctx.Err() == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// round copies a file of entries where there is one to copy, and notes how it went.
func (l *logCopy) round(ctx context.Context) (more bool, err error) {
	c, err := l.store.Consumer(ctx, copyConsumer)
	if err != nil || !c.Due {
		return false, err
	}
	step, cancel := context.WithTimeout(ctx, copyStep)
	defer cancel()
	n, err := l.copier.Step(step, !l.waiting.IsZero() && time.Since(l.waiting) >= l.every)
	if ctx.Err() != nil {
		return false, nil
	}
	at, known := l.copier.Copied()
	if !known {
		at = c.Position
	}
	if at != c.Position || err == nil && c.Failures > 0 {
		if _, err := l.store.Consumed(ctx, copyConsumer, c.Position, at, n > 0); err != nil {
			return false, err
		}
	}
	if err != nil {
		return false, l.failed(ctx, c, at, err)
	}
	switch {
	case n > 0 || c.Position+c.Lag <= at:
		l.waiting = time.Time{}
	case l.waiting.IsZero():
		l.waiting = time.Now()
	}
	return n > 0, nil
}

// failed notes a failure. The wait grows, and is kept for all instances.
func (l *logCopy) failed(ctx context.Context, c store.Consumer, at int64, why error) error {
	if c.Failures == 0 {
		l.log.Error("the audit log cannot be copied, trying again", "entry", at, "error", why)
	}
	wait := copyRetry
	if c.Failures < 9 {
		wait = min(wait, time.Second<<c.Failures)
	}
	return l.store.ConsumerFailed(ctx, copyConsumer, at, why.Error(), wait)
}
