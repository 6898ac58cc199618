package triggers

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// message is one message as it was last received. The fields below body are
// guarded by the queue's mu.
type message struct {
	id       string
	received int
	sent     time.Time // zero: not said
	body     string

	handle string // of the last receive
	lapsed bool   // the queue hides it no longer
}

func newMessage(m types.Message) *message {
	out := &message{id: aws.ToString(m.MessageId), handle: aws.ToString(m.ReceiptHandle), body: aws.ToString(m.Body)}
	out.received, _ = strconv.Atoi(m.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)])
	if ms, err := strconv.ParseInt(m.Attributes[string(types.MessageSystemAttributeNameSentTimestamp)], 10, 64); err == nil {
		out.sent = time.UnixMilli(ms).UTC()
	}
	return out
}

// sort deals with a batch. It returns the repositories for which a look has to
// be started.
func (q *Queue) sort(ctx context.Context, messages []*message) (start []string) {
	for _, m := range messages {
		if q.again(m) {
			continue
		}
		switch repository, reason := q.judge(m); {
		case reason != "":
			q.setAside(ctx, m, reason)
		case repository == "":
			q.metrics.messages.WithLabelValues("ignored").Inc()
			q.delete(ctx, m)
		default:
			q.mu.Lock()
			q.held[m.id] = m
			q.waiting[repository] = append(q.waiting[repository], m)
			if !q.looking[repository] {
				q.looking[repository] = true
				start = append(start, repository)
			}
			q.mu.Unlock()
		}
	}
	return start
}

// again tells of a message that is held already: the queue hid it no longer.
// The new receive is the one that can be deleted.
func (q *Queue) again(m *message) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	known := q.held[m.id]
	if known == nil {
		return false
	}
	known.handle, known.lapsed = m.handle, false
	return true
}

// look looks at one repository for all messages that wait for it, and again for
// those that came in the meantime: what they tell of may have happened after
// the remote was read.
func (q *Queue) look(ctx context.Context, repository string) {
	for {
		q.mu.Lock()
		messages := q.waiting[repository]
		delete(q.waiting, repository)
		if len(messages) == 0 {
			delete(q.looking, repository)
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		err := q.cfg.Look(ctx, repository)
		if err != nil && ctx.Err() != nil {
			return // the service stops; what waits comes again
		}
		q.report(partLook+repository, err)
		for _, m := range messages {
			if err != nil {
				// It comes again when the queue hides it no longer.
				q.metrics.messages.WithLabelValues("look_failed").Inc()
				continue
			}
			q.metrics.messages.WithLabelValues("looked").Inc()
			q.delete(ctx, m)
		}
		q.letGo(messages)
	}
}

func (q *Queue) letGo(messages []*message) {
	q.mu.Lock()
	for _, m := range messages {
		delete(q.held, m.id)
	}
	q.mu.Unlock()
	select {
	case q.freed <- struct{}{}:
	default:
	}
}

// delete takes a message off the queue, also while the service stops: what it
// told of is dealt with.
func (q *Queue) delete(ctx context.Context, m *message) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	defer cancel()
	q.mu.Lock()
	handle := m.handle
	q.mu.Unlock()
	_, err := q.client.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: &q.cfg.QueueURL, ReceiptHandle: &handle})
	if err != nil && !lost(err) {
		err = q.explain("sqs:DeleteMessage", err)
	} else {
		err = nil
	}
	q.report(partDelete, err)
}

// keepHidden hides what is held from other readers for longer, until ctx ends.
func (q *Queue) keepHidden(ctx context.Context) {
	tick := time.NewTicker(q.cfg.Visibility / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for m, handle := range q.hidden() {
			if ctx.Err() == nil {
				q.hide(ctx, m, handle)
			}
		}
	}
}

// hidden returns the held messages with their handles.
func (q *Queue) hidden() map[*message]string {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := map[*message]string{}
	for _, m := range q.held {
		if !m.lapsed {
			out[m] = m.handle
		}
	}
	return out
}

func (q *Queue) hide(ctx context.Context, m *message, handle string) {
	ctx, cancel := context.WithTimeout(ctx, min(settleWithin, q.cfg.Visibility))
	defer cancel()
	_, err := q.client.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{QueueUrl: &q.cfg.QueueURL,
		ReceiptHandle: &handle, VisibilityTimeout: q.visibility()})
	switch {
	case err == nil:
	case errors.Is(ctx.Err(), context.Canceled):
		return
	case lost(err):
		// Another reader may have it now, or it is deleted: either is fine.
		q.mu.Lock()
		m.lapsed = m.lapsed || m.handle == handle
		q.mu.Unlock()
		err = nil
	default:
		err = q.explain("sqs:ChangeMessageVisibility", err)
	}
	q.report(partHide, err)
}
