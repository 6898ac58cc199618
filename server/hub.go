package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

const (
	ringEvents  = 4096                  // that are kept for whoever reads the stream
	ringBytes   = 8 << 20               // of them together
	hubPause    = 50 * time.Millisecond // between two looks at what is new
	hubRetry    = time.Second           // after one that failed
	framesOnce  = 16                    // frames that a reader takes at once
	entriesOnce = 200                   // entries read at once
)

// eventFrame is one event as it goes over the wire, the same for all who may see it.
type eventFrame struct {
	index  int64          // of its audit entry; -1 for an event without an id
	kind   string         // such as run.approved
	target release.Target // zero for one that is about the whole service
	text   []byte
}

// hub reads what is new once for all readers of this instance, into a ring that
// does not grow. A reader has a place in the ring and nothing else; one who falls
// out of it is cut off.
type hub struct {
	store  *store.Store
	source string // of the events
	log    *slog.Logger

	mu      sync.Mutex
	readers int
	next    int64                  // index of the next audit entry to read
	ring    [ringEvents]eventFrame // frame number n is at n modulo its length
	first   int64                  // number of the oldest frame that is kept; frames are numbered through
	end     int64                  // number of the next frame
	bytes   int                    // of all frames
	more    chan struct{}          // closed, and made anew, when there are new frames
	begun   chan struct{}          // holds a token when the first reader has come
}

func newHub(s *store.Store, source string, log *slog.Logger) *hub {
	return &hub{store: s, source: source, log: log, more: make(chan struct{}), begun: make(chan struct{}, 1)}
}

// run fills the ring until ctx ends. While nobody reads it does nothing.
func (h *hub) run(ctx context.Context) error {
	watch := h.store.Watch()
	defer watch.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-watch.C():
		case <-h.begun:
		}
		changed := watch.Take()
		for {
			err := h.fill(ctx, changed)
			if err == nil {
				break
			}
			if ctx.Err() == nil {
				h.log.WarnContext(ctx, "events cannot be read, trying again", "error", err)
			}
			if !sleep(ctx, hubRetry) {
				return nil
			}
			changed.All = true
		}
		if !sleep(ctx, hubPause) {
			return nil
		}
	}
}

// sleep reports whether ctx is still there after d.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// fill appends what is new to the ring.
func (h *hub) fill(ctx context.Context, changed store.Changes) error {
	h.mu.Lock()
	next, idle := h.next, h.readers == 0
	h.mu.Unlock()
	if idle {
		return nil
	}
	for {
		entries, err := h.store.Entries(ctx, next, entriesOnce)
		if err != nil {
			return err
		}
		frames, err := h.entryFrames(entries)
		if err != nil {
			return err
		}
		h.append(frames)
		next += int64(len(entries))
		if len(entries) < entriesOnce {
			break
		}
	}
	runs, err := h.changedRuns(ctx, changed)
	if err != nil {
		return err
	}
	frames, err := h.runFrames(runs)
	if err != nil {
		return err
	}
	h.append(frames)
	return nil
}

func (h *hub) changedRuns(ctx context.Context, changed store.Changes) ([]release.Run, error) {
	if changed.All {
		return h.store.ActiveRuns(ctx)
	}
	return h.store.RunsByID(ctx, changed.Runs)
}

// append puts frames into the ring and takes the oldest out.
func (h *hub) append(frames []eventFrame) {
	if len(frames) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range frames {
		if f.index >= 0 {
			h.next = f.index + 1
		}
		for h.end-h.first >= ringEvents || h.end > h.first && h.bytes+len(f.text) > ringBytes {
			h.drop()
		}
		*h.at(h.end) = f
		h.end++
		h.bytes += len(f.text)
	}
	close(h.more)
	h.more = make(chan struct{})
}

// at is the place of a frame in the ring.
func (h *hub) at(number int64) *eventFrame { return &h.ring[number%ringEvents] }

// drop takes the oldest frame out.
func (h *hub) drop() {
	h.bytes -= len(h.at(h.first).text)
	*h.at(h.first) = eventFrame{}
	h.first++
}

// clear takes all frames out.
func (h *hub) clear() {
	for h.first < h.end {
		h.drop()
	}
}

// join adds a reader. The first one finds the ring at the log's end.
func (h *hub) join(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.readers == 0 {
		head, err := h.store.AuditSize(ctx)
		if err != nil {
			return err
		}
		h.clear()
		h.next = head
		select {
		case h.begun <- struct{}{}:
		default:
		}
	}
	h.readers++
	return nil
}

func (h *hub) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.readers--; h.readers == 0 {
		h.clear()
	}
}

// errBehind says that a reader has fallen out of the ring.
var errBehind = errors.New("the reader is too far behind")

// place is where a reader is: in the log, and in the ring once that has what the
// reader needs next.
type place struct {
	index int64 // of the next audit entry; what is before it the reader has
	frame int64 // number of the next frame; -1 before the ring is reached
}

// enter finds a reader's place in the ring, or reports that entries are missing
// between the two. A reader of what is not there yet begins at the end.
func (h *hub) enter(p *place) (entered bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	oldest := h.next
	for n := h.first; n < h.end; n++ {
		if f := h.at(n); f.index >= 0 {
			oldest = f.index
			break
		}
	}
	if p.index < oldest {
		return false
	}
	p.frame = h.first
	return true
}

// here is the place of a reader of what comes from now on.
func (h *hub) here() place {
	h.mu.Lock()
	defer h.mu.Unlock()
	return place{index: h.next, frame: h.end}
}

// take gives the next frames from a place on, at most a few, and moves it. Where
// there are none it gives a channel that is closed once there are.
func (h *hub) take(p *place) ([]eventFrame, <-chan struct{}, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.frame < h.first {
		return nil, nil, errBehind
	}
	if p.frame == h.end {
		return nil, h.more, nil
	}
	// A reader that waits for its client holds on to these, and to nothing else.
	out := make([]eventFrame, 0, framesOnce)
	for ; p.frame < h.end && len(out) < framesOnce; p.frame++ {
		out = append(out, *h.at(p.frame))
	}
	return out, nil, nil
}

// entryFrames makes frames of audit entries.
func (h *hub) entryFrames(entries []audit.Entry) ([]eventFrame, error) {
	out := make([]eventFrame, 0, len(entries))
	for _, e := range entries {
		data, err := json.Marshal(struct {
			api.AuditEntry
			Leaf *string `json:"leaf,omitempty"` // it repeats the rest
		}{AuditEntry: wireEntry(e)})
		if err != nil {
			return nil, fmt.Errorf("encoding audit entry %d: %w", e.Index, err)
		}
		f, err := h.frameOf(api.Event{ID: strconv.FormatInt(e.Index, 10), Source: h.source + "/audit",
			Type: release.CloudEventType(e.Action), Subject: e.Target, Time: e.At.UTC(), Data: data}, "audit", e.Index)
		if err != nil {
			return nil, err
		}
		if f.kind = e.Action; e.Target != "" {
			if f.target, err = release.ParseTarget(e.Target); err != nil {
				f.target = release.Target{} // for whoever sees everything
			}
		}
		out = append(out, f)
	}
	return out, nil
}

// runFrames makes frames of runs as they are.
func (h *hub) runFrames(runs []release.Run) ([]eventFrame, error) {
	out := make([]eventFrame, 0, len(runs))
	now := time.Now().UTC()
	for i, r := range runs {
		data, err := json.Marshal(wireRun(r))
		if err != nil {
			return nil, fmt.Errorf("encoding run %d: %w", r.ID, err)
		}
		f, err := h.frameOf(api.Event{ID: fmt.Sprintf("%d-%d-%d", r.ID, now.UnixNano(), i), Source: h.source + "/runs",
			Type: release.CloudEventType(api.RunChanged), Subject: r.Target.String(), Time: now, Data: data}, "run", -1)
		if err != nil {
			return nil, err
		}
		f.kind, f.target = api.RunChanged, r.Target
		out = append(out, f)
	}
	return out, nil
}

// frameOf prints an event as a server-sent one. name is what a page listens to.
func (h *hub) frameOf(e api.Event, name string, index int64) (eventFrame, error) {
	e.SpecVersion, e.DataContentType = "1.0", "application/json"
	text, err := json.Marshal(e) // one line: JSON has no line ends of its own
	if err != nil {
		return eventFrame{}, fmt.Errorf("encoding event %s: %w", e.ID, err)
	}
	var b []byte
	if index >= 0 {
		b = fmt.Appendf(b, "id: %d\n", index)
	}
	b = fmt.Appendf(b, "event: %s\ndata: %s\n\n", name, text)
	return eventFrame{index: index, text: b}, nil
}
