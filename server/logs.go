package server

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/waymark-cd/waymark/release"
)

type logsInput struct {
	ID     string `path:"id" maxLength:"20" doc:"Decimal id" example:"42"`
	Follow bool   `query:"follow" doc:"Go on until the run ends"`
}

// logs streams a run's log. Errors before the first line are problems; later
// ones break the connection, so that no reader takes a part for the whole.
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
		return nil, s.problemOf(ctx, fmt.Errorf("%w: %d logs are being read already: try again in a moment", release.ErrUnavailable, maxFollowers))
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer func() { <-s.followers }()
		_, w := humago.Unwrap(hc)
		s.streamLog(hc.Context(), run.ID, in.Follow, w)
	}}, nil
}

func (s *Server) streamLog(ctx context.Context, id int64, follow bool, w http.ResponseWriter) {
	out := &logWriter{w: w, rc: http.NewResponseController(w)}
	_ = out.rc.SetReadDeadline(time.Time{}) // a follower has nothing more to send
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	if err := out.flush(); err != nil { // the header goes out before the first line comes
		return
	}
	defer pushDeadline(out.rc) // for what ends the answer
	if err := s.cfg.Logs(ctx, id, follow, out); err != nil {
		if ctx.Err() == nil && out.err == nil {
			s.log.ErrorContext(ctx, "log broke off", "request_id", requestID(ctx), "run", id, "error", err)
		}
		panic(http.ErrAbortHandler)
	}
}

// logWriter sends each piece of a log at once. A reader that does not take a
// piece in time is cut off: it blocks its own request and nothing else.
type logWriter struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	err error
}

// Write sends p, and fails for good once the reader is gone.
func (l *logWriter) Write(p []byte) (int, error) {
	if l.err != nil {
		return 0, l.err
	}
	pushDeadline(l.rc)
	if _, l.err = l.w.Write(p); l.err != nil {
		return 0, l.err
	}
	if l.err = l.flush(); l.err != nil {
		return 0, l.err
	}
	return len(p), nil
}

func (l *logWriter) flush() error {
	pushDeadline(l.rc)
	err := l.rc.Flush()
	_ = l.rc.SetWriteDeadline(time.Time{}) // the next line may be long in coming
	return err
}
