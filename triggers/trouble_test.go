package triggers

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// TestOldLooksAreForgotten: the message of a look that failed may be in a dead
// letter queue by now, and no other look would ever follow.
func TestOldLooksAreForgotten(t *testing.T) {
	q, err := New(Config{AWS: aws.Config{}, QueueURL: "https://sqs.us-east-1.amazonaws.com/1/q", Region: "us-east-1", SetAside: t.TempDir(),
		Look: func(context.Context, string) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	q.now = func() time.Time { return now }
	q.answered = now
	q.report(partLook+"infra", errors.New("the remote is away"))
	q.report(partDelete, errors.New("not allowed"))
	now = now.Add(3 * time.Minute)
	if ok, detail := q.Ready(); ok || detail != "not allowed; the remote is away" {
		t.Errorf("after 3 minutes: %v, %q", ok, detail)
	}
	now = now.Add(time.Minute)
	if ok, detail := q.Ready(); ok || detail != "not allowed" {
		t.Errorf("after 4 minutes: %v, %q", ok, detail)
	}
	q.report(partDelete, nil)
	if ok, detail := q.Ready(); !ok {
		t.Errorf("with old troubles alone: %q", detail)
	}
}
