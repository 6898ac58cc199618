package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/release"
)

// loudCode applies for as long as the file "go" is missing, and then says much.
const loudCode = worldCode + `
resource "terraform_data" "loud" {
  provisioner "local-exec" {
    command = "echo ran > ran; until test -e go; do sleep 0.05; done; yes 'a line that tells nothing of any interest to anybody' | head -n 20000"
  }
}
`

// slowReader asks for a stream and takes nothing of it.
type slowReader struct {
	*net.TCPConn
	last int64 // number of the last line that it has had
}

func (w *world) slowReader(path string) *slowReader {
	w.t.Helper()
	address := strings.TrimPrefix(w.server, "http://")
	conn, err := net.Dial("tcp", address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	fmt.Fprintf(conn, "GET %s HTTP/1.0\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", path, address)
	return &slowReader{TCPConn: conn.(*net.TCPConn)}
}

var lineID = regexp.MustCompile(`(?m)^id: (\d+)\nevent: line\ndata: .*\n\n`)

// TestAThousandSlowLogReaders: while they take nothing the run that they read comes
// to its end, in bounded memory. They are cut off, and who comes back goes on with
// the next line.
func TestAThousandSlowLogReaders(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the half minute after which a slow reader is cut off; left out with -short")
	}
	const readers = 1000
	w := newWorld(t, "")
	w.remote.Commit(map[string]string{"main.tf": loudCode})
	w.serve()
	w.contact()
	const tag = "dev_us-east-1/research/1.0"
	w.push(tag)
	work := ""
	w.await("the apply", func() bool {
		found, _ := filepath.Glob(filepath.Join(w.dir, "data/runs/1/*/tree/ran"))
		if len(found) == 1 {
			work = filepath.Dir(found[0])
		}
		return work != ""
	})
	most := watchMemory()
	var slow []*slowReader
	for range readers {
		slow = append(slow, w.slowReader("/api/v1/runs/1/logs"))
	}
	w.await("all readers", func() bool {
		return strings.Contains(w.get("/metrics"), fmt.Sprintf("\nwaymark_log_readers %d\n", readers))
	})
	began := time.Now()
	if err := os.WriteFile(filepath.Join(work, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.until(tag, release.Succeeded)
	took := time.Since(began)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // each may take 30 s for each piece
	defer cancel()
	err := poll(ctx, func() (bool, error) {
		return strings.Contains(w.get("/metrics"), fmt.Sprintf("\nwaymark_log_readers_cut_off_total %d\n", readers)), nil
	})
	if err != nil {
		t.Fatalf("not all were cut off: %v", err)
	}
	grown := most()
	t.Logf("the run ended %s after it began to speak to %d readers, which used %d MiB, %d KiB each", took.Round(time.Millisecond), readers, grown>>20, grown/readers>>10)
	if grown > 384<<20 {
		t.Errorf("%d slow readers used %d MiB", readers, grown>>20)
	}
	var all errgroup.Group
	for _, r := range slow[:25] { // what was on its way drips through the small windows of all
		all.Go(func() error { return w.comesBack(r) })
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	// One that takes all gets all, from where it was.
	n := slow[0].last
	end, err := w.client.FollowLog(t.Context(), "1", api.LogQuery{From: n + 1}, func(l api.LogLine) error {
		if n++; l.N != n {
			return fmt.Errorf("line %d came as %d", n, l.N)
		}
		return nil
	})
	if err != nil || end.State != "succeeded" || n < 20_000 {
		t.Errorf("%d lines, then %+v, %v", n, end, err)
	}
}

// comesBack takes what a reader was sent until it was cut off, and asks for the next
// line.
func (w *world) comesBack(r *slowReader) error {
	_ = r.SetReadBuffer(1 << 20)
	_ = r.SetReadDeadline(time.Now().Add(time.Minute))
	had, _ := io.ReadAll(r)
	ids := lineID.FindAllSubmatch(had, -1)
	if len(ids) == 0 || bytes.Contains(had, []byte("event: end")) {
		return fmt.Errorf("a slow reader had %d bytes, with %d lines", len(had), len(ids))
	}
	r.last, _ = strconv.ParseInt(string(ids[len(ids)-1][1]), 10, 64)
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.server+"/api/v1/runs/1/logs", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Last-Event-ID", fmt.Sprint(r.last))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	in := bufio.NewScanner(resp.Body)
	for in.Scan() {
		if id, ok := strings.CutPrefix(in.Text(), "id: "); ok {
			if id != fmt.Sprint(r.last+1) {
				return fmt.Errorf("a reader that comes back after line %d is told line %s", r.last, id)
			}
			return nil
		}
	}
	return fmt.Errorf("a reader that comes back after line %d is told nothing: %w", r.last, in.Err())
}
