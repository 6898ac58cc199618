package backends

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/waymark-cd/waymark/release"
)

// The kinds of locks.
const (
	LockLocal    = "local"    // the operating system's, on a local state
	LockDynamoDB = "dynamodb" // an item of a table
	LockS3       = "s3"       // an object beside the state
)

// lockfileSuffix is what the engines add to a state's key.
const lockfileSuffix = ".tflock"

// maxLockInfo bounds a lock's description, in bytes.
const maxLockInfo = 1 << 20

// Lock is the lock of a state.
type Lock struct {
	Kind string `json:"kind"` // LockLocal, LockDynamoDB or LockS3
	// Where is the file, the object's URL, or the table and its item.
	Where     string    `json:"where"`
	ID        string    `json:"id,omitempty"` // the engine's; empty where the lock does not tell
	Operation string    `json:"operation,omitempty"`
	Who       string    `json:"who,omitempty"` // user@host
	Version   string    `json:"version,omitempty"`
	Path      string    `json:"path,omitempty"` // the state, as the engine names it
	Created   time.Time `json:"created,omitzero"`
	// Held is whether the lock keeps others out. A local one may be left over:
	// an engine that was killed removes no description, and the next one takes
	// the lock all the same. Locks in AWS are always held.
	Held bool `json:"held"`
	// PID of the process that holds a local lock; 0 where nobody does or where
	// it is not of this machine's process namespace.
	PID int `json:"pid,omitempty"`
}

// describe fills in what an engine wrote about its lock.
func (l *Lock) describe(doc []byte) error {
	var raw struct {
		ID, Operation, Who, Version, Path string
		Created                           time.Time
	}
	if err := json.Unmarshal(doc, &raw); err != nil {
		return fmt.Errorf("%w lock description %s: %w", release.ErrInvalid, l.Where, err)
	}
	l.ID, l.Operation, l.Who, l.Version, l.Path, l.Created = raw.ID, raw.Operation, raw.Who, raw.Version, raw.Path, raw.Created
	return nil
}

// held is a lock that was found, with what makes its release conditional.
type held struct {
	Lock
	info string  // of an item
	etag *string // of an object
}

// Locks tells who locked a state of type "local" or "s3": none, one, or two
// where it is locked both in a table and in the bucket. Errors wrap
// release.ErrInvalid for other backends and for a description that cannot be
// read, and otherwise what StateSerial's do.
func (c *Client) Locks(ctx context.Context, spec release.BackendSpec) ([]Lock, error) {
	found, err := c.locks(ctx, spec)
	var out []Lock
	for _, h := range found {
		out = append(out, h.Lock)
	}
	return out, err
}

func (c *Client) locks(ctx context.Context, spec release.BackendSpec) ([]held, error) {
	if spec.Type == local {
		lock, err := localLock(spec)
		if lock == nil || err != nil {
			return nil, err
		}
		return []held{{Lock: *lock}}, nil
	}
	p, err := s3PlaceOf(spec)
	if err != nil {
		return nil, err
	}
	conn, err := c.connect(p)
	if err != nil {
		return nil, err
	}
	var out []held
	for _, look := range []func(context.Context, s3Place) (*held, error){conn.itemLock, conn.objectLock} {
		found, err := look(ctx, p)
		if err != nil {
			return out, err
		}
		if found != nil {
			out = append(out, *found)
		}
	}
	return out, nil
}

// itemLock reads the lock in the table; nil where there is none.
func (c *connection) itemLock(ctx context.Context, p s3Place) (*held, error) {
	if p.table == "" {
		return nil, nil
	}
	out, err := c.tables.GetItem(ctx, &dynamodb.GetItemInput{TableName: aws.String(p.table), Key: p.item(), ConsistentRead: aws.Bool(true)})
	if err != nil {
		return nil, c.explain(err, "dynamodb:GetItem", tableARN(c.region, p.table))
	}
	if len(out.Item) == 0 {
		return nil, nil
	}
	h := &held{Lock: Lock{Kind: LockDynamoDB, Where: p.table + ": " + p.lockID(), Held: true}}
	info, ok := out.Item["Info"].(*types.AttributeValueMemberS)
	if !ok { // it locks all the same
		return h, nil
	}
	h.info = info.Value
	return h, h.describe([]byte(info.Value))
}

// lockID is the name that the engines give to the lock of a state. The item
// with "-md5" behind it is the state's digest, no lock.
func (p s3Place) lockID() string { return p.bucket + "/" + p.key }

func (p s3Place) item() map[string]types.AttributeValue {
	return map[string]types.AttributeValue{"LockID": &types.AttributeValueMemberS{Value: p.lockID()}}
}

// objectLock reads the lock beside the state; nil where there is none.
func (c *connection) objectLock(ctx context.Context, p s3Place) (*held, error) {
	if !p.lockfile {
		return nil, nil
	}
	key := p.key + lockfileSuffix
	out, err := c.s3.GetObject(ctx, p.object(key))
	if isMissingObject(err) {
		return nil, nil
	}
	if err != nil {
		return nil, c.explain(err, "s3:GetObject", p.objectARN(c.region, key))
	}
	defer out.Body.Close()
	h := &held{Lock: Lock{Kind: LockS3, Where: "s3://" + p.bucket + "/" + key, Held: true}, etag: out.ETag}
	var doc bytes.Buffer
	if _, err := io.Copy(&doc, io.LimitReader(out.Body, maxLockInfo+1)); err != nil {
		return nil, fmt.Errorf("reading the lock %s: %w: %w", h.Where, release.ErrUnavailable, err)
	}
	return h, h.describe(doc.Bytes())
}

// Unlock releases the locks of a state that have this ID, or only those of the
// given kinds. It never touches the digest of the state. release.ErrConflict:
// another has the lock by now, or a living process of this machine; then none
// or, of two, one may have been released. release.ErrNotFound: there is none.
// Other errors are those of Locks.
func (c *Client) Unlock(ctx context.Context, spec release.BackendSpec, id string, kinds ...string) error {
	if id == "" {
		return fmt.Errorf("%w: releasing a lock needs its id", release.ErrInvalid)
	}
	found, err := c.locks(ctx, spec)
	if err != nil {
		return err
	}
	if len(kinds) > 0 {
		found = slices.DeleteFunc(found, func(h held) bool { return !slices.Contains(kinds, h.Kind) })
	}
	if len(found) == 0 {
		return fmt.Errorf("%w: the state is not locked", release.ErrNotFound)
	}
	mine := slices.DeleteFunc(slices.Clone(found), func(h held) bool { return h.ID != id })
	if len(mine) == 0 {
		return fmt.Errorf("%w: the lock %s is held by %s, not by %s: look again with `waymark backend locks`", release.ErrConflict,
			found[0].Where, orUnnamed(found[0].ID), id)
	}
	for _, h := range mine {
		err = errors.Join(err, c.release(ctx, spec, h))
	}
	return err
}

func orUnnamed(id string) string {
	if id == "" {
		return "one that does not tell its id"
	}
	return id
}

func (c *Client) release(ctx context.Context, spec release.BackendSpec, h held) error {
	if h.Kind == LockLocal {
		return releaseLocal(spec, h.ID)
	}
	p, err := s3PlaceOf(spec)
	if err != nil {
		return err
	}
	conn, err := c.connect(p)
	if err != nil {
		return err
	}
	if h.Kind == LockDynamoDB {
		return conn.releaseItem(ctx, p, h)
	}
	return conn.releaseObject(ctx, p, h)
}

// releaseItem deletes the item if it is still the one that was read.
func (c *connection) releaseItem(ctx context.Context, p s3Place, h held) error {
	_, err := c.tables.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: aws.String(p.table), Key: p.item(),
		ConditionExpression:       aws.String("Info = :info"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":info": &types.AttributeValueMemberS{Value: h.info}}})
	if has(err, "ConditionalCheckFailedException") {
		now, err := c.itemLock(ctx, p)
		return changed(h, now, err)
	}
	if err != nil {
		return c.explain(err, "dynamodb:DeleteItem", tableARN(c.region, p.table))
	}
	return nil
}

// releaseObject deletes the object if it is still the one that was read. Where
// the store knows no such condition, it is compared once more just before.
func (c *connection) releaseObject(ctx context.Context, p s3Place, h held) error {
	in := &s3.DeleteObjectInput{Bucket: aws.String(p.bucket), Key: aws.String(p.key + lockfileSuffix), IfMatch: h.etag}
	_, err := c.s3.DeleteObject(ctx, in)
	if has(err, "NotImplemented") || statusOf(err) == http.StatusNotImplemented {
		now, failed := c.objectLock(ctx, p)
		if failed != nil || now == nil || now.ID != h.ID {
			return changed(h, now, failed)
		}
		in.IfMatch = nil
		_, err = c.s3.DeleteObject(ctx, in)
	}
	if has(err, "PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey") {
		now, err := c.objectLock(ctx, p)
		return changed(h, now, err)
	}
	if err != nil {
		return c.explain(err, "s3:DeleteObject", p.objectARN(c.region, *in.Key))
	}
	return nil
}

// changed says what became of a lock since it was read.
func changed(before held, now *held, err error) error {
	switch {
	case err != nil:
		return err
	case now == nil:
		return fmt.Errorf("%w: the lock %s was released in the meantime", release.ErrNotFound, before.Where)
	}
	return fmt.Errorf("%w: the lock %s changed in the meantime and is held by %s: look again with `waymark backend locks`",
		release.ErrConflict, before.Where, orUnnamed(now.ID))
}
