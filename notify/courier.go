package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/waymark-cd/waymark/release"
)

// CourierConfig describes one place, and how it is told.
type CourierConfig struct {
	Name   string
	Record Record
	// Look gives the run of an event as it is now, and whether the place wants to
	// hear of it. A run that is not on record any more is not wanted.
	Look func(ctx context.Context, e Event) (n Notice, wanted bool, err error)
	// Send tells all of the notices, or none of them where it fails.
	Send func(ctx context.Context, notices []Notice) error
	// Most is how many notices Send takes at once; 0: any number.
	Most int
	// Batch is how long the first notice waits for others.
	Batch  time.Duration
	Every  time.Duration // how often the log is looked at; default 1 second
	Retry  time.Duration // the first wait after a failure; default 1 second; it grows to 5 minutes
	Logger *slog.Logger  // default: discard
	// Results counts notices by name and result, as NewResults makes it; nil: nobody counts.
	Results *prometheus.CounterVec
}

const (
	sendWithin   = 45 * time.Second // for one Send
	longestRetry = 5 * time.Minute
	longestLater = time.Hour // that a place may ask to be left alone for
	page         = 500       // entries that are read at once
	mostEntries  = 5000      // entries of one round
	mostNotices  = 1000      // likewise
	mostTold     = 10_000    // runs whose last state is remembered
)

// The results of telling.
const (
	resultTold    = "told"
	resultDropped = "dropped"
	resultFailed  = "failed"
)

// NewResults makes the counter of notices by place and result.
func NewResults(registry prometheus.Registerer) (*prometheus.CounterVec, error) {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waymark_notifications_total",
		Help: "Runs that a place was told of (told), refused to hear of (dropped), and attempts that failed (failed)."}, []string{"notification", "result"})
	return v, registry.Register(v)
}

// Courier tells one place. Its goroutine, that of Run, owns everything in it.
type Courier struct {
	cfg       CourierConfig
	log       *slog.Logger
	again     *backoff.ExponentialBackOff
	position  int64
	due       time.Time               // when the batch at hand is sent; zero: there is none
	notBefore time.Time               // after a failure
	attempts  int                     // that were refused, for the first notice
	told      map[int64]release.State // what was told last, by run
	order     []int64                 // runs in told, as they came
}

// NewCourier checks the configuration. It starts nothing.
func NewCourier(cfg CourierConfig) (*Courier, error) {
	if cfg.Name == "" || cfg.Record == nil || cfg.Look == nil || cfg.Send == nil {
		return nil, fmt.Errorf("courier %q: %w: it needs a name, a record, a look at runs and a way to send", cfg.Name, release.ErrInvalid)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	cfg.Every, cfg.Retry = cmp.Or(cfg.Every, time.Second), cmp.Or(cfg.Retry, time.Second)
	c := &Courier{cfg: cfg, log: cfg.Logger.With("notification", cfg.Name), again: backoff.NewExponentialBackOff(), told: map[int64]release.State{}}
	c.again.InitialInterval, c.again.MaxInterval = cfg.Retry, max(longestRetry, cfg.Retry)
	if cfg.Results != nil {
		for _, result := range []string{resultTold, resultDropped, resultFailed} {
			cfg.Results.WithLabelValues(cfg.Name, result)
		}
	}
	return c, nil
}

// Run tells the place until ctx ends. It always returns nil: what is wrong is on
// record, and is tried again. One process at a time may run it for a place.
func (c *Courier) Run(ctx context.Context) error {
	tick := time.NewTicker(c.cfg.Every)
	defer tick.Stop()
	for opened := false; ; {
		if !opened {
			position, err := c.cfg.Record.Open(ctx, c.cfg.Name)
			c.position, opened = position, err == nil
			c.due = time.Time{}
			if err != nil && ctx.Err() == nil {
				c.log.Warn("how far it has been told cannot be read", "error", err)
			}
		}
		if opened {
			err := c.round(ctx)
			switch {
			case ctx.Err() != nil:
			case errors.Is(err, release.ErrConflict): // another process tells it, or did
				opened = false
			case err != nil:
				c.log.Warn("the record cannot be read or written", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// round tells what there is to tell, where it is time. Its errors are of the
// record; what the place answers is dealt with.
func (c *Courier) round(ctx context.Context) error {
	now := time.Now()
	if now.Before(c.notBefore) || now.Before(c.due) {
		return nil
	}
	notices, next, err := c.gather(ctx)
	if err != nil {
		return err
	}
	if len(notices) > 0 && c.cfg.Batch > 0 && c.due.IsZero() {
		c.due = now.Add(c.cfg.Batch)
		return nil
	}
	most := cmp.Or(c.cfg.Most, max(1, len(notices)))
	for chunk := range slices.Chunk(notices, most) {
		to := next
		if last := chunk[len(chunk)-1]; last.Index != notices[len(notices)-1].Index {
			to = last.Index + 1
		}
		if sent, err := c.send(ctx, chunk, to); err != nil || !sent {
			return err
		}
	}
	c.due = time.Time{}
	return c.move(ctx, Step{To: next}) // past what nobody wanted to hear of
}

// gather reads the log on from the position: the runs to tell of, each once, in
// the order of what last told of them.
func (c *Courier) gather(ctx context.Context) (notices []Notice, next int64, err error) {
	last := map[int64]int64{} // index of a run's last event
	next = c.position
	for next-c.position < mostEntries && len(last) < mostNotices {
		events, after, err := c.cfg.Record.Read(ctx, next, page)
		if err != nil {
			return nil, 0, err
		}
		for _, e := range events {
			last[e.RunID] = e.Index
		}
		if after == next {
			break
		}
		next = after
	}
	for id, index := range last {
		n, wanted, err := c.cfg.Look(ctx, Event{Index: index, RunID: id})
		if err != nil {
			return nil, 0, err
		}
		if wanted && c.told[id] != n.Run.State {
			n.Index = index
			notices = append(notices, n)
		}
	}
	slices.SortFunc(notices, func(a, b Notice) int { return cmp.Compare(a.Index, b.Index) })
	return notices, next, nil
}

// send tells some notices and moves the position to. It reports whether to go on.
func (c *Courier) send(ctx context.Context, notices []Notice, to int64) (bool, error) {
	within, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	err := c.cfg.Send(within, notices)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	step := Step{To: to, Told: int64(len(notices))}
	var refusal *Refusal
	switch {
	case err == nil:
		c.count(resultTold, len(notices))
	case errors.As(err, &refusal) && c.attempts >= refusal.Patience:
		c.count(resultDropped, len(notices))
		c.log.Warn("runs are not told of: the other side refuses to hear of them", "runs", runIDs(notices), "error", err)
		step = Step{To: to, Dropped: int64(len(notices)), Reason: err.Error()}
	default:
		return false, c.fail(ctx, err)
	}
	c.attempts, c.notBefore = 0, time.Time{}
	c.again.Reset()
	for _, n := range notices {
		c.remember(n.Run.ID, n.Run.State)
	}
	return true, c.move(ctx, step)
}

// fail records that the place could not be told, and waits.
func (c *Courier) fail(ctx context.Context, err error) error {
	c.count(resultFailed, 1)
	wait := c.again.NextBackOff()
	var later *Later
	var refusal *Refusal
	switch {
	case errors.As(err, &later):
		wait = min(max(wait, later.After), longestLater)
	case errors.As(err, &refusal):
		c.attempts++
	}
	c.notBefore = time.Now().Add(wait)
	c.log.Warn("telling failed, trying again", "error", err, "after", wait.Round(time.Millisecond).String())
	return c.cfg.Record.Fail(ctx, c.cfg.Name, err.Error(), wait)
}

// move writes the position down, where it changes.
func (c *Courier) move(ctx context.Context, step Step) error {
	if step.From = c.position; step.To <= step.From {
		return nil
	}
	if err := c.cfg.Record.Tell(ctx, c.cfg.Name, step); err != nil {
		return err
	}
	c.position = step.To
	return nil
}

func (c *Courier) count(result string, n int) {
	if c.cfg.Results != nil {
		c.cfg.Results.WithLabelValues(c.cfg.Name, result).Add(float64(n))
	}
}

// remember keeps what was told of a run, so that entries that do not change its
// state are no news. After a restart nothing is known, and some are.
func (c *Courier) remember(id int64, state release.State) {
	if _, known := c.told[id]; !known {
		c.order = append(c.order, id)
	}
	c.told[id] = state
	for len(c.order) > mostTold {
		delete(c.told, c.order[0])
		c.order = c.order[1:]
	}
}

// runIDs lists the first runs of notices, for the log.
func runIDs(notices []Notice) []string {
	var out []string
	for _, n := range notices[:min(len(notices), 10)] {
		out = append(out, release.FormatID(n.Run.ID))
	}
	return out
}
