package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/release"
)

const (
	maxReaders  = 2048             // of events at the same time
	heartEvery  = 15 * time.Second // without an event a comment is sent
	streamLasts = time.Hour        // then a reader comes back and shows anew who it is
	retryAfter  = 2 * time.Second  // until a browser comes back
)

// streams counts those who read streams.
type streams struct {
	readers      prometheus.Gauge
	cut, logsCut prometheus.Counter
}

func newStreams(registry *prometheus.Registry) (streams, error) {
	m := streams{
		readers: prometheus.NewGauge(prometheus.GaugeOpts{Name: "waymark_event_readers",
			Help: "Connections that read the stream of events."}),
		cut: prometheus.NewCounter(prometheus.CounterOpts{Name: "waymark_event_readers_cut_off_total",
			Help: "Readers of the stream of events that were cut off because they were too slow."}),
		logsCut: prometheus.NewCounter(prometheus.CounterOpts{Name: "waymark_log_readers_cut_off_total",
			Help: "Readers of logs that were cut off because they were too slow."}),
	}
	return m, errors.Join(registry.Register(m.readers), registry.Register(m.cut), registry.Register(m.logsCut))
}

type eventsInput struct {
	Target string `query:"target" maxLength:"100" doc:"Only this target" example:"dev_us-east-1/research"`
	Env    string `query:"env" maxLength:"32" doc:"Only this environment" example:"dev"`
	Team   string `query:"team" maxLength:"32" doc:"Only this team" example:"research"`
	Type   string `query:"type" maxLength:"500" doc:"Only these types, with or without their prefix, separated by commas; an asterisk at the end stands for any rest" example:"run.*"`
	After  string `query:"last_event_id" maxLength:"20" doc:"As the header Last-Event-ID, where none can be sent"`
	Last   string `header:"Last-Event-ID" maxLength:"20" doc:"Id of the last event that is known: the stream goes on after it; without one it begins now"`
}

// eventFilter is what a reader wants and may see.
type eventFilter struct {
	person identity.Person
	target *release.Target
	env    string
	team   string
	types  []string
}

// wants reports whether a reader gets a frame.
func (f *eventFilter) wants(e eventFrame) bool {
	narrowed := f.target != nil || f.env != "" || f.team != ""
	switch {
	case f.target != nil && *f.target != e.target, f.env != "" && f.env != e.target.Env, f.team != "" && f.team != e.target.Team:
		return false
	case len(f.types) > 0 && !slices.ContainsFunc(f.types, func(t string) bool { return matches(t, e.kind) }):
		return false
	case e.target == release.Target{}:
		return !narrowed && f.person.May(identity.Audit, release.Target{}) == nil
	}
	return f.person.May(identity.View, e.target) == nil
}

// matches compares a kind with one that may end in an asterisk.
func matches(pattern, kind string) bool {
	if begin, open := strings.CutSuffix(pattern, "*"); open {
		return strings.HasPrefix(kind, begin)
	}
	return pattern == kind
}

func (s *Server) eventFilter(ctx context.Context, in *eventsInput) (*eventFilter, error) {
	f := &eventFilter{person: s.person(ctx), env: in.Env, team: in.Team}
	if _, err := s.sight(ctx); err != nil {
		return nil, err
	}
	var err error
	if f.target, err = parseFilter(in.Target); err != nil {
		return nil, err
	}
	if f.target != nil {
		err = s.may(ctx, identity.View, *f.target)
	}
	for t := range strings.SplitSeq(in.Type, ",") {
		if t = strings.TrimPrefix(strings.TrimSpace(t), release.CloudEventPrefix); t != "" {
			f.types = append(f.types, t)
		}
	}
	return f, err
}

func eventsOperation() huma.Operation {
	op := get("events", "stream-events", "What happens, as server-sent events: each holds one CloudEvent as JSON")
	op.Description = "Events named audit are entries of the audit log and have their index as id. Events named run are runs as they are now; they have no id, and those of active runs are sent when a stream begins. A reader that is too slow is cut off and goes on by Last-Event-ID. Comments are sent while nothing happens. The stream ends after an hour: come back."
	op.Responses["200"] = &huma.Response{Description: "Server-sent events", Content: map[string]*huma.MediaType{
		"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}}}
	return op
}

// events streams what happens.
func (s *Server) events(ctx context.Context, in *eventsInput) (*huma.StreamResponse, error) {
	filter, err := s.eventFilter(ctx, in)
	var after int64
	if err == nil {
		after, err = lastEvent(in)
	}
	if err != nil {
		return nil, s.problemOf(ctx, err)
	}
	select {
	case s.readers <- struct{}{}:
	default:
		return nil, s.problemOf(ctx, fmt.Errorf("%w: %d readers are here already: try again in a moment", release.ErrUnavailable, maxReaders))
	}
	if err := s.hub.join(ctx); err != nil {
		<-s.readers
		return nil, s.problemOf(ctx, err)
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		s.streams.readers.Inc()
		defer func() {
			s.hub.leave()
			s.streams.readers.Dec()
			<-s.readers
		}()
		_, w := humago.Unwrap(hc)
		ctx, end := s.live(hc.Context(), streamLasts)
		defer end()
		out := s.openStream(w)
		err := s.sendEvents(ctx, out, filter, after)
		defer pushDeadline(out.rc) // for what ends the answer
		if errors.Is(err, errBehind) || errors.Is(err, os.ErrDeadlineExceeded) {
			s.streams.cut.Inc()
		} else if err != nil && ctx.Err() == nil && out.err == nil {
			s.log.ErrorContext(ctx, "events broke off", "request_id", requestID(ctx), "error", err)
		}
	}}, nil
}

// lastEvent reads after which event a stream begins; -2 for now.
func lastEvent(in *eventsInput) (int64, error) {
	text := in.Last
	if text == "" {
		text = in.After
	}
	if text == "" {
		return -2, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < -1 {
		return 0, fmt.Errorf("%w Last-Event-ID %q: send the id of an event as it was received", release.ErrInvalid, text)
	}
	return n, nil
}

// live is ctx for a stream: it ends after some time, and when the service stops.
func (s *Server) live(ctx context.Context, lasts time.Duration) (context.Context, func()) {
	ctx, cancel := context.WithTimeout(ctx, lasts)
	stop := context.AfterFunc(s.serving, cancel)
	return ctx, func() { stop(); cancel() }
}

// openStream begins an answer of server-sent events.
func (s *Server) openStream(w http.ResponseWriter) *logWriter {
	out := &logWriter{w: w, rc: http.NewResponseController(w)}
	_ = out.rc.SetReadDeadline(time.Time{}) // a reader has nothing more to send
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("X-Accel-Buffering", "no") // proxies are to pass each event on at once
	w.WriteHeader(http.StatusOK)
	_, _ = fmt.Fprintf(out, "retry: %d\n\n", retryAfter.Milliseconds())
	return out
}

// sendEvents sends what the filter lets through, after the entry with index after:
// what is not in the ring any more from the log, then runs as they are, then the
// ring, until ctx ends or the reader is too slow.
func (s *Server) sendEvents(ctx context.Context, out *logWriter, filter *eventFilter, after int64) error {
	size, err := s.cfg.Store.AuditSize(ctx)
	if err != nil {
		return err
	}
	p := &place{index: after + 1, frame: -1}
	if after == -2 || p.index > size { // now; or the id is of another log
		p.index = size
		if err := s.sendPlace(out, p); err != nil {
			return err
		}
	}
	for !s.hub.enter(p) {
		entries, err := s.cfg.Store.Entries(ctx, p.index, entriesOnce)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return fmt.Errorf("the audit log lacks entry %d", p.index)
		}
		frames, err := s.hub.entryFrames(entries)
		if err != nil {
			return err
		}
		if err := s.sendFrames(out, filter, p, frames); err != nil {
			return err
		}
		if err := s.sendPlace(out, p); err != nil {
			return err
		}
	}
	if err := s.sendActive(ctx, out, filter, p); err != nil {
		return err
	}
	return s.sendRing(ctx, out, filter, p)
}

// sendActive sends the active runs as they are.
func (s *Server) sendActive(ctx context.Context, out *logWriter, filter *eventFilter, p *place) error {
	runs, err := s.cfg.Store.ActiveRuns(ctx)
	if err != nil {
		return err
	}
	frames, err := s.hub.runFrames(runs)
	if err != nil {
		return err
	}
	return s.sendFrames(out, filter, p, frames)
}

func (s *Server) sendRing(ctx context.Context, out *logWriter, filter *eventFilter, p *place) error {
	heart := time.NewTicker(heartEvery)
	defer heart.Stop()
	for {
		frames, more, err := s.hub.take(p)
		if err != nil {
			return err
		}
		if len(frames) > 0 {
			if err := s.sendFrames(out, filter, p, frames); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-more:
		case <-heart.C:
			if err := s.sendPlace(out, p); err != nil {
				return err
			}
		}
	}
}

// sendPlace tells a reader, without an event, where it is: who comes back need not
// be told anew what its filter has left out. It is the sign of life too.
func (s *Server) sendPlace(out *logWriter, p *place) error {
	_, err := fmt.Fprintf(out, ": here\nid: %d\n\n", p.index-1)
	return err
}

// sendFrames sends those frames that the reader has not had and gets.
func (s *Server) sendFrames(out *logWriter, filter *eventFilter, p *place, frames []eventFrame) error {
	for _, f := range frames {
		if f.index >= 0 {
			if f.index < p.index {
				continue
			}
			p.index = f.index + 1
		}
		if !filter.wants(f) {
			continue
		}
		if err := out.put(f.text); err != nil {
			return err
		}
	}
	return out.flush()
}

// Run feeds the live events of this instance until ctx ends. Without it streams of
// events stay silent.
func (s *Server) Run(ctx context.Context) error { return s.hub.run(ctx) }

// eventSource is the address of the API, by which events say where they are from.
func eventSource(cfg Config) string { return strings.TrimSuffix(cfg.URL, "/") + "/api/v1" }
