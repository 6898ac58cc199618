// Package cloudevents hands the audit log to webhooks, entry by entry, as
// CloudEvents 1.0 over HTTP: at least once, in order, one at a time.
//
// A message is signed, so that its receiver knows that it is ours and whole. A
// receiver that does not take one is tried again, for as long as it takes: its
// place in the log is kept elsewhere, nothing is queued here, and nobody else
// waits for it. The package must never follow a redirect, never repeat what a
// receiver answers, and never leave an entry out by itself.
package cloudevents

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/waymark-cd/waymark/release"
)

// Entry is one entry of the audit log.
type Entry struct {
	Index   int64
	At      time.Time
	Action  string
	Subject string // the tag, target or repository that it is about; empty for none
	Leaf    []byte // the exact text of the entry, which is JSON
}

// The modes of a message.
const (
	Structured = "structured" // the body is the event, the entry in its member data
	Binary     = "binary"     // the body is the entry, the event's attributes are headers
)

const (
	// SignatureHeader proves who sent a message, and when: t=<Unix seconds>,v1=<hex>,
	// the HMAC-SHA256 of "<t>.<body>" under the consumer's secret.
	SignatureHeader = "X-Waymark-Signature"
	// EntrySchema is the dataschema of every event.
	EntrySchema = "https://github.com/waymark-cd/waymark/blob/main/docs/schemas/audit-entry.v1.json"
)

// newEvent makes the event of an entry. Source and id together name it for good:
// a receiver that has seen them has seen the entry.
func newEvent(source string, e Entry) (event.Event, error) {
	out := event.New()
	out.SetID(strconv.FormatInt(e.Index, 10))
	out.SetSource(source)
	out.SetType(release.CloudEventType(e.Action))
	out.SetTime(e.At)
	out.SetDataSchema(EntrySchema)
	out.SetDataContentType(event.ApplicationJSON)
	out.SetExtension("sequence", fmt.Sprintf("%019d", e.Index)) // sorts as text
	if e.Subject != "" {
		out.SetSubject(e.Subject)
	}
	out.DataEncoded = e.Leaf
	if !json.Valid(e.Leaf) { // a leaf that was tampered with; it is told as it is
		text, err := json.Marshal(string(e.Leaf))
		if err != nil {
			return out, err
		}
		out.DataEncoded = text
	}
	if err := out.Validate(); err != nil {
		return out, fmt.Errorf("making an event of audit entry %d: %w", e.Index, err)
	}
	return out, nil
}

// newRequest makes the message of an event, without signature, and its body.
func newRequest(ctx context.Context, url, mode string, e event.Event) (*http.Request, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		return nil, nil, err
	}
	encoding := binding.WithForceStructured(ctx)
	if mode == Binary {
		encoding = binding.WithForceBinary(ctx)
	}
	if err := cehttp.WriteRequest(encoding, binding.ToMessage(&e), req); err != nil {
		return nil, nil, fmt.Errorf("encoding event %s: %w", e.ID(), err)
	}
	for name, values := range req.Header {
		if strings.HasPrefix(strings.ToLower(name), "ce-") {
			for i := range values {
				values[i] = headerText(values[i])
			}
		}
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, nil, fmt.Errorf("encoding event %s: %w", e.ID(), err)
	}
	req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	return req, body, nil
}

// headerText writes an attribute's value into a header as the HTTP binding of
// CloudEvents wants it: spaces, quotes, percent signs and all that is no printable
// ASCII as %xx. A tag's name is hostile.
func headerText(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || c == '"' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

// Signature is the value of SignatureHeader for a body that is sent at a time.
func Signature(secret string, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(t + "."))
	mac.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}
