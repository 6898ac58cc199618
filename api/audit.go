package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// AuditCheckpoint is the answer to GET audit/checkpoint: the head of the audit
// log, signed. The other members repeat what the note says.
type AuditCheckpoint struct {
	Note     string `json:"note" doc:"The checkpoint as a signed note (C2SP tlog-checkpoint); keep this text" example:"waymark.example.org/audit\n5\nmxBH…=\n\n— waymark.example.org/audit Az3g…\n"`
	Origin   string `json:"origin" doc:"Name of the log, and of the key" example:"waymark.example.org/audit"`
	Size     int64  `json:"size"`
	Root     string `json:"root" doc:"RFC 6962 tree hash of the first size entries, base64"`
	Verifier string `json:"verifier" doc:"The key that signed, as the service knows it" example:"waymark.example.org/audit+3f1c2d5a+AZ…"`
}

// AuditKey is the public half of a key that signs checkpoints, or did.
type AuditKey struct {
	Verifier  string    `json:"verifier" example:"waymark.example.org/audit+3f1c2d5a+AZ…"`
	Signs     bool      `json:"signs" doc:"Whether it is the one that signs now"`
	CreatedAt time.Time `json:"created_at"`
	RetiredAt time.Time `json:"retired_at,omitzero" doc:"Absent for the one that signs"`
}

// AuditKeyList is the answer to GET audit/keys, the key that signs first.
type AuditKeyList struct {
	Keys []AuditKey `json:"keys" nullable:"false"`
}

// RotateKey is the body of audit/rotate-key.
type RotateKey struct {
	_      struct{} `additionalProperties:"false"` // a misspelt member is an error
	Reason string   `json:"reason,omitempty" maxLength:"1000" doc:"Why; it goes into the audit log"`
}

// InclusionProof proves that one entry is in the log of the first size entries.
type InclusionProof struct {
	Index    int64    `json:"index"`
	Size     int64    `json:"size"`
	LeafHash string   `json:"leaf_hash" doc:"RFC 6962 leaf hash of the entry, base64"`
	Hashes   []string `json:"hashes" nullable:"false" doc:"From the leaf to the root, base64 (RFC 6962, section 2.1.1)"`
	Root     string   `json:"root" doc:"Of the first size entries, base64"`
}

// ConsistencyProof proves that the log of the first to entries begins with that
// of the first from.
type ConsistencyProof struct {
	From     int64    `json:"from"`
	To       int64    `json:"to"`
	Hashes   []string `json:"hashes" nullable:"false" doc:"base64 (RFC 6962, section 2.1.2)"`
	FromRoot string   `json:"from_root" doc:"base64"`
	ToRoot   string   `json:"to_root" doc:"base64"`
}

// AuditCheckpoint gives the signed head of the audit log.
func (c *Client) AuditCheckpoint(ctx context.Context) (AuditCheckpoint, error) {
	return get[AuditCheckpoint](ctx, c, "audit/checkpoint", nil)
}

// AuditKeys lists the keys that checkpoints are verified with.
func (c *Client) AuditKeys(ctx context.Context) (AuditKeyList, error) {
	return get[AuditKeyList](ctx, c, "audit/keys", nil)
}

// RotateAuditKey makes a new key for checkpoints, and gives all of them.
func (c *Client) RotateAuditKey(ctx context.Context, r RotateKey) (AuditKeyList, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return AuditKeyList{}, fmt.Errorf("encoding the request: %w", err)
	}
	return call[AuditKeyList](ctx, c, http.MethodPost, "audit/rotate-key", nil, body)
}

// AuditInclusion proves that the entry at index is among the first size.
func (c *Client) AuditInclusion(ctx context.Context, index, size int64) (InclusionProof, error) {
	return get[InclusionProof](ctx, c, "audit/proof/inclusion",
		query("index", strconv.FormatInt(index, 10), "size", strconv.FormatInt(size, 10)))
}

// AuditConsistency proves that the log had grown, and nothing else, between two sizes.
func (c *Client) AuditConsistency(ctx context.Context, from, to int64) (ConsistencyProof, error) {
	return get[ConsistencyProof](ctx, c, "audit/proof/consistency",
		query("from", strconv.FormatInt(from, 10), "to", strconv.FormatInt(to, 10)))
}

// maxTile bounds a tile, in bytes: 256 entries of 64 KiB.
const maxTile = 17 << 20

// AuditTile gives a tile of the audit log by its path below /audit/tile/, such
// as 0/x001/234.p/5 (C2SP tlog-tiles).
func (c *Client) AuditTile(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, fmt.Errorf("no answer within %s", answerTimeout))
	defer cancel()
	resp, err := c.sendTo(ctx, http.MethodGet, c.base.String()+"/audit/tile/"+path, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxTile+1))
	if err != nil {
		return nil, c.failed(ctx, err)
	}
	if len(data) > maxTile {
		return nil, fmt.Errorf("tile %s of %s is larger than %d bytes", path, c.base, maxTile)
	}
	return data, nil
}
