package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/waymark-cd/waymark/identity"
	"github.com/waymark-cd/waymark/release"
)

// liveEvery is how often a page is told, at most, to look again.
const liveEvery = 500 * time.Millisecond

// liveURL is the address of the stream that tells a page of what changes from now
// on. What was asked for before the page was read is not missed by it.
func (s *Server) liveURL(ctx context.Context, about url.Values) (string, error) {
	size, err := s.cfg.Store.AuditSize(ctx)
	if err != nil {
		return "", err
	}
	q := url.Values{"after": {strconv.FormatInt(size-1, 10)}}
	for name, values := range about {
		if len(values) > 0 && values[0] != "" {
			q[name] = values[:1]
		}
	}
	return "/live?" + q.Encode(), nil
}

// liveFilter reads what a page is about, and asks whether its person may see it.
func (s *Server) liveFilter(ctx context.Context, q url.Values) (*eventFilter, error) {
	in := &eventsInput{Target: q.Get("target"), Env: q.Get("env"), Team: q.Get("team")}
	if id := q.Get("run"); id != "" {
		run, err := s.run(ctx, id)
		if err != nil {
			return nil, err
		}
		in.Target = run.Target.String()
	}
	return s.eventFilter(ctx, in)
}

// tellPage tells a page that there is something new, and not what: the page asks for
// itself again, and gets what its person may see.
func (s *Server) tellPage(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	filter, err := s.liveFilter(r.Context(), q)
	var after int64
	if err == nil {
		after, err = lastEvent(&eventsInput{Last: r.Header.Get("Last-Event-ID"), After: q.Get("after")})
	}
	if err != nil {
		s.writeProblem(w, r, err)
		return
	}
	select {
	case s.readers <- struct{}{}:
		defer func() { <-s.readers }()
	default:
		s.writeProblem(w, r, fmt.Errorf("%w: %d readers are here already: try again in a moment", release.ErrUnavailable, maxReaders))
		return
	}
	if err := s.hub.join(r.Context()); err != nil {
		s.writeProblem(w, r, err)
		return
	}
	s.streams.readers.Inc()
	defer func() {
		s.hub.leave()
		s.streams.readers.Dec()
	}()
	ctx, end := s.live(r.Context(), streamLasts)
	defer end()
	out := s.openStream(w)
	defer pushDeadline(out.rc) // for what ends the answer
	if err := s.sendLive(ctx, out, filter, after); err != nil && ctx.Err() == nil && out.err == nil {
		s.log.ErrorContext(ctx, "a page's stream broke off", "request_id", requestID(ctx), "error", err)
	}
}

// sendLive says so whenever the hub has something that the page may be about.
func (s *Server) sendLive(ctx context.Context, out *logWriter, filter *eventFilter, after int64) error {
	p := s.hub.here()
	size, err := s.cfg.Store.AuditSize(ctx)
	if err != nil {
		return err
	}
	news := after != -2 && after != size-1 // between the page and its stream
	if err := out.flush(); err != nil {
		return err
	}
	heart := time.NewTicker(heartEvery)
	defer heart.Stop()
	for {
		frames, more, err := s.hub.take(&p)
		switch {
		case errors.Is(err, errBehind): // much has happened
			news, p = true, s.hub.here()
			continue
		case err != nil:
			return err
		}
		for _, f := range frames {
			size = max(size, f.index+1)
			news = news || filter.concerns(f)
		}
		if len(frames) > 0 {
			continue
		}
		if news {
			news = false
			if err := s.sendChange(out, size-1); err != nil {
				return err
			}
			if !sleep(ctx, liveEvery) {
				return nil
			}
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-more:
		case <-heart.C:
			if err := out.put([]byte(": here\n\n")); err != nil {
				return err
			}
			if err := out.flush(); err != nil {
				return err
			}
		}
	}
}

// sendChange sends the event. Its data is its id: one without data is not heard.
func (s *Server) sendChange(out *logWriter, id int64) error {
	if err := out.put(fmt.Appendf(nil, "event: change\nid: %d\ndata: %d\n\n", id, id)); err != nil {
		return err
	}
	return out.flush()
}

// concerns reports whether a page is about a frame. What is about no target, such
// as a freeze or a tag that was refused, may change any page that is about several.
func (f *eventFilter) concerns(e eventFrame) bool {
	if e.target == (release.Target{}) {
		return f.target == nil && f.person.Scopes(identity.View) != nil
	}
	return f.wants(e)
}
