package testkit

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// sqsQueue is a standard queue.
type sqsQueue struct {
	arn, region string
	visibility  time.Duration

	mu       sync.Mutex
	messages []*sqsMessage
	changed  chan struct{} // closed when something may have become visible
}

type sqsMessage struct {
	id, body string
	sent     time.Time
	receives int
	handle   string    // of the last receive
	until    time.Time // hidden; zero or past: visible
}

// QueueMessage is what a queue holds of one message.
type QueueMessage struct {
	ID, Body string
	Receives int
	InFlight bool
}

// CreateQueue makes a standard queue in the account AWSAccount and returns its
// URL. A received message stays hidden for 30 seconds where a receive says
// nothing else.
func (a *AWS) CreateQueue(region, name string) (url string) {
	a.t.Helper()
	url = fmt.Sprintf("%s/%s/%s", a.servers["sqs"].URL, AWSAccount, name)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.queues == nil {
		a.queues = map[string]*sqsQueue{}
	}
	if a.queues[url] != nil {
		a.t.Fatalf("there is a queue %s already", url)
	}
	a.queues[url] = &sqsQueue{arn: fmt.Sprintf("arn:aws:sqs:%s:%s:%s", region, AWSAccount, name), region: region,
		visibility: 30 * time.Second, changed: make(chan struct{})}
	return url
}

// DeleteQueue removes the queue with all that it holds.
func (a *AWS) DeleteQueue(url string) {
	a.t.Helper()
	q := a.mustQueue(url)
	a.mu.Lock()
	delete(a.queues, url)
	a.mu.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.messages = nil
	q.wake()
}

// Send puts messages into a queue and returns the id of the last, as a sender
// that needs no permission.
func (a *AWS) Send(url string, bodies ...string) (id string) {
	a.t.Helper()
	q := a.mustQueue(url)
	for _, body := range bodies {
		id = q.send(a.issue("message-"), body)
	}
	return id
}

// Queue returns what a queue holds, in the order of arrival.
func (a *AWS) Queue(url string) []QueueMessage {
	a.t.Helper()
	q := a.mustQueue(url)
	q.mu.Lock()
	defer q.mu.Unlock()
	out := make([]QueueMessage, len(q.messages))
	for i, m := range q.messages {
		out[i] = QueueMessage{ID: m.id, Body: m.body, Receives: m.receives, InFlight: m.until.After(time.Now())}
	}
	return out
}

// Reappear ends the visibility time-out of every message in flight, as if it
// had passed.
func (a *AWS) Reappear(url string) {
	a.t.Helper()
	q := a.mustQueue(url)
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, m := range q.messages {
		m.until = time.Time{}
	}
	q.wake()
}

func (a *AWS) mustQueue(url string) *sqsQueue {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.queues[url] == nil {
		a.t.Fatalf("there is no queue %s", url)
	}
	return a.queues[url]
}

func (q *sqsQueue) send(id, body string) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.messages = append(q.messages, &sqsMessage{id: id, body: body, sent: time.Now()})
	q.wake()
	return id
}

// wake lets waiting receives look again. The caller holds mu.
func (q *sqsQueue) wake() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// take hides up to most visible messages and returns them. Where there is none
// it tells when to look again.
func (q *sqsQueue) take(most int, hide time.Duration, issue func() string) (taken []sqsMessage, changed <-chan struct{}, next time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for _, m := range q.messages {
		switch {
		case len(taken) == most:
		case m.until.After(now):
			if next.IsZero() || m.until.Before(next) {
				next = m.until
			}
		default:
			m.receives++
			m.handle, m.until = issue(), now.Add(hide)
			taken = append(taken, *m)
		}
	}
	return taken, q.changed, next
}

// sqsTarget is what calls name in X-Amz-Target before their own name.
const sqsTarget = "AmazonSQS."

func (a *AWS) sqsService() *awsService {
	codes := jsonAWSCodes()
	codes.unknownKey, codes.wrongToken = awsCode{"InvalidClientTokenId", 403}, awsCode{"InvalidClientTokenId", 403}
	codes.expired, codes.denied = awsCode{"ExpiredToken", 403}, awsCode{"AccessDenied", 403}
	codes.mismatch, codes.skewed = awsCode{"SignatureDoesNotMatch", 403}, awsCode{"SignatureDoesNotMatch", 403}
	return &awsService{name: "sqs", handle: serveSQS, refuse: refuseSQS, codes: codes}
}

// refuseSQS writes an error in the JSON protocol. A header carries the code of
// the older query protocol, which clients show where the two differ.
func refuseSQS(w http.ResponseWriter, _ string, e *awsError) {
	query := map[string]string{"QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
		"MessageNotInflight": "AWS.SimpleQueueService.MessageNotInflight"}[e.Code]
	if query == "" {
		query = e.Code
	}
	fault := "Sender"
	if e.Status >= 500 {
		fault = "Receiver"
	}
	w.Header().Set("x-amzn-query-error", query+";"+fault)
	writeJSON10(w, e.Status, map[string]string{"__type": "com.amazonaws.sqs#" + e.Code, "message": e.Message})
}

func writeJSON10(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // every type that is written here has a JSON form
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

// sqsRequest is what the calls that the kit knows may say.
type sqsRequest struct {
	QueueURL          string `json:"QueueUrl"`
	MessageBody       string
	ReceiptHandle     string
	VisibilityTimeout *int
	WaitTimeSeconds   int

	MaxNumberOfMessages         int
	MessageSystemAttributeNames []string
	AttributeNames              []string
}

func serveSQS(w http.ResponseWriter, c *awsCall) *awsError {
	operation, _ := strings.CutPrefix(c.Header.Get("X-Amz-Target"), sqsTarget)
	serve := map[string]func(*awsCall, *sqsQueue, sqsRequest) (any, *awsError){
		"SendMessage": sqsSend, "ReceiveMessage": sqsReceive, "DeleteMessage": sqsDelete,
		"ChangeMessageVisibility": sqsHide, "GetQueueAttributes": sqsAttributes}[operation]
	if serve == nil {
		return &awsError{Code: "InvalidAction", Message: "The test kit does not know the action " + operation + ".", Status: http.StatusBadRequest}
	}
	var request sqsRequest
	if err := json.Unmarshal(c.Body, &request); err != nil {
		return &awsError{Code: "SerializationException", Message: err.Error(), Status: http.StatusBadRequest}
	}
	q, refusal := c.queue(operation, request.QueueURL)
	if refusal != nil {
		return refusal
	}
	out, refusal := serve(c, q, request)
	if refusal == nil {
		writeJSON10(w, http.StatusOK, out)
	}
	return refusal
}

// queue finds the queue and asks whether the caller may do this with it.
func (c *awsCall) queue(operation, url string) (*sqsQueue, *awsError) {
	c.aws.mu.Lock()
	q := c.aws.queues[url]
	c.aws.mu.Unlock()
	arn := fmt.Sprintf("arn:aws:sqs:%s:%s:%s", c.Region, AWSAccount, url[strings.LastIndexByte(url, '/')+1:])
	if q != nil {
		arn = q.arn
	}
	if refusal := c.authorize(operation, operation, arn, nil); refusal != nil {
		return nil, refusal
	}
	switch {
	case q == nil:
		return nil, &awsError{Code: "QueueDoesNotExist", Message: "The specified queue does not exist.", Status: http.StatusBadRequest}
	case q.region != c.Region:
		return nil, &awsError{Code: "InvalidAddress", Message: "The address " + url + " is not valid for this endpoint.", Status: http.StatusNotFound}
	}
	return q, nil
}

func sqsSend(c *awsCall, q *sqsQueue, r sqsRequest) (any, *awsError) {
	if r.MessageBody == "" || len(r.MessageBody) > 1<<20 {
		return nil, sqsInvalid("One or more parameters are invalid. Reason: Message must be shorter than 1048576 bytes and not be empty.")
	}
	id := q.send(c.aws.issue("message-"), r.MessageBody)
	return map[string]string{"MessageId": id, "MD5OfMessageBody": md5Hex(r.MessageBody)}, nil
}

// maxHidden is the longest that SQS hides a message, counted from its receive.
const maxHidden = 12 * time.Hour

// sqsReceive waits for messages as long as the call says.
func sqsReceive(c *awsCall, q *sqsQueue, r sqsRequest) (any, *awsError) {
	if r.MaxNumberOfMessages < 0 || r.MaxNumberOfMessages > 10 || r.WaitTimeSeconds < 0 || r.WaitTimeSeconds > 20 {
		return nil, sqsInvalid("Value for parameter MaxNumberOfMessages or WaitTimeSeconds is invalid. Reason: Must be between 1 and 10, 0 and 20, if provided.")
	}
	hide := q.visibility
	if r.VisibilityTimeout != nil {
		hide = time.Duration(*r.VisibilityTimeout) * time.Second
	}
	end := time.NewTimer(time.Duration(r.WaitTimeSeconds) * time.Second)
	defer end.Stop()
	for {
		taken, changed, next := q.take(max(1, r.MaxNumberOfMessages), hide, func() string { return c.aws.issue("receipt-") })
		if len(taken) > 0 || r.WaitTimeSeconds == 0 {
			return sqsAnswer(taken, append(r.MessageSystemAttributeNames, r.AttributeNames...)), nil
		}
		var again <-chan time.Time
		if !next.IsZero() {
			again = time.After(time.Until(next))
		}
		select {
		case <-changed:
		case <-again:
		case <-end.C:
			return sqsAnswer(nil, nil), nil
		case <-c.Context().Done():
			return sqsAnswer(nil, nil), nil // nobody listens any more
		}
	}
}

// sqsAnswer writes messages down; attributes that were not asked for are left out.
func sqsAnswer(taken []sqsMessage, asked []string) any {
	type message struct {
		MessageID     string `json:"MessageId"`
		ReceiptHandle string
		MD5OfBody     string
		Body          string
		Attributes    map[string]string `json:",omitempty"`
	}
	out := make([]message, len(taken))
	for i, m := range taken {
		all := map[string]string{"ApproximateReceiveCount": strconv.Itoa(m.receives),
			"SentTimestamp": strconv.FormatInt(m.sent.UnixMilli(), 10)}
		for name := range all {
			if !slices.Contains(asked, name) && !slices.Contains(asked, "All") {
				delete(all, name)
			}
		}
		out[i] = message{MessageID: m.id, ReceiptHandle: m.handle, MD5OfBody: md5Hex(m.body), Body: m.body, Attributes: all}
	}
	if len(out) == 0 {
		return map[string]any{}
	}
	return map[string]any{"Messages": out}
}

// sqsDelete does nothing for the handle of an earlier receive, and answers as
// if it had, as SQS does.
func sqsDelete(_ *awsCall, q *sqsQueue, r sqsRequest) (any, *awsError) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.messages = slices.DeleteFunc(q.messages, func(m *sqsMessage) bool { return m.handle != "" && m.handle == r.ReceiptHandle })
	return map[string]any{}, nil
}

func sqsHide(_ *awsCall, q *sqsQueue, r sqsRequest) (any, *awsError) {
	if r.VisibilityTimeout == nil || *r.VisibilityTimeout < 0 || *r.VisibilityTimeout > int(maxHidden/time.Second) {
		return nil, sqsInvalid("Value for parameter VisibilityTimeout is invalid. Reason: Must be between 0 and 43200.")
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.IndexFunc(q.messages, func(m *sqsMessage) bool { return m.handle != "" && m.handle == r.ReceiptHandle })
	switch {
	case i < 0:
		return nil, sqsInvalid("Value " + r.ReceiptHandle + " for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available for visibility timeout change.")
	case !q.messages[i].until.After(time.Now()):
		return nil, &awsError{Code: "MessageNotInflight", Message: "The specified message isn't in flight.", Status: http.StatusBadRequest}
	}
	q.messages[i].until = time.Now().Add(time.Duration(*r.VisibilityTimeout) * time.Second)
	q.wake()
	return map[string]any{}, nil
}

func sqsAttributes(_ *awsCall, q *sqsQueue, r sqsRequest) (any, *awsError) {
	q.mu.Lock()
	defer q.mu.Unlock()
	hidden := 0
	for _, m := range q.messages {
		if m.until.After(time.Now()) {
			hidden++
		}
	}
	all := map[string]string{"QueueArn": q.arn, "VisibilityTimeout": strconv.Itoa(int(q.visibility / time.Second)),
		"ApproximateNumberOfMessages":           strconv.Itoa(len(q.messages) - hidden),
		"ApproximateNumberOfMessagesNotVisible": strconv.Itoa(hidden)}
	for name := range all {
		if !slices.Contains(r.AttributeNames, name) && !slices.Contains(r.AttributeNames, "All") {
			delete(all, name)
		}
	}
	return map[string]any{"Attributes": all}, nil
}

func sqsInvalid(message string) *awsError {
	return &awsError{Code: "InvalidParameterValue", Message: message, Status: http.StatusBadRequest}
}

func md5Hex(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}
