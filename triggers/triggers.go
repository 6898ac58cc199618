// Package triggers reads from queues that something has happened in a
// repository: EventBridge's events of CodeCommit repositories, which an SQS
// queue holds, straight or by way of SNS.
//
// An event is a hint and nothing more: it makes the service look at the remote
// at once. What it says of tags and commits is not believed, and an event that
// is lost, late, forged or delivered twice changes nothing but when the next
// look takes place. A message is deleted only once the record holds what such a
// look showed. What cannot be understood is written to a folder for people, and
// deleted: it never comes again.
//
// The package must never decide on a tag, never follow an address in a message,
// and never end the service: whatever is wrong with the queue shows in Ready and
// in the log.
package triggers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/waymark-cd/waymark/release"
)

// Config describes one queue and whom its events are for.
type Config struct {
	AWS      aws.Config // the service's own identity, and how AWS is reached
	Endpoint string     // URL of SQS; "": the SDK's
	QueueURL string
	Region   string // of the queue
	// Repositories holds our name of a repository by its name in CodeCommit.
	Repositories map[string]string
	// SetAside is the folder for messages that cannot be understood. It is made
	// where it is missing. It keeps the newest 500, each cut at 32 KiB.
	SetAside string
	// Look returns nil once the record holds what the remote of the repository
	// showed at a look that began after the call. It may take its time, and is
	// called for several repositories at once, never twice for one.
	Look func(ctx context.Context, repository string) error
	// Visibility is how long a message stays hidden from other readers, and so
	// how soon one comes back after a Look that failed; default 2 minutes. While
	// a Look goes on it is renewed.
	Visibility time.Duration
	// Retry is the first wait after a request that failed; default 1 second. It
	// grows to 2 minutes.
	Retry   time.Duration
	Logger  *slog.Logger // default: discard
	Metrics prometheus.Registerer
}

const (
	longPoll      = 20 * time.Second // the longest that SQS lets a receive wait
	receiveWithin = 60 * time.Second // for an answer, the wait included
	settleWithin  = 30 * time.Second // for a delete or a renewal
	longestRetry  = 2 * time.Minute
	batch         = 10  // the most that SQS gives at once
	mostHeld      = 100 // messages that wait for a Look
	mostReceives  = 5   // after which a message is set aside
)

// Queue is one queue being read.
type Queue struct {
	cfg     Config
	client  *sqs.Client
	log     *slog.Logger
	metrics *metrics
	freed   chan struct{} // holds a token when messages were let go
	now     func() time.Time

	mu       sync.Mutex
	held     map[string]*message   // by id: received, and waiting for the end of a Look
	waiting  map[string][]*message // by repository: for the Look after the one at work
	looking  map[string]bool       // by repository
	troubles map[string]seen       // what is wrong, by part
	answered time.Time             // when the queue last did
	aside    int                   // messages set aside since the start
}

// New checks the configuration, which is release.ErrInvalid where something is
// missing, and makes the folder. It starts nothing and asks nobody.
func New(cfg Config) (*Queue, error) {
	for _, need := range []struct {
		name string
		set  bool
	}{
		{"queue URL", cfg.QueueURL != ""}, {"Region", cfg.Region != ""},
		{"folder to set messages aside", cfg.SetAside != ""}, {"look at a repository", cfg.Look != nil},
	} {
		if !need.set {
			return nil, fmt.Errorf("trigger: %w: it has no %s", release.ErrInvalid, need.name)
		}
	}
	if cfg.Visibility == 0 {
		cfg.Visibility = 2 * time.Minute
	}
	if cfg.Visibility < 3*time.Second || cfg.Visibility > 12*time.Hour {
		return nil, fmt.Errorf("trigger: %w: SQS hides messages for whole seconds, here 3 seconds to 12 hours, not %s", release.ErrInvalid, cfg.Visibility)
	}
	if cfg.Retry <= 0 {
		cfg.Retry = time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	if err := os.MkdirAll(cfg.SetAside, 0o700); err != nil {
		return nil, fmt.Errorf("trigger: making the folder for messages set aside: %w", err)
	}
	name := cfg.QueueURL[strings.LastIndexByte(cfg.QueueURL, '/')+1:]
	q := &Queue{cfg: cfg, log: cfg.Logger.With("queue", name, "region", cfg.Region), freed: make(chan struct{}, 1),
		held: map[string]*message{}, waiting: map[string][]*message{}, looking: map[string]bool{}, troubles: map[string]seen{}, now: time.Now,
		client: sqs.NewFromConfig(cfg.AWS, func(o *sqs.Options) {
			o.Region = cfg.Region
			if cfg.Endpoint != "" {
				o.BaseEndpoint = aws.String(cfg.Endpoint)
			}
		})}
	var err error
	if q.metrics, err = newMetrics(cfg.Metrics, cfg.Region+"/"+name); err != nil {
		return nil, err
	}
	return q, nil
}

// Run reads the queue until ctx ends, and then waits for the looks at work. It
// always returns nil: what is wrong shows in Ready, and is tried again.
func (q *Queue) Run(ctx context.Context) error {
	var at sync.WaitGroup
	defer at.Wait()
	at.Go(func() { q.keepHidden(ctx) })
	again := backoff.NewExponentialBackOff()
	again.InitialInterval, again.MaxInterval = q.cfg.Retry, max(longestRetry, q.cfg.Retry)
	wait := time.Duration(0) // the first answer tells whether all is well, so it comes at once
	for q.room(ctx) {
		messages, err := q.receive(ctx, wait)
		if ctx.Err() != nil {
			break
		}
		q.report(partReceive, err)
		if err != nil {
			wait = 0
			pause(ctx, again.NextBackOff())
			continue
		}
		again.Reset()
		wait = longPoll
		for _, repository := range q.sort(ctx, messages) {
			at.Go(func() { q.look(ctx, repository) })
		}
	}
	return nil
}

// room waits until another batch may be taken, and reports whether to go on.
func (q *Queue) room(ctx context.Context) bool {
	for ctx.Err() == nil {
		q.mu.Lock()
		n := len(q.held)
		q.mu.Unlock()
		if n+batch <= mostHeld {
			q.report(partRoom, nil)
			return true
		}
		q.report(partRoom, &trouble{what: fmt.Sprintf("%d messages wait for looks at their repositories that do not end", n),
			next: "see the log of the looks; the queue is read on when they end"})
		select {
		case <-q.freed:
		case <-ctx.Done():
		}
	}
	return false
}

// receive asks for messages and waits for the first as long as it is told.
func (q *Queue) receive(ctx context.Context, wait time.Duration) ([]*message, error) {
	ctx, cancel := context.WithTimeout(ctx, receiveWithin)
	defer cancel()
	if err := q.identity(ctx); err != nil {
		return nil, err
	}
	out, err := q.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: &q.cfg.QueueURL, MaxNumberOfMessages: batch,
		WaitTimeSeconds: int32(wait / time.Second), VisibilityTimeout: q.visibility(),
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{
			types.MessageSystemAttributeNameApproximateReceiveCount, types.MessageSystemAttributeNameSentTimestamp},
	}, func(o *sqs.Options) { o.RetryMaxAttempts = 2 }) // more often by Run, which says so
	if err != nil {
		return nil, q.explain("sqs:ReceiveMessage", err)
	}
	q.mu.Lock()
	q.answered = q.now()
	q.mu.Unlock()
	messages := make([]*message, len(out.Messages))
	for i, m := range out.Messages {
		messages[i] = newMessage(m)
	}
	return messages, nil
}

// identity tells of a service without credentials, because the SDK's own words
// for it are about the last place where it looked.
func (q *Queue) identity(ctx context.Context) error {
	err := errors.New("the configuration has none")
	if q.cfg.AWS.Credentials != nil {
		_, err = q.cfg.AWS.Credentials.Retrieve(ctx)
	}
	if err != nil {
		return &trouble{what: "the service has no AWS credentials for the queue", cause: err,
			next: "give it an identity where the SDK looks: variables, a profile, the container's or the instance's role"}
	}
	return nil
}

func (q *Queue) visibility() int32 { return int32(q.cfg.Visibility / time.Second) }

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// Ready says whether the queue is read and its events are acted on, and what is
// wrong where not. A queue that cannot be read delays deployments until the
// next poll, and stops none.
func (q *Queue) Ready() (ok bool, detail string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var wrong []string
	for _, part := range slices.Sorted(maps.Keys(q.troubles)) {
		if err := q.wrong(part); err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	if len(wrong) > 0 {
		return false, strings.Join(wrong, "; ")
	}
	if q.answered.IsZero() {
		return false, "not asked yet"
	}
	detail = "last answered at " + q.answered.UTC().Format(time.RFC3339)
	if q.aside > 0 {
		detail += fmt.Sprintf("; messages set aside since the start: %d, see %s", q.aside, q.cfg.SetAside)
	}
	return true, detail
}
