package server_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/server"
)

func TestLogsFollowLineByLine(t *testing.T) {
	lines, read := make(chan string), make(chan bool)
	w := newWorld(t, func(c *server.Config) {
		c.Logs = func(_ context.Context, _, _ int64, follow bool, each func(release.LogLine) error) (release.Run, error) {
			if !follow {
				return release.Run{}, errors.New("was to follow")
			}
			n := int64(0)
			for line := range lines {
				n++
				if err := each(release.LogLine{N: n, Text: line}); err != nil {
					return release.Run{}, err
				}
			}
			return release.Run{State: release.Succeeded}, nil
		}
	})
	id := release.FormatID(w.admit("dev_us-east-1/research/1.0"))
	pr, pw := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := w.client.Logs(t.Context(), id, true, pw)
		pw.CloseWithError(io.EOF)
		done <- err
	}()
	go func() {
		for i := range 3 {
			lines <- fmt.Sprintf("line %d", i)
			<-read // the next line comes only when this one has arrived
		}
		close(lines)
	}()
	scanner := bufio.NewScanner(pr)
	for i := range 3 {
		if !scanner.Scan() || scanner.Text() != fmt.Sprintf("line %d", i) {
			t.Fatalf("line %d: %q, %v", i, scanner.Text(), scanner.Err())
		}
		read <- true
	}
	if !scanner.Scan() || scanner.Text() != "run 1 succeeded" {
		t.Errorf("the end: %q, %v", scanner.Text(), scanner.Err())
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestLogsThatBreakOffAreNotTakenForWhole(t *testing.T) {
	w := newWorld(t, func(c *server.Config) {
		c.Logs = func(_ context.Context, _, _ int64, _ bool, each func(release.LogLine) error) (release.Run, error) {
			_ = each(release.LogLine{N: 1, Text: "half"})
			return release.Run{}, errors.New("the disk is gone")
		}
	})
	id := release.FormatID(w.admit("dev_us-east-1/research/1.0"))
	var b strings.Builder
	if err := w.client.Logs(t.Context(), id, false, &b); err == nil || !strings.Contains(err.Error(), "broke off") {
		t.Errorf("got %v after %q", err, b.String())
	}
}

// TestReaderThatLeavesOrSleepsBlocksNothing: a follower that does not read stays
// by itself, and its log ends when it leaves.
func TestReaderThatLeavesOrSleepsBlocksNothing(t *testing.T) {
	ended := make(chan error, 1)
	began := make(chan bool)
	w := newWorld(t, func(c *server.Config) {
		c.Logs = func(ctx context.Context, _, _ int64, _ bool, each func(release.LogLine) error) (release.Run, error) {
			close(began)
			for n := int64(1); ; n++ {
				if err := each(release.LogLine{N: n, Text: strings.Repeat("x", 1<<16)}); err != nil {
					ended <- err
					return release.Run{}, err
				}
			}
		}
	})
	id := release.FormatID(w.admit("dev_us-east-1/research/1.0"))
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { left <- w.client.Logs(ctx, id, true, stuck{ctx}) }()
	<-began
	if _, err := w.client.Targets(t.Context()); err != nil {
		t.Errorf("another request: %v", err)
	}
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the reader that left: %v", err)
	}
	<-ended
}

// stuck takes nothing until its context ends.
type stuck struct{ ctx context.Context }

func (s stuck) Write([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

// TestLogLinesAreNumberedAndGoOn: a log that breaks off in the middle is taken up
// again at the line where it ended.
func TestLogLinesAreNumberedAndGoOn(t *testing.T) {
	var asked []int64
	w := newWorld(t, func(c *server.Config) {
		c.Logs = func(_ context.Context, _, from int64, follow bool, each func(release.LogLine) error) (release.Run, error) {
			asked = append(asked, from)
			for n := max(from, 1); n <= 5; n++ {
				if err := each(release.LogLine{N: n, At: testNow, Stage: release.StagePlan, Text: fmt.Sprintf("text %d\n<%s>", n, evil)}); err != nil {
					return release.Run{}, err
				}
				if n == 3 && len(asked) == 1 {
					return release.Run{}, errors.New("the disk went away")
				}
			}
			return release.Run{State: release.Failed, Reason: "because"}, nil
		}
	})
	w.admit("dev_us-east-1/research/1.0")
	var got []int64
	end, err := w.client.FollowLog(t.Context(), "1", 2, func(l api.LogLine) error {
		if l.Stage != "plan" || !l.At.Equal(testNow) || !strings.Contains(l.Text, evil) {
			t.Errorf("line %+v", l)
		}
		got = append(got, l.N)
		return nil
	})
	if err != nil || end.State != "failed" || end.Reason != "because" {
		t.Errorf("the end: %+v, %v", end, err)
	}
	if fmt.Sprint(got) != "[2 3 4 5]" || fmt.Sprint(asked) != "[2 4]" {
		t.Errorf("lines %v, asked for from %v", got, asked)
	}
	_, body := w.do("GET", "/api/v1/runs/1/logs", "", "Accept", "text/event-stream", "Last-Event-ID", "4")
	if !strings.HasPrefix(body, "retry: 2000\n\nid: 5\nevent: line\ndata: {\"n\":5,") || !strings.HasSuffix(body, "event: end\ndata: {\"state\":\"failed\",\"reason\":\"because\"}\n\n") {
		t.Errorf("the stream: %q", body)
	}
	if _, body := w.do("GET", "/api/v1/runs/1/logs?from=5", ""); !strings.HasPrefix(body, "12:00:00.000 plan     text 5\n") || !strings.HasSuffix(body, "run 1 failed: because\n") {
		t.Errorf("as text: %q", body)
	}
}

// TestLogReadersAreBounded: past the bound who comes is told to come back.
func TestLogReadersAreBounded(t *testing.T) {
	w := newWorld(t, func(c *server.Config) {
		c.Logs = func(ctx context.Context, _, _ int64, _ bool, _ func(release.LogLine) error) (release.Run, error) {
			<-ctx.Done()
			return release.Run{}, ctx.Err()
		}
	})
	w.admit("dev_us-east-1/research/1.0")
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	for i := range 257 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.http.URL+"/api/v1/runs/1/logs?follow=true", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if want := map[bool]int{true: 200, false: 503}[i < 256]; resp.StatusCode != want {
			t.Fatalf("reader %d: %d", i+1, resp.StatusCode)
		}
	}
}
