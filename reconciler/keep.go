package reconciler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// Blobs keep bytes where every worker can read them, under keys such as
// runs/7/1/plan/0000000001-0000000042.jsonl. Errors wrap release.ErrUnavailable where they pass
// by themselves, and release.ErrNotFound.
type Blobs interface {
	Put(ctx context.Context, key string, data io.Reader) error
	Get(ctx context.Context, key string) (io.ReadCloser, error)
	List(ctx context.Context, prefix string) ([]string, error)
	// DeletePrefix removes what List shows.
	DeletePrefix(ctx context.Context, prefix string) error
}

// blobKey is where a file of an attempt is kept.
func blobKey(rec store.Record, names ...string) string {
	return path.Join(append([]string{"runs", filepath.ToSlash(attemptDir(rec.ID, rec.Attempt))}, names...)...)
}

// keepPatience bounds how long a run waits for the blob store.
const keepPatience = 2 * time.Minute

// keepPlan puts a saved plan, which is encrypted, where another worker finds it.
func (r *Reconciler) keepPlan(ctx context.Context, d *drive, rec store.Record) error {
	if r.Blobs == nil {
		return nil
	}
	for _, name := range []string{planName + release.SecretsSuffix, planName} {
		data, err := os.ReadFile(r.path(filepath.Join(attemptDir(rec.ID, rec.Attempt), name)))
		if errors.Is(err, fs.ErrNotExist) && name != planName {
			continue // an older version has planned
		}
		if err != nil {
			return fmt.Errorf("reading the saved plan: %w", err)
		}
		err = r.patiently(ctx, d, rec, func() error {
			return r.Blobs.Put(ctx, blobKey(rec, name), bytes.NewReader(data))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// patiently repeats what the blob store refuses for the time being.
func (r *Reconciler) patiently(ctx context.Context, d *drive, rec store.Record, fn func() error) error {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 200*time.Millisecond, 10*time.Second
	until := time.Now().Add(keepPatience)
	for {
		err := fn()
		if err == nil || errors.Is(err, release.ErrUnavailable) {
			r.setTrouble("blobs", err)
		}
		if err == nil || !errors.Is(err, release.ErrUnavailable) || time.Now().After(until) {
			return err
		}
		r.log.Warn("a run waits for the blob store", "run", rec.ID, "error", err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-d.cancel:
			return err
		case <-time.After(wait.NextBackOff()):
		}
	}
}

// askBlobs asks a blob store that did not answer whether it does now.
func (r *Reconciler) askBlobs(ctx context.Context) {
	r.mu.Lock()
	trouble := r.trouble["blobs"]
	r.mu.Unlock()
	if trouble == nil {
		return
	}
	if _, err := r.Blobs.List(ctx, "runs/0/"); err == nil { // of which there are none
		r.setTrouble("blobs", nil)
	}
}

// fetchPlan makes the saved plan and the working copy of a run be here: another
// worker may have planned.
func (r *Reconciler) fetchPlan(ctx context.Context, d *drive, w *watch, rec store.Record) error {
	dir := r.path(attemptDir(rec.ID, rec.Attempt))
	plan := filepath.Join(dir, planName)
	if _, err := os.Stat(plan); err == nil {
		return nil
	}
	if r.Blobs == nil {
		return fmt.Errorf("the saved plan is not on this worker's disk, and no blobs are configured that would keep it for all")
	}
	data, err := r.fetchKept(ctx, d, rec, planName)
	if err != nil {
		return fmt.Errorf("the saved plan cannot be had: %w", err)
	}
	secrets, err := r.fetchKept(ctx, d, rec, planName+release.SecretsSuffix)
	if err != nil && !errors.Is(err, release.ErrNotFound) {
		return fmt.Errorf("what of the saved plan is secret cannot be had: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the folder of run %d: %w", rec.ID, err)
	}
	tree := filepath.Join(dir, treeName)
	if _, err := os.Stat(tree); errors.Is(err, fs.ErrNotExist) {
		if err := r.writeTree(ctx, w, rec, tree); err != nil {
			return err
		}
	}
	if secrets != nil { // an older version keeps none
		if err := os.WriteFile(plan+release.SecretsSuffix, secrets, 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(plan, data, 0o600)
}

// fetchKept reads a file of an attempt that is kept for all workers.
func (r *Reconciler) fetchKept(ctx context.Context, d *drive, rec store.Record, name string) (data []byte, err error) {
	err = r.patiently(ctx, d, rec, func() error {
		blob, err := r.Blobs.Get(ctx, blobKey(rec, name))
		if err != nil {
			return err
		}
		defer blob.Close()
		data, err = io.ReadAll(blob)
		return err
	})
	return data, err
}

// shipEvery is how often the log of a run at work is put into the blob store.
const shipEvery = time.Second

// shipLog puts the log of a run at work where others can read it, piece by
// piece, until ctx ends. What it returns puts the rest.
func (r *Reconciler) shipLog(ctx context.Context, wait *sync.WaitGroup, rec store.Record) (rest func(context.Context)) {
	if r.Blobs == nil {
		return func(context.Context) {}
	}
	s := &shipper{r: r, rec: rec, file: filepath.Join(r.path(rec.RunnerDir), "events.jsonl"), folder: filepath.Base(rec.RunnerDir)}
	wait.Go(func() {
		tick := time.NewTicker(shipEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				s.ship(ctx)
			}
		}
	})
	return s.ship
}

// shipper puts the whole lines of an event file into blobs, one after the other.
type shipper struct {
	r            *Reconciler
	rec          store.Record
	file, folder string
	offset, line int64 // that are put: bytes, and lines
}

// maxPiece bounds one piece of a log, in bytes.
const maxPiece = 1 << 20

func (s *shipper) ship(ctx context.Context) {
	for {
		data, err := readPiece(s.file, s.offset)
		if err == nil && len(data) == 0 {
			return
		}
		last := s.line + int64(bytes.Count(data, []byte{'\n'}))
		if err == nil {
			err = s.r.Blobs.Put(ctx, blobKey(s.rec, s.folder, pieceName(s.line+1, last)), bytes.NewReader(data))
		}
		if err != nil {
			if ctx.Err() == nil {
				s.r.log.Warn("a run's log cannot be kept for others, it is on this worker's disk", "run", s.rec.ID, "error", err)
			}
			return
		}
		s.offset += int64(len(data))
		s.line = last
	}
}

// pieceName says which lines of its part a piece has, so that who looks for one
// fetches no other.
func pieceName(first, last int64) string { return fmt.Sprintf("%010d-%010d.jsonl", first, last) }

// pieceLines reads what pieceName says. Those of older versions have no numbers.
func pieceLines(key string) (first, last int64, numbered bool) {
	from, to, found := strings.Cut(strings.TrimSuffix(path.Base(key), ".jsonl"), "-")
	first, err := strconv.ParseInt(from, 10, 64)
	last, err2 := strconv.ParseInt(to, 10, 64)
	return first, last, found && err == nil && err2 == nil
}

// newestPieces leaves those without numbers out where there are others: a newer
// version has put the part again, from its first line on.
func newestPieces(keys []string) []string {
	numbered := func(key string) bool { _, _, ok := pieceLines(key); return ok }
	if !slices.ContainsFunc(keys, numbered) {
		return keys
	}
	return slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return !numbered(key) })
}

// readPiece reads whole lines from an offset on.
func readPiece(file string, offset int64) ([]byte, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, maxPiece)
	n, err := f.ReadAt(data, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	end := bytes.LastIndexByte(data[:n], '\n') + 1
	if end == 0 && n == maxPiece {
		end = n // a line longer than a piece
	}
	return data[:end], nil
}

// keptLog lists the pieces of a run's log that are kept for others, in order:
// by attempt, planning before applying.
func (r *Reconciler) keptLog(ctx context.Context, id int64) ([]string, error) {
	if r.Blobs == nil {
		return nil, nil
	}
	keys, err := r.Blobs.List(ctx, path.Join("runs", release.FormatID(id)))
	if err != nil {
		return nil, fmt.Errorf("listing the log of run %d: %w", id, err)
	}
	keys = slices.DeleteFunc(keys, func(key string) bool { return !strings.HasSuffix(key, ".jsonl") })
	slices.SortFunc(keys, compareLogKeys)
	return keys, nil
}

// compareLogKeys orders runs/<id>/<attempt>/<folder>/<piece>.
func compareLogKeys(a, b string) int {
	left, right := strings.Split(a, "/"), strings.Split(b, "/")
	for i := range min(len(left), len(right)) {
		l, r := left[i], right[i]
		if l == r {
			continue
		}
		if len(l) != len(r) && i == 2 { // attempts are numbers
			return len(l) - len(r)
		}
		if (l == "plan") != (r == "plan") {
			if l == "plan" {
				return -1
			}
			return 1
		}
		return strings.Compare(l, r)
	}
	return len(left) - len(right)
}
