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
		c.Logs = func(_ context.Context, _ int64, q release.LogRange, each func(release.LogLine) error) (release.Run, error) {
			if !q.Follow {
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
		err := w.client.Logs(t.Context(), id, api.LogQuery{Follow: true}, pw)
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
		c.Logs = func(_ context.Context, _ int64, _ release.LogRange, each func(release.LogLine) error) (release.Run, error) {
			_ = each(release.LogLine{N: 1, Text: "half"})
			return release.Run{}, errors.New("the disk is gone")
		}
	})
	id := release.FormatID(w.admit("dev_us-east-1/research/1.0"))
	var b strings.Builder
	if err := w.client.Logs(t.Context(), id, api.LogQuery{}, &b); err == nil || !strings.Contains(err.Error(), "broke off") {
		t.Errorf("got %v after %q", err, b.String())
	}
}

// TestReaderThatLeavesOrSleepsBlocksNothing: a follower that does not read stays
// by itself, and its log ends when it leaves.
func TestReaderThatLeavesOrSleepsBlocksNothing(t *testing.T) {
	ended := make(chan error, 1)
	began := make(chan bool)
	w := newWorld(t, func(c *server.Config) {
		c.Logs = func(ctx context.Context, _ int64, _ release.LogRange, each func(release.LogLine) error) (release.Run, error) {
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
	go func() { left <- w.client.Logs(ctx, id, api.LogQuery{Follow: true}, stuck{ctx}) }()
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
		c.Logs = func(_ context.Context, _ int64, q release.LogRange, each func(release.LogLine) error) (release.Run, error) {
			asked = append(asked, q.From)
			for n := max(q.From, 1); n <= 5; n++ {
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
	end, err := w.client.FollowLog(t.Context(), "1", api.LogQuery{From: 2}, func(l api.LogLine) error {
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
		c.Logs = func(ctx context.Context, _ int64, _ release.LogRange, _ func(release.LogLine) error) (release.Run, error) {
			<-ctx.Done()
			return release.Run{}, ctx.Err()
		}
	})
	w.admit("dev_us-east-1/research/1.0")
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	for i := range 1025 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.http.URL+"/api/v1/runs/1/logs?follow=true", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if want := map[bool]int{true: 200, false: 503}[i < 1024]; resp.StatusCode != want {
			t.Fatalf("reader %d: %d", i+1, resp.StatusCode)
		}
	}
}

// TestAPartOfALogIsAskedForByItsLines, as text and as events, and ends as a part.
func TestAPartOfALogIsAskedForByItsLines(t *testing.T) {
	var asked release.LogRange
	w := newWorld(t, func(c *server.Config) {
		c.Logs = func(_ context.Context, _ int64, q release.LogRange, each func(release.LogLine) error) (release.Run, error) {
			asked = q
			return release.Run{State: release.Succeeded}, each(release.LogLine{N: max(q.From, 1), Text: "some"})
		}
	})
	w.admit("dev_us-east-1/research/1.0")
	const sse = "text/event-stream"
	for _, tt := range []struct {
		query, accept, last string
		want                release.LogRange
		ends                string
	}{
		{"from=3&to=5&follow=true", "", "", release.LogRange{From: 3, To: 5}, "some\n"},
		{"tail=5", "", "", release.LogRange{Tail: 5}, "run 1 succeeded\n"},
		{"tail=5", sse, "", release.LogRange{Tail: 5, Follow: true}, "event: end\ndata: {\"state\":\"succeeded\"}\n\n"},
		{"tail=5", sse, "8", release.LogRange{From: 9, Tail: 5, Follow: true}, "event: end\ndata: {\"state\":\"succeeded\"}\n\n"},
		{"from=3&to=5", sse, "", release.LogRange{From: 3, To: 5}, "event: part\ndata: {}\n\n"},
		{"from=3&to=5", sse, "4", release.LogRange{From: 5, To: 5}, "event: part\ndata: {}\n\n"},
	} {
		resp, body := w.do("GET", "/api/v1/runs/1/logs?"+tt.query, "", "Accept", tt.accept, "Last-Event-ID", tt.last)
		if resp.StatusCode != 200 || asked != tt.want || !strings.HasSuffix(body, tt.ends) {
			t.Errorf("%s %s: %d, asked for %+v, %q", tt.query, tt.accept, resp.StatusCode, asked, body)
		}
	}
	if resp, _ := w.do("GET", "/api/v1/runs/1/logs?tail=-1", ""); resp.StatusCode != 422 {
		t.Errorf("a tail of -1: %d", resp.StatusCode)
	}
}

// TestASearchLooksAtABoundedPart of a log, and goes on where it ended.
func TestASearchLooksAtABoundedPart(t *testing.T) {
	const lines = 100_000
	handed := 0
	long := strings.Repeat("x", 1000)
	w := newWorld(t, func(c *server.Config) {
		c.Logs = func(_ context.Context, _ int64, q release.LogRange, each func(release.LogLine) error) (release.Run, error) {
			for n := max(q.From, 1); n <= lines; n++ {
				l := release.LogLine{N: n, Stage: release.StagePlan, Text: long}
				if n%30_000 == 0 {
					l.Text = "the NEEDLE " + evil
				}
				handed++
				if err := each(l); err != nil {
					return release.Run{}, err
				}
			}
			return release.Run{State: release.Succeeded}, nil
		}
	})
	w.admit("dev_us-east-1/research/1.0")
	search := func(text string) (found []int64, calls, most int) {
		for from := int64(0); calls == 0 || from > 0; calls++ {
			handed = 0
			got, err := w.client.SearchLog(t.Context(), "1", text, from)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range got.Lines {
				found = append(found, l.N)
			}
			from, most = got.Next, max(most, handed)
		}
		return found, calls, most
	}
	if found, calls, most := search("needle"); fmt.Sprint(found) != "[30000 60000 90000]" || calls < 6 || most > 20_000 {
		t.Errorf("found %v in %d calls, at most %d lines each", found, calls, most)
	}
	if found, calls, _ := search("xxx"); len(found) != lines-3 || calls < 999 {
		t.Errorf("what is everywhere: %d lines in %d calls", len(found), calls)
	}
	if found, _, _ := search("plan"); len(found) != 0 {
		t.Errorf("the name of a stage is found in %v", found)
	}
	for _, query := range []string{"", "text=", "text=" + strings.Repeat("x", 201)} {
		if resp, _ := w.do("GET", "/api/v1/runs/1/logs/search?"+query, ""); resp.StatusCode != 422 {
			t.Errorf("%.20s: %d", query, resp.StatusCode)
		}
	}
}
