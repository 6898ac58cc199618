package blobs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/waymark-cd/waymark/release"
)

const (
	// partSize is how much of a blob is in memory at once. A blob that is not
	// larger is one request; S3 takes 10,000 parts, so 78 GiB.
	partSize = 8 << 20
	// abortWithin bounds the request that gives up a large blob.
	abortWithin = 10 * time.Second
)

// bucket keeps each blob as an object beneath a prefix.
type bucket struct {
	client *s3.Client
	name   string
	prefix string // empty, or with a slash at its end
	region string
	kms    string
	lock   ObjectLock
}

func openBucket(cfg S3Config) (*bucket, error) {
	if cfg.AWS.Region == "" {
		return nil, fmt.Errorf("%w blobs: no Region is known for bucket %q: set it", release.ErrInvalid, cfg.Bucket)
	}
	b := &bucket{name: cfg.Bucket, region: cfg.AWS.Region, kms: cfg.KMSKeyID, lock: cfg.Lock}
	if prefix := strings.TrimSuffix(cfg.Prefix, "/"); prefix != "" {
		if err := checkKey(prefix); err != nil {
			return nil, fmt.Errorf("the prefix in bucket %q: %w", cfg.Bucket, err)
		}
		b.prefix = prefix + "/"
	}
	b.client = s3.NewFromConfig(cfg.AWS, func(o *s3.Options) {
		if cfg.Endpoint != "" {
			o.BaseEndpoint = aws.String(cfg.Endpoint)
			o.UsePathStyle = true
		}
		o.DisableLogOutputChecksumValidationSkipped = true
	})
	return b, nil
}

// object is the name of a blob's object.
func (b *bucket) object(key string) *string { return aws.String(b.prefix + key) }

// encryption is how objects are encrypted on S3's disks. A bucket key saves a
// question to KMS for each object.
func (b *bucket) encryption() (algorithm types.ServerSideEncryption, key *string, bucketKey *bool) {
	if b.kms == "" {
		return types.ServerSideEncryptionAes256, nil, nil
	}
	return types.ServerSideEncryptionAwsKms, aws.String(b.kms), aws.Bool(true)
}

// locking is until when S3 keeps an object that is written now as it is.
func (b *bucket) locking() (mode types.ObjectLockMode, until *time.Time) {
	switch {
	case b.lock.For <= 0:
		return "", nil
	case b.lock.Compliance:
		mode = types.ObjectLockModeCompliance
	default:
		mode = types.ObjectLockModeGovernance
	}
	return mode, aws.Time(time.Now().Add(b.lock.For).UTC().Truncate(time.Second))
}

// put sends a small blob as it is and a larger one in parts, of which nothing
// can be seen before the last act.
func (b *bucket) put(ctx context.Context, key string, data io.Reader) error {
	var part bytes.Buffer
	more, err := fill(&part, data)
	if err != nil {
		return fmt.Errorf("storing blob %q: %w", key, err)
	}
	if more {
		return b.putParts(ctx, key, &part, data)
	}
	algorithm, kms, bucketKey := b.encryption()
	mode, until := b.locking()
	_, err = b.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &b.name, Key: b.object(key), Body: bytes.NewReader(part.Bytes()),
		ServerSideEncryption: algorithm, SSEKMSKeyId: kms, BucketKeyEnabled: bucketKey, ObjectLockMode: mode, ObjectLockRetainUntilDate: until})
	return b.explain(ctx, "s3:PutObject", key, err)
}

// fill replaces what the part holds with the next of data. It reports whether
// there may be more.
func fill(part *bytes.Buffer, data io.Reader) (more bool, err error) {
	part.Reset()
	_, err = io.CopyN(part, data, partSize)
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	return true, err
}

// putParts sends a blob of which the first part has been read.
func (b *bucket) putParts(ctx context.Context, key string, part *bytes.Buffer, data io.Reader) error {
	algorithm, kms, bucketKey := b.encryption()
	mode, until := b.locking()
	upload, err := b.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &b.name, Key: b.object(key),
		ServerSideEncryption: algorithm, SSEKMSKeyId: kms, BucketKeyEnabled: bucketKey, ChecksumAlgorithm: types.ChecksumAlgorithmCrc32,
		ObjectLockMode: mode, ObjectLockRetainUntilDate: until})
	if err != nil {
		return b.explain(ctx, "s3:PutObject", key, err)
	}
	err = b.sendParts(ctx, key, upload.UploadId, part, data)
	if err == nil {
		return nil
	}
	// What was sent would be paid for until somebody finds it.
	abort, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortWithin)
	defer cancel()
	if _, gone := b.client.AbortMultipartUpload(abort, &s3.AbortMultipartUploadInput{Bucket: &b.name, Key: b.object(key),
		UploadId: upload.UploadId}); gone != nil && !has(gone, "NoSuchUpload") {
		return errors.Join(err, b.explain(abort, "s3:AbortMultipartUpload", key, gone))
	}
	return err
}

func (b *bucket) sendParts(ctx context.Context, key string, id *string, part *bytes.Buffer, data io.Reader) error {
	var sent []types.CompletedPart
	for more := true; more; {
		number := aws.Int32(int32(len(sent) + 1))
		got, err := b.client.UploadPart(ctx, &s3.UploadPartInput{Bucket: &b.name, Key: b.object(key), UploadId: id,
			PartNumber: number, Body: bytes.NewReader(part.Bytes()), ChecksumAlgorithm: types.ChecksumAlgorithmCrc32})
		if err != nil {
			return b.explain(ctx, "s3:PutObject", key, err)
		}
		sent = append(sent, types.CompletedPart{ETag: got.ETag, PartNumber: number, ChecksumCRC32: got.ChecksumCRC32})
		if more, err = fill(part, data); err != nil {
			return fmt.Errorf("storing blob %q: %w", key, err)
		}
		more = more || part.Len() > 0
	}
	_, err := b.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: &b.name, Key: b.object(key), UploadId: id,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: sent}})
	return b.explain(ctx, "s3:PutObject", key, err)
}

func (b *bucket) get(ctx context.Context, key string) (io.ReadCloser, error) {
	out, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.name, Key: b.object(key)})
	if has(err, "NoSuchKey") {
		return nil, missing(key)
	}
	if err != nil {
		return nil, b.explain(ctx, "s3:GetObject", key, err)
	}
	return &body{out.Body, ctx, b, key}, nil
}

// body is the content of an object on its way. What ends it early is told like
// any failure of S3; the SDK compares the checksum at its end.
type body struct {
	io.ReadCloser
	ctx context.Context
	b   *bucket
	key string
}

// Read gives the next bytes.
func (r *body) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	if r.ctx.Err() != nil {
		return n, fmt.Errorf("reading blob %q: %w", r.key, context.Cause(r.ctx))
	}
	return n, fmt.Errorf("%w: reading blob %q from bucket %q was cut off: read it again: %w", release.ErrUnavailable, r.key, r.b.name, err)
}

func (b *bucket) list(ctx context.Context, folder string, each func(Info)) error {
	prefix := b.prefix
	if folder != "" {
		prefix += folder + "/"
	}
	pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return b.explain(ctx, "s3:ListBucket", folder, err)
		}
		for _, o := range page.Contents {
			key := strings.TrimPrefix(aws.ToString(o.Key), b.prefix)
			if checkKey(key) == nil { // others may keep things in the bucket too
				each(Info{Key: key, Size: aws.ToInt64(o.Size), ModTime: aws.ToTime(o.LastModified)})
			}
		}
	}
	return nil
}

func (b *bucket) remove(ctx context.Context, key string) error {
	_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.name, Key: b.object(key)})
	if has(err, "NoSuchKey") {
		return nil
	}
	return b.explain(ctx, "s3:DeleteObject", key, err)
}

// check lists one object: of all questions this one tells a missing bucket from
// a wrong Region and a lacking permission. It writes nothing, because in a
// bucket that keeps versions each check would stay.
func (b *bucket) check(ctx context.Context) error {
	_, err := b.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: &b.prefix, MaxKeys: aws.Int32(1)})
	return b.explain(ctx, "s3:ListBucket", "", err)
}
