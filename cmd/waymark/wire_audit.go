package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/server"
	"github.com/waymark-cd/waymark/store"
)

// auditKeys signs the audit log's checkpoints.
type auditKeys struct {
	store  *store.Store
	origin string // as configured; may be empty
	given  string // private key of the configuration; empty: the database keeps one
}

// openAuditKeys sees to it that a key signs: the configured one, or one that is
// made at the first start.
func openAuditKeys(ctx context.Context, cfg *config.Config, s *store.Store) (*auditKeys, error) {
	k := &auditKeys{store: s, origin: cfg.Audit.Origin, given: cfg.Audit.Key.Reveal()}
	if file := cfg.Audit.KeyFile; file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("%w: audit: reading key_file: %w", release.ErrInvalid, err)
		}
		k.given = strings.TrimSpace(string(text))
	}
	_, err := s.KeepSigningKey(ctx, k.next, audit.Entry{Reason: "the configuration asks for another key"})
	return k, err
}

// next is the key that should sign, given the one that does.
func (k *auditKeys) next(now store.AuditKey, is bool) (store.AuditKey, error) {
	if k.given != "" {
		verifier, origin, err := audit.VerifierOf(k.given)
		if err == nil && k.origin != "" && k.origin != origin {
			err = fmt.Errorf("%w audit key: it signs for %q, and audit { origin } is %q: make one with `waymark audit new-key %[3]s`, or change the origin", release.ErrInvalid, origin, k.origin)
		}
		return store.AuditKey{Verifier: verifier}, err
	}
	name, _, _ := strings.Cut(now.Verifier, "+")
	if is && now.Signer != "" && cmp.Or(k.origin, name) == name {
		return now, nil
	}
	return newAuditKey(cmp.Or(k.origin, name))
}

// newAuditKey makes a key; without an origin for a log of a random name.
func newAuditKey(origin string) (out store.AuditKey, err error) {
	if origin == "" {
		random := make([]byte, 8)
		rand.Read(random)
		origin = "waymark/" + hex.EncodeToString(random)
	}
	out.Signer, out.Verifier, err = audit.NewKey(origin)
	return out, err
}

// sign makes the signed checkpoint of a head.
func (k *auditKeys) sign(ctx context.Context, head audit.Head) (string, error) {
	key, err := k.store.SigningKey(ctx)
	if err != nil {
		return "", err
	}
	if key.Signer != "" {
		return audit.Sign(key.Signer, head)
	}
	if own, _, err := audit.VerifierOf(k.given); err != nil || own != key.Verifier {
		return "", fmt.Errorf("%w: checkpoints are signed by %s, and this instance is not given that key: give every instance the same audit { key }", release.ErrUnavailable, key.Verifier)
	}
	return audit.Sign(k.given, head)
}

// rotate makes a new key sign, in somebody's name.
func (k *auditKeys) rotate(ctx context.Context, actor, reason string) error {
	if k.given != "" {
		return fmt.Errorf("%w: the configuration gives the key: change audit { key } on every instance and restart them", release.ErrConflict)
	}
	_, err := k.store.KeepSigningKey(ctx, func(now store.AuditKey, _ bool) (store.AuditKey, error) {
		name, _, _ := strings.Cut(now.Verifier, "+")
		return newAuditKey(cmp.Or(k.origin, name))
	}, audit.Entry{Actor: actor, Reason: reason})
	return err
}

// openAudit makes what signs the audit log and hands it on.
func (s *service) openAudit(ctx context.Context, id string, log *slog.Logger, metrics prometheus.Registerer) (err error) {
	s.id = id
	if s.auditKeys, err = openAuditKeys(ctx, s.cfg, s.store); err != nil {
		return err
	}
	return errors.Join(s.openConsumers(ctx, log, metrics), s.openCopy(ctx, log))
}

// auditAPI is what the API needs for the audit log.
func (s *service) auditAPI() server.AuditConfig {
	return server.AuditConfig{Sign: s.auditKeys.sign, RotateKey: s.auditKeys.rotate, Consumers: s.shownConsumers()}
}
