package gitrepo_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awscredentials "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/waymark-cd/waymark/credentials"
	"github.com/waymark-cd/waymark/gitrepo"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

// issuer gives passwords that serve a number of requests each, and puts a
// server before a remote that takes no other.
type issuer struct {
	refuse int // the status of a refusal
	lasts  int // requests that one password is good for

	mu     sync.Mutex
	issued int
	left   int
	urls   []string
}

func (i *issuer) credentials(_ context.Context, url string) (string, string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.issued++
	i.left = i.lasts
	i.urls = append(i.urls, url)
	return "signed%by", fmt.Sprintf("s3cret-%d", i.issued), nil
}

func (i *issuer) takes(req *http.Request) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	user, password, _ := req.BasicAuth()
	if user != "signed%by" || password != fmt.Sprintf("s3cret-%d", i.issued) || i.left == 0 {
		return false
	}
	i.left--
	return true
}

// asked returns how often it was, and starts to count anew.
func (i *issuer) asked() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := len(i.urls)
	i.urls = nil
	return n
}

func (i *issuer) serve(t *testing.T, remote http.Handler) (url string) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !i.takes(req) {
			http.Error(w, "no", i.refuse)
			return
		}
		remote.ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/remote.git"
}

func TestCredentialsAreAskedForEachExchange(t *testing.T) {
	for _, tt := range []struct {
		name          string
		refuse, lasts int
		list, fetch   int // times asked
	}{
		{"good for an exchange", http.StatusUnauthorized, 10, 1, 1},
		{"good for one request", http.StatusUnauthorized, 1, 2, 3},
		{"refused as a signature", http.StatusForbidden, 1, 2, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			remote := testkit.NewRemote(t)
			tip := remote.Commit(map[string]string{"a": "1"})
			i := &issuer{refuse: tt.refuse, lasts: tt.lasts}
			url := i.serve(t, remote.ServeHTTP("", ""))
			// Its user is for other clients: what is asked for goes before it.
			r := open(t, complete(t, gitrepo.Config{URL: strings.Replace(url, "://", "://else@", 1), Credentials: i.credentials}))
			if l := list(t, r); l.Branch != tip {
				t.Errorf("listed %+v", l)
			}
			if i.urls[0] != url {
				t.Errorf("asked for the credentials of %q, want %q", i.urls[0], url)
			}
			if n := i.asked(); n != tt.list {
				t.Errorf("asked %d times in List, want %d", n, tt.list)
			}
			if err := r.Fetch(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			wantReachable(t, r, tip, true)
			if n := i.asked(); n != tt.fetch {
				t.Errorf("asked %d times in Fetch, want %d", n, tt.fetch)
			}
		})
	}
}

func TestCredentialsThatStayRefused(t *testing.T) {
	for _, refuse := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		i := &issuer{refuse: refuse}
		r := open(t, complete(t, gitrepo.Config{URL: i.serve(t, http.NotFoundHandler()), Credentials: i.credentials}))
		_, err := r.List(t.Context())
		wantError(t, err, release.ErrUnavailable, "refuses the credentials", "identity may read the repository", "clock")
		if n := i.asked(); n != 2 {
			t.Errorf("asked %d times, want twice", n)
		}
		if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

func TestCredentialsThatCannotBeHad(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	stopped := errors.New("the service stops")
	for _, tt := range []struct {
		name            string
		err, want, cant error
	}{
		{"not said", errors.New("no role found"), release.ErrUnavailable, release.ErrInvalid},
		{"passing", fmt.Errorf("%w: throttled", release.ErrUnavailable), release.ErrUnavailable, release.ErrInvalid},
		{"wrong for good", fmt.Errorf("%w: no host of that service", release.ErrInvalid), release.ErrInvalid, release.ErrUnavailable},
		{"cancelled", context.Canceled, stopped, release.ErrUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reached := false
			server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
			defer server.Close()
			r := open(t, complete(t, gitrepo.Config{URL: server.URL + "/x.git",
				Credentials: func(context.Context, string) (string, string, error) {
					if errors.Is(tt.err, context.Canceled) {
						cancel(stopped)
					}
					return "", "", tt.err
				}}))
			_, err := r.List(ctx)
			wantError(t, err, tt.want, `repository "infra"`)
			if errors.Is(err, tt.cant) {
				t.Errorf("error %v wraps %q", err, tt.cant)
			}
			if tt.want != stopped {
				wantError(t, err, tt.err, "no credentials for the server", tt.err.Error())
			}
			if reached {
				t.Error("the server was asked without credentials")
			}
		})
	}
}

func TestCredentialsAreOneOfTwoKinds(t *testing.T) {
	cfg := complete(t, gitrepo.Config{URL: "https://example.org/x.git", Password: "hunter2", Credentials: (&issuer{}).credentials})
	_, err := gitrepo.Open(cfg)
	wantError(t, err, release.ErrInvalid, "set one of the two")
}

// codeCommit opens a repository of CodeCommit with the keys of a principal.
func codeCommit(t *testing.T, url, region, id, secret, token string) *gitrepo.Repository {
	t.Helper()
	broker := credentials.New(aws.Config{Region: region,
		Credentials: awscredentials.NewStaticCredentialsProvider(id, secret, token)}, credentials.Settings{})
	return open(t, complete(t, gitrepo.Config{URL: url, Credentials: func(ctx context.Context, url string) (string, string, error) {
		return broker.GitCredentials(ctx, url, region)
	}}))
}

func TestCodeCommit(t *testing.T) {
	a := testkit.StartAWS(t)
	remote := testkit.NewRemote(t)
	tip := remote.Commit(map[string]string{"a": "1"})
	url := a.CodeCommit(remote, "us-east-1", "infra")
	id, secret := a.Service()
	r := codeCommit(t, url, "us-east-1", id, secret, "")
	if err := r.Fetch(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	wantReachable(t, r, tip, true)
	for _, q := range a.Requests() {
		if q.Action != "GitPull" || q.Resource != "arn:aws:codecommit:us-east-1:111122223333:infra" || !q.Allowed {
			t.Errorf("request %+v", q)
		}
	}

	stranger, strangerSecret := a.Principal("arn:aws:iam::111122223333:user/other", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"codecommit:GitPull","Resource":"arn:aws:codecommit:us-east-1:111122223333:docs"}]}`)
	for _, tt := range []struct{ name, region, id, secret, token string }{
		{"other Region", "eu-west-1", id, secret, ""},
		{"wrong secret", "us-east-1", id, "x", ""},
		{"unknown key", "us-east-1", "AKIAX", secret, ""},
		{"token that is none", "us-east-1", id, secret, "x"},
		{"no permission", "us-east-1", stranger, strangerSecret, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := codeCommit(t, url, tt.region, tt.id, tt.secret, tt.token).List(t.Context())
			wantError(t, err, release.ErrUnavailable, "refuses the credentials")
		})
	}
	a.Clock(16 * time.Minute)
	_, err := r.List(t.Context())
	wantError(t, err, release.ErrUnavailable, "refuses the credentials", "clock")
	a.Clock(0)
	list(t, r)
	_, err = open(t, complete(t, gitrepo.Config{URL: url})).List(t.Context())
	wantError(t, err, release.ErrUnavailable, "wants credentials")
}

func TestCodeCommitWithASession(t *testing.T) {
	a := testkit.StartAWS(t)
	remote := testkit.NewRemote(t)
	remote.Commit(map[string]string{"a": "1"})
	url := a.CodeCommit(remote, "us-east-1", "infra")
	id, secret := a.Service()
	a.Role("arn:aws:iam::111122223333:role/Git", testkit.RoleOptions{Trusts: []string{"arn:aws:iam::111122223333:user/waymark"}})
	client := sts.New(sts.Options{Region: "us-east-1", BaseEndpoint: aws.String(a.Endpoints()["sts"]),
		Credentials: awscredentials.NewStaticCredentialsProvider(id, secret, "")})
	out, err := client.AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::111122223333:role/Git"), RoleSessionName: aws.String("git")})
	if err != nil {
		t.Fatal(err)
	}
	r := codeCommit(t, url, "us-east-1", *out.Credentials.AccessKeyId, *out.Credentials.SecretAccessKey, *out.Credentials.SessionToken)
	list(t, r)
	a.ExpireSessions()
	_, err = r.List(t.Context())
	wantError(t, err, release.ErrUnavailable, "refuses the credentials")
}
