package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/release"
)

// wire is an address that stays while the service behind it comes and goes.
type wire struct {
	listener net.Listener

	mu    sync.Mutex
	to    string
	conns map[net.Conn]bool
}

func newWire(t *testing.T) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: l, conns: map[net.Conn]bool{}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { w.carry(conn) })
		}
	})
	t.Cleanup(func() { l.Close(); w.cut(); all.Wait() })
	return w
}

func (w *wire) carry(a net.Conn) {
	w.mu.Lock()
	to := w.to
	w.mu.Unlock()
	b, err := net.Dial("tcp", to)
	if err != nil {
		a.Close()
		return
	}
	w.mu.Lock()
	w.conns[a], w.conns[b] = true, true
	w.mu.Unlock()
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{a, b}, {b, a}} {
		both.Go(func() {
			_, _ = io.Copy(pair[0], pair[1])
			a.Close()
			b.Close()
		})
	}
	both.Wait()
}

// lead makes new connections go to a service.
func (w *wire) lead(server string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.to = strings.TrimPrefix(server, "http://")
}

// cut breaks every connection in the middle.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		c.Close()
	}
	clear(w.conns)
}

// background runs a command until stop, which gives its exit code.
func (w *world) background(server string, args ...string) (out *syncBuffer, stop func() int) {
	ctx, cancel := context.WithCancel(w.t.Context())
	out = &syncBuffer{}
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, append(args, "--server", server), func(string) string { return "" }, out, w.log)
	}()
	return out, func() int { cancel(); return <-code }
}

// TestWatchAndLogsGoOnWhereTheyWereCut: neither a broken connection nor a restart
// of the service in the middle of an apply loses or doubles a line.
func TestWatchAndLogsGoOnWhereTheyWereCut(t *testing.T) {
	w := newWorld(t, "")
	w.remote.Commit(map[string]string{"main.tf": slowCode})
	w.serve()
	w.contact()
	line := newWire(t)
	line.lead(w.server)
	server := "http://" + line.listener.Addr().String()
	people, endPeople := w.background(server, "watch")
	programs, endPrograms := w.background(server, "watch", "-o", "json", "--env", "dev", "--after", "-1")
	const tag = "dev_us-east-1/research/1.0"
	w.push(tag)
	w.await("the apply", func() bool {
		found, _ := filepath.Glob(filepath.Join(w.dir, "data/runs/1/*/tree/ran"))
		return len(found) == 1
	})
	logs, endLogs := w.background(server, "runs", "logs", "1", "-f")
	w.await("the log", func() bool { return strings.Contains(logs.String(), "(local-exec): ran") })
	w.await("the stage", func() bool { return strings.Contains(people.String(), "running: apply") })
	line.cut()
	w.await("the log after a cut", func() bool { return strings.Contains(logs.String(), "Still creating") })
	w.stop()
	w.serve()
	line.lead(w.server)
	work, _ := filepath.Glob(filepath.Join(w.dir, "data/runs/1/*/tree"))
	if err := os.WriteFile(filepath.Join(work[0], "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.until(tag, release.Succeeded)
	w.await("the end in every view", func() bool {
		return strings.Contains(logs.String(), "run 1 succeeded\n") && strings.Contains(people.String(), "run.succeeded") &&
			strings.Contains(programs.String(), "run.succeeded")
	})
	if code := endLogs(); code != exitDone {
		t.Errorf("logs -f: exit %d", code)
	}
	if code := endPeople(); code != exitDone {
		t.Errorf("watch: exit %d", code)
	}
	endPrograms()
	if whole := w.mustCLI("runs", "logs", "1"); whole != logs.String() {
		t.Errorf("the followed log is\n%s\nwant\n%s", logs.String(), whole)
	}
	w.eachOnce(programs.String())
}

// eachOnce holds what watch gave to programs against the audit log.
func (w *world) eachOnce(text string) {
	w.t.Helper()
	seen := map[string]int{}
	for line := range strings.Lines(text) {
		var e api.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			w.t.Fatalf("%q: %v", line, err)
		}
		if e.Kind() != api.RunChanged {
			seen[e.ID]++
		}
	}
	for _, entry := range w.entries() {
		want := 0
		if strings.HasPrefix(entry.Target, "dev_") {
			want = 1
		}
		if id := release.FormatID(entry.Index); seen[id] != want {
			w.t.Errorf("entry %s, %s, was told %d times, want %d", id, entry.Action, seen[id], want)
		}
	}
}
