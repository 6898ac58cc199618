// Package blobs keeps what must outlive a worker's disk: logs and encrypted
// plans, each under a key, in a folder or in an S3 bucket.
//
// A blob is there whole or not at all, and reading it never shows parts of two
// writes. The package knows nothing of what the bytes mean: who stores a plan
// encrypts it first and checks its digest after reading. It must never log a
// blob's content, and never reach outside its folder or prefix, whatever a key
// says.
package blobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"golang.org/x/sync/errgroup"

	"github.com/waymark-cd/waymark/release"
)

// Config says where blobs are kept: exactly one of the two.
type Config struct {
	// Folder is an absolute path; it is made where it is missing. Several
	// processes may use it at once.
	Folder string
	S3     S3Config
}

// S3Config is a place in a bucket.
type S3Config struct {
	// AWS is the identity, the Region of the bucket, and how often to try.
	AWS aws.Config
	// Endpoint is an address other than that of AWS; buckets are named in its path.
	Endpoint string
	Bucket   string
	// Prefix is put before every key with a slash, such as "waymark/prod". It
	// has the form of a key, or is empty.
	Prefix string
	// KMSKeyID names the key of KMS that encrypts; empty: S3's own, AES256.
	KMSKeyID string
	// Lock keeps what is put from being deleted or replaced. The bucket must have
	// been made with Object Lock.
	Lock ObjectLock
}

// ObjectLock is for how long S3 keeps an object as it is; For 0 is not at all.
type ObjectLock struct {
	Compliance bool // nobody may lift it; otherwise who may bypass governance does
	For        time.Duration
}

// Info tells of a blob without its content.
type Info struct {
	Key     string
	Size    int64
	ModTime time.Time // when it was last put
}

// Blobs is an open store. It may be used by several goroutines.
type Blobs struct {
	place place
	check func(context.Context) error
}

// place is one of the two kinds of storage. Keys and prefixes have been checked.
type place interface {
	put(ctx context.Context, key string, data io.Reader) error
	get(ctx context.Context, key string) (io.ReadCloser, error)
	// list calls each for every blob beneath the folder, in no order; "" is all.
	list(ctx context.Context, folder string, each func(Info)) error
	remove(ctx context.Context, key string) error
}

// Open opens the configured store. A folder is made, and swept of what killed
// writers left; of a bucket nothing is asked yet, see Check. Errors wrap
// release.ErrInvalid for a configuration that cannot work.
func Open(_ context.Context, cfg Config) (*Blobs, error) {
	switch {
	case cfg.Folder != "" && cfg.S3.Bucket != "":
		return nil, fmt.Errorf("%w blobs: a folder and a bucket are configured: keep one of them", release.ErrInvalid)
	case cfg.Folder != "":
		f, err := openFolder(cfg.Folder)
		if err != nil {
			return nil, err
		}
		return &Blobs{place: f, check: f.check}, nil
	case cfg.S3.Bucket != "":
		b, err := openBucket(cfg.S3)
		if err != nil {
			return nil, err
		}
		return &Blobs{place: b, check: b.check}, nil
	}
	return nil, fmt.Errorf("%w blobs: neither a folder nor a bucket is configured", release.ErrInvalid)
}

// Put stores what data gives under key, in place of what was there. It holds at
// most 8 MiB in memory and takes as long as ctx lets it. An error of data is
// returned and nothing is stored. After another error readers see what was
// there before or, where only the answer was lost, the new blob; never parts
// of it. Errors wrap release.ErrInvalid for a key that
// cannot be, ErrConflict where another key stands in its way,
// ErrUnavailable for what may pass (a full disk, S3 that is throttled or does
// not answer), ErrNotFound for a missing bucket and ErrRefused for a lacking
// permission.
func (b *Blobs) Put(ctx context.Context, key string, data io.Reader) error {
	if err := checkKey(key); err != nil {
		return err
	}
	return b.place.put(ctx, key, &source{ctx: ctx, from: data})
}

// Get opens a blob, which the caller closes. It goes on giving the content that
// it began with, whatever is put or deleted meanwhile. Errors are those of Put,
// and release.ErrNotFound where there is no such blob.
func (b *Blobs) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	return b.place.get(ctx, key)
}

// List returns the blobs whose keys begin with the folder prefix, sorted by
// key: "runs/1" has runs/1/log, and neither runs/10/log nor a blob runs/1. An
// empty prefix lists everything. A prefix that nothing has is an empty list.
func (b *Blobs) List(ctx context.Context, prefix string) ([]Info, error) {
	if prefix = strings.TrimSuffix(prefix, "/"); prefix != "" {
		if err := checkKey(prefix); err != nil {
			return nil, err
		}
	}
	var out []Info
	if err := b.place.list(ctx, prefix, func(i Info) { out = append(out, i) }); err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b Info) int { return strings.Compare(a.Key, b.Key) })
	return out, nil
}

// Delete removes a blob. One that is not there is no error.
func (b *Blobs) Delete(ctx context.Context, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	return b.place.remove(ctx, key)
}

// deletesAtOnce bounds how many blobs DeletePrefix removes side by side.
const deletesAtOnce = 8

// DeletePrefix removes every blob that List shows for prefix, which must not be
// empty. After an error some may be left: call it again.
func (b *Blobs) DeletePrefix(ctx context.Context, prefix string) error {
	if strings.Trim(prefix, "/") == "" {
		return fmt.Errorf("%w blob prefix %q: deleting everything is no part of the service", release.ErrInvalid, prefix)
	}
	found, err := b.List(ctx, prefix)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(deletesAtOnce)
	for _, i := range found {
		g.Go(func() error { return b.place.remove(ctx, i.Key) })
	}
	return g.Wait()
}

// Check reports whether the store answers: a folder takes a byte, a bucket is
// there and lets itself be listed. The error says what to do.
func (b *Blobs) Check(ctx context.Context) error { return b.check(ctx) }

// The bounds of a key: what S3 takes less a prefix, and what a file may be called.
const (
	maxKey     = 512
	maxSegment = 200
)

// checkKey refuses what could be read in two ways, leave the folder, or collide
// with files of our own. Keys are made by Waymark, but of ids that others may say.
func checkKey(key string) error {
	if len(key) > maxKey {
		return fmt.Errorf("%w blob key of %d bytes: %d are allowed", release.ErrInvalid, len(key), maxKey)
	}
	for segment := range strings.SplitSeq(key, "/") {
		switch {
		case segment == "":
			return fmt.Errorf("%w blob key %q: it is empty, or begins, ends or goes on with a slash", release.ErrInvalid, key)
		case segment[0] == '.':
			return fmt.Errorf("%w blob key %q: no part of it may begin with a dot", release.ErrInvalid, key)
		case len(segment) > maxSegment:
			return fmt.Errorf("%w blob key %q: a part of it has %d bytes, %d are allowed", release.ErrInvalid, key, len(segment), maxSegment)
		}
	}
	if i := strings.IndexFunc(key, outsideKeys); i >= 0 {
		return fmt.Errorf("%w blob key %q: the character at %d is none of a-z A-Z 0-9 . _ / -", release.ErrInvalid, key, i)
	}
	return nil
}

func outsideKeys(r rune) bool {
	letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	return !letter && (r < '0' || r > '9') && !strings.ContainsRune("._/-", r)
}

// source is what a blob is put from. It ends with the context, and remembers
// its own failure, which is the caller's and not the storage's.
type source struct {
	ctx    context.Context
	from   io.Reader
	failed error
}

// Read reads on, unless the context has ended.
func (s *source) Read(p []byte) (int, error) {
	if s.ctx.Err() != nil {
		s.failed = context.Cause(s.ctx)
		return 0, s.failed
	}
	n, err := s.from.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.failed = err
	}
	return n, err
}
