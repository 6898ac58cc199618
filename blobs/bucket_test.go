package blobs_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/blobs"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

const kmsKey = "arn:aws:kms:eu-central-1:111122223333:key/11112222-3333-4444-5555-666677778888"

// headers remembers what requests that write objects ask for.
type headers struct {
	mu   sync.Mutex
	seen []string
}

func (h *headers) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && !r.URL.Query().Has("uploadId") || r.URL.Query().Has("uploads") {
			h.mu.Lock()
			h.seen = append(h.seen, r.Header.Get("X-Amz-Server-Side-Encryption")+" "+r.Header.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"))
			h.mu.Unlock()
		}
		next.ServeHTTP(w, r)
	})
}

func TestObjectsAreEncrypted(t *testing.T) {
	for name, c := range map[string]struct{ key, want string }{"by S3": {"", "AES256 "}, "by a key": {kmsKey, "aws:kms " + kmsKey}} {
		t.Run(name, func(t *testing.T) {
			var h headers
			k := newBucket(t, func(cfg *blobs.S3Config, a *testkit.AWS) {
				a.KMSKey(kmsKey)
				cfg.KMSKeyID, cfg.Endpoint = c.key, proxy(t, a, h.wrap)
			})
			k.put(t, "small", "x")
			large := strings.Repeat("0123456789abcdef", (2*part+16)/16)
			k.put(t, "large", large)
			if want := []string{c.want, c.want}; !slices.Equal(h.seen, want) {
				t.Errorf("asked for %q, want %q", h.seen, want)
			}
			if got := k.text(t, "large"); got != large {
				t.Errorf("the large one has %d bytes, want %d", len(got), len(large))
			}
			if got, want := k.aws.Objects("kept"), []string{"way/mark/large", "way/mark/small"}; !slices.Equal(got, want) {
				t.Errorf("objects %q, want %q", got, want)
			}
		})
	}
}

// TestObjectsAreLocked: every write, in one request or in parts, says until when.
func TestObjectsAreLocked(t *testing.T) {
	for name, c := range map[string]struct {
		lock blobs.ObjectLock
		mode string
	}{"none": {}, "governance": {blobs.ObjectLock{For: 365 * 24 * time.Hour}, "GOVERNANCE"},
		"compliance": {blobs.ObjectLock{For: 365 * 24 * time.Hour, Compliance: true}, "COMPLIANCE"}} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var modes, dates []string
			k := newBucket(t, func(cfg *blobs.S3Config, a *testkit.AWS) {
				cfg.Lock = c.lock
				cfg.Endpoint = proxy(t, a, func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if r.Method == http.MethodPut && !r.URL.Query().Has("uploadId") || r.URL.Query().Has("uploads") {
							mu.Lock()
							modes, dates = append(modes, r.Header.Get("X-Amz-Object-Lock-Mode")), append(dates, r.Header.Get("X-Amz-Object-Lock-Retain-Until-Date"))
							mu.Unlock()
						}
						next.ServeHTTP(w, r)
					})
				})
			})
			k.put(t, "small", "x")
			k.put(t, "large", strings.Repeat("0123456789abcdef", (part+16)/16))
			if !slices.Equal(modes, []string{c.mode, c.mode}) {
				t.Errorf("modes %q", modes)
			}
			for _, date := range dates {
				until, err := time.Parse(time.RFC3339, date)
				if c.lock.For == 0 && date == "" {
					continue
				}
				if left := time.Until(until); err != nil || left > c.lock.For || left < c.lock.For-time.Minute {
					t.Errorf("until %q, %v", date, err)
				}
			}
		})
	}
}

// TestPartsEndWhereTheyShould holds sizes around those of parts.
func TestPartsEndWhereTheyShould(t *testing.T) {
	k := newBucket(t, nil)
	for _, size := range []int{0, 1, part - 1, part, part + 1, 2 * part, 2*part + 1} {
		data := bytes.Repeat([]byte("abcdefg"), size/7+1)[:size]
		k.put(t, "x", string(data))
		if got := k.text(t, "x"); got != string(data) {
			t.Errorf("of %d bytes there are %d", size, len(got))
		}
	}
}

func TestListingHasPages(t *testing.T) {
	k := newBucket(t, nil)
	const n = 2100
	for i := range n {
		k.aws.PutObject("kept", fmt.Sprintf("way/mark/runs/1/%04d", i), []byte("x"))
	}
	k.aws.PutObject("kept", "way/marker/runs/1/x", []byte("somebody else's"))
	k.aws.PutObject("kept", "way/mark/by hand", []byte("no key of ours"))
	list, err := k.List(t.Context(), "runs")
	if err != nil || len(list) != n || list[0].Key != "runs/1/0000" || list[n-1].Key != "runs/1/2099" {
		t.Errorf("%d blobs, %v", len(list), err)
	}
	pages := 0
	for _, r := range k.aws.Requests() {
		if r.Operation == "ListObjectsV2" {
			pages++
		}
	}
	if pages != 3 {
		t.Errorf("%d pages", pages)
	}
	if err := k.DeletePrefix(t.Context(), "runs/1"); err != nil {
		t.Fatal(err)
	}
	if got, want := k.aws.Objects("kept"), []string{"way/mark/by hand", "way/marker/runs/1/x"}; !slices.Equal(got, want) {
		t.Errorf("left: %q, want %q", got, want)
	}
}

// everything asks for each thing once and returns the errors by name.
func (k *kit) everything(t *testing.T) map[string]error {
	t.Helper()
	out := map[string]error{"check": k.Check(t.Context()), "put": k.Put(t.Context(), "x", strings.NewReader("new")),
		"put large": k.Put(t.Context(), "x", io.LimitReader(zeros{}, part+1)),
		"delete":    k.Delete(t.Context(), "x")}
	_, out["list"] = k.List(t.Context(), "")
	r, err := k.Get(t.Context(), "x")
	if out["get"] = err; err == nil {
		r.Close()
	}
	return out
}

func TestS3IsNotThere(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*blobs.S3Config, *testkit.AWS)
		is     error
		text   string
	}{
		"missing bucket": {func(cfg *blobs.S3Config, _ *testkit.AWS) { cfg.Bucket = "other" }, release.ErrNotFound, `there is no bucket "other" in eu-central-1`},
		"wrong Region": {func(cfg *blobs.S3Config, _ *testkit.AWS) { cfg.AWS.Region = "us-east-1" }, release.ErrInvalid,
			`bucket "kept" is in eu-central-1, not in us-east-1: correct its Region`},
		"throttled":   {func(_ *blobs.S3Config, a *testkit.AWS) { a.Fail("s3", "*", "SlowDown", 503, 1000) }, release.ErrUnavailable, "asked too often"},
		"failing":     {func(_ *blobs.S3Config, a *testkit.AWS) { a.Fail("s3", "*", "InternalError", 500, 1000) }, release.ErrUnavailable, "has a failure"},
		"expired":     {func(_ *blobs.S3Config, a *testkit.AWS) { a.Fail("s3", "*", "ExpiredToken", 400, 1000) }, release.ErrUnavailable, "session has expired"},
		"unreachable": {func(cfg *blobs.S3Config, _ *testkit.AWS) { cfg.Endpoint = "http://127.0.0.1:1" }, release.ErrUnavailable, "cannot be reached"},
		"denied": {func(cfg *blobs.S3Config, a *testkit.AWS) {
			id, secret := a.Principal("arn:aws:iam::111122223333:user/other", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sqs:*","Resource":"*"}]}`)
			cfg.AWS.Credentials = awsConfig(id, secret).Credentials
		}, release.ErrRefused, "allow it to the service's role"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newBucket(t, c.change)
			for what, err := range k.everything(t) {
				wantError(t, what, err, c.is, c.text)
			}
		})
	}
}

func TestS3ComesBack(t *testing.T) {
	k := newBucket(t, nil)
	k.aws.Fail("s3", "PutObject", "SlowDown", 503, 2)
	k.aws.Fail("s3", "GetObject", "InternalError", 500, 2)
	k.put(t, "x", "text")
	if got := k.text(t, "x"); got != "text" {
		t.Errorf("got %q", got)
	}
	tries := 0
	for _, r := range k.aws.Requests() {
		if r.Operation == "PutObject" {
			tries++
		}
	}
	if tries != 3 {
		t.Errorf("%d tries, want 3", tries)
	}
}

func TestAKeyThatMayNotBeUsed(t *testing.T) {
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`
	k := newBucket(t, func(cfg *blobs.S3Config, a *testkit.AWS) {
		a.KMSKey(kmsKey)
		id, secret := a.Principal("arn:aws:iam::111122223333:user/other", policy)
		cfg.AWS.Credentials, cfg.KMSKeyID = awsConfig(id, secret).Credentials, kmsKey
	})
	wantError(t, "put", k.Put(t.Context(), "x", strings.NewReader("x")), release.ErrRefused, "kms:GenerateDataKey and kms:Decrypt on "+kmsKey)
	k = newBucket(t, func(cfg *blobs.S3Config, _ *testkit.AWS) { cfg.KMSKeyID = kmsKey })
	wantError(t, "put", k.Put(t.Context(), "x", strings.NewReader("x")), release.ErrInvalid, "cannot be used")
}

// TestAPartThatFailsIsGivenUp fails S3 once the first part is stored.
func TestAPartThatFailsIsGivenUp(t *testing.T) {
	k := newBucket(t, nil)
	k.put(t, "x", "old")
	failed := false
	data := io.MultiReader(bytes.NewReader(make([]byte, part+1)), readerFunc(func([]byte) (int, error) {
		if !failed {
			failed = true
			k.aws.Fail("s3", "MultipartUpload", "InternalError", 500, 3)
		}
		return 0, io.EOF
	}))
	wantError(t, "put", k.Put(t.Context(), "x", data), release.ErrUnavailable)
	if got := k.text(t, "x"); got != "old" {
		t.Errorf("%d bytes", len(got))
	}
	k.wantNoTraces(t, 1)
}

// TestAReadThatIsCutOff ends the connection in the middle of an object.
func TestAReadThatIsCutOff(t *testing.T) {
	k := newBucket(t, func(cfg *blobs.S3Config, a *testkit.AWS) {
		cfg.Endpoint = proxy(t, a, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					w = &cut{ResponseWriter: w}
				}
				next.ServeHTTP(w, r)
			})
		})
	})
	k.put(t, "x", strings.Repeat("x", 100_000))
	r, err := k.Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	wantError(t, "read", err, release.ErrUnavailable, "was cut off: read it again")
	if len(got) >= 100_000 {
		t.Errorf("%d bytes came", len(got))
	}
}

// cut sends half of an answer.
type cut struct{ http.ResponseWriter }

func (c *cut) Write(p []byte) (int, error) {
	_, _ = c.ResponseWriter.Write(p[:len(p)/2])
	panic(http.ErrAbortHandler)
}
