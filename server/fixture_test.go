package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/server"
	"github.com/waymark-cd/waymark/store"
)

// evil is what a tag message, a reason or a tool may hold.
const evil = "<script>alert(1)</script>\x1b[31m\u202e\"'&"

var testNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is a real server on a real store.
type world struct {
	t      *testing.T
	file   string // of the database
	store  *store.Store
	cfg    server.Config
	server *server.Server
	http   *httptest.Server
	client *api.Client
	log    *lockedBuffer

	mu       sync.Mutex
	now      time.Time
	verdicts []release.Verdict
	hints    []string
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newWorld starts a server; change edits its configuration first.
func newWorld(t *testing.T, change func(*server.Config)) *world {
	t.Helper()
	w := &world{t: t, now: testNow, log: &lockedBuffer{}, file: filepath.Join(t.TempDir(), "waymark.db")}
	s, err := store.Open(t.Context(), store.Config{URL: "sqlite://" + w.file, Now: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	w.store = s
	w.cfg = server.Config{
		Store: s, Version: "1.2.3", Now: w.clock,
		Logger: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Decide: w.decide,
		Hint:   func(repository string) { w.hints = append(w.hints, repository) },
		Logs: func(ctx context.Context, id int64, _ release.LogRange, each func(release.LogLine) error) (release.Run, error) {
			err := errors.Join(each(release.LogLine{N: 1, Text: fmt.Sprintf("log of run %d", id)}), each(release.LogLine{N: 2, Text: evil}))
			return release.Run{}, err
		},
		WebhookSecrets: map[string]string{"infra": "s3cret", "open": ""},
	}
	if change != nil {
		change(&w.cfg)
	}
	srv, err := server.New(w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.server = srv
	w.http = httptest.NewUnstartedServer(nil)
	w.http.Config = srv.HTTPServer()
	w.http.Start()
	t.Cleanup(w.http.Close)
	w.client, err = api.NewClient(api.ClientConfig{Server: w.http.URL, Token: w.cfg.Token})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// decide approves and rejects for real, in the store.
func (w *world) decide(ctx context.Context, id int64, v release.Verdict) (release.Run, error) {
	w.verdicts = append(w.verdicts, v)
	r, err := w.store.Update(ctx, id, store.Update{
		Entry: audit.Entry{Actor: v.Actor, Action: "run." + string(v.Action), Reason: v.Reason},
		Change: func(r *store.Record) error {
			if r.State != release.AwaitingApproval {
				return fmt.Errorf("run %d is %s, not awaiting approval: %w", id, r.State, release.ErrConflict)
			}
			r.State, r.Reason = release.Rejected, v.Reason
			if v.Action == release.Approve {
				r.State = release.Running
			}
			return nil
		}})
	return r.Run, err
}

// admit records a tag and gives its run.
func (w *world) admit(tag string) int64 {
	w.t.Helper()
	name, version := tag[:strings.LastIndex(tag, "/")], tag[strings.LastIndex(tag, "/")+1:]
	target, err := release.ParseTarget(name)
	if err != nil {
		w.t.Fatal(err)
	}
	_, id, err := w.store.Admit(w.t.Context(), store.Admission{
		Release: release.Release{Repository: "infra", Tag: tag, Target: target, Version: version,
			ObjectID: strings.Repeat("a", 40), Commit: strings.Repeat("c", 40), Tagger: "Ada <ada@example.org>",
			Message: evil, Decision: release.Admitted},
		Info: store.TargetInfo{Account: "111122223333", Region: "us-east-1",
			Backend: store.BackendInfo{Kind: "s3", Bucket: "states", Key: "research/dev.tfstate", Lock: "locks"}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// refuse records a tag that was refused.
func (w *world) refuse(tag, reason string) {
	w.t.Helper()
	_, _, err := w.store.Admit(w.t.Context(), store.Admission{Release: release.Release{Repository: "infra", Tag: tag,
		ObjectID: strings.Repeat("b", 40), Commit: strings.Repeat("d", 40), Decision: release.Refused, Reason: reason}})
	if err != nil {
		w.t.Fatal(err)
	}
}

// drive starts the run and takes it to state.
func (w *world) drive(id int64, state release.State) {
	w.t.Helper()
	if _, began, err := w.store.Start(w.t.Context(), id, "here"); err != nil || !began {
		w.t.Fatalf("run %d did not begin: %v", id, err)
	}
	w.advance(90 * time.Second)
	_, err := w.store.Update(w.t.Context(), id, store.Update{
		Entry: audit.Entry{Action: "run.driven"},
		Change: func(r *store.Record) error {
			r.Changes = release.Changes{Add: 2, Destroy: 1}
			r.Findings = release.FindingCount{Warning: 1}
			r.PlanDigest = "sha256:00"
			r.SetStage(release.Stage{Name: release.StagePlan, State: release.StagePassed,
				StartedAt: testNow, FinishedAt: testNow.Add(4 * time.Second), Summary: evil})
			if state != release.Running {
				r.State = state
			}
			if state.Ended() {
				r.FinishedAt = w.clock()
			}
			if state == release.AwaitingApproval {
				r.ApprovalsRequired = 1
			}
			return nil
		},
		Plan: &release.PlanSummary{Digest: "sha256:00", Changes: release.Changes{Add: 2, Destroy: 1},
			Resources: []release.ResourceChange{{Address: "terraform_data.a[\"" + evil + "\"]", Type: "terraform_data", Action: "create",
				Attributes: []release.AttributeChange{{Path: "input", After: evil}}}}},
		Findings: []release.Finding{{Source: "tflint", Rule: "terraform_typed_variables", Severity: release.SeverityWarning,
			File: "main.tf", Line: 12, Message: evil}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// do sends a bare request, as curl would, and reads the whole answer.
func (w *world) do(method, path, body string, header ...string) (*http.Response, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.http.URL+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req) // no redirects
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp, string(data)
}
