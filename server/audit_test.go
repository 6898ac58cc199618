package server_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	tiles "github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/note"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/server"
	"github.com/waymark-cd/waymark/store"
)

const testOrigin = "waymark.example.org/audit"

// signing is a server whose checkpoints are signed, and their verifier.
func signing(t *testing.T, token string) (*world, string) {
	t.Helper()
	signer, verifier, err := audit.NewKey(testOrigin)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(cfg *server.Config) {
		cfg.Token = token
		cfg.Audit = server.AuditConfig{
			Sign: func(_ context.Context, head audit.Head) (string, error) { return audit.Sign(signer, head) },
			RotateKey: func(ctx context.Context, actor, reason string) error {
				_, err := cfg.Store.KeepSigningKey(ctx, func(store.AuditKey, bool) (store.AuditKey, error) {
					return store.AuditKey{Verifier: "another"}, nil
				}, audit.Entry{Actor: actor, Reason: reason})
				return err
			}}
	})
	_, err = w.store.KeepSigningKey(t.Context(), func(store.AuditKey, bool) (store.AuditKey, error) {
		return store.AuditKey{Verifier: verifier, Signer: signer}, nil
	}, audit.Entry{})
	if err != nil {
		t.Fatal(err)
	}
	return w, verifier
}

func (w *world) logEntries(n int) {
	w.t.Helper()
	for i := range n {
		if err := w.store.Log(w.t.Context(), audit.Entry{Actor: "ann", Action: "run.queued", Reason: fmt.Sprint(i, evil)}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestStandardClientsVerifyTheLog: a client of tiled logs that is not ours reads
// checkpoint and tiles, finds each entry included, follows the log as it grows,
// and notices that it was rewritten.
func TestStandardClientsVerifyTheLog(t *testing.T) {
	const token = "0123456789abcdef"
	w, verifier := signing(t, token)
	w.logEntries(300)
	v, err := note.NewVerifier(verifier)
	if err != nil {
		t.Fatal(err)
	}
	root, err := url.Parse(w.http.URL + "/audit/")
	if err != nil {
		t.Fatal(err)
	}
	fetcher, err := tiles.NewHTTPFetcher(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	fetcher.SetAuthorizationHeader("Bearer " + token)
	checkpoint, raw, _, err := tiles.FetchCheckpoint(t.Context(), fetcher.ReadCheckpoint, v, testOrigin)
	if err != nil || checkpoint.Size != 300 {
		t.Fatalf("checkpoint %+v, %v", checkpoint, err)
	}
	proofs, err := tiles.NewProofBuilder(t.Context(), checkpoint.Size, fetcher.ReadTile)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := w.store.Entries(t.Context(), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for bundle := range uint64(2) {
		b, err := tiles.GetEntryBundle(t.Context(), fetcher.ReadEntryBundle, bundle, checkpoint.Size)
		if err != nil {
			t.Fatal(err)
		}
		for i, leaf := range b.Entries {
			index := bundle*256 + uint64(i)
			if !bytes.Equal(leaf, entries[index].Leaf) {
				t.Fatalf("entry %d is %s", index, leaf)
			}
			path, err := proofs.InclusionProof(t.Context(), index)
			if err == nil {
				err = proof.VerifyInclusion(rfc6962.DefaultHasher, index, checkpoint.Size, rfc6962.DefaultHasher.HashLeaf(leaf), path, checkpoint.Hash)
			}
			if err != nil {
				t.Fatalf("entry %d: %v", index, err)
			}
		}
	}
	tracker, err := tiles.NewLogStateTracker(t.Context(), fetcher.ReadTile, raw, v, testOrigin, tiles.UnilateralConsensus(fetcher.ReadCheckpoint))
	if err != nil {
		t.Fatal(err)
	}
	w.logEntries(300)
	if _, _, _, err := tracker.Update(t.Context()); err != nil || tracker.Latest().Size != 600 {
		t.Errorf("at %d: %v", tracker.Latest().Size, err)
	}
	// Somebody with the database rewrites entry 7, with all hashes above it.
	testkit.OpenAuditLog(t, "sqlite://"+w.file).Rewrite(func(leaves []string) []string {
		leaves[7] = strings.Replace(leaves[7], "ann", "bob", 1)
		return leaves
	})
	w.logEntries(1)
	var inconsistent tiles.ErrInconsistency
	if _, _, _, err := tracker.Update(t.Context()); !errors.As(err, &inconsistent) {
		t.Errorf("a rewritten log: %v", err)
	}
}

func TestTilesOverHTTP(t *testing.T) {
	w, _ := signing(t, "")
	w.logEntries(257)
	for path, want := range map[string]int{
		"/audit/tile/0/000": 256 * 32, "/audit/tile/0/001.p/1": 32, "/audit/tile/1/000.p/1": 32, "/audit/tile/0/000.p/7": 7 * 32,
	} {
		resp, body := w.do("GET", path, "")
		if resp.StatusCode != 200 || len(body) != want || resp.Header.Get("Content-Type") != "application/octet-stream" ||
			!strings.Contains(resp.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d, %d bytes, %v", path, resp.StatusCode, len(body), resp.Header)
		}
	}
	for _, path := range []string{"/audit/tile/0/001", "/audit/tile/0/001.p/2", "/audit/tile/1/000", "/audit/tile/0/0", "/audit/tile/", "/audit/tile/entries/001.p/2",
		"/audit/tile/0/000/x", "/audit/tile/data/000", "/audit/tile/0/x999/x999/x999/x999/999"} {
		if resp, body := w.do("GET", path, ""); resp.StatusCode != 404 || !strings.Contains(body, "not_found") {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
	resp, body := w.do("GET", "/audit/checkpoint", "")
	if resp.StatusCode != 200 || !strings.HasPrefix(body, testOrigin+"\n257\n") || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v %s", resp.StatusCode, resp.Header, body)
	}
}

func TestAuditOverTheAPI(t *testing.T) {
	w, verifier := signing(t, "")
	w.logEntries(13)
	c, err := w.client.AuditCheckpoint(t.Context())
	if err != nil || c.Origin != testOrigin || c.Size != 13 || c.Verifier != verifier {
		t.Fatalf("checkpoint %+v, %v", c, err)
	}
	if opened, _, err := audit.OpenCheckpoint(c.Note, verifier); err != nil || opened.Root != c.Root {
		t.Errorf("it is signed for %+v, %v", opened, err)
	}
	in, err := w.client.AuditInclusion(t.Context(), 0, 13)
	if err != nil || in.Root != c.Root {
		t.Fatalf("inclusion %+v, %v", in, err)
	}
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, 0, 13, raw(t, in.LeafHash), raws(t, in.Hashes), raw(t, in.Root)); err != nil {
		t.Error(err)
	}
	grew, err := w.client.AuditConsistency(t.Context(), 5, 13)
	if err != nil || grew.ToRoot != c.Root {
		t.Fatalf("consistency %+v, %v", grew, err)
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, 5, 13, raws(t, grew.Hashes), raw(t, grew.FromRoot), raw(t, grew.ToRoot)); err != nil {
		t.Error(err)
	}
	keys, err := w.client.RotateAuditKey(t.Context(), api.RotateKey{Reason: "it is old"})
	if err != nil || len(keys.Keys) != 2 || !keys.Keys[0].Signs || keys.Keys[0].Verifier != "another" || keys.Keys[1].Signs || keys.Keys[1].RetiredAt.IsZero() {
		t.Errorf("keys %+v, %v", keys, err)
	}
	page, err := w.client.Audit(t.Context(), 13, 0)
	if err != nil || len(page.Entries) != 1 || page.Entries[0].Action != "audit.key_rotated" || page.Entries[0].Reason != "it is old" || page.Entries[0].Actor != "local" {
		t.Errorf("entries %+v, %v", page.Entries, err)
	}
	for path, status := range map[string]int{
		"audit/proof/inclusion?index=13&size=13": 404, "audit/proof/inclusion?index=0&size=99": 404, "audit/proof/inclusion?index=-1&size=3": 422,
		"audit/proof/inclusion": 200, "audit/proof/consistency?from=2": 200, "audit/proof/consistency?from=3&to=2": 422, "audit/proof/consistency?from=3&to=99": 404,
	} {
		if resp, body := w.do("GET", "/api/v1/"+path, ""); resp.StatusCode != status {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
}

// TestAuditIsForThoseWhoMay: without the token there is nothing, and a service
// without a key says so.
func TestAuditIsForThoseWhoMay(t *testing.T) {
	w, _ := signing(t, "0123456789abcdef")
	w.logEntries(1)
	for _, path := range []string{"/audit/checkpoint", "/audit/tile/0/000.p/1", "/audit/tile/entries/000.p/1", "/api/v1/audit/checkpoint", "/api/v1/audit/keys",
		"/api/v1/audit/proof/inclusion?index=0&size=1", "/api/v1/audit/proof/consistency?from=0&to=1"} {
		if resp, body := w.do("GET", path, ""); resp.StatusCode != http.StatusUnauthorized || strings.Contains(body, testOrigin) {
			t.Errorf("%s without a token: %d %s", path, resp.StatusCode, body)
		}
	}
	if resp, body := newWorld(t, nil).do("GET", "/audit/checkpoint", ""); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("without a key: %d %s", resp.StatusCode, body)
	}
}

func raw(t *testing.T, text string) []byte {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func raws(t *testing.T, texts []string) (out [][]byte) {
	t.Helper()
	for _, text := range texts {
		out = append(out, raw(t, text))
	}
	return out
}
