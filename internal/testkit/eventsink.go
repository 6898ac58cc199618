package testkit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// SinkMessage is a request that a EventSink got.
type SinkMessage struct {
	At     time.Time
	Header http.Header
	Body   []byte
	Status int // that it was answered with
}

// EventSink is a webhook's end: a real HTTP server that keeps what it gets.
type EventSink struct {
	URL string
	t   testing.TB

	mu       sync.Mutex
	answer   func(m SinkMessage) (status int, header map[string]string)
	messages []SinkMessage
	open     int // requests at work
	most     int // of them at once
}

// NewEventSink starts a receiver that takes everything. It ends with the test.
func NewEventSink(t testing.TB) *EventSink {
	t.Helper()
	r := &EventSink{t: t}
	s := httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(s.Close)
	r.URL = s.URL + "/in"
	return r
}

// Answers changes what it answers with from now on; nil is 204.
func (r *EventSink) Answers(answer func(m SinkMessage) (status int, header map[string]string)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

// Refuses makes it answer everything with a status.
func (r *EventSink) Refuses(status int) {
	r.Answers(func(SinkMessage) (int, map[string]string) { return status, nil })
}

func (r *EventSink) serve(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	m := SinkMessage{At: time.Now(), Header: req.Header.Clone(), Body: body, Status: http.StatusNoContent}
	r.mu.Lock()
	r.open++
	r.most = max(r.most, r.open)
	answer := r.answer
	r.mu.Unlock()
	var header map[string]string
	if answer != nil {
		m.Status, header = answer(m)
	}
	r.mu.Lock()
	r.open--
	r.messages = append(r.messages, m)
	r.mu.Unlock()
	for name, value := range header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(m.Status)
}

// Messages returns what it got so far, those that it refused too.
func (r *EventSink) Messages() []SinkMessage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]SinkMessage{}, r.messages...)
}

// Taken returns the messages that it answered with a success.
func (r *EventSink) Taken() []SinkMessage {
	var out []SinkMessage
	for _, m := range r.Messages() {
		if m.Status >= 200 && m.Status < 300 {
			out = append(out, m)
		}
	}
	return out
}

// AtOnce is the most requests that were at work at the same time.
func (r *EventSink) AtOnce() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.most
}

// Signed reports whether a message has the signature of a secret, and is not
// older than five minutes: what every receiver should ask.
func (m SinkMessage) Signed(secret string) bool {
	var at, mac string
	for part := range strings.SplitSeq(m.Header.Get("X-Waymark-Signature"), ",") {
		switch name, value, _ := strings.Cut(part, "="); name {
		case "t":
			at = value
		case "v1":
			mac = value
		}
	}
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return false
	}
	want := hmac.New(sha256.New, []byte(secret))
	want.Write([]byte(at + "." + string(m.Body)))
	got, err := hex.DecodeString(mac)
	return err == nil && hmac.Equal(got, want.Sum(nil))
}
