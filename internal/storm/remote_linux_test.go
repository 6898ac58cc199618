package storm

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/internal/testkit"
)

// How the git remote fails.
const (
	remoteWell      = ""
	remoteRefuses   = "answers 500"
	remoteTruncates = "breaks off its answers in the middle"
	remoteHangs     = "does not answer"
)

// hangFor is how long a hanging remote keeps each request waiting.
const hangFor = 2 * time.Second

// lyingRemote stands before a git remote and fails as it is told to.
type lyingRemote struct {
	url    string
	behind *testkit.HTTPRemote

	mu   sync.Mutex
	mood string
}

func newLyingRemote(t *testing.T, remote *testkit.Remote) *lyingRemote {
	l := &lyingRemote{behind: remote.ServeHTTP("", "")}
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	l.url = server.URL + "/remote.git"
	return l
}

func (l *lyingRemote) set(mood string) {
	l.mu.Lock()
	l.mood = mood
	l.mu.Unlock()
}

func (l *lyingRemote) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	mood := l.mood
	l.mu.Unlock()
	switch mood {
	case remoteWell:
		l.behind.ServeHTTP(w, r)
	case remoteRefuses:
		http.Error(w, "the storm says no", http.StatusInternalServerError)
	case remoteTruncates:
		whole := httptest.NewRecorder()
		l.behind.ServeHTTP(whole, r)
		for name, values := range whole.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(whole.Code)
		_, _ = w.Write(whole.Body.Bytes()[:whole.Body.Len()/2])
		panic(http.ErrAbortHandler) // the connection breaks
	case remoteHangs:
		timer := time.NewTimer(hangFor)
		defer timer.Stop()
		select {
		case <-r.Context().Done():
		case <-timer.C:
		}
		panic(http.ErrAbortHandler)
	}
}
