package blobs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/waymark-cd/waymark/blobs"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

// part is what a put of several parts begins with.
const part = 8 << 20

// kit is a store and what lies beneath it.
type kit struct {
	*blobs.Blobs
	cfg    blobs.Config
	aws    *testkit.AWS // nil for a folder
	folder string       // empty for S3
}

// onBoth runs one test of the suite against a folder and a bucket.
func onBoth(t *testing.T, test func(t *testing.T, k *kit)) {
	t.Helper()
	t.Run("folder", func(t *testing.T) { test(t, newFolder(t, t.TempDir())) })
	t.Run("s3", func(t *testing.T) { test(t, newBucket(t, nil)) })
}

func newFolder(t *testing.T, dir string) *kit {
	t.Helper()
	k := &kit{cfg: blobs.Config{Folder: dir}, folder: dir}
	k.open(t)
	return k
}

// newBucket makes a bucket and opens it as the service's identity.
func newBucket(t *testing.T, change func(*blobs.S3Config, *testkit.AWS)) *kit {
	t.Helper()
	a := testkit.StartAWS(t)
	a.CreateBucket("kept", "eu-central-1", "")
	id, secret := a.Service()
	k := &kit{aws: a, cfg: blobs.Config{S3: blobs.S3Config{AWS: awsConfig(id, secret), Endpoint: a.Endpoints()["s3"], Bucket: "kept", Prefix: "way/mark"}}}
	if change != nil {
		change(&k.cfg.S3, a)
	}
	k.open(t)
	return k
}

func awsConfig(id, secret string) aws.Config {
	return aws.Config{Region: "eu-central-1", Credentials: credentials.NewStaticCredentialsProvider(id, secret, ""),
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = 3, time.Millisecond })
		}}
}

func (k *kit) open(t *testing.T) {
	t.Helper()
	var err error
	if k.Blobs, err = blobs.Open(t.Context(), k.cfg); err != nil {
		t.Fatal(err)
	}
}

func (k *kit) put(t *testing.T, key, text string) {
	t.Helper()
	if err := k.Put(t.Context(), key, strings.NewReader(text)); err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
}

// text returns a blob's content, or "none".
func (k *kit) text(t *testing.T, key string) string {
	t.Helper()
	r, err := k.Get(t.Context(), key)
	if errors.Is(err, release.ErrNotFound) {
		return "none"
	}
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	return string(got)
}

func (k *kit) keys(t *testing.T, prefix string) string {
	t.Helper()
	list, err := k.List(t.Context(), prefix)
	if err != nil {
		t.Fatalf("list %s: %v", prefix, err)
	}
	var out []string
	for _, i := range list {
		out = append(out, i.Key)
	}
	return strings.Join(out, " ")
}

// unfinished returns what lies in a folder of blobs that are still being written.
func (k *kit) unfinished(t *testing.T) (names []string) {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(k.folder, ".unfinished"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		names = append(names, e.Name())
	}
	return names
}

// wantNoTraces expects that a failed put has left nothing beneath: no file, or
// as many uploads given up as were begun for blobs of several parts.
func (k *kit) wantNoTraces(t *testing.T, large int) {
	t.Helper()
	if k.aws == nil {
		if left := k.unfinished(t); len(left) != 0 {
			t.Errorf("left behind: %q", left)
		}
		return
	}
	aborted := 0
	for _, r := range k.aws.Requests() {
		if r.Operation == "AbortMultipartUpload" && r.Allowed && r.Err == "" {
			aborted++
		}
	}
	if aborted != large {
		t.Errorf("%d uploads were given up, want %d", aborted, large)
	}
}

func wantError(t *testing.T, what string, err, is error, texts ...string) {
	t.Helper()
	if !errors.Is(err, is) {
		t.Errorf("%s: %v, want one that wraps %q", what, err, is)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want %q in it", what, err, text)
		}
	}
}

func TestBlobsAreKeptReplacedAndDeleted(t *testing.T) {
	onBoth(t, func(t *testing.T, k *kit) {
		if err := k.Check(t.Context()); err != nil {
			t.Errorf("check: %v", err)
		}
		before := time.Now().Add(-2 * time.Second)
		k.put(t, "runs/1/1/plan/tfplan.age", "plan")
		k.put(t, "runs/1/1/plan/tfplan.age", "another")
		k.put(t, "empty", "")
		if got := k.text(t, "runs/1/1/plan/tfplan.age"); got != "another" {
			t.Errorf("got %q", got)
		}
		if got := k.text(t, "empty"); got != "" {
			t.Errorf("the empty one is %q", got)
		}
		list, err := k.List(t.Context(), "runs/1")
		if err != nil || len(list) != 1 || list[0].Size != 7 || list[0].ModTime.Before(before) || list[0].ModTime.After(time.Now().Add(2*time.Second)) {
			t.Errorf("list = %+v, %v", list, err)
		}
		k.open(t) // by another process
		if got := k.text(t, "runs/1/1/plan/tfplan.age"); got != "another" {
			t.Errorf("after opening again: %q", got)
		}
		for range 2 {
			if err := k.Delete(t.Context(), "runs/1/1/plan/tfplan.age"); err != nil {
				t.Errorf("delete: %v", err)
			}
		}
		if got := k.keys(t, ""); got != "empty" {
			t.Errorf("left: %q", got)
		}
		if _, err := k.Get(t.Context(), "runs/1/1/plan/tfplan.age"); !errors.Is(err, release.ErrNotFound) {
			t.Errorf("get of a deleted one: %v", err)
		}
	})
}

func TestListingIsByFolder(t *testing.T) {
	onBoth(t, func(t *testing.T, k *kit) {
		for _, key := range []string{"runs/10/log", "runs/1/log", "runs/1/a/2", "runs/1.d/x", "runs/1-x", "other/runs/1/log"} {
			k.put(t, key, key)
		}
		for prefix, want := range map[string]string{
			"":             "other/runs/1/log runs/1-x runs/1.d/x runs/1/a/2 runs/1/log runs/10/log",
			"runs/1":       "runs/1/a/2 runs/1/log",
			"runs/1/":      "runs/1/a/2 runs/1/log",
			"runs/1/log":   "",
			"runs/1/log/x": "",
			"runs/2":       "",
			"run":          "",
		} {
			if got := k.keys(t, prefix); got != want {
				t.Errorf("list %q = %q, want %q", prefix, got, want)
			}
		}
		if err := k.DeletePrefix(t.Context(), "runs/1"); err != nil {
			t.Fatal(err)
		}
		if got, want := k.keys(t, ""), "other/runs/1/log runs/1-x runs/1.d/x runs/10/log"; got != want {
			t.Errorf("after deleting runs/1: %q, want %q", got, want)
		}
		if err := k.DeletePrefix(t.Context(), "runs/1"); err != nil {
			t.Errorf("deleting what is gone: %v", err)
		}
		for _, prefix := range []string{"", "/", "//"} {
			wantError(t, "deleting everything", k.DeletePrefix(t.Context(), prefix), release.ErrInvalid)
		}
	})
}

func TestHostileKeysAreRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, k *kit) {
		for _, key := range []string{"", "/", "/etc/passwd", "a/", "a//b", "..", "../x", "a/../../x", "a/./b", ".", ".unfinished/x", "a/.hidden",
			"a b", "a\x00b", "a\nb", "a\\b", "ü", "\xff", "a%2fb", "a?b", "~", "a:b", "$(id)", strings.Repeat("a", 201), strings.Repeat("a/", 256) + "a"} {
			wantError(t, fmt.Sprintf("put %q", key), k.Put(t.Context(), key, strings.NewReader("x")), release.ErrInvalid, "key")
			_, err := k.Get(t.Context(), key)
			wantError(t, fmt.Sprintf("get %q", key), err, release.ErrInvalid)
			wantError(t, fmt.Sprintf("delete %q", key), k.Delete(t.Context(), key), release.ErrInvalid)
			if strings.TrimSuffix(key, "/") != "" && checkable(key) {
				_, err = k.List(t.Context(), key)
				wantError(t, fmt.Sprintf("list %q", key), err, release.ErrInvalid)
				wantError(t, fmt.Sprintf("delete all in %q", key), k.DeletePrefix(t.Context(), key), release.ErrInvalid)
			}
		}
		longest := strings.Repeat(strings.Repeat("a", 200)+"/", 2) + strings.Repeat("b", 110)
		k.put(t, longest, "x")
		if got := k.keys(t, ""); got != longest {
			t.Errorf("stored: %q", got)
		}
	})
}

// checkable says whether the key is no prefix either: one slash at the end is allowed.
func checkable(key string) bool { return key != "a/" }

func TestAFailedSourceStoresNothing(t *testing.T) {
	broken := errors.New("the log's reader broke")
	onBoth(t, func(t *testing.T, k *kit) {
		k.put(t, "log", "old")
		for name, size := range map[string]int{"at once": 0, "soon": 100, "in the second part": part + 100} {
			data := io.MultiReader(bytes.NewReader(make([]byte, size)), iotest.ErrReader(broken))
			if err := k.Put(t.Context(), "log", data); !errors.Is(err, broken) {
				t.Errorf("%s: %v", name, err)
			}
			if err := k.Put(t.Context(), "new", io.MultiReader(bytes.NewReader(make([]byte, size)), iotest.ErrReader(broken))); !errors.Is(err, broken) {
				t.Errorf("%s: %v", name, err)
			}
			if got := k.keys(t, ""); got != "log" || k.text(t, "log") != "old" {
				t.Errorf("%s: stored %q", name, got)
			}
		}
		stopped := errors.New("the service stops")
		ctx, stop := context.WithCancelCause(t.Context())
		data := io.MultiReader(bytes.NewReader(make([]byte, part+1)), readerFunc(func([]byte) (int, error) { stop(stopped); return 1, nil }))
		if err := k.Put(ctx, "new", data); !errors.Is(err, stopped) {
			t.Errorf("cancelled: %v", err)
		}
		if got := k.keys(t, ""); got != "log" {
			t.Errorf("cancelled: stored %q", got)
		}
		k.wantNoTraces(t, 3)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestReadersSeeWholeBlobs lets writers replace one blob while it is read,
// listed and deleted beside them.
func TestReadersSeeWholeBlobs(t *testing.T) {
	onBoth(t, func(t *testing.T, k *kit) {
		const writers, rounds = 4, 20
		whole := func(i int) string { return strings.Repeat(string(rune('a'+i)), 10_000+i) }
		k.put(t, "d/shared", whole(0))
		var wait sync.WaitGroup
		for i := range writers {
			wait.Go(func() {
				for n := range rounds {
					if err := k.Put(t.Context(), "d/shared", strings.NewReader(whole(i))); err != nil {
						t.Error(err)
					}
					// The folder of this one comes and goes.
					if err := errors.Join(k.Put(t.Context(), "e/f/own", strings.NewReader("x")), k.Delete(t.Context(), "e/f/own")); err != nil {
						t.Errorf("round %d: %v", n, err)
					}
				}
			})
		}
		for range rounds {
			got := k.text(t, "d/shared")
			if i := int(got[0] - 'a'); i < 0 || i >= writers || got != whole(i) {
				t.Errorf("read %d bytes of a mixture", len(got))
			}
			k.keys(t, "")
		}
		wait.Wait()
		if got := k.keys(t, "d"); got != "d/shared" {
			t.Errorf("left: %q", got)
		}
	})
}

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	good := blobs.S3Config{Bucket: "b", AWS: aws.Config{Region: "eu-central-1"}}
	prefixed := func(p string) blobs.S3Config { c := good; c.Prefix = p; return c }
	for name, c := range map[string]struct {
		cfg  blobs.Config
		want string // empty: opens
	}{
		"bucket":          {blobs.Config{S3: prefixed("a/b/")}, ""},
		"neither":         {blobs.Config{}, "neither a folder nor a bucket"},
		"both":            {blobs.Config{Folder: t.TempDir(), S3: good}, "keep one of them"},
		"relative folder": {blobs.Config{Folder: "blobs"}, "no absolute path"},
		"file":            {blobs.Config{Folder: file}, "not a directory"},
		"no Region":       {blobs.Config{S3: blobs.S3Config{Bucket: "b"}}, "no Region is known"},
		"hostile prefix":  {blobs.Config{S3: prefixed("../x")}, "prefix in bucket"},
	} {
		_, err := blobs.Open(t.Context(), c.cfg)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// proxy puts a handler before S3, and returns its address.
func proxy(t *testing.T, a *testkit.AWS, wrap func(next http.Handler) http.Handler) string {
	t.Helper()
	server := httptest.NewServer(wrap(a.Handler("s3")))
	t.Cleanup(server.Close)
	return server.URL
}
