// Package fill makes databases as they are after years: runs, releases, an
// inventory, and an audit log whose Merkle tree verifies. "make bench" measures
// the service over them, and tests ask every address of it.
//
// It writes rows past the store, because a store writes one decision at a time; it
// must never be pointed at a database that somebody uses, and refuses one that
// holds anything.
package fill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// Size is how much there is to be.
type Size struct {
	Runs      int // at least 1,000
	Entries   int // of the audit log; at least 8 for each run
	Resources int // of the inventory
}

// Small is what tests use, and Full what the figures of the service are about.
func Small() Size { return Size{Runs: 10_000, Entries: 100_000, Resources: 6_000} }

// Full is a fleet after years.
func Full() Size { return Size{Runs: 1_000_000, Entries: 10_000_000, Resources: 300_000} }

// String names the size, also as part of a file's name.
func (s Size) String() string {
	return fmt.Sprintf("%d-runs-%d-entries-%d-resources", s.Runs, s.Entries, s.Resources)
}

func (s Size) check() error {
	if s.Runs < 1000 || s.Entries < leastEntries*s.Runs || s.Resources < 0 {
		return fmt.Errorf("%w size: at least 1,000 runs, and %d audit entries for each", release.ErrInvalid, leastEntries)
	}
	return nil
}

// Config says what to fill.
type Config struct {
	URL  string // of an empty database, as the store takes it
	Size Size
	// Now is the end of the time that the rows tell of; zero: the time of the call.
	Now time.Time
	// Progress is called with how many runs are written; nil: nobody asks.
	Progress func(runs int)
}

// batchRuns is how many runs are made and written at once.
const batchRuns = 4000

// Fill makes the schema and fills it: the same rows for the same size, but for
// their times. A database that holds runs or audit entries is release.ErrConflict.
func Fill(ctx context.Context, cfg Config) error {
	if err := cfg.Size.check(); err != nil {
		return err
	}
	if err := migrated(ctx, cfg.URL); err != nil {
		return err
	}
	into, err := open(ctx, cfg.URL)
	if err != nil {
		return err
	}
	err = into.begin(ctx)
	if err == nil {
		err = write(ctx, into, cfg)
	}
	if err == nil {
		err = into.finish(ctx)
	}
	return errors.Join(err, into.close(ctx))
}

// migrated makes the schema, and refuses a database that is in use.
func migrated(ctx context.Context, url string) error {
	s, err := store.Open(ctx, store.Config{URL: url})
	if err != nil {
		return err
	}
	defer s.Close()
	runs, _, err := s.Runs(ctx, store.RunFilter{Limit: 1})
	if err != nil {
		return err
	}
	size, err := s.AuditSize(ctx)
	if err == nil && (size > 0 || len(runs) > 0) {
		err = fmt.Errorf("%w: the database holds %d audit entries: name an empty one", release.ErrConflict, size)
	}
	return err
}

// write makes batches on one side and writes them on the other.
func write(ctx context.Context, into sink, cfg Config) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	batches := make(chan *batch, 1)
	made := make(chan error, 1)
	go func() {
		defer close(batches)
		made <- produce(ctx, newWorld(cfg.Size, cmp.Or(cfg.Now, time.Now())), batches)
	}()
	for b := range batches {
		for _, t := range b.tables {
			if err := into.rows(ctx, t.name, t.columns, t.rows); err != nil {
				cancel()
				<-made
				return fmt.Errorf("filling %s: %w", t.name, err)
			}
		}
		if cfg.Progress != nil {
			cfg.Progress(b.runs)
		}
	}
	return <-made
}

func produce(ctx context.Context, w *world, out chan<- *batch) error {
	for done := false; !done; {
		b, err := w.next()
		if err != nil {
			return err
		}
		done = b == nil
		if done {
			if b, err = w.rest(); err != nil {
				return err
			}
		}
		select {
		case out <- b:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// batch is rows that are written together, and how many runs there are by then.
type batch struct {
	runs   int
	tables []*table
}

type table struct {
	name    string
	columns []string
	rows    [][]any
}

// add puts a row into a table whose columns are named as in an INSERT.
func (b *batch) add(name, columns string, row ...any) {
	for _, t := range b.tables {
		if t.name == name {
			t.rows = append(t.rows, row)
			return
		}
	}
	t := &table{name: name, rows: [][]any{row}}
	for c := range strings.SplitSeq(columns, ",") {
		t.columns = append(t.columns, strings.TrimSpace(c))
	}
	b.tables = append(b.tables, t)
}
