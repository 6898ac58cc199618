package main

import (
	"cmp"
	"context"
	"io"
	"os"
	"strings"

	"github.com/waymark-cd/waymark/blobs"
	"github.com/waymark-cd/waymark/reconciler"
	"github.com/waymark-cd/waymark/store"
)

// instance is what this process tells of itself to those that share its database.
func (s *service) instance(id string) store.Instance {
	host, _ := os.Hostname() // for people alone
	return store.Instance{ID: id, Name: cmp.Or(s.options.Name, host), Host: host, Version: versionText(),
		Roles: s.options.Roles, Pool: strings.Join(s.options.Pools, ","), ConfigDigest: s.cfg.Digest}
}

// openBlobs opens what keeps logs and plans for other workers; nil where none is
// configured.
func (s *service) openBlobs(ctx context.Context) (reconciler.Blobs, error) {
	b := s.cfg.Blobs
	if b.Folder == "" && b.Bucket == "" {
		return nil, nil
	}
	cfg := blobs.Config{Folder: b.Folder}
	if b.Bucket != "" {
		own := s.cloud.own.Copy()
		if b.Region != "" {
			own.Region = b.Region
		}
		cfg.S3 = blobs.S3Config{AWS: own, Endpoint: s.cloud.settings.Endpoints["s3"], Bucket: b.Bucket, Prefix: b.Prefix, KMSKeyID: b.KMSKeyID}
	}
	opened, err := blobs.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return kept{opened}, nil
}

// kept gives the reconciler the blob store.
type kept struct{ blobs *blobs.Blobs }

func (k kept) Put(ctx context.Context, key string, data io.Reader) error {
	return k.blobs.Put(ctx, key, data)
}

func (k kept) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	return k.blobs.Get(ctx, key)
}

func (k kept) List(ctx context.Context, prefix string) ([]string, error) {
	found, err := k.blobs.List(ctx, prefix)
	keys := make([]string, len(found))
	for i, f := range found {
		keys[i] = f.Key
	}
	return keys, err
}

func (k kept) DeletePrefix(ctx context.Context, prefix string) error {
	return k.blobs.DeletePrefix(ctx, prefix)
}
