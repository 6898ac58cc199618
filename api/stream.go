package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	streamQuiet = 60 * time.Second // without a sign of life from the service a stream is dead
	maxField    = 8 << 20          // bytes of one line of a stream
)

// streamMessage is one message of a stream of server-sent events.
type streamMessage struct {
	id    string // the last one that was sent
	event string
	data  string
}

var errQuiet = fmt.Errorf("nothing came for %s", streamQuiet)

// stream reads server-sent events until the service ends them, which is nil, or
// they break off.
func (c *Client) stream(ctx context.Context, path string, q url.Values, header http.Header, each func(streamMessage) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	header.Set("Accept", "text/event-stream")
	resp, err := c.send(ctx, http.MethodGet, path, q, nil, header)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if ct := resp.Header.Get("Content-Type"); !strings.HasPrefix(ct, "text/event-stream") {
		return &brokenError{&UnreachableError{URL: c.base.String(), Err: fmt.Errorf("what answers there sends no events (content type %q)", ct)}}
	}
	quiet := time.AfterFunc(streamQuiet, func() { cancel(errQuiet) })
	defer quiet.Stop()
	err = readStream(resp.Body, header.Get("Last-Event-ID"), func() { quiet.Reset(streamQuiet) }, each)
	var stop *stopError
	if err != nil && !errors.As(err, &stop) && context.Cause(ctx) != nil {
		err = context.Cause(ctx)
	}
	return err
}

// readStream takes server-sent events apart, as the HTML standard says. line is
// called for each line, comments too.
func readStream(r io.Reader, last string, line func(), each func(streamMessage) error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	m := streamMessage{id: last}
	var data []string
	seen := false // whether anything of a message came
	for {
		text, err := readField(in)
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil // what is not ended by an empty line does not count
			}
			return err
		}
		line()
		name, value, _ := strings.Cut(text, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case text == "":
			if seen {
				m.data = strings.Join(data, "\n")
				if err := each(m); err != nil {
					return err
				}
			}
			m.event, data, seen = "", nil, false
		case name == "":
		case name == "id" && !strings.ContainsRune(value, 0):
			m.id, seen = value, true
		case name == "event":
			m.event, seen = value, true
		case name == "data":
			data, seen = append(data, value), true
		}
	}
}

// readField reads one line without its end, of a bounded length.
func readField(in *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		if line = append(line, part...); len(line) > maxField {
			return "", &brokenError{fmt.Errorf("a line of the stream is longer than %d bytes", maxField)}
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return "", err
		}
		return strings.TrimRight(string(line), "\r\n"), nil
	}
}
