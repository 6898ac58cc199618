package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/release"
)

// textLasts is how long a log is followed as text.
const textLasts = 24 * time.Hour

type logsInput struct {
	ID     string `path:"id" maxLength:"20" doc:"Decimal id" example:"42"`
	Follow bool   `query:"follow" doc:"Go on until the run ends"`
	From   int64  `query:"from" minimum:"0" doc:"Number of the first line, from 1"`
	To     int64  `query:"to" minimum:"0" doc:"Number of the last line: what is there of the lines up to it is given, and nothing followed"`
	Tail   int64  `query:"tail" minimum:"0" doc:"Without from: so many lines from the end of what is there, and with follow those to come"`
	Last   int64  `header:"Last-Event-ID" minimum:"0" doc:"Number of the last line that is known; it wins over from"`
	Accept string `header:"Accept" doc:"text/event-stream for numbered lines as events, which follow until the run ends, or to; anything else for text"`
}

// lines are those that a request asks for.
func (in *logsInput) lines() release.LogRange {
	q := release.LogRange{From: in.From, To: in.To, Tail: in.Tail, Follow: in.Follow && in.To == 0}
	if in.Last > 0 {
		q.From = in.Last + 1
	}
	return q
}

// logs streams a run's log.
func (s *Server) logs(ctx context.Context, in *logsInput) (*huma.StreamResponse, error) {
	run, err := s.run(ctx, in.ID)
	if err == nil && s.cfg.Logs == nil {
		err = fmt.Errorf("%w: this service keeps no logs", release.ErrUnavailable)
	}
	if err != nil {
		return nil, s.problemOf(ctx, err)
	}
	select {
	case s.followers <- struct{}{}:
	default:
		return nil, s.problemOf(ctx, errManyLogs)
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer func() { <-s.followers }()
		_, w := humago.Unwrap(hc)
		q := in.lines()
		if strings.Contains(in.Accept, "text/event-stream") {
			ctx, end := s.live(hc.Context(), streamLasts)
			defer end()
			q.Follow = q.To == 0
			s.streamLines(ctx, run.ID, q, w)
			return
		}
		ctx, end := s.live(hc.Context(), textLasts) // whose reader cannot come back to where it was
		defer end()
		s.streamText(ctx, run.ID, q, w)
	}}, nil
}

// streamText sends a log as text. Errors after the header break the connection, so
// that no reader takes a part for the whole.
func (s *Server) streamText(ctx context.Context, id int64, q release.LogRange, w http.ResponseWriter) {
	out := &logWriter{w: w, rc: http.NewResponseController(w)}
	_ = out.rc.SetReadDeadline(time.Time{}) // a follower has nothing more to send
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	if err := out.flush(); err != nil { // the header goes out before the first line comes
		return
	}
	defer pushDeadline(out.rc) // for what ends the answer
	send := out.put
	if q.Follow {
		send = func(p []byte) error { _, err := out.Write(p); return err }
	}
	run, err := s.cfg.Logs(ctx, id, q, func(l release.LogLine) error {
		return send([]byte(wireLine(l).String() + "\n"))
	})
	if err == nil && run.State.Ended() && q.To == 0 {
		err = send([]byte(wireEnd(run).Line(release.FormatID(id)) + "\n"))
	}
	if err != nil {
		s.logBrokeOff(ctx, out, id, err)
		panic(http.ErrAbortHandler)
	}
}

// streamLines sends a log as events: each line with its number as id and, once the
// run has ended, how; of a part of a log, that this was the part. A stream that
// breaks off lacks that, and is taken up again.
func (s *Server) streamLines(ctx context.Context, id int64, q release.LogRange, w http.ResponseWriter) {
	out := s.openStream(w)
	defer pushDeadline(out.rc)
	stop := out.keepAlive(ctx)
	run, err := s.cfg.Logs(ctx, id, q, func(l release.LogLine) error {
		data, err := json.Marshal(wireLine(l))
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "id: %d\nevent: line\ndata: %s\n\n", l.N, data)
		return err
	})
	stop()
	if err == nil && q.To > 0 {
		_, err = fmt.Fprintf(out, "event: part\ndata: {}\n\n")
	} else if err == nil {
		var data []byte
		if data, err = json.Marshal(wireEnd(run)); err == nil {
			_, err = fmt.Fprintf(out, "event: end\ndata: %s\n\n", data)
		}
	}
	if err != nil {
		s.logBrokeOff(ctx, out, id, err)
	}
}

func (s *Server) logBrokeOff(ctx context.Context, out *logWriter, id int64, err error) {
	if errors.Is(out.err, os.ErrDeadlineExceeded) {
		s.streams.logsCut.Inc()
	}
	if ctx.Err() == nil && out.err == nil {
		s.log.ErrorContext(ctx, "log broke off", "request_id", requestID(ctx), "run", id, "error", err)
	}
}

func wireLine(l release.LogLine) api.LogLine {
	return api.LogLine{N: l.N, At: utc(l.At), Stage: string(l.Stage), State: string(l.State), Text: l.Text}
}

func wireEnd(run release.Run) api.LogEnd {
	return api.LogEnd{State: string(run.State), Reason: run.Reason}
}

// logWriter sends each piece of a stream at once. A reader that does not take a
// piece in time is cut off: it blocks its own request and nothing else. It is safe
// for use by several goroutines.
type logWriter struct {
	w  http.ResponseWriter
	rc *http.ResponseController

	mu   sync.Mutex
	err  error
	last time.Time // of the last piece
}

// Write sends p, and fails for good once the reader is gone.
func (l *logWriter) Write(p []byte) (int, error) {
	if err := l.put(p); err != nil {
		return 0, err
	}
	return len(p), l.flush()
}

// put is Write for a piece that others follow at once.
func (l *logWriter) put(p []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		pushDeadline(l.rc)
		_, l.err = l.w.Write(p)
		l.last = time.Now()
	}
	return l.err
}

func (l *logWriter) flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		pushDeadline(l.rc)
		l.err = l.rc.Flush()
		_ = l.rc.SetWriteDeadline(time.Time{}) // the next line may be long in coming
	}
	return l.err
}

// keepAlive sends a comment where nothing else is to be sent, until ctx ends or
// stop, which waits for it, is called.
func (l *logWriter) keepAlive(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(heartEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				l.mu.Lock()
				quiet := time.Since(l.last) >= heartEvery
				l.mu.Unlock()
				if quiet {
					_, _ = l.Write([]byte(": nothing new\n\n")) // l remembers what went wrong
				}
			}
		}
	}()
	return func() { cancel(); <-ended }
}
