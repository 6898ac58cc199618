package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/release"

	"github.com/waymark-cd/waymark/api"
)

// bigLog is how large the log is that is read from all sides. A gigabyte is the
// benchmark's.
const bigLog = 256 << 20

// writeBigLog makes the log of a run be so large, with lines of some 200 bytes whose
// text is their number, and gives how many it has.
func writeBigLog(tb testing.TB, file string, size int) (lines int64) {
	tb.Helper()
	f, err := os.Create(file)
	if err != nil {
		tb.Fatal(err)
	}
	out := bufio.NewWriterSize(f, 1<<20)
	rest := `,"at":"2026-01-02T03:04:05Z","type":"log","stage":"apply","message":"` + strings.Repeat("nothing to tell, ", 8)
	for written := 0; written < size; {
		lines++
		n, _ := fmt.Fprintf(out, `{"format":1,"n":%d%s line %d."}`+"\n", lines, rest, lines) // out remembers what went wrong
		written += n
	}
	if err := out.Flush(); err != nil {
		tb.Fatal(err)
	}
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
	return lines
}

// bigLogWorld is a service with a run that has ended and whose log is large.
func bigLogWorld(t *testing.T, size int) (w *world, lines int64) {
	t.Helper()
	w = newWorld(t, "")
	w.serve()
	w.contact()
	const tag = "dev_us-east-1/research/1.0"
	w.push(tag)
	w.until(tag, release.Succeeded)
	files, err := filepath.Glob(filepath.Join(w.dir, "data/runs/1/1/*/events.jsonl"))
	if err != nil || len(files) != 2 {
		t.Fatalf("the log is in %v, %v", files, err)
	}
	plan, err := os.ReadFile(filepath.Join(w.dir, "data/runs/1/1/plan/events.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines = writeBigLog(t, filepath.Join(w.dir, "data/runs/1/1/apply-1/events.jsonl"), size)
	return w, lines + int64(bytes.Count(plan, []byte("\n")))
}

// watchMemory gives how much memory was in use at most while it watched.
func watchMemory() (most func() uint64) {
	stop, ended := make(chan struct{}), make(chan struct{})
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before, peak := m.HeapInuse+m.StackInuse, uint64(0)
	go func() {
		defer close(ended)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapInuse+m.StackInuse)
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 {
		close(stop)
		<-ended
		return peak - min(peak, before)
	}
}

// timed reads an answer of the service, and how long it took.
func (w *world) timed(path string, header ...string) (body string, took time.Duration) {
	w.t.Helper()
	began := time.Now()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.server+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		w.t.Fatalf("%s: %d, %v %.200s", path, resp.StatusCode, err, data)
	}
	return string(data), time.Since(began)
}

// TestABigLogIsReadWhereItIsAskedFor: its end, its middle, the page and a search cost
// little, and all of it no memory.
func TestABigLogIsReadWhereItIsAskedFor(t *testing.T) {
	if testing.Short() {
		t.Skip("writes and reads a large log; left out with -short")
	}
	w, lines := bigLogWorld(t, bigLog)
	most := watchMemory()
	mid, planned := lines/2, w.plannedLines()
	ends := fmt.Sprintf("line %d.\n", lines-planned)
	for path, holds := range map[string]string{
		"/api/v1/runs/1/logs?tail=100":                                      ends,
		fmt.Sprintf("/api/v1/runs/1/logs?from=%d&to=%d", mid, mid+99):       fmt.Sprintf("line %d.\n", mid-planned),
		fmt.Sprintf("/api/v1/runs/1/logs/search?text=nothing&from=%d", mid): fmt.Sprintf("line %d.", mid-planned),
		"/runs/1": strings.TrimSpace(ends),
	} {
		body, took := w.timed(path)
		t.Logf("%s: %s", path, took.Round(time.Millisecond))
		if !strings.Contains(body, holds) || len(body) > 400<<10 {
			t.Errorf("%s: %d bytes, %.300s", path, len(body), body)
		}
		if took > 3*time.Second {
			t.Errorf("%s took %s", path, took)
		}
	}
	body, _ := w.timed(fmt.Sprintf("/api/v1/runs/1/logs?from=%d&to=%d", mid, mid+99), "Accept", "text/event-stream")
	if n := strings.Count(body, "event: line\n"); n != 100 || !strings.HasSuffix(body, "event: part\ndata: {}\n\n") {
		t.Errorf("%d events, which end with %.100s", n, body[max(0, len(body)-100):])
	}
	began := time.Now()
	counter := &lineCounter{}
	if err := w.client.Logs(t.Context(), "1", api.LogQuery{}, counter); err != nil || counter.lines != lines+1 {
		t.Errorf("all of it: %d lines of %d, %v", counter.lines, lines, err)
	}
	grown := most()
	t.Logf("all %d lines as text in %s, with at most %d MiB of memory more", lines, time.Since(began).Round(time.Millisecond), grown>>20)
	if grown > 64<<20 {
		t.Errorf("reading %d MiB used %d MiB", bigLog>>20, grown>>20)
	}
}

// TestABigLogIsShownByWindows: the page shows the end first, goes back, follows links
// to lines, finds what is far away, and never holds more than a browser bears.
func TestABigLogIsShownByWindows(t *testing.T) {
	chromium(t)
	w, lines := bigLogWorld(t, 64<<20)
	planned := w.plannedLines()
	text := func(n int64) string { return fmt.Sprintf("line %d.", n-planned) }
	b := newBrowser(t, w.server)
	b.open("/runs/1")
	b.reads(text(lines), "The run has ended: succeeded.")
	first := func() int64 { return mustEval[int64](b, `Number(document.querySelector("#log .ln").id.slice(1))`) }
	before := first()
	b.click("#log button", "Load earlier lines")
	b.await("earlier lines", fmt.Sprintf(`Number(document.querySelector("#log .ln").id.slice(1)) < %d`, before))
	if now := first(); now != before-1000 {
		t.Errorf("earlier than line %d comes line %d", before, now)
	}
	mid := lines / 2
	b.open(fmt.Sprintf("/?#L%d", mid)) // another page: a hash alone loads none
	b.open(fmt.Sprintf("/runs/1#L%d", mid))
	b.reads(text(mid))
	b.await("the line that is linked to", fmt.Sprintf(`document.querySelector("#L%d.hit")?.getBoundingClientRect().top > 0`, mid))
	b.click("#log button", "Load later lines")
	b.reads(text(mid + 600))
	b.click("#log-search", "")
	b.press(text(1234 + planned))
	b.click("#log button", "Find in all of it")
	b.await("what is far away", fmt.Sprintf(`document.querySelector("#L%d.now")`, 1234+planned))
	b.reads(fmt.Sprintf("Line %d", 1234+planned))
	b.click("#log button", "Find in all of it")
	b.reads("Nothing found after line")
	b.click("#log button", "Follow")
	b.reads(text(lines))
	if n := mustEval[int](b, `document.querySelectorAll("#log .ln").length`); n > 5000 {
		t.Errorf("the page holds %d lines", n)
	}
}

// plannedLines is how many lines the plan's part of the log has.
func (w *world) plannedLines() int64 {
	data, err := os.ReadFile(filepath.Join(w.dir, "data/runs/1/1/plan/events.jsonl"))
	if err != nil {
		w.t.Fatal(err)
	}
	return int64(bytes.Count(data, []byte("\n")))
}

// lineCounter counts the lines that are written to it.
type lineCounter struct{ lines int64 }

func (c *lineCounter) Write(p []byte) (int, error) {
	c.lines += int64(bytes.Count(p, []byte("\n")))
	return len(p), nil
}
