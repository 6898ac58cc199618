package server_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

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
