package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/api"
)

// The client is tested against the real service in package server. Here it
// meets what is no Waymark: proxies, other programs, nobody.

func clientOf(t *testing.T, h http.HandlerFunc) *api.Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := api.NewClient(api.ClientConfig{Server: s.URL + "/", Token: "tok"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNewClientRefusesWhatIsNoAddress(t *testing.T) {
	for _, server := range []string{"127.0.0.1:8080", "ftp://host", "http://", "://", "http://user:pw@host", "http://host?x=1", "http://host#f"} {
		if _, err := api.NewClient(api.ClientConfig{Server: server}); err == nil || strings.Contains(err.Error(), "pw@") {
			t.Errorf("%q: %v", server, err)
		}
	}
	for _, server := range []string{"", "http://127.0.0.1:8080", "https://waymark.example.org/behind/a/proxy/"} {
		if _, err := api.NewClient(api.ClientConfig{Server: server}); err != nil {
			t.Errorf("%q: %v", server, err)
		}
	}
}

func TestAnswersThatAreNoProblemDocuments(t *testing.T) {
	for _, c := range []struct {
		status            int
		contentType, body string
		code, says        string
	}{
		{404, "text/html", "<h1>nginx</h1>", api.CodeNotFound, "404"},
		{502, "text/html", "<h1>bad gateway</h1>", api.CodeUnavailable, "502"},
		{500, "application/problem+json", `{"detail":"internal error","code":"internal","request_id":"R1"}`, api.CodeInternal, "R1"},
		{403, "application/problem+json", "{", api.CodeRefused, "403"},
		{409, "application/problem+json", strings.Repeat("x", 1<<20), api.CodeConflict, "409"},
		{302, "text/html", "", api.CodeInvalid, "302"},
		{422, "application/problem+json", `{"detail":"wrong","code":"invalid","errors":[{"location":"query.limit","message":"too large"}]}`, api.CodeInvalid, "query.limit: too large"},
	} {
		client := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", c.contentType)
			w.Header().Set("Location", "http://127.0.0.1:1/")
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		})
		_, err := client.Targets(t.Context())
		var p *api.Problem
		if !errors.As(err, &p) || p.Status != c.status || p.Code != c.code || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%d %s: got %v", c.status, c.contentType, err)
		}
	}
}

func TestWhatAnswersIsNoWaymark(t *testing.T) {
	client := clientOf(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>hello") })
	_, err := client.Targets(t.Context())
	var u *api.UnreachableError
	if !errors.As(err, &u) || !strings.Contains(err.Error(), "no waymark") {
		t.Errorf("another program: %v", err)
	}
	client = clientOf(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"targets": [`)
	})
	if _, err := client.Targets(t.Context()); err == nil {
		t.Error("half an answer is taken for a whole one")
	}
	nobody, err := api.NewClient(api.ClientConfig{Server: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nobody.Targets(t.Context()); !errors.As(err, &u) || !strings.Contains(err.Error(), "is the service running") {
		t.Errorf("nobody: %v", err)
	}
}

func TestCancelIsTheCallersOwn(t *testing.T) {
	asked, released := make(chan bool), make(chan bool)
	client := clientOf(t, func(_ http.ResponseWriter, r *http.Request) {
		asked <- true
		<-released
	})
	defer close(released)
	stop := fmt.Errorf("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { <-asked; cancel(stop) }()
	if _, err := client.Targets(ctx); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}

func TestRequestsStayInsideTheirPath(t *testing.T) {
	var got string
	client := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Method + " " + r.RequestURI + " " + r.Header.Get("Authorization")
		w.WriteHeader(http.StatusNotFound)
	})
	_, _ = client.Run(t.Context(), "1/approve?x=#y")
	if want := "GET /api/v1/runs/1%2Fapprove%3Fx=%23y Bearer tok"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	_, _ = client.Runs(t.Context(), api.RunQuery{Target: "a&state=failed", Limit: 3})
	if want := "GET /api/v1/runs?limit=3&target=a%26state%3Dfailed Bearer tok"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
