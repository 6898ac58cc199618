package triggers

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	mostAside     = 500      // files
	mostAsideBody = 32 << 10 // bytes of a message's body
)

// aside is the file of a message that was set aside.
type aside struct {
	Reason     string    `json:"reason"`
	SetAsideAt time.Time `json:"set_aside_at"`
	Queue      string    `json:"queue"`
	MessageID  string    `json:"message_id"`
	SentAt     time.Time `json:"sent_at,omitzero"`
	Received   int       `json:"received"`
	BodyBytes  int       `json:"body_bytes"`
	Body       string    `json:"body"` // its beginning, where it is longer than is kept
}

// setAside writes a message down for people, and then deletes it. Where it
// cannot be written it stays in the queue, and comes again.
func (q *Queue) setAside(ctx context.Context, m *message, reason string) {
	file, err := q.writeAside(m, reason)
	if err != nil {
		err = &trouble{what: "a message cannot be set aside", cause: err, next: "make room in " + q.cfg.SetAside + " and let the service write there"}
	}
	q.report(partAside, err)
	if err != nil {
		return
	}
	q.mu.Lock()
	q.aside++
	q.mu.Unlock()
	q.metrics.messages.WithLabelValues("set_aside").Inc()
	q.log.Warn("a message was set aside", "reason", reason, "message_id", clip(m.id), "received", m.received, "file", file)
	q.delete(ctx, m)
}

// writeAside writes the file and removes the oldest beyond the limit. Nothing
// that a message says is part of a name; a message that comes again is written
// over itself.
func (q *Queue) writeAside(m *message, reason string) (file string, err error) {
	digest := sha256.Sum256([]byte(cmp.Or(m.id, m.body)))
	name := m.sent.UTC().Format("20060102T150405.000Z") + "-" + hex.EncodeToString(digest[:8])
	body := m.body[:min(len(m.body), mostAsideBody)]
	text, err := json.MarshalIndent(aside{Reason: reason, SetAsideAt: time.Now().UTC(), Queue: q.cfg.QueueURL, MessageID: m.id,
		SentAt: m.sent, Received: m.received, BodyBytes: len(m.body), Body: strings.ToValidUTF8(body, "\uFFFD")}, "", "  ")
	if err != nil {
		return "", fmt.Errorf("writing a message down: %w", err)
	}
	if err := os.MkdirAll(q.cfg.SetAside, 0o700); err != nil {
		return "", err
	}
	file = filepath.Join(q.cfg.SetAside, name+asideEnding)
	if err := writeDurably(file, append(text, '\n')); err != nil {
		return "", err
	}
	return file, q.removeOldest()
}

const (
	asideEnding    = ".message.json"
	asideUnwritten = ".message.tmp"
)

// writeDurably writes a file that only its owner may read, whole or not at all,
// and waits until it is on the disk.
func writeDurably(file string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), strings.TrimSuffix(filepath.Base(file), asideEnding)+".*"+asideUnwritten)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// removeOldest keeps the folder within its bound. Names begin with the time at
// which the message was sent.
func (q *Queue) removeOldest() error {
	entries, err := os.ReadDir(q.cfg.SetAside)
	if err != nil {
		return err
	}
	var own []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), asideEnding) || strings.HasSuffix(e.Name(), asideUnwritten) {
			own = append(own, e.Name())
		}
	}
	for len(own) > mostAside {
		if err := os.Remove(filepath.Join(q.cfg.SetAside, own[0])); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		own = own[1:]
	}
	return nil
}
