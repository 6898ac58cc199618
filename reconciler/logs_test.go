package reconciler

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/waymark-cd/waymark/blobs"
	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

var eventAt = time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)

// events writes lines as a runner does: those from one number to another, with
// their numbers or, as older runners did, without.
func events(from, to int64, says bool) []byte {
	var out bytes.Buffer
	for n := from; n <= to; n++ {
		e := release.Event{Format: 1, At: eventAt, Type: release.EventLog, Stage: release.StagePlan, Message: fmt.Sprintf("line %d", n)}
		if says {
			e.N = n
		}
		line, err := json.Marshal(e)
		if err != nil {
			panic(err) // of a struct of ours
		}
		out.Write(append(line, '\n'))
	}
	return out.Bytes()
}

// put makes a file and its folders.
func put(t *testing.T, path string, data []byte) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// read gives the lines of a run's log that are asked for.
func read(t *testing.T, r *Reconciler, q release.LogRange) (out []release.LogLine) {
	t.Helper()
	l, err := r.newLogReader(t.Context(), 7, q, func(l release.LogLine) error { out = append(out, l); return nil })
	if err == nil {
		err = l.copy(t.Context(), true)
	}
	if err != nil && !errors.Is(err, errLogRead) {
		t.Fatal(err)
	}
	return out
}

func reader(t *testing.T, kept Blobs) *Reconciler {
	return &Reconciler{Config: Config{Config: &config.Config{Server: config.Server{DataDir: t.TempDir()}}, Blobs: kept},
		unpacking: make(chan struct{}, 1)}
}

// numbered are lines as "number text".
func numbered(lines []release.LogLine) string {
	var out []string
	for _, l := range lines {
		out = append(out, fmt.Sprintf("%d %s", l.N, strings.TrimPrefix(l.Text, "line ")))
	}
	return strings.Join(out, ", ")
}

// TestLogSkipsATornLine, which keeps its number, and waits for the end of one that
// is being written. A line that is too long to be ours is none.
func TestLogSkipsATornLine(t *testing.T) {
	r := reader(t, nil)
	file := append(events(1, 2, true), "{\"torn\": \n"...)
	file = append(file, strings.Repeat("x", 2*maxEventLine)+"\n"...)
	file = append(append(file, events(5, 5, true)...), "{\"n\":6,\"mess"...)
	path := r.path("7/1/plan/events.jsonl")
	put(t, path, file)
	if got := read(t, r, release.LogRange{From: 2}); !slices.Equal(got, []release.LogLine{
		{N: 2, At: eventAt, Stage: release.StagePlan, Text: "line 2"}, {N: 5, At: eventAt, Stage: release.StagePlan, Text: "line 5"}}) {
		t.Errorf("got %+v", got)
	}
	var got []release.LogLine
	l, err := r.newLogReader(t.Context(), 7, release.LogRange{}, func(l release.LogLine) error { got = append(got, l); return nil })
	if err == nil {
		err = l.copy(t.Context(), true)
	}
	if err != nil || numbered(got) != "1 1, 2 2, 5 5" {
		t.Fatalf("got %s, %v", numbered(got), err)
	}
	put(t, path, append(file, "age\":\"line 6\"}\n"...))
	if err := l.copy(t.Context(), true); err != nil || numbered(got) != "1 1, 2 2, 5 5, 6 6" {
		t.Errorf("then got %s, %v", numbered(got), err)
	}
}

// TestCodeWritesNoLog: a file of the repository is none of the runner's.
func TestCodeWritesNoLog(t *testing.T) {
	r := reader(t, nil)
	for _, folder := range []string{"tree", "tools", "session", "planx"} {
		put(t, r.path("7/1/"+folder+"/events.jsonl"), events(1, 1, true))
	}
	put(t, r.path("7/x/plan/events.jsonl"), events(1, 1, true))
	if got := read(t, r, release.LogRange{}); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

// counted is a file that tells how much of it was read.
type counted struct {
	io.ReaderAt
	n int64
}

func (c *counted) ReadAt(p []byte, at int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, at)
	c.n += int64(n)
	return n, err
}

// TestALineIsFoundWithoutThoseBefore, wherever it is, also between torn ones.
func TestALineIsFoundWithoutThoseBefore(t *testing.T) {
	var file bytes.Buffer
	random := rand.New(rand.NewPCG(1, 2))
	offsets := []int64{0} // of line n at n-1
	for n := int64(1); n <= 60_000; n++ {
		switch random.IntN(50) {
		case 0:
			fmt.Fprintf(&file, "{\"n\":%d,\"torn\n", n)
		case 1:
			file.WriteString("\n")
		default:
			fmt.Fprintf(&file, "{\"format\":1,\"n\":%d,\"message\":%q}\n", n, strings.Repeat("m", random.IntN(600)))
		}
		offsets = append(offsets, int64(file.Len()))
	}
	size := int64(file.Len())
	most := int64(0)
	for range 300 {
		in := &counted{ReaderAt: bytes.NewReader(file.Bytes())}
		wanted := 1 + random.Int64N(60_010)
		at := random.Int64N(wanted)
		if at > 60_000 {
			at = 60_000
		}
		offset, before, err := eventFile{in, size}.seek(offsets[at], at, wanted)
		if end := min(wanted-1, 60_000); err != nil || before != end || offset != offsets[end] {
			t.Fatalf("line %d from %d: at %d after %d lines, %v; want %d after %d", wanted, at, offset, before, err, offsets[end], end)
		}
		most = max(most, in.n)
	}
	in := &counted{ReaderAt: bytes.NewReader(file.Bytes())}
	if n, err := (eventFile{in, size}).lines(); err != nil || n != 60_000 {
		t.Errorf("%d lines, %v", n, err)
	}
	t.Logf("of %d MiB %d KiB at most are read to find a line, %d KiB to count them", size>>20, most>>10, in.n>>10)
	if most > 2<<20 || in.n > 1<<20 {
		t.Errorf("too much is read")
	}
}

// keptIn makes a folder or a bucket what a reconciler keeps logs in.
type keptIn struct {
	*blobs.Blobs
	gets int
}

func (k *keptIn) List(ctx context.Context, prefix string) ([]string, error) {
	found, err := k.Blobs.List(ctx, prefix)
	var keys []string
	for _, f := range found {
		keys = append(keys, f.Key)
	}
	return keys, err
}

func (k *keptIn) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	k.gets++
	return k.Blobs.Get(ctx, key)
}

func newKept(t *testing.T, cfg blobs.Config) *keptIn {
	t.Helper()
	b, err := blobs.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &keptIn{Blobs: b}
}

func keptInBucket(t *testing.T) *keptIn {
	t.Helper()
	a := testkit.StartAWS(t)
	a.CreateBucket("kept", "eu-central-1", "")
	id, secret := a.Service()
	return newKept(t, blobs.Config{S3: blobs.S3Config{Endpoint: a.Endpoints()["s3"], Bucket: "kept",
		AWS: aws.Config{Region: "eu-central-1", Credentials: credentials.NewStaticCredentialsProvider(id, secret, "")}}})
}

// TestALogOfManyPartsIsReadByItsLines: whatever lies on this disk, on another's, or
// was put by an older version, and wherever one begins and ends.
func TestALogOfManyPartsIsReadByItsLines(t *testing.T) {
	for name, kept := range map[string]func(t *testing.T) *keptIn{
		"folder": func(t *testing.T) *keptIn { return newKept(t, blobs.Config{Folder: t.TempDir()}) },
		"bucket": keptInBucket,
	} {
		t.Run(name, func(t *testing.T) {
			k := kept(t)
			r := reader(t, k)
			keep := func(key string, data []byte) {
				if err := k.Put(t.Context(), "runs/7/"+key, bytes.NewReader(data)); err != nil {
					t.Fatal(err)
				}
			}
			// An older version's: 5 lines in two pieces.
			keep("1/plan/000000.jsonl", events(1, 3, false))
			keep("1/plan/000001.jsonl", events(4, 5, false))
			// One whose worker was started anew and put it again, with other bounds: 10.
			keep("2/plan/000000.jsonl", events(1, 9, false))
			keep("2/plan/"+pieceName(1, 4), events(1, 4, true))
			keep("2/plan/"+pieceName(1, 8), events(1, 8, true))
			keep("2/plan/"+pieceName(5, 6), events(5, 6, true))
			keep("2/plan/"+pieceName(9, 10), events(9, 10, true))
			keep("2/tfplan.age", []byte("no log"))
			// This worker's, of which there are pieces too: 4.
			keep("2/apply-1/"+pieceName(1, 1), events(1, 1, true))
			put(t, r.path("7/2/apply-1/events.jsonl"), events(1, 4, true))
			// Another's, after it: 3.
			keep("10/plan/"+pieceName(1, 3), events(1, 3, true))
			var all []string
			n := 0
			for _, lines := range []int{5, 10, 4, 3} {
				for i := range lines {
					n++
					all = append(all, fmt.Sprintf("%d %d", n, i+1))
				}
			}
			if got := numbered(read(t, r, release.LogRange{})); got != strings.Join(all, ", ") {
				t.Fatalf("all of it: %s", got)
			}
			for from := 1; from <= n+2; from++ {
				for to := from; to <= n+2; to++ {
					got := numbered(read(t, r, release.LogRange{From: int64(from), To: int64(to)}))
					if want := strings.Join(all[min(from-1, n):min(to, n)], ", "); got != want {
						t.Fatalf("%d to %d: %s, want %s", from, to, got, want)
					}
				}
				if got, want := numbered(read(t, r, release.LogRange{Tail: int64(from)})), strings.Join(all[max(0, n-from):], ", "); got != want {
					t.Errorf("the last %d: %s, want %s", from, got, want)
				}
			}
		})
	}
}

// TestALogInABucketIsReadWhereItIsAskedFor: of many pieces one is fetched.
func TestALogInABucketIsReadWhereItIsAskedFor(t *testing.T) {
	k := keptInBucket(t)
	r := reader(t, k)
	s := &shipper{r: r, rec: store.Record{Run: release.Run{ID: 7, Attempt: 1}}, file: filepath.Join(t.TempDir(), "events.jsonl"), folder: "plan"}
	const lines = 100_000
	put(t, s.file, events(1, lines, true))
	s.log(t)
	pieces, err := k.List(t.Context(), "runs/7")
	if err != nil || len(pieces) < 8 {
		t.Fatalf("%d pieces, %v", len(pieces), err)
	}
	for _, q := range []release.LogRange{{Tail: 10}, {From: lines / 2, To: lines/2 + 9}, {From: lines + 1}} {
		k.gets = 0
		got := read(t, r, q)
		if q.From > lines {
			if len(got) != 0 || k.gets != 0 {
				t.Errorf("behind the end: %s in %d pieces", numbered(got), k.gets)
			}
			continue
		}
		if len(got) != 10 || k.gets > 2 || !strings.HasSuffix(got[9].Text, fmt.Sprint(got[9].N)) {
			t.Errorf("%+v: %s in %d of %d pieces", q, numbered(got), k.gets, len(pieces))
		}
	}
}

// log ships what is there.
func (s *shipper) log(t *testing.T) {
	t.Helper()
	s.r.log = slog.New(slog.DiscardHandler)
	s.ship(t.Context())
	if info, err := os.Stat(s.file); err != nil || s.offset != info.Size() {
		t.Fatalf("%d bytes are put: %v", s.offset, err)
	}
}

// TestFollowersOfARunElsewhere hand its lines on in order while they come.
func TestFollowersOfARunElsewhere(t *testing.T) {
	k := newKept(t, blobs.Config{Folder: t.TempDir()})
	r := reader(t, k)
	s := &shipper{r: r, rec: store.Record{Run: release.Run{ID: 7, Attempt: 1}}, file: filepath.Join(t.TempDir(), "events.jsonl"), folder: "plan"}
	var got []release.LogLine
	l, err := r.newLogReader(t.Context(), 7, release.LogRange{Follow: true}, func(l release.LogLine) error { got = append(got, l); return nil })
	if err != nil {
		t.Fatal(err)
	}
	for n := int64(10); n <= 50; n += 10 {
		put(t, s.file, events(1, n, true))
		s.log(t)
		if n == 30 { // a new start puts it again
			s.offset, s.line = 0, 0
			s.log(t)
		}
		if err := l.copy(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	put(t, r.path("7/1/apply-1/events.jsonl"), events(1, 2, true)) // and here it is applied
	if err := l.copy(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if len(got) != 52 || !slices.IsSortedFunc(got, func(a, b release.LogLine) int { return int(a.N - b.N) }) || got[51].N != 52 {
		t.Errorf("got %s", numbered(got))
	}
}

// BenchmarkALogOfAGigabyte reads a thousand lines at the end and in the middle of
// one.
func BenchmarkALogOfAGigabyte(b *testing.B) {
	r := &Reconciler{Config: Config{Config: &config.Config{Server: config.Server{DataDir: b.TempDir()}}}, unpacking: make(chan struct{}, 1)}
	path := r.path("7/1/plan/events.jsonl")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		b.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	out := bufio.NewWriterSize(f, 1<<20)
	lines := int64(0)
	for written := 0; written < 1<<30; {
		lines++
		n, _ := fmt.Fprintf(out, `{"format":1,"n":%d,"at":"2026-01-02T03:04:05Z","type":"log","stage":"plan","message":"%0150d"}`+"\n", lines, lines) // out remembers what went wrong
		written += n
	}
	if err := errors.Join(out.Flush(), f.Close()); err != nil {
		b.Fatal(err)
	}
	for name, q := range map[string]release.LogRange{"end": {Tail: 1000}, "middle": {From: lines / 2, To: lines/2 + 999}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				l, err := r.newLogReader(b.Context(), 7, q, func(release.LogLine) error { n++; return nil })
				if err == nil {
					err = l.copy(b.Context(), true)
				}
				if err != nil && !errors.Is(err, errLogRead) || n != 1000 {
					b.Fatalf("%d lines, %v", n, err)
				}
			}
		})
	}
}
