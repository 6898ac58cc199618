package triggers_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/triggers"
)

// event is one of EventBridge, in the form that AWS documents.
func event(kind, refType, repository string) string {
	return fmt.Sprintf(`{"version":"0","id":"01234567-EXAMPLE","detail-type":"CodeCommit Repository State Change","source":"aws.codecommit",
"account":"111122223333","time":"2024-06-12T10:23:43Z","region":"us-east-1","resources":["arn:aws:codecommit:us-east-1:111122223333:%[3]s"],
"detail":{"event":%[1]q,"repositoryName":%[3]q,"repositoryId":"12345678-1234-5678-abcd-12345678abcd","referenceType":%[2]q,
"referenceName":"dev_us-east-1/research/1.0","referenceFullName":"refs/tags/dev_us-east-1/research/1.0","commitId":"3e5983DESTINATION"}}`,
		kind, refType, repository)
}

// tagPushed is the event that most tests need.
func tagPushed() string { return event("referenceCreated", "tag", "cc-infra") }

// world is a queue being read.
type world struct {
	t     *testing.T
	aws   *testkit.AWS
	url   string
	cfg   triggers.Config
	queue *triggers.Queue
	log   *lines
	stop  func() // ends Run and waits for it

	mu    sync.Mutex
	looks []string
}

// newWorld prepares a queue for the repositories infra and other, which are
// cc-infra and cc-other in CodeCommit. Where look is nil, every look succeeds.
func newWorld(t *testing.T, look func(ctx context.Context, nth int) error) *world {
	t.Helper()
	w := &world{t: t, aws: testkit.StartAWS(t), log: &lines{}}
	w.url = w.aws.CreateQueue("us-east-1", "hints")
	id, secret := w.aws.Service()
	w.cfg = triggers.Config{
		AWS:      aws.Config{Credentials: credentials.NewStaticCredentialsProvider(id, secret, ""), Retryer: func() aws.Retryer { return aws.NopRetryer{} }},
		Endpoint: w.aws.Endpoints()["sqs"], QueueURL: w.url, Region: "us-east-1",
		Repositories: map[string]string{"cc-infra": "infra", "cc-other": "other"},
		SetAside:     filepath.Join(t.TempDir(), "aside"), Retry: 10 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(w.log, nil)),
		Look: func(ctx context.Context, repository string) error {
			w.mu.Lock()
			w.looks = append(w.looks, repository)
			nth := len(w.looks)
			w.mu.Unlock()
			if look == nil {
				return nil
			}
			return look(ctx, nth)
		},
	}
	return w
}

// run starts to read, until the test ends or stop is called.
func (w *world) run() *world {
	w.t.Helper()
	var err error
	if w.queue, err = triggers.New(w.cfg); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.queue.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	})
	w.t.Cleanup(w.stop)
	return w
}

func (w *world) looked() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.looks)
}

// until polls for what must become true.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			_, detail := w.queue.Ready()
			w.t.Fatalf("never: %s\nlooks %v, queue %+v, ready %q\n%s", what, w.looked(), w.aws.Queue(w.url), detail, w.log)
		}
	}
}

func (w *world) untilEmpty() {
	w.t.Helper()
	w.until("the queue is empty", func() bool { return len(w.aws.Queue(w.url)) == 0 })
}

func (w *world) untilReady(want bool, parts ...string) {
	w.t.Helper()
	w.until(fmt.Sprintf("ready is %v with %q", want, parts), func() bool {
		ok, detail := w.queue.Ready()
		return ok == want && !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(detail, p) })
	})
}

// lines is where a logger writes.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// count returns how many lines hold all parts.
func (l *lines) count(parts ...string) (n int) {
	for line := range strings.SplitSeq(l.String(), "\n") {
		if line != "" && !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
			n++
		}
	}
	return n
}
