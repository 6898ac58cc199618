package testkit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Letter is one request that an Inbox got.
type Letter struct {
	At     time.Time
	Method string
	Path   string
	Query  url.Values
	Header http.Header
	Body   []byte
	Status int // that it was answered with
}

// Inbox is an HTTP server that keeps what it is sent: a chat, or the ground of
// a Forge. Its methods may be called while it serves.
type Inbox struct {
	URL string

	mu      sync.Mutex
	got     []Letter
	answers []answer
	broken  *answer
	handle  func(r Letter) answer
}

type answer struct {
	status int
	header map[string]string
	body   string
}

// NewInbox starts an inbox that answers 200 "ok" and ends with the test.
func NewInbox(t testing.TB) *Inbox {
	r := &Inbox{handle: func(Letter) answer { return answer{status: http.StatusOK, body: "ok"} }}
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	r.URL = s.URL
	return r
}

// ServeHTTP is part of http.Handler.
func (r *Inbox) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(io.LimitReader(req.Body, 10<<20))
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	got := Letter{At: time.Now(), Method: req.Method, Path: req.URL.EscapedPath(), Query: req.URL.Query(), Header: req.Header.Clone(), Body: body}
	var a answer
	switch {
	case r.broken != nil:
		a = *r.broken
	case len(r.answers) > 0:
		a, r.answers = r.answers[0], r.answers[1:]
	default:
		a = r.handle(got)
	}
	got.Status = a.status
	r.got = append(r.got, got)
	for k, v := range a.header {
		w.Header().Set(k, v)
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

// Received lists every request so far.
func (r *Inbox) Received() []Letter {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// AnswerNext has the next request answered like this, instead of by what the
// inbox is.
func (r *Inbox) AnswerNext(status int, body string, header ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers = append(r.answers, makeAnswer(status, body, header))
}

// Break has all requests answered like this, until Mend.
func (r *Inbox) Break(status int, body string, header ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := makeAnswer(status, body, header)
	r.broken = &a
}

// Mend ends what Break began.
func (r *Inbox) Mend() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = nil
}

func makeAnswer(status int, body string, header []string) answer {
	a := answer{status: status, body: body, header: map[string]string{}}
	for i := 0; i+1 < len(header); i += 2 {
		a.header[header[i]] = header[i+1]
	}
	return a
}

// ForgeStatus is a commit's status, in the forge's own words.
type ForgeStatus struct {
	State, Description, URL string
}

// ForgeDeployment is a deployment at GitHub.
type ForgeDeployment struct {
	ID          int64
	Ref         string
	Task        string
	Environment string
	States      []string // its statuses, the oldest first
}

// Forge is the part of a forge that takes commit statuses and deployments, small
// enough to read: it knows the real paths, headers and bodies, and nothing else.
type Forge struct {
	*Inbox
	Kind  string // github, gitlab, gitea, forgejo, bitbucket-cloud or bitbucket-server
	Token string // that it expects

	// Under the inbox's lock.
	commits     []string // that it knows; none: every one
	statuses    map[string]map[string]ForgeStatus
	deployments []ForgeDeployment
}

// NewForge starts a forge of that kind, which ends with the test. It knows the
// commits given, or every one where none is.
func NewForge(t testing.TB, kind string, commits ...string) *Forge {
	f := &Forge{Inbox: NewInbox(t), Kind: kind, Token: "t0ken", commits: commits, statuses: map[string]map[string]ForgeStatus{}}
	f.handle = f.answer
	return f
}

// Status gives the newest status of a commit under a context or key.
func (f *Forge) Status(commit, context string) ForgeStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.statuses[commit][context]
}

// Deployments lists the deployments, the oldest first.
func (f *Forge) Deployments() []ForgeDeployment {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.deployments)
}

func fail(status int, format string, a ...any) answer {
	body, _ := json.Marshal(map[string]string{"message": fmt.Sprintf(format, a...)})
	return answer{status: status, body: string(body)}
}

func (f *Forge) answer(r Letter) answer {
	if !f.knows(r.Header) {
		return fail(http.StatusUnauthorized, "Bad credentials")
	}
	handlers := map[string]func(Letter) answer{"github": f.gitHub, "gitlab": f.gitLab, "gitea": f.gitea, "forgejo": f.gitea,
		"bitbucket-cloud": f.bitbucket, "bitbucket-server": f.bitbucket}
	return handlers[f.Kind](r)
}

func (f *Forge) knows(h http.Header) bool {
	switch f.Kind {
	case "gitlab":
		return h.Get("Private-Token") == f.Token
	case "gitea", "forgejo":
		return h.Get("Authorization") == "token "+f.Token
	}
	return h.Get("Authorization") == "Bearer "+f.Token
}

// keep stores a status, or reports that the commit is not known.
func (f *Forge) keep(commit, context string, s ForgeStatus) bool {
	if len(f.commits) > 0 && !slices.Contains(f.commits, commit) {
		return false
	}
	if f.statuses[commit] == nil {
		f.statuses[commit] = map[string]ForgeStatus{}
	}
	f.statuses[commit][context] = s
	return true
}

// parts matches a path against a pattern whose parts in braces are returned.
func parts(path, pattern string) ([]string, bool) {
	have, want := strings.Split(path, "/"), strings.Split(pattern, "/")
	if len(have) != len(want) {
		return nil, false
	}
	var out []string
	for i := range want {
		if want[i] == "{}" {
			unescaped, err := url.PathUnescape(have[i])
			if err != nil || unescaped == "" {
				return nil, false
			}
			out = append(out, unescaped)
		} else if have[i] != want[i] {
			return nil, false
		}
	}
	return out, true
}

func (f *Forge) gitHub(r Letter) answer {
	if p, ok := parts(r.Path, "/api/v3/repos/{}/{}/statuses/{}"); ok && r.Method == http.MethodPost {
		var b struct {
			State, Description, Context string
			TargetURL                   string `json:"target_url"`
		}
		if err := json.Unmarshal(r.Body, &b); err != nil || !slices.Contains([]string{"pending", "success", "failure", "error"}, b.State) || len([]rune(b.Description)) > 140 {
			return fail(http.StatusUnprocessableEntity, "Validation Failed")
		}
		if !f.keep(p[2], b.Context, ForgeStatus{b.State, b.Description, b.TargetURL}) {
			return fail(http.StatusUnprocessableEntity, "No commit found for SHA: %s", p[2])
		}
		return answer{status: http.StatusCreated, body: `{"id":1}`}
	}
	if _, ok := parts(r.Path, "/api/v3/repos/{}/{}/deployments"); ok {
		return f.gitHubDeployments(r)
	}
	if p, ok := parts(r.Path, "/api/v3/repos/{}/{}/deployments/{}/statuses"); ok && r.Method == http.MethodPost {
		id, _ := strconv.ParseInt(p[2], 10, 64)
		i := slices.IndexFunc(f.deployments, func(d ForgeDeployment) bool { return d.ID == id })
		var b struct{ State string }
		if err := json.Unmarshal(r.Body, &b); err != nil || i < 0 {
			return fail(http.StatusNotFound, "Not Found")
		}
		f.deployments[i].States = append(f.deployments[i].States, b.State)
		return answer{status: http.StatusCreated, body: `{"id":1}`}
	}
	return fail(http.StatusNotFound, "Not Found")
}

func (f *Forge) gitHubDeployments(r Letter) answer {
	if r.Method == http.MethodGet {
		found := []map[string]int64{}
		for _, d := range f.deployments {
			if d.Task == r.Query.Get("task") && d.Environment == r.Query.Get("environment") && d.Ref == r.Query.Get("sha") {
				found = append(found, map[string]int64{"id": d.ID})
			}
		}
		body, _ := json.Marshal(found)
		return answer{status: http.StatusOK, body: string(body)}
	}
	var b struct {
		Ref, Task, Environment string
		AutoMerge              *bool     `json:"auto_merge"`
		RequiredContexts       *[]string `json:"required_contexts"`
	}
	if err := json.Unmarshal(r.Body, &b); err != nil || b.AutoMerge == nil || *b.AutoMerge || b.RequiredContexts == nil {
		return fail(http.StatusConflict, "Conflict: Commit status checks failed") // as it does without required_contexts
	}
	d := ForgeDeployment{ID: int64(len(f.deployments) + 1), Ref: b.Ref, Task: b.Task, Environment: b.Environment}
	f.deployments = append(f.deployments, d)
	return answer{status: http.StatusCreated, body: fmt.Sprintf(`{"id":%d}`, d.ID)}
}

// gitLab refuses a status that does not follow from the one before, as GitLab does.
func (f *Forge) gitLab(r Letter) answer {
	p, ok := parts(r.Path, "/api/v4/projects/{}/statuses/{}")
	if !ok || r.Method != http.MethodPost {
		return fail(http.StatusNotFound, "404 Not Found")
	}
	var b struct {
		State, Name, Description, Ref string
		TargetURL                     string `json:"target_url"`
	}
	if err := json.Unmarshal(r.Body, &b); err != nil || len([]rune(b.Description)) > 255 {
		return fail(http.StatusBadRequest, "invalid")
	}
	before := f.statuses[p[1]][b.Name].State
	if before == b.State || before == "running" && b.State == "pending" {
		event := map[string]string{"pending": "enqueue", "running": "run", "success": "success", "failed": "drop", "canceled": "cancel"}[b.State]
		return fail(http.StatusBadRequest, "Cannot transition status via :%s from :%s", event, before)
	}
	if !f.keep(p[1], b.Name, ForgeStatus{b.State, b.Description, b.TargetURL}) {
		return fail(http.StatusNotFound, "404 Commit Not Found")
	}
	return answer{status: http.StatusCreated, body: `{"id":1}`}
}

func (f *Forge) gitea(r Letter) answer {
	p, ok := parts(r.Path, "/api/v1/repos/{}/{}/statuses/{}")
	if !ok || r.Method != http.MethodPost {
		return fail(http.StatusNotFound, "Not Found")
	}
	var b struct {
		State, Context, Description string
		TargetURL                   string `json:"target_url"`
	}
	if err := json.Unmarshal(r.Body, &b); err != nil {
		return fail(http.StatusUnprocessableEntity, "%v", err)
	}
	if !f.keep(p[2], b.Context, ForgeStatus{b.State, b.Description, b.TargetURL}) {
		return fail(http.StatusNotFound, "object does not exist [id: %s]", p[2])
	}
	return answer{status: http.StatusCreated, body: `{"id":1}`}
}

func (f *Forge) bitbucket(r Letter) answer {
	pattern, states, good := "/repositories/{}/{}/commit/{}/statuses/build", []string{"SUCCESSFUL", "FAILED", "INPROGRESS", "STOPPED"}, http.StatusCreated
	if f.Kind == "bitbucket-server" {
		pattern, states, good = "/rest/api/latest/projects/{}/repos/{}/commits/{}/builds", []string{"SUCCESSFUL", "FAILED", "INPROGRESS", "CANCELLED", "UNKNOWN"}, http.StatusNoContent
	}
	p, ok := parts(r.Path, pattern)
	if !ok || r.Method != http.MethodPost {
		return fail(http.StatusNotFound, "Not Found")
	}
	var b struct{ Key, State, Name, URL, Description string }
	decoder := json.NewDecoder(bytes.NewReader(r.Body))
	if err := decoder.Decode(&b); err != nil || b.Key == "" || len(b.Key) > 40 || b.URL == "" || !slices.Contains(states, b.State) {
		return fail(http.StatusBadRequest, "Bad request")
	}
	if !f.keep(p[2], b.Key, ForgeStatus{b.State, b.Description, b.URL}) {
		return fail(http.StatusNotFound, "Commit not found")
	}
	a := answer{status: good}
	if good == http.StatusCreated {
		a.body = `{}`
	}
	return a
}
