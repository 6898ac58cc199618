package server

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// AuditConfig is what the audit log needs beyond the store. A nil function is a
// part that this service does not have.
type AuditConfig struct {
	// Sign makes the signed checkpoint of a head.
	Sign func(ctx context.Context, head audit.Head) (string, error)
	// RotateKey makes a new key sign from now on.
	RotateKey func(ctx context.Context, actor, reason string) error
	// Consumers are those of the configuration.
	Consumers []ConsumerConfig
}

// rotateKey is an action of admins alone, on the whole service.
const rotateKey identity.Action = "rotate_audit_key"

// registerAudit adds what proves that the audit log is what it was.
func (s *Server) registerAudit(a huma.API) {
	register(s, a, get("audit/checkpoint", "get-audit-checkpoint", "The signed head of the audit log"), s.getCheckpoint)
	register(s, a, get("audit/keys", "list-audit-keys", "The keys that checkpoints are verified with, those of before too"), s.listAuditKeys)
	register(s, a, post("audit/rotate-key", "rotate-audit-key", "Let a new key sign checkpoints"), s.rotateAuditKey)
	register(s, a, get("audit/proof/inclusion", "prove-inclusion", "That an entry is in the audit log of a size"), s.proveInclusion)
	register(s, a, get("audit/proof/consistency", "prove-consistency", "That the audit log only grew between two sizes"), s.proveConsistency)
	s.registerConsumers(a)
	for path, summary := range map[string]string{
		"/audit/checkpoint":  "The signed head of the audit log as text (C2SP tlog-checkpoint)",
		"/audit/tile/{path}": "A tile of the audit log (C2SP tlog-tiles): <L>/<N>[.p/<W>], or entries/<N>[.p/<W>]",
	} {
		a.OpenAPI().AddOperation(rawOperation(path, summary))
	}
}

func rawOperation(path, summary string) *huma.Operation {
	op := get("", "", summary)
	op.Path, op.OperationID = path, "get-audit-tile"
	media := "application/octet-stream"
	if path == "/audit/checkpoint" {
		op.OperationID, media = "get-audit-note", "text/plain"
	} else {
		op.Parameters = []*huma.Param{{Name: "path", In: "path", Required: true, Description: "With its slashes", Schema: &huma.Schema{Type: huma.TypeString}}}
	}
	op.Responses["200"] = &huma.Response{Description: "Its bytes", Content: map[string]*huma.MediaType{
		media: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}}
	return &op
}

// mayAudit is nil where the person of the request may read the whole audit log.
func (s *Server) mayAudit(ctx context.Context) error {
	return s.may(ctx, identity.Audit, release.Target{})
}

// signedHead is the log's head now, signed.
func (s *Server) signedHead(ctx context.Context) (note string, head audit.Head, err error) {
	if err := s.mayAudit(ctx); err != nil {
		return "", head, err
	}
	if s.cfg.Audit.Sign == nil {
		return "", head, fmt.Errorf("%w: this service signs no checkpoints", release.ErrUnavailable)
	}
	if head, err = s.cfg.Store.AuditHead(ctx); err != nil {
		return "", head, err
	}
	note, err = s.cfg.Audit.Sign(ctx, head)
	return note, head, err
}

func (s *Server) getCheckpoint(ctx context.Context, _ *noInput) (api.AuditCheckpoint, error) {
	note, head, err := s.signedHead(ctx)
	if err != nil {
		return api.AuditCheckpoint{}, err
	}
	keys, err := s.cfg.Store.AuditKeys(ctx)
	if err != nil {
		return api.AuditCheckpoint{}, err
	}
	known := make([]string, len(keys))
	for i, k := range keys {
		known[i] = k.Verifier
	}
	c, by, err := audit.OpenCheckpoint(note, known...)
	return api.AuditCheckpoint{Note: note, Origin: c.Origin, Size: head.Size, Root: head.Root, Verifier: by}, err
}

func (s *Server) listAuditKeys(ctx context.Context, _ *noInput) (api.AuditKeyList, error) {
	if err := s.mayAudit(ctx); err != nil {
		return api.AuditKeyList{}, err
	}
	keys, err := s.cfg.Store.AuditKeys(ctx)
	return api.AuditKeyList{Keys: mapped(keys, func(k store.AuditKey) api.AuditKey {
		return api.AuditKey{Verifier: k.Verifier, Signs: k.RetiredAt.IsZero(), CreatedAt: utc(k.CreatedAt), RetiredAt: utc(k.RetiredAt)}
	})}, err
}

type rotateInput struct {
	Body *api.RotateKey // may be left out
}

func (s *Server) rotateAuditKey(ctx context.Context, in *rotateInput) (api.AuditKeyList, error) {
	if err := s.may(ctx, rotateKey, release.Target{}); err != nil {
		return api.AuditKeyList{}, err
	}
	if s.cfg.Audit.RotateKey == nil {
		return api.AuditKeyList{}, fmt.Errorf("%w: this service signs no checkpoints", release.ErrUnavailable)
	}
	reason := ""
	if in.Body != nil {
		reason = strings.TrimSpace(in.Body.Reason)
	}
	if err := s.cfg.Audit.RotateKey(ctx, s.actor(ctx), reason); err != nil {
		return api.AuditKeyList{}, err
	}
	return s.listAuditKeys(ctx, nil)
}

type inclusionInput struct {
	Index int64 `query:"index" minimum:"0" doc:"Of the entry"`
	Size  int64 `query:"size" minimum:"0" doc:"Of the log; 0 or absent: its size now"`
}

func (s *Server) proveInclusion(ctx context.Context, in *inclusionInput) (api.InclusionProof, error) {
	if err := s.mayAudit(ctx); err != nil {
		return api.InclusionProof{}, err
	}
	size, err := s.orNow(ctx, in.Size)
	if err != nil {
		return api.InclusionProof{}, err
	}
	leaf, proof, head, err := s.cfg.Store.InclusionProof(ctx, in.Index, size)
	return api.InclusionProof{Index: in.Index, Size: size, LeafHash: hashText(leaf), Hashes: mapped(proof, hashText), Root: head.Root}, err
}

type consistencyInput struct {
	From int64 `query:"from" minimum:"0" doc:"The smaller size"`
	To   int64 `query:"to" minimum:"0" doc:"The larger size; 0 or absent: that of now"`
}

func (s *Server) proveConsistency(ctx context.Context, in *consistencyInput) (api.ConsistencyProof, error) {
	if err := s.mayAudit(ctx); err != nil {
		return api.ConsistencyProof{}, err
	}
	to, err := s.orNow(ctx, in.To)
	if err != nil {
		return api.ConsistencyProof{}, err
	}
	proof, before, after, err := s.cfg.Store.ConsistencyProof(ctx, in.From, to)
	return api.ConsistencyProof{From: in.From, To: to, Hashes: mapped(proof, hashText), FromRoot: before.Root, ToRoot: after.Root}, err
}

// orNow is the log's size of now where no size is given.
func (s *Server) orNow(ctx context.Context, size int64) (int64, error) {
	if size > 0 {
		return size, nil
	}
	return s.cfg.Store.AuditSize(ctx)
}

func hashText(h tlog.Hash) string { return base64.StdEncoding.EncodeToString(h[:]) }

// serveTiles adds the addresses that clients of tiled logs know.
func (s *Server) serveTiles(mux *table) {
	mux.HandleFunc("GET /audit/checkpoint", s.checkpointText)
	mux.HandleFunc("GET /audit/tile/{path...}", s.tile)
}

func (s *Server) checkpointText(w http.ResponseWriter, r *http.Request) {
	note, _, err := s.signedHead(r.Context())
	if err != nil {
		s.writeProblem(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte(note)) // a caller that left cannot be told
}

// tile serves one tile. What a path names never changes, so that whoever may
// read it may keep it; a shared cache may not, because not everybody may.
func (s *Server) tile(w http.ResponseWriter, r *http.Request) {
	err := s.mayAudit(r.Context())
	var t audit.Tile
	if err == nil {
		t, err = audit.ParseTile(r.PathValue("path"))
	}
	var data []byte
	if err == nil {
		data, err = s.cfg.Store.Tile(r.Context(), t)
	}
	if err != nil {
		s.writeProblem(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "private, max-age=31536000, immutable")
	_, _ = w.Write(data) // a caller that left cannot be told
}
