package backends_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"

	"github.com/waymark-cd/waymark/backends"
	"github.com/waymark-cd/waymark/release"
)

const (
	stateKey = "research/dev-global/terraform.tfstate"
	lockInfo = `{"ID":"l-1","Operation":"OperationTypePlan","Info":"","Who":"ann@laptop","Version":"1.12.6","Created":"2026-01-02T03:04:05Z","Path":"states-dev/research"}`
)

var bothLocks = map[string]string{"dynamodb_table": "locks-dev", "use_lockfile": "true"}

// lockItem locks the usual state in the table as an engine would.
func (c *cloud) lockItem(info string) {
	c.PutItem("locks-dev", map[string]string{"LockID": "states-dev/" + stateKey, "Info": info})
	c.PutItem("locks-dev", map[string]string{"LockID": "states-dev/" + stateKey + "-md5", "Digest": "d"})
}

func (c *cloud) lockObject(info string) {
	c.PutObject("states-dev", stateKey+".tflock", []byte(info))
}

// lockable gives a cloud with a bucket and a table.
func lockable(t *testing.T) *cloud {
	c := startCloud(t)
	c.CreateBucket("states-dev", "", "")
	c.CreateTable("locks-dev", "", "")
	return c
}

func TestBothLocksAreTold(t *testing.T) {
	c := lockable(t)
	c.lockItem(lockInfo)
	c.lockObject(strings.Replace(lockInfo, "l-1", "l-2", 1))
	spec := c.spec(t, bothLocks)
	locks, err := c.states.Locks(t.Context(), spec)
	must(t, err)
	if len(locks) != 2 {
		t.Fatalf("locks %+v", locks)
	}
	want := backends.Lock{Kind: "dynamodb", Where: "locks-dev: states-dev/" + stateKey, ID: "l-1", Operation: "OperationTypePlan", Who: "ann@laptop",
		Version: "1.12.6", Path: "states-dev/research", Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Held: true}
	if locks[0] != want {
		t.Errorf("got %+v, want %+v", locks[0], want)
	}
	want.Kind, want.Where, want.ID = "s3", "s3://states-dev/"+stateKey+".tflock", "l-2"
	if locks[1] != want {
		t.Errorf("got %+v, want %+v", locks[1], want)
	}
	must(t, c.states.Unlock(t.Context(), spec, "l-2"))
	if locks, err := c.states.Locks(t.Context(), spec); err != nil || len(locks) != 1 || locks[0].ID != "l-1" {
		t.Errorf("after releasing one: %+v, %v", locks, err)
	}
	if err := c.states.Unlock(t.Context(), spec, "l-1", backends.LockS3); !errors.Is(err, release.ErrNotFound) {
		t.Errorf("in the bucket alone: %v", err)
	}
	c.lockObject(lockInfo)
	must(t, c.states.Unlock(t.Context(), spec, "l-1"))
	if locks, err := c.states.Locks(t.Context(), spec); err != nil || len(locks) != 0 {
		t.Errorf("after releasing both: %+v, %v", locks, err)
	}
	if c.item(t, "locks-dev", "states-dev/"+stateKey+"-md5")["Digest"] != "d" {
		t.Error("the digest is gone")
	}
}

// A lock that changes hands between the look and the release stays.
func TestALockThatChangedHandsStays(t *testing.T) {
	for kind, values := range map[string]map[string]string{
		backends.LockDynamoDB: {"dynamodb_table": "locks-dev"}, backends.LockS3: {"use_lockfile": "true"},
	} {
		t.Run(kind, func(t *testing.T) {
			c := lockable(t)
			spec := c.spec(t, values)
			id, secret := c.Service()
			theirs := strings.Replace(lockInfo, "l-1", "l-9", 1)
			for _, now := range []struct {
				info string
				want error
			}{{theirs, release.ErrConflict}, {"", release.ErrNotFound}} {
				c.lockItem(lockInfo)
				c.lockObject(lockInfo)
				client := c.before(id, secret, "Delete", func() {
					if now.info == "" {
						must(t, c.states.Unlock(t.Context(), spec, "l-1"))
						return
					}
					c.lockItem(now.info)
					c.lockObject(now.info)
				})
				if err := client.Unlock(t.Context(), spec, "l-1"); !errors.Is(err, now.want) || !strings.Contains(err.Error(), "in the meantime") {
					t.Errorf("got %v, want %v", err, now.want)
				}
				if now.info == "" {
					continue
				}
				if locks, err := c.states.Locks(t.Context(), spec); err != nil || len(locks) != 1 || locks[0].ID != "l-9" {
					t.Errorf("the other's lock: %+v, %v", locks, err)
				}
			}
		})
	}
}

// before gives a client that does something once, before its first call whose
// name begins so.
func (c *cloud) before(id, secret, call string, do func()) *backends.Client {
	var once sync.Once
	hook := middleware.InitializeMiddlewareFunc("before", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
		if strings.HasPrefix(middleware.GetOperationName(ctx), call) {
			once.Do(do)
		}
		return next.HandleInitialize(ctx, in)
	})
	return backends.New(backends.S3Config{Endpoints: c.Endpoints(), AWS: aws.Config{Region: "us-east-1", Credentials: keys(id, secret),
		APIOptions: []func(*middleware.Stack) error{func(s *middleware.Stack) error { return s.Initialize.Add(hook, middleware.After) }}}})
}

// A store without conditional deletion is asked once more instead.
func TestALockIsReleasedWithoutConditions(t *testing.T) {
	c := lockable(t)
	spec := c.spec(t, map[string]string{"use_lockfile": "true"})
	c.lockObject(lockInfo)
	c.Fail("s3", "DeleteObject", "NotImplemented", 501, 1)
	must(t, c.states.Unlock(t.Context(), spec, "l-1"))
	if locks, err := c.states.Locks(t.Context(), spec); err != nil || len(locks) != 0 {
		t.Errorf("locks %+v, %v", locks, err)
	}
}

// A lock that does not say what it is locks all the same, and is never taken
// for one that may be released.
func TestAnIncompleteLockIsHeld(t *testing.T) {
	c := lockable(t)
	spec := c.spec(t, map[string]string{"dynamodb_table": "locks-dev"})
	c.PutItem("locks-dev", map[string]string{"LockID": "states-dev/" + stateKey})
	locks, err := c.states.Locks(t.Context(), spec)
	if err != nil || len(locks) != 1 || !locks[0].Held || locks[0].ID != "" {
		t.Errorf("got %+v, %v", locks, err)
	}
	if err := c.states.Unlock(t.Context(), spec, ""); !errors.Is(err, release.ErrInvalid) {
		t.Errorf("no id: %v", err)
	}
	if err := c.states.Unlock(t.Context(), spec, "x"); !errors.Is(err, release.ErrConflict) {
		t.Errorf("an id: %v", err)
	}
	c.lockItem("not JSON")
	if _, err := c.states.Locks(t.Context(), spec); !errors.Is(err, release.ErrInvalid) || !strings.Contains(err.Error(), "locks-dev") {
		t.Errorf("no description: %v", err)
	}
}

// What AWS answers is told with what to do, and as what may be tried again.
func TestAnswersOfAWSAreExplained(t *testing.T) {
	c := lockable(t)
	spec := c.spec(t, bothLocks)
	narrow := c.as(c.Principal("arn:aws:iam::"+account+":user/narrow", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:*","Resource":"*"}]}`))
	id, _ := c.Service()
	for name, a := range map[string]struct {
		client  *backends.Client
		values  map[string]string
		prepare func()
		is      error
		says    string
	}{
		"no bucket":   {c.states, map[string]string{"bucket": "none", "use_lockfile": "true"}, nil, release.ErrNotFound, `there is no bucket "none" in us-east-1: make it with`},
		"no table":    {c.states, map[string]string{"dynamodb_table": "none"}, nil, release.ErrNotFound, `there is no table "none" in us-east-1: make it with`},
		"no right":    {narrow, map[string]string{"use_lockfile": "true"}, nil, release.ErrRefused, "s3:GetObject is not allowed: allow it on arn:aws:s3:::states-dev/" + stateKey + ".tflock"},
		"none either": {narrow, map[string]string{"dynamodb_table": "locks-dev"}, nil, release.ErrRefused, "dynamodb:GetItem is not allowed: allow it on arn:aws:dynamodb:us-east-1:*:table/locks-dev"},
		"throttled": {c.states, bothLocks, func() { c.Fail("dynamodb", "GetItem", "ProvisionedThroughputExceededException", 400, 1) },
			release.ErrUnavailable, "AWS in us-east-1 is asked too often"},
		"a failure":   {c.states, bothLocks, func() { c.Fail("s3", "GetObject", "InternalError", 500, 1) }, release.ErrUnavailable, "AWS in us-east-1 has a failure"},
		"nobody":      {c.as(id, "wrong"), bothLocks, nil, nil, "the secret key is wrong"},
		"unknown":     {c.as("AKIAUNKNOWN", "x"), bothLocks, nil, nil, "AWS does not know the credentials"},
		"not reached": {c.states, map[string]string{"endpoints": `{"s3":"http://127.0.0.1:1"}`, "use_lockfile": "true"}, nil, release.ErrUnavailable, "cannot be reached: look at the network"},
	} {
		t.Run(name, func(t *testing.T) {
			of := spec
			of.Values = c.spec(t, a.values).Values
			if a.prepare != nil {
				a.prepare()
			}
			_, err := a.client.Locks(t.Context(), of)
			if err == nil || a.is != nil && !errors.Is(err, a.is) || !strings.Contains(err.Error(), a.says) {
				t.Errorf("got %v, want %v with %q", err, a.is, a.says)
			}
		})
	}
	c.Clock(time.Hour)
	if _, err := c.states.Locks(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "clock") || !strings.Contains(err.Error(), "(here ") {
		t.Errorf("clock skew: %v", err)
	}
}

func TestASpecificationWithoutAPlaceIsInvalid(t *testing.T) {
	for name, spec := range map[string]release.BackendSpec{
		"no bucket": {Type: "s3", Values: map[string]string{"key": "k", "region": "us-east-1"}},
		"no key":    {Type: "s3", Values: map[string]string{"bucket": "b", "region": "us-east-1"}},
		"no Region": {Type: "s3", Values: map[string]string{"bucket": "b", "key": "k", "use_lockfile": "true"}},
		"endpoints": {Type: "s3", Values: map[string]string{"bucket": "b", "key": "k", "region": "us-east-1", "endpoints": "x"}},
	} {
		if _, err := states.Locks(t.Context(), spec); !errors.Is(err, release.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
}

func TestALocalLockIsReleasedWhenItsProcessIsGone(t *testing.T) {
	dir := write(t, map[string]string{"t.tfstate": "{}", ".t.tfstate.lock.info": lockInfo})
	spec := localSpec(filepath.Join(dir, "t.tfstate"))
	if err := states.Unlock(t.Context(), spec, "l-2"); !errors.Is(err, release.ErrConflict) {
		t.Errorf("another id: %v", err)
	}
	must(t, states.Unlock(t.Context(), spec, "l-1"))
	if _, err := os.Stat(filepath.Join(dir, ".t.tfstate.lock.info")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the description: %v", err)
	}
	if err := states.Unlock(t.Context(), spec, "l-1"); !errors.Is(err, release.ErrNotFound) {
		t.Errorf("twice: %v", err)
	}
}

func TestStatesInS3(t *testing.T) {
	c := lockable(t)
	spec := c.spec(t, nil)
	for name, s := range map[string]struct {
		state   string
		serial  int64
		lineage string
		is      error
	}{
		"usual":            {`{"version":4,"terraform_version":"1.12.6","serial":7,"lineage":"l","outputs":{},"resources":[]}`, 7, "l", nil},
		"in another order": {`{"outputs":{"serial":{"value":[1,{"lineage":"x"}]}},"lineage":"l","resources":[[{}]],"serial":8,"version":4}`, 8, "l", nil},
		"encrypted":        {`{"serial":4,"lineage":"l","meta":{},"encrypted_data":"x"}`, 4, "l", nil},
		"empty":            {"", 0, "", nil},
		"cut off":          {`{"version":4,"serial":7`, 0, "", release.ErrInvalid},
		"a list":           {`[]`, 0, "", release.ErrInvalid},
		"no state":         {`{"a":1}`, 0, "", release.ErrInvalid},
		"no number":        {`{"version":4,"serial":"7","lineage":"l"}`, 0, "", release.ErrInvalid},
		"not JSON":         {`<html>`, 0, "", release.ErrInvalid},
	} {
		c.PutObject("states-dev", stateKey, []byte(s.state))
		serial, lineage, err := c.states.StateSerial(t.Context(), spec)
		if serial != s.serial || lineage != s.lineage || !errors.Is(err, s.is) {
			t.Errorf("%s: got %d %q %v", name, serial, lineage, err)
		}
		if err != nil && !strings.Contains(err.Error(), "s3://states-dev/"+stateKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := c.buckets().DeleteObject(t.Context(), &awss3.DeleteObjectInput{Bucket: aws.String("states-dev"), Key: aws.String(stateKey)})
	must(t, err)
	if serial, _, err := c.states.StateSerial(t.Context(), spec); serial != 0 || err != nil {
		t.Errorf("no state: %d %v", serial, err)
	}
}

// No more of a state is read than its head needs.
func TestAStateIsNotReadToItsEnd(t *testing.T) {
	f := filepath.Join(t.TempDir(), "big.tfstate")
	must(t, os.WriteFile(f, []byte(`{"version":4,"serial":7,"lineage":"l","resources":[`), 0o600))
	must(t, os.Truncate(f, 1<<40))
	if serial, lineage, err := states.StateSerial(t.Context(), localSpec(f)); serial != 7 || lineage != "l" || err != nil {
		t.Errorf("got %d %q %v", serial, lineage, err)
	}
	must(t, os.WriteFile(f, []byte(`{"version":4,"resources":["`), 0o600))
	out, err := os.OpenFile(f, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = io.CopyN(out, iotest.DataErrReader(strings.NewReader(strings.Repeat("a", 65<<20))), 65<<20)
	must(t, errors.Join(err, out.Close()))
	if _, _, err := states.StateSerial(t.Context(), localSpec(f)); !errors.Is(err, release.ErrInvalid) || !strings.Contains(err.Error(), "first 64 MiB") {
		t.Errorf("got %v", err)
	}
}
