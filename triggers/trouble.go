package triggers

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"
	"github.com/prometheus/client_golang/prometheus"
)

// The parts of the work that something may be wrong with.
const (
	partReceive = "receive"
	partDelete  = "delete"
	partHide    = "hide"
	partAside   = "set aside"
	partRoom    = "room"
	partLook    = "look at " // and the repository
)

// trouble is what is wrong, and what to do next.
type trouble struct {
	what, next string
	cause      error // may be nil
}

func (t *trouble) Error() string {
	s := t.what
	if t.cause != nil {
		s += ": " + t.cause.Error()
	}
	return s + "; " + t.next
}

func (t *trouble) Unwrap() error { return t.cause }

// seen is what was wrong when.
type seen struct {
	err error
	at  time.Time
}

// report keeps what is wrong with a part for Ready, nil for nothing, and logs
// where that changes.
func (q *Queue) report(part string, err error) {
	q.mu.Lock()
	before := q.wrong(part)
	if err == nil {
		delete(q.troubles, part)
	} else {
		q.troubles[part] = seen{err, q.now()}
	}
	q.mu.Unlock()
	if err != nil {
		q.metrics.errors.WithLabelValues(part).Inc()
	}
	switch {
	case err != nil && (before == nil || kind(err) != kind(before)):
		q.log.Error("events of the queue wait", "part", part, "error", err)
	case err == nil && before != nil:
		q.log.Info("events of the queue are acted on again", "part", part)
	}
}

// wrong returns what is wrong with a part now. A look that failed long ago has
// no message any more that waits for another. The caller holds mu.
func (q *Queue) wrong(part string) error {
	t := q.troubles[part]
	if strings.HasPrefix(part, partLook) && q.now().Sub(t.at) >= 2*q.cfg.Visibility {
		return nil
	}
	return t.err
}

// kind is an error less what differs each time, such as the id of a request.
func kind(err error) string {
	if t, ok := errors.AsType[*trouble](err); ok {
		return t.what
	}
	return ""
}

// explain turns an answer of SQS into what somebody can act on.
func (q *Queue) explain(action string, err error) error {
	t := &trouble{cause: err}
	code := ""
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		code = api.ErrorCode()
	}
	_, throttled := retry.DefaultThrottleErrorCodes[code]
	_, missing := errors.AsType[*types.QueueDoesNotExist](err)
	switch {
	case missing:
		t.what = fmt.Sprintf("there is no queue %s in %s", q.cfg.QueueURL, q.cfg.Region)
		t.next = "make it, or mend the trigger's queue_url and region; a queue of another account must also let this identity in"
	case code == "InvalidAddress":
		t.what = fmt.Sprintf("the queue %s is not in %s", q.cfg.QueueURL, q.cfg.Region)
		t.next = "mend the trigger's region"
	case code == "AccessDenied" || code == "AccessDeniedException":
		t.what = "AWS refuses " + action + " on the queue"
		t.next = "allow the identity that it names sqs:ReceiveMessage, sqs:DeleteMessage and sqs:ChangeMessageVisibility there"
	case strings.HasPrefix(code, "KMS.") || strings.HasPrefix(code, "Kms"):
		t.what = "the queue's key cannot be used"
		t.next = "allow the service's identity kms:Decrypt with it, and look at the key's state in KMS"
	case code == "OverLimit":
		t.what, t.next = "too many messages of the queue are in flight", "see who else reads it, or wait"
	case throttled:
		t.what, t.next = "SQS limits our requests", "it is asked less often; see who else uses the account's quota if it lasts"
	case strings.HasPrefix(code, "ExpiredToken") || code == "InvalidClientTokenId" || code == "UnrecognizedClientException":
		t.what, t.next = "AWS does not take the service's credentials", "renew them"
	case code == "SignatureDoesNotMatch" || code == "InvalidSignatureException" || code == "RequestExpired":
		t.what, t.next = "AWS refuses the service's signature", "check this machine's clock, then the secret key"
	case code != "":
		t.what, t.next = "SQS answers "+action+" with "+code, "see the message; it is tried again"
	default:
		t.what, t.next = "SQS cannot be reached", "check the network, the proxy and the endpoint"
	}
	return t
}

// lost tells of a message that is not ours any more: deleted, given to another
// reader, or hidden for as long as SQS allows.
func lost(err error) bool {
	_, visible := errors.AsType[*types.MessageNotInflight](err)
	_, handle := errors.AsType[*types.ReceiptHandleIsInvalid](err)
	api, ok := errors.AsType[smithy.APIError](err)
	return visible || handle || ok && api.ErrorCode() == "InvalidParameterValue"
}

// metrics are those of one queue.
type metrics struct {
	messages *prometheus.CounterVec
	errors   *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, queue string) (*metrics, error) {
	labels := prometheus.Labels{"queue": queue}
	m := &metrics{
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_trigger_messages_total", ConstLabels: labels,
			Help: "Messages of a trigger's queue, by what became of them: looked, look_failed, ignored, set_aside."}, []string{"result"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_trigger_errors_total", ConstLabels: labels,
			Help: "Failures while reading a trigger's queue, by part."}, []string{"part"}),
	}
	for _, c := range []prometheus.Collector{m.messages, m.errors} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	for _, part := range []string{partReceive, partDelete, partHide, partAside, partRoom} {
		m.errors.WithLabelValues(part) // counted from 0: an alert sees the first one too
	}
	return m, nil
}
